"""Utterances that cannot be used: counted and named by reason; refused, or left out where that is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from data.faults import Fault
from data.utterance import Utterance
from trainer.errors import CorpusError


@dataclass
class Drops:
    """Utterances of one split that cannot be used, by reason."""

    split: str
    num_utterances: int
    ids: dict[str, list[str]] = field(default_factory=dict)
    messages: list[tuple[str, str, str]] = field(default_factory=list)
    """(Reason, utterance, where and what) of each, in the order in which they were found."""

    def add(self, reason: str, utterance: Utterance, detail: str) -> None:
        self.ids.setdefault(reason, []).append(utterance.id)
        self.messages.append((reason, utterance.id, f"{utterance.origin}: utterance {utterance.id}: {detail}"))

    def faults(self, stops: bool, remedy: str) -> list[Fault]:
        """Each of them, for a check."""
        return [
            Fault(reason, message.rstrip("."), remedy, self.split, utterance_id, stops)
            for reason, utterance_id, message in self.messages
        ]

    @property
    def num_dropped(self) -> int:
        return sum(map(len, self.ids.values()))

    def describe(self, verb: str = "dropped") -> str:
        """One line: how many of how many, why, and which (the first three of each reason)."""
        reasons = [f"{len(ids)} {reason} ({name_some(ids)})" for reason, ids in self.ids.items()]
        return f"{self.split}: {verb} {self.num_dropped} of {self.num_utterances}: " + ", ".join(reasons)


def refuse_or_report(drops: Drops, on_bad: str) -> None:
    """CorpusError over the first bad training utterance, unless they are to be dropped."""
    if drops.num_dropped and on_bad == "error":
        _, _, first_bad = drops.messages[0]
        more = f" {drops.num_dropped - 1} more are bad." if drops.num_dropped > 1 else ""
        raise CorpusError(
            f"{first_bad.rstrip('.')}.{more} Mend the corpus, or leave bad training utterances out with "
            "--corpus.on-bad drop."
        )


MISSING, SEGMENT = "missing", "longer than their duration"
"""Reasons of Drops for which evaluation stops in any case: then the corpus is wrong, not a recording."""


def refuse_unreadable(unreadable: Sequence[Drops], on_bad_eval: str) -> None:
    """CorpusError that names all evaluation audio that cannot be read, unless its words are to count as deletions.

    A file that is not there at all, or of which a row means a part, is an error in any case: then the corpus is wrong,
    not a recording.
    """
    bad = [drops for drops in unreadable if drops.num_dropped and (on_bad_eval == "error" or is_corpus_wrong(drops))]
    if not bad:
        return
    named = "; ".join(dict.fromkeys(message.rstrip(".") for drops in bad for _, _, message in drops.messages))
    num_bad, num_all = sum(drops.num_dropped for drops in bad), sum(drops.num_utterances for drops in bad)
    instead = " Or have their words counted as deletions, with --corpus.on-bad-eval deletions."
    instead = "" if any(map(is_corpus_wrong, bad)) else instead
    count = f"{', '.join(d.split for d in bad)}: {num_bad} of {num_all} utterances have no audio that can be used: "
    raise CorpusError(
        f"{count if num_bad > 1 else ''}{named}. Mend the corpus: evaluation leaves nothing out.{instead}"
    )


def is_corpus_wrong(drops: Drops) -> bool:
    """Whether files are missing, or rows mean parts of their files."""
    return bool({MISSING, SEGMENT} & drops.ids.keys())


def name_some(ids: Sequence[str]) -> str:
    """The first three."""
    return f"{', '.join(ids[:3])}{', ...' if len(ids) > 3 else ''}"
