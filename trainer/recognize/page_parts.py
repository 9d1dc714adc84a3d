"""What the page of scripts.serve shows besides gradio's own parts: the model, the words as lines, files to keep."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

from huggingface_hub import ModelCard

from data.utterance import SAMPLE_RATE
from models.checkpoints.training_checkpoint import is_training_checkpoint
from models.lengths import UtteranceLengths
from trainer.errors import ResultsError
from trainer.recognize.formats import FORMATS
from trainer.recognize.subtitles import PAUSE_SECONDS
from trainer.recognize.transcript import TimedTranscript, Word
from trainer.rundir.model_source import model_name, run_of, step_of
from trainer.rundir.reading import read_records
from trainer.rundir.results import read_results
from trainer.scoring.metrics import UNITS

SURE, UNSURE = 0.9, 0.6
"""Words below SURE and UNSURE are marked. Where confidences are not calibrated, these levels only guide the eye."""
MOST_LINE_SECONDS = 15.0
"""A line of words lasts no longer, so that somebody who speaks without a pause can be followed too."""
KEPT = ("text", "srt", "vtt", "json", "textgrid")
"""Formats in which the page offers its transcript."""
CSS = """
.lines p { margin: 0.3em 0; line-height: 1.8; overflow-wrap: anywhere; }
.lines .at { color: var(--body-text-color-subdued); font-size: 0.85em; margin-inline-end: 0.7em; user-select: none; }
.lines button { all: unset; cursor: pointer; border-radius: 3px; padding: 0 0.15em; }
.lines button:hover, .lines button:focus-visible { outline: 2px solid var(--color-accent); }
.lines .sure2 { background: rgb(220 160 40 / 0.22); border-bottom: 2px dotted currentColor; }
.lines .sure3 { background: rgb(215 70 50 / 0.25); border-bottom: 2px solid currentColor; }
.lines audio { width: 100%; }
"""
SEEK = """
element.addEventListener('click', (event) => {
  const word = event.target.closest('[data-start]'), audio = element.querySelector('audio');
  if (!word || !audio) return;
  audio.currentTime = Number(word.dataset.start);
  audio.play().catch(() => {});
});
"""
"""Runs in the browser: a click on a word plays the recording from there."""


def describe_lengths(lengths: UtteranceLengths | None) -> str:
    """How long the training utterances were, as a sentence with a space behind it; nothing where that is not known."""
    if lengths is None:
        return ""
    return f"The model was trained on utterances of {lengths.shortest:.1f} to {lengths.longest:.1f} s. "


def describe_model(source: str) -> str:
    """`demo: WER 9.3 % on the synthetic corpus (test)`, from the model card in the folder, or for a checkpoint from the
    evaluation at its step; else the name alone."""
    folder = Path(source)
    name = model_name(source) if folder.exists() else source
    if is_training_checkpoint(folder):
        return name + _rate_in_training(folder)
    try:
        card = ModelCard.load(folder / "README.md").data if (folder / "README.md").exists() else None
        mains = {units.main for units in UNITS.values()}
        rates = [r for r in (card.eval_results or []) if r.metric_type in mains] if card else []
        notes = _notes(folder)
        splits = [notes.get(r.dataset_split, r.dataset_split) for r in rates]
        found = [
            f"{r.metric_type.upper()} {100 * float(r.metric_value):.1f} % on {r.dataset_name} ({split})"
            for r, split in zip(rates, splits, strict=True)
        ]
    except (ValueError, TypeError, OSError):  # a card that others wrote may say anything
        found = []
    return f"{name}: {', '.join(found)}" if found else name


def _rate_in_training(checkpoint: Path) -> str:
    """`: WER 9.3 % in training`, or nothing where its step was not evaluated."""
    run_dir = run_of(checkpoint)
    try:
        step = step_of(checkpoint)
        records = [] if run_dir is None else read_records(run_dir / "metrics.jsonl")
    except (OSError, ValueError, KeyError):
        return ""
    rates = (
        f": {units.label} {100 * r[f'eval/{units.main}']:.1f} % in training"
        for r in records
        for units in UNITS.values()
        if r["step"] == step and r.get(f"eval/{units.main}") is not None
    )
    selected = ", by which the weights were selected: optimistic" if checkpoint.name == "best" else ""
    return next((f"{rate}{selected}" for rate in rates), "")


def _notes(model: Path) -> dict[str | None, str]:
    """Splits of which the run of `model` notes something, as that its figures are optimistic: with that note."""
    run_dir = run_of(model)
    try:
        splits = {} if run_dir is None else read_results(run_dir)["splits"]
    except (ResultsError, KeyError):
        return {}
    return {split: f"{split}; {record['note']}" for split, record in splits.items() if record.get("note")}


def words_as_html(transcript: TimedTranscript, audio: str | None = None) -> str:
    """The words in lines that end at pauses. Each is a button with its start; those that are unsure are marked.

    `audio` is the path of a file that gradio serves, for the player above the words.
    """
    player = ""
    if audio is not None:
        player = f'<audio controls preload="metadata" src="/gradio_api/file={escape(quote(audio))}"></audio>'
    if not transcript.words:
        return f'<div class="lines">{player}<p>(no words)</p></div>'
    lines = [
        f'<p dir="auto"><span class="at">{_clock(line[0].start)}</span>{" ".join(map(_word, line))}</p>'
        for line in _lines(transcript.words)
    ]
    legend = (
        f"<p><small>Confidence ({'calibrated' if transcript.is_calibrated else 'not calibrated'}): "
        f'<span class="sure2">below {100 * SURE:.0f} %</span>, '
        f'<span class="sure3">below {100 * UNSURE:.0f} %</span>. A click on a word plays from there.</small></p>'
    )
    return f'<div class="lines">{player}{"".join(lines)}{legend}</div>'


def _lines(words: Sequence[Word]) -> list[Sequence[Word]]:
    """`words` cut where nobody speaks for PAUSE_SECONDS, and what is then longer than MOST_LINE_SECONDS at its longest
    pause, again and again."""
    gaps = [after.start - before.end for before, after in itertools.pairwise(words)]
    if not gaps:
        return [words]
    # of equal pauses the one in the middle, so that no single words are left over
    cut = max(range(len(gaps)), key=lambda i: (gaps[i], -abs(2 * i - len(gaps) + 1)))
    is_long = words[-1].end - words[0].start > MOST_LINE_SECONDS * SAMPLE_RATE
    if gaps[cut] <= PAUSE_SECONDS * SAMPLE_RATE and not is_long:
        return [words]
    return [*_lines(words[: cut + 1]), *_lines(words[cut + 1 :])]


def _word(word: Word) -> str:
    mark = "sure3" if word.confidence < UNSURE else "sure2" if word.confidence < SURE else "sure1"
    hint = f"{word.start_seconds:.2f} to {word.end_seconds:.2f} s, confidence {100 * word.confidence:.0f} %"
    return (
        f'<button type="button" class="{mark}" data-start="{word.start_seconds:.3f}" title="{hint}">'
        f"<bdi>{escape(word.text)}</bdi></button>"
    )


def _clock(num_samples: int) -> str:
    """`1:02` or `1:02:03`."""
    seconds = num_samples // SAMPLE_RATE
    hours, minutes = seconds // 3600, seconds // 60 % 60
    return f"{hours}:{minutes:02d}:{seconds % 60:02d}" if hours else f"{minutes}:{seconds % 60:02d}"


def write_files(transcript: TimedTranscript, uploads: str) -> list[str]:
    """Write the transcript in each of KEPT into a new folder below `uploads`. Returns the paths."""
    folder = Path(tempfile.mkdtemp(prefix="transcript-", dir=uploads))
    paths = []
    for name in KEPT:
        suffix, write = FORMATS[name]
        path = folder / (Path(transcript.name).stem + suffix)
        path.write_text(write(transcript), encoding="utf-8")
        paths.append(str(path))
    return paths
