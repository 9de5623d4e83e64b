"use strict";
/* The curves, with uPlot; then the start of the page. */

let charts = [];
const scaleOf = { rates: "log" };

function drawMarks(u) {
  const pen = u.ctx, { left, top, width, height } = u.bbox, dot = devicePixelRatio || 1;
  pen.save();
  for (const mark of D.marks) {
    const x = u.valToPos(mark.t, "x", true);
    if (x < left - 1 || x > left + width + 1) continue;
    pen.beginPath();
    pen.fillStyle = pen.strokeStyle = css({ best: "--accent", edit: "--ink", action: "--ink" }[mark.kind] || "--muted");
    if (mark.kind === "edit" || mark.kind === "resume") {
      pen.lineWidth = dot;
      pen.setLineDash(mark.kind === "edit" ? [5 * dot, 3 * dot] : [dot, 3 * dot]);
      pen.moveTo(x, top);
      pen.lineTo(x, top + height);
      pen.stroke();
    } else {
      const size = (mark.kind === "best" ? 5 : 3.5) * dot, down = mark.kind === "action", y = down ? top : top + height;
      pen.moveTo(x, y + (down ? 1.7 : -1.7) * size);
      pen.lineTo(x + size, y);
      pen.lineTo(x - size, y);
      pen.fill();
    }
  }
  pen.restore();
}

function nearest(values, i) {
  for (let d = 0; d < values.length; d++) {
    if (values[i - d] != null) return i - d;
    if (values[i + d] != null) return i + d;
  }
  return null;
}

function overChart(u, event, lines) {
  const box = u.over.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
  const i = u.posToIdx(x), shown = [];
  lines.forEach((line, s) => {
    const at = line.values[i] != null ? i : nearest(u.data[s + 1], i);
    if (at == null) return;
    const value = line.values[at], away = Math.abs(u.valToPos(value, "y") - y);
    shown.push({ colour: line.colour, name: line.sparse ? `${line.name} at ${count(u.data[0][at])}` : line.name, value: line.format(value), away });
  });
  if (shown.length > 1) shown.reduce((a, b) => a.away < b.away ? a : b).kind = "near";
  // Of many layers the ones around the pointer.
  const kept = shown.length > 14 ? [...shown].sort((a, b) => a.away - b.away).slice(0, 12) : shown;
  const close = D.marks.filter((mark) => Math.abs(u.valToPos(mark.t, "x") - x) < 5).map((mark) => ({ name: mark.text, kind: "dim" }));
  showTip(event, `update ${count(u.data[0][i])}`, [...shown.filter((line) => kept.includes(line)).reverse(), ...close]);
}

function decades(a, b) {
  const steps = b / a > 30 ? [1] : [1, 2, 5], out = [];
  for (let power = Math.floor(Math.log10(a)); power <= Math.log10(b); power++)
    for (const m of steps) { const x = +`${m}e${power}`; if (x >= a && x <= b) out.push(x); }
  return out;
}

/** One chart in `#chart-<name>`: `lines` are {name, colour, values, format, width, dash, sparse} over the times `t`. */
function chart(name, t, lines, { height = 220, ticks = plain } = {}) {
  const place = byId(`chart-${name}`), logarithmic = scaleOf[name] === "log";
  place.replaceChildren();
  if (!t.length || !lines.length) { element("p", "Nothing was measured.", place).className = "lead"; return; }
  const top = Math.max(...lines.map((line) => line.values.reduce((a, b) => Math.max(a, b ?? a), -Infinity)));
  // What lies lower runs along the bottom.
  const floor = logarithmic ? top / 1e5 : -Infinity;
  const data = [t, ...lines.map((line) => logarithmic ? line.values.map((x) => x > 0 ? Math.max(x, floor) : null) : line.values)];
  const axis = { stroke: css("--muted"), font: FONT, ticks: { show: false } };
  const whole = (u, a, b) => a <= t[0] && b >= t.at(-1) ? [0, D.total] : [a, b];
  const u = new uPlot({
    width: place.clientWidth, height, padding: [10, EDGE, 0, 0], legend: { show: false },
    cursor: { sync: { key: "run" }, y: false, points: { size: 7 } },
    scales: {
      x: { time: false, range: whole },
      y: logarithmic ? { distr: 3, range: (_, a, b) => a == null ? [0.1, 1] : [a / 1.25, b * 1.25] } : {},
    },
    axes: [
      { ...axis, size: 28, gap: 6, grid: { show: false }, space: 80, values: (_, marks) => marks.map(count) },
      { ...axis, size: place.closest(".pair") ? 56 : gutter(), gap: 10, grid: { stroke: css("--hair"), width: 1 },
        ...(logarithmic ? { splits: (_u, _axis, a, b) => decades(a, b), filter: (_, marks) => marks } : {}),
        values: (_, marks) => marks.map((x) => x == null ? "" : ticks(x)) },
    ],
    series: [{}, ...lines.map((line) => ({
      stroke: line.colour, width: line.width ?? 1.6, dash: line.dash, spanGaps: Boolean(line.sparse),
      points: { show: Boolean(line.sparse), size: 6, fill: line.colour, width: 0 },
    }))],
    hooks: { draw: [drawMarks] },
  }, data, place);
  u.over.addEventListener("pointermove", (event) => overChart(u, event, lines));
  u.over.addEventListener("pointerleave", hideTip);
  charts.push(u);
}

