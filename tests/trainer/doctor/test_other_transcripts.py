"""pytest tests/trainer/doctor/test_other_transcripts.py"""

from __future__ import annotations

import random
import time

import pytest

from trainer.doctor.other_transcripts import TextIndex, _better_match, edits, find_swaps

WORDS = [
    a + b + c for a in ("bra", "clo", "dri", "fe", "gu") for b in ("nt", "lm", "sk", "pp") for c in ("er", "on", "y")
]


def sentences(n: int, length: int = 7) -> list[str]:
    rng = random.Random(n)
    return [" ".join(rng.choices(WORDS, k=length)) for _ in range(n)]


def misheard(text: str) -> str:
    """What a model writes that is right but for two letters."""
    return text[:3] + "x" + text[4:-2] + "z"


def edits_by_hand(a: str, b: str) -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, row = row, [i]
        for j, y in enumerate(b, 1):
            row.append(min(before[j] + 1, row[-1] + 1, before[j - 1] + (x != y)))
    return row[-1]


def test_the_nearest_text_is_found_as_by_comparing_all() -> None:
    texts = sentences(80)
    index = TextIndex(texts)
    for k in (0, 17, 79):
        written = misheard(texts[k])
        by_hand = min(range(80), key=lambda i: edits_by_hand(written, texts[i]) / max(len(written), len(texts[i])))
        best = index.search(written)[0]
        assert best.text == by_hand == k
        assert best.rate == pytest.approx(edits_by_hand(written, texts[k]) / len(texts[k]))
        assert all(match.text != k for match in index.search(written, but=k))


def test_swapped_pairs_are_told_from_a_transcript_that_has_only_been_copied() -> None:
    said = sentences(200)
    texts = said.copy()
    texts[5], texts[90] = said[90], said[5]
    texts[33] = said[34]  # its own transcript is nowhere
    hypotheses = [misheard(text) for text in said]
    found = find_swaps(hypotheses, texts, range(200), phones=False)
    assert set(found) == {5, 90}
    assert (found[5].position, found[90].position) == (90, 5)
    assert found[5].is_mutual
    assert found[90].is_mutual
    assert found[5].own_rate > 0.5 > 0.1 > found[5].rate


def test_shifted_rows_are_told_as_such() -> None:
    said = sentences(100)
    texts = said.copy()
    texts[40:50] = said[41:51]  # the transcripts of ten recordings stand one row too early
    texts[50] = said[40]
    found = find_swaps([misheard(text) for text in said], texts, range(100), phones=False)
    assert {i for i, swap in found.items() if swap.shift == -1} == set(range(41, 51))
    assert found[40].position == 50
    assert found[40].shift == 0


def test_two_stretches_that_are_swapped_are_no_shifted_rows() -> None:
    said = sentences(20)
    texts = [*said[3:6], *said[:3], *said[6:]]
    found = find_swaps([misheard(text) for text in said], texts, range(20), phones=False)
    assert {i: (swap.position, swap.is_mutual, swap.shift) for i, swap in found.items()} == {
        i: ((i + 3) % 6, True, 0) for i in range(6)
    }


def test_of_several_owners_the_one_that_has_this_transcript_in_turn_is_named() -> None:
    said = sentences(60)
    said[10] = said[20] = said[30] = said[40]  # read by four
    texts = said.copy()
    texts[20], texts[50] = said[50], said[20]
    swap = find_swaps([misheard(text) for text in said], texts, [20, 50], phones=False)
    assert swap[20].position == 50
    assert swap[20].is_mutual
    assert swap[20].num_owners == 4
    assert swap[50].position == 20
    assert swap[50].num_owners == 1


def test_in_a_corpus_of_few_sentences_a_match_by_chance_names_nobody() -> None:
    """Digits: what a model mishears is the transcript of some other utterance, whatever it writes."""
    digits = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    texts = [f"{a} {b}" for a in digits for b in digits]
    hypotheses = texts.copy()
    hypotheses[12] = "one nines"
    assert find_swaps(hypotheses, texts, [12], phones=False) == {}
    missing_a_word = ["the cat sat on the mat", "the cat sat on the"]  # a word is missing: an alignment says so better
    assert find_swaps([missing_a_word[0], ""], missing_a_word[::-1], [0, 1], phones=False) == {}


SAID = "abcdefghijklmnopqrst"


def but(number: int, letter: str, text: str = SAID) -> str:
    """`text` with another letter in so many places at its end."""
    return text[: len(text) - number] + letter * number


@pytest.mark.parametrize(
    ("written", "own", "others", "rates"),
    [
        (but(8, "x"), but(20, "z"), [SAID], (0.4, 1.0)), (but(9, "x"), but(20, "z"), [SAID], None),
        (SAID, but(8, "z"), [SAID], (0.0, 0.4)), (SAID, but(7, "z"), [SAID], None),
        (but(6, "x"), but(12, "z"), [SAID], (0.3, 0.6)), (but(6, "x"), but(11, "z"), [SAID], None),
        (SAID[:8], "z" * 8, [SAID[:8]], (0.0, 1.0)), (SAID[:7], "z" * 7, [SAID[:7]], None),
        (SAID, but(20, "z"), [but(1, c) for c in "uvw"], (0.05, 1.0)),
        (SAID, but(20, "z"), [but(1, c) for c in "uvwx"], None),
    ],
    ids=["sure", "unsure", "differs", "hardly differs", "twice", "less than twice", "long", "short", "three", "four"],
)  # fmt: skip
def test_another_transcript_fits_from_its_limits_on(
    written: str, own: str, others: list[str], rates: tuple[float, float] | None
) -> None:
    found = _better_match(TextIndex([own, *others]), written, own)
    assert (None if found is None else (found[0].rate, found[1])) == rates


def test_phones_are_compared_as_units() -> None:
    assert edits(["aa", "ch"], ["aa", "sh"]) == 1
    assert edits([], ["aa"]) == 1
    assert edits("", "abc") == 3
    index = TextIndex(["aa ch ih n", "sh iy hh ae d y er"], phones=True)
    assert index.rate("aa ch ih n", "aa ch ih ng") == 0.25
    assert index.search("sh iy hh ae d er")[0].text == 1


def test_what_stands_in_more_than_five_hundred_texts_finds_none_of_them() -> None:
    for number, found in ((500, 8), (501, 0)):
        assert len(TextIndex([f"said{chr(0x4E00 + i)}" for i in range(number)]).search("said")) == found


def test_texts_that_are_not_unicode_and_empty_ones_are_searched_too() -> None:
    index = TextIndex(["caf\udce9 au lait", "", "na\u00efve"])
    assert index.search("caf\udce9 au lai")[0].text == 0
    assert index.search("") == [] or index.search("")[0].rate <= 1


def test_the_time_grows_with_the_corpus_and_not_with_its_square() -> None:
    """Eight times as many texts take less than 32 times as long: comparing all with all would take 64 times."""

    def seconds(n: int) -> float:
        said = sentences(n)
        begin = time.process_time()
        find_swaps([misheard(text) for text in said], said[1:] + said[:1], range(0, n, 10), phones=False)
        return time.process_time() - begin

    seconds(50)
    assert seconds(1600) < 32 * seconds(200)
