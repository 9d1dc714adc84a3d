"""Warnings when training makes no progress: pure functions of the records so far, each with one line of advice.

Records are those of metrics.jsonl: dicts with "step" and "train/..." or "eval/..." keys, in the order of writing. Each
alarm has a name, so that the caller can give it only once.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from trainer.scoring.metrics import UNITS

Record = Mapping[str, Any]

ALL_BLANK = 0.995
"""A model with at least this share of blank frames writes nothing."""
LOGS_OF_BLANKS = 10
"""This many logged training steps in a row must write nothing, where there are no evaluations."""
WINDOW = 1000
"""Only this many latest records are searched for evaluations, since the search runs at every log."""
PLATEAU = (0.85, 1.2)
"""A loss within these multiples of the unigram entropy shows that only the units' frequencies were learnt."""
STILL_FALLING = 0.03
"""Relative gain from the first half of the window to its second that counts as progress."""
EXPLODING = 20.0
"""A gradient norm of this many times the usual one is an alarm."""


def alarms(records: Sequence[Record], total_steps: int, unigram_entropy: float) -> dict[str, str]:
    """Name -> advice, for every alarm that the latest records raise."""
    found = {
        "blank": all_blank(records, total_steps),
        "flat": flat_loss(records, total_steps, unigram_entropy),
        "norm": exploding_norm(records),
    }
    return {name: advice for name, advice in found.items() if advice}


def patience_steps(total_steps: int) -> int:
    """Steps after which something should have been learnt: a fifth of the plan, at least 300 and at most 1000.

    The reference run, of 2900 steps, writes only blanks at step 200 and has a WER of 72 % at step 300.
    """
    return max(300, min(1000, total_steps // 5))


def all_blank(records: Sequence[Record], total_steps: int) -> str | None:
    """Advice when two evaluations in a row found only blanks, after the steps in which this is normal.

    Without evaluations LOGS_OF_BLANKS logged training steps are needed, since masks and dropout disturb these.
    """
    recent = records[-WINDOW:]
    shares = [
        (r["step"], r.get("eval/blank_share") or 0.0)
        for r in recent
        if any(f"eval/{units.main}" in r for units in UNITS.values())
    ]
    needed = 2
    if not shares:
        shares = [(r["step"], r.get("train/blank_share") or 0.0) for r in recent if "train/loss" in r]
        needed = LOGS_OF_BLANKS
    latest = shares[-needed:]
    if len(latest) < needed or min(share for _, share in latest) < ALL_BLANK:
        return None
    if latest[0][0] < patience_steps(total_steps):
        return None
    step, share = latest[-1]
    return (
        f"step {step}: the model still writes only blanks ({100 * share:.1f} % of frames). Give "
        "it more steps or a longer --optim.warmup-steps; if that does not help, try --optim.lr 3 times higher or lower."
    )


def flat_loss(records: Sequence[Record], total_steps: int, unigram_entropy: float) -> str | None:
    """Advice when the loss stays where the units' frequencies alone bring it: nothing is learnt from the audio."""
    steps = patience_steps(total_steps)
    logged = [r for r in _latest(records[-2 * steps :], "train/loss", steps) if r["train/loss"] is not None]
    if len(logged) < 4 or logged[-1]["step"] - logged[0]["step"] < 0.7 * steps:
        return None
    losses = [r["train/loss"] for r in logged]
    first, second = statistics.mean(losses[: len(losses) // 2]), statistics.mean(losses[len(losses) // 2 :])
    low, high = PLATEAU[0] * unigram_entropy, PLATEAU[1] * unigram_entropy
    if not (low <= first <= high and low <= second <= high) or first - second > STILL_FALLING * first:
        return None
    return (
        f"step {logged[-1]['step']}: the loss stays at {second:.2f}, what the units' frequencies alone give "
        f"({unigram_entropy:.2f} nats): nothing is learnt from the audio. Check that transcripts belong to their files "
        "(TensorBoard's tabs Audio and Text), then try --optim.lr 3 times lower or higher."
    )


def exploding_norm(records: Sequence[Record]) -> str | None:
    """Advice when the last three gradient norms are far above those before them."""
    norms = [r["train/grad_norm"] for r in records[-200:] if "train/grad_norm" in r]
    norms = [math.inf if norm is None else norm for norm in norms]
    before, latest = norms[-33:-3], norms[-3:]
    if len(before) < 10:
        return None
    usual = statistics.median(before)
    if not min(latest) > EXPLODING * usual or not min(latest) > 1:  # a tiny norm may grow and still be small
        return None
    return (
        f"step {records[-1]['step']}: the gradient norm has been above {min(latest):.3g} for three logs; "
        f"{usual:.3g} was usual. Start again with a lower --optim.lr or a longer --optim.warmup-steps."
    )


def unigram_entropy(counts: Counter[int]) -> float:
    """Entropy of the units' frequencies, in nats: about the loss of a model that ignores the audio.

    >>> round(unigram_entropy(Counter([0, 1, 2, 3])), 4)  # log(4)
    1.3863
    """
    total = sum(counts.values())
    return -sum(n / total * math.log(n / total) for n in counts.values())


def _latest(records: Sequence[Record], key: str, steps: int) -> list[Record]:
    """The records with `key` of the last `steps` steps, oldest first."""
    with_key = [r for r in reversed(records) if key in r]
    return [*itertools.takewhile(lambda r: r["step"] > with_key[0]["step"] - steps, with_key)][::-1]
