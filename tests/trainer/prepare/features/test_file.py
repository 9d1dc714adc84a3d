"""The rows of a table on their way to the disk and back: hashed on the way, whole or not there."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch

import trainer.prepare.features.file
from trainer.errors import DamagedError
from trainer.prepare.features.file import FileRows, ResidentRows, map_rows, read_rows
from trainer.rundir.disk import verify

CPU = torch.device("cpu")
ROWS = torch.randn(23, 8, generator=torch.Generator().manual_seed(0))
ROWS[0] = 0


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several blocks, the last one short."""
    monkeypatch.setattr(trainer.prepare.features.file, "BLOCK", 50)


@pytest.fixture(params=["resident", "file"])
def sink(request: pytest.FixtureRequest, tmp_path: Path) -> ResidentRows | FileRows:
    """What takes over rows, with all of them taken over."""
    made = ResidentRows(23, 8, CPU) if request.param == "resident" else FileRows(tmp_path / "KEY", 8)
    for first, last in ((1, 5), (5, 6), (6, 23)):
        made.put(first, ROWS[first:last].clone())
    made.finish()
    return made


def test_rows_come_back_as_they_were_and_the_manifest_has_their_sum(
    sink: ResidentRows | FileRows, tmp_path: Path
) -> None:
    """Reference: hashlib on the file, and numpy's own view of it."""
    assert torch.equal(sink.rows, ROWS)
    sink.seal(tmp_path / "KEY")
    content = (tmp_path / "KEY" / "frames.bin").read_bytes()
    assert content == ROWS.numpy().tobytes()
    entry = json.loads((tmp_path / "KEY" / "manifest.json").read_text())["files"]["frames.bin"]
    assert entry == {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    verify(tmp_path / "KEY")
    read = torch.empty(23, 8)
    read_rows(tmp_path / "KEY", read)
    assert torch.equal(read, ROWS)
    assert torch.equal(map_rows(tmp_path / "KEY", 8), ROWS)
    assert torch.equal(sink.rows, ROWS)


@pytest.mark.parametrize("at", [0, 399, 400, 735])
def test_a_flipped_bit_anywhere_is_found_while_rows_are_read(at: int, tmp_path: Path) -> None:
    sealed(tmp_path)
    content = bytearray((tmp_path / "KEY" / "frames.bin").read_bytes())
    content[at] ^= 4
    (tmp_path / "KEY" / "frames.bin").write_bytes(content)
    with pytest.raises(DamagedError, match="SHA-256 differs"):
        read_rows(tmp_path / "KEY", torch.empty(23, 8))


def test_a_table_of_another_size_is_refused_though_it_is_what_was_written(tmp_path: Path) -> None:
    sealed(tmp_path)
    with pytest.raises(DamagedError, match="736 bytes, 768 were expected"):
        read_rows(tmp_path / "KEY", torch.empty(24, 8))


def test_a_file_that_shrinks_while_it_is_read_is_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sealed(tmp_path)
    path, original = tmp_path / "KEY" / "frames.bin", trainer.prepare.features.file._read_fully

    def cut(*args: object) -> None:
        with open(path, "rb+") as file:
            file.truncate(300)
        original(*args)

    monkeypatch.setattr(trainer.prepare.features.file, "_read_fully", cut)
    with pytest.raises(DamagedError, match="ends too early"):
        read_rows(tmp_path / "KEY", torch.empty(23, 8))


def test_rows_of_a_file_outlive_its_name(tmp_path: Path) -> None:
    """As after a failure to seal: this run goes on from what it has."""
    rows = FileRows(tmp_path / "KEY", 8)
    rows.put(1, ROWS[1:].clone())
    rows.finish()
    rows.discard()
    assert not list(tmp_path.iterdir())
    assert torch.equal(rows.rows, ROWS)


def sealed(folder: Path) -> None:
    rows = ResidentRows(23, 8, CPU)
    rows.put(1, ROWS[1:])
    rows.finish()
    rows.seal(folder / "KEY")
