"""One score for each training utterance, from all that was seen of it, and the reasons in words.

losses in training, own words, their loss -> how far each stands out (evidence) -> signs with a weight
those that stand out -> alignment, other transcripts                             -> signs with a weight
signs without a model (trainer.signs)                                            -> their certainty is their weight
                                                                         all weights of an utterance -> its score
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from trainer.doctor.dynamics import Learning
from trainer.doctor.evidence import standing_out, strength, together
from trainer.doctor.other_transcripts import FEW_WORDS, Swap
from trainer.doctor.own_words import OwnWords
from trainer.doctor.stretches import Leftovers
from trainer.signs.sign import Certainty, Sign

LEAST_EXCESS, LEAST_RATE, LEAST_LOSS = 0.5, 0.05, 0.1
"""What one unit of standing out is at least: of the usual loss; of the characters; nats per unit."""
LIKELY, CERTAIN = 3.0, 6.0
"""Standing out by so many units is likely, or as good as certainly, a fault."""
CLOSE = 0.25
"""A transcript that another one fits certainly differs from what was written by at most this share."""
SHARE_HIGH = 0.8
"""What is certainly wrong had one of the highest losses of its neighbours in this share of its visits."""
WEIGHTS: dict[Certainty, float] = {"certain": 0.95, "likely": 0.6, "possible": 0.15}
"""How much a sign of this certainty counts that is not of the model."""
FEW_UNITS = 3
"""Fewer units an unsure model writes into a pause."""
NEAR = 0.15
"""Seconds between a word and an end of the audio that has been cut there."""
SLACK = 0.02
"""Seconds by which speech at an end may overlap the word beside it: a frame."""


@dataclass(frozen=True)
class Weighed:
    """A sign and what it adds to the score, 0 to 1."""

    sign: Sign
    weight: float


@dataclass(frozen=True)
class Seen:
    """What the model and its training tell of N utterances, in corpus order."""

    words: OwnWords
    """Of the earliest checkpoint that was used."""
    learning: Learning | None
    """None where the run kept no losses."""
    out: np.ndarray
    """float64 (N,): by how many units each stands out, all figures together."""
    out_learning: np.ndarray
    """float64 (N,): the same for its losses in training; NaN where there are none."""
    out_rate: np.ndarray
    """float64 (N,): the same for the characters that the model writes otherwise."""

    @classmethod
    def of(cls, words: OwnWords, learning: Learning | None) -> Seen:
        """What stands out, as the mean of the figures that are known."""
        rate, loss = standing_out(words.character_rates, LEAST_RATE), standing_out(words.losses, LEAST_LOSS)
        trained = np.full(len(rate), np.nan)
        if learning is not None:
            trained = standing_out(learning.excess, LEAST_EXCESS)
        now = np.nanmean([rate, loss], 0) if len(rate) else rate
        return cls(words, learning, np.where(np.isnan(trained), now, (now + trained) / 2), trained, rate)

    def suspects(self, most: int) -> list[int]:
        """Positions of those that stand out by more than one unit, at most `most`, the most suspect first."""
        order = np.argsort(-self.out, kind="stable")[:most]
        return [int(i) for i in order if self.out[i] > 1]


def weigh_dynamics(seen: Seen, i: int) -> list[Weighed]:
    """What the losses of training say of utterance `i`."""
    learning = seen.learning
    if learning is None or not seen.out_learning[i] >= 2:
        return []
    out, visits, high = float(seen.out_learning[i]), int(learning.visits[i]), int(learning.high[i])
    is_high = high >= SHARE_HIGH * visits
    certainty: Certainty = "certain" if out >= CERTAIN and is_high and visits >= 3 else _by(out)
    late = int(learning.learnt[i])
    parts = [f"its loss in training was {1 + learning.excess[i]:.1f} times that of others of its length"]
    if visits > 1:
        parts.append(f"it was among the highest 5 % in {high} of {visits} epochs")
    if learning.learnt_by_half and late != 1:
        when = f"learnt only from epoch {late} on" if late else "never learnt"
        parts.append(f"{when} (half of the corpus: from epoch {learning.learnt_by_half} on)")
    return [Weighed(Sign("high loss throughout" if is_high else "learnt late", "; ".join(parts), certainty), 0.0)]


def weigh_words(seen: Seen, i: int) -> list[Weighed]:
    """What the model's own words say of utterance `i`."""
    rate, out = float(seen.words.character_rates[i]), float(seen.out_rate[i])
    if out < 2 or rate == 0:
        return []
    written = seen.words.hypotheses[i]
    what = f"{seen.words.weights.said} writes {written!r}" if written else f"{seen.words.weights.said} writes nothing"
    return [Weighed(Sign("other words", f"{what}: {100 * rate:.0f} % of the text differs", _by(out)), 0.0)]


