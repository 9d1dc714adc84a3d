"""pytest tests/trainer/doctor/test_dynamics.py"""

from __future__ import annotations

import numpy as np
import pytest

from trainer.doctor.dynamics import NEIGHBOURS, _neighbours, learning, losses_of
from trainer.doctor.evidence import standing_out, strength, together
from trainer.rundir.dynamics.files import SCORE, VISIT, Dynamics


def fall(n: int, passes: int = 10) -> np.ndarray:
    """(K, N) losses of a corpus that is learnt: short utterances cost more, and everything is noisy."""
    noise = np.random.default_rng(0).gamma(4, 0.25, (passes, n))
    return (3.0 * np.exp(-np.arange(passes) / 2)[:, None] * noise).astype(np.float32)


def test_what_costs_much_in_every_pass_and_what_is_learnt_last_stand_out_most() -> None:
    losses = fall(400)
    losses[:, 7] = 3.0  # a wrong transcript: never learnt
    losses[:, 11] = np.linspace(3.2, 0.1, 10)  # learnt by heart in the end
    found = learning(losses, np.full(400, 30))
    assert np.argsort(-found.excess)[:2].tolist() == [7, 11]
    assert (found.learnt[7], found.learnt[11]) == (0, 9)  # 0.25 * 2.7 nats are reached in the ninth pass: 0.44
    assert found.high[7] >= found.visits[7] - 1
    assert np.mean(found.high / found.visits) == pytest.approx(0.05, abs=0.01), "one in twenty is among the dearest"
    assert found.learnt_by_half < 5
    out = standing_out(found.excess, 0.5)
    assert out[7] > 6
    assert out[11] > 3 > np.delete(out, [7, 11]).max()


def test_a_loss_is_compared_with_those_of_utterances_of_its_length() -> None:
    lengths = np.tile([5, 50], 300)
    losses = fall(600)
    losses[:, lengths == 5] *= 4  # short ones are dear
    losses[:, 599] *= 4  # this one is long, and costs as much as the short ones do
    found = learning(losses, lengths)
    assert np.argmax(found.excess) == 599
    assert np.median(found.excess[lengths == 5]) == pytest.approx(0, abs=0.15)


def test_passes_before_anything_is_learnt_do_not_count() -> None:
    losses = fall(300)
    losses[:, 7] = 3.0
    flat = np.full((5, 300), 3.0, np.float32)
    flat[:, 299] = 300.0  # it looks dear only as long as nothing is learnt
    found = learning(np.concatenate([flat, losses]), np.full(300, 9))
    assert found.visits.max() <= 10
    assert np.argmax(found.excess) == 7
    assert found.excess[299] < 1


def test_infinite_losses_count_as_the_highest_and_unvisited_utterances_are_told() -> None:
    losses = fall(250)
    losses[:, 3] = np.inf
    losses[:, 4] = np.nan
    found = learning(losses, np.full(250, 9))
    assert np.isnan(found.excess[4])
    assert found.visits[4] == 0
    assert found.learnt[4] == 0
    assert found.learnt[3] == 0
    assert found.excess[3] == np.nanmax(found.excess)


def test_neighbourhoods_are_the_values_around_each() -> None:
    values = np.random.default_rng(1).random(1000)
    found = _neighbours(values, 0.5)
    for i in (0, 30, 499, 999):  # brute force: the block of a quarter, with the neighbours around it
        begin = i // (NEIGHBOURS // 4) * (NEIGHBOURS // 4)
        first = int(np.clip(begin + NEIGHBOURS // 8 - NEIGHBOURS // 2, 0, 1000 - NEIGHBOURS))
        assert found[i] == np.median(values[first : first + NEIGHBOURS])
        assert first <= i < first + NEIGHBOURS
    assert (_neighbours(values[:10], 0.5) == np.median(values[:10])).all()


def test_losses_are_found_by_id_and_a_pass_that_has_only_begun_is_left_out() -> None:
    visits = np.array([(0, 1, 0, 3.0), (0, 2, 1, 2.0), (0, 3, 2, 4.0), (1, 4, 2, 1.5)], VISIT)
    scores = np.array([(100, 0, 0.5, 1, 1), (200, 0, 0.25, 0, 0)], SCORE)
    kept = Dynamics(visits, ["a", "b", "caf\\xe9\\udcff"], scores, ["t"])
    losses, unknown = losses_of(kept, ["caf\\xe9\udcff", "new", "a"])
    assert np.array_equal(losses, [[4.0, np.nan, 3.0]], equal_nan=True)
    assert unknown == 1
    assert losses_of(kept, ["t"], training=False)[0].ravel().tolist() == [0.5, 0.25]


def test_evidence_has_one_unit_for_every_figure() -> None:
    tail = np.random.default_rng(2).exponential(1.0, 100_000)
    out = standing_out(tail, 0.0)
    assert (out > 2).mean() == pytest.approx(0.0186, abs=0.003)  # e^-(ln 2 + 2 ln 5) = 1/50
    assert np.allclose(standing_out(7 * tail + 3, 0.0), out)
    assert standing_out(np.zeros(50), 0.1).max() == 0
    assert np.isnan(standing_out(np.array([np.nan]), 0.1)).all()
    assert standing_out(np.array([0.0, 0.0, 1.0, np.inf]), 0.1).tolist()[2:] == [pytest.approx(1.25)] * 2
    assert strength(float("nan")) == 0.0  # its other figures stand in its docstring
    assert together([0.5, 0.5]) == 0.75
    assert together([]) == 0.0


def test_a_run_that_has_not_visited_anything_tells_nothing() -> None:
    empty = Dynamics(np.empty(0, VISIT), [], np.empty(0, SCORE), [])
    losses, unknown = losses_of(empty, ["a"])
    assert losses.shape == (0, 1)
    assert unknown == 1
