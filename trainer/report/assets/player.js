// An utterance's sound and picture together: the cursor, zoom, playing a word, loop and speed.
"use strict";

const PIXELS_PER_SECOND = 240; // at first, or more when the page is wider than the utterance
const MOST_PIXELS = 40000; // of a picture's width
const MOST_PIXELS_PER_SECOND = 1500;

// A page that closes the utterance meanwhile interrupts this, which is no error.
function play(audio) {
  audio.play().catch(() => {});
}

// {audio, element, playSpan}: `element` holds the audio's controls; playSpan(start, end) plays a stretch of it
function makePlayer(media) {
  const audio = make("audio", { controls: true, preload: "auto", src: "data:audio/ogg;base64," + media.audio });
  const loop = make("input", { type: "checkbox", name: "loop" });
  const speed = make("select", { name: "speed" });
  for (const factor of [0.5, 0.75, 1, 1.25, 1.5]) speed.append(make("option", { value: factor, textContent: `${factor}×`, selected: factor === 1 }));
  let span = null; // what is being played; null: from here to the end
  speed.addEventListener("change", () => { audio.playbackRate = Number(speed.value); });
  const isOver = () => audio.currentTime >= (span ? span[1] : media.seconds) - 0.01;
  const watch = () => {
    if (!audio.isConnected) return;
    if (span && isOver()) {
      if (loop.checked) audio.currentTime = span[0];
      else { audio.pause(); return; }
    }
    if (!audio.paused) requestAnimationFrame(watch);
  };
  audio.addEventListener("play", watch);
  audio.addEventListener("ended", () => { if (loop.checked) { audio.currentTime = span ? span[0] : 0; play(audio); } });
  audio.addEventListener("pause", () => { if (!isOver()) return; if (!loop.checked) span = null; });
  const playSpan = (start, end = null) => {
    span = end === null ? null : [start, end];
    audio.currentTime = start;
    play(audio);
  };
  const element = make("div", { className: "player" }, audio,
    make("label", { title: "repeat the word that was clicked, or everything" }, loop, " loop"), make("label", {}, "speed ", speed));
  return { audio, element, playSpan };
}

