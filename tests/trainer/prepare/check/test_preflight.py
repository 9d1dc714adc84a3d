"""`--check` names everything that is wrong, by reason and with a remedy, and does not stop at the first."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr

from data.corpora.hub import HubConfig
from data.corpora.timit import TimitCorpus
from data.faults import Fault, Faults, split_remedy
from scripts.shards import main as pack
from tests.helpers.audio import noisy_speech
from tests.helpers.corpora import WORDS, ManifestFolder
from trainer.cli.console import Console
from trainer.errors import CorpusError
from trainer.prepare.check.fault_report import tell_faults
from trainer.run import main

MODEL = ["--model.size", "tiny", "--device", "cpu", "--batching.batch-size", "8"]


@pytest.fixture(autouse=True)
def no_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds of a check that have nothing to do with faults."""
    monkeypatch.setattr("trainer.prepare.check.preflight._time_steps", lambda run, padded: (0.001, 0.001, 1e9))


def check(corpus: ManifestFolder, code: int, *options: str) -> list[dict[str, Any]]:
    """The lines of check.jsonl."""
    folder = corpus.folder.parent
    places = ["--runs-dir", str(folder / "runs"), "--cache-dir", str(folder / "cache"), "--name", "x"]
    assert main(["manifest", *corpus.options, *MODEL, *places, "--check", *options]) == code
    path = folder / "runs" / "x" / "check.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def spoil(corpus: ManifestFolder) -> set[tuple[str, str, str]]:
    """Put one fault of each kind into a corpus of 30 and 12 utterances; {(kind, reason, line or utterance)}."""
    for split, number in (("train", 30), ("eval", 12)):
        corpus.rows[split] = []
        for i in range(number):
            sound = noisy_speech(1 + i / 40, seed=i + 100 * len(split))
            soundfile.write(corpus.folder / "wav" / f"{split}{i}.wav", sound, 16_000)
            text = f"{WORDS[i % 10]} {WORDS[i // 10]} and {WORDS[(i + len(split)) % 10]}"
            corpus.rows[split].append({"id": f"{split}{i}", "audio_filepath": f"wav/{split}{i}.wav", "text": text})
    train, evaluation, wav = corpus.rows["train"], corpus.rows["eval"], corpus.folder / "wav"
    del train[1]["text"]
    train[2]["text"] = 5
    train[3]["id"] = "train0"
    train[4]["text"] = "a\x01b"
    train[5]["text"] = "?!"
    train[6]["audio_filepath"] = "wav/gone.wav"
    (wav / "broken.wav").write_bytes(b"RIFF and no more")
    train[7]["audio_filepath"] = "wav/broken.wav"
    train[8]["text"] = "a long one " * 40
    wide = noisy_speech(2.3)
    for i, changed in enumerate([
        np.clip(wide * 4, -0.5, 0.5), np.roll(wide, 99) + 0.3, np.roll(wide, 999) * 0.004,
        soxr.resample(soxr.resample(np.roll(wide, 5000), 16_000, 8000), 8000, 16_000),
        noisy_speech(14), noisy_speech(0.25),
    ]):  # fmt: skip
        soundfile.write(wav / f"odd{i}.wav", changed, 16_000, subtype="PCM_16")
        train[10 + i]["audio_filepath"] = f"wav/odd{i}.wav"
    train[15]["text"] = "abababababa"
    evaluation[1]["audio_filepath"] = "wav/gone.wav"
    evaluation[2]["audio_filepath"] = "wav/broken.wav"
    corpus.write()
    with corpus.train.open("a", encoding="utf-8") as file:
        file.write('{"id": "x"\n[1]\n{"id": "y", "id": "y"}\n')
    return {
        *(("error", "malformed row", f"train.jsonl:{n}") for n in (2, 3, 31, 32, 33)),
        *(("error", "id or text that cannot be", f"train.jsonl:{n}") for n in (4, 5)),
        ("error", "without text", "train5"), ("error", "unreadable", "train6"), ("error", "unreadable", "train7"),
        ("error", "too short for their transcript", "train8"), ("error", "missing", "eval1"),
        ("error", "unreadable", "eval2"), ("warning", "clipped", "train10"),
        ("warning", "constant offset", "train11"), ("warning", "level", "train12"),
        ("warning", "band limited", "train13"), ("warning", "too slow", "train14"),
        ("warning", "too fast", "train15"),
    }  # fmt: skip


