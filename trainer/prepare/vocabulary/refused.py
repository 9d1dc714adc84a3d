"""What a transcript must not hold, since it means something else in the vocabulary: delimiters and special tokens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from data.text.units import RESERVED, TextUnits, refuse_units
from data.text.vocab import refuse_delimiter
from data.utterance import Utterance
from models.checkpoints.pretrained import EncoderSource
from trainer.prepare.vocabulary.choice import own_vocabulary


def refuse_delimiters(
    splits: Iterable[tuple[Sequence[Utterance], Sequence[str]]], encoder: EncoderSource, rule: str
) -> None:
    """CorpusError over a transcript that holds the token between words, with the place where it stands.

    `splits` are the utterances of each split with their normalised transcripts.
    """
    own = own_vocabulary(encoder.pretrained) if encoder.pretrained is not None and rule != "new" else None
    if own is not None and (own.phonemes or own.word_delimiter is None):
        return  # a phonemes' delimiter may stand between spaces, as a unit does
    delimiter = str("|" if own is None else own.word_delimiter)
    for utterances, texts in splits:
        for i, text in enumerate(texts):
            if delimiter in text:
                u = utterances[i]
                refuse_delimiter([text], delimiter, f"{u.origin}: utterance {u.id}: its transcript")


def refuse_special_units(
    splits: Iterable[Sequence[Utterance]], units: TextUnits, encoder: EncoderSource, rule: str
) -> None:
    """CorpusError, with its place, over a unit of a transcript that cannot be one: see data.text.units.refuse_units."""
    own = own_vocabulary(encoder.pretrained) if encoder.pretrained is not None and rule != "new" else None
    reserved = set(RESERVED)
    if own is not None and own.phonemes:
        reserved = (reserved | {own.blank, own.unknown or own.blank}) - {own.word_delimiter or ""}
    for utterances in splits:
        refuse_units(utterances, units, reserved=sorted(reserved))
