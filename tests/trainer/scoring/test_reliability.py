"""Calibration error, ranking and the record of results.json (trainer.scoring.reliability) against counts by hand.

pytest tests/trainer/scoring/test_reliability.py
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.utterance import Splits
from trainer.rundir.calibration import calibration_of
from trainer.rundir.results import read_hypotheses, split_record, write_hypotheses
from trainer.scoring.confidence import Calibration, WordEvidence
from trainer.scoring.metrics import count_character_errors, count_word_errors
from trainer.scoring.reliability import (
    calibration_error,
    chance_error,
    learn_calibration,
    ranking,
    reliability,
    reliability_bins,
    right_words,
    with_confidences,
)
from trainer.scoring.scores import Hypothesis, Scores


def heard(reference: str, hypothesis: str, number: int = 0, **known: Any) -> Hypothesis:
    words, characters = count_word_errors(reference, hypothesis), count_character_errors(reference, hypothesis)
    return Hypothesis(f"u{number}", reference, hypothesis, words, characters, 0.5, **known)


def error_by_hand(confidences: list[float], right: list[bool]) -> float:
    """The definition (Guo et al. 2017), word by word: bins of a tenth."""
    total = 0.0
    for k in range(10):
        inside = [i for i, c in enumerate(confidences) if k <= 10 * c < k + 1 or (k == 9 and c == 1)]
        if inside:
            mean = sum(confidences[i] for i in inside) / len(inside)
            share = sum(right[i] for i in inside) / len(inside)
            total += len(inside) / len(confidences) * abs(mean - share)
    return total


def test_calibration_error_is_the_definitions() -> None:
    """Reference: a loop over words; and one case small enough to add up in the head."""
    rng = np.random.default_rng(0)
    for n in (1, 2, 30, 500):
        confidences = np.append(rng.random(n), [0.0, 1.0, 0.5])
        right = rng.random(n + 3) < 0.7
        found = calibration_error(reliability_bins(confidences, right.astype(float)))
        assert found == pytest.approx(error_by_hand(confidences.tolist(), right.tolist()), abs=1e-12)
    bins = reliability_bins(np.array([0.95, 0.97, 0.15, 0.25]), np.array([1.0, 0.0, 0.0, 1.0]))
    # |1.92 - 1| and |0.15 - 0| and |0.25 - 1|, over four words
    assert calibration_error(bins) == pytest.approx((0.92 + 0.15 + 0.75) / 4)


def test_exact_probabilities_have_the_error_of_chance() -> None:
    """Reference: words drawn with exactly these probabilities, other draws than those of the function."""
    rng = np.random.default_rng(5)
    confidences = rng.beta(5, 1, 400)
    drawn = [calibration_error(reliability_bins(confidences, (rng.random(400) < confidences).astype(float)))
             for _ in range(300)]  # fmt: skip
    assert chance_error(confidences) == pytest.approx(np.mean([d or 0 for d in drawn]), rel=0.05)


def test_ranking_counts_pairs() -> None:
    """Reference: every pair of a right and a wrong word; ties count half."""
    rng = np.random.default_rng(1)
    confidences, right = rng.integers(0, 6, 40) / 5, rng.random(40) < 0.6
    pairs = [(a > b) + (a == b) / 2 for a, b in itertools.product(confidences[right], confidences[~right])]
    assert ranking(confidences, right) == pytest.approx(sum(pairs) / len(pairs))


def test_right_words_are_jiwers_hits_in_the_order_of_the_transcript() -> None:
    assert right_words(heard("so it goes on", "so is goes on on")).tolist().count(False) == 2
    assert right_words(heard("so it goes", "so goes")).tolist() == [True, True]
    assert right_words(heard("", "a b")).tolist() == [False, False]
    assert right_words(heard("a b", "")).tolist() == []


def evidence(*posteriors: float) -> WordEvidence:
    """Words of one unit each."""
    units = np.stack([np.log(posteriors), np.zeros(len(posteriors)), np.zeros(len(posteriors))], 1)
    return WordEvidence(units.astype(np.float32), np.ones(len(posteriors), np.int32))


def scores(*hypotheses: Hypothesis, split: str = "dev") -> Scores:
    return Scores(split, hypotheses, 1.0, 10.0, {})


def test_record_is_of_words_and_of_utterances() -> None:
    """Reference: by hand; utterance b has an error, and what has no confidence is counted apart."""
    record = reliability([
        heard("a b", "a b", 0, confidences=(0.9, 0.8)), heard("a b", "a c", 1, confidences=(0.7, 0.2)),
        heard("a", "", 2, confidences=()), heard("a b", "a b", 3),
    ])  # fmt: skip
    assert record is not None
    assert (record["num_words"], record["num_wrong"], record["num_without"]) == (4, 1, 2)
    assert record["auc"] == record["utterance_auc"] == 1.0
    # means 0.85 and 0.45 against shares 1 and 0.5
    assert record["utterance_ece"] == pytest.approx((0.15 + 0.05) / 2)
    assert record["nll"] == pytest.approx(-np.log([0.9, 0.8, 0.7, 0.8]).mean())
    assert sum(b["number"] for b in record["bins"]) == 4


@pytest.mark.parametrize(
    ("hypotheses", "expected"),
    [
        ([heard("a", "")], None),
        ([heard("a", "", confidences=())], {"ece": None, "ece_by_chance": None, "nll": None, "auc": None, "bins": []}),
        ([heard("a", "a", confidences=(0.9,))], {"auc": None, "ece": pytest.approx(0.1), "num_wrong": 0}),
        ([heard("a", "b", confidences=(0.9,))], {"auc": None, "ece": pytest.approx(0.9), "num_wrong": 1}),
    ],
    ids=["no confidences", "no words", "one right", "one wrong"],
)  # fmt: skip
def test_record_of_few_or_equal_words(hypotheses: list[Hypothesis], expected: dict[str, Any] | None) -> None:
    found = reliability(hypotheses)
    if expected is None:
        assert found is None
    else:
        assert found is not None
        assert {key: found[key] for key in expected} == expected


def many(split: str, num_right: int = 90, num_wrong: int = 20) -> Scores:
    """Utterances of a word, the wrong ones less sure, though not always."""
    rng = np.random.default_rng(7)
    rights = [heard("a", "a", i, evidence=evidence(*rng.beta(9, 1, 1))) for i in range(num_right)]
    wrongs = [heard("a", "b", i, evidence=evidence(*rng.beta(3, 2, 1))) for i in range(num_wrong)]
    return scores(*rights, *wrongs, split=split)


DEV_AND_TEST = Splits("train", monitor="dev", headline="test", closing=("test", "dev"))
TEST_ALONE = Splits("train", monitor="test", headline="test", closing=("test",))


def test_calibration_is_learnt_from_the_development_split_alone() -> None:
    """However bad the test split would make it."""
    dev = many("dev")
    of_both, why = calibration_of([many("test", 10, 100), dev], DEV_AND_TEST, 11)
    assert why == ""
    assert of_both == learn_calibration(dev, 11)
    assert of_both is not None
    assert of_both.split == "dev"


def test_no_calibration_says_why() -> None:
    assert calibration_of([many("test")], TEST_ALONE, 11) == (
        None, "test, the only evaluation split, is the one that is reported"
    )  # fmt: skip
    assert calibration_of([many("test")], DEV_AND_TEST, 11) == (None, "dev was not scored")
    none, why = calibration_of([many("dev", num_wrong=3)], DEV_AND_TEST, 11)
    assert (none, why) == (None, "dev has 90 right and 3 wrong words, and 10 of each are needed")
    none, why = calibration_of([scores(heard("a b", "a b"))], DEV_AND_TEST, 11)
    assert none is None
    assert "are not those that its units make up" in why


def test_calibrated_confidences_fit_better_than_raw_ones() -> None:
    dev = many("dev", 200, 40)
    calibration = learn_calibration(dev, 11)
    assert isinstance(calibration, Calibration)
    before, after = (reliability(with_confidences([dev], c, 11)[0].hypotheses) for c in (None, calibration))
    assert before is not None
    assert after is not None
    assert after["nll"] < before["nll"]
    assert after["ece"] < before["ece"]


def test_an_utterance_of_two_splits_stays_one_and_is_written_once(tmp_path: Path) -> None:
    whole = many("whole")
    part = replace(whole, split="part", hypotheses=whole.hypotheses[:7])
    judged = with_confidences([whole, part], None, 11)
    assert [a is b for a, b in zip(judged[0].hypotheses, judged[1].hypotheses, strict=False)] == [True] * 7
    write_hypotheses(tmp_path / "h.jsonl", judged)
    assert len((tmp_path / "h.jsonl").read_text().splitlines()) == len(whole.hypotheses)
    assert len(read_hypotheses(tmp_path / "h.jsonl")["part"]) == 7


def test_results_and_hypotheses_keep_confidences(tmp_path: Path) -> None:
    """What is read back makes the same record, so that parts of a corpus can be put together."""
    (judged,) = with_confidences([many("dev")], Calibration("posterior-min", 1.5, "dev", 1, 1), 11)
    judged = replace(judged, hypotheses=(*judged.hypotheses, heard("a", "a", 999)))
    write_hypotheses(tmp_path / "h.jsonl", [judged])
    again = read_hypotheses(tmp_path / "h.jsonl")["dev"]
    assert again[-1].confidences is None
    record, back = split_record(judged, "given")["confidence"], reliability(again)
    assert back is not None
    assert back["num_words"] == record["num_words"]
    for key in ("ece", "nll", "auc", "utterance_ece"):
        assert back[key] == pytest.approx(record[key], abs=1e-5)
    assert "confidence" not in split_record(many("dev"), "given")
