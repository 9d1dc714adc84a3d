"""What the losses of training tell of an utterance: Swayamdipta et al. 2020 (arXiv 2009.10795), made robust for CTC.

There an example has a mean over the epochs, a spread, and an epoch from which on it is learnt. A wrong label has a low
confidence throughout, or is learnt last. Here the loss is in nats per unit. It is noisier for a short transcript than
for a long one, and it falls from epoch to epoch for all of them. So each loss is compared with those of utterances of
about as many units in the same pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data.text.normalised import ArrowTexts
from data.text.utf8 import in_utf8
from trainer.rundir.dynamics.files import Dynamics, by_pass

NEIGHBOURS = 200
"""Utterances of like length that a loss is compared with; a smaller corpus is compared as a whole."""
FIRST = 0.9
"""A pass counts if the corpus' median loss in it is at most this share of the highest one: before that the model tells
nothing apart."""
LEARNT = 0.25
"""An utterance is learnt once its loss stays below this share of the median loss of the first pass."""
HIGH = 0.95
"""A loss is high above that of so many of its neighbours."""


@dataclass(frozen=True)
class Learning:
    """What the losses of N utterances in K passes tell. NaN, and 0 passes, where an utterance was never visited."""

    losses: np.ndarray
    """float32 (K, N): nats per unit; NaN where not visited, inf where the loss was none."""
    excess: np.ndarray
    """float32 (N,): nats per unit above the median of its neighbours, summed over the passes that count and divided by
    the sum of those medians. 1: its losses are twice as high as others'."""
    high: np.ndarray
    """int32 (N,): in how many of the passes that count its loss was among the highest of its neighbours."""
    visits: np.ndarray
    """int32 (N,): in how many of these passes it was visited."""
    learnt: np.ndarray
    """int32 (N,): the pass, from 1, from which on its loss stayed low; 0: never."""
    learnt_by_half: int
    """The pass from which on half of the utterances are learnt; 0: none."""


def losses_of(dynamics: Dynamics, ids: Sequence[str], *, training: bool = True) -> tuple[np.ndarray, int]:
    """(float32 (K, N), of `ids` in each pass; how many of them the run has never visited).

    A pass is an epoch of `training`, or one of the evaluations during it. A last pass that has not come to most of them
    yet is left out, if it is not the only one.
    """
    known, records = (dynamics.ids, dynamics.visits) if training else (dynamics.scored_ids, dynamics.scores)
    own = {utterance: row for row, utterance in enumerate(_plain(known))}
    rows = np.array([own.get(utterance, -1) for utterance in _plain(ids)], np.int64)
    passes, losses = by_pass(records, "epoch" if training else "step", len(known))
    found = np.full((len(passes), len(rows)), np.nan, np.float32)
    found[:, rows >= 0] = losses[:, rows[rows >= 0]]
    if len(found) > 1 and np.isnan(found[-1]).mean() > 0.5:
        found = found[:-1]
    return found, int(np.isnan(found).all(0).sum())


def _plain(ids: Sequence[str]) -> Sequence[str]:
    """Ids as the file of dynamics spells them: a lone surrogate stands there escaped."""
    if isinstance(ids, ArrowTexts):
        return ids
    return [in_utf8(i) for i in ids]


def learning(losses: np.ndarray, lengths: np.ndarray) -> Learning:
    """What (K, N) losses of utterances with `lengths` (N,) units tell.

    An infinite loss counts as the highest finite one of its pass.
    """
    k, n = losses.shape
    bounded = losses.astype(np.float64)
    for of_pass in bounded:
        finite = of_pass[np.isfinite(of_pass)]
        of_pass[np.isposinf(of_pass)] = finite.max() if len(finite) else np.nan
    seen = ~np.isnan(bounded)
    medians = np.array(
        [np.median(row[there]) if there.any() else np.nan for row, there in zip(bounded, seen, strict=True)]
    )
    start = np.nanmax(medians) if k and not np.isnan(medians).all() else np.nan
    counts = medians <= FIRST * start
    if not counts.any():
        counts = ~np.isnan(medians)
    order = np.argsort(lengths, kind="stable")
    high, above = np.zeros(n, np.int32), np.zeros(n)
    cost = np.zeros(n)
    for of_pass, there in zip(bounded[counts], seen[counts], strict=True):
        own = order[there[order]]
        middle, top = _neighbours(of_pass[own], 0.5), _neighbours(of_pass[own], HIGH)
        above[own] += of_pass[own] - middle
        cost[own] += middle
        high[own] += of_pass[own] > top
    visits = seen[counts].sum(0).astype(np.int32)
    with np.errstate(invalid="ignore", divide="ignore"):
        excess = np.where(visits > 0, above / np.maximum(cost, 1e-6), np.nan)
    learnt = _learnt(losses, LEARNT * start)
    found = np.sort(learnt[learnt > 0])
    half = int(found[(n + 1) // 2 - 1]) if len(found) >= (n + 1) // 2 and n else 0
    return Learning(losses, excess.astype(np.float32), high, visits, learnt, half)


def _neighbours(values: np.ndarray, quantile: float) -> np.ndarray:
    """The quantile of each of `values`' neighbourhoods: NEIGHBOURS of them around it, in blocks of a quarter of that.

    The values are in the order in which they are neighbours.
    """
    n = len(values)
    step = NEIGHBOURS // 4
    found = np.empty(n)
    for begin in range(0, n, step):
        first = max(0, min(begin + step // 2 - NEIGHBOURS // 2, n - NEIGHBOURS))
        found[begin : begin + step] = np.quantile(values[first : first + NEIGHBOURS], quantile)
    return found


def _learnt(losses: np.ndarray, low: float) -> np.ndarray:
    """int32 (N,): the pass, from 1, from which on (K, N) losses stay at most `low`; 0: never, or never visited."""
    k = len(losses)
    is_high = losses > low  # NaN is not: a pass without a visit changes nothing
    last = np.where(is_high.any(0), k - np.argmax(is_high[::-1], 0), 0)
    learnt = np.where(last < k, last + 1, 0)
    return np.where(np.isnan(losses).all(0), 0, learnt).astype(np.int32)
