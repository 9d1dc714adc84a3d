"""Each part of gpu_check on a CPU in miniature, and what it makes of records.

pytest tests/scripts/bench/gpu/test_parts.py
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import soundfile
import torch

from scripts.bench.gpu.run import condense
from scripts.bench.gpu.runner import share
from scripts.bench.gpu.trainer import write_manifests
from scripts.bench.gpu_check import PARTS
from scripts.bench.gpu_check import main as gpu_check


@pytest.mark.slow
def test_every_part_runs_on_a_cpu(synthetic_cache: Path, tiny_timit: Path, tmp_path: Path) -> None:
    """What a call with a GPU runs, with a tiny model: the tests marked `gpu` too, so that none of them falls behind the
    code that it tests."""
    parts = list(PARTS)
    options = ["--device", "cpu", "--size", "tiny", "--corpus", "tiny", "--cache-dir", str(synthetic_cache),
               "--out", str(tmp_path), "--only", ",".join(parts), "--budget", "1800"]  # fmt: skip
    assert gpu_check(options) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())["parts"]
    assert list(summary) == ["prepare", *parts]
    found = {name: json.loads((tmp_path / f"{name}.json").read_text())["found"] for name in parts}
    assert found["tests"]["headline"]["failures"] == []
    assert found["tests"]["headline"]["passed"] > 30
    variant = found["step"]["variants"]["as the recipe"]
    assert variant["step_ms_p95"] >= variant["step_ms_p50"] > 0
    assert variant["profile"]["kinds_ms"]["matrix products"] > 0
    assert found["table"]["rows_differ"] == []
    assert found["table"]["num_utterances"] == 80
    assert found["table"]["headline"]["audio_rate"] > 0
    assert found["run"]["results"]["steps"] == found["run"]["metrics"]["step"] == 12
    assert [e["step"] for e in found["run"]["metrics"]["evaluations"]] == [4, 8, 12]
    assert set(found["trainer"]["sides"]) == {"ours", "hf-tuned"}
    assert found["trainer"]["ratios"]["hf-tuned"]["audio_rate"]["median"] > 0
    assert found["levers"]["table"]["ratio"] > 0
    assert found["parallel"]["headline"]["backend"] == "gloo"
    assert found["parallel"]["headline"]["cost_percent"] < 50


def test_parts_are_listed_without_running_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_check(["--list", "--out", str(tmp_path / "out")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["prepare", *PARTS]
    assert not (tmp_path / "out").exists()


def test_every_default_part_gets_its_seconds_of_nine_minutes() -> None:
    """If the corpus takes 35 s, 10 more than it took on 16 cores."""
    parts = list(PARTS.values())
    assert share(parts, 540 - 35) == parts[0].seconds


def test_metrics_are_condensed_to_evaluations_and_windows_of_steps(tmp_path: Path) -> None:
    """By hand; the last line is cut, as a run that is writing it leaves it."""
    records: list[dict[str, float]] = [
        {"step": step, "train/loss": 5.0 - step / 100, "train/audio_seconds_per_second": rate, "train/num_skipped": 1}
        for step, rate in ((50, 10.0), (100, 30.0), (101, 50.0))
    ]
    records.insert(2, {"step": 100, "eval/wer": 0.5, "eval/cer": 0.2, "eval/loss": 1.5, "eval/seconds": 0.7})
    path = tmp_path / "metrics.jsonl"
    path.write_text("\n".join(map(json.dumps, records)) + '\n{"step": 102, "tra')
    assert condense(path) == {
        "step": 101,
        "audio_rate": 30.0,
        "num_skipped": 1,
        "evaluations": [{"step": 100, "wer": 0.5, "cer": 0.2, "loss": 1.5, "seconds": 0.7}],
        "evaluation_seconds": 0.7,
        "training": [
            {"until_step": 100, "loss": 4.0, "audio_rate": 20.0},
            {"until_step": 200, "loss": 3.99, "audio_rate": 50.0},
        ],
    }
    assert condense(tmp_path / "none.jsonl")["step"] == 0


def test_the_sample_for_the_trainer_is_a_manifest_of_the_trees_files(tiny_timit: Path, tmp_path: Path) -> None:
    train, test = write_manifests(tiny_timit, tmp_path)
    rows = [json.loads(line) for line in train.read_text().splitlines()]
    assert len(rows) == len({row["id"] for row in rows}) == 40
    assert all(soundfile.info(row["audio_filepath"]).samplerate == 16_000 and row["text"] for row in rows)
    assert {row["speaker"] for row in rows}.isdisjoint(json.loads(x)["speaker"] for x in test.read_text().splitlines())


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device here")
def test_without_a_gpu_it_ends_at_once_and_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Though it has begun to make the corpus, which takes minutes here."""
    assert gpu_check(["--out", str(tmp_path / "out"), "--cache-dir", str(tmp_path / "cache")]) == 2
    said = capsys.readouterr()
    assert "error: --device cuda: not usable here" in said.out
    assert said.err == "error: no part can run here, for the reason given above.\n"
    assert list((tmp_path / "cache").iterdir()) == []
    assert list(json.loads((tmp_path / "out" / "summary.json").read_text())["parts"]) == ["prepare"]
