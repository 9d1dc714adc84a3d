"""Scores of overlapping splits: what a larger split has found holds for every smaller one within it.

Each utterance is decoded once with the same weights. A published test set that is a part of another one (TIMIT's core
test set within the full one) is read off.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from data.utterance import Splits
from trainer.scoring.evaluate import EvalSet
from trainer.scoring.scores import Scores


def score_splits(
    splits: Splits, wanted: Sequence[str], eval_sets: Mapping[str, EvalSet], score: Callable[[EvalSet], Scores]
) -> list[Scores]:
    """Scores of the splits `wanted`, in their order. `score` is called once for each that lies within no other one."""
    widest = {split: [split, *(s for s in splits.around(split) if s in wanted)][-1] for split in wanted}
    whole = {split: score(eval_sets[split]) for split in dict.fromkeys(widest.values())}
    return [
        _named(splits, whole[split] if widest[split] == split else part_of(whole[widest[split]], eval_sets[split]))
        for split in wanted
    ]


def part_of(whole: Scores, part: EvalSet) -> Scores:
    """The scores of `part`, all of whose utterances are in `whole`. Its time is its share of the audio."""
    known = {h.id: h for h in whole.hypotheses}
    ids = [example.utterance.id for example in part.examples]
    hypotheses = tuple(known[i] for i in ids)
    audio = sum(h.seconds or 0.0 for h in hypotheses)
    share = audio / whole.num_audio_seconds if whole.num_audio_seconds else 0.0
    failures = {i: whole.failures[i] for i in ids if i in whole.failures}
    return replace(
        whole,
        split=part.split,
        hypotheses=hypotheses,
        seconds=share * whole.seconds,
        num_audio_seconds=audio,
        failures=failures,
        followed=(),
    )


def _named(splits: Splits, scores: Scores) -> Scores:
    return replace(scores, protocol=splits.protocol(scores.split, len(scores.hypotheses)))
