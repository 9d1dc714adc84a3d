"""scripts.bench.scale.shard_reading: what it says that it has read, against the recordings that were packed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from scripts import shards
from scripts.bench.scale.shard_reading import main, read

LENGTHS = (8000, 12_345, 30_000)


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    rows = []
    for i, length in enumerate(LENGTHS):
        noise = np.random.default_rng(i).standard_normal(length) * 0.1
        soundfile.write(tmp_path / f"{i}.wav", noise, 16_000, subtype="PCM_16")
        rows.append(f'{{"audio": "{i}.wav", "text": "one", "id": "u{i}"}}\n')
    (tmp_path / "train.jsonl").write_text("".join(rows))
    folder = tmp_path / "shards"
    assert shards.main([str(tmp_path / "train.jsonl"), "--out", str(folder), "--processes", "1"]) == 0
    return folder


def test_what_is_read_is_the_recordings_of_these_rows(packed: Path, tmp_path: Path) -> None:
    reading = read(str(packed), tmp_path, [2, 0])
    assert reading.audio_seconds == (LENGTHS[2] + LENGTHS[0]) / 16_000
    members = read(str(packed), tmp_path, [0]).num_bytes + read(str(packed), tmp_path, [2]).num_bytes
    assert reading.num_bytes == members > LENGTHS[0]
    assert read(str(packed), tmp_path, []).audio_seconds == 0


def test_shares_of_two_processes_are_all_of_it(packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    capsys.readouterr()
    assert main([str(packed), "--processes", "2", "--cache-dir", str(tmp_path)]) == 0
    hours = sum(LENGTHS) / 16_000 / 3600
    said = capsys.readouterr().out
    assert said.startswith(f"3 of 3 utterances in random order: {hours:.2f} h")
    assert "2 processes took" in said


def test_no_shards_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main([str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path / 'none'}: no such folder")
