// What the other scripts share: elements, and how figures and units are written.
// Everything of a transcript reaches the page as text, never as markup.
"use strict";

const MARKS = { s: ["sub", "substitution", "S"], i: ["ins", "insertion", "I"], d: ["del", "deletion", "D"] };
const isComparison = data.systems.length > 1;
const LETTERS = data.systems.map((_, i) => String.fromCharCode(65 + i)); // A, B, C: the names of compared systems

function make(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in element) element[key] = value; else element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

function bytesOf(base64) {
  return Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
}

const percent = (part, whole) => (whole ? (100 * part) / whole : part ? Infinity : 0);
const shownPercent = (value) => (Number.isFinite(value) ? value.toFixed(1) : "∞");

// The direction in which a line of text is read: that of its first letter
function directionOf(text) {
  const letter = /\p{L}/u.exec(text);
  return letter && /[\p{Script=Hebrew}\p{Script=Arabic}\p{Script=Syriac}\p{Script=Thaana}\p{Script=Nko}]/u.test(letter[0]) ? "rtl" : "ltr";
}

// A unit as a label: the word delimiter as ␣, a combining mark on a dotted circle
function shownUnit(name) {
  if (name === "|") return "␣";
  return /^\p{M}/u.test(name) ? "◌" + name : name;
}
