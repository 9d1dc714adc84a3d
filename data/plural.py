"""A number and what it counts, in words: "1 speaker", "2 speakers"."""

from __future__ import annotations


def counted(number: float, what: str, shown: str | None = None) -> str:
    """`number` and the noun `what`, with an s unless there is one; `shown` is the number as it is written.

    >>> counted(1, "speaker"), counted(0, "speaker"), counted(4620, "utterance", "4,620")
    ('1 speaker', '0 speakers', '4,620 utterances')
    """
    return f"{number if shown is None else shown} {what}{'s' * (number != 1)}"
