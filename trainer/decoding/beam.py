"""CTC prefix beam search over a batch, as tensor operations on the device of the log posteriors.

    score of a text = log p(text | audio) + weight * log p(text in the n-gram model) + word score * words + hot words

A beam is a sequence of units with the log probability of its paths that end in a blank and of those that do not
(Hannun et al. 2014). In a frame a beam stays, or is extended by a unit; where the extended sequence is a beam already,
the two are one, found by their hash. A word is scored when its delimiter is written, the last one at the end.

A beam of width 1 has room for one path, so it takes the score of the best path of a sequence in place of the sum over
all. Then without a model it writes exactly what the best unit of each frame writes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.decoding.fusion import Fusion
from trainer.decoding.hashing import EMPTY, extend, unit_hashes
from trainer.errors import ConfigError

NONE = -1
IMPOSSIBLE = -torch.inf


@dataclass(frozen=True)
class BeamOptions:
    """How much is searched. With None for all of them but `width`, nothing is left out but beams beyond that width."""

    width: int = 64
    """Beams that are kept of each utterance."""
    min_log_prob: float | None = -7.0
    """Units below this log posterior do not extend a beam in that frame."""
    max_units: int | None = 64
    """At most so many units, the likeliest ones, extend a beam in a frame."""
    max_behind: float | None = 15.0
    """Beams whose score is this far below the best one's are dropped."""

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ConfigError(f"a beam of width {self.width}: give 1 or more.")


EXACT = BeamOptions(min_log_prob=None, max_units=None, max_behind=None)


@dataclass(frozen=True)
class Found:
    """A hypothesis of an utterance."""

    units: tuple[int, ...]
    score: float
    """Natural log; what hypotheses are ranked by."""
    acoustic: float
    """log p(units | audio), summed over the paths that the beam has kept; of width 1, the best path's."""


@dataclass
class State:
    """The beams of B utterances, W of each; one whose score is IMPOSSIBLE is not there."""

    scores: Tensor
    """float32 (B, W, 3). BLANK: log probability of the paths that end in a blank, relative to `offset`; UNIT: of those
    that end in the last unit; EXTRA: what model, words and hot words have added."""
    traits: Tensor
    """int64 (B, W, 6). LAST: the last unit, NONE before the first; KEY: hash of all units; PARENT: of all but the last;
    WORD: of those of the word that is being written; CONTEXT: where the n-gram model is; HOT: the hot words."""
    offset: Tensor
    """float64 (B,)."""


BLANK, UNIT, EXTRA = range(3)
LAST, KEY, PARENT, WORD, CONTEXT, HOT = range(6)


@dataclass(frozen=True)
class Frames:
    """What the search reads of B utterances: N frames in which units may extend beams, and the frames between.

    In a run of other frames beams can only stay. All that such a run does is known beforehand: what it adds to paths
    that are in a blank, to those that stay in a unit, and to those that go from the unit to a blank.
    """

    frames: Tensor
    """float32 (B, N, V): log posteriors. Behind an utterance's last frame a blank costs nothing."""
    in_blank: Tensor
    """float32 (B, N + 1): the run before each frame, and the one behind the last."""
    in_unit: Tensor
    """float32 (B, N + 1, V)."""
    to_blank: Tensor
    scores: Tensor
    """float32 (B, N, K): of the units that may extend a beam, the likeliest first."""
    units: Tensor
    """int64 (B, N, K)."""
    counts: list[int]
    """The most units of any utterance in each frame."""
    delimited: list[Tensor]
    """The utterances that have a word delimiter among the units of each frame, int64."""


