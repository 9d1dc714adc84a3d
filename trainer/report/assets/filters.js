// Which utterances are shown: the filters' state, their controls, and the page's address, which holds them.
"use strict";

const ROWS_AT_ONCE = 200;
const state = {};
let render = () => {}; // table.js says how

// How a cell of each kind is shown; a rate arrives as [errors, reference units] and is sorted by its percentage
const SHOWN = {
  text: String,
  number: String,
  seconds: (v) => v.toFixed(1),
  rate: shownPercent,
  change: (v) => (v > 0 ? "+" : v < 0 ? "−" : "") + Math.abs(v),
};

// Those that the corpus does not know are left out, and the split where there is one alone
const COLUMNS = data.columns.map(({ key, name, kind, isChoice, isRange }, i) => ({
  key, name, kind, isChoice, isRange, number: kind !== "text", show: SHOWN[kind],
  get: (row) => (kind === "rate" ? percent(...row.cells[i]) : row.cells[i]),
})).filter((column) => column.key !== "split" || new Set(data.rows.map((r) => r.split)).size > 1)
  .filter((column) => data.rows.some((row) => column.get(row) !== null));
const columnOf = (key) => COLUMNS.find((column) => column.key === key);
const filters = document.getElementById("filters");
const folded = (text) => text.normalize("NFC").toLowerCase(); // é is found however it is written

function resetState() {
  const down = data.sort[0] === "-";
  Object.assign(state, {
    key: down ? data.sort.slice(1) : data.sort, down, find: "", whole: false, edit: null, characters: null, errors: false, shown: ROWS_AT_ONCE,
    choices: {}, ranges: {},
  });
}

