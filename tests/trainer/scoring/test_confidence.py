"""Word confidences (trainer.scoring.confidence) against entropies by hand, and their temperature against a grid.

pytest tests/trainer/scoring/test_confidence.py
"""

from __future__ import annotations

import math
from contextlib import nullcontext

import numpy as np
import pytest
import torch

from data.audio.decode import normalize
from tests.helpers.models import VOCAB, eval_set, example, make_talkative, small_model
from trainer.scoring.confidence import (
    BOUNDS,
    CANDIDATES,
    FEWEST,
    MEASURES,
    METHODS,
    WordEvidence,
    calibrate,
    fit_temperature,
    frame_evidence,
    negative_log_likelihood,
    raw_confidences,
    tempered,
    too_few,
    uncalibrated,
    written_evidence,
)
from trainer.scoring.evaluate import evaluate
from trainer.scoring.found import Found, Scored, from_json, to_json
from trainer.scoring.metrics import EditCounts

A, B, BAR, BLANK = (VOCAB.ids[t] for t in ("a", "b", "|", "[PAD]"))
SIZE = 5


def by_hand(measure: str, p: list[float]) -> float:
    """The paper's formulas, digit by digit: entropies in nats, normalised by that of a uniform distribution."""
    n, a = len(p), 1 / 3
    if measure == "posterior":
        return max(p)
    entropies = {
        "gibbs": lambda q: -sum(x * math.log(x) for x in q if x > 0),
        "tsallis": lambda q: (sum(x**a for x in q) - 1) / (1 - a),
        "renyi": lambda q: math.log2(sum(x**a for x in q)) / (1 - a) * math.log(2),
    }
    kind, norm = measure.split("-")
    found, most = entropies[kind](p), entropies[kind]([1 / n] * n)
    if norm == "linear":
        return 1 - found / most
    return (math.exp(-found) - math.exp(-most)) / (1 - math.exp(-most))


@pytest.mark.parametrize("measure", MEASURES)
def test_measures_are_the_papers(measure: str) -> None:
    """Reference: the formulas of Laptev and Ginsburg (2023) in plain Python, within what float32 rounds."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        p = rng.dirichlet([0.3] * SIZE).clip(1e-6)
        p /= p.sum()
        evidence = frame_evidence(torch.from_numpy(np.log(p)) + 3.0)[None].numpy()  # logits know no constant
        assert MEASURES[measure](evidence, SIZE)[0] == pytest.approx(by_hand(measure, p.tolist()), abs=2e-5)


@pytest.mark.parametrize("measure", MEASURES)
def test_a_certain_frame_has_1_and_a_uniform_one_0(measure: str) -> None:
    certain = frame_evidence(torch.tensor([0.0, 0, 90, 0, 0]))[None].numpy()
    uniform = frame_evidence(torch.zeros(SIZE))[None].numpy()
    assert MEASURES[measure](certain, SIZE)[0] == pytest.approx(1, abs=1e-6)
    assert MEASURES[measure](uniform, SIZE)[0] == pytest.approx(1 / SIZE if measure == "posterior" else 0, abs=1e-6)


def test_a_unit_that_can_never_be_written_is_no_number_that_spoils_the_others() -> None:
    assert torch.isfinite(frame_evidence(torch.tensor([[1.0, 2.0, -math.inf]]))).all()


def test_a_word_is_its_units_surest_frames_and_no_blank() -> None:
    """Reference: by hand; the blank and the delimiter are the least certain frames of all, and count for nothing."""
    ids = np.array([BLANK, A, A, BLANK, B, BAR, B])
    posteriors = np.array([0.1, 0.6, 0.9, 0.1, 0.4, 0.1, 0.7])
    figures = np.stack([np.log(posteriors), -posteriors, -2 * posteriors], 1).astype(np.float32)
    evidence = written_evidence(ids, figures, VOCAB, num_words=2)
    assert evidence is not None
    assert evidence.lengths.tolist() == [2, 1]
    np.testing.assert_allclose(np.exp(evidence.units[:, 0]), [0.9, 0.4, 0.7], rtol=1e-6)
    np.testing.assert_allclose(evidence.units[:, 1], [-0.6, -0.4, -0.7], rtol=1e-6)  # each figure's own surest frame
    expected = {"mean": [0.65, 0.7], "min": [0.4, 0.7], "product": [0.36, 0.7]}
    for aggregate, values in expected.items():
        np.testing.assert_allclose(raw_confidences(f"posterior-{aggregate}", evidence, 11), values, rtol=1e-6)
    np.testing.assert_allclose(uncalibrated(evidence), [0.6, 0.7], rtol=1e-6)


def test_words_that_are_not_those_scored_are_not_guessed_at() -> None:
    assert written_evidence(np.array([A, BAR, B]), np.zeros((3, 3), np.float32), VOCAB, num_words=1) is None


@pytest.mark.parametrize("method", METHODS)
def test_no_word_has_no_confidence(method: str) -> None:
    assert raw_confidences(method, WordEvidence.join([]), 11).shape == uncalibrated(WordEvidence.join([])).shape == (0,)


def drawn(n: int, temperature: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Raw confidences, and which words are right, drawn with the probabilities that `temperature` makes of them."""
    rng = np.random.default_rng(seed)
    raw = rng.beta(4, 1, n)
    return raw, rng.random(n) < tempered(raw, temperature)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("seed", range(3))
