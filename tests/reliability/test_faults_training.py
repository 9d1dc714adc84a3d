"""Faults of the numbers, the memory, the clock, the terminal and the user: whole runs, against the undisturbed one.

Rows S6, S7, S9, S13 and S14 of the matrix in docs/reliability.md. The quick tests of S6 and S7 are in
trainer/loop/test_fit.py, those of S13 at the top of this file.
"""

from __future__ import annotations

import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.helpers.faults.harness import (
    ENVIRONMENT,
    ROOT,
    SETTING,
    Count,
    Fault,
    Reference,
    differences,
    fingerprint,
    lines,
    server,
)
from trainer.errors import CheckpointError
from trainer.prepare.identity import compare


def whole_run(test: Callable) -> Callable:
    """Marks what takes more than a moment."""
    return pytest.mark.slow(pytest.mark.reliability(test))


def same(**changes: Any) -> dict[str, Any]:
    record: dict[str, Any] = {
        "options": {"optim.lr": 0.1, "seed": 1, "augment.speeds": [0.9, 1.1]},
        "content": {"corpus train": "c0ffee", "torch": "2.13.0", "device": "cpu"},
        "tokens": ["a", "b", "[PAD]"],
    }
    for key, value in changes.items():
        record[key] = {**record[key], **value} if isinstance(value, dict) else value
    return record


def test_a_run_with_the_same_settings_has_no_differences() -> None:
    """Tuples come back from JSON as lists: no difference."""
    assert compare("runs/x", same(), same(options={"augment.speeds": (0.9, 1.1)}), ()) == []


def test_every_difference_is_listed_and_only_the_allowed_ones_pass() -> None:
    ours = same(options={"optim.lr": 0.2, "seed": 2}, content={"corpus train": "beef", "torch": "2.14.0"})
    with pytest.raises(CheckpointError) as refused:
        compare("runs/x/checkpoints/step-00000008", same(), ours, ("seed",))
    assert str(refused.value) == (
        "runs/x/checkpoints/step-00000008 belongs to a run with other settings (optim.lr: 0.1 before, 0.2 now; "
        "corpus-train: content differs; torch: 2.13.0 before, 2.14.0 now). Start another run with --name, or go on "
        "with the change: --allow-changes optim.lr corpus-train torch"
    )
    allowed = compare("runs/x", same(), ours, ("seed", "optim.lr", "corpus-train", "torch"))
    assert allowed == [
        "optim.lr: 0.1 before, 0.2 now", "seed: 1 before, 2 now", "corpus-train: content differs",
        "torch: 2.13.0 before, 2.14.0 now",
    ]  # fmt: skip


def test_another_vocabulary_is_refused_whatever_is_allowed() -> None:
    with pytest.raises(CheckpointError, match=r"has 3 units, this run's has 4; first difference at id 1 \('b' / 'a'\)"):
        compare("runs/x", same(), same(tokens=["a", "a", "b", "[PAD]"]), ("tokens", "vocabulary"))


def weights(run_dir: Path, step: int) -> dict[str, bytes]:
    path = run_dir / "checkpoints" / f"step-{step:08d}" / "model.safetensors"
    return {name: tensor.numpy().tobytes() for name, tensor in load_file(path).items()}


@whole_run
def test_one_bad_batch_is_skipped_and_named_and_a_resume_skips_it_again(
    whole: Reference, tmp_path: Path, count: Count
) -> None:
    count(injected=2, resumes=1)
    nan = ("nan_in_steps", {"first": 6, "last": 6})
    victim = whole.corpus.run(tmp_path / "whole", nan)
    assert "warning: step 6: loss is not finite in [train" in victim.said
    assert "weights unchanged, 1 skipped so far" in victim.said
    expected = fingerprint(tmp_path / "whole" / "run")
    assert expected["state"]["num_skipped"] == expected["results"]["num_skipped"] == 1
    assert expected["schedule and scaler"][0] == {"last_epoch": 13}  # the schedule did not move for it
    kill = ("kill_at_call", {"function": "trainer/loop/step.py:train_step", "number": 6})
    whole.corpus.run(tmp_path, nan, kill, code=-9)
    whole.corpus.resume(tmp_path, nan)
    assert differences(tmp_path / "run", expected) == []
    count(survived=2, bit_exact=1)


