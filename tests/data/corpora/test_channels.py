"""data.corpora.channels: a row is one channel of its file, as both sides of a telephone call are.

pytest tests/data/corpora/test_channels.py
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from data.audio.decode import FileAudio
from data.audio.store import content_digests, open_store
from data.corpora.channels import Channels
from data.corpora.manifest import ManifestConfig, ManifestCorpus
from data.corpora.manifest_table import ManifestTable
from data.faults import Faults
from data.utterance import Utterance
from tests.helpers.corpora import jsonl, write_manifest
from trainer.errors import AudioError, CorpusError

NOBODY = "the mean of all"


@pytest.fixture
def calls(tmp_path: Path) -> Path:
    """The folder of recordings with 1, 2 and 4 channels, none of them alike."""
    for count in (1, 2, 4):
        samples = np.random.default_rng(count).integers(-9000, 9000, (8000, count), np.int16)
        soundfile.write(tmp_path / f"{count}.wav", samples, 16_000)
    return tmp_path


def corpus_of(folder: Path, *rows: dict[str, Any]) -> ManifestCorpus:
    rows = tuple({"audio_filepath": "2.wav", "text": f"text {i}"} | row for i, row in enumerate(rows))
    return ManifestCorpus(ManifestConfig(train=str(write_manifest(folder / "m.jsonl", jsonl(*rows)))))


def channels_of(folder: Path, utterances: Sequence[Utterance]) -> list[int | str]:
    """Which channel each utterance is, 0 the first, by its samples; reference: soundfile."""
    found = list[int | str]()
    for u in utterances:
        samples = u.audio.load()
        file = Path(u.audio.name.partition(",")[0].partition(" from")[0])
        every, _ = soundfile.read(file, dtype="float32", always_2d=True)
        mean = every.mean(axis=1, dtype=np.float32)
        found += [i for i in range(every.shape[1]) if np.array_equal(samples, every[:, i])][:1] or (
            [NOBODY] if np.array_equal(samples, mean) else ["neither"]
        )
    return found


@pytest.mark.parametrize(
    ("column", "values", "expected"),
    [
        ("channel", ["A", "B"], [0, 1]),
        ("Channel", [" b ", "a"], [1, 0]),
        ("channel", ["left", "Right"], [0, 1]),
        ("channel", ["L", "R"], [0, 1]),
        ("channel", [0, 1], [0, 1]),  # lhotse, NeMo
        ("channel", [1, 1, 0], [1, 1, 0]),
        ("channel", ["1", "0"], [1, 0]),
        ("channel", [1, 2], [0, 1]),  # STM, sox
        ("channel", [2, 1], [1, 0]),
        ("channel", [1.0, 2.0], [0, 1]),  # a number in a table with gaps
        ("channel", ["ch1", "CH2"], [0, 1]),
        ("channel", ["channel 0", "channel 1"], [0, 1]),
        ("channel", [[0], [1]], [0, 1]),
        ("channel", ["B", None, ""], [1, NOBODY, NOBODY]),
        ("channel", ["A", [0, 1], "both"], [0, NOBODY, NOBODY]),
        ("audioChannel", [0, 1], [0, 1]),
        ("channel_selector", [1, 1], [1, 1]),  # NeMo's counts from 0
        ("channel index", [1, 1], [1, 1]),
        ("channel_number", [1, 1], [0, 0]),
        ("channel_id", ["UCAuUUnT6oDeKwE6v1NGQxug"], [NOBODY]),  # YouTube's
        ("channel", [True], [NOBODY]),
        ("channel", [-1, "-1"], [NOBODY, NOBODY]),  # all of them, or none is known
        ("channel", ["1.0", "0.0", "nan"], [1, 0, NOBODY]),  # pandas, in a table with gaps
    ],
)
def test_a_row_is_the_channel_that_its_column_says(calls: Path, column: str, values: list[Any], expected: list[Any]):
    rows = [{"id": str(i), column: value} for i, value in enumerate(values)]
    utterances = corpus_of(calls, *rows).utterances("train")
    assert isinstance(utterances, ManifestTable)
    assert channels_of(calls, utterances) == expected


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"channel": 1}], r'm\.jsonl:1: "channel" 1 of 2 channels: is the first one 0 or 1\? Rename the column '),
        ([{"channel": "A"}, {"channel": "C"}], r""":2: "channel" 'C': 2\.wav has 2 channels\. Mend it, or rename"""),
        ([{"channel": 0}, {"channel": 2}], r':2: "channel" 2: 2\.wav has 2 channels'),
        ([{"channel": 1}, {"channel": 3}], r':2: "channel" 3: 2\.wav has 2 channels'),
        ([{"channel": 1, "audio_filepath": "4.wav"}, {"channel": 2}], r":1: .* 1 of 4 channels: is the first one 0"),
        ([{"channel": "A", "channel_index": 1}], r':1: "channel" and "channel_index" say two different channels'),
    ],
)
def test_a_channel_that_is_not_there_or_may_be_two_is_refused_by_its_line(
    calls: Path, rows: list[dict[str, Any]], message: str
):
    with pytest.raises(CorpusError, match=message):
        list(corpus_of(calls, *rows).utterances("train"))


def test_columns_that_say_the_same_do_not_differ(calls: Path):
    rows = [{"id": "a", "channel": "UCx", "channel_index": 1}, {"id": "b", "channel": "A", "audio_channel": "left"}]
    assert channels_of(calls, list(corpus_of(calls, *rows).utterances("train"))) == [1, 0]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"channel": 0, "channel_number": 1}, 0),
        ({"channel": 1, "channel_number": 2}, 1),
        ({"channel": 1, "channel_index": 0}, 0),
        ({"channel": 1, "channel_index": 1}, 1),
        ({"channel": 2, "audio_channel": "B"}, 1),
    ],
)
def test_columns_that_count_from_0_and_from_1_may_say_the_same(calls: Path, row: dict[str, Any], expected: int):
    assert channels_of(calls, list(corpus_of(calls, row).utterances("train"))) == [expected]


def test_another_column_does_not_say_where_a_number_counts_from(calls: Path):
    """Not even one that holds a 0: each tool counts in its own way."""
    rows = [{"channel": 1}, {"channel": 2}, {"channel_index": 0}]
    ids = [{"id": str(i)} | row for i, row in enumerate(rows)]
    assert channels_of(calls, list(corpus_of(calls, *ids).utterances("train"))) == [0, 1, 0]
    rows = [{"id": str(i), "channel": "", "channel_index": "", **row} for i, row in enumerate(rows)]
    assert channels_of(calls, list(corpus_of(calls, *rows).utterances("train"))) == [0, 1, 0]


def test_files_of_one_channel_are_read_as_they_are_and_that_is_told_once(calls: Path):
    """Each side of a call may have been made a file of its own; the column says which it was."""
    rows = [{"id": str(i), "audio_filepath": "1.wav", "channel": i % 2 + 1} for i in range(4)]
    corpus = corpus_of(calls, *rows)
    utterances = corpus.utterances("train")
    assert channels_of(calls, list(utterances)) == [0] * 4
    told = [note for note in corpus.notes if "channel" in note and "transcripts" not in note]
    assert told == ['m.jsonl: "channel" is not read of files that have one channel, as 1.wav']


def test_what_is_no_channel_is_told_once(calls: Path):
    rows = [{"id": str(i), "channel": name} for i, name in enumerate(["TED", "TED", "BBC", None])]
    corpus = corpus_of(calls, *rows)
    list(corpus.utterances("train"))
    (told,) = [note for note in corpus.notes if '"channel"' in note]
    assert told == (
        "m.jsonl: \"channel\" is not read where it is no channel of the file, as 'TED'; channels are averaged"
    )


def test_no_file_is_opened_for_rows_that_say_none_or_the_first():
    """A manifest may have a million files, and a column of YouTube's channels."""

    def refuse() -> FileAudio:
        raise AssertionError("opened")

    channels = Channels("m.jsonl", list, [])
    assert channels.of({"channel": "UCx"}, ["channel"], refuse) is None
    assert channels.of({"channel": "left"}, ["channel"], refuse) == 0


