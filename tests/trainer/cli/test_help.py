"""Help and typing errors (trainer.cli.help, cli): short, complete, one line, and no torch.

pytest tests/trainer/cli/test_help.py
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT
from trainer.cli.help import describe
from trainer.cli.options import COMMON, options
from trainer.cli.parse import parse
from trainer.config.presets import PRESETS
from trainer.errors import ConfigError


def printed(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as end:
        parse(argv)
    assert end.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("preset", PRESETS)
def test_every_option_says_what_it_means_and_what_it_is_by_default(
    preset: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = printed([preset, "--help-all"], capsys)
    for option in options(PRESETS[preset]()):
        assert option.meaning, option.name
        assert option.default_text in ("required", "auto", "none") or option.default not in (None, "", ()), option.name
        assert f"  {option.name}" in said
        assert describe(option).rstrip().endswith(f"[{option.default_text}]")


@pytest.mark.parametrize("preset", PRESETS)
def test_help_fits_80_columns_and_100_lines(preset: str, capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed([preset, "--help"], capsys).splitlines()
    assert len(lines) <= 100
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("preset", PRESETS)
def test_every_option_that_can_be_left_open_says_what_then_holds(preset: str) -> None:
    """In its text, behind the word that stands in brackets and that the command line takes."""
    for option in options(PRESETS[preset]()):
        if option.open_word is not None and option.name != "--allow-changes":
            assert f"{option.open_word}: " in option.meaning, option.name


def test_every_common_option_is_an_option_of_some_preset() -> None:
    known = {(o.group, o.field) for make in PRESETS.values() for o in options(make())}
    assert {(group, field) for group, fields in COMMON.items() for field in fields} <= known


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ("demo --train.epoch 3", "no option --train.epoch. Did you mean --train.epochs?"),
        ("demo --lr 1", "no option --lr. Did you mean --optim.lr?"),
        ("demo --batch_size 1", "Did you mean --batching.batch-size or --eval.batch-size?"),
        ("demo --no-store", "Did you mean --corpus.no-store?"),
        ("demo --corpus.root T", "preset demo has no option --corpus.root: that is for timit-hf, timit, timit-phones."),
        ("demo --zzzzz", "no option --zzzzz. --help-all lists every option."),
        ("demo --hlep", "no option --hlep. Did you mean --help?"),
        ("demo --no-corpus.store", "Did you mean --corpus.no-store?"),
        ("demo --Train.Epochs 3", "Did you mean --train.epochs?"),
        ("demo -resume", "-resume: an option begins with two plain dashes. Did you mean --resume?"),
        ("demo —-resume", "—-resume: an option begins with two plain dashes. Did you mean --resume?"),
        ("demo train.epochs=3", "train.epochs=3: an option begins with --. Did you mean --train.epochs?"),
        ("demo --train.epochs 3 5", "5 stands where an option belongs."),
        ("demo timit", "timit stands where an option belongs: the preset is the first word"),
        ("--preset timit", "The preset is the first word"),
        ("demo -- --resume", "-- is no option: leave it out."),
    ],
)
def test_mistyped_option_is_answered_with_the_right_one(argv: str, words: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        parse(argv.split())
    assert words in str(refusal.value)


@pytest.mark.parametrize("argv", ["demo --train.epochs many", "demo stray", "demo --precision fp8", "demo --seed"])
def test_value_that_cannot_be_is_answered_in_one_line(argv: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        parse(argv.split())
    assert "\n" not in str(refusal.value)
    assert "│" not in str(refusal.value)
    assert argv.split()[1] in str(refusal.value)


def test_a_terminal_without_utf8_gets_the_same_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "trainer.run", "demo", "--precision", "fp8"],
        capture_output=True, text=True, cwd=ROOT, env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("error: --precision fp8: choose auto, fp32, bf16 or fp16.")


def test_help_imports_no_torch() -> None:
    code = (
        "import sys, trainer.run\n"
        "try: trainer.run.main(['--help'])\n"
        "except SystemExit: sys.exit(bool({'torch', 'transformers', 'datasets'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True).returncode == 0


def run_without_torch(*argv: str) -> subprocess.CompletedProcess[str]:
    """trainer.run in a Python in which torch cannot be imported."""
    code = "import sys; sys.modules['torch'] = None; import trainer.run; sys.exit(trainer.run.main(sys.argv[1:]))"
    return subprocess.run([sys.executable, "-c", code, *argv], cwd=ROOT, capture_output=True, text=True)


def test_first_lines_come_before_torch_is_imported(tmp_path: Path) -> None:
    done = run_without_torch("timit", "--corpus.root", "my TIMIT", "--runs-dir", str(tmp_path))
    lines = done.stderr.splitlines()
    assert done.returncode == 2
    assert lines[0] == f"timit -> {tmp_path}/timit"
    assert lines[1] == "  reads      my TIMIT; microsoft/unispeech-large-1500h-cv"
    assert lines[2].startswith(f"error: {sys.executable} has no package torch. Run: ")
    assert len(lines) == 3
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ("manifest", "error: Preset manifest needs --corpus.train MANIFEST; --corpus.eval MANIFEST; an encoder: "),
        ("demo --optim.lr -1", "error: --optim.lr -1.0 must be a positive number."),
        ("demo --resume --overwrite", "error: --resume and --overwrite exclude each other"),
    ],
)
def test_what_is_missing_or_impossible_is_said_before_torch_is_imported(argv: str, said: str) -> None:
    done = run_without_torch(*argv.split())
    assert done.returncode == 2
    assert done.stderr.startswith(said)
    assert done.stderr.count("\n") == 1
