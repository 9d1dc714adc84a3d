"""What a command says when the operating system is in its way (trainer.cli.parse).

pytest tests/trainer/cli/test_parse.py
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from scripts.transcribe import main as transcribe
from tests.helpers.paths import ROOT
from trainer.cli.parse import report_errors
from trainer.run import main as train


def refuse(*args: object, **options: object) -> int:
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "somewhere")


@pytest.mark.parametrize(
    ("main", "patched", "can_resume"),
    [(train, "trainer.run.parse", True), (transcribe, "scripts.transcribe.parse", False)],
)
def test_only_training_tells_of_resume(
    main: Callable[[list[str]], int],
    patched: str,
    can_resume: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(patched, refuse)
    assert main([]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: somewhere: Permission denied. Mend that")
    assert said.count("\n") == 1
    assert ("--resume" in said) == can_resume


@pytest.mark.parametrize("work", ["print('x' * 100_000, flush=True)", "print('x')"], ids=["writing", "at the end"])
def test_reader_that_went_away_is_a_quiet_end(work: str) -> None:
    """As `| true` leaves it: nothing on stderr, and not the exit code 120 of a last flush that failed."""
    code = f"import sys; from trainer.cli.parse import report_errors; sys.exit(report_errors(lambda: {work} or 0))"
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert done.stderr == ""
    assert done.returncode in (0, 128 + signal.SIGPIPE)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ImportError("cannot import name 'is_offline_mode'\nfrom 'hub' (/x)", name="hub"),
         "cannot import name 'is_offline_mode' from 'hub' (/x)"),
        (ImportError("libcudart.so.13: cannot open shared object file: No such file or directory"),
         "libcudart.so.13: cannot open shared object file: No such file or directory"),
    ],
)  # fmt: skip
def test_packages_that_do_not_fit_are_one_line_with_the_remedy(
    error: ImportError, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What transformers 5.17 says beside huggingface_hub 1.0, and torch without a library of CUDA."""

    def fail() -> int:
        raise error

    assert report_errors(fail) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {sys.executable}: a package cannot be imported: {reason}.")
    assert said.count("\n") == 1
    assert "Run: " in said


def test_an_import_that_fails_in_this_project_is_an_error_of_ours() -> None:
    def fail() -> int:
        raise ImportError("cannot import name 'nothing' from 'data.audio'", name="data.audio")

    with pytest.raises(ImportError, match="nothing"):
        report_errors(fail)


@pytest.mark.parametrize(("flag", "code"), [("-O", 0), ("-OO", 2)])
def test_a_python_without_docstrings_is_refused_in_one_line(flag: str, code: int) -> None:
    work = "import sys; from trainer.cli.parse import report_errors; sys.exit(report_errors(lambda: 0))"
    done = subprocess.run([sys.executable, flag, "-c", work], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == code
    assert done.stderr.count("\n") == (code > 0)
    assert ("PYTHONOPTIMIZE=2" in done.stderr) == (code > 0)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: 9 bytes"),
         "(can't allocate memory: 9 bytes)"),
        (MemoryError("Unable to allocate 9.00 GiB"), "(Unable to allocate 9.00 GiB)"),
        (MemoryError(), "(MemoryError)"),
    ],
)  # fmt: skip
def test_a_host_without_memory_is_one_line(error: Exception, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What torch, numpy and Python say under ulimit -v."""

    def fail() -> int:
        raise error

    assert report_errors(fail) == 3
    assert capsys.readouterr().err == (
        f"error: out of memory on this machine, or for this process {said}. Free it of other programs. "
        "Mend that and try again.\n"
    )


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("can't start new thread"),
        pa.lib.ArrowException("Unknown error: Failed to launch worker thread: Resource temporarily unavailable"),
        BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)),
    ],
    ids=["Python", "Arrow", "fork"],
)
def test_a_limit_of_threads_is_one_line_that_names_it(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    """What is said under ulimit -u, and under docker run --pids-limit."""

    def fail() -> int:
        raise error

    assert report_errors(fail) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "no further thread or process can be started" in said
    assert "ulimit -u" in said


def test_a_machine_without_a_temporary_folder_is_told_of_tmpdir(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in `docker run --read-only`."""
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(tmp_path / "none")])
    assert report_errors(lambda: len(tempfile.gettempdir())) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: No usable temporary directory found in")
    assert ": set TMPDIR to a folder that can be written. Mend that" in said
    assert said.count("\n") == 1


def test_a_name_that_the_locale_cannot_write_is_one_line(tmp_path: Path) -> None:
    work = "import sys; from trainer.cli.parse import report_errors; sys.exit(report_errors(lambda: open('\\xfc')))"
    locale = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", work], cwd=ROOT, capture_output=True, text=True, env=os.environ | locale
    )
    assert done.returncode == 2
    assert done.stderr.startswith(
        "error: U+00FC in a name of a file cannot be written in this locale's encoding, ascii."
    )
    assert done.stderr.count("\n") == 1


def test_another_runtime_error_keeps_its_traceback() -> None:
    def fail() -> int:
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        report_errors(fail)


def test_ctrl_c_is_a_quiet_end(capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> int:
        raise KeyboardInterrupt

    assert report_errors(interrupted) == 128 + signal.SIGINT
    assert capsys.readouterr() == ("", "")
