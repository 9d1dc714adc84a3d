// The table of utterances: sorted, filtered, opened. What it shows comes from the page's own JSON, as text.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const ROWS_AT_ONCE = 200;
const MARKS = { s: ["sub", "substitution", "S"], i: ["ins", "insertion", "I"], d: ["del", "deletion", "D"] };
const state = { key: data.sort, down: true, text: "", edit: null, checked: false, shown: ROWS_AT_ONCE, choices: {} };
let visible = [], open = null;

function make(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in element) element[key] = value; else element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

const percent = (part, whole) => (whole ? (100 * part) / whole : part ? Infinity : 0);
const shownPercent = (value) => (Number.isFinite(value) ? value.toFixed(1) : "∞");
const isTwo = data.systems.length === 2;

// How a cell of each kind is shown; a rate arrives as [errors, reference units] and is sorted by its percentage
const SHOWN = {
  text: String,
  number: String,
  seconds: (v) => v.toFixed(1),
  rate: shownPercent,
  change: (v) => (v > 0 ? "+" : v < 0 ? "−" : "") + Math.abs(v),
};

// Those that the corpus does not know are left out, and the split where there is one alone
const COLUMNS = data.columns.map(({ key, name, kind, isChoice }, i) => ({
  key, name, isChoice, number: kind !== "text", show: SHOWN[kind],
  get: (row) => (kind === "rate" ? percent(...row.cells[i]) : row.cells[i]),
})).filter((column) => column.key !== "split" || new Set(data.rows.map((r) => r.split)).size > 1)
  .filter((column) => data.rows.some((row) => column.get(row) !== null));

function compareRows(a, b) {
  const column = COLUMNS.find((c) => c.key === state.key), sign = state.down ? -1 : 1;
  const [p, q] = [column.get(a), column.get(b)];
  const order = typeof p === "number" && typeof q === "number" ? p - q
    : String(p ?? "").localeCompare(String(q ?? ""), undefined, { numeric: true });
  return sign * (Number.isNaN(order) ? 0 : order) || b.errors[b.errors.length - 1] - a.errors[a.errors.length - 1] || a.number - b.number;
}

function matches(row) {
  for (const [key, value] of Object.entries(state.choices)) {
    if (!value) continue;
    const cell = COLUMNS.find((column) => column.key === key).get(row);
    if (key === "change" ? Math.sign(cell) !== Number(value) : cell !== value) return false;
  }
  if (state.checked && !row.errors.some((n) => n > 0)) return false;
  if (state.edit && !row.edits.some((edits) => edits.some((e) => Array.isArray(e) && e.every((part, i) => part === state.edit[i])))) return false;
  return !state.text || row.searchable.includes(state.text);
}

function render() {
  close();
  visible = data.rows.filter(matches).sort(compareRows);
  const body = document.querySelector("#table tbody");
  body.replaceChildren(...visible.slice(0, state.shown).map(renderRow));
  for (const header of document.querySelectorAll("#table th")) {
    header.setAttribute("aria-sort", header.dataset.key === state.key ? (state.down ? "descending" : "ascending") : "none");
  }
  const errors = data.systems.map((_, i) => visible.reduce((sum, r) => sum + r.errors[i], 0));
  const words = visible.reduce((sum, r) => sum + r.words, 0);
  document.getElementById("count").textContent = `${visible.length} of ${data.rows.length} utterances, ` +
    errors.map((n, i) => `${n} errors of ${words} words${isTwo ? ` (${"AB"[i]})` : ""}, WER ${shownPercent(percent(n, words))} %`).join("; ");
  const more = document.getElementById("more");
  more.hidden = visible.length <= state.shown;
  more.textContent = `Show ${Math.min(ROWS_AT_ONCE, visible.length - state.shown)} more of ${visible.length - state.shown}`;
}

