"""What training and evaluation share and should not: speakers and recordings."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence

from data.audio.segments import FILE_BYTES
from data.examples.example import Example
from data.examples.table import ExampleTable, named_by_all, speakers_in
from data.plural import counted


def find_leaks(train: Sequence[Example], evaluation: Mapping[str, Sequence[Example]]) -> list[str]:
    """One line for each kind of leak of each split, with counts and the first names; none is an empty list.

    The same recording is found by its bytes, so only where the audio was stored. Two parts of a recording are the
    same where they overlap; parts that do not are told of too, since voice and room are the same, and so are its
    channels, which hear each other.
    """
    speakers = speakers_in(train)
    scored = {_file(e) for examples in evaluation.values() for e in examples if e.digest}
    recordings = _Recordings(train.of_sources(scored) if isinstance(train, ExampleTable) else train)
    leaks = []
    for split, examples in evaluation.items():
        of_split = speakers_in(examples)
        if shared := sorted(of_split & speakers):
            who = f"{len(shared)} of {_who_are(len(of_split), 'speaker', len(shared))}"
            leaks.append(f"{split}: {who} also in training ({_first(shared)})")
        copies, others = [], []
        for e in examples:
            if (same := recordings.overlapping(e)) is not None:
                copies.append(f"{e.utterance.id} = {same}")
            elif (other := recordings.other_part(e)) is not None:
                others.append(f"{e.utterance.id}, {other}")
        if copies:
            where = f"{len(copies)} of {_who_are(len(examples), 'recording', len(copies))}"
            leaks.append(f"{split}: {where} also in training ({_first(copies)})")
        if others:
            where = f"{len(others)} of {_who_are(len(examples), 'utterance', len(others))}"
            leaks.append(
                f"{split}: {where} of recordings that training has other parts or channels of ({_first(others)})"
            )
    return leaks


def _who_are(total: int, what: str, number: int) -> str:
    return f"{counted(total, what)} {'is' if number == 1 else 'are'}"


_Part = tuple[float, float, str]
"""First frame, the one behind the last, the utterance's id."""


class _Recordings:
    """What training holds of each recording."""

    def __init__(self, train: Iterable[Example]) -> None:
        parts: dict[str, list[_Part]] = {}
        self.files: dict[str, str] = {}
        """An utterance's id, by the file of which it is a part or a channel."""
        for e in train:
            if e.digest:
                sound, first, last = _part(e)
                parts.setdefault(sound, []).append((first, last, e.utterance.id))
                self.files.setdefault(_file(e), e.utterance.id)
        self.parts = {sound: sorted(of_sound) for sound, of_sound in parts.items()}
        # of each part and those before it: which ends last
        self.latest = {sound: list(itertools.accumulate(of_sound, _later)) for sound, of_sound in self.parts.items()}

    def overlapping(self, example: Example) -> str | None:
        """An utterance of training that has a sample of this one's."""
        sound, first, last = _part(example)
        if sound not in self.parts:
            return None
        begun = bisect.bisect_left(self.parts[sound], last, key=lambda part: part[0])
        if begun and self.latest[sound][begun - 1][1] > first:
            return self.latest[sound][begun - 1][2]
        return None

    def other_part(self, example: Example) -> str | None:
        """An utterance of training that is another part or channel of this one's recording."""
        return self.files.get(_file(example))


def _later(a: _Part, b: _Part) -> _Part:
    return a if a[1] >= b[1] else b


def _part(example: Example) -> tuple[str, float, float]:
    """(Digest of the file's channel, or of their mean; first frame, the one behind the last); a whole file has no end
    here."""
    sound, _, frames = example.digest.partition(":")
    first, _, last = frames.partition("-")
    return sound, float(first or 0), float(last or math.inf)


def _file(example: Example) -> str:
    """The beginning of its digest that all channels of its file share."""
    return example.digest.partition(":")[0][: 2 * FILE_BYTES]


def describe_leaks(
    leaks: Sequence[str], train: Sequence[Example], evaluation: Mapping[str, Sequence[Example]]
) -> list[str]:
    """`leaks`, as `find_leaks` gave them, then what was not found and what could not be looked for, a clause each."""
    everything = [train, *evaluation.values()]
    compared = all(map(_is_compared, everything))
    told = list(leaks)
    if not leaks:
        what = "no speaker and no recording" if compared else "no speaker"
        told.append(f"{what} was found in both training and evaluation")
    if not compared:
        told.append("recordings were not compared (--corpus.no-store)")
    if not all(map(named_by_all, everything)):
        told.append("the corpus does not name every speaker")
    return told


def _is_compared(examples: Sequence[Example]) -> bool:
    """Whether all recordings have a digest; what does not decode is nowhere trained on."""
    if isinstance(examples, ExampleTable):
        return examples.has_digests
    return all(e.digest for e in examples if e.num_samples > 0)


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
