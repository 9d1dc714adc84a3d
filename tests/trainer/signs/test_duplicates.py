"""trainer.signs.duplicates: what is there twice is found, whatever was done to its sound, and nothing else is."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile
import soxr

from data.example import Example
from tests.helpers.voices import corpus, example
from trainer.signs.find import signs_of
from trainer.signs.sign import Sign


def quieter(samples: np.ndarray) -> np.ndarray:
    return 0.3 * samples


def telephone(samples: np.ndarray) -> np.ndarray:
    return soxr.resample(soxr.resample(samples, 16_000, 8000), 8000, 16_000)


def through(format: str, subtype: str) -> object:
    def codec(samples: np.ndarray) -> np.ndarray:
        file = io.BytesIO()
        soundfile.write(file, samples, 16_000, format=format, subtype=subtype)
        return soundfile.read(io.BytesIO(file.getvalue()), dtype="float32")[0]

    return codec


def mp3(samples: np.ndarray) -> np.ndarray:
    return through("MP3", "MPEG_LAYER_III")(samples)  # type: ignore[operator]


def vorbis(samples: np.ndarray) -> np.ndarray:
    return through("OGG", "VORBIS")(samples)  # type: ignore[operator]


def later(samples: np.ndarray) -> np.ndarray:
    """With the 50 ms that an encoder puts before it."""
    return np.concatenate([np.zeros(800, np.float32), samples])


@pytest.fixture(scope="module")
def sound() -> list[Example]:
    return corpus(30)


def of_pair(sound: list[Example], other: Example) -> list[list[Sign]]:
    """Signs of example 4 and of `other` behind all; the rest may have none."""
    found = [signs for _, signs in signs_of([*sound, other])]
    assert [s for i, s in enumerate(found[:-1]) if s and i != 4] == []
    return [[s for s in found[i] if s.name in ("two transcripts", "recorded twice")] for i in (4, -1)]


@pytest.mark.parametrize("alter", [lambda x: x, quieter, telephone, mp3, vorbis, later])
def test_one_recording_with_two_transcripts_is_certainly_wrong(sound: list[Example], alter: object) -> None:
    other = example(alter(sound[4].load()).astype(np.float32), "dadedidodugagegi", "again", "s0")  # type: ignore[operator]
    one, two = of_pair(sound, other)
    assert [(s.name, s.certainty) for s in one + two] == [("two transcripts", "certain")] * 2
    assert "again" in one[0].what
    assert "u4" in two[0].what
    assert sound[4].utterance.text in two[0].what


def test_one_recording_with_one_transcript_is_no_more_than_possible(sound: list[Example]) -> None:
    other = example(quieter(sound[4].load()), sound[4].text, "again", "s1")
    one, two = of_pair(sound, other)
    assert [(s.name, s.certainty) for s in one + two] == [("recorded twice", "possible")] * 2


def test_a_corpus_with_everything_twice_is_made_so(sound: list[Example]) -> None:
    twice = [example(e.load(), e.text, f"again-{e.utterance.id}", e.utterance.speaker) for e in sound]
    assert [signs for _, signs in signs_of([*sound, *twice]) if signs] == []


def test_an_utterance_of_two_splits_is_one(sound: list[Example]) -> None:
    assert [signs for _, signs in signs_of([*sound, sound[4]]) if signs] == []


def test_a_long_text_that_a_speaker_reads_twice_is_possible(sound: list[Example]) -> None:
    long = next(i for i, e in enumerate(sound) if len(e.text) >= 20)
    partner = next(e for e in sound[long + 1 :] if len(e.targets) == len(sound[long].targets))
    for speaker, expected in ((sound[long].utterance.speaker, 2), ("another", 0)):
        again = example(partner.load() + np.float32(1e-3), sound[long].text, "again", speaker)
        examples = [*(e for e in sound if e is not partner), again]
        found = [sign for _, signs in signs_of(examples) for sign in signs if sign.name == "text twice"]
        assert [sign.certainty for sign in found] == ["possible"] * expected