function legend(name, lines) {
  const place = byId(`legend-${name}`);
  place.replaceChildren();
  for (const line of lines) {
    const item = element("span", "", place);
    element("i", "", item).style.background = line.dash ? `repeating-linear-gradient(90deg, ${line.colour} 0 4px, transparent 4px 6px)` : line.colour;
    item.append(line.name);
  }
}

function joined(t, lines, evals, pick) {
  const tables = [[t, ...lines.map((line) => line.values)]], all = [...lines];
  for (const { split, t: times, metrics } of evals) {
    const chosen = pick(split, metrics);
    tables.push([times, ...chosen.map((line) => line.values)]);
    all.push(...chosen.map((line) => ({ ...line, sparse: true })));
  }
  const measured = tables.filter((table) => table.length > 1 && table[0].length);
  const [times, ...values] = measured.length ? uPlot.join(measured) : [[]];
  return [times, all.map((line, i) => ({ ...line, values: values[i], format: plain }))];
}

function drawCharts() {
  charts.forEach((u) => u.destroy());
  charts = [];
  const [ink, muted, accent, soft] = ["--ink", "--muted", "--accent", "--soft"].map(css);
  const rates = D.rows.map((row, i) => ({ name: row.label, colour: colourOf(i), values: D.rates.values[i], format: rate }));
  chart("rates", D.rates.t, rates, { height: 260, ticks: roundRate });
  const key = element("span", D.rows[0].label);
  element("i", "", key).style.background = gradient(0.28, 0.94);
  key.append(D.rows.at(-1).label);
  byId("legend-rates").replaceChildren(...(D.rows.length > 1 ? [key] : []));

  const [lossTimes, losses] = joined(D.loss.t, [
    { name: "each update", colour: soft, values: D.loss.raw, width: 1 },
    { name: "smoothed", colour: accent, values: D.loss.smooth, width: 2 },
  ], D.evals, (split, metrics) => metrics.loss ? [{ name: split, colour: ink, values: metrics.loss }] : []);
  chart("loss", lossTimes, losses);
  legend("loss", losses);

  const palette = [[accent], [ink, [6, 4]], [muted, [2, 3]], [soft]];
  const [times, metrics] = joined([], [], D.evals, (split, all) => Object.keys(all).filter((name) => name !== "loss").map((name, i) => ({
    name: D.evals.length > 1 ? `${split} ${name}` : name, colour: palette[i % 4][0], dash: palette[i % 4][1], values: all[name], width: 1.8,
  })));
  chart("metrics", times, metrics);
  legend("metrics", metrics);

  const norms = [
    { name: "each update", colour: soft, values: D.norm.raw, width: 1, format: plain },
    { name: "smoothed", colour: accent, values: D.norm.smooth, width: 2, format: plain },
  ];
  chart("norm", D.norm.t, norms, { height: 170 });
  legend("norm", norms);
}

function draw() { drawHeat(); drawKey(); drawCharts(); }

if (heat) {
  draw();
  for (const kind of ["pointermove", "pointerdown"]) heat.addEventListener(kind, overHeat);
  heat.addEventListener("pointerleave", hideTip);
  for (const button of document.querySelectorAll("[data-scale]")) {
    button.addEventListener("click", () => {
      scaleOf.rates = button.dataset.scale;
      document.querySelectorAll("[data-scale]").forEach((b) => b.setAttribute("aria-pressed", String(b === button)));
      drawCharts();
    });
  }
  let width = innerWidth;
  addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; requestAnimationFrame(draw); } });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  // Paper is light, and narrower than a screen.
  addEventListener("beforeprint", () => { document.documentElement.classList.add("light"); draw(); });
  addEventListener("afterprint", () => { document.documentElement.classList.remove("light"); draw(); });
}
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((one) => { one.open = true; }));
