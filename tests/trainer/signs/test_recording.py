"""trainer.signs.find: each fault of a recording shows its sign, and a sound corpus shows none."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest

from data.examples.example import Example
from tests.helpers.voices import corpus, example, voice
from trainer.signs.find import signs_of
from trainer.signs.measured import Progress, measure_all, quietly
from trainer.signs.pace import Pace
from trainer.signs.planting import SOUND
from trainer.signs.sign import Sign


@pytest.fixture(scope="module")
def sound() -> list[Example]:
    return corpus()


@pytest.fixture(autouse=True, scope="module")
def measured_once(sound: list[Example]) -> Iterator[None]:
    """What sounds as in `sound` is not measured again."""
    known = {id(e.load): row for e, row in zip(sound, measure_all(sound, quietly), strict=True)}

    def measure(examples: Sequence[Example], progress: Progress) -> np.ndarray:
        rows = measure_all([e if id(e.load) not in known else replace(e, num_samples=0) for e in examples], progress)
        for i, e in enumerate(examples):
            if id(e.load) in known and e.num_samples > 0:
                rows[i] = known[id(e.load)]
                rows[i]["units"] = len(e.targets)
        return rows

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trainer.signs.find.measure_all", measure)
        yield


def signs(examples: list[Example], odd: np.ndarray, number: int = 7) -> list[Sign]:
    """Of example `number`, if it sounded like `odd`; no other one may show any."""
    changed = replace(examples[number], load=lambda: odd, num_samples=len(odd))
    found = list(signs_of([*examples[:number], changed, *examples[number + 1 :]]))
    assert [e.utterance.id for e, of in found if of and e is not changed] == []
    return found[number][1]


def names(found: list[Sign]) -> dict[str, str]:
    return {sign.name: sign.certainty for sign in found}


def test_a_sound_corpus_shows_nothing(sound: list[Example]) -> None:
    found = list(signs_of(sound))
    assert [example for example, _ in found] == sound
    assert [of for _, of in found if of] == []


@pytest.mark.parametrize(
    ("fault", "name", "certainty"),
    [("band", "band limited", "likely"), ("clipped", "clipped", "likely"), ("silence", "silence", "certain"),
     ("noise", "noise", "certain"), ("offset", "constant offset", "likely"),
     ("speed", "wrong rate or speed", "likely")],
)  # fmt: skip
@pytest.mark.parametrize("seed", range(2))
def test_a_fault_shows_its_sign(sound: list[Example], fault: str, name: str, certainty: str, seed: int) -> None:
    odd, _ = SOUND[fault](sound[7].load(), 16_000, random.Random(seed))
    assert names(signs(sound, odd.astype(np.float32)))[name] == certainty


@pytest.mark.parametrize("end", ["start", "end"])
def test_speech_that_is_cut_off_is_seen_at_that_end(sound: list[Example], end: str) -> None:
    """In the middle of a syllable."""
    whole = sound[7].load()
    edge = 640 + 2560 * 2 + 480 * 2 + 1280
    found = signs(sound, whole[edge:] if end == "start" else whole[:edge])
    cut = next(sign for sign in found if sign.name == f"cut off at the {end}")
    assert (cut.certainty, cut.start == 0.0) == ("likely", end == "start")


def test_zeros_within_speech_are_found_where_they_are(sound: list[Example]) -> None:
    odd = sound[7].load().copy()
    odd[9000:10_000] = 0
    hole = next(sign for sign in signs(sound, odd) if sign.name == "drop-out")
    assert (hole.start, hole.end) == (pytest.approx(9000 / 16_000), pytest.approx(10_000 / 16_000))


def test_a_long_silence_is_no_more_than_possible(sound: list[Example]) -> None:
    quiet = 0.0007 * np.random.default_rng(0).standard_normal(48_000).astype(np.float32)
    found = names(signs(sound, np.concatenate([sound[7].load(), quiet])))
    assert found["long silence at the end"] == "possible"


def test_what_half_the_corpus_shows_is_how_it_was_made(sound: list[Example]) -> None:
    """Cut tight, with gaps of zeros, at half the band: nothing of it is likely a fault."""
    made = []
    for e in sound:
        samples, _ = SOUND["band"](e.load()[1500:-1500], 16_000, random.Random(0))
        samples[8000:8500] = 0
        made.append(replace(e, load=lambda samples=samples: samples, num_samples=len(samples)))
    found = [sign for _, of in signs_of(made) for sign in of]
    assert {sign.name for sign in found} <= {"band limited"}
    assert {sign.certainty for sign in found} == {"possible"}


def test_the_pace_is_that_of_the_speaker(sound: list[Example]) -> None:
    """A speaker who always takes twice as long is not odd; one utterance of the others that does is."""
    slow = [
        example(voice(2 * len(e.text) // 2, i + 500, 110), e.text, f"v{i}", "slow") for i, e in enumerate(sound[:15])
    ]
    halves = [replace(e, targets=e.targets[::2]) for e in slow]
    assert [of for _, of in signs_of([*sound, *halves]) if of] == []
    odd = replace(sound[7], targets=sound[7].targets[::2])
    found = dict(zip(range(60), signs_of([*sound[:7], odd, *sound[8:]]), strict=False))
    assert {sign.name for sign in found[7][1]} == {"too slow"}


def test_a_slow_speaker_is_measured_by_their_own_pace() -> None:
    """100 utterances, of which speaker 3 needs twice the time; 0 and 3 have one that takes three times theirs."""
    rng = np.random.default_rng(0)
    units, speakers = rng.integers(20, 60, 100), np.arange(100) % 4
    seconds = units / 12 * np.where(speakers == 3, 2.0, 1.0) * rng.lognormal(0, 0.03, 100)
    seconds[[40, 43]] *= 3
    pace = Pace(seconds, seconds, units, speakers)
    assert [i for i in range(100) if list(pace.signs(i))] == [40, 43]
    assert pace.ratios[[40, 43]] == pytest.approx(1 / 3, rel=0.15)
    assert np.median(pace.ratios[speakers == 3]) == pytest.approx(1, rel=0.02)


def test_speakers_need_not_be_known(sound: list[Example]) -> None:
    nameless = [replace(e, utterance=replace(e.utterance, speaker=None)) for e in sound]
    assert [of for _, of in signs_of(nameless) if of] == []


def test_what_cannot_be_decoded_or_compared_shows_nothing(sound: list[Example]) -> None:
    empty = replace(sound[0], num_samples=0)
    assert [of for _, of in signs_of([empty, *sound[1:]]) if of] == []
    assert [of for _, of in signs_of(sound[:3]) if of] == []
    assert list(signs_of([])) == []


def test_a_second_of_any_length_is_measured() -> None:
    for n in (1, 2, 100, 511, 3000):
        samples = voice(3, 0)[5000 : 5000 + n]
        list(signs_of([example(samples, "abc", "x")]))
