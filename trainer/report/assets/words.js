// Which word became which, as columns of words: the reference, what every system wrote, and when it was said.
"use strict";

// `systems` holds the edits of each system, all against the same reference. A column is {said, cells}: the word of the
// reference, or "" for words put in; cells has [kind of edit, word] of each system.
function columnsOf(systems) {
  const read = systems.map((edits) => {
    const between = [[]], words = [];
    for (const edit of edits) {
      if (Array.isArray(edit) && edit[0] === "i") { between.at(-1).push(edit[2]); continue; }
      words.push(Array.isArray(edit) ? edit : ["", edit, edit]);
      between.push([]);
    }
    return { between, words };
  });
  const columns = [];
  for (let r = 0; r <= read[0].words.length; r++) {
    const most = Math.max(...read.map((system) => system.between[r].length));
    for (let i = 0; i < most; i++) {
      columns.push({ said: "", cells: read.map(({ between }) => (i < between[r].length ? ["i", between[r][i]] : ["", ""])) });
    }
    if (r < read[0].words.length) {
      columns.push({ said: read[0].words[r][1], cells: read.map(({ words }) => [words[r][0], words[r][2]]) });
    }
  }
  return columns;
}

// Give each column its `start`, `end` (seconds) and `confidence`. The corpus' own word times come first, then those of
// the words that the last system wrote. A word that it left out lies between its neighbours. Where the transcript in
// the table is not the one that the page's model writes, times of written words are unknown.
function addTimes(columns, media) {
  const written = columns.filter((column) => column.cells.at(-1)[1]), said = columns.filter((column) => column.said);
  if (media.written && written.every((column, i) => media.written[i]?.[2] === column.cells.at(-1)[1]) && written.length === media.written.length) {
    written.forEach((column, i) => {
      const [start, end, , confidence] = media.written[i];
      Object.assign(column, { start, end, confidence });
    });
  }
  if (media.said?.length && media.said.length === said.length) {
    said.forEach((column, i) => Object.assign(column, { start: media.said[i][0], end: media.said[i][1] }));
  }
  if (!columns.some((column) => column.end !== undefined)) return;
  columns.forEach((column, i) => {
    if (column.end !== undefined) return;
    column.isBetween = true;
    column.start = columns.slice(0, i).findLast((c) => c.end !== undefined)?.end ?? 0;
    const next = columns.slice(i).find((c) => c.end !== undefined && !c.isBetween);
    column.end = Math.max(next ? next.start : media.seconds, column.start + 0.05);
  });
  shareGaps(columns);
}

// Words left out one after the other share the gap in which they lie
function shareGaps(columns) {
  for (let i = 0; i < columns.length; i++) {
    if (!columns[i].isBetween) continue;
    let last = i;
    while (columns[last + 1]?.isBetween) last++;
    const { start } = columns[i], each = (Math.max(columns[i].end, columns[last].end) - start) / (last - i + 1);
    for (let k = i; k <= last; k++) Object.assign(columns[k], { start: start + (k - i) * each, end: start + (k - i + 1) * each });
    i = last;
  }
}

// The columns as a list in which a click on a word plays it. Left and right lead from word to word.
function alignedWords(columns, playSpan) {
  const names = ["reference", ...(isComparison ? LETTERS.map((letter) => `${letter} wrote`) : ["written"])];
  const hasConfidence = columns.some((column) => column.confidence !== undefined);
  if (hasConfidence) names.push("confidence");
  const list = make("ol", { dir: directionOf(columns.map((column) => column.said).join(" ")) });
  columns.forEach((column) => {
    const item = make("li", {}, alignedCell(column.said, "", ""));
    for (const [kind, word] of column.cells) item.append(alignedCell(word, kind, column.said));
    if (hasConfidence) item.append(make("small", { dir: "ltr", textContent: column.confidence === undefined ? "" : `${Math.round(100 * column.confidence)} %` }));
    column.item = item;
    list.append(item);
    if (column.end === undefined) return;
    item.title = `${column.start.toFixed(2)} to ${column.end.toFixed(2)} s`;
    item.setAttribute("role", "button");
    item.tabIndex = column === columns[0] ? 0 : -1;
    item.addEventListener("click", () => playSpan(column.start, column.end));
  });
  list.addEventListener("keydown", (event) => moveInList(event, list));
  const wide = make("div", { className: "names" }, ...names.map((name) => make("div", { textContent: name })));
  return make("div", { className: "aligned" }, wide, list);
}

function alignedCell(word, kind, said) {
  const [mark, title, letter] = MARKS[kind] || ["", "", ""];
  const cell = make("span", { className: mark || (word ? "" : "none"), title }, make("bdi", { textContent: word || (kind || !said ? "∗∗∗" : "") }));
  if (letter) cell.append(make("em", { textContent: letter }), make("span", { className: "hidden", textContent: ` ${title}` }));
  return cell;
}

function moveInList(event, list) {
  const item = event.target.closest("li"), isBack = event.key === (list.dir === "rtl" ? "ArrowRight" : "ArrowLeft");
  if (event.key === "Enter" || event.key === " ") item.click();
  else if (isBack || event.key.startsWith("Arrow")) {
    const next = isBack || event.key === "ArrowUp" ? item.previousElementSibling : item.nextElementSibling;
    if (!next || next.tabIndex === undefined) return;
    item.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  } else return;
  event.preventDefault();
}

// The transcript with its errors in place: ~~said~~ written, +inserted, ~~deleted~~; `gap` stands between two words
function inlineEdits(edits, gap = " ") {
  const line = make("span", { dir: directionOf(edits.map((edit) => (Array.isArray(edit) ? edit[1] || edit[2] : edit)).join(" ")) });
  for (const edit of edits) {
    if (!Array.isArray(edit)) { line.append(edit + gap); continue; }
    const [kind, said, written] = edit, [mark, name] = MARKS[kind];
    const word = make("bdi", { className: "word " + mark, title: name }, make("span", { className: "hidden", textContent: name + " " }));
    if (said) word.append(make("s", { textContent: said }), written ? " " : "");
    if (written) word.append(make("u", { textContent: (said ? "" : "+") + written }));
    line.append(word, gap);
  }
  return line;
}