def test_a_column_of_another_name_is_told_as_those_of_audio_and_text_are(calls: Path):
    corpus = corpus_of(calls, {"id": "1", "Kanal": "-", "Channel": "A"}, {"id": "2", "Kanal": "-", "Channel": "B"})
    list(corpus.utterances("train"))
    assert [note for note in corpus.notes if "channel" in note] == ['m.jsonl: channel from "Channel"']


def test_a_missing_file_is_told_of_the_utterance(calls: Path):
    (u,) = corpus_of(calls, {"audio_filepath": "lost.wav", "channel": 2}).utterances("train")
    with pytest.raises(AudioError, match=r"lost\.wav: No such file"):
        u.audio.load()


def test_both_sides_of_a_call_are_utterances_of_their_own(calls: Path):
    """Without ids too; their stretches may overlap. Two rows of one side with two texts are told as those of a file."""
    rows = [{"channel": "A"}, {"channel": "B"}, {"channel": "B", "start": 0.1, "end": 0.3}]
    corpus = corpus_of(calls, *rows)
    utterances = list(corpus.utterances("train"))
    assert [u.id for u in utterances] == ["2.wav#channel=1", "2.wav#channel=2", "2.wav#t=0.1,0.3&channel=2"]
    assert not corpus.notes
    every, _ = soundfile.read(calls / "2.wav", dtype="float32")
    np.testing.assert_array_equal(utterances[2].audio.load(), every[1600:4800, 1])
    assert "2.wav from 0.1 to 0.3 s, channel 2" in utterances[2].audio.name
    corpus = corpus_of(calls, *({"id": str(i), "channel": "B"} for i in range(2)))
    list(corpus.utterances("train"))
    assert "have different transcripts, as lines 1 and 2" in corpus.notes[0]
    checked = ManifestCorpus(corpus.config)
    list(checked.utterances("train", Faults(collects=True)))  # as --check reads, which names every fault
    assert checked.notes == corpus.notes


