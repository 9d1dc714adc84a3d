// The list of suspects, worst first, each with the three things that can be decided of it.
"use strict";

let visible = [];
const list = document.getElementById("list");

render = (opened = open?.row.id ?? null) => {
  closeSuspect();
  visible = shownRows();
  list.replaceChildren(...visible.slice(0, state.shown).map(renderRow));
  document.getElementById("count").textContent = `${visible.length} of ${data.rows.length} suspects`;
  const more = document.getElementById("more");
  more.hidden = visible.length <= state.shown;
  more.textContent = `Show ${Math.min(ROWS_AT_ONCE, visible.length - state.shown)} more of ${visible.length - state.shown}`;
  const item = [...list.children].find((line) => line.row.id === opened);
  if (item) openSuspect(item.row, item);
  filtersToAddress();
};

function renderRow(row) {
  const item = make("li", { className: "suspect" });
  item.row = row;
  const name = make("button", { type: "button", className: "link", textContent: row.id, "aria-expanded": "false" });
  const facts = [`${row.seconds.toFixed(1)} s`, row.speaker ?? "", row.media === null ? "" : "♪"].filter(Boolean).join(" · ");
  const choices = make("span", { className: "choices", role: "group", "aria-label": `decision on ${row.id}` });
  for (const [value, text] of CHOICES) {
    const button = make("button", { type: "button", value, textContent: text });
    button.addEventListener("click", () => choose(item, choiceOf(row) === value ? "" : value));
    choices.append(button);
  }
  const reasons = make("ul", { className: "reasons", "aria-label": "signs" });
  for (const [sign, , certainty] of row.signs) reasons.append(make("li", { className: `reason ${certainty}`, textContent: sign, title: certainty }));
  const said = make("div", { className: "said" }, row.edits === null ? make("span", { textContent: row.text, dir: directionOf(row.text) }) : inlineEdits(row.edits, row.gap));
  const score = make("span", { className: "score", textContent: row.score.toFixed(2), title: "how suspect it is, from 0 to 1" });
  item.append(make("div", { className: "head" }, score, name, make("span", { className: "facts", textContent: facts }), choices), reasons, said);
  name.addEventListener("click", () => toggle(item));
  said.addEventListener("click", () => { if (!getSelection().toString()) toggle(item); });
  showDecision(item, row);
  return item;
}

function toggle(item) {
  if (open?.item === item) { closeSuspect(); filtersToAddress(); } else openSuspect(item.row, item);
}

function showDecision(item, row) {
  for (const button of item.querySelectorAll(".choices button")) button.setAttribute("aria-pressed", String(button.value === choiceOf(row)));
  item.classList.toggle("decided", choiceOf(row) !== "");
}

// Decide of the utterance of a line; one that is to be corrected opens, with the cursor in its text
function choose(item, choice) {
  decide(item.row, choice);
  showDecision(item, item.row);
  if (choice !== "correct") return;
  if (open?.item !== item) openSuspect(item.row, item);
  open.field.focus();
}

function move(by) {
  const lines = [...list.children];
  const at = open ? lines.indexOf(open.item) + by : by > 0 ? 0 : lines.length - 1;
  if (at === lines.length && visible.length > lines.length) showMore();
  const next = list.children[at];
  if (!next) return;
  openSuspect(next.row, next);
  next.querySelector(".link").focus({ preventScroll: true });
  next.scrollIntoView({ block: "start" });
}

// Add rows below those that stand there, which may be open
function showMore() {
  list.append(...visible.slice(state.shown, state.shown + ROWS_AT_ONCE).map(renderRow));
  state.shown += ROWS_AT_ONCE;
  const more = document.getElementById("more");
  more.hidden = visible.length <= state.shown;
  more.textContent = `Show ${Math.min(ROWS_AT_ONCE, visible.length - state.shown)} more of ${visible.length - state.shown}`;
}
