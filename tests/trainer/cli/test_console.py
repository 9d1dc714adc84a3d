"""The terminal (trainer.cli.console, summary, runlog): a pipe, a terminal, NO_COLOR, and what is told before and after.

pytest tests/trainer/cli/test_console.py
"""

from __future__ import annotations

import io
import textwrap
from pathlib import Path

import pytest

from tests.helpers.resumed import options
from trainer.cli.console import Console, for_stdout
from trainer.prepare.corpus import synthesis_bar
from trainer.run import main


class Terminal(io.StringIO):
    """What says that it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")


def written(stream: io.StringIO) -> str:
    console = Console(stream)
    console.say("one")
    console.warn("two")
    assert list(console.progress([1, 2, 3], total=3, desc="scoring")) == [1, 2, 3]
    return stream.getvalue()


def test_a_pipe_gets_lines_and_no_control_characters() -> None:
    assert written(io.StringIO()) == "one\nwarning: two\n"


def test_a_terminal_gets_colour_and_a_bar() -> None:
    said = written(Terminal())
    assert "\x1b[33mwarning:\x1b[0m two" in said
    assert "scoring" in said


def test_colour_takes_no_room_in_a_line() -> None:
    """80 characters and a colour fit into 80 columns; one more does not."""
    for text, num_lines in (("x " * 38 + "best", 1), ("x " * 38 + "best!", 2)):
        stream = Terminal()
        console = Console(stream)
        console.say(text[:76] + console.paint(text[76:], "good"))
        assert len(stream.getvalue().splitlines()) == num_lines


def test_a_coloured_line_is_folded_where_a_plain_one_is() -> None:
    """Reference: textwrap on the text without its colours."""
    text = "these words fill the line. " * 8
    stream = Terminal()
    Console(stream).warn(text)
    said = stream.getvalue()
    assert "\x1b[33mwarning:\x1b[0m these" in said
    plain = said.replace("\x1b[33m", "").replace("\x1b[0m", "").rstrip()
    assert plain == textwrap.fill("warning: " + text, 80, subsequent_indent="    ")


@pytest.mark.parametrize("measure", ["0.2 s)", "81 MB", "100.0 %", "8000 Hz"])
def test_a_number_and_its_unit_stay_together(measure: str) -> None:
    number = measure.split()[0]
    for room in range(70, 81):
        stream = Terminal()
        Console(stream).say("x" * (room - len(number) - 1) + f" {measure} and more of it")
        assert any(measure in line for line in stream.getvalue().splitlines()), room
        stream = Terminal()
        Console(stream).item("corpus", "x" * (room - 13 - len(number) - 1) + f" {measure} and more of it")
        assert any(measure in line for line in stream.getvalue().splitlines()), room


def test_a_path_that_is_longer_than_a_line_can_be_copied() -> None:
    path = "/runs/" + "a-long-name-" * 8 + "/report.html"
    stream = Terminal()
    Console(stream).say(f"report: {path}: 80 utterances")
    assert path in stream.getvalue()


def test_stdout_is_folded_on_a_terminal_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["word " * 30 + "end", "short"]
    for stream, most in ((Terminal(), 80), (io.StringIO(), 200)):
        monkeypatch.setattr("sys.stdout", stream)
        text = for_stdout(lines)
        assert 0.9 * min(most, 153) <= max(map(len, text.splitlines())) <= most
        assert text.split() == " ".join(lines).split()


def test_the_first_screen_fits_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "50")
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()
    Console(stream).item("schedule", "8 steps, 1 epoch; lr 0.002 after 0 steps, then linearly to 0")
    lines = stream.getvalue().splitlines()
    assert max(map(len, lines)) <= 50
    assert lines[1].startswith(" " * 13)


def test_no_color_leaves_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    said = written(Terminal())
    assert "\x1b[33m" not in said
    assert "scoring" in said


def test_an_empty_no_color_means_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reference: no-color.org, "when present and not an empty string"."""
    monkeypatch.setenv("NO_COLOR", "")
    assert "\x1b[33m" in written(Terminal())


def test_a_terminal_folds_between_words_what_is_not_there_to_be_copied() -> None:
    stream, line = Terminal(), "word " * 30 + "end"
    Console(stream).say(line)
    assert max(map(len, stream.getvalue().splitlines())) <= 80
    assert stream.getvalue().split() == line.split()
    stream = Terminal()
    Console(stream).say(line, wrap=False)
    assert line in stream.getvalue()


def test_a_dumb_terminal_gets_lines_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    assert written(Terminal()) == "one\nwarning: two\n"


def test_a_run_in_a_pipe_reads_well_in_80_columns(
    tmp_path: Path, run_inputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = ("--train.max-steps", "3", "--train.log-every", "1", "--train.eval-every", "0")
    assert main(options(tmp_path, run_inputs, *short)) == 0
    said = capsys.readouterr().err
    assert all(c == "\n" or c.isprintable() for c in said)
    lines = said.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("manifest -> "))
    end = next(i for i, line in enumerate(lines) if line.startswith("  time"))
    assert end - start < 20
    assert max(len(line) for line in lines[start + 1 : end + 1] if line.startswith("  ")) <= 80
    assert lines[start + 1].startswith("  reads ")
    assert sum(line.startswith("manifest -> ") for line in lines) == 1
    assert sum(line.startswith("step ") and "epoch" in line for line in lines) == 2  # first and last, in ten seconds
    assert sum("of training to go" in line for line in lines) == 1
    assert "step 3/3  eval: WER" in said
    assert "best" in said
    assert "warning: the model writes only blanks" in said or "WER 100" not in said
    assert said[said.index("next:") :].splitlines()[1].strip().endswith(f"--logdir {tmp_path}")


def test_synthesis_is_shown_only_where_something_is_synthesised() -> None:
    """Most corpora are read, and then their screen has no such bar."""
    stream = Terminal()
    with synthesis_bar(Console(stream)):
        pass
    assert stream.getvalue() == ""
    with synthesis_bar(Console(stream)) as progress:
        progress(2, 8)
    assert "synthesising" in stream.getvalue()
    assert "0/8" in stream.getvalue()
    assert "synthesised 2 speakers once" in stream.getvalue()