@whole_run
@pytest.mark.parametrize(("first", "max_skips", "stop"), [(6, 3, 8), (6, 4, 9), (12, 3, 14), (2, 4, 5)])
def test_persistent_nan_stops_after_n_skips_with_the_weights_of_before(
    first: int, max_skips: int, stop: int, whole: Reference, tmp_path: Path, count: Count
) -> None:
    """Stopping on a step that is logged, on one that is evaluated, on the last one and on one that is neither."""
    count(injected=1)
    whole.corpus.run(tmp_path / "before", ("send_signals", {"step": first - 1, "numbers": [signal.SIGTERM]}), code=75)
    nan = ("nan_in_steps", {"first": first, "last": 14})
    victim = whole.corpus.run(tmp_path, nan, more=("--train.max-skips", str(max_skips)), code=3)
    last = victim.said.splitlines()[-1]
    assert last.startswith(
        f"error: step {stop}: loss or gradient was not finite {max_skips} times in a row; the weights are those of "
        f"step {first - 1}. Lower --optim.lr"
    )
    assert weights(tmp_path / "run", stop) == weights(tmp_path / "before" / "run", first - 1)
    whole.corpus.resume(tmp_path)
    told = [record["step"] for record in lines(tmp_path / "run" / "metrics.jsonl") if "train/loss" in record]
    assert told == [2, 4, 6, 8, 10, 12, 14]
    evaluated = [record["step"] for record in lines(tmp_path / "run" / "metrics.jsonl") if "eval/wer" in record]
    assert evaluated == [3, 6, 9, 12, 14]
    count(survived=1)


@whole_run
def test_out_of_memory_halves_the_batches_records_it_and_resumes_exactly(
    whole: Reference, tmp_path: Path, count: Count
) -> None:
    count(injected=10, resumes=1)
    full = ("out_of_memory_above", {"num_utterances": 1, "step": 5})
    victim = whole.corpus.run(tmp_path / "whole", full)
    assert "warning: step 5: out of memory; redone in 4 microbatches (1 steps so far)" in victim.said
    expected = fingerprint(tmp_path / "whole" / "run")
    assert expected["state"]["num_halved"] == expected["results"]["num_halved"] == 10
    whole.corpus.run(tmp_path, full, ("send_signals", {"step": 7, "numbers": [signal.SIGUSR1]}), code=75)
    whole.corpus.resume(tmp_path, ("out_of_memory_above", {"num_utterances": 1}))
    assert differences(tmp_path / "run", expected) == []
    count(survived=10, bit_exact=1)


@whole_run
def test_out_of_memory_on_a_single_utterance_stops_names_it_and_saves(
    whole: Reference, tmp_path: Path, count: Count
) -> None:
    count(injected=1, resumes=1)
    victim = whole.corpus.run(tmp_path, ("out_of_memory_above", {"num_utterances": 0, "step": 6}), code=3)
    assert "error: out of memory on single utterances, the longest train" in victim.said.splitlines()[-1]
    assert (tmp_path / "run" / "checkpoints" / "step-00000005").exists()
    whole.corpus.resume(tmp_path)
    assert differences(tmp_path / "run", whole.expected) == []
    count(survived=1, bit_exact=1)


@whole_run
def test_clocks_that_jump_change_nothing(whole: Reference, tmp_path: Path, count: Count) -> None:
    """time.time jumps by up to a year at every call, and between two runs every file gets another time."""
    count(injected=2, resumes=1)
    stop = ("send_signals", {"step": 10, "numbers": [signal.SIGTERM]})
    whole.corpus.run(tmp_path, ("jumping_clock", {"seed": 1}), stop, code=75)
    rng = random.Random(0)
    for path in (tmp_path / "run").rglob("*"):
        when = rng.uniform(0, 2e9)
        os.utime(path, (when, when))
    assert "step-00000010" in whole.corpus.resume(tmp_path, ("jumping_clock", {"seed": 2})).said
    assert differences(tmp_path / "run", whole.expected) == []
    kept = sorted(p.name for p in (tmp_path / "run" / "checkpoints").glob("step*"))
    assert kept == ["step-00000012", "step-00000014"]
    count(survived=2, bit_exact=1)


