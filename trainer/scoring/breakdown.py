"""Error rates of groups of utterances: by speaker, sex, dialect region and length."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from data.plural import counted
from trainer.scoring.metrics import WORDS, EditCounts, Units, pool
from trainer.scoring.scores import Hypothesis
from trainer.scoring.statistics import bootstrap_interval

FEW_UNITS = 10
"""With fewer units than this, the bootstrap interval is too narrow."""


@dataclass(frozen=True)
class Group:
    """Some of a split's utterances and their pooled errors."""

    name: str
    num_utterances: int
    num_speakers: int
    """0 where speakers are not known."""
    words: EditCounts
    characters: EditCounts
    interval: tuple[float, float] | None
    """95 % bootstrap interval of the word error rate. It draws speakers or utterances, as that of the whole split does.
    None where it was not asked for, or where there is only one unit to draw."""
    where: tuple[str, str | tuple[float, float]] = ("", "")
    """How to find its utterances: a field of Hypothesis, and its value or its (lowest, highest) value."""
    units: Units = WORDS
    """What `words` counts."""
    few: str = ""
    """The units that the interval draws, as "4 speakers", where there are fewer than FEW_UNITS: it is too narrow."""


def knows_speakers(hypotheses: Sequence[Hypothesis]) -> bool:
    """Whether a bootstrap over a split draws speakers. It does if all are known and there are at least two."""
    speakers = {h.speaker for h in hypotheses}
    return None not in speakers and len(speakers) > 1


def drawn_units(hypotheses: Sequence[Hypothesis]) -> tuple[list[str], str]:
    """For each utterance the unit that a bootstrap over its split draws, and what the units are: "24 speakers".

    The units are speakers where they are known. Otherwise each utterance is its own unit.
    """
    return _units(hypotheses, are_speakers=knows_speakers(hypotheses))


def _units(hypotheses: Sequence[Hypothesis], *, are_speakers: bool) -> tuple[list[str], str]:
    if are_speakers:
        speakers = [str(h.speaker) for h in hypotheses]
        return speakers, counted(len(set(speakers)), "speaker")
    return [str(i) for i in range(len(hypotheses))], counted(len(hypotheses), "utterance")


def wer_interval(hypotheses: Sequence[Hypothesis]) -> tuple[tuple[float, float] | None, str]:
    """The 95 % interval of a split's word error rate, and what it draws: "24 speakers" or "200 utterances"."""
    units, over = drawn_units(hypotheses)
    return _interval(hypotheses, units), over


def _interval(hypotheses: Sequence[Hypothesis], units: Sequence[str]) -> tuple[float, float] | None:
    pooled: dict[str, EditCounts] = {}
    for unit, hypothesis in zip(units, hypotheses, strict=True):
        pooled[unit] = pooled.get(unit, EditCounts()) + hypothesis.words
    return bootstrap_interval([(c.num_errors, c.num_reference) for c in pooled.values()])


def by_sex(hypotheses: Sequence[Hypothesis]) -> list[Group]:
    """One group of women and one of men; empty where the corpus does not know the sex."""
    names = {"F": "women", "M": "men"}
    return _groups(hypotheses, "sex", names=names)


def by_dialect(hypotheses: Sequence[Hypothesis]) -> list[Group]:
    return _groups(hypotheses, "dialect")


def by_speaker(hypotheses: Sequence[Hypothesis]) -> list[Group]:
    """One group for each speaker, the worst first. They have no interval: one speaker has too few utterances."""
    groups = _groups(hypotheses, "speaker", interval=False)
    return sorted(groups, key=lambda g: (-g.words.rate, g.name))


def by_length(hypotheses: Sequence[Hypothesis]) -> list[Group]:
    """Up to four groups of about equal size, from short to long, with names such as "1.3 to 1.6 s".

    Utterances whose lengths are equal to a tenth of a second share a group, so that no name occurs twice.
    """
    timed = sorted((h for h in hypotheses if h.seconds), key=lambda h: h.seconds or 0.0)
    draws_speakers = knows_speakers(hypotheses)
    shown = [f"{round(h.seconds or 0.0, 2):.1f}" for h in timed]
    cuts = [0]
    for i in range(1, 4):
        cut = len(timed) * i // 4
        while 0 < cut < len(timed) and shown[cut] == shown[cut - 1]:
            cut += 1
        cuts.append(max(cut, cuts[-1]))
    groups = []
    for first, end in itertools.pairwise([*cuts, len(timed)]):
        if part := timed[first:end]:
            name = shown[first] if shown[first] == shown[end - 1] else f"{shown[first]} to {shown[end - 1]}"
            where = ("seconds", (part[0].seconds or 0.0, part[-1].seconds or 0.0))
            groups.append(_group(f"{name} s", part, draws_speakers, where))
    return groups


def breakdowns(hypotheses: Sequence[Hypothesis]) -> dict[str, list[Group]]:
    """Title -> groups, for every breakdown but the one by speaker. A breakdown into a single group is left out."""
    found = {"sex": by_sex(hypotheses), "dialect region": by_dialect(hypotheses), "length": by_length(hypotheses)}
    return {title: groups for title, groups in found.items() if len(groups) > 1}


def _groups(
    hypotheses: Sequence[Hypothesis], field: str, *, names: Mapping[str, str] | None = None, interval: bool = True
) -> list[Group]:
    """A group for each value of a field, in the order of their names. `names` are of values that need one."""
    parts: dict[str, list[Hypothesis]] = {}
    draws_speakers = knows_speakers(hypotheses)
    for hypothesis in hypotheses:
        if (value := getattr(hypothesis, field)) is not None:
            parts.setdefault(value, []).append(hypothesis)
    named = sorted((names.get(value, value) if names else value, value) for value in parts)
    return [_group(name, parts[v], draws_speakers, (field, v), interval=interval) for name, v in named]


def _group(
    name: str,
    part: Sequence[Hypothesis],
    draws_speakers: bool,
    where: tuple[str, str | tuple[float, float]],
    *,
    interval: bool = True,
) -> Group:
    units, drawn = _units(part, are_speakers=draws_speakers)
    return Group(
        name=name,
        num_utterances=len(part),
        num_speakers=len({h.speaker for h in part} - {None}),
        words=pool(h.words for h in part),
        characters=pool(h.characters for h in part),
        interval=_interval(part, units) if interval else None,
        where=where,
        units=part[0].units,
        few=drawn if interval and len(set(units)) < FEW_UNITS else "",
    )
