"""The states that an alignment may pass through, and what it costs to leave words or speech out.

    gap 0, word 0, gap 1, word 1, ..., gap W

A word of n units has 2n - 1 states: its units with a blank between each two. A gap has four: a blank, the word
delimiter, a blank behind it, and `speech`, which stands for anything that is said there and not written. A path may
leave words out (at a cost for each), in a gap that has a frame, and stay in `speech` (at a cost for each unit that the
model hears meanwhile). Emissions are log posteriors relative to the best unit of their frame, so every cost compares
with how badly a word fits: a frame whose unit is the best one costs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

BLANK, DELIMITER, AFTER, SPEECH = range(4)
"""The states of a gap."""
UNUSED = 1e9
"""What it costs to skip a word that only pads a batch."""


@dataclass(frozen=True)
class Costs:
    """What leaving something out costs, in nats. All are infinite where everything must be aligned (`FORCED`)."""

    words: float = 4.0
    """A stretch of words that are left out, once."""
    unit: float = 2.0
    """Each unit of a word that is left out."""
    speech: float = 4.0
    """A stretch of speech that is not in the transcript, once."""
    heard: float = 1.0
    """Each unit that the model hears in such a stretch."""
    delimiter: float = 4.0
    """Two words without a delimiter between them."""


FORCED = Costs(*[math.inf] * 5)
"""Every unit of every word is aligned, in one path from the first frame to the last."""


@dataclass(frozen=True)
class Words:
    """The words that one stretch of frames holds, as columns of its emissions."""

    units: tuple[tuple[int, ...], ...]
    """The columns of each word's units; none is empty."""
    delimiter: int | None
    """The delimiter's column; None where the vocabulary has none, and words follow one another directly."""
    blank: int
    free: frozenset[int] = frozenset()
    """Gaps in which something is said that no unit can write: nothing there costs anything."""
    inner_start: bool = False
    """Whether a word stands before the first one, in another stretch, so that a delimiter may come first."""


