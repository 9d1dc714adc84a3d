"""scripts.verify_run on a run of four steps, whole and damaged in every part."""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import soundfile
import torch

from scripts.verify_run import main as verify_run
from tests.helpers.corpora import make_tone, write_jsonl
from trainer.run import main as train


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Checkpoints of steps 2 and 4, `best`, model and results."""
    folder, threads = tmp_path_factory.mktemp("verify"), torch.get_num_threads()
    torch.set_num_threads(1)
    rows = []
    for i in range(4):
        soundfile.write(folder / f"{i}.wav", make_tone(0.4 + 0.05 * i), 16_000)
        rows.append({"audio_filepath": f"{i}.wav", "text": f"a{'bc'[i % 2]}"})
    manifest = str(write_jsonl(folder / "all.jsonl", rows))
    assert train([
        "manifest", "--corpus.train", manifest, "--corpus.eval", manifest, "--model.size", "demo",
        "--train.max-steps", "4", "--batching.batch-size", "2", "--train.save-every", "2", "--train.eval-every", "2",
        "--train.log-every", "1", "--runs-dir", str(folder / "runs"),
        "--cache-dir", str(folder / "cache"), "--name", "run", "--device", "cpu",
    ]) == 0  # fmt: skip
    yield folder / "runs" / "run"
    torch.set_num_threads(threads)


@pytest.fixture
def run_dir(trained: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def test_a_whole_run_is_sound_line_by_line(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify_run([str(trained)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in out[:-1]] == [
        "config.json", "checkpoints/step-00000002", "checkpoints/step-00000004", "checkpoints/best", "metrics.jsonl",
        "dynamics", "results.json", "hypotheses.jsonl", "model",
    ]  # fmt: skip
    assert all(" sound: " in line for line in out[:-1])
    assert "sound: 4 steps to 4, 2 evaluations to 4" in out[4]
    assert out[5].endswith("sound: 8 visits of 4 utterances, 2 evaluations")
    assert out[8].endswith("sound: the weights of step 4")
    assert out[-1] == f"{trained}: everything is sound; not in use"


def test_it_changes_nothing(run_dir: Path) -> None:
    def state() -> dict[Path, tuple[int, bytes]]:
        return {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in run_dir.rglob("*") if p.is_file()}

    (run_dir / "checkpoints" / "step-00000004" / "state.json").write_text("")
    before = state()
    verify_run([str(run_dir)])
    assert state() == before


def drop_line(path: Path, number: int) -> None:
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:number] + lines[number + 1 :]))


def say_twice(path: Path, number: int) -> None:
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[: number + 1] + lines[number:]))


def change(path: Path, key: str, value: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-10] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "name", "said"),
    [
        (lambda r: (r / "config.json").write_text("{"), "config.json", "not a run's configuration"),
        (lambda r: flip(r / "checkpoints/step-00000004/optimizer.safetensors"), "checkpoints/step-00000004",
         "optimizer.safetensors: its content is not what was written"),
        (lambda r: (r / "checkpoints/step-00000002/manifest.json").unlink(), "checkpoints/step-00000002",
         "it has no manifest.json"),
        (lambda r: flip(r / "checkpoints/best/model.safetensors"), "checkpoints/best", "SHA-256 differs"),
        (lambda r: shutil.rmtree(r / "checkpoints/best"), "checkpoints/best", "it has no manifest.json"),
        (lambda r: drop_line(r / "metrics.jsonl", 2), "metrics.jsonl", "evaluations: step 2 is missing"),
        (lambda r: drop_line(r / "metrics.jsonl", 3), "metrics.jsonl", "steps: step 3 is missing"),
        (lambda r: say_twice(r / "metrics.jsonl", 1), "metrics.jsonl", "steps: step 2 is told twice"),
        (lambda r: (r / "metrics.jsonl").unlink(), "metrics.jsonl", "No such file"),
        (lambda r: flip(r / "dynamics/train.npy"), "dynamics", "train.npy: its content is not what was written"),
        (lambda r: flip(r / "dynamics/evaluations.npy"), "dynamics", "evaluations.npy: its content is not what"),
        (lambda r: (r / "dynamics/train-ids.arrow").unlink(), "dynamics", "No such file"),
        (lambda r: shutil.rmtree(r / "dynamics"), "dynamics", "train.npy: missing"),
        (lambda r: drop_line(r / "hypotheses.jsonl", 0), "hypotheses.jsonl", "3 utterances of eval; results"),
        (lambda r: (r / "results.json").write_text("[]"), "results.json", "not what was written there"),
        (lambda r: flip(r / "model/model.safetensors"), "model", "is not the weights of step 4"),
        (lambda r: (r / "model/vocab.json").unlink(), "model", "No such file"),
    ],
)  # fmt: skip
def test_each_damage_is_one_line_and_exit_code_1(
    damage: Callable[[Path], object], name: str, said: str, run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(run_dir)
    assert verify_run([str(run_dir)]) == 1
    out = capsys.readouterr().out.splitlines()
    damaged = [line for line in out if " DAMAGED: " in line]
    assert damaged[0].split()[0] == name
    assert said in damaged[0]
    assert "damaged" in out[-1]


@pytest.mark.slow
def test_a_resume_that_logs_at_another_interval_is_sound(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Reference: training itself, four steps logged every two, four more logged each."""
    config = json.loads((trained / "config.json").read_text())
    for steps, eval_every, options in ((4, 2, []), (8, 1, ["--resume", "--allow-changes", "train.max_steps"])):
        assert train([
            "manifest", "--corpus.train", config["corpus"]["train"], "--corpus.eval", config["corpus"]["eval"],
            "--model.size", "demo", "--train.max-steps", str(steps), "--batching.batch-size", "2",
            "--train.save-every", "2", "--train.log-every", str(eval_every), "--train.eval-every", "2",
            "--optim.warmup-steps", "1", "--runs-dir", str(tmp_path), "--cache-dir", config["cache_dir"],
            "--name", "run", "--device", "cpu", "--no-report", *options,
        ]) == 0  # fmt: skip
    capsys.readouterr()
    assert verify_run([str(tmp_path / "run")]) == 0
    assert "6 steps to 8, 4 evaluations to 8; steps: the interval was changed on the way" in capsys.readouterr().out


