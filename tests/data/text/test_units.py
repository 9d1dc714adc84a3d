"""Transcripts of units with blanks between them: nothing of a unit is lost, and special names are refused.

pytest tests/data/text/test_units.py
"""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from data.audio.decode import FileAudio
from data.corpora.manifest import ManifestConfig
from data.corpora.timit import TimitConfig
from data.text.normalise import plain
from data.text.phones import PHONE_SETS, TO_39
from data.text.spelling import Spelling
from data.text.units import RESERVED, refuse_units, unit_rule
from data.text.vocab import Vocab, merges
from data.utterance import Utterance
from trainer.errors import CorpusError

UNITS = ("@", "{", "r\\", "S", "s", "ma3", "ɔ̃", "~", "?", ".", "'", "'s", "n't", "<sp>", "h#", "ʰ", "˥˩", "-", "1")
"""X-SAMPA, pinyin with a tone, IPA with marks, and what a normaliser takes for punctuation."""


@pytest.mark.parametrize("units", ["phones", "spaced"])
@pytest.mark.parametrize("between", [" ", "   ", "\t", " \u3000", "\u00a0"])
def test_units_survive_as_they_are_whatever_blanks_separate_them(units: str, between: str) -> None:
    rule = ManifestConfig(units=units).text_rule()
    assert rule(between + between.join(UNITS) + between).split(" ") == list(UNITS)
    assert plain(" ".join(UNITS)).split() != list(UNITS)  # the normaliser of words would not leave them


def test_a_letter_and_its_mark_are_one_unit_however_they_were_typed() -> None:
    rule = unit_rule("spaced")
    assert rule("a\u0303 õ") == rule("ã o\u0303") == unicodedata.normalize("NFC", "ã õ")


def test_labels_of_timit_in_transcripts_are_folded_where_that_is_asked_for() -> None:
    """Reference: the published table. What is folded already stays."""
    labels = [label for label in PHONE_SETS["phones61"] if label != "q"]
    assert unit_rule("phones39")(" ".join(["q", *labels])).split() == [TO_39[label] for label in labels]
    for phones in ("phones39", "phones48"):
        text = " ".join(PHONE_SETS[phones])
        assert unit_rule(phones)(text) == text
    assert unit_rule("phones")("q tcl") == "q tcl"


def utterance(text: str) -> Utterance:
    return Utterance(id="u1", audio=FileAudio(Path("u1.wav")), text=text, origin="dev.jsonl:7")


@pytest.mark.parametrize("name", ["[UNK]", "[PAD]", "|", "<s>", "</s>", "<pad>", "<unk>"])
def test_a_unit_that_is_called_as_a_special_token_is_refused_with_its_line(name: str) -> None:
    with pytest.raises(CorpusError, match=r"dev\.jsonl:7: utterance u1: .* special token"):
        refuse_units([utterance("a b"), utterance(f"a {name}")], "phones")
    refuse_units([utterance(f"a {name}a")], "phones")
    assert name in RESERVED


def test_a_label_that_timit_does_not_have_is_refused_with_its_line() -> None:
    with pytest.raises(CorpusError, match=r"dev\.jsonl:7: utterance u1: .*'ax\?', which is no label of TIMIT"):
        refuse_units([utterance("sil ax?")], "phones39")
    with pytest.raises(CorpusError, match=f"the unit {'x' * 20!r}, which is no label"):
        refuse_units([utterance("x" * 5000)], "phones39")  # text that has no blanks
    with pytest.raises(CorpusError, match="'sil', which is no label of TIMIT"):
        refuse_units([utterance("sil")], "phones61")  # a class of the others


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        (ManifestConfig(silences="merged"), "--corpus.silences merged"),
        (ManifestConfig(units="phones", silences="removed"), "--corpus.silences removed"),
        (ManifestConfig(units="phones39", silences="removed"), ""),
        (TimitConfig(units="phones"), "give words, phones61, phones48, phones39"),
        (TimitConfig(units="auto"), "give words"),
        (TimitConfig(), ""),
    ],
)
def test_options_that_cannot_stand_together_are_a_problem(config: ManifestConfig | TimitConfig, problem: str) -> None:
    assert problem in config.problem()
    assert bool(problem) == bool(config.problem())


def test_capitals_that_would_make_one_unit_of_two_are_seen() -> None:
    lower = Vocab(("s", "t", "[UNK]", "[PAD]"), word_delimiter=None, phonemes=True, spelling=Spelling("lower"))
    assert merges(lower, ["s", "S", "t"])
    assert not merges(lower, ["S", "T"])
