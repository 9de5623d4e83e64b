"use strict";
const D = JSON.parse(document.getElementById("run").textContent);
const RAMP = ["#f6f0da", "#d9e2b7", "#a9d3a3", "#6abda0", "#2d9e9e", "#037c96", "#175988", "#223b6b", "#1d2248"].map(
  (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16)));
const FONT = '12px "Inter", ui-sans-serif, system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif';
const EDGE = 20, BROW = 5;  // room right of a chart and above the heat map for half a label

const byId = (id) => document.getElementById(id);
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const element = (tag, text, parent) => {
  const made = Object.assign(document.createElement(tag), { textContent: text });
  return parent ? parent.appendChild(made) : made;
};

const padded = (text) => text.replace(/e([+-])(\d)$/, "e$10$2");
const rate = (x) => x == null ? "–" : x === 0 ? "0" : padded(x.toExponential(2));
const roundRate = (x) => x === 0 ? "0" : padded((+x.toPrecision(3)).toExponential());
const count = (x) => x.toLocaleString("en", { maximumFractionDigits: 2 }).replaceAll(",", "\u202f");
const plain = (x) => x == null ? "–" : x !== 0 && Math.abs(x) < 1e-3 ? rate(x) : String(+x.toPrecision(4));

// High rates stand out from the paper: dark on light, light on dark.
function ramp(u) {
  const x = Math.min(1, Math.max(0, css("color-scheme") === "dark" ? 1 - u : u)) * (RAMP.length - 1);
  const i = Math.min(RAMP.length - 2, Math.floor(x));
  return RAMP[i].map((from, channel) => Math.round(from + (RAMP[i + 1][channel] - from) * (x - i)));
}
const colourAt = (u) => `rgb(${ramp(u).join(" ")})`;
const colourOf = (row) => colourAt(D.rows.length < 2 ? 0.62 : 0.28 + 0.66 * row / (D.rows.length - 1));
const gradient = (from, to) =>
  `linear-gradient(90deg, ${Array.from({ length: 12 }, (_, i) => colourAt(from + (to - from) * i / 11)).join(", ")})`;
// The same on every chart of a column, so that updates stand one below the other.
const gutter = () => Math.min(innerWidth < 640 ? 84 : 160, Math.max(72, 22 + 6.8 * Math.max(...D.rows.map((row) => row.label.length))));

/* The box that follows the pointer. */

const tip = byId("tip");
function showTip(event, title, lines) {
  tip.replaceChildren();
  element("b", title, tip);
  for (const { colour, name, value, kind } of lines) {
    const line = element("div", "", tip), label = element("span", "", line);
    line.className = kind ?? "";
    if (colour) element("i", "", label).style.background = colour;
    label.append(name);
    element("span", value ?? "", line);
  }
  tip.hidden = false;
  const right = event.clientX + 18 + tip.offsetWidth > document.documentElement.clientWidth;
  tip.style.left = `${Math.max(4, event.pageX + (right ? -18 - tip.offsetWidth : 18))}px`;
  tip.style.top = `${event.pageY - Math.min(tip.offsetHeight / 2, event.clientY)}px`;
}
const hideTip = () => { tip.hidden = true; };
