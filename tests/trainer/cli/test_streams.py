"""Output in encodings that lack what is to be written, and names of files that are no text."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from data import strict_json
from data.audio.files import stat_regular
from scripts.transcribe import in_formats
from tests.helpers.paths import ROOT
from trainer.cli.console import Console
from trainer.cli.deliver import deliver
from trainer.cli.streams import escape_what_cannot_be_printed, print_exactly, say
from trainer.errors import CorpusError
from trainer.recognize.transcript import TimedTranscript, Word
from trainer.rundir.disk import write_text

ODD_NAME = os.fsdecode(b"caf\xe9.wav")
"""Latin-1 on a disk where names are UTF-8: a lone surrogate in Python."""
TRANSCRIPT = TimedTranscript(ODD_NAME, 16_000, (Word("größer", 0, 8000, 1.0), Word("łódź", 8000, 16_000, 1.0)))


@pytest.fixture
def stdout(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], io.BytesIO]:
    """stdout("latin-1") -> what arrives on a strict stdout of this encoding. Called in the test: pytest sets its own
    stdout after the fixtures."""

    def replace_it(encoding: str) -> io.BytesIO:
        content = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(content, encoding=encoding))
        return content

    return replace_it


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "ascii"])
def test_json_on_stdout_is_the_same_json_in_any_encoding(encoding: str, stdout: Callable[[str], io.BytesIO]) -> None:
    content = stdout(encoding)
    deliver(in_formats(TRANSCRIPT, ["json"], is_named=True), None, Path("x"), "x")
    record = json.loads(content.getvalue().decode("ascii"))
    assert (record["file"], record["text"]) == (ODD_NAME, "größer łódź")


def test_a_file_name_on_stdout_is_the_bytes_that_it_is_on_the_disk(stdout: Callable[[str], io.BytesIO]) -> None:
    content = stdout("utf-8")
    deliver(in_formats(TRANSCRIPT, ["text"], is_named=True), None, Path("x"), "x")
    assert content.getvalue() == b"caf\xe9.wav\t" + "größer łódź\n".encode()


def test_text_that_stdout_cannot_hold_is_refused_whole(stdout: Callable[[str], io.BytesIO]) -> None:
    """Not written with question marks or escapes that a reader would take for the transcript."""
    content = stdout("latin-1")
    with pytest.raises(CorpusError, match=r"x\.wav: U\+0142 cannot be printed in latin-1"):
        deliver(in_formats(TRANSCRIPT, ["text"], is_named=False), None, Path("x"), "x.wav")
    assert content.getvalue() == b""
    first = replace(TRANSCRIPT, words=TRANSCRIPT.words[:1])
    deliver(in_formats(first, ["text"], is_named=False), None, Path("x"), "x.wav")
    assert content.getvalue() == "größer\n".encode("latin-1")


def test_what_is_said_on_stdout_is_escaped_and_in_order(stdout: Callable[[str], io.BytesIO]) -> None:
    content = stdout("ascii")
    escape_what_cannot_be_printed()
    print("→ runs/łódź")
    print_exactly("plain\n")
    assert content.getvalue() == b"\\u2192 runs/\\u0142\\xf3d\\u017a\nplain\n"


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "ascii"])
def test_no_line_of_the_console_is_lost_to_an_encoding(encoding: str) -> None:
    content = io.BytesIO()
    console = Console(io.TextIOWrapper(content, encoding=encoding, write_through=True))
    console.say(f"{ODD_NAME}: łódź")
    assert content.getvalue().decode(encoding).rstrip().endswith(": \\u0142" + "ód\\u017a".encode(
        encoding, "backslashreplace").decode(encoding))  # fmt: skip


@pytest.mark.parametrize("name", ["json", "text"])
def test_files_hold_odd_names_in_valid_utf_8(name: str, tmp_path: Path) -> None:
    """JSON reads back as the same name; elsewhere its escape stands."""
    text = strict_json.dumps({"file": ODD_NAME, "text": "łódź"}) if name == "json" else f"{ODD_NAME} łódź"
    write_text(tmp_path / "x", text)
    content = (tmp_path / "x").read_text(encoding="utf-8")
    if name == "json":
        assert json.loads(content) == {"file": ODD_NAME, "text": "łódź"}
    else:
        assert content == "caf\\udce9.wav łódź"


def test_files_of_transcripts_with_odd_names_are_written(tmp_path: Path) -> None:
    texts = in_formats(TRANSCRIPT, ["json", "ctm", "text", "srt", "vtt", "textgrid"], is_named=False)
    deliver(texts, tmp_path, Path(ODD_NAME), ODD_NAME)
    assert json.loads((tmp_path / f"{ODD_NAME}.json").read_text(encoding="utf-8"))["file"] == ODD_NAME
    assert (tmp_path / f"{ODD_NAME}.ctm").read_bytes().startswith(b"caf\xe9 1 0.000")


def test_a_locale_that_is_not_utf_8_is_named_when_a_file_is_not_found() -> None:
    """In a process of its own: the locale's encoding is fixed when Python starts."""
    code = (
        "from data.audio.files import stat_regular\n"
        "try: stat_regular('\\u00fc.wav')\n"
        "except OSError as error: print(error.strerror)"
    )
    environment = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PATH": os.environ["PATH"]}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert "names of files are ascii in this locale; PYTHONUTF8=1 makes them UTF-8" in done.stdout, done.stderr
    with pytest.raises(FileNotFoundError) as caught:
        stat_regular("ü.wav")
    assert "PYTHONUTF8" not in str(caught.value)


def test_a_tab_or_line_end_in_a_files_name_ends_no_record() -> None:
    ((_, text),) = in_formats(replace(TRANSCRIPT, name="a\tb\nc.wav"), ["text"], is_named=True)
    assert text == "a\\tb\\nc.wav\tgrößer łódź\n"


def test_what_is_said_of_a_recording_is_one_line_without_terminal_codes(capsys: pytest.CaptureFixture[str]) -> None:
    say("error: \x1b[31mred\nline.wav: no sound")
    assert capsys.readouterr().err == "error: \\x1b[31mred\\nline.wav: no sound\n"