class BeamSearch:
    """Decodes batches for one model; tables are made once."""

    def __init__(self, fusion: Fusion, options: BeamOptions) -> None:
        self.fusion, self.options = fusion, options
        self.of_units = unit_hashes(fusion.num_units).to(fusion.device)
        self.join = torch.maximum if options.width == 1 else torch.logaddexp

    def begin(self, batch: int) -> State:
        """Before the first frame: one beam without a unit."""
        device, fusion = self.fusion.device, self.fusion
        scores = torch.tensor([0.0, IMPOSSIBLE, 0.0], device=device).expand(batch, 1, 3)
        traits = torch.tensor([NONE, 0, 1, EMPTY, fusion.start, fusion.hot_start], device=device).expand(batch, 1, 6)
        return State(scores, traits, torch.zeros(batch, dtype=torch.float64, device=device))

    @torch.inference_mode()
    def __call__(self, log_probs: Tensor, lengths: Tensor, num_best: int = 1) -> list[list[Found]]:
        """The `num_best` hypotheses of each utterance, the best first; at least one.

        log_probs (B, T, V), normalised or not; lengths (B,) frames. Sequences that read as the same text are one.
        """
        state, steps = self.search(self.begin(len(log_probs)), log_probs, lengths)
        return self.finish(state, steps, num_best)

    @torch.inference_mode()
    def search(self, state: State, log_probs: Tensor, lengths: Tensor) -> tuple[State, list[tuple[Tensor, Tensor]]]:
        """The beams after all frames, and what each frame with a choice did: (slot before, unit or NONE), (B, W)."""
        x = self.read(log_probs, lengths)
        steps: list[tuple[Tensor, Tensor]] = []
        for n, count in enumerate(x.counts):
            state, step = self._step(state, x, n, count)
            steps.append(step)
        blank, unit = self._through_run(state, x, len(x.counts))
        return self._relative(torch.stack([blank, unit, state.scores[..., EXTRA]], 2), state.traits, state), steps

    def read(self, log_probs: Tensor, lengths: Tensor) -> Frames:
        """What the search needs of log_probs (B, T, V). NaN is as impossible as -inf."""
        blank, num_units = self.fusion.blank, log_probs.shape[-1]
        log_probs = log_probs.to(self.fusion.device).float().nan_to_num(IMPOSSIBLE, 0.0, IMPOSSIBLE)
        real = (torch.arange(log_probs.shape[1]) < lengths.cpu()[:, None]).to(log_probs.device)
        at_end = torch.full((num_units,), IMPOSSIBLE, device=log_probs.device)
        at_end[blank] = 0.0
        log_probs = torch.where(real[..., None], log_probs, at_end)
        kept = log_probs.clone()
        kept[..., blank] = IMPOSSIBLE
        if self.options.min_log_prob is not None:
            kept.masked_fill_(kept < self.options.min_log_prob, IMPOSSIBLE)
        num_kept = (kept > IMPOSSIBLE).sum(-1)
        active = num_kept > 0
        # Frame n of an utterance here is the n-th in which units may extend a beam
        num_frames = int(active.sum(1).max()) if active.numel() else 0
        order = (~active).int().argsort(dim=1, stable=True)[:, :num_frames]
        is_there = active.gather(1, order)
        wide = order[..., None].expand(-1, -1, num_units)
        frames = torch.where(is_there[..., None], log_probs.gather(1, wide), at_end)
        kept = torch.where(is_there[..., None], kept.gather(1, wide), IMPOSSIBLE)
        in_blank, in_unit, to_blank = self._runs(log_probs, active & real, order, is_there)
        most = self.options.max_units or num_units
        counts = torch.where(is_there, num_kept.gather(1, order), 0).clamp(max=most)
        per_frame = counts.amax(0).tolist() if counts.numel() else [0] * num_frames
        scores, units = kept.topk(max(per_frame, default=0), -1)
        has_delimiter = (self.fusion.is_boundary[units] & (scores > IMPOSSIBLE)).any(-1)
        delimited = [rows.nonzero()[:, 0] for rows in has_delimiter.T]
        return Frames(frames, in_blank, in_unit, to_blank, scores, units, per_frame, delimited)

    def _runs(
        self, log_probs: Tensor, active: Tensor, order: Tensor, is_there: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """`in_blank`, `in_unit` and `to_blank` of Frames."""
        (batch, length, num_units), blank = log_probs.shape, self.fusion.blank
        never = torch.full((batch, num_units), IMPOSSIBLE, device=log_probs.device)
        so_far = torch.zeros(batch, device=log_probs.device), torch.zeros_like(never), never
        before = [so_far]
        is_idle = not bool(active.all()) if active.numel() else False
        for t in range(length):
            if is_idle:
                b, u, c = so_far
                frame, reset = log_probs[:, t], active[:, t]
                c = self.join(c, u) + frame[:, blank, None]
                so_far = (
                    torch.where(reset, 0.0, b + frame[:, blank]),
                    torch.where(reset[:, None], 0.0, u + frame),
                    torch.where(reset[:, None], IMPOSSIBLE, c),
                )
            before.append(so_far)
        last = (
            torch.full_like(order[:, :1], length)
            if order.shape[1]
            else torch.full((batch, 1), length, device=log_probs.device)
        )
        places = torch.cat([torch.where(is_there, order, length), last], 1)
        # Behind an utterance's last such frame comes its last run, once, and then nothing
        is_over = torch.cat([torch.zeros_like(is_there[:, :1]), ~is_there], 1) if is_there.shape[1] else None
        wide = places[..., None].expand(-1, -1, num_units)
        blanks = torch.stack([b for b, _, _ in before], 1).gather(1, places)
        units = torch.stack([u for _, u, _ in before], 1).gather(1, wide)
        cross = torch.stack([c for _, _, c in before], 1).gather(1, wide)
        if is_over is not None:
            blanks = blanks.masked_fill(is_over, 0.0)
            units = units.masked_fill(is_over[..., None], 0.0)
            cross = cross.masked_fill(is_over[..., None], IMPOSSIBLE)
        return blanks, units, cross

    def _through_run(self, state: State, x: Frames, n: int) -> tuple[Tensor, Tensor]:
        """(Paths that end in a blank, in the last unit) of each beam after the run before frame n."""
        blank, unit, _ = state.scores.unbind(2)
        last = state.traits[..., LAST].clamp(min=0)
        to_blank, in_unit = x.to_blank[:, n].gather(1, last), x.in_unit[:, n].gather(1, last)
        return self.join(blank + x.in_blank[:, n, None], unit + to_blank), unit + in_unit

    def _step(self, state: State, x: Frames, n: int, count: int) -> tuple[State, tuple[Tensor, Tensor]]:
        """The run before frame n, and the frame, in which `count` units may extend a beam."""
        frame, units = x.frames[:, n], x.units[:, n, :count]
        width, last, extra = state.traits.shape[1], state.traits[..., LAST], state.scores[..., EXTRA]
        blank, unit = self._through_run(state, x, n)
        total, repeated = self.join(blank, unit), last.clamp(min=0)

        # Extensions (B, W, K): a unit that repeats the last one needs a blank between
        is_repeat = units[:, None, :] == last[..., None]
        longer = torch.where(is_repeat, blank[..., None], total[..., None]) + x.scores[:, n, None, :count]
        flat = torch.nn.functional.pad(longer.flatten(1), (0, 1), value=IMPOSSIBLE)

        # An extension that is a beam already joins it: beam q whose units but the last are those of beam p
        is_parent = state.traits[:, :, PARENT, None] == state.traits[:, None, :, KEY]
        has_parent, slot = is_parent.max(2)
        is_unit, column = is_repeat.max(2)
        index = torch.where(has_parent & is_unit, slot * count + column, width * count)
        stays_in_unit = self.join(unit + frame.gather(1, repeated), flat.gather(1, index))
        stays_in_blank = total + frame[:, self.fusion.blank, None]
        flat = flat.scatter(1, index, IMPOSSIBLE)[:, :-1]

        gains, after = self.fusion.extend(state.traits, units, x.delimited[n])
        added = extra[..., None] + gains
        ranked = torch.cat([self.join(stays_in_blank, stays_in_unit) + extra, flat + added.flatten(1)], 1)
        values, best = ranked.topk(min(self.options.width, ranked.shape[1]), 1)
        values, best = self._pruned(values, best)

        is_stay = best < width
        chosen = (best - width).clamp_(min=0)
        slot, column = torch.where(is_stay, best, chosen // count), chosen % count
        new_unit = units.gather(1, column)
        before = state.traits.gather(1, slot[..., None].expand(-1, -1, 6))
        traits = self._extended(before, new_unit, slot, column, after)
        traits = torch.where(is_stay[..., None], before, traits)
        # A slot without a beam has a key of its own, so that it is not taken for another beam's parent
        nobody = torch.arange(-best.shape[1], 0, device=best.device)
        traits[..., KEY] = torch.where(values == IMPOSSIBLE, nobody, traits[..., KEY])
        stayed = torch.stack([stays_in_blank, stays_in_unit, extra], 2).gather(1, slot[..., None].expand(-1, -1, 3))
        written = torch.stack(
            [torch.full_like(values, IMPOSSIBLE), flat.gather(1, chosen), added.flatten(1).gather(1, chosen)], 2
        )
        scores = torch.where(is_stay[..., None], stayed, written)
        return self._relative(scores, traits, state), (slot, torch.where(is_stay, NONE, new_unit))

    def _pruned(self, values: Tensor, best: Tensor) -> tuple[Tensor, Tensor]:
        """Without the beams that are far below the best one. On a CPU, where that saves time, without their slots."""
        if self.options.max_behind is not None:
            is_far = values < values[:, :1] - self.options.max_behind
            values = values.masked_fill(is_far, IMPOSSIBLE)
        if values.device.type != "cpu":
            return values, best
        width = max(1, int((values > IMPOSSIBLE).sum(1).max()))
        return values[:, :width], best[:, :width]

    def _extended(self, before: Tensor, unit: Tensor, slot: Tensor, column: Tensor, after: Tensor | None) -> Tensor:
        """The traits of beams that were `before` (B, W, 6), once `unit` (B, W) is written."""
        of_unit = self.of_units[unit]
        key = extend(before[..., KEY], of_unit)
        word, context, hot = self.fusion.follow(before, unit, of_unit, slot, column, after)
        return torch.stack([unit, key, before[..., KEY], word, context, hot], 2)

    def _relative(self, scores: Tensor, traits: Tensor, state: State) -> State:
        """The state with the likeliest path's score at 0, so that float32 is exact where it matters."""
        top = scores[..., :EXTRA].amax((1, 2))
        top = torch.where(top > IMPOSSIBLE, top, 0.0)
        shift = torch.nn.functional.pad(top[:, None].expand(-1, 2), (0, 1))
        return State(scores - shift[:, None, :], traits, state.offset + top.double())

    def finish(self, state: State, steps: list[tuple[Tensor, Tensor]], num_best: int) -> list[list[Found]]:
        """The best hypotheses once the last word of each beam and the sentence's end are scored."""
        blank, unit, before = state.scores.unbind(2)
        acoustic = self.join(blank, unit)
        extra = before + self.fusion.at_end(state.traits)
        stuck = ~(acoustic + extra > IMPOSSIBLE).any(1, keepdim=True)  # no beam ends with a word of the lexicon
        extra = torch.where(stuck, before, extra)
        acoustic = acoustic.double() + state.offset[:, None]
        slots = torch.arange(acoustic.shape[1], device=acoustic.device).expand(acoustic.shape)
        if self.options.max_behind is not None:  # the rest are too far behind to change the order
            num_slots = min(slots.shape[1], max(8, 4 * num_best))
            slots = (acoustic + extra).topk(num_slots, 1).indices
            acoustic, extra = acoustic.gather(1, slots), extra.gather(1, slots)
        units = self.trace(steps, slots)
        rows = zip(units, acoustic.tolist(), extra.tolist(), strict=True)
        return [self._merged(of_beams, a, e, num_best) for of_beams, a, e in rows]

    def best_slot(self, state: State) -> Tensor:
        """The slot of each utterance's best beam, int64 (B, 1), where the utterance is not at its end."""
        blank, unit, extra = state.scores.unbind(2)
        return (self.join(blank, unit) + extra).argmax(1, keepdim=True)

    def only(self, state: State, slot: Tensor) -> State:
        """The beams at `slot` (B, 1) alone, to go on from behind a blank."""
        scores = state.scores.gather(1, slot[..., None].expand(-1, -1, 3)).clone()
        scores[..., UNIT] = IMPOSSIBLE
        traits = state.traits.gather(1, slot[..., None].expand(-1, -1, 6)).clone()
        return State(scores, traits, state.offset)

    def trace(self, steps: list[tuple[Tensor, Tensor]], slot: Tensor) -> list[list[tuple[int, ...]]]:
        """The units of the beams at the slots (B, N)."""
        shape, written = slot.shape, []
        for before, unit in reversed(steps):
            written.append(unit.gather(1, slot))
            slot = before.gather(1, slot)
        if not written:
            return [[()] * shape[1] for _ in range(shape[0])]
        everything = torch.stack(written[::-1], 2).tolist()
        return [[tuple(u for u in row if u >= 0) for row in of_one] for of_one in everything]

    def _merged(
        self, units: list[tuple[int, ...]], acoustic: list[float], extra: list[float], num_best: int
    ) -> list[Found]:
        """Beams that differ only in their delimiters are one hypothesis, spelled as the likeliest of them."""
        texts: dict[tuple[int, ...], list[int]] = {}
        for i, sequence in enumerate(units):
            if acoustic[i] + extra[i] > IMPOSSIBLE:
                texts.setdefault(self.fusion.reading(sequence), []).append(i)
        found = []
        for same in texts.values():
            first = max(same, key=lambda i: acoustic[i] + extra[i])
            top = max(acoustic[i] for i in same)
            more = 0.0 if self.options.width == 1 else math.log(sum(math.exp(acoustic[i] - top) for i in same))
            joined = top + more
            found.append(Found(units[first], joined + extra[first], joined))
        found.sort(key=lambda f: -f.score)
        return found[:num_best] or [Found((), IMPOSSIBLE, IMPOSSIBLE)]
