// Builds what the page's data need, then listens to keys and to the address.
"use strict";

const help = document.getElementById("help");

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || help.open) return;
  if (event.key === "Escape") { closeUtterance(); toAddress(null); return; }
  if (event.target.matches("input:not([type=checkbox]), select")) return;
  if (event.key === "/") { filters.elements.find.focus(); event.preventDefault(); }
  else if (event.key === "?") help.showModal();
  else if (event.key === "j") moveToUtterance(1);
  else if (event.key === "k") moveToUtterance(-1);
  else if (event.key === "p" && open?.audio) { if (open.audio.paused) play(open.audio); else open.audio.pause(); }
}

function readAddress() {
  const name = fromAddress();
  showState();
  render(name);
  if (name) openNamed(name);
}

data.rows.forEach((row, number) => {
  row.number = number;
  const said = row.edits.flat().flat().join(" ");
  row.searchable = folded([row.id, row.speaker, row.split, said, row.text].filter(Boolean).join(" "));
});
resetState();
addTableHead();
addFilters();
COLUMNS.filter((column) => column.isRange).forEach(addRange);
document.getElementById("more").addEventListener("click", () => { state.shown += ROWS_AT_ONCE; render(); });
document.getElementById("csv").addEventListener("click", saveCsv);
document.getElementById("keys").addEventListener("click", () => help.showModal());
document.addEventListener("keydown", onKey);
window.addEventListener("hashchange", readAddress);
readAddress();
