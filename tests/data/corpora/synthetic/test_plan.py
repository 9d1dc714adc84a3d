"""Who says what in the synthetic corpus: TIMIT's sharing pattern, disjoint splits, the demo's promises. No synthesis.

Run it with: pytest tests/data/corpora/synthetic/test_plan.py
"""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from data.corpora.synthetic.espeak_phones import words_of
from data.corpora.synthetic.plan import ACCENTS, FEMALE, MALE, Speaker
from data.corpora.synthetic.tree import plan
from data.corpora.timit.protocols import CORE_TEST, DEV


@pytest.fixture(scope="module")
def full() -> tuple[Speaker, ...]:
    return plan("full", 0)


def own_texts(speakers: tuple[Speaker, ...], split: str) -> Counter[str]:
    """Readings of every sentence but the SA ones."""
    prompts = (prompt for speaker in speakers if speaker.split == split for prompt in speaker.prompts)
    return Counter(text for name, text in prompts if not name.startswith("SA"))


@pytest.mark.parametrize(("size", "seed"), [("tiny", 0), ("tiny", 1), ("demo", 0), ("demo", 1), ("full", 0)])
def test_no_test_voice_or_sentence_occurs_in_training(size: str, seed: int, full: tuple[Speaker, ...]) -> None:
    speakers = full if size == "full" else plan(size, seed)
    variants = {split: {s.variant for s in speakers if s.split == split} for split in ("TRAIN", "TEST")}
    assert not variants["TRAIN"] & variants["TEST"]
    assert not own_texts(speakers, "TRAIN").keys() & own_texts(speakers, "TEST").keys()
    assert len({speaker.id for speaker in speakers}) == len(speakers)
    numbers = {(name, text) for speaker in speakers for name, text in speaker.prompts}
    assert len({name for name, _ in numbers}) == len({text for _, text in numbers}) == len(numbers)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_demo_test_set_is_large_varied_and_learnable(seed: int) -> None:
    """What the demo's test set promises beside unseen voices and sentences: many words, many distinct, all known."""
    speakers = plan("demo", seed)
    assert Counter(speaker.split for speaker in speakers) == {"TRAIN": 120, "TEST": 24}
    words = Counter(word for text in own_texts(speakers, "TEST").elements() for word in words_of(text))
    known = {word for text in own_texts(speakers, "TRAIN") for word in words_of(text)}
    assert words.total() >= 1000
    assert len(words) >= 40
    assert words.keys() <= known
    assert len({speaker.variant for speaker in speakers if speaker.split == "TEST"}) == 24


def test_full_plan_has_timits_shape(full: tuple[Speaker, ...]) -> None:
    """462 and 168 speakers of ten sentences; 450 SX texts read by seven each and 1890 SI texts by one (LDC93S1)."""
    assert Counter((s.split, s.id[0]) for s in full) == {
        ("TRAIN", "F"): 136, ("TRAIN", "M"): 326, ("TEST", "F"): 56, ("TEST", "M"): 112
    }  # fmt: skip
    assert sum(len(s.prompts) for s in full if s.split == "TRAIN") == 4620
    assert {s.id for s in full if s.split == "TEST"} > {*CORE_TEST, *DEV}
    readings = Counter(prompt for s in full for prompt in s.prompts)
    by_type = {kind: [n for (name, _), n in readings.items() if name[:2] == kind] for kind in ("SA", "SX", "SI")}
    assert by_type["SA"] == [630, 630]
    assert (len(by_type["SX"]), set(by_type["SX"])) == (450, {7})
    assert (len(by_type["SI"]), set(by_type["SI"])) == (1890, {1})
    num_words = [len(words_of(text)) for (name, text) in readings]
    assert 8.5 <= np.mean(num_words) <= 9.7
    texts = "".join(text for _, text in readings)
    assert all(mark in texts for mark in ".?,'-")
    assert all(text[0].isupper() and text[-1] in ".?" for _, text in readings)


@pytest.mark.parametrize("size", ["tiny", "demo"])
def test_small_sizes_have_core_dev_and_other_test_speakers(size: str) -> None:
    ids = {speaker.id for speaker in plan(size, 0) if speaker.split == "TEST"}
    assert ids & set(CORE_TEST)
    assert ids & set(DEV)
    assert ids - {*CORE_TEST, *DEV}
    trained = {speaker.id for speaker in plan(size, 0) if speaker.split == "TRAIN"}
    assert not trained & {*CORE_TEST, *DEV}


def test_variants_exist_with_the_sex_they_are_listed_under() -> None:
    """Against the `gender` lines of espeak-ng's own voice files; without one espeak-ng takes a man."""
    espeakng_loader = pytest.importorskip("espeakng_loader", reason="the extra [synthetic] is not installed")
    folder = Path(espeakng_loader.get_data_path()) / "voices" / "!v"
    for sex, listing in (("F", FEMALE), ("M", MALE)):
        for variant in listing.split():
            lines = (folder / variant).read_text(errors="replace").lower().splitlines()
            genders = [line.split()[1] for line in lines if line.startswith("gender")]
            assert (genders or ["male"])[0].startswith("female") == (sex == "F"), variant
    assert all(speaker.voice.startswith(ACCENTS[speaker.dialect - 1] + "+") for speaker in plan("tiny", 0))
