"""Corrections in a run: what is said of them, where they stop it, and that they hold for every way to a corpus.

pytest tests/trainer/prepare/test_corrections.py
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from data.corpora.given import DatasetCorpus, GivenConfig
from data.faults import Faults
from scripts.shards import main as shards
from tests.helpers.corpora import ManifestFolder, make_tone
from tests.helpers.runs import train_on_noise
from trainer.cli.console import Console
from trainer.cli.parse import parse
from trainer.config.as_json import to_json
from trainer.config.schema import Config
from trainer.errors import CorpusError
from trainer.prepare.corpus import read_corpus
from trainer.rundir.merging import merge_parts


def write(path: Path, *rows: dict[str, Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def corpus(tmp_path: Path) -> ManifestFolder:
    """Two manifests of files that are not there: reading a corpus opens none."""
    rows = {
        split: [{"audio_filepath": f"{split}-{i}.wav", "text": f"{split} {i}"} for i in range(3)]
        for split in ("train", "eval")
    }
    folder = ManifestFolder(tmp_path, rows)
    folder.write()
    return folder


def texts(config: Config, **options: Any) -> tuple[list[str], list[str]]:
    reading = read_corpus(config, Console(), **options)
    return [u.text for u in reading.train], [u.text for u in reading.evaluation[reading.corpus.splits.monitor]]


def test_a_run_says_what_was_corrected_and_which_lines_met_nothing(
    corpus: ManifestFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    patch = write(
        tmp_path / "fix.jsonl", {"id": "train-1.wav", "text": "new"},
        {"id": "eval-0.wav", "drop": True, "split": "eval"}, {"id": "train-9.wav", "drop": True},
    )  # fmt: skip
    config = parse(["manifest", *corpus.options, "--corpus.patch", patch], prog="train")
    assert texts(config) == (["train 0", "new", "train 2"], ["eval 1", "eval 2"])
    said = capsys.readouterr()
    assert "train: 1 transcript replaced by fix.jsonl (sha256 " in said.out + said.err
    assert "eval: 1 utterance left out by fix.jsonl (sha256 " in said.out + said.err
    assert f"1 of 3 corrections meet no utterance that is read here ({patch}:3: train-9.wav)" in said.out + said.err
    assert texts(config, training=False) == ([], ["eval 1", "eval 2"])
    said = capsys.readouterr()
    assert "train" not in said.out + said.err, "who only scores hears of no training utterance"
    with pytest.raises(CorpusError, match=r"1 of 3 corrections meet no utterance.* or leave out --strict"):
        read_corpus(replace(config, strict=True), Console())


def test_what_would_change_an_evaluation_split_stops_a_run_and_is_a_fault_of_a_check(
    corpus: ManifestFolder, tmp_path: Path
) -> None:
    (tmp_path / "bad.txt").write_text("train-1.wav\neval-1.wav\n")
    config = parse(["manifest", *corpus.options, "--corpus.exclude", str(tmp_path / "bad.txt")], prog="train")
    with pytest.raises(CorpusError, match=r"bad\.txt:2: utterance eval-1\.wav is in eval, which is scored"):
        read_corpus(config, Console())
    faults = Faults(collects=True)
    assert len(read_corpus(config, Console(), faults=faults).train) == 2
    assert [fault.reason for fault in faults.found] == ["correction of another corpus"]


def test_data_sets_of_a_program_are_corrected_too(tmp_path: Path) -> None:
    items = [(np.zeros(800, np.float32), f"text {i}") for i in range(3)]
    patch = write(tmp_path / "fix.jsonl", {"id": "train-2", "text": "new"}, {"id": "train-0", "drop": True})
    config = Config(corpus=GivenConfig(patch=patch), cache_dir=str(tmp_path))
    given = DatasetCorpus(eval=items, train=items)
    assert texts(config, corpus=given) == (["text 1", "new"], ["text 0", "text 1", "text 2"])


def test_manifests_are_packed_as_they_are_corrected(
    corpus: ManifestFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two manifests in one split, and a file for both of them."""
    for split in ("train", "eval"):
        for i in range(3):
            soundfile.write(tmp_path / f"{split}-{i}.wav", make_tone(0.1), 16_000)
    patch = write(tmp_path / "fix.jsonl", {"id": "train-2.wav", "text": "new"}, {"id": "eval-0.wav", "drop": True})
    manifests = [str(corpus.train), str(corpus.eval)]
    packed = ["--out", str(tmp_path / "shards"), "--processes", "1", "--corpus.patch", patch]
    assert shards([*manifests, *packed]) == 0
    said = capsys.readouterr()
    assert "meet no utterance" not in said.out + said.err
    both = ["--corpus.train", packed[1], "--corpus.eval", packed[1]]
    config = parse(["shards", *both], prog="train")
    assert texts(replace(config, cache_dir=str(tmp_path / "cache")))[0] == [
        "train 0", "train 1", "new", "eval 1", "eval 2",
    ]  # fmt: skip
    write(tmp_path / "fix.jsonl", {"id": "elsewhere.wav", "drop": True})
    packed[1] = str(tmp_path / "more")
    assert shards([*manifests, *packed]) == 2
    assert "fix.jsonl:1: utterance elsewhere.wav is not in this corpus" in capsys.readouterr().err


