// One utterance drawn over time: waveform, spectrogram, posteriors, and the labels of the corpus under them.
// Everything of a transcript reaches the page as text, never as markup.
"use strict";

const SVG = "http://www.w3.org/2000/svg";
const PIXELS_PER_SECOND = 240; // at least: more when the page is wide

function bytesOf(base64) {
  return Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
}

function svgElement(parent, name, attributes, text) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  parent.append(element);
  return element;
}

function makePlayer(media) {
  const audio = document.createElement("audio");
  audio.controls = true;
  audio.preload = "auto";
  audio.src = "data:audio/ogg;base64," + media.audio;
  return audio;
}

// A page that closes the utterance meanwhile interrupts this, which is no error.
function play(audio) {
  audio.play().catch(() => {});
}

// {unit, best, blank} of each frame, posteriors from 0 to 1.
function framesOf(media) {
  const packed = bytesOf(media.units);
  const best = bytesOf(media.best), blank = bytesOf(media.blank);
  return Array.from(best, (p, i) => ({
    unit: packed[2 * i] + 256 * packed[2 * i + 1], best: p / 255, blank: blank[i] / 255,
    time: media.first + i * media.step,
  }));
}

function shownUnit(name) {
  return name === "|" ? "␣" : name;
}

function drawFigure(container, media, units, audio) {
  const frames = framesOf(media), seconds = media.seconds;
  const width = Math.max(container.clientWidth - 2, Math.ceil(seconds * PIXELS_PER_SECOND));
  const x = (time) => (time / seconds) * width;
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("tabindex", "0");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", "Waveform, spectrogram and posteriors; arrow keys move frame by frame, Enter plays");
  const grid = svgElement(svg, "g", {});
  let y = 0;
  const band = (height, name, draw) => {
    draw(y, height);
    svgElement(svg, "text", { class: "name", x: 4, y: y + 11 }, name);
    y += height;
    svgElement(svg, "line", { class: "edge", x1: 0, x2: width, y1: y, y2: y });
  };
  band(58, "waveform", (top, height) => drawWave(svg, media, width, top, height));
  band(132, "spectrogram, 0 to 8 kHz", (top, height) => svgElement(svg, "image", {
    class: "spectrogram", x: 0, y: top, width, height, preserveAspectRatio: "none",
    href: "data:image/webp;base64," + media.spectrogram,
  }));
  band(104, "posteriors of the best path", (top, height) => drawPosteriors(svg, frames, units, x, top + 30, height - 34, media.step));
  if (media.words.length) band(24, "", (top, height) => drawSegments(svg, media.words, x, top, height, false));
  if (media.phones.length) band(36, "", (top, height) => drawSegments(svg, media.phones, x, top, height, true));
  for (const [start, end] of media.words) {
    for (const time of [start, end]) svgElement(grid, "line", { class: "truth", x1: x(time), x2: x(time), y1: 190, y2: y, "stroke-dasharray": "2 3" });
  }
  const every = seconds > 20 ? 2 : seconds > 8 ? 1 : 0.2;
  for (let i = 0; i * every < seconds - every / 3; i++) {
    svgElement(svg, "text", { class: "name", x: x(i * every) + 2, y: y + 13 }, (i * every).toFixed(every < 1 ? 1 : 0) + " s");
  }
  svg.append(grid);
  const cursor = svgElement(svg, "line", { class: "cursor", x1: 0, x2: 0, y1: 0, y2: y });
  svg.setAttribute("width", width);
  svg.setAttribute("height", y + 18);
  container.append(svg);
  return follow(svg, cursor, media, frames, units, audio, width);
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

// The blank as a line; the best other unit pale where the blank wins, full and named where it is on the best path.
function drawPosteriors(svg, frames, units, x, top, height, step) {
  const y = (p) => (top + height * (1 - p)).toFixed(1);
  const bars = (some) => some.map((f) => `V${y(f.best)}H${x(f.time + step / 2).toFixed(1)}`).join("");
  const area = (some) => `M${x(some[0].time - step / 2).toFixed(1)} ${y(0)}${bars(some)}V${y(0)}Z`;
  const runs = [];
  for (const frame of frames) {
    const emits = frame.best > frame.blank, last = runs[runs.length - 1];
    if (last && last.emits === emits && (!emits || last.frames[0].unit === frame.unit)) last.frames.push(frame);
    else runs.push({ emits, frames: [frame] });
  }
  for (const run of runs) svgElement(svg, "path", { class: run.emits ? "path" : "maybe", d: area(run.frames) });
  svgElement(svg, "path", { class: "blank", d: frames.map((f, i) => `${i ? "L" : "M"}${x(f.time).toFixed(1)} ${y(f.blank)}`).join("") });
  for (const run of runs.filter((r) => r.emits)) {
    const peak = run.frames.reduce((a, b) => (b.best > a.best ? b : a));
    svgElement(svg, "text", { x: x(peak.time), y: top - 4, "text-anchor": "middle" }, shownUnit(units[peak.unit]));
  }
}

// Labelled stretches with their boundaries; short ones take turns in two lines.
function drawSegments(svg, segments, x, top, height, inTurns) {
  segments.forEach(([start, end, label], i) => {
    for (const time of [start, end]) svgElement(svg, "line", { class: "truth", x1: x(time), x2: x(time), y1: top, y2: top + height });
    const y = inTurns ? top + (i % 2 ? 29 : 14) : top + 16;
    svgElement(svg, "text", { x: (x(start) + x(end)) / 2, y, "text-anchor": "middle" }, label);
  });
}

// A cursor that follows mouse, arrow keys and playback; what is under it is told in words.
function follow(svg, cursor, media, frames, units, audio, width) {
  const readout = document.createElement("p");
  readout.className = "note readout";
  readout.setAttribute("role", "status");
  let at = 0;
  const under = (segments, time) => segments.find(([start, end]) => time >= start && time < end);
  const show = (time) => {
    at = Math.min(Math.max(time, 0), media.seconds);
    const position = (at / media.seconds) * width;
    cursor.setAttribute("x1", position);
    cursor.setAttribute("x2", position);
    const frame = frames[Math.min(Math.max(Math.round((at - media.first) / media.step), 0), frames.length - 1)];
    const parts = [`${at.toFixed(2)} s`];
    if (frame) parts.push(`${shownUnit(units[frame.unit])} ${frame.best.toFixed(2)}`, `blank ${frame.blank.toFixed(2)}`);
    const word = under(media.words, at), phone = under(media.phones, at);
    if (word) parts.push(`word ${word[2]}`);
    if (phone) parts.push(`phone ${phone[2]}`);
    readout.textContent = parts.join(" · ");
  };
  const timeAt = (event) => ((event.clientX - svg.getBoundingClientRect().left) / width) * media.seconds;
  const playFrom = (time) => { audio.currentTime = time; play(audio); };
  svg.addEventListener("mousemove", (event) => { if (audio.paused) show(timeAt(event)); });
  svg.addEventListener("click", (event) => playFrom(timeAt(event)));
  svg.addEventListener("keydown", (event) => {
    const frames = event.shiftKey ? 10 : 1;
    if (event.key === "ArrowRight") show(at + frames * media.step);
    else if (event.key === "ArrowLeft") show(at - frames * media.step);
    else if (event.key === "Enter") playFrom(at);
    else return;
    event.preventDefault();
  });
  const tick = () => {
    if (!svg.isConnected) return;
    show(audio.currentTime);
    if (!audio.paused) requestAnimationFrame(tick);
  };
  audio.addEventListener("play", tick);
  audio.addEventListener("seeked", tick);
  show(0);
  return readout;
}
