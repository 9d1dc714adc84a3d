"""CTC prefix beam search over a batch, as tensor operations on the device of the log posteriors.

    score of a text = log p(text | audio) + weight * log p(text in the n-gram model) + word score * words + hot words

A beam is a sequence of units with the log probability of its paths that end in a blank and of those that do not
(Hannun et al. 2014). In a frame a beam stays, or is extended by a unit; where the extended sequence is a beam already,
the two are one, found by their hash. A word is scored when its delimiter is written, the last one at the end.

The beams of all utterances lie in one list, as many of each utterance as are alive: an utterance that is hard to hear
costs what its own beams cost, and the others are not padded to it.

A beam of width 1 has room for one path, so it takes the score of the best path of a sequence in place of the sum over
all. Then without a model it writes exactly what the best unit of each frame writes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.decoding.frames import IMPOSSIBLE, LOWEST, Frames, Runs, read_frames
from trainer.decoding.fusion import Fusion
from trainer.decoding.hashing import EMPTY, random_hashes
from trainer.decoding.hypotheses import Found, Step, beams_at_end, best_of_each, merged, rank, trace
from trainer.errors import ConfigError


@dataclass(frozen=True)
class BeamOptions:
    """How much is searched. With None for all of them but `width`, nothing is left out but beams beyond that width."""

    width: int = 64
    """Beams that are kept of each utterance."""
    min_log_prob: float | None = -7.0
    """Units, and the blank, are on no path through a frame in which their log posterior is below this; the likeliest of
    a frame always is on one."""
    max_units: int | None = 64
    """Paths go through at most so many units of a frame, the likeliest ones."""
    max_behind: float | None = 15.0
    """Beams whose score is this far below the best one's are dropped."""

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ConfigError(f"a beam of width {self.width}: give 1 or more.")


SHARE_RUNNING = 0.8
"""Where fewer than this share of the utterances go on, those that have ended are taken out of the list of beams."""
EXACT = BeamOptions(min_log_prob=None, max_units=None, max_behind=None)


@dataclass(frozen=True)
class State:
    """R beams of B utterances, in any order. An utterance that nothing can be written of has none."""

    scores: Tensor
    """float64 (4, R). BLANK: log probability of the paths that end in a blank; UNIT: of those that end in the last
    unit; BOTH: of all of them; EXTRA: what model, words and hot words have added."""
    traits: Tensor
    """int64 (6, R). OWNER: the utterance; LAST: the last unit, the blank before the first one; KEY: hash of utterance
    and units; WORD: hash of the units of the word that is being written; CONTEXT: where the n-gram model is; HOT: where
    the hot words are."""
    num_utterances: int


BLANK, UNIT, BOTH, EXTRA = range(4)
OWNER, LAST, KEY, WORD, CONTEXT, HOT = range(6)


