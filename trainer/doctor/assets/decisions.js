// What a person has decided of each utterance: kept by the browser, and saved as a file for --corpus.patch.
"use strict";

const CHOICES = [["keep", "keep"], ["drop", "drop"], ["correct", "correct"]];
const decisions = new Map(); // id -> {choice, text}
let isKept = true; // whether the browser keeps them when the page is closed

function readDecisions() {
  try {
    for (const [id, decision] of Object.entries(JSON.parse(localStorage.getItem(data.store)) ?? {})) decisions.set(id, decision);
    localStorage.setItem(data.store, JSON.stringify(Object.fromEntries(decisions)));
  } catch {
    isKept = false;
  }
  showUnkept();
}

function keepDecisions() {
  try {
    localStorage.setItem(data.store, JSON.stringify(Object.fromEntries(decisions)));
    isKept = true;
  } catch {
    isKept = false;
  }
  showUnkept();
}

function showUnkept() {
  const unkept = document.getElementById("unkept");
  unkept.hidden = isKept;
  unkept.textContent = isKept ? "" : "This browser keeps nothing for this page: save the corrections before you close it.";
}

const choiceOf = (row) => decisions.get(row.id)?.choice ?? "";

// `choice` empty: take the decision back. A correction that changes nothing keeps the transcript.
function decide(row, choice, text = null) {
  if (choice === "") decisions.delete(row.id);
  else decisions.set(row.id, choice === "correct" ? { choice, text: text ?? decisions.get(row.id)?.text ?? row.text } : { choice });
  keepDecisions();
  showCounts();
}

// The transcript of a correction that changes something; null without one
function correctionOf(row) {
  const decision = decisions.get(row.id);
  const text = decision?.choice === "correct" ? decision.text.trim() : "";
  return text && text !== row.text ? text : null;
}

const isUnfinished = (row) => choiceOf(row) === "correct" && correctionOf(row) === null;

// One line of JSON for each utterance that is dropped or corrected, as data/corrections/file.py reads them
function corrections() {
  return data.rows.flatMap((row) => {
    const text = correctionOf(row), split = data.split ? { split: data.split } : {};
    const note = row.signs.map(([name]) => name).join(", ");
    if (choiceOf(row) === "drop") return [JSON.stringify({ id: row.id, drop: true, was: row.text, ...split, note }) + "\n"];
    return text === null ? [] : [JSON.stringify({ id: row.id, text, was: row.text, ...split, note }) + "\n"];
  });
}

function saveCorrections() {
  const address = URL.createObjectURL(new Blob(corrections(), { type: "application/jsonl" }));
  make("a", { href: address, download: data.file }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

function showCounts() {
  const number = (choice) => data.rows.filter((row) => choiceOf(row) === choice).length;
  const unfinished = data.rows.filter(isUnfinished).length, corrected = number("correct") - unfinished;
  const left = data.rows.length - data.rows.filter((row) => choiceOf(row)).length;
  document.getElementById("counts").textContent =
    `${number("keep")} kept · ${number("drop")} dropped · ${corrected} corrected · ${left} undecided` +
    (unfinished ? ` · ${unfinished} to correct, whose transcript is still the same` : "");
  const isEmpty = number("drop") + corrected === 0;
  document.getElementById("save").disabled = isEmpty;
  document.getElementById("forget").disabled = decisions.size === 0;
  document.getElementById("after").replaceChildren(...(isEmpty
    ? ["Keep, drop or correct utterances, then save the corrections and train with them."]
    : ["Then train with them: ", make("code", { textContent: `--corpus.patch ${data.file}` })]));
}

function forgetDecisions() {
  if (!confirm(`Forget the decisions on ${decisions.size} utterances? Save the corrections first if they are still needed.`)) return;
  decisions.clear();
  keepDecisions();
  showCounts();
  render();
}
