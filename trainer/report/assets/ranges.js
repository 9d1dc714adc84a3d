// A histogram and a range for each column that asks for one. A click on a bar shows the utterances in it.
"use strict";

const MOST_BARS = 24;
const rangeFields = [];

// Bars of equal width whose edges are round numbers; the last one takes in all that lies above
function barsOf(values) {
  const sorted = values.filter(Number.isFinite).sort((a, b) => a - b);
  const low = sorted[0], high = sorted[Math.ceil(0.99 * (sorted.length - 1))];
  const rough = (high - low) / (MOST_BARS - 1) || 1, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough);
  const first = Math.floor(low / step + 1e-9) * step, number = Math.min(MOST_BARS, Math.floor((high - first) / step + 1e-9) + 1);
  const bars = Array.from({ length: number }, (_, i) => ({ from: first + i * step, values: [] }));
  for (const value of values) bars[Math.min(number - 1, Math.max(0, Math.floor((value - first) / step + 1e-9)))].values.push(value);
  return bars;
}

function addRange(column) {
  const values = data.rows.map(column.get).filter((value) => value !== null);
  if (new Set(values).size < 2) return;
  const bars = barsOf(values), most = Math.max(...bars.map((bar) => bar.values.length));
  const drawn = svgElement(document.createElement("div"), "svg", { viewBox: `0 0 ${10 * bars.length} 44`, preserveAspectRatio: "none", "aria-hidden": "true" });
  bars.forEach((bar, i) => {
    const height = bar.values.length ? 2 + (40 * bar.values.length) / most : 0;
    bar.element = svgElement(drawn, "g", {});
    svgElement(bar.element, "rect", { class: "all", x: 10 * i, y: 0, width: 10, height: 44 });
    svgElement(bar.element, "rect", { class: "count", x: 10 * i + 1, y: 44 - height, width: 8, height });
    const low = Math.min(...bar.values), high = Math.max(...bar.values);
    svgElement(bar.element, "title", {}, bar.values.length ? `${column.show(low)} to ${column.show(high)}: ${bar.values.length} utterances` : `from ${column.show(bar.from)}: none`);
    if (bar.values.length) bar.element.addEventListener("click", () => setIn("ranges", column.key, [low, high === Infinity ? null : high]));
  });
  const ends = ["from", "to"].map((name, i) => {
    const input = make("input", { type: "number", step: "any", "aria-label": `${column.name} ${name}`, placeholder: i ? "to" : "from" });
    input.addEventListener("change", () => {
      const range = [...(state.ranges[column.key] ?? [null, null])];
      range[i] = input.value === "" ? null : Number(input.value);
      setIn("ranges", column.key, range);
    });
    return input;
  });
  rangeFields.push({ column, bars, ends });
  document.getElementById("ranges").append(make("fieldset", {}, make("legend", { textContent: column.name }), drawn,
    make("div", { className: "ends" }, ends[0], " to ", ends[1])));
}

function showRanges() {
  for (const { column, bars, ends } of rangeFields) {
    const range = state.ranges[column.key] ?? [null, null];
    ends.forEach((input, i) => { input.value = range[i] === null ? "" : String(Math.round(range[i] * 100) / 100); });
    const [from, to] = [range[0] ?? -Infinity, range[1] ?? Infinity];
    for (const bar of bars) bar.element.classList.toggle("out", !bar.values.some((value) => value >= from && value <= to));
  }
}
