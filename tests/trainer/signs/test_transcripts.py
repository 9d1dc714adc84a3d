"""trainer.signs.transcripts: what breaks a habit is a sign, what many do is none."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from data.examples.example import Example
from data.text.normalise import plain
from tests.helpers.corpora import WORDS
from tests.helpers.voices import example
from trainer.signs.sign import Sign
from trainer.signs.transcripts import Habits

NONE = np.zeros(1, np.float32)
RUSSIAN = ["раз", "два", "три", "четыре", "пять", "шесть", "семь", "восемь", "девять", "десять"]


def read(*texts: str, learned: bool = True) -> list[Example]:
    """Examples of these transcripts; `learned`: in the form that the plain normaliser gives them."""
    return [example(NONE, plain(t) if learned else t, f"u{i}", raw=t) for i, t in enumerate(texts)]


def usual(number: int = 200, words: list[str] = WORDS, form: str = "{}") -> list[str]:
    rng = random.Random(0)
    return [form.format(" ".join(rng.choices(words, k=5))) for _ in range(number)]


def signs(odd: str, others: list[str], learned: bool = True) -> list[Sign]:
    examples = read(*others, odd, learned=learned)
    habits = Habits(examples)
    assert [s for e in examples[:-1] for s in habits.signs(e)] == []
    return list(habits.signs(examples[-1]))


@pytest.mark.parametrize(
    ("odd", "name", "certainty", "cited"),
    [
        ("one two 3 four", "digits", "likely", "'3'"),
        ("one two [noise] four", "markup", "likely", "[noise]"),
        ("one <b>two</b> four", "markup", "likely", "<b>"),
        ("one &amp; two", "markup", "likely", "&amp;"),
        ("one %uh two", "markup", "likely", "%uh"),
        ("one two four 00:12:05", "time stamp", "likely", "00:12:05"),
        ("one www.example.org two", "address", "likely", "www.example.org"),
        ("nan", "no value", "possible", "'nan'"),
        (" NULL", "no value", "possible", "'NULL'"),
        ("undefined", "no value", "possible", "'undefined'"),
        ("fÃ¼nf one two", "mojibake", "certain", "fÃ¼nf"),
        ("it â€™s one", "mojibake", "certain", "â€™s"),
        ("one tw\ufffd two", "mojibake", "certain", "\ufffd"),
        ("РїСЂРёРІРµС‚ one", "mojibake", "certain", "РїСЂРёРІРµС‚"),
        (f"one https://{'a.b/' * 30}", "address", "likely", f"'https://{'a.b/' * 8}' stands"),
        ("one twо three", "mixed scripts", "likely", "twо"),
        ("one two\u200b three", "invisible characters", "possible", "U+200B"),
        ("one  two three", "odd spaces", "possible", "several"),
        ("one\u00a0two three", "odd spaces", "possible", "space"),
        ('one "two three', "unbalanced quotes", "possible", '"'),
        ("one (two three", "unbalanced quotes", "possible", "("),
        ("раз два три", "another script", "likely", "Cyrillic"),
        ("ONE TWO THREE", "case", "possible", "upper"),
        ("one two three.", "punctuation", "possible", "in punctuation"),
        ("one zwölf two", "rare unit", "possible", "'ö'"),
    ],
)
def test_what_breaks_the_habit_is_seen(odd: str, name: str, certainty: str, cited: str) -> None:
    found = {sign.name: sign for sign in signs(odd, usual())}
    assert found[name].certainty == certainty
    assert cited in found[name].what


@pytest.mark.parametrize(
    "text",
    ["one (two) three", "one “two” three", "two o'clock", "„zwei“ three", "naïve São Ångström", "one-two three",
     "ÆØÅ æøå", "it’s one"],
)  # fmt: skip
def test_what_is_written_well_is_no_fault(text: str) -> None:
    wrong = {"mojibake", "mixed scripts", "unbalanced quotes", "odd spaces", "invisible characters", "another script"}
    assert {sign.name for sign in signs(text, usual())} & wrong == set()


@pytest.mark.parametrize("form", ["{} 7", "[noise] {}", "00:12 {}", "{}.", "{}  ", '"{}', "{} A"])
def test_what_the_corpus_does_is_no_sign_and_its_absence_may_be(form: str) -> None:
    found = signs("one two three four five", usual(form=form))
    assert {sign.name for sign in found} <= {"punctuation", "case"}


@pytest.mark.parametrize("share", [0.03, 0.2])
def test_what_is_rare_is_possible_and_what_is_common_is_a_habit(share: float) -> None:
    texts = usual(200)
    for i in range(round(200 * share)):
        texts[i * 4] += " 7"
    examples = read(*texts)
    habits = Habits(examples)
    found = [sign for e in examples for sign in habits.signs(e) if sign.name == "digits"]
    assert [sign.certainty for sign in found] == ["possible"] * (6 if share < 0.05 else 0)


def test_case_that_survives_the_normaliser_is_likely_wrong() -> None:
    (found,) = [s for s in signs("ONE TWO", usual(), learned=False) if s.name == "case"]
    assert found.certainty == "likely"
    assert "case" in {s.name for s in signs("one two", [t.upper() for t in usual()], learned=False)}


def test_a_single_letter_has_the_case_of_a_sentence() -> None:
    assert "case" not in {s.name for s in signs("I", [t.capitalize() for t in usual()])}
    assert "case" in {s.name for s in signs("IT", [t.capitalize() for t in usual()])}


def test_latin_letters_in_russian_words_are_seen() -> None:
    (found,) = [s for s in signs("рaз два", usual(words=RUSSIAN)) if s.name == "mixed scripts"]  # a Latin a
    assert "рaз" in found.what
    assert signs("раз два", usual(words=RUSSIAN)) == []


def test_scripts_of_japanese_are_one() -> None:
    """No other transcript is in katakana alone."""
    others = usual(words=["これは", "漢字", "東京"])
    assert [s for s in signs("データ", others) if s.name == "another script"] == []


def test_in_a_small_corpus_two_transcripts_may_do_a_thing_before_it_is_a_habit() -> None:
    for number, expected in ((2, ["likely"] * 2), (3, [])):
        examples = read(*(["one 7"] * number + usual(30)))
        habits = Habits(examples)
        assert [s.certainty for e in examples for s in habits.signs(e) if s.name == "digits"] == expected


def test_a_rare_unit_names_who_has_it_and_phones_are_units() -> None:
    common, rare = example(NONE, "ah b sil", "u"), example(NONE, "ah zh", "odd")
    examples = [
        Example(replace(e.utterance, id=f"{e.utterance.id}{i}"), e.text, tuple(range(len(e.text.split()))), 1, e.load)
        for i, e in enumerate([common] * 4000 + [rare] * 2)
    ]
    habits = Habits(examples)
    assert [s for e in examples[:-2] for s in habits.signs(e)] == []
    (found,) = [s for s in habits.signs(examples[-1]) if s.name == "rare unit"]
    assert found.what == "'zh' stands in 2 of 4002 transcripts, also in odd4000"


def test_units_are_rare_among_a_hundred_transcripts_and_three_are_named() -> None:
    for number, expected in ((99, ["'v'", "'x'", "'y'"]), (98, [])):
        found = [s for s in signs("one zyxv", ["one two"] * number) if s.name == "rare unit"]
        assert [part.split()[0] for s in found for part in s.what.split("; ")] == expected


def test_a_language_of_thousands_of_characters_has_no_rare_ones() -> None:
    examples = read(*(f"的是{chr(0x4E00 + i)}" for i in range(300)))
    habits = Habits(examples)
    assert [s for e in examples for s in habits.signs(e)] == []


def test_in_a_handful_of_transcripts_nothing_is_a_habit() -> None:
    examples = read("one", "two 2", "[x]")
    habits = Habits(examples)
    assert [s for e in examples for s in habits.signs(e)] == []
