"""python -m scripts.doctor on a run in miniature: pytest tests/scripts/test_doctor.py"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from data.examples.example import Example
from scripts.doctor import main, read
from trainer.doctor.suspect import read_suspects
from trainer.rundir.reading import read_records
from trainer.signs.sign import Sign


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    """A finished run of eight utterances, to be changed."""
    return Path(shutil.copytree(finished_run, tmp_path / "run"))


def write_records(run: Path, records: list[dict[str, Any]]) -> None:
    (run / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def clip_six(examples: Sequence[Example], progress: object) -> Iterator[tuple[Example, list[Sign]]]:
    """As signs_of, of a corpus of which all but two are clipped."""
    return ((e, [Sign("clipped", "9 peaks are cut flat", "likely")] * (i > 1)) for i, e in enumerate(examples))


def test_every_training_utterance_has_a_line_with_the_losses_and_the_words_of_the_run(
    run: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.doctor.examine.signs_of", clip_six)
    assert main([str(run), "--top", "3", "--exclude", "likely", "--audio", "1"]) == 0
    suspects = list(read_suspects(run / "doctor.jsonl"))
    assert len(suspects) == 8
    assert [s.score for s in suspects] == sorted((s.score for s in suspects), reverse=True)
    assert all(len(s.losses) == 2 and s.hypothesis is not None and s.audio.endswith(".wav") for s in suspects)
    assert all(s.split == "train" and s.speaker == "s1" and s.seconds > 0.5 for s in suspects)
    out = capsys.readouterr().out
    assert "of 8 utterances: " in out
    assert out.count("9 peaks are cut flat") == 3
    assert "doctor.html: 6 suspects, 1 to hear and see, " in out
    assert len((run / "doctor-exclude.jsonl").read_text(encoding="utf-8").splitlines()) == 6
    assert f"train without 6 of them: --corpus.exclude {run}/doctor-exclude.jsonl" in out


def test_a_run_that_did_not_learn_is_told_that_its_model_cannot_judge(run: Path, capsys: pytest.CaptureFixture) -> None:
    records = read_records(run / "metrics.jsonl")
    for rate, is_told in ((1.0, True), (0.3, False)):
        write_records(run, [r | {"eval/wer": rate} if "eval/wer" in r else r for r in records])
        assert main([str(run)]) == 0
        assert (f"scripts.diagnose {run}" in " ".join(capsys.readouterr().out.split())) == is_told


def test_an_evaluation_split_is_looked_into_with_its_own_losses(run: Path) -> None:
    assert main([str(run), "--split", "eval"]) == 0
    suspects = list(read_suspects(run / "doctor-eval.jsonl"))
    assert len(suspects) == 6
    assert all(len(s.losses) == 2 and s.split == "eval" for s in suspects)


def test_a_run_without_losses_is_looked_into_with_its_model_alone(run: Path, capsys: pytest.CaptureFixture) -> None:
    shutil.rmtree(run / "dynamics")
    assert main([str(run), "--exclude", "certain"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "Without losses of training, from the model alone" in out
    assert f"{run}/doctor-exclude.jsonl is empty: nothing is marked certain, or surer" in out
    assert all(s.losses == () for s in read_suspects(run / "doctor.jsonl"))


def test_a_corpus_that_has_moved_is_named_and_one_that_has_changed_is_told(
    run: Path, finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    corpus = finished_run.parents[1]
    moved = tmp_path / "moved"
    moved.mkdir()
    for path in [*corpus.glob("*.wav"), *corpus.glob("*.jsonl")]:
        shutil.copy(path, moved)
    rows = (moved / "train.jsonl").read_text(encoding="utf-8").splitlines()
    (moved / "train.jsonl").write_text("\n".join(rows[1:]) + "\n", encoding="utf-8")
    assert main([str(run), "--corpus.train", str(moved / "train.jsonl"), "--cache-dir", str(tmp_path / "cache")]) == 0
    assert "has changed since" in " ".join(capsys.readouterr().out.split())
    assert len(list(read_suspects(run / "doctor.jsonl"))) == 7


def test_a_run_that_is_not_over_is_looked_into_so_far(run: Path, capsys: pytest.CaptureFixture) -> None:
    shutil.rmtree(run / "model")
    (run / "results.json").unlink()
    assert main([str(run)]) == 0
    assert "The run is not over" in capsys.readouterr().out
    assert "The run is not over" in (run / "doctor.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("spoil", "words", "said"),
    [
        (lambda run: shutil.rmtree(run), [], "holds no run"),
        (lambda run: [shutil.rmtree(run / "model"), shutil.rmtree(run / "checkpoints")], [], "without a checkpoint"),
        (lambda run: [path.unlink() for path in (run / "model").glob("*vocab*")], [], "model: it has no tokenizer"),
        (lambda run: None, ["--split", "dev"], "this run has train, eval"),
        (lambda run: None, ["--top", "-1"], "--top -1"),
        (lambda run: None, ["--audio", "-1"], "--audio -1"),
        (lambda run: None, ["--split", "eval", "--exclude", "certain"], "leave out --split"),
        (lambda run: None, ["--corpus.trian", "x"], "no option --corpus.trian"),
        (lambda run: None, ["--corpus.train", "/nowhere/train.jsonl"], "/nowhere/train.jsonl"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(
    run: Path, spoil: Callable[[Path], Any], words: list[str], said: str, capsys: pytest.CaptureFixture
) -> None:
    spoil(run)
    assert main([str(run), *words]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.splitlines()[-1].startswith("error: ")


def test_twenty_utterances_are_printed_and_as_many_as_fit_can_be_heard_unless_it_is_said() -> None:
    args, rest = read(["runs/a", "--device", "cpu"])
    assert (args.run, args.top, args.split, args.audio, args.exclude) == (Path("runs/a"), 20, "train", None, None)
    assert rest == ["--device", "cpu"]


def test_nothing_is_taken_for_the_run(capsys: pytest.CaptureFixture) -> None:
    assert main([]) == 2
    assert main(["--top", "3"]) == 2
    assert "python -m scripts.doctor runs/NAME" in capsys.readouterr().err