class BeamSearch:
    """Decodes batches for one model; tables are made once."""

    def __init__(self, fusion: Fusion, options: BeamOptions) -> None:
        self.fusion, self.options = fusion, options
        self.join = torch.maximum if options.width == 1 else torch.logaddexp

    def begin(self, batch: int) -> State:
        """Before the first frame: one beam without a unit."""
        device, fusion = self.fusion.device, self.fusion
        scores = torch.tensor([0.0, IMPOSSIBLE, 0.0, 0.0], dtype=torch.float64, device=device)[:, None].repeat(1, batch)
        traits = torch.tensor([0, fusion.blank, 0, EMPTY, fusion.start, fusion.hot_start], device=device)
        traits = traits[:, None].repeat(1, batch)
        traits[OWNER] = torch.arange(batch, device=device)
        traits[KEY] = random_hashes(batch, batch).to(device)  # no two utterances have a key in common
        return State(scores, traits, batch)

    @torch.inference_mode()
    def __call__(self, log_probs: Tensor, lengths: Tensor, num_best: int = 1) -> list[list[Found]]:
        """The `num_best` hypotheses of each utterance, the best first; at least one.

        log_probs (B, T, V), normalised or not; lengths (B,) frames. Sequences that read as the same text are one.
        """
        found: list[list[Found]] = [[] for _ in log_probs]
        frames = self.read(log_probs, lengths)
        for state, steps in self._ended(self.begin(len(log_probs)), frames):
            for utterance, beam in self._at_end(state, steps, frames, num_best):
                found[utterance].append(beam)
        return [merged(beams, self.fusion.reading, num_best) for beams in found]

    def _ended(self, state: State, x: Frames) -> Iterator[tuple[State, list[Step]]]:
        """The beams of utterances that have ended, with their steps, some utterances at a time; each comes once."""
        steps: list[Step] = []
        ends, num_running = sorted(x.ends), len(x.ends)
        for n in range(len(x)):
            now_running = len(ends) - bisect_right(ends, n)
            if n and now_running < SHARE_RUNNING * num_running:
                num_running, last = now_running, steps.pop()
                has_ended = torch.tensor([end <= n for end in x.ends], device=self.fusion.device)[state.traits[OWNER]]
                ended, of_ended = _part(state, last, has_ended)
                state, of_running = _part(state, last, ~has_ended)
                yield self._after_run(ended, x.runs, n), [*steps, of_ended]
                steps.append(of_running)
            state, step = self._step(self._after_run(state, x.runs, n), x, n)
            steps.append(step)
        yield self._after_run(state, x.runs, len(x)), steps

    def read(self, log_probs: Tensor, lengths: Tensor) -> Frames:
        """What the search needs of log_probs (B, T, V)."""
        options, fusion = self.options, self.fusion
        return read_frames(
            log_probs.to(fusion.device), lengths, fusion.blank, options.min_log_prob, options.max_units,
            fusion.may_add, fusion.unit_maps, self.join,
        )  # fmt: skip

    def _after_run(self, state: State, runs: Runs, n: int) -> State:
        """The beams after run n. They take the place of `state`, which is changed."""
        if not runs.any_run[n]:
            return state
        owner, last, *_ = state.traits
        is_run, sums = runs.is_run[n].index_select(0, owner), runs.sums[n].index_select(1, owner)
        state.scores[:EXTRA] = torch.where(is_run, state.scores[BOTH] + sums, state.scores[:EXTRA])
        if runs.any_string[n]:
            factor, addend, of_string = runs.strings[n].index_select(1, owner)
            state.traits[LAST] = torch.where(of_string < 0, last, of_string)
            state.traits[KEY:CONTEXT].mul_(factor).add_(addend)
            if self.fusion.beginnings is not None:
                is_none = self.fusion.is_no_beginning(state.traits[WORD]) & (of_string >= 0)
                state.scores[EXTRA].masked_fill_(is_none, IMPOSSIBLE)
        return state

    def _step(self, state: State, x: Frames, n: int) -> tuple[State, Step]:
        """The beams after frame n."""
        frame, traits, scores, fusion = x.frames[n], state.traits, state.scores, self.fusion
        owner, last, key, *_ = traits
        _, unit, both, extra = scores
        stays_in_unit = unit + frame.take(torch.add(last, owner, alpha=fusion.num_units))
        stays_in_blank = both + frame[:, fusion.blank].index_select(0, owner)

        # Extensions: `slot` is the beam, `wider` the unit. One that repeats the last unit needs a blank between
        counts, starts = x.entries[n].index_select(1, owner)
        slot = torch.repeat_interleave(counts)
        entry = (starts + counts - counts.cumsum(0)).index_select(0, slot)
        entry += torch.arange(len(slot), device=slot.device)
        wider = x.units.index_select(0, entry)
        of_slot = traits.index_select(1, slot)
        of_owner, of_last, _, word, context, hot = of_slot
        in_blank, _, in_both, before = scores.index_select(1, slot)
        longer = torch.where(wider == of_last, in_blank, in_both) + x.scores.index_select(0, entry)

        # One that is a beam already joins it
        maps = fusion.key_and_word_maps.index_select(1, wider)
        wider_key, longer_word = of_slot[KEY:CONTEXT] * maps[:2] + maps[2:]
        ordered, order = key.sort()
        place = torch.searchsorted(ordered, wider_key).clamp_(max=max(0, len(ordered) - 1))
        known = (ordered.index_select(0, place) == wider_key).nonzero()[:, 0]
        same = order.index_select(0, place.index_select(0, known))
        stays_in_unit[same] = self.join(stays_in_unit[same], longer[known])
        longer[known] = IMPOSSIBLE

        gains, context, hot = fusion.extend(word, context, hot, wider, longer_word, longer > IMPOSSIBLE)
        stays = self.join(stays_in_blank, stays_in_unit)
        stayed = torch.stack([stays_in_blank, stays_in_unit, stays, extra])
        extended = torch.stack([torch.full_like(longer, IMPOSSIBLE), longer, longer, before + gains])
        scores = torch.cat([stayed, extended], 1)
        itself, nothing = torch.arange(len(owner), device=owner.device), torch.full_like(owner, -1)
        stayed = torch.cat([traits, itself[None], nothing[None]])
        extended = torch.stack([of_owner, wider, wider_key, longer_word, context, hot, slot, wider])
        traits = torch.cat([stayed, extended], 1)

        chosen = self._chosen(scores[BOTH] + scores[EXTRA], traits[OWNER], state.num_utterances)
        scores, traits = scores.index_select(1, chosen), traits.index_select(1, chosen)
        step = Step(*traits[HOT + 1 :].int())
        return State(scores, traits[: HOT + 1], state.num_utterances), step

    def _chosen(self, values: Tensor, owners: Tensor, num_utterances: int) -> Tensor:
        """The places of the beams that go on, ascending: the best ones of each utterance, not too far behind its best
        one."""
        best = best_of_each(values, owners, num_utterances)
        if self.options.max_behind is None:
            is_kept = values > IMPOSSIBLE
        else:
            is_kept = values >= (best - self.options.max_behind).clamp_(min=LOWEST).index_select(0, owners)
        kept = is_kept.nonzero()[:, 0]
        of_kept = owners.index_select(0, kept)
        if not len(kept):
            return kept
        is_full = torch.bincount(of_kept, minlength=num_utterances) > self.options.width
        of_full = is_full.index_select(0, of_kept).nonzero()[:, 0]
        if not len(of_full):
            return kept
        ranks, order = rank(values[kept[of_full]], of_kept[of_full], best)
        is_kept[kept[of_full[order[ranks >= self.options.width]]]] = False
        return is_kept.nonzero()[:, 0]

    def _at_end(self, state: State, steps: list[Step], x: Frames, num_best: int) -> Iterator[tuple[int, Found]]:
        """The utterance of each beam, and the beam once its last word and the sentence's end are scored; the best
        first."""
        owner, acoustic, before = state.traits[OWNER], state.scores[BOTH], state.scores[EXTRA]
        extra = before + self.fusion.at_end(state.traits[WORD:])
        best = best_of_each(acoustic + extra, owner, state.num_utterances)
        # Where no beam ends with a word of the lexicon, what there is
        values = acoustic + torch.where(best[owner] > IMPOSSIBLE, extra, before)
        best = best_of_each(values, owner, state.num_utterances)
        ranks, places = rank(values, owner, best)
        is_kept = values[places] > IMPOSSIBLE
        if self.options.max_behind is not None:  # the rest are too far behind to change the order
            is_kept &= ranks < beams_at_end(num_best)
        places = places[is_kept]
        owner = owner[places]
        times, written = x.times[: len(steps)].T.index_select(0, owner), x.runs.written.index_select(0, owner)
        columns = trace(steps, places, times, written), values[places].tolist(), acoustic[places].tolist()
        return zip(owner.tolist(), map(Found, *columns), strict=True)


def _part(state: State, step: Step, is_in: Tensor) -> tuple[State, Step]:
    """Some of the beams, and the step that led to them."""
    places = is_in.nonzero()[:, 0]
    part = State(state.scores.index_select(1, places), state.traits.index_select(1, places), state.num_utterances)
    return part, Step(step.before.index_select(0, places), step.unit.index_select(0, places))