def test_a_store_keeps_channels_apart(calls: Path, tmp_path: Path):
    """As integers of 16 bits, as the file has them; the file's mean has other digits and another key."""
    rows = [{"id": "a", "channel": "A"}, {"id": "b", "channel": "B"}, {"id": "c", "audio_filepath": "2.wav"}]
    sources = [u.audio for u in corpus_of(calls, *rows).utterances("train")]
    store = open_store(sources, tmp_path / "cache", log=lambda _: None, progress=lambda bar, total: bar)
    every, _ = soundfile.read(calls / "2.wav", dtype="float32")
    np.testing.assert_array_equal(store.load(0), every[:, 0])
    np.testing.assert_array_equal(store.load(1), every[:, 1])
    np.testing.assert_array_equal(store.load(2), every.mean(axis=1, dtype=np.float32))
    assert store.is_int16.tolist() == [True, True, False]
    assert len({store.digest(i) for i in range(3)}) == 3


def test_the_first_channel_of_a_file_of_one_is_the_file(calls: Path):
    """By its id and its content, so that a run whose rows are such goes on and is compared as without the column."""
    (u,) = corpus_of(calls, {"audio_filepath": "1.wav", "channel": 0}).utterances("train")
    np.testing.assert_array_equal(u.audio.load(), FileAudio(calls / "1.wav").load())
    assert u.id == "1.wav"
    assert content_digests([u.audio]).to_pylist() == content_digests([FileAudio(calls / "1.wav")]).to_pylist()
    assert u.audio.header == FileAudio(calls / "1.wav").header
