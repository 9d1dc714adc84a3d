"""How fast each utterance is spoken beside what its number of units takes in this corpus, and this speaker needs.

seconds of speech = what so many units usually take x what this speaker usually takes for it / ratio
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from trainer.signs.sign import Sign

MAX_RATIO = 3.0
"""Of the median of units a second: nobody speaks three times as fast; the audio is cut, or the text is another's."""
MAX_SURPLUS_SECONDS, MIN_RATIO = 10.0, 0.25
"""More audio than the text takes at a quarter of the median rate, and by ten seconds: most speech has no text."""
FAR, VERY_FAR = 4.0, 8.0
"""Standard deviations, as one estimates them from the median of the differences."""
FAR_RATIO, VERY_FAR_RATIO = 1.25, 1.8
"""Times the usual pace. A corpus that a machine spoke has hardly any deviation: what is less than this is no matter."""
ENOUGH_UNITS = 8
"""Of a transcript: the pace of a shorter one says little. It is never more than possible, unless it is MAX_RATIO."""
ENOUGH = 20
"""Utterances from which on a usual pace is known."""
OWN = 10
"""Utterances of a speaker from which on their own is."""
_BINS = 40


class Pace:
    """The pace of all utterances of a corpus."""

    def __init__(self, seconds: np.ndarray, speech: np.ndarray, units: np.ndarray, speakers: np.ndarray) -> None:
        """(n,) each: seconds of the audio, of it from the first to the last speech, units of the transcript, and a
        number for the speaker, negative where unknown. Those without audio or units have a pace of 1."""
        self.seconds, self.units = seconds, units
        self.is_known = (speech > 0) & (units > 0)
        self.ratios = np.ones(len(seconds), np.float32)
        self.scores = np.zeros(len(seconds), np.float32)
        self.rate = 0.0
        known = np.flatnonzero(self.is_known)
        if len(known) < ENOUGH:
            return
        self.rate = float(np.median(units[known] / seconds[known]))
        excess = np.log(speech[known]) - _usual(np.log(units[known]), np.log(speech[known]))
        excess -= _speakers_own(excess, speakers[known])
        spread = np.exp(_usual(np.log(units[known]), np.log(np.abs(excess) + 1e-3))) * 1.4826
        self.ratios[known] = np.exp(-excess)
        self.scores[known] = -excess / np.maximum(spread, 0.04)

    def signs(self, i: int) -> Iterator[Sign]:
        """Of utterance i: at most one."""
        if not self.rate or not self.is_known[i]:
            return
        seconds, units = float(self.seconds[i]), int(self.units[i])
        ratio, score = float(self.ratios[i]), float(self.scores[i])
        own, is_long = units / seconds, units >= ENOUGH_UNITS
        what = f"{units} units in {seconds:.1f} s, the median is {self.rate:.1f} a second"
        if own > MAX_RATIO * self.rate or (is_long and ratio >= VERY_FAR_RATIO and score >= VERY_FAR):
            yield Sign("too fast", f"{what}; {ratio:.1f} times the usual pace for this length", "likely")
        elif ratio >= FAR_RATIO and score >= FAR:
            yield Sign("too fast", f"{what}; {ratio:.1f} times the usual pace for this length", "possible")
        elif own < MIN_RATIO * self.rate and seconds - units / self.rate > MAX_SURPLUS_SECONDS:
            yield Sign("too slow", what, "likely")
        elif is_long and 1 / ratio >= VERY_FAR_RATIO and score <= -VERY_FAR:
            yield Sign("too slow", f"{what}; {ratio:.2g} times the usual pace for this length", "likely")
        elif 1 / ratio >= FAR_RATIO and score <= -FAR:
            yield Sign("too slow", f"{what}; {ratio:.2g} times the usual pace for this length", "possible")


def _usual(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The median of y at each x: medians of groups of neighbours in x, and straight lines between them."""
    order = np.argsort(x, kind="stable")
    groups = np.array_split(order, max(1, min(_BINS, len(x) // ENOUGH)))
    centres = np.array([np.mean(x[group]) for group in groups])
    medians = np.array([np.median(y[group]) for group in groups])
    distinct, inverse = np.unique(centres, return_inverse=True)
    joint = np.array([np.median(medians[inverse == k]) for k in range(len(distinct))])
    if len(distinct) == 1:
        return np.full(len(x), joint[0])
    slopes = np.polyfit(distinct, joint, 1)
    below, above = x < distinct[0], x > distinct[-1]
    found = np.interp(x, distinct, joint)  # beyond the outer groups by the slope of all
    found[below] += slopes[0] * (x[below] - distinct[0])
    found[above] += slopes[0] * (x[above] - distinct[-1])
    return found


def _speakers_own(excess: np.ndarray, speakers: np.ndarray) -> np.ndarray:
    """(n,): the median of each utterance's speaker; of those with few utterances 0."""
    own = np.zeros(len(excess))
    for _, group in by_speaker(speakers):
        if len(group) >= OWN:
            own[group] = np.median(excess[group])
    return own


def by_speaker(speakers: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """(Speaker, positions) of each that is known: of `speakers`, int (n,), negative ones are not."""
    order = np.argsort(speakers, kind="stable")
    order = order[np.count_nonzero(speakers < 0) :]
    ends = np.flatnonzero(np.diff(speakers[order], append=-1)) + 1
    for first, end in zip([0, *ends.tolist()], ends.tolist(), strict=False):
        yield int(speakers[order[first]]), order[first:end]
