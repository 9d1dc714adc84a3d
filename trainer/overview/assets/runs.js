// Sorts and filters the table, draws the curves of chosen runs, loads the page anew while it is renewed.
// Names are the user's: they reach the page as text, never as markup. What is chosen stands in the page's address, so that
// it outlives a reload.
"use strict";

const NUM_COLOURS = 4, DASHES = ["", "7 4", "2 3", "9 3 2 3"], MOST_COMPARED = 8;
const WIDTH = 460, HEIGHT = 260, LEFT = 46, RIGHT = 10, TOP = 8, BOTTOM = 30;
const byId = (id) => document.getElementById(id);
const rows = [...document.querySelectorAll("#runs tbody tr")];
const boxes = rows.map((row) => row.querySelector("input"));
const state = { chosen: null, key: null, down: false, axis: 0, find: "" };

// --- what is chosen, and the address

const chosen = () => data.runs.map((run, i) => i).filter((i) => data.runs[i].ticked);

function toAddress() {
  const words = new URLSearchParams();
  if (state.chosen) for (const i of chosen()) words.append("run", data.runs[i].name);
  if (state.chosen && !chosen().length) words.set("run", "");
  if (state.key !== null) words.set("sort", (state.down ? "-" : "") + state.key);
  if (state.axis) words.set("axis", state.axis);
  if (state.find) words.set("find", state.find);
  history.replaceState(null, "", `#${words}`);
}

function fromAddress() {
  const words = new URLSearchParams(location.hash.slice(1));
  if (words.has("run")) {
    state.chosen = true;
    const names = new Set(words.getAll("run"));
    for (const run of data.runs) run.ticked = names.has(run.name);
  }
  const sort = words.get("sort");
  if (sort) [state.down, state.key] = [sort.startsWith("-"), sort.replace(/^-/, "")];
  state.axis = words.get("axis") === "1" ? 1 : 0;
  state.find = words.get("find") ?? "";
}

// --- the table

const headers = [...document.querySelectorAll("#runs thead th")];
const titleOf = (header) => header.textContent.trim();

function sortRows() {
  const column = headers.findIndex((header) => titleOf(header) === state.key);
  headers.forEach((header, i) => header.setAttribute("aria-sort", i !== column ? "none" : state.down ? "descending" : "ascending"));
  if (column < 0) return;
  const key = (row) => row.cells[column].dataset.key;
  const order = (a, b) => {
    const [p, q] = [key(a), key(b)];
    if (p === "" || q === "") return (p === "") - (q === ""); // what is not known stays below
    const [x, y] = [Number(p), Number(q)];
    const way = Number.isNaN(x) || Number.isNaN(y) ? p.localeCompare(q, undefined, { numeric: true }) : x - y;
    return state.down ? -way : way;
  };
  document.querySelector("#runs tbody").append(...[...rows].sort(order));
}

function filterRows() {
  const wanted = state.find.toLowerCase();
  for (const row of rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
  const shown = rows.filter((row) => !row.hidden).length;
  byId("count").textContent = `${shown} of ${rows.length} runs, ${chosen().length} chosen`;
}

// --- the curves

const styleOf = (rank) => ({ stroke: `var(--series-${(rank % NUM_COLOURS) + 1})`,
  "stroke-dasharray": DASHES[Math.floor(rank / NUM_COLOURS) % DASHES.length] });

function swatch(rank) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 26 10");
  svgElement(svg, "line", { x1: 0, x2: 26, y1: 5, y2: 5, "stroke-width": 2.5, ...styleOf(rank) });
  return svg;
}

// Round numbers from low to high: 1, 2 or 5 times a power of ten apart, or powers of ten on a logarithmic axis
function ticks(low, high, isLog) {
  const found = [];
  if (isLog) {
    for (let power = Math.floor(Math.log10(low)); 10 ** power <= high * 1.001; power++) {
      for (const m of Math.log10(high / low) > 2.5 ? [1] : [1, 2, 5]) found.push(m * 10 ** power);
    }
  } else {
    const rough = (high - low) / 4 || 1, base = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].find((m) => m * base >= rough) * base;
    for (let i = Math.ceil(low / step - 1e-9); i * step <= high * (1 + 1e-9); i++) found.push(i * step);
  }
  const within = found.filter((tick) => tick >= low * 0.999 && tick <= high * 1.001);
  return isLog && within.length < 2 ? ticks(low, high, false) : within; // less than a decade may hold none of these
}

const shown = (value) => String(Number(value.toPrecision(4)));

