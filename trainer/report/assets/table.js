// The table of utterances: sorted, counted, written as CSV. An utterance opens below its row.
"use strict";

let visible = [];

function compareRows(a, b) {
  const column = columnOf(state.key), sign = state.down ? -1 : 1;
  let [p, q] = [column.get(a), column.get(b)];
  if (column.kind === "change" && state.down) [p, q] = [Math.abs(p), Math.abs(q)]; // what changed most, for better or worse
  const order = typeof p === "number" && typeof q === "number" ? p - q
    : String(p ?? "").localeCompare(String(q ?? ""), undefined, { numeric: true });
  return sign * (Number.isNaN(order) ? 0 : order) || b.errors.at(-1) - a.errors.at(-1) || a.number - b.number;
}

render = (opened = null) => {
  closeUtterance();
  visible = data.rows.filter(matches).sort(compareRows);
  document.querySelector("#table tbody").replaceChildren(...visible.slice(0, state.shown).map(renderRow));
  for (const header of document.querySelectorAll("#table th")) {
    header.setAttribute("aria-sort", header.dataset.key === state.key ? (state.down ? "descending" : "ascending") : "none");
  }
  const errors = data.systems.map((_, i) => visible.reduce((sum, r) => sum + r.errors[i], 0));
  const words = visible.reduce((sum, r) => sum + r.words, 0);
  document.getElementById("count").textContent = `${visible.length} of ${data.rows.length} utterances, ` +
    errors.map((n, i) => `${n} errors of ${words} ${data.counted}${isComparison ? ` (${LETTERS[i]})` : ""}, ${data.rate} ${shownPercent(percent(n, words))} %`).join("; ");
  const more = document.getElementById("more");
  more.hidden = visible.length <= state.shown;
  more.textContent = `Show ${Math.min(ROWS_AT_ONCE, visible.length - state.shown)} more of ${visible.length - state.shown}`;
  toAddress(opened);
};

// Of a long id its end is shown, in which paths differ. Where two ends are the same, what all long ids begin with is
// left out, and then the middle. An opened utterance shows its whole id.
const isLongName = (name) => name.length > 44;
const endOf = (name) => name.slice(-36);
const longNames = data.rows.map((row) => row.id).filter(isLongName);
const endsDiffer = new Set(longNames.map(endOf)).size === longNames.length;
const sharedStart = longNames.reduce((start, name) => {
  let n = 0;
  while (n < start.length && start[n] === name[n]) n += 1;
  return start.slice(0, n);
}, longNames[0] ?? "").replace(/[\p{L}\p{M}\p{N}]+$/u, "");
function shortName(name) {
  if (!isLongName(name)) return name;
  if (endsDiffer) return "…" + endOf(name);
  const rest = name.slice(sharedStart.length), start = sharedStart ? "…" : "";
  return start + (rest.length <= 38 ? rest : `${rest.slice(0, 18).trimEnd()}…${rest.slice(-18).trimStart()}`);
}

function renderRow(row) {
  const line = make("tr", { className: "row" });
  line.row = row;
  for (const column of COLUMNS) {
    const value = column.get(row), text = value === null ? "" : column.show(value);
    const cell = make("td", { className: column.number ? "number" : column.key });
    if (column.key === "id") {
      const button = make("button", { type: "button", className: "link", textContent: shortName(text), "aria-expanded": "false" });
      if (isLongName(text)) {
        Object.assign(button, { title: text, ariaLabel: text });
        cell.classList.add("long");
      }
      cell.append(button);
      if (row.media !== null) cell.append(make("span", { className: "heard", textContent: "♪", title: "audio and pictures" }));
    } else {
      cell.textContent = text;
      cell.setAttribute("data-name", column.name);
    }
    line.append(cell);
  }
  const texts = row.edits.map((edits, i) => (isComparison
    ? make("div", { className: "of" }, make("b", { textContent: LETTERS[i] }), " ", inlineEdits(edits)) : inlineEdits(edits)));
  line.append(make("td", { className: "text" }, ...texts));
  line.addEventListener("click", () => toggleUtterance(line));
  return line;
}

// --- CSV, as RFC 4180 has it: one line for each utterance that is shown

function asCsv(rows) {
  const quoted = (value) => (/[",\r\n]/.test(String(value)) ? `"${String(value).replaceAll('"', '""')}"` : String(value));
  const shown = COLUMNS.filter((column) => column.key !== "id" && column.key !== "split");
  const side = (edits, i) => edits.map((e) => (Array.isArray(e) ? e[i] : e)).filter(Boolean).join(" ");
  const head = ["id", "split", ...shown.map((column) => column.name), "reference", ...(isComparison ? LETTERS.map((l) => `written by ${l}`) : ["written"])];
  const lines = rows.map((row) => [
    row.id, row.split, ...shown.map((column) => {
      const value = column.get(row);
      return value === null ? "" : Number.isFinite(value) ? Math.round(value * 100) / 100 : value === Infinity ? "inf" : value;
    }), side(row.edits[0], 1), ...row.edits.map((edits) => side(edits, 2)),
  ]);
  return [head, ...lines].map((line) => line.map(quoted).join(",") + "\r\n").join("");
}

function saveCsv() {
  const address = URL.createObjectURL(new Blob([asCsv(visible)], { type: "text/csv" }));
  make("a", { href: address, download: `${data.systems.join("-")}.csv` }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

function addTableHead() {
  const head = make("tr");
  for (const column of COLUMNS) {
    const button = make("button", { type: "button", textContent: column.name });
    button.addEventListener("click", () => change({ key: column.key, down: state.key === column.key ? !state.down : column.number }));
    const cell = make("th", { className: column.number ? "number" : "", scope: "col" }, button);
    cell.dataset.key = column.key;
    head.append(cell);
  }
  head.append(make("th", { scope: "col", textContent: isComparison ? "Transcripts" : "Transcript" }));
  document.querySelector("#table thead").append(head);
}
