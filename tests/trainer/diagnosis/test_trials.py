"""--lr-finder and --overfit (trainer.diagnosis.rate_range, overfit): their judgement, and what they refuse.

pytest tests/trainer/diagnosis/test_trials.py
"""

from __future__ import annotations

import doctest
import io
import itertools
import json
import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from data.examples.example import Example
from tests.helpers.diagnosis import facts, options
from tests.helpers.tones import write_tone_corpus
from trainer.cli.console import Console
from trainer.config.schema import Config
from trainer.diagnosis import overfit as overfitting
from trainer.diagnosis import rate_range
from trainer.diagnosis import trial as trial_module
from trainer.diagnosis.overfit import overfit, some_of, verdict, without_noise
from trainer.diagnosis.rate_range import Sweep, chart, describe, find_rate, has_diverged, page, rates, smoothed
from trainer.diagnosis.trial import Taken, prepare_trial, take_step
from trainer.errors import ConfigError
from trainer.run import main
from trainer.scoring.metrics import EditCounts
from trainer.scoring.scores import Hypothesis, Scores


def sweep_of(losses: list[float], diverged_at: float | None = None) -> Sweep:
    return Sweep(rates(2e-3, 100)[: len(losses)], losses, smoothed(losses), diverged_at)


def test_rates_rise_by_the_same_factor_around_the_usual_one() -> None:
    found = rates(2e-3)
    factors = [b / a for a, b in itertools.pairwise(found)]
    assert found[0] == pytest.approx(2e-6)
    assert found[-1] == pytest.approx(0.2)
    assert max(factors) == pytest.approx(min(factors)) == pytest.approx(1e5 ** (1 / 99))
    assert doctest.testmod(rate_range).failed == 0


def test_the_suggestion_is_where_the_fall_is_made() -> None:
    """A loss that falls from 6 to 3 between the 40th and the 60th step and stays: nine tenths of it are at 3.3."""
    losses = [6.0] * 40 + [6 - 3 * k / 20 for k in range(20)] + [3.0] * 40
    sweep = sweep_of(losses)
    assert sweep.suggestion is not None
    assert 0.5 * sweep.rates[57] < sweep.suggestion < 2 * sweep.rates[60]


def test_the_suggestion_stays_away_from_a_rate_that_diverges() -> None:
    losses = [6 - 3 * k / 60 for k in range(60)] + [3.0, 9.0]
    at = rates(2e-3)[61]
    assert sweep_of(losses, at).suggestion == float(f"{at / 10:.0e}")


def test_a_loss_that_falls_at_no_rate_suggests_none_and_says_what_to_do() -> None:
    sweep = sweep_of([3.0 + 0.05 * (-1) ** k for k in range(100)])
    assert sweep.suggestion is None
    assert "--overfit 8" in describe(sweep, options())[-1]


def test_the_test_ends_with_the_first_loss_that_is_no_number_and_with_one_that_rose_for_good() -> None:
    assert has_diverged([6.0, math.nan])
    assert not has_diverged([6.0] * 50)
    assert not has_diverged([6.0] * 30 + [2.0] * 10 + [9.0])  # one wild step
    assert has_diverged([6.0] * 30 + [2.0] * 10 + [9.0] * 10)
    assert not has_diverged([2.0, 9.0, 9.0, 9.0, 9.0])  # the first losses of random weights


def test_the_chart_falls_from_left_to_right_where_the_loss_does() -> None:
    lines = chart(sweep_of([6 - 4 * k / 99 for k in range(100)]))
    assert lines[0].startswith("    5.9")
    assert [line.rfind("*") for line in lines[:10]] == sorted(line.rfind("*") for line in lines[:10])
    assert lines[-1].split() == ["rate", "2e-06", "2e-01"]
    assert chart(sweep_of([])) == []


def test_the_page_holds_curve_words_and_every_step_and_fetches_nothing() -> None:
    html = page(sweep_of([6 - 4 * k / 99 for k in range(100)]), options())
    assert html.count("<tr><td>") == 100
    assert html.count("<polyline") == 2
    assert "Suggestion: --optim.lr" in html
    assert not re.search(r"(src|href)=|https?://", html)