def test_temperature_is_the_best_of_a_fine_grid(temperature: float, seed: int) -> None:
    """Reference: the negative log-likelihood, at 2,000 temperatures 0.3 % apart."""
    raw, right = drawn(300, temperature, seed)
    grid = np.exp(np.linspace(math.log(BOUNDS[0]), math.log(BOUNDS[1]), 2000))
    z = np.log(raw / (1 - raw))
    losses = np.log1p(np.exp(-np.where(right, z, -z) / grid[:, None])).mean(1)
    assert fit_temperature(raw, right) == pytest.approx(grid[int(np.argmin(losses))], rel=3.1e-3)


def test_temperature_is_found_again_from_many_words() -> None:
    raw, right = drawn(200_000, 2.5)
    assert fit_temperature(raw, right) == pytest.approx(2.5, rel=0.03)


def test_temperature_stays_within_bounds_where_likelihood_has_no_highest_point() -> None:
    """All right, or all wrong, under confidences above one half."""
    raw = np.linspace(0.6, 1.0, 50)
    assert fit_temperature(raw, np.ones(50, bool)) == pytest.approx(BOUNDS[0], rel=1e-6)
    assert fit_temperature(raw, np.zeros(50, bool)) == pytest.approx(BOUNDS[1], rel=1e-6)


def test_calibration_takes_the_method_that_fits_best() -> None:
    """Reference: each candidate with its own temperature; one of three figures tells right from wrong."""
    rng = np.random.default_rng(4)
    right = rng.random(400) < 0.8
    units = -rng.random((400, 3)).astype(np.float32)
    units[:, 2] = np.where(right, -0.1, -1.5) + 0.1 * rng.standard_normal(400)
    evidence = WordEvidence(units.clip(max=0), np.ones(400, np.int32))
    found = calibrate(evidence, right, 11, "dev")
    losses = {}
    for method in CANDIDATES:
        raw = raw_confidences(method, evidence, 11)
        losses[method] = negative_log_likelihood(tempered(raw, fit_temperature(raw, right)), right)
    assert losses[found.method] == min(losses.values())
    assert found.method.startswith("renyi")
    assert (found.num_words, found.num_wrong, found.split) == (400, int((~right).sum()), "dev")


@pytest.mark.parametrize(("num_right", "num_wrong"), [(0, 0), (500, 0), (0, 500), (500, FEWEST - 1), (FEWEST - 1, 90)])
def test_few_words_of_one_kind_do_not_calibrate(num_right: int, num_wrong: int) -> None:
    right = np.arange(num_right + num_wrong) < num_right
    assert too_few(right, "dev").startswith(f"dev has {num_right} right and {num_wrong} wrong words")
    assert too_few(np.arange(2 * FEWEST) < FEWEST, "dev") == ""


def test_evaluation_gives_each_utterance_the_evidence_of_its_words_alone() -> None:
    """Reference: the logits of one utterance at a time, and the words that it wrote; batches are padded."""
    model = make_talkative(small_model())
    examples = [example(n, "a", seed=i) for i, n in enumerate([9000, 11_200, 7333, 400, 5600])]
    scores = evaluate(model, eval_set(model, examples, batch_size=8), torch.device("cpu"), nullcontext, confidence=True)
    assert sum(len(h.hypothesis.split()) for h in scores.hypotheses) > 5, "too few words show nothing"
    for one, h in zip(examples, scores.hypotheses, strict=True):
        logits = model.read(torch.from_numpy(normalize(one.load()))[None])[0]
        ids, figures = logits.argmax(-1).numpy(), frame_evidence(logits).numpy()
        expected = written_evidence(ids, figures, VOCAB, len(h.hypothesis.split()))
        assert h.evidence is not None
        assert expected is not None
        assert h.evidence.lengths.tolist() == expected.lengths.tolist()
        np.testing.assert_allclose(h.evidence.units, expected.units, atol=2e-3)  # the large head magnifies rounding
    plain = evaluate(model, eval_set(model, examples, batch_size=8), torch.device("cpu"), nullcontext)
    assert all(h.evidence is None for h in plain.hypotheses), "training's evaluations do not pay for it"


def test_evidence_reaches_other_ranks_bit_for_bit() -> None:
    rng = np.random.default_rng(0)
    evidence = WordEvidence(-rng.random((5, 3)).astype(np.float32), np.array([2, 3], np.int32))
    found = Found({4: Scored("a b", EditCounts(1), EditCounts(2), 0.5, 9, 3, evidence)})
    found.scored[2] = Scored("", EditCounts(), EditCounts(), 1.0, 1, 1)
    again = from_json(to_json(found))
    assert again.scored[2].evidence is None
    back = again.scored[4].evidence
    assert back is not None
    assert back.units.tobytes() == evidence.units.tobytes()
    assert back.lengths.tolist() == [2, 3]
