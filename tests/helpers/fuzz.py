"""What the fuzz tests share: mutations, how many, and the comparison with an independent parser.

A plugin of tests/conftest.py, so that `compare` can be used by name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from tests.helpers.reference import Unreadable

if TYPE_CHECKING:
    from tests.helpers.refused import Tally

NUM_INPUTS = 10_000


def inputs(number: int) -> settings:
    """So many inputs, the same every time the same modules are imported: Hypothesis tries their constants too."""
    return settings(
        max_examples=number,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )


EVERY_INPUT = inputs(NUM_INPUTS)


@pytest.fixture
def compare(
    tally: Tally, deadline: Callable, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> Iterator[Callable]:
    """compare(read, reference, where): `read` refuses, naming `where`, or gives what `reference` gives.

    `both_ways`: and it refuses nothing that `reference` can read. Prints the figures at the end.
    """

    def compare(read: Callable[[], Any], reference: Callable[[], Any], where: str, *, both_ways: bool = False) -> None:
        tally.tried += 1
        deadline(10)
        error: ValueError | None = None
        try:
            found = read()
        except ValueError as raised:
            if type(raised).__module__.partition(".")[0] not in ("data", "models", "trainer"):
                raise
            error = raised
        if error is not None:
            assert str(error).startswith(where)
            assert not (both_ways and is_readable(reference)), f"refused without a reason: {error}"
            tally.refused += 1
            return
        try:
            expected = reference()
        except Unreadable as reason:
            raise AssertionError(f"accepted, but the reference finds it unreadable: {reason}") from None
        assert found == expected
        tally.accepted += 1

    yield compare
    with capsys.disabled():
        target = request.node.name.split("_")[1]
        print(
            f"\nfuzz {target}: {tally.tried} inputs, {tally.refused} refused, {tally.accepted} accepted and equal to "
            f"the independent parser, {tally.accepted_wrongly} accepted wrongly"
        )


def is_readable(reference: Callable[[], Any]) -> bool:
    try:
        reference()
    except Unreadable:
        return False
    return True


@st.composite
def mutated(draw: st.DrawFn, originals: Sequence[bytes], values: Sequence[bytes], focus: int) -> bytes:
    """One of `originals` after one to three mutations; half of the positions lie in its first `focus` bytes.

    A field edit replaces a token (what stands between blanks, quotes, commas, colons) by one of `values`.
    """
    content = draw(st.sampled_from(originals))
    for _ in range(draw(st.sampled_from([1, 1, 2, 3]))):
        end = draw(st.sampled_from([min(focus, len(content)), len(content)]))
        at = draw(st.integers(0, end))
        match draw(st.sampled_from(["flip", "flip", "field", "field", "cut", "insert", "delete", "copy", "splice"])):
            case "flip" if at < len(content):
                flipped = content[at] ^ (1 << draw(st.integers(0, 7)))
                content = content[:at] + bytes([flipped]) + content[at + 1 :]
            case "field":
                tokens = list(re.finditer(rb'[^\s",:{}\0]+', content[:end])) or [re.match(b"", content)]
                token = tokens[at % len(tokens)]
                content = content[: token.start()] + draw(st.sampled_from(values)) + content[token.end() :]
            case "cut":
                content = content[:at]
            case "insert":
                content = content[:at] + draw(st.binary(min_size=1, max_size=4)) + content[at:]
            case "delete":
                content = content[:at] + content[at + draw(st.integers(1, 8)) :]
            case "copy":
                block = content[at : at + draw(st.integers(1, 120))]
                content = content[: at + len(block)] + block + content[at + len(block) :]
            case "splice":
                content = content[:at] + draw(st.sampled_from(originals))[at:]
    return content
