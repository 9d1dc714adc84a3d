"""CTC prefix beam search over a batch, as tensor operations on the device of the log posteriors.

    score of a text = log p(text | audio) + weight * log p(text in the n-gram model) + word score * words + hot words

A beam is a sequence of units with the log probability of its paths that end in a blank and of those that do not
(Hannun et al. 2014). In a frame a beam stays, or is extended by a unit; where the extended sequence is a beam already,
the two are one, found by their hash. A word is scored when its delimiter is written, the last one at the end.

A beam of width 1 has room for one path, so it takes the score of the best path of a sequence in place of the sum over
all. Then without a model it writes exactly what the best unit of each frame writes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from trainer.decoding.fusion import Fusion
from trainer.decoding.hashing import EMPTY, extend, unit_hashes
from trainer.errors import ConfigError

NONE = -1
IMPOSSIBLE = -torch.inf


@dataclass(frozen=True)
class BeamOptions:
    """How much is searched. Without `min_log_prob` and `max_units` no unit is left out in any frame."""

    width: int = 64
    """Beams that are kept of each utterance."""
    min_log_prob: float | None = -7.0
    """Units below this log posterior do not extend a beam in that frame."""
    max_units: int | None = 64
    """At most so many units, the likeliest ones, extend a beam in a frame."""

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ConfigError(f"a beam of width {self.width}: give 1 or more.")


EXACT = BeamOptions(min_log_prob=None, max_units=None)


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
    """The beams of B utterances, W of each; what is below IMPOSSIBLE is not there."""

    blank: Tensor
    """float32 (B, W): log probability of the paths that end in a blank, relative to `offset`."""
    unit: Tensor
    """The same of those that end in the last unit."""
    extra: Tensor
    """What model, words and hot words have added."""
    last: Tensor
    """int64 (B, W): the last unit, NONE before the first."""
    key: Tensor
    """int64 (B, W): hash of all units; `parent` is that of all but the last."""
    parent: Tensor
    word: Tensor
    """int64 (B, W): hash of the units of the word that is being written."""
    context: Tensor
    """int64 (B, W): where the n-gram model is."""
    hot: Tensor
    """int64 (B, W): where the automaton of hot words is."""
    offset: Tensor
    """float64 (B,)."""

    def take(self, rows: Tensor) -> State:
        """The beams at the slots `rows` (B, N) of each utterance."""
        taken = {name: t.gather(1, rows) for name, t in vars(self).items() if name != "offset"}
        return State(**taken, offset=self.offset)


class BeamSearch:
    """Decodes batches for one model; tables are made once."""

    def __init__(self, fusion: Fusion, options: BeamOptions) -> None:
        self.fusion, self.options = fusion, options
        self.of_units = unit_hashes(fusion.num_units).to(fusion.device)
        self.join = torch.maximum if options.width == 1 else torch.logaddexp

    def begin(self, batch: int) -> State:
        """Before the first frame: one beam without a unit, and empty slots."""
        shape, device, fusion = (batch, self.options.width), self.fusion.device, self.fusion
        never = torch.full(shape, IMPOSSIBLE, device=device)
        whole = torch.zeros(shape, dtype=torch.int64, device=device)
        first = never.clone()
        first[:, 0] = 0.0
        key = whole - torch.arange(shape[1], device=device)  # each slot its own
        return State(
            first, never, torch.zeros(shape, device=device), whole + NONE, key, whole + 1, whole + EMPTY,
            whole + fusion.start, whole + fusion.hot_start, torch.zeros(batch, dtype=torch.float64, device=device),
        )  # fmt: skip

    @torch.inference_mode()
    def __call__(self, log_probs: Tensor, lengths: Tensor, num_best: int = 1) -> list[list[Found]]:
        """The `num_best` hypotheses of each utterance, the best first; at least one.

        log_probs (B, T, V), normalised or not; lengths (B,) frames. Sequences that read as the same text are one.
        """
        state, steps = self.search(self.begin(len(log_probs)), log_probs, lengths)
        return self.finish(state, steps, num_best)

    def search(self, state: State, log_probs: Tensor, lengths: Tensor) -> tuple[State, list[tuple[Tensor, Tensor]]]:
        """The beams after all frames, and what each frame with a choice did: (slot before, unit or NONE), (B, W)."""
        log_probs = self._padded(log_probs.float(), lengths)
        scores, units, counts, boundary = self._units_of_frames(log_probs)
        steps: list[tuple[Tensor, Tensor]] = []
        for t, count in enumerate(counts):
            frame = log_probs[:, t]
            if count == 0:
                state = self._stay(state, frame)
                continue
            state, step = self._step(state, frame, scores[:, t, :count], units[:, t, :count], boundary[t])
            steps.append(step)
        return state, steps

    def _padded(self, log_probs: Tensor, lengths: Tensor) -> Tensor:
        """Behind an utterance's end a blank costs nothing and all else is impossible; NaN is impossible too."""
        log_probs = log_probs.to(self.fusion.device).nan_to_num(IMPOSSIBLE, 0.0, IMPOSSIBLE)
        is_over = torch.arange(log_probs.shape[1]) >= lengths.cpu()[:, None]
        if is_over.any():
            at_end = torch.full_like(log_probs[0, 0], IMPOSSIBLE)
            at_end[self.fusion.blank] = 0.0
            log_probs = torch.where(is_over[..., None].to(log_probs.device), at_end, log_probs)
        return log_probs

    def _units_of_frames(self, log_probs: Tensor) -> tuple[Tensor, Tensor, list[int], list[bool]]:
        """The units that may extend a beam in each frame, the likeliest first: (scores (B, T, K), units (B, T, K), the
        most of any utterance in each frame, whether a word delimiter is among them in any)."""
        kept = log_probs.clone()
        kept[..., self.fusion.blank] = IMPOSSIBLE
        if self.options.min_log_prob is not None:
            kept.masked_fill_(kept < self.options.min_log_prob, IMPOSSIBLE)
        num_units = log_probs.shape[-1]
        counts = (kept > IMPOSSIBLE).sum(-1).amax(0) if len(kept) else torch.zeros(kept.shape[1], dtype=torch.int64)
        most = self.options.max_units or num_units
        per_frame = counts.clamp(max=most).tolist()
        scores, units = kept.topk(max(per_frame, default=0), -1)
        boundary = (self.fusion.is_boundary[units] & (scores > IMPOSSIBLE)).any(-1).any(0).tolist()
        return scores, units, per_frame, boundary

    def _after_staying(self, state: State, frame: Tensor) -> tuple[Tensor, Tensor]:
        """(Paths that end in a blank, in the last unit) of each beam that writes nothing new in a frame (B, V)."""
        ends_in_blank = self.join(state.blank, state.unit) + frame[:, self.fusion.blank, None]
        repeat = frame.gather(1, state.last.clamp(min=0))
        return ends_in_blank, torch.where(state.last < 0, IMPOSSIBLE, state.unit + repeat)

    def _stay(self, state: State, frame: Tensor) -> State:
        blank, unit = self._after_staying(state, frame)
        return self._relative(replace(state, blank=blank, unit=unit))

    def _step(
        self, state: State, frame: Tensor, scores: Tensor, units: Tensor, boundary: bool
    ) -> tuple[State, tuple[Tensor, Tensor]]:
        """One frame: (B, V), with `scores` and `units` (B, K) of what may extend a beam."""
        (batch, width), count = state.last.shape, units.shape[1]
        blank, unit = self._after_staying(state, frame)
        total = self.join(state.blank, state.unit)

        # Extensions (B, W, K): a unit that repeats the last one needs a blank between
        wide = units[:, None, :]
        longer = torch.where(wide == state.last[..., None], state.blank[..., None], total[..., None]) + scores[:, None]
        flat = torch.cat([longer.flatten(1), longer.new_full((batch, 1), IMPOSSIBLE)], 1)

        # An extension that is a beam already joins it: beam q whose units but the last are those of beam p
        is_parent = state.parent[:, :, None] == state.key[:, None, :]
        has_parent, slot = is_parent.any(2), is_parent.int().argmax(2)
        place = torch.full((batch, frame.shape[1]), count, device=units.device).scatter_(
            1, units, torch.arange(count, device=units.device).expand(batch, -1).contiguous()
        )
        column = place.gather(1, state.last.clamp(min=0))
        index = torch.where(has_parent & (column < count), slot * count + column, width * count)
        unit = self.join(unit, flat.gather(1, index))
        flat = flat.scatter(1, index, IMPOSSIBLE)[:, :-1]

        gains, after = self.fusion.extend(state.word, state.context, state.hot, units, boundary)
        stays = self.join(blank, unit) + state.extra
        ranked = torch.cat([stays, flat + (state.extra[..., None] + gains).flatten(1)], 1)
        values, best = ranked.topk(width, 1)

        is_stay = best < width
        chosen = (best - width).clamp(min=0)
        slot, column = torch.where(is_stay, best, chosen // count), torch.where(is_stay, 0, chosen % count)
        new_unit = torch.where(is_stay, NONE, units.gather(1, column))
        before = replace(state, blank=blank, unit=unit).take(slot)
        never = torch.full_like(before.blank, IMPOSSIBLE)
        # A slot without a beam has a key of its own, so that it is not taken for another beam's parent
        empty, nobody = values == IMPOSSIBLE, torch.arange(-width, 0, device=units.device)
        key = torch.where(is_stay, before.key, extend(before.key, self.of_units[new_unit.clamp(min=0)]))
        word, context, hot = self.fusion.follow(before.word, before.context, before.hot, new_unit, slot, column, after)
        state = State(
            torch.where(is_stay, before.blank, never),
            torch.where(is_stay, before.unit, flat.gather(1, chosen)),
            before.extra + torch.where(is_stay, 0.0, gains.flatten(1).gather(1, chosen)),
            torch.where(is_stay, before.last, new_unit),
            torch.where(empty, nobody, key),
            torch.where(is_stay, before.parent, before.key),
            torch.where(is_stay, before.word, word),
            torch.where(is_stay, before.context, context),
            torch.where(is_stay, before.hot, hot),
            state.offset,
        )
        return self._relative(state), (slot, new_unit)

    def _relative(self, state: State) -> State:
        """The same with the likeliest beam's best state at 0, so that float32 is exact where it matters."""
        top = torch.maximum(state.blank, state.unit).amax(1, keepdim=True)
        top = torch.where(top > IMPOSSIBLE, top, 0.0)
        return replace(
            state, blank=state.blank - top, unit=state.unit - top, offset=state.offset + top[:, 0].double()
        )

    def finish(self, state: State, steps: list[tuple[Tensor, Tensor]], num_best: int) -> list[list[Found]]:
        """The best hypotheses once the last word of each beam and the sentence's end are scored."""
        acoustic = self.join(state.blank, state.unit)
        extra = state.extra + self.fusion.at_end(state.word, state.context, state.hot)
        if not (acoustic + extra > IMPOSSIBLE).any(1).all():  # no beam ends with a word of the lexicon
            stuck = ~(acoustic + extra > IMPOSSIBLE).any(1, keepdim=True)
            extra = torch.where(stuck, state.extra, extra)
        units = self.trace(steps, state.last.shape)
        acoustic = acoustic.double() + state.offset[:, None]
        rows = zip(units, acoustic.tolist(), extra.tolist(), strict=True)
        return [self._merged(of_beams, a, e, num_best) for of_beams, a, e in rows]

    def trace(self, steps: list[tuple[Tensor, Tensor]], shape: torch.Size) -> list[list[tuple[int, ...]]]:
        """The units of every beam, in the order of the slots."""
        slot = torch.arange(shape[1], device=self.fusion.device).expand(shape)
        written = []
        for before, unit in reversed(steps):
            written.append(unit.gather(1, slot))
            slot = before.gather(1, slot)
        if not written:
            return [[()] * shape[1] for _ in range(shape[0])]
        everything = torch.stack(written[::-1], 2).cpu()
        return [[tuple(row[row >= 0].tolist()) for row in of_one] for of_one in everything]

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
            together = torch.tensor([acoustic[i] for i in same], dtype=torch.float64)
            joined = float(together.max() if self.options.width == 1 else together.logsumexp(0))
            found.append(Found(units[first], joined + extra[first], joined))
        found.sort(key=lambda f: -f.score)
        return found[:num_best] or [Found((), IMPOSSIBLE, IMPOSSIBLE)]
