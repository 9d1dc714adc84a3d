"""What is wrong with a corpus: the first fault ends a run; a check goes on, and names them all.

Readers and preparation look at one utterance (or row, or file) at a time in `with faults.noted(...)`. An error inside
either leaves it, as in training, or is kept, and the utterance left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from trainer.errors import CorpusError


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong, or looks so."""

    reason: str
    """In two or three words; faults of one reason are told together."""
    message: str
    """Where (file:line, or utterance) and what."""
    remedy: str = ""
    split: str = ""
    utterance: str = ""
    stops: bool = True
    """A run would end over it; else it is a warning."""

    def record(self) -> dict[str, object]:
        """For a line of JSON; what is not known is left out."""
        kind = "error" if self.stops else "warning"
        return {"kind": kind, **{k: v for k, v in asdict(self).items() if v != "" and k != "stops"}}


class Faults:
    """Of one corpus. As it is made, the first one raises."""

    def __init__(self, *, collects: bool = False) -> None:
        self.collects = collects
        self.found: list[Fault] = []

    @contextmanager
    def noted(self, reason: str, split: str = "", remedy: str = "Mend it, or take it out.") -> Iterator[None]:
        """A CorpusError inside is a fault: raised, or kept and what follows in the block left out.

        `remedy` is for errors that name none.
        """
        try:
            yield
        except CorpusError as error:
            if not self.collects:
                raise
            message, own_remedy = split_remedy(str(error))
            self.found.append(Fault(reason, message, own_remedy or remedy, split))

    def add(self, fault: Fault) -> None:
        self.found.append(fault)


def split_remedy(message: str) -> tuple[str, str]:
    """(What happened, what to do): an error message says both, in this order, in sentences.

    >>> split_remedy('train.jsonl:8: no "text" field (fields: id). Add it, or name it with --corpus.text-field.')
    ('train.jsonl:8: no "text" field (fields: id)', 'Add it, or name it with --corpus.text-field.')
    """
    what, _, remedy = re.sub(r"(?<=[\w)\]'\"])\. (?=[A-Z-])", "\0", message, count=1).partition("\0")
    return what.rstrip("."), remedy
