// Which suspects are shown: by reason, certainty, speaker, folder, decision, and what their texts hold. The page's address
// holds the filters, so that they outlive a reload.
"use strict";

const ROWS_AT_ONCE = 100;
const MOST_OPTIONS = 300; // of a list to choose from
const state = { shown: ROWS_AT_ONCE };
let render = () => {}; // list.js says how
const folded = (text) => text.normalize("NFC").toLowerCase(); // é is found however it is written

const CHOSEN = [
  { key: "reason", name: "Reason", of: (row) => row.signs.map(([name]) => name) },
  { key: "certainty", name: "Certainty", of: (row) => row.signs.map(([, , certainty]) => certainty) },
  { key: "speaker", name: "Speaker", of: (row) => (row.speaker === null ? [] : [row.speaker]) },
  { key: "folder", name: "Folder", of: (row) => (row.folder ? [row.folder] : []) },
];
const DECIDED = [["undecided", ""], ["kept", "keep"], ["dropped", "drop"], ["to correct", "correct"]];
const filterForm = document.getElementById("filters");

function addFilters() {
  for (const { key, name, of } of CHOSEN) {
    const counts = new Map();
    for (const row of data.rows) for (const value of new Set(of(row))) counts.set(value, (counts.get(value) ?? 0) + 1);
    if (counts.size < 2) continue;
    const common = [...counts].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1)).slice(0, MOST_OPTIONS);
    addChoice(key, name, common.map(([value, number]) => [`${value} (${number})`, value]));
  }
  addChoice("decision", "Decision", DECIDED.map(([text, value]) => [text, value || "none"]));
  filterForm.addEventListener("input", () => { state.shown = ROWS_AT_ONCE; render(); });
  filterForm.addEventListener("submit", (event) => event.preventDefault());
  document.getElementById("clear").addEventListener("click", () => { filterForm.reset(); state.shown = ROWS_AT_ONCE; render(); });
}

function addChoice(key, name, options) {
  const select = make("select", { name: key }, make("option", { value: "", textContent: "all" }));
  for (const [text, value] of options) select.append(make("option", { value, textContent: text }));
  filterForm.append(make("label", {}, `${name} `, select));
}

const wanted = () => Object.fromEntries([...new FormData(filterForm)].filter(([, value]) => value));

function shownRows() {
  const { find = "", decision, ...values } = wanted(), text = folded(find.trim());
  return data.rows.filter((row) => {
    if (decision && (choiceOf(row) || "none") !== decision) return false;
    if (CHOSEN.some(({ key, of }) => values[key] && !of(row).includes(values[key]))) return false;
    return row.searchable.includes(text);
  });
}

function filtersToAddress() {
  const words = new URLSearchParams(wanted());
  if (open) words.set("open", open.row.id);
  history.replaceState(null, "", words.size ? `#${words}` : location.pathname + location.search);
  document.getElementById("clear").hidden = Object.keys(wanted()).length === 0;
}

// The id of the utterance that is to be open; null for none
function filtersFromAddress() {
  const words = new URLSearchParams(location.hash.slice(1));
  for (const control of filterForm.elements) if (words.has(control.name)) control.value = words.get(control.name);
  return words.get("open");
}
