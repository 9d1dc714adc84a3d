"""Transcripts that consist of units with blanks between them: phones, syllables, pinyin with tones, and the like.

Such a transcript is not normalised, since its signs are units or parts of them (`@`, `{`, `S`, a tone's digit).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

from data.text.normalise import collapse_spaces
from data.text.phones import PHONE_SETS, fold, foldable
from data.utterance import Utterance
from trainer.errors import CorpusError

TextUnits = Literal["auto", "words", "phones", "spaced", "phones61", "phones48", "phones39"]
"""What transcripts consist of."""
RESERVED = ("[UNK]", "[PAD]", "|", "<s>", "</s>", "<pad>", "<unk>")
"""What no unit of a new vocabulary can be called: tokenizers and language models mean something else by it."""


def unit_rule(units: TextUnits) -> Callable[[str], str]:
    """What makes of a transcript the units that the model should write, a space between two.

    Characters are composed (NFC), so that a letter and its mark are one unit however they were typed; labels of TIMIT
    are folded; nothing else changes.
    """
    return partial(_folded, phones=units) if units in PHONE_SETS else as_written


def as_written(text: str) -> str:
    """The units of `text` as they stand, composed, with single spaces between them.

    >>> as_written(" @ {  ma3 S ")
    '@ { ma3 S'
    """
    return collapse_spaces(unicodedata.normalize("NFC", text))


def _folded(text: str, phones: str) -> str:
    return " ".join(fold(text.split(), phones))


def refuse_units(utterances: Sequence[Utterance], units: TextUnits, *, reserved: Sequence[str] = RESERVED) -> None:
    """CorpusError, with the place of the transcript, over a unit that cannot be one.

    It is called as one of `reserved`; or labels of TIMIT are asked for, and it is none.
    """
    known = foldable(units) if units in PHONE_SETS else None
    for utterance in utterances:
        for unit in utterance.text.split():
            where = f"{utterance.origin}: utterance {utterance.id}: its transcript holds the unit {unit[:20]!r}"
            if unit in reserved:
                raise CorpusError(
                    f"{where}, which is a special token of tokenizers. Take it out, or give the unit another name."
                )
            if known is not None and unit not in known:
                raise CorpusError(
                    f"{where}, which is no label of TIMIT. Mend it, or take units as they are: --corpus.units phones."
                )
