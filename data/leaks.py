"""What training and evaluation share and should not: speakers and recordings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from data.prepare import Example


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


def _first(names: Sequence[str | None]) -> str:
    return ", ".join(map(str, names[:3])) + (", ..." if len(names) > 3 else "")