STOP: Fault = ("send_signals", {"step": 7, "numbers": [signal.SIGTERM]})


@whole_run
@pytest.mark.parametrize(
    ("more", "faults", "listed", "names"),
    [
        (["--optim.lr", "0.001", "--train.eval-every", "7"], [],
         "optim.lr: 0.002 before, 0.001 now; train.eval_every: 3 before, 7 now", ["optim.lr", "train.eval_every"]),
        (["--batching.batch-size", "1", "--train.epochs", "3"], [],
         "batching.batch_size: 2 before, 1 now; train.epochs: 5 before, 3 now",
         ["batching.batch_size", "train.epochs"]),
        (["--train.grad-accum-steps", "3"], [], "train.grad_accum_steps: 2 before, 3 now", ["train.grad_accum_steps"]),
        ([], [("other_torch", {"version": "2.99.0"})], f"torch: {torch.__version__} before, 2.99.0 now", ["torch"]),
        (["--corpus.train", "{other}/train.jsonl"], [], "corpus-train: content differs", ["corpus-train"]),
    ],
    ids=["options", "batch size", "accumulation", "torch", "corpus"],
)  # fmt: skip
def test_a_resume_with_other_settings_is_refused_unless_each_is_allowed(
    more: list[str], faults: list[Fault], listed: str, names: list[str], whole: Reference, tmp_path: Path, count: Count
) -> None:
    """Refused, it changes nothing; allowed, it says so and trains to its end, be it that of a shorter plan."""
    count(injected=1)
    other = tmp_path / "other"
    shutil.copytree(whole.corpus.folder, other, ignore=shutil.ignore_patterns("cache"))
    shutil.copy(other / "wav" / "train1.wav", other / "wav" / "train0.wav")
    options = tuple(word.format(other=other) for word in more)
    whole.corpus.run(tmp_path, STOP, code=75)
    checkpoint = tmp_path / "run" / "checkpoints" / "step-00000007"
    refused = whole.corpus.resume(tmp_path, *faults, more=options, code=2)
    assert refused.said.splitlines()[-1] == (
        f"error: {checkpoint} belongs to a run with other settings ({listed}). Start another run with --name, or go on "
        f"with the change: --allow-changes {' '.join(names)}"
    )
    if len(names) > 1:
        whole.corpus.resume(tmp_path, *faults, more=(*options, "--allow-changes", names[0]), code=2)
    said = whole.corpus.resume(tmp_path, *faults, more=(*options, "--allow-changes", *names)).said
    assert "warning: going on with a change: " + listed.split("; ")[0] in said
    assert "done: " in said
    count(survived=1)


@whole_run
def test_a_resume_with_another_vocabulary_is_refused(whole: Reference, tmp_path: Path, count: Count) -> None:
    count(injected=1)
    whole.corpus.run(tmp_path, STOP, code=75)
    manifest = tmp_path / "train.jsonl"
    rows = (whole.corpus.folder / "train.jsonl").read_text().replace('"wav/', f'"{whole.corpus.folder}/wav/')
    manifest.write_text(rows.replace("one", "zone"))
    more = ("--corpus.train", str(manifest), "--allow-changes", "corpus-train", "tokens", "initial-weights")
    assert "its vocabulary has 16 units, this run's has 17" in whole.corpus.resume(tmp_path, more=more, code=2).said
    count(survived=1)


@whole_run
def test_a_prolonged_run_is_not_complete_because_a_shorter_one_was(
    whole: Reference, tmp_path: Path, count: Count
) -> None:
    """Eight steps to their end; then fourteen, killed before the new results are written, and resumed."""
    count(injected=1)
    whole.corpus.run(tmp_path, more=("--train.max-steps", "8"))
    longer = ("--allow-changes", "train.max_steps")
    kill = ("kill_at_call", {"function": "trainer/closing.py:close_run", "number": 0})
    whole.corpus.resume(tmp_path, kill, more=longer, code=-9)
    results = tmp_path / "run" / "results.json"
    assert json.loads(results.read_text())["steps"] == 8
    whole.corpus.resume(tmp_path, more=longer)
    assert json.loads(results.read_text())["steps"] == 14
    assert "complete after 14 steps; nothing to do" in whole.corpus.resume(tmp_path, more=longer).said
    count(survived=1)


