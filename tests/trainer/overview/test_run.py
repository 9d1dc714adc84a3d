"""What a run's folder tells: each status from the files that make it, figures, damage, older versions.

pytest tests/trainer/overview/test_run.py
"""

from __future__ import annotations

import json
import shutil
import threading
import time
from pathlib import Path

import pytest

from tests.helpers.overview import (
    records,
    write_checkpoint,
    write_config,
    write_finished,
    write_metrics,
    write_results,
)
from trainer.errors import ConfigError
from trainer.overview.run import Rate, read_run
from trainer.rundir.lock import SECONDS_OF_A_LOOK, is_held, lock_run


def test_finished_run_has_the_figures_of_its_results(tmp_path: Path) -> None:
    run = read_run(write_finished(tmp_path / "a"), "a")
    assert (run.status, run.note, run.step, run.total_steps, run.saved_step) == ("finished", "", 40, 40, 40)
    assert run.rate == Rate("WER", 0.125, "test", (0.105, 0.155), "24 speakers", 40)
    assert run.train_seconds == 3725
    assert run.audio_seconds == 372_500  # 3725 s of training at 100 s of audio per second
    assert not run.is_estimated
    assert run.best == Rate("WER", 0.125 + 1 / 40, step=40)
    assert run.options is not None
    assert run.options["optim.lr"] == "0.001"


def test_run_is_running_as_long_as_a_process_holds_its_lock(tmp_path: Path) -> None:
    folder = write_finished(tmp_path / "a")
    (folder / "results.json").unlink()
    write_metrics(folder, records(60))
    with lock_run(folder, pytest.fail):
        run = read_run(folder, "a")
    assert (run.status, run.step, run.total_steps) == ("running", 60, 200)  # 2 epochs of 100 steps
    assert run.rate == Rate("WER", 0.5 + 1 / 60, step=60)
    # the checkpoint of step 40 says 10 s and 500 s of audio
    assert (run.train_seconds, run.audio_seconds, run.is_estimated) == (15.0, 750.0, True)
    assert read_run(folder, "a").status == "resumable"


def test_run_that_prepares_is_running(tmp_path: Path) -> None:
    with lock_run(tmp_path / "a", pytest.fail):
        run = read_run(tmp_path / "a", "a")
    assert (run.status, run.note, run.rate, run.options) == ("running", "preparing", None, None)
    assert read_run(tmp_path / "a", "a").status == "stopped"


def test_stopped_run_says_whether_and_from_where_it_can_go_on(tmp_path: Path) -> None:
    write_config(tmp_path)
    write_metrics(tmp_path, records(70))
    stopped = read_run(tmp_path, "a")
    assert (stopped.status, stopped.saved_step) == ("stopped", None)
    write_checkpoint(tmp_path, 40)
    resumable = read_run(tmp_path, "a")
    assert (resumable.status, resumable.saved_step, resumable.step) == ("resumable", 40, 70)
    assert resumable.note == "saved at step 40"


def test_run_that_went_on_after_its_results_is_not_finished(tmp_path: Path) -> None:
    write_finished(tmp_path)
    write_metrics(tmp_path, records(60, wer=0.3))
    run = read_run(tmp_path, "a")
    assert run.status == "resumable"
    assert "results.json is of step 40" in run.note
    assert run.rate == Rate("WER", 0.3 + 1 / 60, step=60)


def test_folder_of_an_evaluation_is_scored(tmp_path: Path) -> None:
    write_config(tmp_path)
    write_results(tmp_path, steps=None)
    run = read_run(tmp_path, "a")
    assert (run.status, run.train_seconds, run.rate and run.rate.value) == ("scored", None, 0.125)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