def test_ids_may_hold_what_other_readers_take_for_a_line_end(run_dir: Path) -> None:
    path = run_dir / "hypotheses.jsonl"
    first, *others = path.read_text().split("\n")
    record = json.loads(first) | {"id": "a\u2028b\u0085c"}
    path.write_text("\n".join([json.dumps(record, ensure_ascii=False), *others]), encoding="utf-8")
    assert verify_run([str(run_dir)]) == 0


def test_what_a_crash_leaves_is_sound_when_a_resume_finds_its_way(
    run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Half a line in the log, a half-written checkpoint, `best` between two renames, no results yet."""
    checkpoints = run_dir / "checkpoints"
    with open(run_dir / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write('{"step": 5, "train/lo')
    with open(run_dir / "dynamics" / "train.npy", "ab") as file:
        file.write(b"half a record")
    (checkpoints / ".step-00000006.part").mkdir()
    (checkpoints / "best").rename(checkpoints / ".best.old")
    (run_dir / "results.json").unlink()
    shutil.rmtree(run_dir / "model")
    assert verify_run([str(run_dir)]) == 0
    assert "results                      not there yet" in capsys.readouterr().out


def test_a_run_that_has_not_saved_yet_is_sound(run_dir: Path) -> None:
    for path in run_dir.iterdir():
        if path.name != "config.json":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert verify_run([str(run_dir)]) == 0


def test_a_running_run_is_said_to_be_in_use(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with open(run_dir / "lock", "a", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert verify_run([str(run_dir)]) == 0
    assert capsys.readouterr().out.endswith("in use by another process\n")


def test_a_folder_without_a_run_is_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify_run([str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path} holds no run: it has neither config.json nor checkpoints.\n"
