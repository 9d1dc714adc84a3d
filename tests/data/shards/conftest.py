from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from data.shards.building import build
from data.shards.index import Seal
from data.shards.shard import Packing
from data.utterance import Utterance


@pytest.fixture
def packed(tmp_path: Path) -> Callable[..., Seal]:
    """Packs utterances into tmp_path/shards (or another folder of tmp_path), in this process."""

    def pack(utterances: list[Utterance], name: str = "shards", per_shard: int = 3, processes: int = 1, **kw) -> Seal:
        packing = Packing(utterances, tmp_path / name, per_shard, **kw)
        return build(packing, processes, lambda items, total: items, lambda line: None)

    return pack
