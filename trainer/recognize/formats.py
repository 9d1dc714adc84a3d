"""A transcript as text, JSON, SRT, WebVTT, Praat's TextGrid or NIST's CTM. Strings: nothing is written here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from data import strict_json
from data.utterance import SAMPLE_RATE
from trainer.recognize.subtitles import cues
from trainer.recognize.transcript import TimedTranscript


def as_text(transcript: TimedTranscript) -> str:
    return transcript.text + "\n"


def as_json(transcript: TimedTranscript) -> str:
    """One object on one line, so that many are JSON lines; seconds from the recording's start."""
    words = [
        {
            "word": w.text,
            "start": round(w.start_seconds, 4),
            "end": round(w.end_seconds, 4),
            "confidence": round(w.confidence, 4),
        }
        for w in transcript.words
    ]
    sure = transcript.confidence
    record = {
        "file": transcript.name,
        "seconds": round(transcript.seconds, 4),
        "text": transcript.text,
        "confidence": None if sure is None else round(sure, 4),
        "calibrated": transcript.is_calibrated,
        "words": words,
    }
    if transcript.alternatives:
        record["alternatives"] = [
            {"text": a.text, "score": round(a.score, 4), "acoustic": round(a.acoustic, 4)}
            for a in transcript.alternatives
        ]
    return strict_json.dumps(record) + "\n"


def as_srt(transcript: TimedTranscript) -> str:
    return "".join(
        f"{number}\n{_clock(start, ',')} --> {_clock(end, ',')}\n{text}\n\n"
        for number, (start, end, text) in enumerate(cues(transcript), 1)
    )


def as_vtt(transcript: TimedTranscript) -> str:
    escapes = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
    return "WEBVTT\n\n" + "".join(
        f"{_clock(start, '.')} --> {_clock(end, '.')}\n{text.translate(escapes)}\n\n"
        for start, end, text in cues(transcript)
    )


def as_textgrid(transcript: TimedTranscript) -> str:
    """Praat's long text format: one tier `words` of intervals without gaps, silence labelled with nothing."""
    intervals, at = list[tuple[int, int, str]](), 0
    for word in transcript.words:
        if word.start > at:
            intervals.append((at, word.start, ""))
        intervals.append((word.start, word.end, word.text))
        at = word.end
    if at < transcript.num_samples:
        intervals.append((at, transcript.num_samples, ""))
    xmax = _exact(transcript.num_samples)
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", f"xmax = {xmax}",
             "tiers? <exists>", "size = 1", "item []:", "    item [1]:", '        class = "IntervalTier"',
             '        name = "words"', "        xmin = 0", f"        xmax = {xmax}",
             f"        intervals: size = {len(intervals)}"]  # fmt: skip
    for i, (start, end, text) in enumerate(intervals, 1):
        doubled, indent = text.replace('"', '""'), " " * 12
        lines += [f"        intervals [{i}]:", f"{indent}xmin = {_exact(start)}", f"{indent}xmax = {_exact(end)}",
                  f'{indent}text = "{doubled}"']  # fmt: skip
    return "\n".join(lines) + "\n"


def as_ctm(transcript: TimedTranscript) -> str:
    """`file channel start duration word confidence` a line; the file is the label, spaces as `_`."""
    name = "_".join((transcript.label or Path(transcript.name).stem).split())
    return "".join(
        f"{name} 1 {w.start_seconds:.3f} {(w.end - w.start) / SAMPLE_RATE:.3f} {w.text} {w.confidence:.3f}\n"
        for w in transcript.words
    )


FORMATS: dict[str, tuple[str, Callable[[TimedTranscript], str]]] = {
    "text": (".txt", as_text),
    "json": (".json", as_json),
    "srt": (".srt", as_srt),
    "vtt": (".vtt", as_vtt),
    "textgrid": (".TextGrid", as_textgrid),
    "ctm": (".ctm", as_ctm),
}
"""Name -> (suffix of a file, function)."""
WITH_CONFIDENCE = frozenset(["json", "ctm"])
"""Formats that hold confidences."""
ONE_A_LINE = ("text", "json", "ctm")
"""Formats in which many recordings can follow one another."""


def _clock(milliseconds: int, mark: str) -> str:
    """`01:02:03,004`."""
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{mark}{rest:03d}"


def _exact(num_samples: int) -> str:
    """Seconds with every digit that a sample has: neighbouring intervals must meet to the last one."""
    return f"{num_samples / SAMPLE_RATE:.7f}".rstrip("0").rstrip(".")
