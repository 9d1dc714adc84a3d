"""Phones in the place of words: the options of a corpus that has .PHN files, and whether such a file can be trusted."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data.config import CorpusConfig, option
from data.plural import counted
from data.text.phones import PHONE_SETS
from data.text.units import TextUnits
from data.utterance import Segment
from trainer.errors import CorpusError

LABELS = frozenset(PHONE_SETS["phones61"])


@dataclass(frozen=True, kw_only=True)
class PhoneConfig(CorpusConfig, abc.ABC):
    """The options of a corpus with .PHN files."""

    units: TextUnits = option("words", common=True, free=True)  # noqa: RUF009
    """What is recognised: the words of .TXT, or the phones of .PHN in 61, 48 or 39 classes, scored in 39."""

    def problem(self) -> str:
        if self.units in ("words", *PHONE_SETS):
            return super().problem()
        choices = ", ".join(["words", *PHONE_SETS])
        return (
            f"--corpus.units {self.units}: this corpus has words in .TXT and TIMIT's phones in .PHN, so give {choices}"
        )


def check_phones(path: Path, phones: Sequence[Segment], num_samples: int | None) -> str:
    """What is odd about a .PHN file's segments, the first of it with file and line; empty if nothing is.

    Odd are times that leave a gap, overlap, begin behind 0 or end a little behind the audio's `num_samples`: what was
    said, and in which order, is plain all the same. Audio behind the last phone is the rule in TIMIT.

    CorpusError, with file and line, where that is not plain: each phone must have one of TIMIT's 61 labels, end after
    its beginning, begin behind the beginning of the one before it, and within the audio. `num_samples` None: how long
    the audio is, is not known.
    """
    if not phones:
        raise CorpusError(f"{path}:1: the file has no phone. {_REMEDY}")
    odd = ""
    for i, phone in enumerate(phones):
        before = phones[i - 1] if i else None
        wrong = _wrong(phone, before, num_samples)
        what = wrong or (not odd and _odd(phone, before, num_samples))
        if not what:
            continue
        said = f"{path}:{_line_number(path, i)}: '{phone.start} {phone.end} {phone.label}' {what}"
        if wrong:
            raise CorpusError(f"{said}. {_REMEDY}")
        odd = said
    return odd


def describe_odd(odd: Sequence[str]) -> str:
    """A line for what `check_phones` has found odd in several files; empty where there is none."""
    if not odd:
        return ""
    files = counted(len(odd), ".PHN file")
    return (
        f"times leave gaps, overlap, begin behind 0 or end behind the audio in {files}, "
        f"whose phones are read all the same; the first: {odd[0]}"
    )


_REMEDY = "Mend it, or take the sentence out and give --corpus.allow-incomplete; --corpus.units words does not need it."


def _wrong(phone: Segment, before: Segment | None, num_samples: int | None) -> str:
    if phone.label not in LABELS:
        return f"has the label {phone.label[:20]!r}, which is none of TIMIT's 61 phones"
    if phone.end <= phone.start:
        return "does not end after its beginning"
    if before is not None and phone.start <= before.start:
        return f"begins no later than the phone before it, which begins at {before.start}"
    if num_samples is not None and phone.start >= num_samples:
        return f"lies behind the audio, which has {num_samples} samples"
    return ""


def _odd(phone: Segment, before: Segment | None, num_samples: int | None) -> str:
    end = before.end if before is not None else 0
    if phone.start != end:
        how = "overlaps" if phone.start < end else "leaves a gap behind"
        return f"{how} the phone before it, which ends at {end}" if before is not None else "does not begin at 0"
    if num_samples is not None and phone.end > num_samples:
        return f"ends behind the audio, which has {num_samples} samples"
    return ""


def _line_number(path: Path, i: int) -> int:
    """The number of the line that holds phone `i`; blank lines count."""
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    return [number for number, line in enumerate(lines, 1) if line.strip()][i]
