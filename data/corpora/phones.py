"""Phones in the place of words: the options of a corpus that has .PHN files, and whether such a file can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data.config import option
from data.text.phones import PHONE_SETS, PhoneScoring, RecognisedUnits, Silences
from data.utterance import Segment
from trainer.errors import CorpusError

LABELS = frozenset(PHONE_SETS["phones61"])


@dataclass(frozen=True, kw_only=True)
class PhoneOptions:
    """What a corpus with .PHN files can be asked for."""

    units: RecognisedUnits = option("words", common=True, free=True)  # noqa: RUF009
    """What is recognised: the words of .TXT, or the phones of .PHN in 61, 48 or 39 classes, scored in 39."""

    silences: Silences = option("kept", free=True)  # noqa: RUF009
    """How the phone error rate counts silences (closures and pauses too): kept, merged with neighbours, or removed."""

    def phone_scoring(self) -> PhoneScoring | None:
        """How phones are compared; None where the corpus' words are recognised."""
        return None if self.units == "words" else PhoneScoring(self.silences)


def refuse_contradictions(path: Path, phones: Sequence[Segment], num_samples: int | None) -> None:
    """CorpusError, with file and line, over what a .PHN file's segments cannot say of `num_samples` of audio.

    Each must have one of TIMIT's 61 labels, end after its beginning, and begin where the one before it ends.
    `num_samples` None: how long the audio is, is not known.
    """
    if not phones:
        raise CorpusError(f"{path}:1: the file has no phone. {_REMEDY}")
    for i, phone in enumerate(phones):
        before = phones[i - 1].end if i else phone.start
        what = _wrong(phone, before, num_samples)
        if what:
            line = f"'{phone.start} {phone.end} {phone.label}'"
            raise CorpusError(f"{path}:{_line_number(path, i)}: {line} {what}. {_REMEDY}")


_REMEDY = "Mend it, or take the sentence out and give --corpus.allow-incomplete; --corpus.units words does not need it."


def _wrong(phone: Segment, before: int, num_samples: int | None) -> str:
    if phone.label not in LABELS:
        return f"has the label {phone.label[:20]!r}, which is none of TIMIT's 61 phones"
    if phone.end <= phone.start:
        return "does not end after its beginning"
    if phone.start != before:
        how = "overlaps the phone before it" if phone.start < before else "leaves a gap behind the phone before it"
        return f"{how}, which ends at {before}"
    if num_samples is not None and phone.end > num_samples:
        return f"ends behind the audio, which has {num_samples} samples"
    return ""


def _line_number(path: Path, i: int) -> int:
    """The number of the line that holds phone `i`; blank lines count."""
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    return [number for number, line in enumerate(lines, 1) if line.strip()][i]