def test_overfitting_uses_no_noise() -> None:
    noisy = options(
        hidden_dropout=0.1,
        mask_time_prob=0.3,
        layerdrop=0.1,
        mask_time_min_masks=2,
        lora_dropout=0.1,
        mask_feature_prob=0.1,
        mask_feature_min_masks=1,
    )
    config = without_noise(replace(noisy, train=replace(noisy.train, grad_accum_steps=4)))
    m = config.model
    names = ("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout", "final_dropout",
             "layerdrop", "lora_dropout", "mask_time_prob", "mask_time_min_masks", "mask_feature_prob",
             "mask_feature_min_masks")  # fmt: skip
    assert {getattr(m, name) for name in names} | {config.optim.weight_decay} == {0}
    assert config.augment.speeds == ()
    assert config.train.grad_accum_steps == 1


def test_utterances_are_taken_from_all_places() -> None:
    assert some_of(range(100), 4) == [0, 25, 50, 75]  # type: ignore[arg-type]
    assert some_of(range(3), 3) == [0, 1, 2]  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="has 3 utterances"):
        some_of(range(3), 4)  # type: ignore[arg-type]


class Trial:
    """A run whose steps have the losses that `loss(rate)` gives, and whose evaluations find `errors` of four words."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, config: Config, **fakes: Any) -> None:
        self.said = io.StringIO()
        self.console = Console(self.said)
        self.config = config
        self.rates: list[float] = []
        model = SimpleNamespace(train=lambda: None, num_frames=lambda samples: samples // 320)
        steps = SimpleNamespace(steps=lambda epoch, done: itertools.repeat((0, [], 0)))
        corpus = SimpleNamespace(splits=SimpleNamespace(train="train"))
        self.run: Any = SimpleNamespace(
            config=config, loader=steps, do_normalize=True,
            parts=SimpleNamespace(model=model, device=torch.device("cpu"), autocast=None),
            data=Data([example(f"u{i}") for i in range(20)], corpus, None),
        )  # fmt: skip
        for module in (rate_range, overfitting):
            monkeypatch.setattr(module, "prepare_trial", self.prepare)
            monkeypatch.setattr(module, "take_step", self.step)
        monkeypatch.setattr(overfitting, "plan_batches", lambda *args: SimpleNamespace(num_steps=lambda epoch: 1))
        monkeypatch.setattr(overfitting, "build_train_loader", lambda *args: steps)
        monkeypatch.setattr(overfitting, "evaluate", lambda *args: scores(self.errors(len(self.rates)), 5))
        monkeypatch.setattr(overfitting, "facts_of", lambda run, probes: facts())
        self.loss: Callable[[float], float] = lambda rate: 3.0
        self.errors: Callable[[int], list[int]] = lambda step: [4, 4, 4, 4]

    def prepare(self, config: Config, steps: int, console: Console, corpus: object) -> Any:
        self.steps = steps
        return self.run

    def step(self, parts: object, batches: object, rate: float, norm: float, seed: int) -> Taken:
        self.rates.append(rate)
        return Taken(self.loss(rate), 1.0, 0.4)


@dataclass(frozen=True)
class Data:
    train: list[Example]
    corpus: Any
    vocab: Any


def example(name: str, frames: int = 100, units: int = 10) -> Example:
    u = SimpleNamespace(id=name)
    return Example(u, "a b c d", tuple(range(units)), 320 * frames, lambda: np.zeros(1))  # type: ignore[arg-type]


def scores(errors: list[int], apart: int = 1) -> Scores:
    """So many words of four are wrong in utterance u0 and those that stand `apart` behind it."""
    return Scores("train", tuple(
        Hypothesis(f"u{apart * i}", "a b c d", " ".join("abcd"[n:]), EditCounts(4 - n, 0, 0, n), EditCounts(), 1.5)
        for i, n in enumerate(errors)
    ), 1.0, 1.0, {})  # fmt: skip


def trained(losses: list[float]) -> list[dict[str, Any]]:
    return [{"step": k, "train/loss": loss, "train/blank_share": 0.4} for k, loss in enumerate(losses, 1)]


FALLING, STANDING = [6 - k / 100 for k in range(400)], [1.5] * 400


@pytest.mark.parametrize(
    ("errors", "losses", "said"),
    [
        ([0, 0, 0, 0], STANDING, "Verdict: learnt. The WER of 4 utterances is 0 after 400 steps"),
        ([1, 0, 0, 1], STANDING, "Most were learnt, so model and arithmetic work"),
        ([1, 1, 0, 1], FALLING, "The loss still falls: give it more steps (--train.max-steps 800)."),
        ([1, 1, 0, 1], STANDING, "Try --lr-finder, and --optim.lr 0.0007."),
        ([4, 4, 4, 4], [2.30] * 400, "flat loss (certain): Nothing is learnt from the audio."),
    ],
)
def test_the_verdict_says_what_to_do_next(
    errors: list[int], losses: list[float], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = Trial(monkeypatch, options(warmup=0))
    lines = verdict(trial.run, [example(f"u{i}") for i in range(4)], trained(losses), scores(errors), 400)
    advice = ("Verdict: learnt", "Most were", "The loss still", "Try --lr", "flat loss (")
    assert [line for line in lines if line.startswith(advice)] == [line for line in lines if said in line]
    assert sum(said in line for line in lines) == 1
    wrong = sum(n > 0 for n in errors)
    assert sum("is written as" in line for line in lines) == wrong
    if wrong:
        assert lines[0] == (
            f"Verdict: not learnt. After 400 steps {wrong} of 4 utterances {'has' if wrong == 1 else 'have'} errors "
            f"(WER {100 * sum(errors) / 16:.1f} %, loss 1.500)."
        )


def test_a_verdict_names_no_cause_that_a_trial_is_meant_to_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """It learns by heart, and has few steps: a run that did so would be told."""
    trial = Trial(monkeypatch, options(warmup=0))
    logged = [r | {"train/blank_share": 1.0} for r in trained([2.9] * 100)]
    lines = verdict(trial.run, [example("u0")], logged, scores([4]), 100)
    assert not [line for line in lines if "too few steps" in line]


def test_eight_utterances_that_were_not_learnt_are_shown_and_those_with_little_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trial = Trial(monkeypatch, options(warmup=0))
    examples = [example(f"u{i}", frames=14 + i) for i in range(9)]
    lines = verdict(trial.run, examples, trained(STANDING), scores([1] * 9), 400)
    shown = [line for line in lines if "is written as" in line]
    assert shown[0] == "  u0: 'a b c d' is written as 'b c d', loss 1.50; 14 frames for 10 that its units need"
    assert shown[1] == "  u1: 'a b c d' is written as 'b c d', loss 1.50"
    assert len(shown) == 8
    assert "is written as nothing" in verdict(trial.run, examples, trained(STANDING), scores([4]), 400)[-1]


@pytest.mark.parametrize(("learnt_at", "max_steps", "code"), [(40, None, 0), (41, None, 0), (9999, 50, 1)])
def test_overfitting_ends_with_the_first_evaluation_without_an_error(
    learnt_at: int, max_steps: int | None, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(options(), overfit=4)
    trial = Trial(monkeypatch, replace(config, train=replace(config.train, max_steps=max_steps)))
    trial.errors = lambda step: [4, 4, 4, 4] if step < learnt_at else [0, 0, 0, 0]
    assert overfit(trial.config, trial.console) == code
    assert trial.steps == (max_steps or 1000)
    assert len(trial.rates) == {40: 40, 41: 60, 9999: 50}[learnt_at]
    assert trial.rates[:20] == pytest.approx([2e-3 * k / 20 for k in range(1, 21)])
    assert set(trial.rates[20:]) == {2e-3}
    said = trial.said.getvalue()
    assert "u0 (2.0 s): a b c d\n" in said
    assert "u5 (2.0 s)" in said
    assert [line.split(":")[0] for line in said.splitlines() if line.startswith("step ")] == {
        40: ["step 20", "step 40"], 41: ["step 20", "step 40", "step 60"], 9999: ["step 20", "step 40", "step 50"],
    }[learnt_at]  # fmt: skip


@pytest.mark.parametrize(
    ("loss", "code", "steps", "said"),
    [
        (lambda rate: 6.0 if rate < 1e-4 else 3.0, 0, 100, "it did not diverge."),
        (lambda rate: 6.0 if rate < 1e-4 else 3.0 if rate < 1e-2 else math.nan, 0, 74, "it diverged at 1.1e-02."),
        (lambda rate: 3.0, 1, 100, "It fell at no rate"),
        (lambda rate: math.inf, 1, 0, "The first loss was no number: look at the corpus with --check."),
    ],
    ids=["falls", "diverges", "stands", "no number"],
)
def test_the_rate_finder_tells_and_shows_what_it_found(
    loss: Callable[[float], float], code: int, steps: int, said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A loss that is no number is no part of the curve."""
    trial = Trial(monkeypatch, replace(options(), runs_dir=str(tmp_path), name="r"))
    trial.loss = loss
    assert find_rate(trial.config, trial.console) == code
    html = (tmp_path / "r-lr-finder.html").read_text()
    assert html.count("<tr><td>") == steps
    assert said in trial.said.getvalue()
    assert said in html
    assert ("Suggestion: --optim.lr" in html) == (code == 0)
    assert ("This command's is 0.002." in trial.said.getvalue()) == (code == 0)