def test_parts_of_a_corpus_put_their_notes_together(tmp_path: Path) -> None:
    """Results of two parts, written by hand as scripts.evaluate writes them."""
    folders = []
    for number, note in ((1, "1 utterance left out by a"), (2, "")):
        folder = tmp_path / str(number)
        folder.mkdir()
        config = parse(
            ["shards", "--corpus.eval", "x", "--corpus.train", "x", "--corpus.part", f"{number}/2"], prog="t"
        )
        (folder / "config.json").write_text(to_json(config))
        record = {"eval_seconds": 1.0, **({"note": note} if note else {})}
        (folder / "results.json").write_text(json.dumps({
            "headline": "eval", "num_parameters": 1, "device": "cpu", "splits": {"eval": record},
            "corrections": {"eval": "of the first part"},
        }))  # fmt: skip
        line = {"id": f"u{number}", "split": "eval", "reference": "a", "hypothesis": "a", "hits": 1,
                "substitutions": 0, "insertions": 0, "deletions": 0, "loss": 1.0, "seconds": 1.0}  # fmt: skip
        (folder / "hypotheses.jsonl").write_text(json.dumps(line) + "\n")
        folders.append(folder)
    _, results, notes = merge_parts(folders)
    assert notes == {"eval": "part 1 of 2: 1 utterance left out by a"}
    assert "corrections" not in results


@pytest.mark.slow
def test_results_report_and_card_say_it_and_another_file_is_another_corpus(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    patch = write(
        tmp_path / "fix.jsonl", {"id": "train-1.wav", "text": "a bee fed"},
        {"id": "eval-2.wav", "text": "cab", "split": "eval"},
    )  # fmt: skip
    run = train_on_noise(tmp_path, "--corpus.patch", patch)
    done = json.loads((run / "results.json").read_text())["corrections"]
    assert list(done) == ["train", "eval"]
    for found in done.values():
        assert found.startswith("1 transcript replaced by fix.jsonl (sha256 ")
    assert json.loads((run / "results.json").read_text())["splits"]["eval"]["note"] == done["eval"]
    assert f"train: {done['train']}. eval: {done['eval']}. No other" in (run / "model" / "README.md").read_text()
    assert f"<dt>Corrected</dt><dd>train: {done['train']}" in (run / "report.html").read_text()
    write(tmp_path / "fix.jsonl", {"id": "train-1.wav", "text": "a bee"})
    capsys.readouterr()
    train_on_noise(tmp_path, "--corpus.patch", patch, "--resume", code=2)
    assert "corpus-eval: content differs; corpus-train: content differs" in capsys.readouterr().err
