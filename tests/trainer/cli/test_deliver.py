"""What a command makes of a recording, as files or on stdout (trainer.cli.deliver); odd encodings: test_streams.py.

pytest tests/trainer/cli/test_deliver.py
"""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from trainer.cli.deliver import deliver, is_delivered, refuse_existing
from trainer.errors import ConfigError, CorpusError

TEXTS = [(".ctm", "one\n"), (".json", "{}\n")]


def test_each_text_is_a_file_below_the_folder_and_a_dot_in_a_name_is_no_suffix(tmp_path: Path) -> None:
    deliver(TEXTS, tmp_path / "new" / "out", Path("deep/v1.5"), "x")
    assert (tmp_path / "new/out/deep/v1.5.ctm").read_text() == "one\n"
    assert (tmp_path / "new/out/deep/v1.5.json").read_text() == "{}\n"


def test_what_is_there_stays_where_it_is_to_be_kept(tmp_path: Path) -> None:
    (tmp_path / "x.ctm").write_text("corrected by hand")
    assert not is_delivered(tmp_path, Path("x"), [".ctm", ".json"])
    deliver(TEXTS, tmp_path, Path("x"), "x", keep=True)
    assert (tmp_path / "x.ctm").read_text() == "corrected by hand"
    assert (tmp_path / "x.json").read_text() == "{}\n"
    assert is_delivered(tmp_path, Path("x"), [".ctm", ".json"])


def test_no_part_of_a_file_is_left_when_writing_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name is taken by a whole file alone; what was there before is as it was."""
    (tmp_path / "x.ctm").write_text("before")

    def stop(part: Path, text: str, **_: str) -> None:
        part.write_bytes(text.encode()[:1])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_text", stop)
    with pytest.raises(KeyboardInterrupt):
        deliver(TEXTS, tmp_path, Path("x"), "x")
    assert [path.name for path in tmp_path.iterdir()] == ["x.ctm"]
    assert (tmp_path / "x.ctm").read_bytes() == b"before"


def test_a_link_stays_a_link_to_what_is_written(tmp_path: Path) -> None:
    (tmp_path / "x.ctm").symlink_to(tmp_path / "elsewhere")
    deliver(TEXTS, tmp_path, Path("x"), "x")
    assert (tmp_path / "x.ctm").is_symlink()
    assert (tmp_path / "elsewhere").read_text() == "one\n"


def test_without_a_folder_the_first_text_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    deliver(TEXTS, None, Path("x"), "x")
    assert capsys.readouterr().out == "one\n"


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a file")
    with pytest.raises(ConfigError, match=r"a/b\.ctm: cannot be written \(.*\)\. Give another --out"):
        deliver(TEXTS, tmp_path, Path("a/b"), "x")


def test_what_is_there_is_refused_with_a_count_unless_it_may_be_replaced(tmp_path: Path) -> None:
    """A link that leads nowhere is there too: a file would be written to where it leads."""
    names, suffixes = [Path("v1.5"), Path("b"), Path("c")], [".ctm", ".json"]
    refuse_existing(tmp_path, names, suffixes, overwrite=False)
    refuse_existing(tmp_path / "none", names, suffixes, overwrite=False)
    refuse_existing(None, names, suffixes, overwrite=False)
    (tmp_path / "b.ctm").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"/b\.ctm exists already\. Give another --out, --overwrite to"):
        refuse_existing(tmp_path, names, suffixes, overwrite=False)
    (tmp_path / "v1.5.json").write_text("")
    with pytest.raises(ConfigError, match=r"/v1\.5\.json and 1 more exist already"):
        refuse_existing(tmp_path, names, suffixes, overwrite=False)
    (tmp_path / "c.json").write_text("")
    with pytest.raises(ConfigError, match=r"/v1\.5\.json and 2 more exist already"):
        refuse_existing(tmp_path, names, suffixes, overwrite=False)
    refuse_existing(tmp_path, names, suffixes, overwrite=True)


def test_the_character_that_cannot_be_printed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the first one of the text."""
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), encoding="latin-1"))
    with pytest.raises(CorpusError, match=r"^a\.wav: U\+0142 cannot be printed in latin-1"):
        deliver([(".txt", "gro\u0142")], None, Path("a"), "a.wav")


def test_json_is_printed_in_ascii_where_it_must_be(monkeypatch: pytest.MonkeyPatch) -> None:
    printed = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(printed, encoding="latin-1"))
    deliver([(".json", '{"text": "\u0142"}\n')], None, Path("a"), "a.wav")
    assert printed.getvalue() == b'{"text": "\\u0142"}\n'