function renderRow(row) {
  const line = make("tr", { className: "row" });
  line.row = row;
  for (const column of COLUMNS) {
    const value = column.get(row), text = value === null ? "" : column.show(value);
    const cell = make("td", { className: column.number ? "number" : column.key });
    if (column.key === "id") {
      cell.append(make("button", { type: "button", className: "link", textContent: text, "aria-expanded": "false" }));
      if (row.media !== null) cell.append(make("span", { className: "heard", textContent: "♪", title: "audio and pictures" }));
    } else {
      cell.textContent = text;
      cell.setAttribute("data-name", column.name);
    }
    line.append(cell);
  }
  line.append(make("td", { className: "text" }, inlineEdits(row.edits[row.edits.length - 1])));
  line.addEventListener("click", () => toggle(line));
  return line;
}

// The transcript with its errors in place: ~~said~~ written, +inserted, ~~deleted~~
function inlineEdits(edits) {
  const line = make("span");
  for (const edit of edits) {
    if (!Array.isArray(edit)) { line.append(edit + " "); continue; }
    const [kind, said, written] = edit, [mark, name] = MARKS[kind];
    const word = make("span", { className: "word " + mark, title: name }, make("span", { className: "hidden", textContent: name + " " }));
    if (said) word.append(make("s", { textContent: said }), written ? " " : "");
    if (written) word.append(make("u", { textContent: (said ? "" : "+") + written }));
    line.append(word, " ");
  }
  return line;
}

function alignedEdits(edits, name) {
  const list = make("ol");
  for (const edit of edits) {
    const [kind, said, written] = Array.isArray(edit) ? edit : ["", edit, edit];
    const [mark, title, letter] = MARKS[kind] || ["", "", ""];
    const part = (text) => make("span", { className: text ? "" : "none", textContent: text || "∗∗∗" });
    list.append(make("li", { className: mark, title }, part(said), part(written), make("em", { textContent: letter })));
  }
  const names = make("div", { className: "names" }, make("div", { textContent: "reference" }), make("div", { textContent: name }));
  return make("div", { className: "aligned" }, names, list);
}

function close() {
  if (!open) return;
  open.audio?.pause();
  open.detail.remove();
  open.line.classList.remove("open");
  open.line.querySelector("button").setAttribute("aria-expanded", "false");
  open = null;
}

function toggle(line) {
  const wasOpen = open && open.line === line;
  close();
  if (wasOpen) return;
  const row = line.row, cell = make("td", { colSpan: COLUMNS.length + 1 });
  const detail = make("tr", { className: "detail" }, cell);
  line.after(detail);
  line.classList.add("open");
  line.querySelector("button").setAttribute("aria-expanded", "true");
  open = { line, detail, audio: null };
  row.edits.forEach((edits, i) => cell.append(alignedEdits(edits, isTwo ? `${"AB"[i]} wrote` : "written")));
  if (row.failure) cell.append(make("p", { textContent: `No audio: ${row.failure}` }));
  if (row.media !== null) {
    const media = JSON.parse(document.getElementById("media-" + row.media).textContent);
    open.audio = makePlayer(media);
    cell.append(open.audio);
    if (media.wave) {
      const picture = make("div", { className: "picture" });
      cell.append(picture);
      cell.append(drawFigure(picture, media, data.units, open.audio));
    } else {
      cell.append(make("p", { className: "note", textContent: "Too long for pictures." }));
    }
  } else if (!row.failure) {
    cell.append(make("p", { className: "note", textContent: "Audio and pictures of this utterance are not in this file." }));
  }
  try { history.replaceState(null, "", "#u=" + encodeURIComponent(row.split + "/" + row.id)); } catch { /* not from disk everywhere */ }
}

function move(by) {
  const lines = [...document.querySelectorAll("#table tr.row")];
  const next = lines[open ? lines.indexOf(open.line) + by : by > 0 ? 0 : lines.length - 1];
  if (!next) return;
  if (!open || open.line !== next) toggle(next);
  next.querySelector("button").focus({ preventScroll: true });
  next.scrollIntoView({ block: "start" });
}

function setEdit(edit) {
  state.edit = edit;
  document.getElementById("chip")?.remove();
  if (edit) {
    const chip = make("button", { type: "button", id: "chip", className: "chip", textContent: `${edit[1] || "(nothing)"} → ${edit[2] || "(nothing)"}  ✕` });
    chip.addEventListener("click", () => setEdit(null));
    document.getElementById("filters").append(chip);
  }
  state.shown = ROWS_AT_ONCE;
  render();
}

