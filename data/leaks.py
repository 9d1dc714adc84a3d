"""What training and evaluation share and should not: speakers and recordings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from data.examples import Example


def find_leaks(train: Sequence[Example], evaluation: Mapping[str, Sequence[Example]]) -> list[str]:
    """One line for each kind of leak of each split, with counts and the first names; none is an empty list.

    The same recording is found by its bytes, so only where the audio was stored.
    """
    speakers = {e.utterance.speaker for e in train} - {None}
    recordings = {e.digest: e.utterance.id for e in train if e.digest}
    leaks = []
    for split, examples in evaluation.items():
        shared = sorted({e.utterance.speaker for e in examples if e.utterance.speaker in speakers} - {None})  # type: ignore[type-var]
        if shared:
            total = len({e.utterance.speaker for e in examples} - {None})
            leaks.append(f"{split}: {len(shared)} of {total} speakers are also in training ({_first(shared)})")
        copies = [f"{e.utterance.id} = {recordings[e.digest]}" for e in examples if e.digest in recordings]
        if copies:
            where = f"{len(copies)} of {len(examples)} recordings"
            leaks.append(f"{split}: {where} are also in training ({_first(copies)})")
    return leaks


def describe_leaks(
    leaks: Sequence[str], train: Sequence[Example], evaluation: Mapping[str, Sequence[Example]]
) -> list[str]:
    """`leaks`, as `find_leaks` gave them, then what was not found and what could not be looked for, a clause each."""
    everything = [*train, *(e for examples in evaluation.values() for e in examples)]
    compared = all(e.digest for e in everything if e.num_samples > 0)  # what does not decode is nowhere trained on
    told = list(leaks)
    if not leaks:
        what = "no speaker and no recording" if compared else "no speaker"
        told.append(f"{what} was found in both training and evaluation")
    if not compared:
        told.append("recordings were not compared (--corpus.no-store)")
    if any(e.utterance.speaker is None for e in everything):
        told.append("the corpus does not name every speaker")
    return told


def _first(names: Sequence[str | None]) -> str:
    return ", ".join(map(str, names[:3])) + (", ..." if len(names) > 3 else "")
