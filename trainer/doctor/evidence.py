"""How far an utterance stands out from its corpus, in one unit for every figure.

Most corpora have a few utterances that are hard and not wrong. Where their figures fall off like an exponential, nine
in ten lie below one unit, 98 in a hundred below two, and all but a few in 100,000 below six.
"""

from __future__ import annotations

import math

import numpy as np


def standing_out(values: np.ndarray, least: float) -> np.ndarray:
    """float64 (N,): how far each of `values` lies above the median, in units of what the upper decile lies above it.

    `least`: what a unit is at least, so that a corpus where all are alike has no outliers. NaN stays; inf counts as the
    highest finite value does. Where more than a tenth of a corpus is wrong, the unit grows, and less stands out.
    """
    found = np.asarray(values, np.float64).copy()
    finite = found[np.isfinite(found)]
    if len(finite) == 0:
        return np.full(len(found), np.nan)
    found[np.isposinf(found)] = finite.max()
    middle, upper = np.quantile(finite, [0.5, 0.9])
    return (found - middle) / max(upper - middle, least)


def strength(out: float) -> float:
    """0 to 1: how suspect it is to stand out by `out` units.

    >>> [round(strength(out), 2) for out in (0, 1, 2, 3, 6, 12)]
    [0.0, 0.0, 0.28, 0.49, 0.81, 0.97]
    """
    return 0.0 if math.isnan(out) or out <= 1 else 1 - math.exp(-(out - 1) / 3)


def together(strengths: list[float]) -> float:
    """0 to 1: how suspect it is to show several things, each as if the others were not there."""
    return 1 - math.prod(1 - strength for strength in strengths)
