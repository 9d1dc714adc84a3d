"""An alignment as CTM, of words or of units, as TextGrid, JSON, SRT or WebVTT. Strings: nothing is written here."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path

from data import strict_json
from data.utterance import SAMPLE_RATE
from trainer.align.alignment import AlignedWord, Alignment
from trainer.recognize.formats import as_srt as transcript_as_srt
from trainer.recognize.formats import as_vtt as transcript_as_vtt
from trainer.recognize.textgrid import interval_tier, point_tier, textgrid
from trainer.recognize.transcript import TimedTranscript, Word


def as_ctm(alignment: Alignment) -> str:
    """`file channel start duration word score` a line. Words without a length are comments, which begin with `;;`."""
    lines: list[tuple[int, str]] = []
    name = _ctm_name(alignment)
    for word in alignment.words:
        if word.start < word.end:
            lines.append((word.start, _ctm_line(name, word.start, word.end, word.text, word.score)))
        else:
            lines.append((word.start, f";; {word.status} at {word.start_seconds:.3f}: {word.text}"))
    for stretch in alignment.unwritten:
        length = (stretch.end - stretch.start) / SAMPLE_RATE
        line = f";; unwritten at {stretch.start_seconds:.3f} for {length:.3f}: {stretch.heard}"
        lines.append((stretch.start, line))
    return "".join(line + "\n" for _, line in sorted(lines, key=lambda item: item[0]))


def as_unit_ctm(alignment: Alignment) -> str:
    """The same of the units of every aligned word."""
    name = _ctm_name(alignment)
    return "".join(
        _ctm_line(name, unit.start, unit.end, unit.text, unit.score) + "\n"
        for word in alignment.words
        for unit in word.units
        if unit.text.strip()
    )


def as_json(alignment: Alignment) -> str:
    """One object on one line; seconds from the recording's start."""
    words = [
        {
            "word": word.text,
            "status": word.status,
            "start": _seconds(word.start),
            "end": _seconds(word.end),
            "score": _rounded(word.score),
            "units": [
                {"unit": u.text, "start": _seconds(u.start), "end": _seconds(u.end), "score": _rounded(u.score)}
                for u in word.units
            ],
        }
        for word in alignment.words
    ]
    unwritten = [
        {**asdict(stretch), "start": _seconds(stretch.start), "end": _seconds(stretch.end)}
        for stretch in alignment.unwritten
    ]
    record = {
        "file": alignment.name,
        "seconds": _seconds(alignment.num_samples),
        "text": alignment.text,
        "score": _rounded(alignment.score),
        "words": words,
        "unwritten": unwritten,
        "notes": list(alignment.notes),
    }
    return strict_json.dumps(record) + "\n"


def as_srt(alignment: Alignment) -> str:
    return transcript_as_srt(_as_written(alignment))


def as_vtt(alignment: Alignment) -> str:
    return transcript_as_vtt(_as_written(alignment))


def _as_written(alignment: Alignment) -> TimedTranscript:
    """The transcript for subtitles. A word without a length that is not just unheard stays with the one before it."""
    words: list[Word] = []
    waiting = ""
    for word in alignment.words:
        if word.start < word.end:
            words.append(Word(f"{waiting} {word.text}".strip(), word.start, word.end, word.score or 0.0))
            waiting = ""
        elif word.status != "unmatched" and words:
            last = words[-1]
            words[-1] = Word(f"{last.text} {word.text}", last.start, last.end, last.confidence)
        elif word.status != "unmatched":
            waiting = f"{waiting} {word.text}"
    return TimedTranscript(alignment.name, alignment.num_samples, tuple(words))


def as_textgrid(alignment: Alignment) -> str:
    """Praat's long text format. Tiers: words; units; where there are some, unwritten (what else is heard) and
    unmatched (points: words that are not heard)."""
    length = alignment.num_samples
    words = [(word.start, word.end, word.text) for word in alignment.words]
    units = [(unit.start, unit.end, unit.text) for word in alignment.words for unit in word.units if unit.text.strip()]
    tiers = [interval_tier("words", words, length), interval_tier("units", units, length)]
    if alignment.unwritten:
        heard = [(stretch.start, stretch.end, stretch.heard) for stretch in alignment.unwritten]
        tiers.append(interval_tier("unwritten", heard, length))
    if points := _points(alignment.words):
        tiers.append(point_tier("unmatched", points, length))
    return textgrid(tiers, length)


FORMATS: dict[str, tuple[str, Callable[[Alignment], str]]] = {
    "ctm": (".ctm", as_ctm),
    "unit-ctm": (".units.ctm", as_unit_ctm),
    "textgrid": (".TextGrid", as_textgrid),
    "json": (".json", as_json),
    "srt": (".srt", as_srt),
    "vtt": (".vtt", as_vtt),
}
"""Name -> (suffix of a file, function)."""
ONE_A_LINE = ("ctm", "unit-ctm", "json")
"""Formats in which many recordings can follow one another."""


def _ctm_name(alignment: Alignment) -> str:
    return "_".join((alignment.label or Path(alignment.name).stem).split())


def _ctm_line(name: str, start: int, end: int, text: str, score: float | None) -> str:
    times = f"{start / SAMPLE_RATE:.4f} {(end - start) / SAMPLE_RATE:.4f}"
    return f"{name} 1 {times} {text}" + ("" if score is None else f" {score:.3f}")


def _points(words: Iterable[AlignedWord]) -> list[tuple[int, str]]:
    """(Sample, words) of what is not heard; Praat has no two points at one time."""
    points: dict[int, list[str]] = {}
    for word in words:
        if word.status == "unmatched":
            points.setdefault(word.start, []).append(word.text)
    return [(at, " ".join(texts)) for at, texts in points.items()]


def _seconds(num_samples: int) -> float:
    return round(num_samples / SAMPLE_RATE, 4)


def _rounded(score: float | None) -> float | None:
    return None if score is None else round(score, 4)