def test_a_trial_takes_its_steps_at_the_rate_that_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    optimizer = SimpleNamespace(param_groups=[{"lr": 1.0}, {"lr": 0.5}])

    def step(parts: object, batches: object, norm: float, beat: object, seed: int, *, is_logged: bool) -> Any:
        assert [group["lr"] for group in optimizer.param_groups] == [0.25, 0.25]
        outcome = SimpleNamespace(wait=lambda: (seed == 1, None))
        return SimpleNamespace(outcome=outcome, blank_share=0.5, loss=2.0, grad_norm=3.0)

    monkeypatch.setattr(trial_module, "train_step", step)
    parts: Any = SimpleNamespace(optimizer=optimizer)
    assert take_step(parts, [], 0.25, 1.0, 1) == Taken(2.0, 3.0, 0.5)
    assert math.isnan(take_step(parts, [], 0.25, 1.0, 0).loss)  # a step that was not applied


def test_a_trial_has_its_steps_without_a_warm_up_or_a_table_of_features(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial_module, "prepare", lambda config, console, corpus: config)
    config = options(cache_features=True)
    config = replace(config, train=replace(config.train, grad_accum_steps=3))
    found: Any = prepare_trial(config, 100, Console(io.StringIO()), None)
    assert (found.train.max_steps, found.train.epochs) == (100, 300)
    assert (found.optim.warmup_steps, found.model.cache_features) == (0, False)


