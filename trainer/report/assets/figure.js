// One utterance drawn over time: waveform, spectrogram, posteriors, and words and phones under them.
"use strict";

const LABEL_FONT = "11px system-ui, sans-serif";
const ruler = document.createElement("canvas").getContext("2d");

// {unit, best, blank} of each frame, posteriors from 0 to 1
function framesOf(media) {
  const packed = bytesOf(media.units);
  const best = bytesOf(media.best), blank = bytesOf(media.blank);
  return Array.from(best, (p, i) => ({
    unit: packed[2 * i] + 256 * packed[2 * i + 1], best: p / 255, blank: blank[i] / 255,
    time: media.first + i * media.step,
  }));
}

// Draw into `svg`, `width` pixels wide. Returns the height and how many labels had no room.
function drawFigure(svg, media, frames, units, columns, width) {
  svg.replaceChildren();
  const x = (time) => (time / media.seconds) * width;
  const names = svgElement(svg, "g", { class: "names" });
  let y = 0, hidden = 0;
  const band = (height, name, draw) => {
    hidden += draw(y, height) || 0;
    svgElement(names, "text", { class: "name", x: 4, y: y + 11 }, name);
    y += height;
    svgElement(svg, "line", { class: "edge", x1: 0, x2: width, y1: y, y2: y });
  };
  band(58, "waveform", (top, height) => drawWave(svg, media, width, top, height));
  band(132, "spectrogram, 0 to 8 kHz", (top, height) => {
    svgElement(svg, "image", {
      class: "spectrogram", x: 0, y: top, width, height, preserveAspectRatio: "none",
      href: "data:image/webp;base64," + media.spectrogram,
    });
  });
  for (const [start, end, name] of media.stretches ?? []) { // what the page points at
    const stretch = svgElement(svg, "rect", { class: "stretch", x: x(start), width: Math.max(2, x(end) - x(start)), y: 0, height: 190 });
    svgElement(stretch, "title", {}, name);
  }
  const words = wordBands(media, columns);
  for (const { start, end } of words.flatMap((w) => (w.isExact ? w.spans : []))) {
    for (const time of [start, end]) svgElement(svg, "line", { class: "truth", x1: x(time), x2: x(time), y1: 190, y2: 306, "stroke-dasharray": "2 3" });
  }
  if (frames.length) band(116, "posteriors of the best path", (top, height) => drawPosteriors(svg, frames, units, x, top + 42, height - 46, media.step, width));
  for (const { name, spans, isExact } of words) band(48, name, (top, height) => drawSpans(svg, spans, x, top + 14, height - 14, width, isExact));
  for (const [name, segments] of [["phones", media.phones], ["words", media.words]]) {
    if (!segments.length) continue;
    const spans = segments.map(([start, end, text]) => ({ start, end, text, mark: "" }));
    band(48, name, (top, height) => drawSpans(svg, spans, x, top + 14, height - 14, width, true));
  }
  drawSeconds(svg, media.seconds, x, width, y + 13);
  svg.append(names);
  svg.setAttribute("width", width);
  svg.setAttribute("height", y + 18);
  return { height: y, hidden };
}

// The words as bands under the picture: what was said and what was written, where times are known
function wordBands(media, columns) {
  const bands = [], timed = columns.filter((column) => column.end !== undefined), said = timed.filter((column) => column.said);
  if (media.said.length) {
    const matched = media.said.length === said.length;
    bands.push({ name: "said", isExact: true, spans: media.said.map(([start, end, text], i) => ({
      start, end, text: matched ? said[i].said : text, mark: (matched && said[i].cells.at(-1)[0] === "d" && MARKS.d) || "",
    })) });
  } else if (said.length) {
    bands.push({ name: "said (about where)", isExact: false, spans: said.map(({ start, end, said: text }) => ({ start, end, text, mark: "" })) });
  }
  if (media.written.length) {
    const marks = columns.filter((column) => column.cells.at(-1)[1]);
    const agrees = marks.length === media.written.length;
    bands.push({ name: isComparison ? `${LETTERS.at(-1)} wrote` : "written", isExact: false, spans: media.written.map(([start, end, text], i) => ({
      start, end, text, mark: (agrees && MARKS[marks[i].cells.at(-1)[0]]) || "",
    })) });
  }
  return bands;
}

