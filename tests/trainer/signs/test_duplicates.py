"""trainer.signs.duplicates: what is there twice is found, whatever was done to its sound, and nothing else is."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr

from data.examples.example import Example
from tests.helpers.voices import corpus, example
from trainer.errors import AudioError
from trainer.signs.duplicates import find_duplicates
from trainer.signs.find import signs_of
from trainer.signs.measured import ROW, measure_all, quietly


def quieter(samples: np.ndarray) -> np.ndarray:
    return 0.3 * samples


def telephone(samples: np.ndarray) -> np.ndarray:
    return soxr.resample(soxr.resample(samples, 16_000, 8000), 8000, 16_000)


def through(samples: np.ndarray, format: str, subtype: str) -> np.ndarray:
    file = io.BytesIO()
    soundfile.write(file, samples, 16_000, format=format, subtype=subtype)
    return soundfile.read(io.BytesIO(file.getvalue()), dtype="float32")[0]


def mp3(samples: np.ndarray) -> np.ndarray:
    return through(samples, "MP3", "MPEG_LAYER_III")


def vorbis(samples: np.ndarray) -> np.ndarray:
    return through(samples, "OGG", "VORBIS")


def later(samples: np.ndarray) -> np.ndarray:
    """With the 50 ms that an encoder puts before it."""
    return np.concatenate([np.zeros(800, np.float32), samples])


@pytest.fixture(scope="module")
def sound() -> tuple[list[Example], np.ndarray]:
    """Twenty recordings and their rows."""
    examples = corpus(20)
    return examples, measure_all(examples, quietly)


@pytest.mark.parametrize("alter", [lambda x: x, quieter, telephone, mp3, vorbis, later])
def test_one_recording_with_two_transcripts_is_certainly_wrong(
    sound: tuple[list[Example], np.ndarray], alter: Callable[[np.ndarray], np.ndarray]
) -> None:
    examples, rows = sound
    other = example(alter(examples[4].load()).astype(np.float32), "dadedidodugagegi", "again", "s0")
    rows = np.concatenate([rows, measure_all([other], quietly)])
    found = find_duplicates([*examples, other], rows, np.zeros(21, int))
    assert list(found) == [4, 20]
    (one,), (two,) = found[4], found[20]
    assert [(s.name, s.certainty) for s in (one, two)] == [("two transcripts", "certain")] * 2
    assert "again" in one.what
    assert "u4" in two.what
    assert examples[4].utterance.text in two.what


def test_what_is_certain_is_told_first(sound: tuple[list[Example], np.ndarray]) -> None:
    """Of a copy that is too quiet, with a tag in its transcript."""
    other = example(0.05 * sound[0][4].load(), "dadedidodugagegi", "again", "s0", raw="dadedido<b>dugagegi")
    *_, (_, signs) = signs_of([*sound[0], other])
    assert [(sign.name, sign.certainty) for sign in signs] == [
        ("two transcripts", "certain"), ("markup", "likely"), ("level", "possible"),
    ]  # fmt: skip


# By rows that are written by hand: what looks alike may be so or not

RNG = np.random.default_rng(0)
NOISE = [RNG.standard_normal(400).astype(np.float32) for _ in range(40)]


def read(number: int, **changes: Any) -> tuple[list[Example], np.ndarray]:
    """Recordings of noise, no two alike, with transcripts of 30 characters; their rows, with fingerprints far apart."""
    rows = np.zeros(number, ROW)
    rows["is_measured"], rows["modulation"], rows["seconds"] = True, 20.0, 3.0
    rows["content"] = np.arange(number) + 1
    rows["fingerprint"] = np.random.default_rng(1).integers(0, 256, rows["fingerprint"].shape)
    for name, value in changes.items():
        rows[name] = value
    return [example(NOISE[i], f"{i:02d} is a transcript of its own", f"u{i}", "s") for i in range(number)], rows


def counted(examples: list[Example], tells: Callable[[], Any] = lambda: None) -> tuple[list[Example], Counter[str]]:
    """The examples, and how often each has been loaded since."""
    loads: Counter[str] = Counter()

    def load(e: Example) -> np.ndarray:
        loads[e.utterance.id] += 1
        tells()
        return e.load()

    return [replace(e, load=lambda e=e: load(e)) for e in examples], loads  # type: ignore[misc]


def told(examples: list[Example], rows: np.ndarray, speakers: list[int] | None = None) -> dict[int, list[str]]:
    found = find_duplicates(examples, rows, np.array(speakers or [0] * len(examples)))
    return {i: [f"{sign.certainty}: {sign.name}" for sign in signs] for i, signs in sorted(found.items())}


def test_unlike_recordings_with_one_fingerprint_are_told_apart_and_each_is_heard_a_few_times() -> None:
    """So many are alike in a corpus with a jingle, or with a hum; a hum is not looked at."""
    examples, loads = counted(read(40)[0])
    assert told(examples, read(40, fingerprint=7)[1]) == {}
    assert 0 < max(loads.values()) <= 4
    loads.clear()
    assert told(examples, read(40, fingerprint=7, modulation=5.9)[1]) == {}
    assert not loads


def test_recordings_of_nearly_one_length_are_compared_wherever_the_length_lies() -> None:
    for seconds in np.geomspace(1, 1.03, 12):
        examples, loads = counted(read(2)[0])
        told(examples, read(2, fingerprint=7, seconds=[seconds + 0.2, 1.012 * seconds + 0.2], lead=0.1, trail=0.1)[1])
        assert len(loads) == 2
    examples, loads = counted(read(2)[0])
    told(examples, read(2, fingerprint=7, seconds=[3.0, 3.2])[1])
    assert not loads


def test_a_recording_that_cannot_be_loaded_again_is_like_no_other() -> None:
    def fail() -> None:
        raise AudioError("gone")

    examples, _ = counted(read(2)[0], fail)
    assert told(examples, read(2, fingerprint=7)[1]) == {}


def test_a_text_that_is_said_twice_counts_from_twenty_characters_on_and_not_beside_the_recording() -> None:
    for length, expected in ((19, {}), (20, {3: ["possible: text twice"], 5: ["possible: text twice"]})):
        examples, rows = read(40)
        examples[3], examples[5] = (replace(examples[i], text="x" * length) for i in (3, 5))
        assert told(examples, rows) == expected
        assert told(examples, rows, list(range(40))) == told(examples, rows, [-1] * 40) == {}
        rows["content"][5] = rows["content"][3]
        examples[5] = replace(examples[5], targets=examples[3].targets)
        assert told(examples, rows) == {3: ["possible: recorded twice"], 5: ["possible: recorded twice"]}


def test_what_more_than_one_in_twenty_does_twice_is_a_habit_but_never_two_transcripts() -> None:
    for pairs, expected in ((2, ["possible: recorded twice"]), (3, [])):
        examples, rows = read(40)
        for i in range(pairs):
            examples[i + 20] = replace(examples[i + 20], targets=examples[i].targets)
            rows["content"][i + 20] = rows["content"][i]
        for i in range(10, 15):
            rows["content"][i + 20] = rows["content"][i]
        found = told(examples, rows)
        assert found.get(0, []) == expected
        assert all(found[i] == ["certain: two transcripts"] for i in (*range(10, 15), *range(30, 35)))
    for pairs, number in ((2, 4), (3, 0)):
        examples, rows = read(40)
        for i in range(pairs):
            examples[i + 20] = replace(examples[i + 20], text=examples[i].text)
        assert len(told(examples, rows)) == number


def test_an_utterance_of_two_splits_is_one() -> None:
    examples, rows = read(40)
    for alike in ("content", "fingerprint"):
        rows[alike][5] = rows[alike][3]
        assert told([*examples[:5], examples[3], *examples[6:]], rows) == {}


def test_a_long_transcript_is_cited_by_its_beginning() -> None:
    examples, rows = read(2)
    rows["content"] = 1
    examples[1] = replace(examples[1], utterance=replace(examples[1].utterance, text="ab" * 100), targets=(1,))
    (sign,) = find_duplicates(examples, rows, np.array([-1, -1]))[0]
    assert sign.what == f"the same samples as u1, whose transcript is {'ab' * 30!r}"