// Append the picture with its buttons and its readout to `cell`
function showPicture(cell, media, units, columns, player) {
  const frames = framesOf(media), { audio } = player;
  const box = make("div", { className: "picture" });
  const svg = svgElement(box, "svg", { tabindex: "0", role: "img", "aria-label": "Waveform, spectrogram, posteriors and words. Arrow keys move frame by frame, Enter plays, plus and minus zoom" });
  const readout = make("p", { className: "note readout", role: "status" });
  const crowded = make("span", { className: "note crowded", role: "status" });
  const buttons = make("div", { className: "zoom" });
  cell.append(buttons, box, readout);
  let width = 0, at = 0, cursor = null;
  const least = () => Math.max(box.clientWidth, 100);
  const most = () => Math.max(least(), Math.min(MOST_PIXELS, media.seconds * MOST_PIXELS_PER_SECOND));

  // Draw at another width; the moment `time` stays `offset` pixels from the box's left edge
  const drawAt = (wanted, time, offset) => {
    width = Math.round(Math.min(Math.max(wanted, least()), most()));
    const { height, hidden } = drawFigure(svg, media, frames, units, columns, width);
    cursor = svgElement(svg, "line", { class: "cursor", x1: 0, x2: 0, y1: 0, y2: height });
    crowded.textContent = hidden ? `${hidden} label${hidden > 1 ? "s have" : " has"} no room: zoom in` : "";
    box.scrollLeft = (time / media.seconds) * width - offset;
    moveNames();
    show(at);
  };
  const zoom = (factor, offset = box.clientWidth / 2) => drawAt(width * factor, ((box.scrollLeft + offset) / width) * media.seconds, offset);
  const fit = () => drawAt(0, 0, 0);
  const moveNames = () => svg.querySelector(".names")?.setAttribute("transform", `translate(${box.scrollLeft})`);

  const under = (segments, time) => segments.find(([start, end]) => time >= start && time < end);
  const show = (time) => {
    at = Math.min(Math.max(time, 0), media.seconds);
    const position = (at / media.seconds) * width;
    cursor.setAttribute("x1", position);
    cursor.setAttribute("x2", position);
    const frame = frames[Math.min(Math.max(Math.round((at - media.first) / media.step), 0), frames.length - 1)];
    const parts = [`${at.toFixed(2)} s`];
    if (frame) parts.push(`${shownUnit(units[frame.unit])} ${frame.best.toFixed(2)}`, `blank ${frame.blank.toFixed(2)}`);
    const word = under(media.said, at), phone = under(media.phones, at), written = under(media.written, at);
    if (word) parts.push(`said \u2068${word[2]}\u2069`);
    if (written) parts.push(`written \u2068${written[2]}\u2069 ${Math.round(100 * written[3])} %`);
    if (phone) parts.push(`phone ${phone[2]}`);
    readout.textContent = parts.join(" · ");
    for (const column of columns) column.item?.classList.toggle("now", at >= column.start && at < column.end);
  };
  // Scroll so that the cursor can be seen, with what comes next to the right of it
  const reveal = () => {
    const position = (at / media.seconds) * width - box.scrollLeft;
    if (position < 0 || position > 0.9 * box.clientWidth) box.scrollLeft += position - 0.15 * box.clientWidth;
  };
  const timeAt = (clientX) => ((clientX - svg.getBoundingClientRect().left) / width) * media.seconds;
  const step = (frames) => { show(at + frames * media.step); reveal(); };
  const keys = {
    ArrowRight: (event) => step(event.shiftKey ? 10 : 1), ArrowLeft: (event) => step(event.shiftKey ? -10 : -1),
    Enter: () => player.playSpan(at), Home: () => { show(0); reveal(); }, End: () => { show(media.seconds); reveal(); },
    "+": () => zoom(1.5), "=": () => zoom(1.5), "-": () => zoom(1 / 1.5), "0": fit,
  };
  svg.addEventListener("mousemove", (event) => { if (audio.paused) show(timeAt(event.clientX)); });
  svg.addEventListener("click", (event) => player.playSpan(timeAt(event.clientX)));
  svg.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || !keys[event.key]) return;
    keys[event.key](event);
    event.preventDefault();
  });
  box.addEventListener("scroll", moveNames);
  listenForPinch(box, zoom);
  const tick = () => {
    if (!svg.isConnected) return;
    show(audio.currentTime);
    reveal();
    if (!audio.paused) requestAnimationFrame(tick);
  };
  audio.addEventListener("play", tick);
  audio.addEventListener("seeked", tick);
  for (const [text, label, act] of [["−", "zoom out", () => zoom(1 / 1.5)], ["+", "zoom in", () => zoom(1.5)], ["fit", "fit the whole utterance", fit]]) {
    const button = make("button", { type: "button", className: "chip", textContent: text, "aria-label": label, title: label });
    button.addEventListener("click", act);
    buttons.append(button);
  }
  buttons.append(crowded);
  let known = box.clientWidth;
  new ResizeObserver(() => { // a turned phone: the picture is never narrower than its box
    if (box.clientWidth === known) return;
    known = box.clientWidth;
    drawAt(width, at, 0.15 * known);
  }).observe(box);
  drawAt(media.seconds * PIXELS_PER_SECOND, 0, 0);
}

// Two fingers on a touch screen; on a touch pad the browser sends a wheel with Ctrl
function listenForPinch(box, zoom) {
  let apart = 0;
  const left = () => box.getBoundingClientRect().left;
  const distance = ([a, b]) => Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
  box.addEventListener("wheel", (event) => {
    if (!event.ctrlKey) return;
    event.preventDefault();
    zoom(Math.exp(-event.deltaY / 200), event.clientX - left());
  }, { passive: false });
  box.addEventListener("touchstart", (event) => { if (event.touches.length === 2) apart = distance(event.touches); }, { passive: true });
  box.addEventListener("touchmove", (event) => {
    if (event.touches.length !== 2 || !apart) return;
    event.preventDefault();
    const now = distance(event.touches), [a, b] = event.touches;
    zoom(now / apart, (a.clientX + b.clientX) / 2 - left());
    apart = now;
  }, { passive: false });
}