def weigh_swap(seen: Seen, i: int, swap: Swap, ids: Sequence[str], texts: Sequence[str]) -> list[Weighed]:
    """What it says of utterance `i` that its words match the transcript of another one."""
    other, text = ids[swap.position], texts[swap.position]
    differs = f"{100 * swap.rate:.0f} % of it differs, and {100 * swap.own_rate:.0f} % of its own transcript"
    whose = f"of {other}" if swap.num_owners == 1 else f"of {other} and {swap.num_owners - 1} more"
    what = f"what the model hears is the transcript {whose}, {text!r} ({differs})"
    if swap.is_mutual:
        what += f"; the recording of {other} fits this one's: the two are swapped"
    if swap.shift:
        rows = "row" if abs(swap.shift) == 1 else "rows"
        way = "later" if swap.shift > 0 else "earlier"
        what += f"; its neighbours' transcripts stand {abs(swap.shift)} {rows} {way} too: rows are shifted"
    is_sure = swap.is_mutual or swap.shift != 0 or (swap.rate <= CLOSE and seen.words.word_errors[i] > FEW_WORDS)
    is_sure &= seen.out[i] >= LIKELY and seen.words.word_errors[i] >= FEW_WORDS
    name = "swapped with another" if swap.is_mutual else "rows are shifted" if swap.shift else "another transcript"
    return [Weighed(Sign(name, what, "certain" if is_sure else "likely"), 0.9 if is_sure else 0.5)]


def weigh_leftovers(seen: Seen, i: int, found: Leftovers) -> list[Weighed]:
    """What the alignment of utterance `i` leaves over."""
    certainty: Certainty = "likely" if seen.out[i] >= LIKELY else "possible"
    if found.num_words and 2 * len(found.unheard) > found.num_words:
        unheard = f"{len(found.unheard)} of its {found.num_words} words are not"
        if len(found.unheard) == found.num_words:
            unheard = "none of its words is" if found.num_words > 1 else "its one word is not"
        what = f"{unheard} heard: is this its transcript?"
        signs = [Sign("words not heard", what, certainty)]
    else:
        signs = [*_added(found, certainty), *_missing(found, certainty)]
    return [Weighed(sign, 0.3 if certainty == "likely" else 0.1) for sign in signs]


def _added(found: Leftovers, certainty: Certainty) -> Iterator[Sign]:
    """Words of the transcript that are not heard, and how near the audio's end is."""
    for at in ("start", "end", "middle"):
        words = [(word, time) for k, word, time in found.unheard if _place(k, found) == at]
        if not words:
            continue
        text, time = " ".join(word for word, _ in words), words[0][1]
        rest, what = found.seconds - found.last, f"{text!r} is not heard"
        if at == "start" and found.first < NEAR:
            what += f": the audio begins {found.first:.2f} s before the first word that is"
        if at == "end" and rest < NEAR:
            what += f": the audio ends {rest:.2f} s after the last word that is"
        yield Sign(f"words added {_in(at)}", what, certainty, time, time)


def _missing(found: Leftovers, certainty: Certainty) -> Iterator[Sign]:
    """Speech that is not written."""
    for start, end, heard in found.unwritten:
        if len(heard.replace(" ", "")) < FEW_UNITS:
            continue
        at = "start" if end <= found.first + SLACK else "end" if start >= found.last - SLACK else "middle"
        what = f"{heard!r} is heard from {start:.1f} to {end:.1f} s, and the transcript has no words there"
        yield Sign(f"words missing {_in(at)}", what, certainty, start, end)


def _place(k: int, found: Leftovers) -> str:
    unheard = {number for number, _, _ in found.unheard}
    if all(number in unheard for number in range(k + 1)):
        return "start"
    return "end" if all(number in unheard for number in range(k, found.num_words)) else "middle"


def _in(at: str) -> str:
    return "in the middle" if at == "middle" else f"at the {at}"


def _by(out: float) -> Certainty:
    return "likely" if out >= LIKELY else "possible"


def score_of(out: float, weighed: Sequence[Weighed], others: Sequence[Sign]) -> tuple[float, tuple[Sign, ...]]:
    """(The score, all signs with the weightiest first) of an utterance that stands out by `out` units.

    Losses and own words count once, by how far they stand out, and not again with the signs that tell them.
    """
    of_others = [Weighed(sign, WEIGHTS[sign.certainty]) for sign in others]
    every = [*weighed, *of_others]
    score = together([strength(out), *(one.weight for one in every)])
    order = sorted(every, key=lambda one: (-WEIGHTS[one.sign.certainty], -one.weight))
    return round(min(score, 1.0), 4), tuple(one.sign for one in order)


def weigh(
    seen: Seen,
    ids: Sequence[str],
    texts: Sequence[str],
    swaps: Mapping[int, Swap],
    left: Mapping[int, Leftovers],
    i: int,
) -> list[Weighed]:
    """All that the model and its training say of utterance `i`."""
    weighed = [*weigh_dynamics(seen, i), *weigh_words(seen, i)]
    if i in swaps:
        weighed += weigh_swap(seen, i, swaps[i], ids, texts)
    elif i in left:
        weighed += weigh_leftovers(seen, i, left[i])
    return weighed