def test_a_flat_curve_has_a_chart() -> None:
    lines = chart(sweep_of([3.0] * 50))
    assert lines[9].count("*") == 50
    assert lines[9].startswith("    3.00 |")


def test_a_loss_that_is_high_for_a_few_steps_alone_has_not_diverged() -> None:
    """Neither is the smoothed loss enough, nor the last one."""
    assert not has_diverged([2.0] * 30 + [9.0] * 4 + [3.0])
    assert not has_diverged([1.0] * 6 + [9.0] * 13)  # fewer than twenty steps
    assert has_diverged([1.0] * 6 + [9.0] * 14)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--overfit", "0"], "--overfit 0 must be a number from 1"),
        (["--overfit", "-3"], "--overfit"),
        (["--overfit", "8", "--resume"], "--overfit begins no run: leave out --resume"),
        (["--lr-finder", "--overwrite"], "--lr-finder begins no run: leave out --overwrite"),
        (["--lr-finder", "--seeds", "1,2"], "leave out --seeds"),
        (["--lr-finder", "--overfit", "8"], "--lr-finder and --overfit exclude each other"),
        (["--lr-finder", "--check"], "--lr-finder and --check exclude each other"),
        (["--overfit", "8", "--push-to-hub", "a/b"], "leave out --push-to-hub"),
        (["--overfit", "8", "--profile", "5"], "leave out --profile"),
    ],
)
def test_what_cannot_be_is_refused(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", *words]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--lr-finder"], ["--overfit", "4"]])
def test_several_processes_are_refused(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2",
                        "MASTER_ADDR": "localhost", "MASTER_PORT": "29999"}.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    assert main(["demo", *words]) == 2
    assert "without torchrun" in capsys.readouterr().err