// Whether `word` stands in `text` with no letter, digit or mark beside it
function hasWord(text, word) {
  for (let i = text.indexOf(word); i >= 0; i = text.indexOf(word, i + 1)) {
    const before = [...text.slice(0, i)].at(-1) ?? " ", after = [...text.slice(i + word.length)][0] ?? " ";
    if (!/[\p{L}\p{N}\p{M}_']/u.test(before + after)) return true;
  }
  return false;
}

const samePair = (a, b) => a.length === b.length && a.every((part, i) => part === b[i]);

function matches(row) {
  for (const [key, value] of Object.entries(state.choices)) {
    const cell = columnOf(key).get(row);
    if (columnOf(key).kind === "change" ? Math.sign(cell) !== Number(value) : cell !== value) return false;
  }
  for (const [key, [from, to]] of Object.entries(state.ranges)) {
    const cell = columnOf(key).get(row);
    if (cell === null || cell < (from ?? -Infinity) || cell > (to ?? Infinity)) return false;
  }
  if (state.errors && !row.errors.some((n) => n > 0)) return false;
  if (state.edit && !row.edits.some((edits) => edits.some((e) => Array.isArray(e) && samePair(e, state.edit)))) return false;
  if (state.characters && !row.characters.some((pair) => samePair(pair, state.characters))) return false;
  if (!state.find) return true;
  return state.whole ? hasWord(row.searchable, state.find) : row.searchable.includes(state.find);
}

const isFiltered = () => Boolean(state.find || state.edit || state.characters || state.errors || Object.keys(state.choices).length || Object.keys(state.ranges).length);

function change(changes) {
  Object.assign(state, changes, { shown: ROWS_AT_ONCE });
  showState();
  render();
}

function setIn(map, key, value) {
  const isEmpty = value === "" || value === null || (Array.isArray(value) && value.every((v) => v === null));
  const { [key]: _, ...others } = state[map];
  change({ [map]: isEmpty ? others : { ...others, [key]: value } });
}

// --- the address: #find=abc&speaker=s1&seconds=1..3&sort=-wer&u=test/id

function toAddress(opened) {
  const said = new URLSearchParams();
  if (opened) said.set("u", opened);
  for (const name of ["find", "whole", "errors"]) if (state[name]) said.set(name, state[name] === true ? "1" : state[name]);
  for (const name of ["edit", "characters"]) if (state[name]) said.set(name, JSON.stringify(state[name]));
  for (const [key, value] of Object.entries(state.choices)) said.set(key, value);
  for (const [key, [from, to]] of Object.entries(state.ranges)) said.set(key, `${from ?? ""}..${to ?? ""}`);
  const sort = (state.down ? "-" : "") + state.key;
  if (sort !== data.sort) said.set("sort", sort);
  try { history.replaceState(null, "", "#" + said); } catch { /* some browsers refuse it from disk, or too many at once */ }
}

// Set the state from the address. Returns the utterance that it names, or null. What no page wrote is passed over.
function fromAddress() {
  const said = new URLSearchParams(location.hash.slice(1));
  resetState();
  for (const [name, value] of said) applyFilter(name, value);
  return said.get("u");
}

function applyFilter(name, value) {
  const column = columnOf(name);
  if (name === "find") state.find = folded(value);
  else if (name === "whole" || name === "errors") state[name] = value === "1";
  else if (name === "edit" || name === "characters") {
    try { state[name] = JSON.parse(value).map(String); } catch { state[name] = null; }
  } else if (name === "sort" && columnOf(value.replace(/^-/, ""))) Object.assign(state, { key: value.replace(/^-/, ""), down: value[0] === "-" });
  else if (column?.isRange && /\.\./.test(value)) {
    const range = value.split("..").map((part) => (part === "" || Number.isNaN(Number(part)) ? null : Number(part)));
    if (range.some((end) => end !== null)) state.ranges[name] = range.slice(0, 2);
  } else if (column?.isChoice || column?.kind === "change") state.choices[name] = value;
}

// --- the controls

function addChoice(key, label, options) {
  const select = make("select", { name: key, "aria-label": label }, make("option", { value: "", textContent: "all" }));
  for (const [value, text] of options) select.append(make("option", { value, textContent: text }));
  select.addEventListener("change", () => setIn("choices", key, select.value));
  filters.append(make("label", {}, label + " ", select));
}

function addBox(name, label, parent) {
  const box = make("input", { type: "checkbox", name });
  box.addEventListener("change", () => change({ [name]: box.checked }));
  parent.append(make("label", {}, box, " " + label));
}

// Where the page is too narrow for column heads
function addSortChoice() {
  const select = make("select", { name: "sort", "aria-label": "Sort by" });
  for (const column of COLUMNS) select.append(make("option", { value: column.key, textContent: column.name }));
  select.addEventListener("change", () => change({ key: select.value, down: columnOf(select.value).number }));
  filters.append(make("label", { className: "narrow" }, "Sort by ", select));
}

function addFilters() {
  addBox("whole", "whole words", filters.querySelector(".grow"));
  for (const column of COLUMNS.filter((c) => c.isChoice)) {
    const values = [...new Set(data.rows.map(column.get).filter(Boolean))].sort();
    if (values.length > 1) addChoice(column.key, column.name, values.map((v) => [v, v]));
  }
  addSortChoice();
  const changed = COLUMNS.find((column) => column.kind === "change");
  if (changed) addChoice(changed.key, "B is", [["-1", "better"], ["1", "worse"], ["0", "as good"]]);
  addBox("errors", "with errors only", filters);
  filters.append(make("span", { id: "chips" }));
  filters.addEventListener("submit", (event) => event.preventDefault());
  filters.elements.find.addEventListener("input", (event) => change({ find: folded(event.target.value.trim()) }));
  document.getElementById("clear").addEventListener("click", () => { resetState(); change({}); filters.elements.find.focus(); });
  // Groups, confusions and characters above the table lead to their utterances
  for (const button of document.querySelectorAll("[data-filter]")) {
    button.addEventListener("click", () => {
      resetState();
      for (const [name, value] of Object.entries(JSON.parse(button.dataset.filter))) applyFilter(name, value);
      change({});
      document.getElementById("utterances").scrollIntoView();
    });
  }
}

// Let the controls say what the state is
function showState() {
  const { elements } = filters;
  if (folded(elements.find.value.trim()) !== state.find) elements.find.value = state.find;
  elements.whole.checked = state.whole;
  elements.errors.checked = state.errors;
  elements.sort.value = state.key;
  for (const column of COLUMNS) {
    const select = filters.querySelector(`select[name="${CSS.escape(column.key)}"]`);
    if (select && column.key !== "sort") select.value = state.choices[column.key] ?? "";
  }
  const chips = [];
  const name = (text) => (text === " " ? "␣" : /^\p{M}/u.test(text) ? "◌" + text : text) || "(nothing)";
  const addChip = (key, said, written) => {
    const chip = make("button", { type: "button", className: "chip", title: "remove this filter" },
      make("bdi", { textContent: name(said) }), " → ", make("bdi", { textContent: name(written) }), "  ✕");
    chip.addEventListener("click", () => change({ [key]: null }));
    chips.push(chip);
  };
  if (state.edit) addChip("edit", state.edit[1], state.edit[2]);
  if (state.characters) addChip("characters", ...state.characters);
  document.getElementById("chips").replaceChildren(...chips);
  document.getElementById("clear").hidden = !isFiltered();
  showRanges();
}
