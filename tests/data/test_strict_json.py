"""data.strict_json: what is written, every JSON reader reads."""

from __future__ import annotations

import json
import math

import pytest

from data import strict_json


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


@pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan])
def test_what_is_no_number_is_null_at_any_depth(number: float) -> None:
    """Read by Python's own reader, told to refuse the constants that the standard does not have."""
    text = strict_json.dumps({"wer": number, "best": {"wer": number}, "losses": [1.5, (number, "x")], "step": 3})
    assert json.loads(text, parse_constant=refuse) == {
        "wer": None, "best": {"wer": None}, "losses": [1.5, [None, "x"]], "step": 3,
    }  # fmt: skip