def test_check_names_every_fault_by_reason_with_a_remedy(
    tone_corpus: ManifestFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is sound is described all the same."""
    planted = spoil(tone_corpus)
    records = check(tone_corpus, 2)
    found = {
        (r["kind"], r["reason"], r.get("utterance") or re.search(r"(train|eval)\.jsonl:\d+", r["message"]).group())  # type: ignore[union-attr]
        for r in records
    }
    assert found == planted
    assert all(r["remedy"] for r in records)
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert re.search(r"^train: +22 utterances", said, re.M)
    assert re.search(r"^faults: +13 that stop a run, \d+ warnings; all of them are in .*check\.jsonl$", said, re.M)
    assert "error: 1 x without text. Mend them, or leave such training utterances out: --corpus.on-bad drop" in said
    assert len([line for line in said.splitlines() if re.match(r"    \S+jsonl:\d", line)]) == len(planted) == 19


def test_check_of_several_processes_is_made_by_one_with_the_whole_model_and_says_so(
    tone_corpus: ManifestFolder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rank 0 talks to nobody, so there is nobody to share the weights with."""
    for name, value in {"RANK": 0, "WORLD_SIZE": 2, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 2}.items():
        monkeypatch.setenv(name, str(value))
    for asked, said in (
        ("ddp", "ddp, each process has the whole"),
        ("fsdp", "fsdp, each process has its share of the"),
    ):
        check(tone_corpus, 0, "--parallel", asked)
        lines = capsys.readouterr().err
        assert re.search(rf"^processes: 2; .*\nparallel:  {said} model.*\ntried:     in one process", lines, re.M)


def test_check_without_torchrun_refuses_what_training_would(
    tone_corpus: ManifestFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    check(tone_corpus, 2, "--parallel", "fsdp")
    assert "error: --parallel fsdp needs torchrun" in capsys.readouterr().err


def test_shard_that_changed_at_the_same_length_is_a_fault_of_the_check(
    tone_corpus: ManifestFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No other file of the corpus is opened before a step is tried, so that is where it shows."""
    folders = {split: str(tmp_path / split) for split in ("train", "eval")}
    for split, folder in folders.items():
        assert pack([str(getattr(tone_corpus, split)), "--out", folder]) == 0
    tar = tmp_path / "train" / "shard-000000.tar"
    content = bytearray(tar.read_bytes())
    content[600] ^= 1  # of the first recording: a header takes 512 bytes
    tar.write_bytes(content)
    places = ["--runs-dir", str(tmp_path / "runs"), "--cache-dir", str(tmp_path / "cache"), "--name", "x"]
    of_shards = ["--corpus.train", folders["train"], "--corpus.eval", folders["eval"]]
    monkeypatch.undo()  # steps are tried
    assert main(["shards", *of_shards, *MODEL, *places, "--check"]) == 2
    said = capsys.readouterr().err
    assert re.search(r"^error: \d x audio that cannot be read any more\. Bring back the file", said, re.M)
    assert "shard-000000.tar at byte 512 (utterance " in said
    assert re.search(r"^disk: ", said, re.M)


def test_what_is_left_out_on_purpose_is_a_warning(tone_corpus: ManifestFolder) -> None:
    tone_corpus.rows["train"][1]["text"] = "?!"
    tone_corpus.write()
    assert {r["kind"] for r in check(tone_corpus, 2) if r["reason"] == "without text"} == {"error"}
    records = check(tone_corpus, 0, "--corpus.on-bad", "drop")
    assert {r["kind"] for r in records if r["reason"] == "without text"} == {"warning"}


def test_a_split_with_nothing_sound_ends_the_check_with_all_that_was_found(
    tone_corpus: ManifestFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    for row in tone_corpus.rows["eval"]:
        del row["text"]
    tone_corpus.rows["train"][0]["text"] = 7
    tone_corpus.write()
    records = check(tone_corpus, 2)
    assert [r["reason"] for r in records] == ["malformed row"] * 4 + ["the check ends here"]
    assert "Traceback" not in capsys.readouterr().err


def test_a_sound_corpus_has_no_fault_and_leaves_no_file(
    synthetic_cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The synthetic corpus; what an earlier check had found is taken away."""
    path = tmp_path / "demo" / "check.jsonl"
    path.parent.mkdir()
    path.write_text("{}\n")
    places = ["--runs-dir", str(tmp_path), "--cache-dir", str(synthetic_cache), "--corpus.size", "tiny"]
    assert main(["demo", *places, "--device", "cpu", "--model.size", "tiny", "--check"]) == 0
    assert re.search(r"^faults: +none$", capsys.readouterr().err, re.M)
    assert not path.exists()


def test_twenty_are_shown_and_every_reason_has_its_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    faults = [Fault(f"reason {i % 25}", f"file:{i}", "Do it.", stops=i % 2 == 0) for i in range(200)]
    assert tell_faults(faults, tmp_path / "check.jsonl", Console())
    said = capsys.readouterr().err.splitlines()
    assert len([line for line in said if line.startswith("    file:")]) == 20
    assert len([line for line in said if " x reason " in line]) == 50
    assert len((tmp_path / "check.jsonl").read_text().splitlines()) == 200


def test_a_check_that_cannot_write_its_file_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x").write_text("a file where a folder should be")
    tell_faults([Fault("odd", "a.wav", "Mend it.")], tmp_path / "x" / "check.jsonl", Console())
    assert "could not be written" in capsys.readouterr().err


def test_in_training_the_first_fault_is_an_error() -> None:
    with pytest.raises(CorpusError, match="the first"), Faults().noted("odd"):
        raise CorpusError("the first")


def test_label_files_are_looked_at_to_the_end(tiny_timit: Path, tmp_path: Path) -> None:
    """Two of 40 damaged: both named, 38 read; without collecting the first raises."""
    import shutil

    root = Path(shutil.copytree(tiny_timit, tmp_path / "TIMIT"))
    texts = sorted(root.rglob("TRAIN/**/*.TXT"))
    texts[3].write_text("no numbers\n")
    texts[30].write_text("0 1\n")
    faults = Faults(collects=True)
    read = list(TimitCorpus(root, "hf", "plain").utterances("train", faults))
    assert [Path(f.message.partition(": ")[0]).name for f in faults.found[:2]] == [texts[3].name, texts[30].name]
    assert len(read) == len(texts) - 2
    with pytest.raises(CorpusError, match="expected 'FIRST LAST sentence'"):
        list(TimitCorpus(root, "hf", "plain").utterances("train"))


def test_rows_of_a_data_set_are_looked_at_to_the_end(tmp_path: Path) -> None:
    import datasets

    from data.corpora.hub.corpus import HubCorpus

    rows = {"text": ["a", None, "b", None], "audio": [{"path": "x.wav", "bytes": b"x"}] * 4}
    part = datasets.Dataset.from_dict(rows)
    datasets.DatasetDict({"train": part, "test": part}).save_to_disk(tmp_path / "set")
    faults = Faults(collects=True)
    read = list(HubCorpus(HubConfig(dataset=str(tmp_path / "set"))).utterances("train", faults))
    assert [u.id for u in read] == ["train-000000", "train-000002"]
    assert [re.search(r"row (\d)", f.message).group(1) for f in faults.found] == ["1", "3"]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("message", "what", "remedy"),
    [
        ("a.jsonl:3: no text. Add it.", "a.jsonl:3: no text", "Add it."),
        ("x.wav: 5.5 s. --corpus.max-seconds 6 allows it.", "x.wav: 5.5 s", "--corpus.max-seconds 6 allows it."),
        ("truncated?", "truncated?", ""),
    ],
)
def test_a_message_is_parted_into_what_happened_and_what_to_do(message: str, what: str, remedy: str) -> None:
    assert split_remedy(message) == (what, remedy)
