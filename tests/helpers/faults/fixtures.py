"""Fixtures of the fault tests, as a plugin: what they import from is harness."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest

from tests.helpers.faults.harness import Count, Reference, reference


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """The uninterrupted run."""
    return reference(tmp_path_factory.mktemp("faults"))


@pytest.fixture
def count(request: pytest.FixtureRequest) -> Iterator[Count]:
    """What `make test-reliability` adds up at its end."""
    count = Count()
    yield count
    if path := os.environ.get("RELIABILITY_REPORT"):
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"kind": "fault", "test": request.node.originalname, **count.counts}) + "\n")