class Lattice:
    """The states of several stretches, padded to the largest, as tensors. A stretch has N + 4 G states in one row.

    First come the states of its words, then the gaps' blanks, delimiters, blanks behind a delimiter, and speech.
    """

    def __init__(self, stretches: Sequence[Words], num_columns: int, costs: Costs, device: torch.device) -> None:
        """`num_columns` units have emissions; the column behind them is speech, the one behind that is impossible."""
        self.costs, self.num_words = costs, [len(words.units) for words in stretches]
        speech, never = num_columns, num_columns + 1
        n = max(sum(2 * len(units) - 1 for units in words.units) for words in stretches) + 1  # the last: for padding
        w = max(self.num_words)
        g, b = w + 1, len(stretches)
        self.n, self.g, self.never = n, g, never
        columns = np.full((b, n + 4 * g), never, np.int64)
        from_one, from_two = np.full((b, n), -np.inf, np.float32), np.full((b, n), -np.inf, np.float32)
        self.firsts, self.lasts = np.full((b, w), n - 1, np.int64), np.full((b, w), n - 1, np.int64)
        direct = np.full((b, w), -np.inf, np.float32)
        skipped = np.full((b, g), UNUSED, np.float64)
        undelimited = np.full((b, g), costs.delimiter, np.float32)
        opening = np.full((b, g), costs.speech, np.float32)
        for row, words in enumerate(stretches):
            at, last = 0, len(words.units)
            for i, units in enumerate(words.units):
                states = np.full(2 * len(units) - 1, words.blank, np.int64)
                states[::2] = units
                end = at + len(states)
                columns[row, at:end] = states
                from_one[row, at + 1 : end] = 0.0
                differs = np.asarray(units[1:]) != np.asarray(units[:-1])  # equal neighbours need the blank between
                from_two[row, at + 2 : end : 2][differs] = 0.0
                self.firsts[row, i], self.lasts[row, i] = at, end - 1
                if words.delimiter is None and i and words.units[i - 1][-1] != units[0]:
                    direct[row, i] = 0.0
                at = end
            gaps = columns[row, n:].reshape(4, g)
            gaps[BLANK, : last + 1] = gaps[AFTER, : last + 1] = words.blank
            gaps[SPEECH, : last + 1] = speech
            if words.delimiter is not None:
                inner = range(0 if words.inner_start or costs.speech < math.inf else 1,
                              last + 1 if costs.speech < math.inf else last)  # fmt: skip
                gaps[DELIMITER, inner] = words.delimiter
            else:
                undelimited[row] = 0.0
            undelimited[row, [0, last]] = 0.0
            lengths = [costs.unit * len(units) for units in words.units]
            skipped[row, : last + 1] = np.concatenate([[0.0], np.cumsum(lengths)]) if costs.unit < math.inf else 0.0
            opening[row, [gap for gap in words.free if costs.speech < math.inf]] = 0.0
        self.from_one_np, self.from_two_np, self.direct_np = from_one, from_two, direct
        self.skipped_np, self.undelimited_np, self.opening_np = skipped.astype(np.float32), undelimited, opening

        def put(values: np.ndarray) -> Tensor:
            return torch.from_numpy(values).to(device)

        self.columns, self.from_one, self.from_two, self.direct = (
            put(columns),
            put(from_one),
            put(from_two),
            put(direct),
        )
        self.skipped, self.undelimited, self.opening = put(self.skipped_np), put(undelimited), put(opening)
        self.first, self.last = put(self.firsts), put(self.lasts)
        self.device = device

    @property
    def num_states(self) -> int:
        return self.n + 4 * self.g

    def begin(self) -> Tensor:
        """Score of each state before the first frame's emission, float32 (B, N + 4 G)."""
        b = len(self.num_words)
        scores = torch.full((b, self.num_states), -math.inf, device=self.device)
        gaps = scores[:, self.n :].view(b, 4, self.g)
        gaps[:, [BLANK, DELIMITER], 0] = 0.0
        gaps[:, SPEECH, 0] = -self.opening[:, 0]
        entry = -self.skipped[:, :-1] - self.costs.words
        if entry.shape[1]:
            entry[:, 0] = 0.0
            scores.scatter_(1, self.first, entry)
            scores[:, self.n - 1] = -math.inf
        return scores

    def advance(self, scores: Tensor, emissions: Tensor) -> Tensor:
        """Scores of the best paths into each state at the next frame; emissions (B, columns + 2) are that frame's."""
        b, n, g = len(scores), self.n, self.g
        chain = scores[:, :n]
        blank, delimiter, after, speech = scores[:, n:].view(b, 4, g).unbind(1)
        last = torch.nn.functional.pad(chain.gather(1, self.last), (1, 0), value=-math.inf)  # of the word before a gap
        at_gap = torch.maximum(torch.maximum(delimiter, after), torch.maximum(speech, blank - self.undelimited))
        best = (at_gap + self.skipped).cummax(1).values
        left = torch.maximum(at_gap, best - self.skipped - self.costs.words)
        new = torch.empty_like(scores)
        words = new[:, :n]
        words[:] = chain
        torch.maximum(words[:, 1:], chain[:, :-1] + self.from_one[:, 1:], out=words[:, 1:])
        torch.maximum(words[:, 2:], chain[:, :-2] + self.from_two[:, 2:], out=words[:, 2:])
        entry = torch.maximum(left[:, :-1], last[:, :-1] + self.direct)
        words.scatter_(1, self.first, torch.maximum(words.gather(1, self.first), entry))
        gaps = new[:, n:].view(b, 4, g)
        gaps[:, BLANK] = torch.maximum(blank, last)
        gaps[:, DELIMITER] = torch.maximum(delimiter, gaps[:, BLANK])
        gaps[:, AFTER] = torch.maximum(after, delimiter)
        gaps[:, SPEECH] = torch.maximum(speech, torch.maximum(gaps[:, BLANK], left) - self.opening)
        return new.add_(emissions.gather(1, self.columns))

    def before(self, row: int, scores: np.ndarray, state: int) -> int:
        """The state from which the best path came into `state`, given the scores (N + 4 G,) at the frame before."""
        n, g = self.n, self.g
        if state < n:
            found = [(scores[state], state)]
            if state and self.from_one_np[row, state] == 0:
                found.append((scores[state - 1], state - 1))
                if self.from_two_np[row, state] == 0:
                    found.append((scores[state - 2], state - 2))
            elif (word := int(np.searchsorted(self.firsts[row, : self.num_words[row]], state))) >= 0:
                found.append(self._leaving(row, scores, word))
                if word and self.direct_np[row, word] == 0:
                    end = int(self.lasts[row, word - 1])
                    found.append((scores[end], end))
            return max(found, key=lambda item: item[0])[1]
        kind, gap = divmod(state - n, g)
        found = [(scores[state], state)]
        ends = [(scores[end], end) for end in self.lasts[row, gap - 1 : gap].tolist()] if gap else []
        if kind in (BLANK, DELIMITER):
            found += ends
        if kind == DELIMITER:
            found.append((scores[n + BLANK * g + gap], n + BLANK * g + gap))
        if kind == AFTER:
            found.append((scores[n + DELIMITER * g + gap], n + DELIMITER * g + gap))
        if kind == SPEECH:
            opening = self.opening_np[row, gap]
            others = [*ends, (scores[n + BLANK * g + gap], n + BLANK * g + gap), self._leaving(row, scores, gap)]
            found += [(score - opening, origin) for score, origin in others]
        return max(found, key=lambda item: item[0])[1]

    def ending(self, row: int, scores: np.ndarray) -> tuple[float, int]:
        """(Score, last state) of the best whole path, given the scores (N + 4 G,) at the last frame."""
        gap = self.num_words[row]
        score, state = self._leaving(row, scores, gap, at_end=True)
        return float(score), state

    def _leaving(self, row: int, scores: np.ndarray, gap: int, *, at_end: bool = False) -> tuple[np.floating, int]:
        """The best way to be ready for word `gap`: its score, and the state from which it leaves, perhaps some words
        earlier. At the end no gap needs a frame."""
        gaps = scores[self.n :].reshape(4, self.g)[:, : gap + 1]
        undelimited = 0.0 if at_end else self.undelimited_np[row, : gap + 1]
        ways = [gaps[BLANK] - undelimited, *gaps[1:]]
        if at_end:
            ends = np.full(gap + 1, -np.inf, np.float32)
            ends[1:] = scores[self.lasts[row, :gap]]
            ways.append(ends)
        kinds = np.stack(ways)
        at_gap = kinds.max(0)
        skipped = self.skipped_np[row, : gap + 1]
        origin = int((at_gap + skipped).argmax())
        score = at_gap[origin] + skipped[origin] - skipped[gap] - np.float32(self.costs.words)
        if at_gap[gap] >= score:
            origin, score = gap, at_gap[gap]
        kind = int(kinds[:, origin].argmax())
        state = int(self.lasts[row, origin - 1]) if kind == len(gaps) else self.n + kind * self.g + origin
        return score, state
