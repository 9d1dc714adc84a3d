// Builds the list, then listens to keys.
"use strict";

const help = document.getElementById("help");

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || help.open) return;
  if (event.target.matches("textarea")) {
    if (event.key === "Escape") open?.item.querySelector(".link").focus();
    else if (event.key === "Enter" && !event.shiftKey) move(1);
    else return;
    event.preventDefault();
    return;
  }
  if (event.target.matches("input:not([type=checkbox]), select, audio") && event.key !== "Escape") return;
  const isButton = event.target.matches("button, summary, svg");
  const keys = {
    j: () => move(1), k: () => move(-1), "/": () => filterForm.elements.find.focus(), "?": () => help.showModal(),
    Escape: () => { closeSuspect(); filtersToAddress(); },
    1: () => decideAndGoOn("keep"), 2: () => decideAndGoOn("drop"), 3: () => open && choose(open.item, "correct"),
    4: () => open && takeWritten(open.row),
  };
  // In the picture 0 fits it; elsewhere it takes a decision back
  if (!event.target.matches("svg")) keys[0] = () => open && choose(open.item, "");
  // Space presses a button that has the focus, unless that is the one which opened the utterance
  if (!isButton || event.target.matches(".link, svg")) keys[" "] = togglePlaying;
  if (!Object.hasOwn(keys, event.key)) return;
  if (event.key === " " && !open) return;
  keys[event.key]();
  event.preventDefault();
}

function togglePlaying() {
  if (!open?.audio) return;
  if (open.audio.paused) play(open.audio); else open.audio.pause();
}

function decideAndGoOn(choice) {
  if (!open) return;
  choose(open.item, choice);
  move(1);
}

data.rows.forEach((row) => {
  const signs = row.signs.flatMap(([name, what]) => [name, what]);
  row.searchable = folded([row.id, row.speaker, row.folder, row.text, row.written, ...signs].filter(Boolean).join(" "));
});
readDecisions();
addFilters();
const opened = filtersFromAddress();
showCounts();
render(opened);
document.getElementById("more").addEventListener("click", showMore);
document.getElementById("save").addEventListener("click", saveCorrections);
document.getElementById("load").addEventListener("click", () => document.getElementById("corrections").click());
document.getElementById("corrections").addEventListener("change", loadCorrections);
document.getElementById("forget").addEventListener("click", forgetDecisions);
document.getElementById("keys").addEventListener("click", () => help.showModal());
document.addEventListener("keydown", onKey);
// Space on a button acts when it is released
document.addEventListener("keyup", (event) => { if (event.key === " " && event.target.matches("li.open .link")) event.preventDefault(); });
addEventListener("beforeunload", (event) => { if (!isKept && decisions.size) event.preventDefault(); });