function drawChart(chart, ranks) {
  const lines = ranks.map(([i, rank]) => [i, rank, data.runs[i].curves[chart.key].map((p) => [p[state.axis], p[2]]).filter((p) => p[0] !== null)])
    .filter(([, , points]) => points.length);
  if (!lines.length) return null;
  const xs = lines.flatMap(([, , points]) => points.map((p) => p[0])), ys = lines.flatMap(([, , points]) => points.map((p) => p[1]));
  const isLog = chart.log && Math.min(...ys) > 0;
  const low = isLog ? Math.min(...ys) : 0, high = Math.max(...ys) === low ? low + 1 : Math.max(...ys), last = Math.max(...xs) || 1;
  const x = (value) => LEFT + ((WIDTH - LEFT - RIGHT) * value) / last;
  const share = (value) => (isLog ? Math.log(value / low) / Math.log(high / low) : (value - low) / (high - low));
  const y = (value) => HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share(value);
  const figure = document.createElement("figure"), caption = document.createElement("figcaption"), told = document.createElement("div");
  caption.textContent = chart.title;
  told.className = "told";
  const svg = svgElement(figure, "svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${chart.title}, ${lines.length} runs` });
  for (const tick of ticks(low, high, isLog)) {
    svgElement(svg, "line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y(tick), y2: y(tick) });
    svgElement(svg, "text", { x: LEFT - 5, y: y(tick) + 4, "text-anchor": "end" }, shown(tick));
  }
  for (const tick of ticks(0, last, false)) svgElement(svg, "text", { x: x(tick), y: HEIGHT - BOTTOM + 14, "text-anchor": "middle" }, shown(tick));
  svgElement(svg, "text", { x: WIDTH - RIGHT, y: HEIGHT - 3, "text-anchor": "end" }, ["step", "epoch"][state.axis]);
  for (const [i, rank, points] of lines) {
    const path = points.map((p) => `${x(p[0]).toFixed(1)},${y(p[1]).toFixed(1)}`).join(" ");
    const line = svgElement(svg, "polyline", { class: "line", points: path, ...styleOf(rank) });
    svgElement(line, "title", {}, data.runs[i].name);
    if (points.length < 2) svgElement(svg, "circle", { cx: x(points[0][0]), cy: y(points[0][1]), r: 3, style: `fill: ${styleOf(rank).stroke}` });
  }
  const cross = svgElement(svg, "line", { class: "cross", y1: TOP, y2: HEIGHT - BOTTOM, x1: -9, x2: -9 });
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const at = (((event.clientX - box.left) / box.width) * WIDTH - LEFT) / (WIDTH - LEFT - RIGHT) * last;
    const nearest = lines.map(([i, , points]) => [i, points.reduce((a, b) => (Math.abs(b[0] - at) < Math.abs(a[0] - at) ? b : a))]);
    const first = nearest.reduce((a, b) => (Math.abs(b[1][0] - at) < Math.abs(a[1][0] - at) ? b : a));
    cross.setAttribute("x1", x(first[1][0]));
    cross.setAttribute("x2", x(first[1][0]));
    told.textContent = `${["step", "epoch"][state.axis]} ${shown(first[1][0])}: ` +
      nearest.map(([i, p]) => `${data.runs[i].name} ${shown(p[1])}`).join(", ");
  });
  figure.prepend(caption);
  figure.append(told);
  return figure;
}

function drawCurves() {
  const ranks = chosen().filter((i) => Object.values(data.runs[i].curves).some((points) => points.length)).map((i, rank) => [i, rank]);
  const rankOf = new Map(ranks);
  boxes.forEach((box) => {
    const i = Number(box.dataset.run), place = box.parentElement.querySelector(".swatch");
    box.checked = data.runs[i].ticked;
    place.replaceChildren(...(rankOf.has(i) ? [swatch(rankOf.get(i))] : []));
  });
  byId("legend").replaceChildren(...ranks.map(([i, rank]) => {
    const item = document.createElement("li");
    item.append(swatch(rank), " ", data.runs[i].name);
    item.firstChild.setAttribute("style", "width:1.6rem;height:0.6rem");
    return item;
  }));
  const figures = data.charts.map((chart) => drawChart(chart, ranks)).filter(Boolean);
  const nothing = document.createElement("p");
  nothing.className = "note";
  nothing.textContent = data.runs.length ? "None of the chosen runs has a curve yet. Tick others in the table." : "No run is here yet.";
  byId("charts").replaceChildren(...(figures.length ? figures : [nothing]));
}

function tellCommand() {
  const able = chosen().filter((i) => data.runs[i].compares);
  const few = able.slice(0, MOST_COMPARED);
  if (able.length < 2) {
    byId("command").textContent = "python -m scripts.compare runs/A runs/B";
    byId("advice").textContent = "Tick two finished runs or more, and the command is theirs. It writes a page that this table then links to.";
    return;
  }
  byId("command").textContent = `python -m scripts.compare ${few.map((i) => data.runs[i].path).join(" ")}`;
  byId("advice").textContent = (able.length > few.length ? `The first ${few.length} of the ${able.length} chosen finished runs. ` : "") +
    "It writes a page that this table then links to.";
}

// --- the rest

function render() {
  sortRows();
  drawCurves();
  tellCommand();
  filterRows();
}

headers.forEach((header) => header.querySelector("button").addEventListener("click", () => {
  [state.down, state.key] = [state.key === titleOf(header) && !state.down, titleOf(header)];
  render();
  toAddress();
}));
for (const box of boxes) {
  box.addEventListener("change", () => {
    data.runs[Number(box.dataset.run)].ticked = box.checked;
    state.chosen = true;
    render();
    toAddress();
  });
}
byId("none").addEventListener("click", () => {
  for (const run of data.runs) run.ticked = false;
  state.chosen = true;
  render();
  toAddress();
});
byId("axis").addEventListener("change", (event) => { state.axis = Number(event.target.value); render(); toAddress(); });
byId("find").addEventListener("input", (event) => { state.find = event.target.value; filterRows(); toAddress(); });
for (const hidden of document.querySelectorAll("p.shown[hidden]")) hidden.hidden = false;
fromAddress();
byId("axis").value = String(state.axis);
byId("find").value = state.find;
render();

// A person who types or holds the mouse down is not interrupted: the reload waits.
let isBusy = false;
addEventListener("pointerdown", () => { isBusy = true; });
addEventListener("pointerup", () => { isBusy = false; });
if (data.next) {
  setInterval(() => {
    if (!isBusy && document.activeElement !== byId("find")) location.reload();
  }, 1000 * data.next);
}
