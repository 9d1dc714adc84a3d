"""--lr-finder and --overfit (trainer.diagnosis.rate_range, overfit): their judgement, and what they refuse.

pytest tests/trainer/diagnosis/test_trials.py
"""

from __future__ import annotations

import doctest
import itertools
import json
import math
import os
import re
from pathlib import Path

import pytest

import trainer.diagnosis.rate_range
from tests.helpers.diagnosis import options
from tests.helpers.tones import write_tone_corpus
from trainer.diagnosis.overfit import some_of, without_noise
from trainer.diagnosis.rate_range import Sweep, chart, describe, has_diverged, page, rates, smoothed
from trainer.errors import ConfigError
from trainer.run import main


def sweep_of(losses: list[float], diverged_at: float | None = None) -> Sweep:
    return Sweep(rates(2e-3, 100)[: len(losses)], losses, smoothed(losses), diverged_at)


def test_rates_rise_by_the_same_factor_around_the_usual_one() -> None:
    found = rates(2e-3)
    factors = [b / a for a, b in itertools.pairwise(found)]
    assert found[0] == pytest.approx(2e-6)
    assert found[-1] == pytest.approx(0.2)
    assert max(factors) == pytest.approx(min(factors)) == pytest.approx(1e5 ** (1 / 99))
    assert doctest.testmod(trainer.diagnosis.rate_range).failed == 0


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
    config = without_noise(options(hidden_dropout=0.1, mask_time_prob=0.3, layerdrop=0.1, mask_time_min_masks=2))
    m = config.model
    names = ("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout", "final_dropout",
             "layerdrop", "mask_time_prob", "mask_time_min_masks", "mask_feature_prob")  # fmt: skip
    assert {getattr(m, name) for name in names} | {config.optim.weight_decay} == {0}
    assert config.augment.speeds == ()


def test_utterances_are_taken_from_all_places() -> None:
    assert some_of(range(100), 4) == [0, 25, 50, 75]  # type: ignore[arg-type]
    assert some_of(range(3), 3) == [0, 1, 2]  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="has 3 utterances"):
        some_of(range(3), 4)  # type: ignore[arg-type]


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
