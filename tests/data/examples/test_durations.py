"""A manifest's duration against the audio: counted and named, refused where it clearly means a part of the file.

pytest tests/data/examples/test_durations.py
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile

from data.corpora.manifest import ManifestConfig, ManifestCorpus
from data.examples.drops import refuse_unreadable
from data.examples.durations import compare_durations, describe_durations, find_segments
from data.examples.prepare import prepare_evaluation
from data.text.normalise import plain
from data.utterance import Utterance
from tests.helpers.audio import ALPHABET, BytesAudio, encoded, prepare, sound
from tests.helpers.corpora import make_tone, write_jsonl
from trainer.errors import CorpusError


def said(name: str, duration: float | None, seconds: float = 2.5) -> Utterance:
    audio = BytesAudio(encoded(sound(round(16_000 * seconds))), f"{name}.wav", name)
    return Utterance(name, audio, "a", origin=f"train.jsonl:{name}", stated_duration=duration)


@pytest.mark.parametrize(
    ("duration", "differs", "is_segment"),
    [(None, False, False), (2.5, False, False), (2.26, False, False), (2.74, False, False), (2.24, True, False),
     (2.8, True, False), (25.0, True, False), (1.3, True, False), (1.2, True, True), (0.7, True, True)],
)  # fmt: skip
def test_over_ten_per_cent_differs_and_under_half_is_a_segment(
    duration: float | None, differs: bool, is_segment: bool
) -> None:
    """A file of 2.5 s."""
    utterances = [said("a", duration)]
    assert list(compare_durations(utterances)) == [0] * differs
    assert list(find_segments(utterances)) == [0] * is_segment


def test_difference_of_less_than_half_a_second_is_no_segment() -> None:
    assert find_segments([said("a", 0.2, 0.6)]) == {}


@pytest.mark.parametrize("factor", [1 / 60, 0.25])
def test_durations_in_another_unit_are_no_segments(factor: float) -> None:
    """Minutes, or seconds of another rate: all rows are off by one factor. They are named all the same."""
    utterances = [said(name, seconds * factor, seconds) for name, seconds in (("a", 2.0), ("b", 3.0), ("c", 5.0))]
    assert find_segments(utterances) == {}
    assert describe_durations("train", utterances).startswith("train: the durations of 3 of 3 utterances are over 10 %")


def test_segments_of_several_lengths_are_refused_though_no_row_agrees() -> None:
    assert len(find_segments([said("a", 0.7), said("b", 1.1), said("c", 0.3)])) == 3


def test_differences_are_counted_and_the_first_three_named() -> None:
    utterances = [said("a", 2.5), *(said(f"b{i}", 2.0) for i in range(4))]
    assert describe_durations("eval", utterances) == (
        "eval: the durations of 4 of 5 utterances are over 10 % off their audio (b0: 2 s said, 2.50 s found; b1: 2 s "
        "said, 2.50 s found; b2: 2 s said, 2.50 s found; ...)"
    )
    assert describe_durations("eval", utterances[:1]) == ""


def test_segment_is_refused_in_training_or_dropped() -> None:
    utterances = [said("a", 2.5), said("b", 0.7)]
    with pytest.raises(CorpusError, match=r"^train\.jsonl:b: utterance b: its duration is 0\.7 s, its audio"):
        prepare(*utterances)
    examples, drops = prepare(*utterances, on_bad="drop")
    assert [example.utterance.id for example in examples] == ["a"]
    assert drops.describe() == "train: dropped 1 of 2: 1 longer than their duration (b)"


@pytest.mark.parametrize("on_bad_eval", ["error", "deletions"])
def test_segment_is_refused_in_evaluation_whatever_is_asked_for(on_bad_eval: str) -> None:
    utterances = [said("a", 2.5), said("b", 0.7), said("c", 0.9)]
    _, drops, _ = prepare_evaluation(utterances, plain, ALPHABET, split="eval")
    with pytest.raises(
        CorpusError, match=r'^eval: 2 of 3 .*train\.jsonl:b: .*\("offset"\), or cut the audio'
    ) as caught:
        refuse_unreadable([drops], on_bad_eval)
    assert "train.jsonl:c: utterance c: " in str(caught.value)


@pytest.mark.parametrize("value", [2.5, "2.5", " 2.5 "])
def test_manifest_gives_its_duration(value: object, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", make_tone(0.1), 16_000)
    write_jsonl(tmp_path / "a.jsonl", [{"audio_filepath": "a.wav", "text": "a", "duration": value}])
    corpus = ManifestCorpus(ManifestConfig(train=str(tmp_path / "a.jsonl")))
    assert [u.stated_duration for u in corpus.utterances("train")] == [2.5]


def test_unreadable_audio_has_no_witness(tone: Callable) -> None:
    audio = BytesAudio(b"no audio", "a.wav", "a")
    assert compare_durations([Utterance("a", audio, "a", stated_duration=2.0)]) == {}