DAMAGE = {
    "weights of another size": (lambda run: truncate(run / "checkpoints/step-00000040/model.safetensors"),
                                "checkpoints/step-00000040/model.safetensors: 6 bytes, 7 were written"),
    "weights gone": (lambda run: (run / "checkpoints/step-00000040/model.safetensors").unlink(),
                     "checkpoints/step-00000040/model.safetensors: No such file"),
    "no manifest": (lambda run: (run / "checkpoints/step-00000040/manifest.json").unlink(),
                    "checkpoints/step-00000040: it has no manifest.json"),
    "half of the results": (lambda run: (run / "results.json").write_text('{"wer": 0.1, "spl'),
                            "results.json: not readable"),
    "results of another program": (lambda run: (run / "results.json").write_text("[1]"),
                                   "results.json: not the results of a run"),
    "a config that is no JSON": (lambda run: (run / "config.json").write_text("{"),
                                 "config.json: not a run's configuration"),
    "a corpus that is not known": (lambda run: (run / "config.json").write_text('{"corpus": {"kind": "New"}}'),
                                   'config.json: corpus.kind is "New"'),
    "a line in the middle": (lambda run: (run / "metrics.jsonl").write_text('{"step": 10}\n{"st\n{"step": 20}\n'),
                                        "metrics.jsonl:2: not a record; 2 lines are not shown"),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_named_with_its_file_and_what_is_left(tmp_path: Path, kind: str) -> None:
    spoil, told = DAMAGE[kind]
    folder = write_finished(tmp_path / "a")
    spoil(folder)
    run = read_run(folder, "a")
    assert run.status == "damaged"
    assert told in run.note
    assert str(tmp_path) not in run.note
    left = "--resume goes on from step 40" if "results" in kind else "the results are there"
    assert run.note.endswith(left)


def test_damaged_newest_checkpoint_leaves_the_one_before(tmp_path: Path) -> None:
    write_config(tmp_path)
    write_checkpoint(tmp_path, 20)
    truncate(write_checkpoint(tmp_path, 40) / "model.safetensors")
    run = read_run(tmp_path, "a")
    assert (run.status, run.saved_step) == ("damaged", 20)
    assert run.note.endswith("--resume goes on from step 20")


def test_flipped_bit_is_found_by_verify_alone(tmp_path: Path) -> None:
    folder = write_finished(tmp_path / "a")
    (folder / "checkpoints/step-00000040/model.safetensors").write_bytes(b"weighte")
    assert read_run(folder, "a").status == "finished"
    run = read_run(folder, "a", is_verified=True)
    assert run.status == "damaged"
    assert "SHA-256 differs" in run.note


def test_last_line_cut_off_by_a_crash_is_no_damage(tmp_path: Path) -> None:
    write_config(tmp_path)
    write_metrics(tmp_path, records(40))
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 50, "ep')
    run = read_run(tmp_path, "a")
    assert (run.status, run.step) == ("stopped", 40)


def test_older_version_without_some_options_and_figures_is_read(tmp_path: Path) -> None:
    folder = write_finished(tmp_path / "a")
    config = json.loads((folder / "config.json").read_text())
    del config["deterministic"], config["optim"]["moments"]
    config["gone_since"] = 1
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "results.json").write_text(json.dumps({"wer": 0.2, "headline": "test", "steps": 40}))
    write_metrics(folder, [{"step": 40, "eval/wer": None, "train/loss": "nan"}])
    run = read_run(folder, "a")
    assert run.status == "finished"
    assert run.options is not None
    assert run.options["deterministic"] == "False"
    assert run.rate == Rate("WER", 0.2, "test", None, "", 40)
    # what results.json of that version does not tell, the newest checkpoint does
    assert (run.train_seconds, run.audio_seconds, run.best) == (10.0, 500.0, None)


def test_phones_are_judged_by_their_own_rate(tmp_path: Path) -> None:
    write_config(tmp_path)
    write_metrics(tmp_path, [{"step": 5, "eval/per": 0.25, "eval/ser": 1.0}])
    assert read_run(tmp_path, "a").rate == Rate("PER", 0.25, step=5)


def test_checkpoint_put_aside_by_a_resume_is_no_damage(tmp_path: Path) -> None:
    folder = write_finished(tmp_path / "a")
    shutil.copytree(folder / "checkpoints/step-00000040", folder / "checkpoints/step-00000030.damaged")
    run = read_run(folder, "a")
    assert run.status == "finished"
    assert run.note == "step-00000030.damaged was put aside by a resume"


def test_looking_changes_nothing(tmp_path: Path) -> None:
    folder = write_finished(tmp_path / "a")

    def content() -> dict[Path, bytes | None]:
        return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}

    before = content()
    read_run(folder, "a", is_verified=True)
    assert content() == before


def test_run_begins_though_someone_looks_at_its_lock(tmp_path: Path) -> None:
    """A look holds the lock for an instant. Whoever begins a run in this instant waits and is not refused."""
    import fcntl

    with lock_run(tmp_path, pytest.fail):
        pass
    looking = open(tmp_path / "lock")  # noqa: SIM115
    fcntl.flock(looking, fcntl.LOCK_SH)
    threading.Timer(SECONDS_OF_A_LOOK / 5, looking.close).start()
    with lock_run(tmp_path, pytest.fail):
        assert is_held(tmp_path)
    assert not is_held(tmp_path)


def test_run_is_refused_where_another_holds_the_lock(tmp_path: Path) -> None:
    begin = time.monotonic()
    with (
        lock_run(tmp_path, pytest.fail),
        pytest.raises(ConfigError, match="in use by another process"),
        lock_run(tmp_path, pytest.fail),
    ):
        pass
    assert time.monotonic() - begin < 3 * SECONDS_OF_A_LOOK
