"""Hot words: phrases that gain a weight where they are written, as an automaton over units (Aho and Corasick 1975).

A phrase stands between word delimiters. Every unit of it gains its share at once, so that a beam does not lose the
phrase before its end; what leaves the phrase gives back what it had gained, and what completes it keeps the weight.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class HotWords:
    """The automaton. Rows are states, columns units."""

    following: Tensor
    """int64 (S, V): the next state."""
    gains: Tensor
    """float32 (S, V): what the unit adds to the score; negative where a phrase is left."""
    start: int
    """The state before the first unit: behind a delimiter, where there is one."""
    delimiter: int | None
    held: Tensor
    """float32 (S,): what each state has gained on trust."""

    def to(self, device: torch.device) -> HotWords:
        return HotWords(
            self.following.to(device), self.gains.to(device), self.start, self.delimiter, self.held.to(device)
        )

    @property
    def at_end(self) -> Tensor:
        """float32 (S,): what the end of an utterance adds, which ends a word too, and leaves every other phrase."""
        if self.delimiter is None:
            return -self.held
        return self.gains[:, self.delimiter] - self.held[self.following[:, self.delimiter]]


def build(phrases: Mapping[tuple[int, ...], float], num_units: int, delimiter: int | None) -> HotWords:
    """The automaton of `phrases`, units (without delimiters at the ends) and the weight of each."""
    edge = () if delimiter is None else (delimiter,)
    children: list[dict[int, int]] = [{}]
    held, complete = [0.0], [0.0]
    for phrase, weight in phrases.items():
        state, length = 0, len(phrase) + len(edge)
        for k, unit in enumerate((*edge, *phrase, *edge)):
            if unit not in children[state]:
                children[state][unit] = len(children)
                children.append({})
                held.append(0.0)
                complete.append(0.0)
            state = children[state][unit]
            share = weight * (k + 1 - len(edge)) / length  # the first delimiter is free: it stands before every word
            held[state] = share if held[state] == 0.0 else (max if weight > 0 else min)(held[state], share)
        complete[state] += weight
        held[state] = 0.0
    following = torch.zeros(len(children), num_units, dtype=torch.int64)
    keeps = torch.tensor(complete)
    fail = [0] * len(children)
    queue = deque(children[0].values())
    for unit, child in children[0].items():
        following[0, unit] = child
    while queue:
        state = queue.popleft()
        following[state] = following[fail[state]]
        keeps[state] += keeps[fail[state]]
        if not children[state]:  # a whole phrase: what it goes on as is its longest end
            held[state] = held[fail[state]]
        for unit, child in children[state].items():
            fail[child] = int(following[fail[state], unit]) if state else 0
            following[state, unit] = child
            queue.append(child)
    trust = torch.tensor(held)
    gains = keeps[following] + trust[following] - trust[:, None]
    start = int(following[0, delimiter]) if delimiter is not None else 0
    return HotWords(following, gains, start, delimiter, trust)
