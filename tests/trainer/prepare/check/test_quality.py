"""What a check says of signs: where, how sure, and a remedy that can be typed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.audio.decode import FileAudio
from data.audio.segments import AudioSegment
from data.examples.example import Example
from data.faults import Fault
from tests.helpers.voices import example
from trainer.prepare.check.quality import MANY, REMEDIES, find_outliers, play
from trainer.signs.sign import Certainty, Sign

NOTHING = np.zeros(1, np.float32)


def of(name: str, certainty: Certainty = "likely") -> Sign:
    return Sign(name, "412 peaks", certainty)


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> list[Fault]:
    """Of 40 training utterances and one evaluation utterance, the last two with signs; or as many as are asked for."""
    signs = {
        40: [of("clipped"), of("odd spaces", "possible")],
        41: [of("swapped", "certain")],
        **getattr(request, "param", {}),
    }

    def signs_of(examples: Sequence[Example], progress: object) -> Iterator[tuple[Example, list[Sign]]]:
        return ((e, signs.get(i, [])) for i, e in enumerate(examples))

    monkeypatch.setattr("trainer.prepare.check.quality.signs_of", signs_of)
    train = [example(NOTHING, "a", f"u{i}", "the speaker" if i > 30 else "s") for i in range(41)]
    return list(find_outliers({"train": train, "eval": [example(NOTHING, "a", "e0", "t")]}))


def test_each_sign_is_a_warning_that_says_where_what_and_how_sure(found: list[Fault]) -> None:
    assert [(f.reason, f.split, f.utterance, f.stops) for f in found] == [
        ("clipped", "train", "u40", False), ("odd spaces", "train", "u40", False), ("swapped", "eval", "e0", False),
    ]  # fmt: skip
    assert [f.message for f in found] == [
        "c.jsonl:u40: utterance u40: 412 peaks (likely)", "c.jsonl:u40: utterance u40: 412 peaks",
        "c.jsonl:e0: utterance e0: 412 peaks (certain)",
    ]  # fmt: skip


def test_a_remedy_can_be_typed_whatever_the_file_is_called(found: list[Fault]) -> None:
    clipped, spaces, swapped = found
    assert clipped.remedy.endswith("ffplay -autoexit '/corpus/the speaker/u40.wav'")
    assert spaces.remedy == REMEDIES["odd spaces"]
    assert swapped.remedy == "Does the audio hold what the text says? ffplay -autoexit /corpus/t/e0.wav"


@pytest.mark.parametrize(
    ("part", "options"),
    [
        ({"start": 1.5, "end": 4.0}, "-ss 1.5 -t 2.5 "),
        ({"start": 2.0}, "-ss 2 "),
        ({"channel": 1}, "-af 'pan=mono|c0=c1' "),
        ({"end": 3.0, "channel": 0}, "-t 3 -af 'pan=mono|c0=c0' "),
    ],
)
def test_what_is_played_is_the_part_that_the_utterance_is(part: dict[str, Any], options: str) -> None:
    whole = FileAudio(Path("/corpus/a call.wav"))
    assert play(AudioSegment(whole, **part)) == f"ffplay -autoexit {options}'/corpus/a call.wav'"


@pytest.mark.parametrize("found", [{i: [of("clipped")] for i in range(31, 41)}], indirect=True)
def test_a_speaker_who_stands_out_is_a_warning_behind_all_others(found: list[Fault]) -> None:
    last = found[-2:]
    assert {f.reason for f in last} == {"one speaker stands out", "one folder stands out"}
    assert all((f.remedy, f.stops) == (MANY, False) for f in last)
    assert "speaker the speaker: 10 of 10 clipped, elsewhere 0.0 %" in [f.message for f in last]
