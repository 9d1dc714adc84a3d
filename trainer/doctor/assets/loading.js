// Decisions from a file that "save corrections" wrote, so that they can go on in another browser or for a page that moved.
"use strict";

const MOST_NAMED = 3; // ids that are named of those that were not loaded

// Takes the lines of `text` as decisions, and returns a sentence that says how many, and what was left. A line whose
// transcript has changed since is left, as --corpus.patch would refuse it.
function takeCorrections(text, name) {
  const rows = new Map(data.rows.map((row) => [row.id, row])), texts = new Map(), left = new Map();
  const taken = new Set();
  text.split("\n").forEach((line, i) => {
    if (!line.trim()) return;
    const entry = readEntry(line), row = rows.get(entry?.id);
    const why = whyLeft(entry, row, texts.get(entry?.id) ?? row?.text);
    if (why) {
      left.set(why, [...(left.get(why) ?? []), entry?.id ?? `line ${i + 1}`]);
      return;
    }
    texts.set(row.id, entry.text ?? row.text);
    taken.add(row.id);
    decisions.set(row.id, entry.drop === true ? { choice: "drop" } : { choice: "correct", text: entry.text });
  });
  keepDecisions();
  showCounts();
  render();
  const named = (ids) => ids.slice(0, MOST_NAMED).join(", ") + (ids.length > MOST_NAMED ? ", …" : "");
  return `${name}: ${taken.size} ${taken.size === 1 ? "decision" : "decisions"} loaded.` +
    [...left].map(([why, ids]) => ` Not loaded: ${ids.length} ${why} (${named(ids)}).`).join("");
}

// What a line says; null where it is no correction
function readEntry(line) {
  try {
    const entry = JSON.parse(line);
    return typeof entry?.id === "string" && (entry.drop === true) !== (typeof entry.text === "string") ? entry : null;
  } catch {
    return null;
  }
}

function whyLeft(entry, row, textNow) {
  if (entry === null) return "that cannot be read as a correction";
  if ((entry.split ?? "") !== data.split) return "of another split";
  if (!row) return "whose utterance is not in this page";
  return (entry.was ?? textNow) === textNow ? "" : "whose transcript is another now";
}

async function loadCorrections(event) {
  const [file] = event.target.files;
  if (!file) return;
  let said;
  try {
    said = takeCorrections(await file.text(), file.name);
  } catch (error) {
    said = `${file.name} could not be read: ${error.message}`;
  }
  event.target.value = ""; // the same file can be chosen again
  document.getElementById("loaded").textContent = said;
}
