// One suspect, opened: why it is one, its sound and picture, its losses in training, and a field for its transcript.
"use strict";

let open = null; // {row, item, audio, field}

function openSuspect(row, item) {
  closeSuspect();
  const inside = make("div", { className: "inside" });
  item.append(inside);
  item.classList.add("open");
  item.querySelector(".link").setAttribute("aria-expanded", "true");
  open = { row, item, audio: null, field: null };
  const media = row.media === null ? null : JSON.parse(document.getElementById("media-" + row.media).textContent);
  const player = media ? makePlayer(media) : null;
  inside.append(textsOf(row), reasonsOf(row, player));
  if (media) {
    open.audio = player.audio;
    inside.append(player.element);
    media.stretches = row.signs.filter(([, , , start, end]) => start !== null || end !== null)
      .map(([name, , , start, end]) => [start ?? 0, end ?? media.seconds, name]);
    showPicture(inside, media, [], [], player);
  } else {
    inside.append(make("p", { className: "note" }, "Its audio is not in this page: ", make("code", { textContent: row.audio || "no file is known" })));
  }
  if (row.losses.length) inside.append(lossesOf(row));
  inside.append(correctionField(row));
  const facts = [row.origin, row.audio !== row.origin ? row.audio : ""].filter(Boolean).join(" · ");
  inside.append(make("p", { className: "note name", textContent: facts }));
  filtersToAddress();
}

function closeSuspect() {
  if (!open) return;
  open.audio?.pause();
  open.item.querySelector(".inside").remove();
  open.item.classList.remove("open");
  open.item.querySelector(".link").setAttribute("aria-expanded", "false");
  open = null;
}

function textsOf(row) {
  const list = make("dl", { className: "texts" });
  const add = (term, text) => list.append(make("dt", { textContent: term }), make("dd", { textContent: text || "nothing", dir: directionOf(text) }));
  add("transcript", row.text);
  if (row.written !== null) add("the model writes", row.written);
  return list;
}

function reasonsOf(row, player) {
  const list = make("ul", { className: "seen" });
  for (const [name, what, certainty, start, end] of row.signs) {
    const item = make("li", {}, make("b", { textContent: name }), ` (${certainty}): ${what}`);
    if (player && start !== null) {
      const button = make("button", { type: "button", className: "chip", textContent: `▶ ${start.toFixed(2)} s`, title: "play this stretch" });
      button.addEventListener("click", () => player.playSpan(start, end));
      item.append(button);
    }
    list.append(item);
  }
  return list;
}

// Its loss at each visit in training, against the median of all utterances
function lossesOf(row) {
  const known = row.losses.filter((loss) => loss !== null), typical = data.typical.slice(0, row.losses.length);
  const most = Math.max(...known, ...typical.filter((loss) => loss !== null), 1e-9);
  const box = make("div", { className: "losses" });
  const line = (losses) => losses.map((loss, i) => (loss === null ? "" : `${(100 * i) / Math.max(losses.length - 1, 1)} ${40 - (40 * loss) / most}`)).filter(Boolean);
  const svg = svgElement(box, "svg", { viewBox: "0 0 100 40", preserveAspectRatio: "none", "aria-hidden": "true" });
  for (const [kind, losses] of [["typical", typical], ["own", row.losses]]) {
    const points = line(losses);
    if (points.length === 1) points.push(`100 ${points[0].split(" ")[1]}`);
    if (points.length) svgElement(svg, "polyline", { class: kind, points: points.join(" ") });
  }
  const shown = (losses) => losses.map((loss) => (loss === null ? "none" : Number(loss.toPrecision(3)))).join(", ");
  const some = (losses) => (losses.length > 8 ? `${shown(losses.slice(0, 4))}, …, ${shown(losses.slice(-3))}` : shown(losses));
  box.append(make("p", { className: "note", textContent: `Loss at ${row.losses.length === 1 ? "its one visit" : `each of its ${row.losses.length} visits`} in training, nats per unit: ${some(row.losses)}. Dashed, the median of all utterances: ${some(typical)}.` }));
  return box;
}

function correctionField(row) {
  const decision = decisions.get(row.id);
  const field = make("textarea", { value: decision?.text ?? row.text, rows: 2, spellcheck: false, dir: "auto" });
  open.field = field;
  field.addEventListener("input", () => { decide(row, "correct", field.value); showDecision(open.item, row); });
  const buttons = make("p");
  const add = (text, act) => {
    const button = make("button", { type: "button", className: "chip", textContent: text });
    button.addEventListener("click", act);
    buttons.append(button);
  };
  if (row.written) add("take the model's words", () => takeWritten(row));
  add("the transcript as it was", () => setText(row, row.text));
  return make("div", { className: "correction" }, make("label", {}, "corrected transcript", field), buttons);
}

function takeWritten(row) {
  if (row.written) setText(row, row.written);
}

function setText(row, text) {
  if (open?.row !== row) return;
  open.field.value = text;
  decide(row, "correct", text);
  showDecision(open.item, row);
}
