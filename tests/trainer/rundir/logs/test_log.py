"""What the record of a run says (trainer.rundir.logs.log) against the figures that it was given."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jiwer
import pytest
import torch

from data.text.vocab import Vocab
from trainer.cli.console import Console
from trainer.device import HostCopy
from trainer.loop.state import TrainState
from trainer.loop.step import StepResult
from trainer.rundir.logs.log import RunLog, drop_records_after
from trainer.rundir.reading import read_records
from trainer.scoring.metrics import count_character_errors, count_word_errors
from trainer.scoring.scores import Hypothesis, Scores

VOCAB = Vocab(("|", "a", "b", "[UNK]", "[PAD]"))


class Terminal(io.StringIO):
    """What says that it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def log(tmp_path: Path) -> Callable[..., RunLog]:
    """log(state) -> a RunLog in the test's folder, of a plan of ten steps, whose console is `stream`."""

    def build(state: TrainState, stream: io.StringIO | None = None) -> RunLog:
        return RunLog(
            tmp_path, Console(stream or io.StringIO()), state, VOCAB,
            total_steps=10, steps_per_epoch=5, device=torch.device("cpu"),
        )  # fmt: skip

    return build


def scores() -> Scores:
    """Two utterances: one word of five wrong, and in characters another share."""
    pairs = [("ab ba ab", "ab ba ab"), ("a bb", "a ba b")]
    hypotheses = tuple(
        Hypothesis(f"u{i}", a, b, count_word_errors(a, b), count_character_errors(a, b), loss=0.5 + i,
                   num_frames=10, num_blank_frames=3 + i)
        for i, (a, b) in enumerate(pairs)
    )  # fmt: skip
    return Scores("dev", hypotheses, seconds=1.5, num_audio_seconds=2.0, failures={})


def test_each_figure_of_an_evaluation_is_logged_under_its_own_name(log: Callable[..., RunLog], tmp_path: Path) -> None:
    """Reference: jiwer on the same texts; the losses' mean and the share of blank frames by hand."""
    stream, given = io.StringIO(), scores()
    runlog = log(TrainState(), stream)
    runlog.evaluation(TrainState(step=5), given, improved=True)
    runlog.close()
    (record,) = read_records(tmp_path / "metrics.jsonl")
    references, hypotheses = [h.reference for h in given.hypotheses], [h.hypothesis for h in given.hypotheses]
    expected = {
        "step": 5, "epoch": 1.0, "eval/loss": 1.0, "eval/wer": jiwer.wer(references, hypotheses),
        "eval/cer": jiwer.cer(references, hypotheses), "eval/blank_share": 0.35, "eval/num_errors": 2,
        "eval/num_reference_words": 5, "eval/num_infinite": 0, "eval/seconds": 1.5,
    }  # fmt: skip
    assert expected.items() <= record.items()
    assert record["eval/wer"] != record["eval/cer"]
    for part in (f"dev: WER {100 * record['eval/wer']:.2f} %", f"CER {100 * record['eval/cer']:.2f} %", "loss 1.0000"):
        assert part in stream.getvalue()


def test_each_figure_of_training_is_logged_under_its_own_name(log: Callable[..., RunLog], tmp_path: Path) -> None:
    """The rate is that of the time since the last log, not since the start."""
    runlog = log(TrainState())
    figures = dict(loss=2.0, grad_norm=3.0, lr=4e-4, grad_scale=5.0, blank_share=0.6)
    for step, seconds, audio in ((1, 2.0, 10.0), (2, 3.0, 40.0)):
        state = TrainState(step=step, train_seconds=seconds, audio_seconds=audio, num_skipped=7)
        runlog.train(state, part_norms={"head": 1.0}, **figures)
    runlog.close()
    first, second = read_records(tmp_path / "metrics.jsonl")
    assert second == {
        "step": 2, "epoch": 0.4, "train/loss": 2.0, "train/grad_norm": 3.0, "train/lr": 4e-4, "train/grad_scale": 5.0,
        "train/audio_seconds_per_second": 30.0, "train/num_skipped": 7, "train/blank_share": 0.6, "grad_norm/head": 1.0,
        "train/peak_memory_bytes": second["train/peak_memory_bytes"],
    }  # fmt: skip
    assert first["train/audio_seconds_per_second"] == 5.0


