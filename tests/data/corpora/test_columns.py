"""data.corpora.columns and manifest: known names of columns, paths as others write them, parts of files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data.audio.decode import FileAudio
from data.corpora.columns import known_as
from data.corpora.manifest import ManifestConfig, ManifestCorpus
from tests.helpers.corpora import jsonl, write_manifest
from tests.helpers.corpora import read_manifest as read
from trainer.errors import CorpusError

ROW = {"id": "a", "audio_filepath": "a.wav", "text": "so it goes"}


# Columns under other names


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("path,sentence,client_id", 'audio from "path", text from "sentence", speaker from "client_id"'),
        ("file_name,transcription,spk", 'audio from "file_name", text from "transcription", speaker from "spk"'),
        ("wav,wrd,spk_id", 'audio from "wav", text from "wrd", speaker from "spk_id"'),
        ("wav_filename,transcript,speaker", 'audio from "wav_filename", text from "transcript"'),
        ("File Name,Text,SPEAKER", 'audio from "File Name", text from "Text", speaker from "SPEAKER"'),
        ("audioFilepath,Text,speakerId", 'audio from "audioFilepath", text from "Text", speaker from "speakerId"'),
        ("audio_filepath,text,speaker", None),
    ],
)  # fmt: skip
def test_known_names_of_columns_are_read_and_told(tmp_path: Path, header: str, expected: str | None):
    corpus = ManifestCorpus(ManifestConfig(train=str(write_manifest(tmp_path / "m.csv", f"{header}\na.wav,so,s1\n"))))
    (u,) = corpus.utterances("train")
    assert (u.id, u.audio.name, u.text, u.speaker) == ("a.wav", str(tmp_path / "a.wav"), "so", "s1")
    assert corpus.notes == ([f"m.csv: {expected}"] if expected else [])


def test_column_that_was_asked_for_is_not_replaced_by_another(tmp_path: Path):
    row = {"path": "b.wav", "file": "c.wav", "sentence": "hello"}
    with pytest.raises(CorpusError, match=r'no "transcript" field \(fields: path, file, sentence\)'):
        read(write_manifest(tmp_path / "m.jsonl", jsonl(row)), text_field="transcript", audio_field="path")
    with pytest.raises(CorpusError, match=r'no "wav" field \(fields: path, file, sentence\)'):
        read(write_manifest(tmp_path / "m.jsonl", jsonl(row)), audio_field="wav")


def test_two_columns_that_may_be_the_audio_are_asked_about(tmp_path: Path):
    path = write_manifest(tmp_path / "m.csv", "path,text,file\na.wav,so,b.wav\nc.wav,so,d.wav\n")
    with pytest.raises(CorpusError) as caught:
        read(path)
    asks = 'no "audio_filepath" field; "path" and "file" may be it: name one with --corpus.audio-field.'
    assert str(caught.value) == f"{path}:1: {asks}"


def test_columns_of_json_rows_stay_what_the_first_row_says(tmp_path: Path):
    rows = jsonl({"audio": "a.wav", "text": "x"}, {"audio": "b.wav", "sentence": "y"})
    with pytest.raises(CorpusError, match=r':2: no "text" field \(fields: audio, sentence\)'):
        read(write_manifest(tmp_path / "m.jsonl", rows))


def test_usual_names_win_over_other_known_ones(tmp_path: Path):
    row = {"path": "no", "audio_filepath": "a.wav", "sentence": "no", "text": "so", "client_id": "no", "speaker": "s"}
    (u,) = read(write_manifest(tmp_path / "m.jsonl", jsonl(row)))
    assert (u.id, u.text, u.speaker) == ("a.wav", "so", "s")


@pytest.mark.parametrize("name", ["ID", "utt_id", "uttId", "utterance id"])
def test_ids_are_read_under_other_names_and_told(tmp_path: Path, name: str):
    manifest = write_manifest(tmp_path / "m.csv", f"{name},audio_filepath,text\nu1,a.wav,so\n,b.wav,so\n")
    corpus = ManifestCorpus(ManifestConfig(train=str(manifest)))
    assert [u.id for u in corpus.utterances("train")] == ["u1", "b.wav"]
    assert corpus.notes == [f'm.csv: id from "{name}"']


@pytest.mark.parametrize("value", [12, 12.0, "12", "12.0", "12,0", " 12 "], ids=repr)
def test_a_speaker_has_one_name_in_all_tables(tmp_path: Path, value: object):
    """pandas makes floats of whole numbers in a column with gaps."""
    (u,) = read(write_manifest(tmp_path / "m.jsonl", jsonl({**ROW, "speaker": value})))
    assert u.speaker == "12"


@pytest.mark.parametrize("value", [None, float("nan"), "", " ", "nan", "NaN", "None", "null", "<NA>"], ids=repr)
def test_a_speaker_that_is_not_known_is_nobody(tmp_path: Path, value: object):
    (u,) = read(write_manifest(tmp_path / "m.jsonl", jsonl({**ROW, "speaker": value})))
    assert u.speaker is None


SPLITS = {
    "train and test": (["train", "test"], '"split" is "train" and "test", and a manifest is one split'),
    "training and dev": (["Training", "dev", "dev"], '"split" is "Training" and "dev"'),
    "LibriSpeech's": (["train-clean-100", "test-other"], '"split" is "train-clean-100" and "test-other"'),
    "two parts of one": (["train-clean-100", "train-clean-360"], None),
    "one": (["train", "train"], None),
    "one under two names": (["dev", "validation"], None),
    "no splits": (["clean", "other", "validated", "tested"], None),
}


@pytest.mark.parametrize(("values", "message"), SPLITS.values(), ids=SPLITS)
@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_rows_of_several_splits_are_refused(tmp_path: Path, values: list[str], message: str | None, suffix: str):
    rows = [{"audio_filepath": f"{i}.wav", "text": "so", "split": value} for i, value in enumerate(values)]
    table = "audio_filepath,text,split\n" + "".join(",".join(row.values()) + "\n" for row in rows)
    path = write_manifest(tmp_path / f"m.{suffix}", table if suffix == "csv" else jsonl(*rows))
    if message is None:
        assert len(read(path)) == len(values)
    else:
        with pytest.raises(CorpusError) as caught:
            read(path)
        assert str(caught.value).startswith(f"{path}: {message}")


def test_rows_that_name_one_file_with_different_transcripts_are_told(tmp_path: Path):
    rows = [{**ROW, "id": str(i), "text": text, "t_0": i} for i, text in enumerate(["a", "b", "c"])]
    corpus = ManifestCorpus(ManifestConfig(train=str(write_manifest(tmp_path / "m.jsonl", jsonl(*rows)))))
    list(corpus.utterances("train"))
    (note,) = corpus.notes
    assert f"lines 1 and 2 ({tmp_path / 'a.wav'}); such files: 1" in note


def test_rows_that_repeat_a_file_or_cut_it_are_not_told(tmp_path: Path):
    again = [{**ROW, "id": str(i)} for i in range(2)]
    parts = [{**ROW, "id": f"p{i}", "text": str(i), "start": i, "end": i + 1} for i in range(2)]
    corpus = ManifestCorpus(ManifestConfig(train=str(write_manifest(tmp_path / "m.jsonl", jsonl(*again, *parts)))))
    assert len(list(corpus.utterances("train"))) == 4
    assert not corpus.notes


# Paths as others write them


COMMON_VOICE = 'client_id\tpath\tsentence\tup_votes\tsegment\nx7\tcv_1.mp3\t"Merhaba", dedi.\t2\t\n'


def test_common_voices_own_table_is_read_as_it_is(tmp_path: Path, write_tone: Callable):
    write_tone("clips/cv_1.mp3", 0.3)
    (u,) = read(write_manifest(tmp_path / "train.tsv", COMMON_VOICE))
    assert (u.id, u.text, u.speaker) == ("cv_1.mp3", '"Merhaba", dedi.', "x7")
    assert u.audio.num_samples == 4800


def test_common_voices_clips_may_lie_beside_the_table(tmp_path: Path, write_tone: Callable):
    path = write_tone("cv_1.mp3", 0.3)
    (tmp_path / "clips").mkdir()
    (u,) = read(write_manifest(tmp_path / "train.tsv", COMMON_VOICE))
    assert u.audio.name == str(path)


@pytest.mark.parametrize("written", ["wav\\a b.wav", "wav/a%20b.wav", "file://{folder}/wav/a%20b.wav", "~/wav/a b.wav"])
def test_path_as_another_system_writes_it_is_found(
    tmp_path: Path, write_tone: Callable, monkeypatch: pytest.MonkeyPatch, written: str
):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_tone("wav/a b.wav", 0.1)
    (tmp_path / "m").mkdir()
    folder = tmp_path / "m" if written.startswith("~") else tmp_path
    row = {**ROW, "audio_filepath": written.format(folder=tmp_path)}
    assert read(write_manifest(folder / "m.jsonl", jsonl(row)))[0].audio.num_samples == 1600


@pytest.mark.parametrize("name", ["a%20b.wav", "a\\b.wav", "~/a.wav"])
def test_file_that_is_really_called_so_comes_first(tmp_path: Path, write_tone: Callable, name: str):
    path = write_tone(name, 0.1)
    write_tone("a b.wav", 0.2)
    write_tone("a/b.wav", 0.2)
    assert read(write_manifest(tmp_path / "m.jsonl", jsonl({**ROW, "audio_filepath": name})))[0].audio.name == str(path)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("https://example.org/a.wav", ":1: the audio's path https://example.org/a.wav is an address: fetch the file"),
        ("wav\new.wav", r":1: the audio's path 'wav\new.wav' holds U+000A: a single backslash? Write / or \\."),
    ],
)
def test_path_that_cannot_be_a_file_is_refused(tmp_path: Path, written: str, message: str):
    path = write_manifest(tmp_path / "m.jsonl", jsonl({**ROW, "audio_filepath": written}))
    with pytest.raises(CorpusError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}{message}")


# Parts of files


PARTS = {
    "offset and duration": [{"offset": 0.0, "duration": 0.7}, {"offset": 0.7, "duration": 0.8}],
    "start and end": [{"start": 0.0, "end": 0.7}, {"start": 0.7, "end": 1.5}],
    "start, end and duration": [{"start": 0, "end": 0.7, "duration": 0.7}, {"start": 0.7, "end": 1.5, "duration": 0.8}],
    "start_time and end_time": [{"start_time": 0, "end_time": 0.7}, {"start_time": 0.7, "end_time": 1.5}],
    "begin and stop": [{"begin": 0, "stop": 0.7}, {"begin": 0.7, "stop": 1.5}],
}


@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".tsv"])
def test_part_of_a_file_is_an_utterance_of_its_own(tmp_path: Path, write_tone: Callable, suffix: str, parts: str):
    """Reference: soundfile reads the frames. The same in every format; ids stay unique without an id."""
    path = write_tone("a.wav", 2.5, subtype="PCM_16")
    rows = [{"audio_filepath": "a.wav", "text": "x", **part} for part in PARTS[parts]]
    manifest = tmp_path / f"m{suffix}"
    if suffix == ".jsonl":
        write_manifest(manifest, jsonl(*rows))
    else:
        cells = [list(map(str, row.values())) for row in rows]
        delimiter = "," if suffix == ".csv" else "\t"
        write_manifest(manifest, "".join(delimiter.join(line) + "\n" for line in [list(rows[0]), *cells]))
    first, second = read(manifest)
    assert (first.id, second.id) == ("a.wav", "a.wav#t=0.7,1.5")
    assert first.audio.identity != second.audio.identity
    assert first.stated_duration is second.stated_duration is None
    for u, (start, stop) in ((first, (0, 11_200)), (second, (11_200, 24_000))):
        expected, _ = soundfile.read(path, dtype="float32", start=start, stop=stop)
        np.testing.assert_array_equal(u.audio.load(), expected)


@pytest.mark.parametrize(
    ("fields", "stated", "is_whole"),
    [
        ({"duration": 2.5}, 2.5, True),
        ({"duration": "2.5"}, 2.5, True),
        ({"duration": None}, None, True),
        ({"duration": float("nan")}, None, True),
        ({"duration": ""}, None, True),
        ({"duration": 0}, None, True),
        ({"duration": -1}, None, True),
        ({"offset": 0}, None, True),
        ({"offset": None, "duration": 2.5}, 2.5, True),
        ({"start": 0, "end": -1}, None, True),
        ({"start": 1.5, "end": -1}, None, False),
        ({"offset": 0, "duration": 2.5}, None, False),
    ],
)
def test_stated_duration_is_the_whole_files(tmp_path: Path, fields: dict, stated: float | None, is_whole: bool):
    """Kaldi's end of -1 is the file's."""
    (u,) = read(write_manifest(tmp_path / "m.jsonl", jsonl({**ROW, **fields})))
    assert u.stated_duration == stated
    assert isinstance(u.audio, FileAudio) == is_whole


@pytest.mark.parametrize(("start", "end"), [("startTime", "endTime"), ("Start (s)", "End [sec]"), ("Begin", "Stop")])
def test_bounds_are_read_however_their_names_are_written(tmp_path: Path, start: str, end: str):
    (u,) = read(write_manifest(tmp_path / "m.jsonl", jsonl({**ROW, start: 0.25, end: 0.75})))
    assert u.audio.name.endswith("a.wav from 0.25 to 0.75 s")


@pytest.mark.parametrize(
    "fields",
    [{"to": "Berlin"}, {"timestamp": "2021-03-04 10:20"}, {"time": 12.5}, {"segment": "Benchmark"}, {"start_ms": None},
     {"from": ""}, {"end_time_of_day": "late"}],
    ids=str,
)  # fmt: skip
def test_columns_that_are_no_bounds_do_not_matter(tmp_path: Path, fields: dict):
    (u,) = read(write_manifest(tmp_path / "m.jsonl", jsonl({**ROW, **fields})))
    assert isinstance(u.audio, FileAudio)


IMPOSSIBLE = {
    "no end": ({"offset": 1.5}, "a part of a file begins at 1.5 s and has no end: add"),
    "an end of another name": ({"offset": 0, "length": 0.7}, 'begins at 0 s and has no end ("length" is not known)'),
    "no start": ({"end": 1.5}, '"end" without a start'),
    "milliseconds": ({"start_ms": 700, "end_ms": 1500}, '"start_ms" is not read: give the part'),
    "samples": ({"start_sample": 700}, '"start_sample" is not read'),
    "torchaudio's": ({"frame_offset": 700, "num_frames": 800}, '"frame_offset" is not read'),
    "Praat's": ({"xmin": 0.7, "xmax": 1.5}, '"xmin" is not read'),
    "from and to": ({"from": "0.7", "to": "1.5"}, '"from" is not read'),
    "a clock of another name": ({"t0": "00:00:07.5"}, '"t0" is not read'),
    "a tokenizer's": ({"startOffset": 7, "endOffset": 15}, '"startOffset" is not read'),
    "milliseconds in brackets": ({"Start [ms]": 700, "End [ms]": 1500}, '"Start [ms]" is not read'),
    "a pair": ({"segment": [0.7, 1.5]}, '"segment" is not read'),
    "a pair of a pipeline": ({"timestamp": [0.7, 1.5]}, '"timestamp" is not read'),
    "onset and offset": ({"onset": 0.7, "offset": 1.5, "duration": 0.8}, 'Rename them "start" and "end"'),
    "a clock": ({"start": "0:01.5", "end": "0:02"}, "\"start\" must be seconds such as 1.5, found '0:01.5'"),
    "a decimal comma": ({"offset": "1,5", "duration": 1}, "\"offset\" must be seconds such as 1.5, found '1,5'"),
    "a list": ({"start": [1, 2]}, '"start" must be seconds'),
    "true": ({"offset": True, "duration": 1}, '"offset" must be seconds'),
    "infinity": ({"offset": float("inf"), "duration": 1}, '"offset" must be seconds'),
    "below 0": ({"offset": -0.5, "duration": 1}, '"offset" -0.5 is below 0'),
    "no length": ({"offset": 1, "duration": 0}, '"duration" 0 of a part of a file must be above 0 s'),
    "backwards": ({"start": 2, "end": 1}, '"end" 1 is not above its start, 2'),
    "two starts": ({"offset": 1, "start": 2, "end": 3}, '"offset" 1 and "start" 2 differ'),
    "the file's duration": ({"start": 1, "end": 2, "duration": 30}, '"duration" 30 is not the 1 s from 1 to 2'),
    "two names of the end": ({"start": 1, "end_time": 2, "stop": 3}, '"end_time" and "stop" may both be'),
    "duration of another kind": ({"duration": "long"}, "\"duration\" must be seconds such as 1.5, found 'long'"),
}


@pytest.mark.parametrize(("fields", "message"), IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_part_that_cannot_be_told_is_refused_with_its_line(tmp_path: Path, fields: dict, message: str):
    path = write_manifest(tmp_path / "m.jsonl", jsonl(ROW, {**ROW, **fields}))
    with pytest.raises(CorpusError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}:2: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_ids_from_paths_tell_parts_apart_and_the_same_part_twice_is_the_same_id(tmp_path: Path):
    parts = [{}, {"offset": 0, "duration": 0.7}, {"offset": 0, "duration": 0.8}, {"offset": 0.7, "duration": 0.1}, {}]
    rows = [{"audio_filepath": "a.wav", "text": "x", **part} for part in parts]
    rows.append({"audio_filepath": "b.wav", "text": "x", "start": 0.5, "end": 1})
    ids = [u.id for u in read(write_manifest(tmp_path / "m.jsonl", jsonl(*rows)))]
    assert ids == ["a.wav", "a.wav#t=0,0.7", "a.wav#t=0,0.8", "a.wav#t=0.7,0.8", "a.wav", "b.wav#t=0.5,1"]


def test_every_row_is_read_whatever_is_wrong_with_others(tmp_path: Path):
    rows = 'audio_filepath,text\na.wav,x\nb.wav\n,y\nc.wav,"z\nd.wav,z\n'
    path = write_manifest(tmp_path / "m.csv", rows)
    readings = list(ManifestCorpus(ManifestConfig(train=str(path))).readings("train"))
    assert [str(r).split(": ")[0] if isinstance(r, CorpusError) else r.id for r in readings] == [
        "a.wav", f"{path}:3", f"{path}:4", f"{path}:5", "d.wav",
    ]  # fmt: skip


def test_capitals_within_a_word_hide_no_column() -> None:
    """startTime is two words, TexT is one."""
    assert known_as(("audio_filepath", "text"), ["TexT", "aUdio_filepath"]) == ["aUdio_filepath", "TexT"]
    assert known_as(("start_time",), ["startTime"]) == ["startTime"]