function addChoice(key, label, options) {
  const select = make("select", { name: key, "aria-label": label }, make("option", { value: "", textContent: "all" }));
  for (const [value, text] of options) select.append(make("option", { value, textContent: text }));
  select.addEventListener("change", () => { state.choices[key] = select.value; state.shown = ROWS_AT_ONCE; render(); });
  document.getElementById("filters").append(make("label", {}, label + " ", select));
}

function sortBy(column, down) {
  Object.assign(state, { key: column.key, down });
  render();
}

// Where the page is too narrow for column heads
function addSortChoice() {
  const select = make("select", { name: "sort", "aria-label": "Sort by" });
  for (const column of COLUMNS) select.append(make("option", { value: column.key, textContent: column.name }));
  select.value = state.key;
  select.addEventListener("change", () => {
    const column = COLUMNS.find((c) => c.key === select.value);
    sortBy(column, Boolean(column.number));
  });
  document.getElementById("filters").append(make("label", { className: "narrow" }, "Sort by ", select));
}

function start() {
  data.rows.forEach((row, number) => {
    row.number = number;
    const said = row.edits.flat().flat().join(" ");
    row.searchable = [row.id, row.speaker, row.split, said, row.text].filter(Boolean).join(" ").toLowerCase();
  });
  const head = make("tr");
  for (const column of COLUMNS) {
    const button = make("button", { type: "button", textContent: column.name });
    button.addEventListener("click", () => sortBy(column, state.key === column.key ? !state.down : Boolean(column.number)));
    const cell = make("th", { className: column.number ? "number" : "", scope: "col" }, button);
    cell.dataset.key = column.key;
    head.append(cell);
  }
  head.append(make("th", { scope: "col", textContent: isTwo ? "Transcript of B" : "Transcript" }));
  document.querySelector("#table thead").append(head);
  for (const column of COLUMNS.filter((c) => c.isChoice)) {
    const values = [...new Set(data.rows.map(column.get).filter(Boolean))].sort();
    if (values.length > 1) addChoice(column.key, column.name, values.map((v) => [v, v]));
  }
  addSortChoice();
  if (isTwo) addChoice("change", "B is", [["-1", "better"], ["1", "worse"], ["0", "as good"]]);
  const box = make("input", { type: "checkbox", name: "errors" });
  box.addEventListener("change", () => { state.checked = box.checked; render(); });
  const filters = document.getElementById("filters");
  filters.append(make("label", {}, box, " with errors only"));
  filters.addEventListener("submit", (event) => event.preventDefault());
  filters.elements.text.addEventListener("input", (event) => { state.text = event.target.value.trim().toLowerCase(); state.shown = ROWS_AT_ONCE; render(); });
  document.getElementById("more").addEventListener("click", () => { state.shown += ROWS_AT_ONCE; render(); });
  for (const button of document.querySelectorAll("[data-edit], [data-speaker]")) {
    button.addEventListener("click", () => {
      if (button.dataset.edit) setEdit(JSON.parse(button.dataset.edit));
      else {
        filters.elements.speaker.value = state.choices.speaker = button.dataset.speaker;
        render();
      }
      document.getElementById("utterances").scrollIntoView();
    });
  }
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape") { close(); return; }
    if (event.target.matches("input, select")) return;
    if (event.key === "/") { filters.elements.text.focus(); event.preventDefault(); }
    else if (event.key === "j") move(1);
    else if (event.key === "k") move(-1);
    else if (event.key === "p" && open?.audio) { if (open.audio.paused) play(open.audio); else open.audio.pause(); }
  });
  render();
  window.addEventListener("hashchange", openAddress);
  openAddress();
}

// Open the utterance that the address names, however far down it stands
function openAddress() {
  let wanted;
  try { wanted = decodeURIComponent(location.hash); } catch { return; } // not one that this page wrote
  const i = visible.findIndex((r) => `#u=${r.split}/${r.id}` === wanted);
  if (i < 0) return;
  if (i >= state.shown) {
    state.shown = i + 1;
    render();
  }
  const line = document.querySelectorAll("#table tr.row")[i];
  if (open?.line !== line) toggle(line);
  line.scrollIntoView();
}

start();