def test_figures_that_are_no_numbers_are_null(log: Callable[..., RunLog], tmp_path: Path) -> None:
    """JSON has no NaN."""
    runlog = log(TrainState())
    runlog.train(TrainState(step=1), loss=float("nan"), grad_norm=float("inf"), lr=1.0, grad_scale=1.0,
                 part_norms={}, blank_share=0.0)  # fmt: skip
    runlog.close()
    record = json.loads((tmp_path / "metrics.jsonl").read_text(), parse_constant=pytest.fail)
    assert record["train/loss"] is record["train/grad_norm"] is None


def test_a_resumed_run_takes_back_what_was_told_of_later_steps(log: Callable[..., RunLog], tmp_path: Path) -> None:
    """And an evaluation of the step it resumes from, if that was cut short; a half-written line is left out."""
    path = tmp_path / "metrics.jsonl"
    rows = [{"step": s, "train/loss": float(s)} for s in (2, 4, 6)]
    rows.insert(2, {"step": 4, "eval/wer": 0.5})
    told = "".join(json.dumps(row) + "\n" for row in rows) + '{"step": 8, "tr'
    for pending, kept in ((False, [2, 4, 4]), (True, [2, 4])):
        path.write_text(told)
        drop_records_after(path, TrainState(step=4, eval_pending=pending))
        assert [r["step"] for r in read_records(path)] == kept


def test_a_skipped_step_names_the_utterances_whose_loss_is_not_finite(log: Callable[..., RunLog]) -> None:
    stream = io.StringIO()
    zero = torch.zeros(())
    result = StepResult(zero, zero, HostCopy(torch.tensor(False)), [torch.tensor([1.0, float("nan")])],
                        ["good", "bad"], [0, 1], zero, 1e-4, step=3)  # fmt: skip
    log(TrainState(), stream).skipped(TrainState(num_skipped=1), result)
    assert "step 3: loss is not finite in [bad]; weights unchanged, 1 skipped so far" in stream.getvalue()


def test_the_bar_moves_in_every_step(log: Callable[..., RunLog], monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of a resumed run, which begins at a later step."""
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    state = TrainState(step=4)
    runlog = log(state, stream)
    runlog.bar.mininterval = 0.0  # else it is drawn once a second
    for state.step in (5, 6, 7):
        runlog.step(state)
        assert runlog.bar.n == state.step
    assert re.findall(r"(\d+)/10", stream.getvalue()) == ["4", "5", "6", "7"]
    runlog.close_bar()


class Told:
    """A watch that finds the same thing at every look."""

    def __init__(self) -> None:
        self.looks: list[int] = []
        self.evaluated_at: list[int] = []

    def evaluated(self, step: int, scores: Scores) -> None:
        self.evaluated_at.append(step)

    def look(self, records: Sequence[Any]) -> dict[str, str]:
        self.looks.append(len(records))
        return {"cold": "cold (certain): It is cold."}


def test_a_finding_is_told_once_before_the_first_step_and_not_again_by_a_resumed_run(tmp_path: Path) -> None:
    for state, times in ((TrainState(), 1), (TrainState(step=5), 0)):
        stream, watch = io.StringIO(), Told()
        runlog = RunLog(
            tmp_path, Console(stream), state, VOCAB, total_steps=10, steps_per_epoch=5, device=torch.device("cpu"),
            watch=watch,
        )  # fmt: skip
        runlog.evaluation(TrainState(step=5), scores(), improved=True)
        runlog.close()
        assert stream.getvalue().count("cold (certain)") == times
        assert watch.evaluated_at == [5]
        assert watch.looks[-1] == len(read_records(tmp_path / "metrics.jsonl"))
