"""Compare our SpecAugment masks with transformers', as distributions over many draws."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers.models.wav2vec2.modeling_wav2vec2 import _compute_mask_indices

from data.batches.specaugment import SpecAugment

NUM_DRAWS = 10_000


@dataclass(frozen=True)
class MaskCase:
    """One kind of utterance under one setting; lengths in frames."""

    prob: float
    span: int
    min_spans: int
    num_frames: int
    padded_to: int | None = None
    """Frames of its batch on transformers' side; None if it is alone."""

    @property
    def limit(self) -> int:
        """The largest number of frames that may be masked."""
        n, span = self.num_frames, self.span
        spans = max(math.ceil(self.prob * n / span), self.min_spans)
        return span * max(0, min(spans, n // span, n - span + 1))


CASES = (
    MaskCase(0.05, 10, 2, 153),
    MaskCase(0.05, 10, 2, 49),
    MaskCase(0.05, 10, 2, 15),
    MaskCase(0.05, 10, 2, 8, padded_to=153),
    MaskCase(0.05, 10, 2, 100, padded_to=153),
    MaskCase(0.05, 10, 0, 60),
    MaskCase(0.3, 5, 2, 60),
    MaskCase(0.65, 10, 0, 200),
)


@dataclass(frozen=True)
class MaskFigures:
    """Statistics of both sides, ours first."""

    share: tuple[float, float]
    """Mean masked share of the utterance."""
    run: tuple[float, float]
    """Mean length of a masked run (spans may touch or overlap); 0 without runs."""
    most: tuple[int, int]
    """Largest number of masked frames."""
    distance: float
    """Kolmogorov-Smirnov distance: the larger one of those of masked frames and of run lengths."""
    limit: int
    critical: float
    """If both sides draw alike, the distance exceeds this once in a thousand times."""

    @property
    def agrees(self) -> bool:
        return self.distance <= self.critical and max(self.most) <= self.limit


def compare_masks(case: MaskCase, num_draws: int = NUM_DRAWS) -> MaskFigures:
    """Draw on both sides and compare."""
    spec = SpecAugment(0, case.prob, case.span, case.min_spans, 0.0, 1, 0)
    ours = _draw(lambda i: spec.time_mask(case.num_frames, 42, 0, f"u{i}"), num_draws)
    np.random.seed(42)  # transformers draws from numpy's global state
    theirs = _draw(lambda i: _hf_mask(case), num_draws)
    counts = [[int(mask.sum()) for mask in masks] for masks in (ours, theirs)]
    runs = [[n for mask in masks for n in run_lengths(mask)] for masks in (ours, theirs)]
    distances, criticals = [ks_distance(*counts)], [ks_critical(num_draws, num_draws)]
    if all(runs):
        distances.append(ks_distance(*runs))
        # the runs of one mask depend on one another, so at most one for each mask counts as independent
        criticals.append(ks_critical(*(min(len(r), num_draws) for r in runs)))
    share = tuple(float(np.mean(c)) / case.num_frames for c in counts)
    mean_run = tuple(float(np.mean(r)) if r else 0.0 for r in runs)
    most = (max(counts[0]), max(counts[1]))
    return MaskFigures(share, mean_run, most, max(distances), case.limit, max(criticals))  # type: ignore[arg-type]


def _draw(mask: Callable[[int], np.ndarray], num_draws: int) -> list[np.ndarray]:
    return [mask(i) for i in range(num_draws)]


def _hf_mask(case: MaskCase) -> np.ndarray:
    """transformers' mask of the utterance's own frames."""
    if case.padded_to is None:
        return _compute_mask_indices((1, case.num_frames), case.prob, case.span, min_masks=case.min_spans)[0]
    attention_mask = torch.zeros(2, case.padded_to, dtype=torch.long)
    attention_mask[0, : case.num_frames] = 1
    attention_mask[1] = 1
    shape = (2, case.padded_to)
    masks = _compute_mask_indices(shape, case.prob, case.span, attention_mask=attention_mask, min_masks=case.min_spans)
    return masks[0, : case.num_frames]


def run_lengths(mask: np.ndarray) -> list[int]:
    """Lengths of the runs of True.

    >>> run_lengths(np.array([1, 1, 0, 1], dtype=bool))
    [2, 1]
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
    return (edges[1::2] - edges[::2]).tolist()


def ks_distance(a: Sequence[int], b: Sequence[int]) -> float:
    """The largest difference between the two samples' distribution functions.

    >>> ks_distance([1, 1, 2, 2], [2, 2, 2, 2])
    0.5
    """
    values = np.union1d(a, b)
    below = [np.searchsorted(np.sort(sample), values, side="right") / len(sample) for sample in (a, b)]
    return float(np.abs(below[0] - below[1]).max())


def ks_critical(n: int, m: int) -> float:
    """The distance that two samples of one distribution exceed with probability 0.001 (less if values are equal)."""
    return 1.95 * ((n + m) / (n * m)) ** 0.5
