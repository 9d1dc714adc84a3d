"""The loss curve on file: 20 steps on a CPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts.checks.golden_curve import GOLDEN, NUM_STEPS, RELATIVE_TOLERANCE, loss_curve, worst_difference


@pytest.mark.slow
def test_loss_curve_is_as_on_file(synthetic_cache: Path, tiny_timit: Path) -> None:
    """Against tests/golden_curve.json; rewritten only by `python -m scripts.checks.golden_curve --write`."""
    golden = json.loads(GOLDEN.read_text())
    curve = loss_curve(str(synthetic_cache))
    assert len(curve) == NUM_STEPS
    assert worst_difference(curve, golden) < RELATIVE_TOLERANCE
