"""A sequence whose items are made when they are asked for (data.lazy) answers as a list does."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pytest

from data.chain import Chain
from data.lazy import Lazy
from data.text.normalised import ArrowTexts


class Letters(Lazy[str]):
    def __len__(self) -> int:
        return 7

    def at(self, i: int) -> str:
        return "abcdefg"[i]


@pytest.mark.parametrize(
    "found",
    [
        Letters(),
        Chain([Letters()[:3], [], ["d", "e"], "fg"]),
        ArrowTexts(pa.chunked_array([["a", "b", "c"], [], ["d", "e", "f", "g"]])),
    ],
    ids=lambda found: type(found).__name__,
)
def test_it_is_indexed_sliced_and_walked_through_like_a_list(found: Sequence[str]) -> None:
    expected = list("abcdefg")
    assert list(found) == expected
    assert list(reversed(found)) == expected[::-1]
    assert [found[i] for i in range(-7, 7)] == [expected[i] for i in range(-7, 7)]
    ends = [None, -9, -2, 0, 3, 7, 9]
    for cut in [slice(a, b, c) for a in ends for b in ends for c in (None, 1, 2, -1, -3)]:
        assert list(found[cut]) == expected[cut], cut
    for beyond in (7, -8):
        with pytest.raises(IndexError):
            found[beyond]