def warnings(said: str) -> list[str]:
    """All but those that these short runs have earned: they write blanks, after too few steps."""
    earned = ("the model writes only blanks", "too few steps")
    lines = [line for line in said.splitlines() if line.startswith("warning: ")]
    return [line for line in lines if not any(words in line for words in earned)]


@whole_run
def test_what_cannot_shape_the_weights_may_change_silently(whole: Reference, tmp_path: Path, count: Count) -> None:
    """Workers, intervals of log and save, the run's folder and name, the corpus in another place: same weights."""
    count(injected=1, resumes=1)
    whole.corpus.run(tmp_path, STOP, code=75)
    shutil.copytree(whole.corpus.folder, tmp_path / "moved", ignore=shutil.ignore_patterns("cache"))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run").rename(tmp_path / "elsewhere" / "renamed")
    moved = tmp_path / "moved"
    argv = whole.corpus.argv(
        tmp_path / "elsewhere", "--resume", "--name", "renamed", "--batching.num-workers", "2",
        "--train.log-every", "5", "--train.save-every", "3", "--train.save-total-limit", "1",
        "--cache-dir", str(tmp_path / "cache"),
        "--corpus.train", str(moved / "train.jsonl"), "--corpus.eval", str(moved / "eval.jsonl"),
    )  # fmt: skip
    victim = server().start(argv, SETTING, log=tmp_path / "log2")
    assert victim.wait() == 0, victim.said
    assert warnings(victim.said) == []
    changed = differences(tmp_path / "elsewhere" / "renamed", whole.expected)
    # what is told every so many steps, and drawn from it
    told = (
        "tensorboard train/",
        "tensorboard watch/",
        "tensorboard trained/findings",
        "model/curve_",
        "metrics",
        "findings",
    )
    assert [key for key in changed if not key.startswith(told)] == []
    count(survived=1, bit_exact=1)


@whole_run
@pytest.mark.parametrize("fault", [
    ("unread_stderr", {}), ("no_streams", {}), ("broken_tensorboard", {"when": "open"}),
    ("broken_tensorboard", {"when": "write"}), ("full_metrics", {"first": 3, "last": 6}),
], ids=lambda fault: " ".join([fault[0], *fault[1].get("when", "").split()]))  # fmt: skip
def test_training_does_not_care_who_listens(fault: Fault, whole: Reference, tmp_path: Path, count: Count) -> None:
    """Broken pipe, closed streams, TensorBoard's writer failing, a log that cannot be written for a while."""
    count(injected=1)
    victim = whole.corpus.run(tmp_path, fault)
    unheard = "tensorboard " if fault[0] == "broken_tensorboard" else "nothing is missing"
    assert [key for key in differences(tmp_path / "run", whole.expected) if not key.startswith(unheard)] == []
    if fault[0] == "broken_tensorboard":
        assert len(warnings(victim.said)) == 1
    if fault[0] == "full_metrics":
        assert victim.said.count("metrics.jsonl: not written (No space left on device); the next record") == 1
    count(survived=1)


@whole_run
@pytest.mark.parametrize("streams", ["closed", "broken pipe"])
def test_the_command_itself_ends_with_0_when_nobody_listens(
    streams: str, whole: Reference, tmp_path: Path, count: Count
) -> None:
    """Closed streams, and a reader that has gone: Python's last flush would make it 120. Five steps are enough."""
    count(injected=1)
    command = [sys.executable, "-m", "trainer.run", *whole.corpus.argv(tmp_path, "--train.max-steps", "5")]
    reader, writer = os.pipe()
    os.close(reader)
    if streams == "closed":
        command = ["bash", "-c", f"{shlex.join(command)} <&- >&- 2>&-"]
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, stdout=writer, stderr=writer, check=False)
    os.close(writer)
    assert done.returncode == 0
    assert (tmp_path / "run" / "results.json").exists()
    count(survived=1)
