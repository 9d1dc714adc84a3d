"""Speakers and folders that show a sign far more often than the others do: a microphone, a batch, an annotator.

groups = Groups()
for example, signs in signs_of(examples): groups.add(example.utterance, signs)
groups.standing_out() -> [Standout(kind="speaker", group="s17", sign="clipped", count=9, of=20, usual=0.004)]
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from data.audio.segments import file_of
from data.utterance import Utterance
from trainer.signs.sign import Sign

FEWEST = 3
"""Utterances of a group with a sign."""
TIMES = 3.0
"""How many times as often as elsewhere."""
BY_CHANCE = 1e-3
"""Probability that any group would show any sign so often by chance."""


@dataclass(frozen=True)
class Standout:
    """A group with a sign that is rare elsewhere."""

    kind: Literal["speaker", "folder"]
    group: str
    sign: str
    count: int
    """Its utterances with the sign."""
    of: int
    """Its utterances."""
    usual: float
    """Share of all other utterances with the sign."""

    def describe(self) -> str:
        return f"{self.kind} {self.group}: {self.count} of {self.of} {self.sign}, elsewhere {100 * self.usual:.1f} %"


class Groups:
    """Counts of utterances and of their signs."""

    def __init__(self) -> None:
        self.num = 0
        self.sizes: Counter[tuple[str, str]] = Counter()
        self.of_sign: Counter[str] = Counter()
        self.of_group: Counter[tuple[str, str, str]] = Counter()

    def add(self, utterance: Utterance, signs: Iterable[Sign]) -> None:
        """One utterance. A sign that it shows twice counts once."""
        self.num += 1
        groups = [("folder", str(PurePosixPath(file_of(utterance.audio)).parent))]
        if utterance.speaker is not None:
            groups.append(("speaker", utterance.speaker))
        self.sizes.update(groups)
        names = {sign.name for sign in signs}
        self.of_sign.update(names)
        self.of_group.update((*group, name) for group in groups for name in names)

    def standing_out(self) -> list[Standout]:
        """The least likely by chance first."""
        tested = max(1, len(self.of_group))
        found: list[tuple[float, Standout]] = []
        for (kind, group, sign), count in self.of_group.items():
            of, others = self.sizes[kind, group], self.num - self.sizes[kind, group]
            if count < FEWEST or not others:
                continue
            usual = (self.of_sign[sign] - count) / others
            if count / of < TIMES * usual:
                continue
            chance = _tail(count, of, (self.of_sign[sign] - count + 1) / (others + 2))
            if chance * tested <= BY_CHANCE:
                found.append((chance, Standout(kind, group, sign, count, of, usual)))  # type: ignore[arg-type]
        return [standout for _, standout in sorted(found, key=lambda pair: (pair[0], pair[1].group))]


def _tail(count: int, of: int, share: float) -> float:
    """Probability of `count` or more among `of` at that share: the binomial distribution's upper tail."""
    log, tail = math.log(share), 0.0
    for k in range(count, of + 1):
        ways = math.lgamma(of + 1) - math.lgamma(k + 1) - math.lgamma(of - k + 1)
        term = math.exp(ways + k * log + (of - k) * math.log1p(-share))
        tail += term
        if term < 1e-17 * tail:
            break
    return tail
