"use strict";
/* The heat map: one cell for each row and each kept update, its colour logarithmic in the rate. */

const heat = byId("heat");
const positive = D.heat.rates.flat().filter((x) => x > 0);
const high = positive.reduce((a, b) => Math.max(a, b), 0) || 1;
const low = Math.max(positive.reduce((a, b) => Math.min(a, b), high), high / 1e5);
const level = (x) => high > low ? Math.log(x / low) / Math.log(high / low) : 1;

function heatFrame() {
  const rows = D.rows.length, left = gutter(), width = heat.clientWidth - left - EDGE;
  return { rows, left, width, cell: Math.max(5, Math.min(26, Math.floor(520 / rows))), used: width * D.heat.end / D.total };
}

const sheet = (width, height) => Object.assign(document.createElement("canvas"), { width, height });

function hatching(pen) {
  const tile = sheet(6, 6), line = tile.getContext("2d");
  line.strokeStyle = css("--hair");
  for (const x of [-6, 0, 6]) { line.moveTo(x, 6); line.lineTo(x + 6, 0); }
  line.stroke();
  return pen.createPattern(tile, "repeat");
}

function shortened(pen, text, width) {
  if (pen.measureText(text).width <= width) return text;
  while (text.length > 2 && pen.measureText("…" + text).width > width) text = text.slice(1);
  return "…" + text;
}

function drawHeat() {
  const { rows, left, width, cell, used } = heatFrame(), scale = devicePixelRatio || 1, columns = D.heat.k.length;
  heat.style.height = `${BROW + rows * cell + 24}px`;
  heat.width = Math.round(heat.clientWidth * scale);
  heat.height = Math.round((BROW + rows * cell + 24) * scale);
  const pen = heat.getContext("2d");
  pen.setTransform(scale, 0, 0, scale, 0, BROW * scale);
  pen.fillStyle = css("--raised");
  pen.fillRect(left, 0, width, rows * cell);
  pen.fillStyle = hatching(pen);
  pen.fillRect(left, 0, used, rows * cell);
  const image = new ImageData(columns, rows), picture = sheet(columns, rows);
  D.heat.rates.forEach((line, row) => line.forEach((x, column) => {
    if (x > 0) image.data.set([...ramp(level(x)), 255], 4 * ((rows - 1 - row) * columns + column));
  }));
  picture.getContext("2d").putImageData(image, 0, 0);
  pen.imageSmoothingEnabled = false;
  pen.drawImage(picture, left, 0, used, rows * cell);
  Object.assign(pen, { font: FONT, textBaseline: "middle", textAlign: "right" });
  const every = Math.ceil(14 / cell);
  for (let row = 0; row < rows; row++) {
    const y = (rows - 1 - row) * cell;
    pen.fillStyle = css("--paper");
    if (cell > 13 && row) pen.fillRect(left, y + cell - 0.5, width, 1);
    pen.fillStyle = css("--ink");
    if (row % every === 0) pen.fillText(shortened(pen, D.rows[row].label, left - 12), left - 10, y + cell / 2);
  }
  Object.assign(pen, { fillStyle: css("--muted"), textAlign: "center" });
  const rough = D.total / Math.max(2, width / 90), power = 10 ** Math.floor(Math.log10(rough));
  const apart = power * [1, 2, 5, 10].find((m) => m * power >= rough);
  for (let t = 0; t <= D.total; t += apart) {
    const half = pen.measureText(count(t)).width / 2, x = left + width * t / D.total;
    pen.fillText(count(t), Math.min(x, heat.clientWidth - half), rows * cell + 15);
  }
}

function overHeat(event) {
  const { rows, left, cell, used } = heatFrame(), box = heat.getBoundingClientRect();
  const column = Math.floor((event.clientX - box.left - left) / used * D.heat.k.length);
  const row = rows - 1 - Math.floor((event.clientY - box.top - BROW) / cell);
  if (!(column >= 0 && column < D.heat.k.length && row >= 0 && row < rows)) return hideTip();
  const x = D.heat.rates[row][column], { label, names, depth } = D.rows[row];
  const others = names.length > 1 ? `with ${names.length - 1} more group${names.length > 2 ? "s" : ""} at depth ${depth}` : `depth ${depth}`;
  showTip(event, `update ${count(D.heat.k[column])}`, [
    { colour: x > 0 ? colourAt(level(x)) : null, name: label, value: rate(x), kind: "near" },
    { name: x > 0 ? others : `${others}, not trained`, kind: "dim" },
  ]);
}

function drawKey() {
  const key = byId("heat-key");
  key.replaceChildren(element("span", rate(low)));
  element("i", "", key).style.background = gradient(0, 1);
  element("span", rate(high), key);
  if (D.heat.rates.some((line) => line.some((x) => x === 0))) {
    const frozen = element("i", "", key);
    frozen.className = "frozen";
    frozen.style.background = `repeating-linear-gradient(135deg, ${css("--hair")} 0 1px, transparent 1px 4px)`;
    element("span", "rate 0", key);
  }
}
