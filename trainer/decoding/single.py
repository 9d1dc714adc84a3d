"""The search of trainer.decoding.beam over one utterance, in plain numbers: the same beams, scores and pruning.

A tensor operation costs some microseconds however little it computes, and one utterance has few beams in most frames:
without tensors its search is many times as fast. It goes on where it stopped, so a recording may come in pieces.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from heapq import nlargest
from itertools import islice
from operator import attrgetter, itemgetter

from torch import Tensor

from trainer.decoding.beam import BeamOptions
from trainer.decoding.frames import IMPOSSIBLE, Row, Run, read_rows
from trainer.decoding.fusion import Fusion
from trainer.decoding.hashing import EMPTY
from trainer.decoding.hypotheses import Found, beams_at_end, merged
from trainer.decoding.plain import Place, PlainFusion

LEAST = -1e300
"""Above IMPOSSIBLE, and below every other score."""


Trace = tuple["Trace | None", int]
"""(The trace before, the last unit); (None, which of the beams it goes on from) where the search began."""


@dataclass(slots=True)
class Beam:
    """A sequence of units, with the scores and traits that trainer.decoding.beam.State has of it."""

    blank: float
    """Log probability of the paths that end in a blank."""
    unit: float
    """Of those that end in the last unit."""
    both: float
    """Of all of them."""
    extra: float
    """What model, words and hot words have added."""
    last: int
    """The last unit, the blank before the first one."""
    key: int
    """Hash of the units."""
    before: int
    """Hash of the units without the last one."""
    place: Place
    trace: Trace

    @property
    def score(self) -> float:
        return self.both + self.extra


Beams = dict[int, Beam]
"""Beams by their keys."""
Next = tuple[float, Beam, int, float, float, float, float, int]
"""A beam after a frame: its score, the beam that it is or extends, the unit or -1; what Beam has as blank, unit, both,
extra and key."""


def log_add(a: float, b: float) -> float:
    """log(e**a + e**b)."""
    if a < b:
        a, b = b, a
    return a if b == IMPOSSIBLE else a + math.log1p(math.exp(b - a))


class SingleSearch:
    """Decodes one utterance at a time. Beams are changed in place: each result is good for one call."""

    def __init__(self, fusion: Fusion, options: BeamOptions) -> None:
        self.fusion, self.options = fusion, options
        self.plain = PlainFusion(fusion)
        self.join = max if options.width == 1 else log_add
        self.behind = math.inf if options.max_behind is None else options.max_behind

    def __call__(self, log_probs: Tensor, num_best: int = 1) -> list[Found]:
        """The `num_best` hypotheses, the best first; at least one. log_probs (T, V)."""
        return self.finish(self.search(self.begin(), log_probs), num_best)

    def begin(self) -> Beams:
        """Before the first frame: one beam without a unit."""
        first = Beam(0.0, IMPOSSIBLE, 0.0, 0.0, self.fusion.blank, EMPTY, EMPTY, self.plain.start, (None, 0))
        return {first.key: first}

    def search(self, beams: Beams, log_probs: Tensor) -> Beams:
        """The beams after log_probs (T, V), normalised or not."""
        options, is_blank = self.options, all(beam.unit == IMPOSSIBLE for beam in beams.values())
        rows = read_rows(
            log_probs, self.fusion.blank, options.min_log_prob, options.max_units, self.plain.may_add, self.join,
            is_blank=is_blank,
        )  # fmt: skip
        for row in rows:
            beams = self._step(beams, row) if isinstance(row, Row) else self._through_run(beams, row)
        return beams

    def _through_run(self, beams: Beams, run: Run) -> Beams:
        """The beams after frames in which every path of them writes the same."""
        written = run.written
        for beam in beams.values():
            before = beam.both
            beam.blank, beam.unit, beam.both = before + run.blank, before + run.unit, before + run.both
        if not written:
            return beams
        kept: Beams = {}
        for beam in beams.values():
            place = self.plain.after_string(beam.place, written)
            if place is not None:
                for unit in written:
                    beam.before, beam.key, beam.trace = beam.key, hash((beam.key, unit)), (beam.trace, unit)
                beam.place, beam.last = place, unit
                kept[beam.key] = beam
        return kept

    def _step(self, beams: Beams, row: Row) -> Beams:
        """The beams after a frame in which units may be written."""
        join, gain_of, behind, (of_blank, units) = self.join, self.plain.gain, self.behind, row
        adding, most_of = self.plain.adding, self.plain.most
        choices = [(unit, log_prob, log_prob + most_of[unit], unit in adding) for unit, log_prob in units.items()]
        found: list[Next] = []
        least = LEAST
        for key, beam in beams.items():
            both, extra, last = beam.both, beam.extra, beam.last
            in_unit, stays = IMPOSSIBLE, both + of_blank
            in_blank = stays
            if last in units:
                in_unit = beam.unit + units[last]
                writer = beams.get(beam.before)
                if writer is not None:  # it writes this beam again; a repeated unit needs a blank between
                    in_unit = join(in_unit, (writer.blank if writer.last == last else writer.both) + units[last])
                stays = join(in_blank, in_unit)
            if stays + extra >= least:
                found.append((stays + extra, beam, -1, in_blank, in_unit, stays, extra, key))
                if stays + extra - behind > least:
                    least = stays + extra - behind
            score = both + extra
            for unit, log_prob, most, adds in choices:
                if score + most < least:
                    continue
                in_unit = (beam.blank if unit == last else both) + log_prob
                after = extra + gain_of(beam.place, unit) if adds else extra
                if in_unit + after >= least:
                    longer = hash((key, unit))
                    if longer not in beams:
                        found.append((in_unit + after, beam, unit, IMPOSSIBLE, in_unit, in_unit, after, longer))
                        if in_unit + after - behind > least:
                            least = in_unit + after - behind
        return self._kept(found, least)

    def _kept(self, found: list[Next], least: float) -> Beams:
        """The best of `found`, of a score of `least` or more."""
        width = self.options.width
        if len(found) > width:
            least = max(least, sorted([one[0] for one in found])[-width])
        kept: Beams = {}
        for score, beam, unit, in_blank, in_unit, both, extra, key in found:
            if score < least:
                continue
            if unit < 0:
                beam.blank, beam.unit, beam.both = in_blank, in_unit, both
                kept[key] = beam
            else:
                place, trace = self.plain.follow(beam.place, unit), (beam.trace, unit)
                kept[key] = Beam(in_blank, in_unit, both, extra, unit, key, beam.key, place, trace)
        return kept if len(kept) <= width else dict(islice(kept.items(), width))  # some have the same score

    def best(self, beams: Beams, most: int) -> tuple[Beams, list[tuple[int, tuple[int, ...]]]]:
        """The `most` best beams alone, where the utterance is not at its end, the best first; of each, which of the
        beams before it goes on from, and the units behind that. The next search counts these as its beams."""
        kept = nlargest(most, (beam for beam in beams.values() if beam.both > IMPOSSIBLE), key=attrgetter("score"))
        written = [_written(beam.trace) for beam in kept]
        for i, beam in enumerate(kept):
            beam.trace = (None, i)
        return {beam.key: beam for beam in kept}, written

    def finish(self, beams: Beams, num_best: int) -> list[Found]:
        """The best hypotheses at the end of the utterance; at least one."""
        ends = [(beam, self.plain.at_end(beam.place)) for beam in beams.values() if beam.both > IMPOSSIBLE]
        if all(gain == IMPOSSIBLE for _, gain in ends):  # no beam ends with a word of the lexicon: what there is
            ends = [(beam, 0.0) for beam, _ in ends]
        values = [(beam.score + gain, beam) for beam, gain in ends if gain > IMPOSSIBLE]
        if self.options.max_behind is not None:  # the rest are too far behind to change the order
            values = nlargest(beams_at_end(num_best), values, key=itemgetter(0))
        found = []
        for value, beam in sorted(values, key=itemgetter(0), reverse=True):
            origin, units = _written(beam.trace)
            found.append(Found(units, value, beam.both, origin))
        return merged(found, self.fusion.reading, num_best)


def _written(trace: Trace) -> tuple[int, tuple[int, ...]]:
    """(Which of the beams it goes on from, the units since)."""
    before, unit = trace
    units = []
    while before is not None:
        units.append(unit)
        before, unit = before
    return unit, tuple(units[::-1])
