// One utterance, opened below its row: its words, its sound, its picture.
"use strict";

let open = null; // {line, detail, audio}

const nameOf = (row) => `${row.split}/${row.id}`;

function closeUtterance() {
  if (!open) return;
  open.audio?.pause();
  open.detail.remove();
  open.line.classList.remove("open");
  open.line.querySelector("button").setAttribute("aria-expanded", "false");
  open = null;
}

function toggleUtterance(line) {
  const wasOpen = open && open.line === line;
  closeUtterance();
  toAddress(wasOpen ? null : nameOf(line.row));
  if (wasOpen) return;
  // A table's cell is as wide as what it holds wants to be; `inside` wants nothing and takes what there is
  const row = line.row, inside = make("div", { className: "inside" });
  const detail = make("tr", { className: "detail" }, make("td", { colSpan: COLUMNS.length + 1 }, inside));
  line.after(detail);
  line.classList.add("open");
  line.querySelector("button").setAttribute("aria-expanded", "true");
  open = { line, detail, audio: null };
  if (isLongName(row.id)) inside.append(make("p", { className: "note name", textContent: row.id }));
  const columns = columnsOf(row.edits);
  const media = row.media === null ? null : JSON.parse(document.getElementById("media-" + row.media).textContent);
  const player = media ? makePlayer(media) : null;
  if (media) addTimes(columns, media);
  inside.append(alignedWords(columns, (start, end) => player.playSpan(start, end)));
  if (row.failure) inside.append(make("p", { textContent: `No audio: ${row.failure}` }));
  if (media) {
    open.audio = player.audio;
    inside.append(player.element);
    if (media.wave) showPicture(inside, media, data.units, columns, player);
    else inside.append(make("p", { className: "note", textContent: "Too long for pictures." }));
  } else if (!row.failure) {
    inside.append(make("p", { className: "note", textContent: "Audio and pictures of this utterance are not in this file." }));
  }
}

function moveToUtterance(by) {
  const lines = [...document.querySelectorAll("#table tr.row")];
  const next = lines[open ? lines.indexOf(open.line) + by : by > 0 ? 0 : lines.length - 1];
  if (!next) return;
  if (!open || open.line !== next) toggleUtterance(next);
  next.querySelector("button").focus({ preventScroll: true });
  next.scrollIntoView({ block: "start" });
}

// Open an utterance by its name, however far down it stands
function openNamed(name) {
  const i = visible.findIndex((row) => nameOf(row) === name);
  if (i < 0) return;
  if (i >= state.shown) {
    state.shown = i + 1;
    render(name);
  }
  const line = document.querySelectorAll("#table tr.row")[i];
  if (open?.line !== line) toggleUtterance(line);
  line.scrollIntoView();
}