def tones(tmp_path: Path, *words: str, **corpus: int) -> list[str]:
    """The words of a command on a corpus of tones."""
    write_tone_corpus(tmp_path, **corpus)
    return ["manifest", "--corpus.train", str(tmp_path / "train.jsonl"), "--corpus.eval", str(tmp_path / "eval.jsonl"),
            "--model.size", "tiny", "--runs-dir", str(tmp_path / "runs"), "--cache-dir", str(tmp_path / "cache"),
            "--device", "cpu", "--name", "r", *words]  # fmt: skip


def test_more_utterances_than_there_are_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(tones(tmp_path, "--overfit", "9", num_train=8)) == 2
    assert "the training split has 8 utterances" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_the_rate_finder_writes_its_curve_and_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(tones(tmp_path, "--lr-finder", "--batching.batch-size", "4", num_train=8)) == 0
    assert os.listdir(tmp_path / "runs") == ["r-lr-finder.html"]
    err = capsys.readouterr().err
    rate = re.search(r"Suggestion: --optim\.lr ([0-9.e-]+)\.", err)
    assert rate is not None
    assert 1e-4 < float(rate[1]) < 3e-2  # the usual one is 2e-3


@pytest.mark.slow
def test_two_utterances_are_learnt_by_heart_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(tones(tmp_path, "--overfit", "2", "--train.max-steps", "300", num_train=8)) == 0
    assert "Verdict: learnt. The WER of 2 utterances is 0" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_what_cannot_be_learnt_has_a_verdict_that_names_the_cause(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Random convolutions that stay as they are."""
    words = ["--overfit", "2", "--train.max-steps", "20", "--model.freeze-feature-encoder"]
    assert main(tones(tmp_path, *words, num_train=8)) == 1
    err = capsys.readouterr().err
    assert "Verdict: not learnt" in err
    assert "frozen parts (certain)" in err
    assert "is written as" in err


@pytest.mark.slow
@pytest.mark.parametrize(("shift", "names"), [(0, []), (1, ["transcripts beside their audio"])])
def test_a_run_on_transcripts_that_are_one_row_off_says_so(
    shift: int, names: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two steps are enough, and sound transcripts are not suspected."""
    words = ["--train.max-steps", "2", "--no-report", "--corpus.on-bad", "drop"]
    assert main(tones(tmp_path, *words, num_train=60, shift=shift)) == 0
    results = json.loads((tmp_path / "runs" / "r" / "results.json").read_text())
    found = [f for f in results["findings"] if f["name"] != "too few steps"]
    assert [f["name"] for f in found] == names
    err = capsys.readouterr().err
    assert ("1 row further on" in err) == bool(shift)
    assert err.count("transcripts beside their audio (certain)") == 2 * bool(shift)  # before it begins, and at the end


@pytest.mark.slow
def test_a_run_that_learns_twelve_utterances_by_heart_says_so_while_it_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--train.epochs", "75", "--train.eval-every", "15", "--batching.batch-size", "8", "--no-report"]
    assert main(tones(tmp_path, *words, "--corpus.on-bad", "drop", num_train=12, num_eval=12)) == 0
    before = capsys.readouterr().err.partition("word confidences")[0]
    assert re.search(r"overfitting \(likely\): Since step \d+ .*The WER (rose|did not fall): \d+\.\d % then", before)
