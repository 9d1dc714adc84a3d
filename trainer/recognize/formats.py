"""A transcript as text, JSON, SRT, WebVTT, Praat's TextGrid or NIST's CTM. Strings: nothing is written here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from data import strict_json
from data.utterance import SAMPLE_RATE
from trainer.recognize.subtitles import cues
from trainer.recognize.textgrid import interval_tier, textgrid
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
        **({} if transcript.channel is None else {"channel": transcript.channel}),
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
    words = [(word.start, word.end, word.text) for word in transcript.words]
    return textgrid([interval_tier("words", words, transcript.num_samples)], transcript.num_samples)


def as_ctm(transcript: TimedTranscript) -> str:
    """`file channel start duration word confidence` a line; the file is the label, spaces as `_`."""
    name = "_".join((transcript.label or Path(transcript.name).stem).split())
    file = f"{name} {transcript.channel or 1}"
    return "".join(
        f"{file} {w.start_seconds:.3f} {(w.end - w.start) / SAMPLE_RATE:.3f} {w.text} {w.confidence:.3f}\n"
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