function drawWave(svg, media, width, top, height) {
  const outline = new Int8Array(bytesOf(media.wave).buffer);
  const bins = outline.length / 2, middle = top + height / 2, scale = (height / 2 - 3) / 127;
  const across = (i) => ((i + 0.5) / bins) * width;
  let path = "M";
  for (let i = 0; i < bins; i++) path += `${across(i).toFixed(1)} ${(middle - outline[2 * i + 1] * scale - 0.4).toFixed(1)} L`;
  for (let i = bins - 1; i >= 0; i--) path += `${across(i).toFixed(1)} ${(middle - outline[2 * i] * scale + 0.4).toFixed(1)} ${i ? "L" : "Z"}`;
  svgElement(svg, "path", { class: "wave", d: path });
}

// The blank as a line; the best other unit pale where the blank wins, full and named where it is on the best path
function drawPosteriors(svg, frames, units, x, top, height, step, width) {
  const y = (p) => (top + height * (1 - p)).toFixed(1);
  const bars = (some) => some.map((f) => `V${y(f.best)}H${x(f.time + step / 2).toFixed(1)}`).join("");
  const area = (some) => `M${x(some[0].time - step / 2).toFixed(1)} ${y(0)}${bars(some)}V${y(0)}Z`;
  const runs = [];
  for (const frame of frames) {
    const emits = frame.best > frame.blank, last = runs.at(-1);
    if (last && last.emits === emits && (!emits || last.frames[0].unit === frame.unit)) last.frames.push(frame);
    else runs.push({ emits, frames: [frame] });
  }
  // One path for each kind: thousands of elements would make zooming slow
  for (const emits of [false, true]) {
    const of = runs.filter((run) => run.emits === emits);
    const gap = Math.min(1, x(step) / 8); // the line between two units must not hide narrow ones
    if (of.length) svgElement(svg, "path", { class: emits ? "path" : "maybe", style: `stroke-width: ${gap}`, d: of.map((run) => area(run.frames)).join("") });
  }
  svgElement(svg, "path", { class: "blank", d: frames.map((f, i) => `${i ? "L" : "M"}${x(f.time).toFixed(1)} ${y(f.blank)}`).join("") });
  const labels = runs.filter((run) => run.emits).map((run) => {
    const peak = run.frames.reduce((a, b) => (b.best > a.best ? b : a));
    return { x: x(peak.time), text: shownUnit(units[peak.unit]), mark: "" };
  });
  return drawLabels(svg, labels, [top - 4, top - 17], width);
}

// Labelled stretches with their boundaries
function drawSpans(svg, spans, x, top, height, width, isExact) {
  for (const { start, end, mark } of spans) {
    if (isExact) for (const time of [start, end]) svgElement(svg, "line", { class: "truth", x1: x(time), x2: x(time), y1: top, y2: top + height });
    else svgElement(svg, "rect", { class: "span " + (mark ? mark[0] : ""), x: x(start), width: Math.max(1, x(end) - x(start)), y: top + height - 5, height: 3 });
  }
  const labels = spans.map(({ start, end, text, mark }) => ({ x: (x(start) + x(end)) / 2, text: mark ? `${text} (${mark[2]})` : text, mark: mark ? mark[0] : "" }));
  return drawLabels(svg, labels, [top + 11, top + 25], width);
}

// Write labels centred at their x, each in the first of `lines` where it does not touch its neighbour.
// Returns how many have room in none: they are not drawn.
function drawLabels(svg, labels, lines, width) {
  ruler.font = LABEL_FONT;
  const ends = lines.map(() => -Infinity);
  let hidden = 0;
  for (const label of labels) {
    const half = ruler.measureText(label.text).width / 2 + 1;
    const at = Math.min(Math.max(label.x, half), Math.max(half, width - half));
    const line = ends.findIndex((end) => at - half >= end + 2);
    if (line < 0 || 2 * half > width) { hidden++; continue; }
    ends[line] = at + half;
    svgElement(svg, "text", { class: "label " + label.mark, x: at.toFixed(1), y: lines[line], "text-anchor": "middle" }, label.text);
  }
  return hidden;
}

function drawSeconds(svg, seconds, x, width, y) {
  const every = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20].find((step) => x(step) > 60) || 60;
  for (let i = 0; x(i * every) < width - 30; i++) {
    svgElement(svg, "text", { class: "name", x: x(i * every) + 2, y }, `${(i * every).toFixed(every < 1 ? 1 : 0)} s`);
  }
}
