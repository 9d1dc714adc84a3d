"""Pack utterances that pass by once. Interrupted, it reads the stream again and keeps the shards that are the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from data.shards.building import alone, disk_errors, said, texts_hash
from data.shards.index import Seal
from data.shards.sealing import write_seal
from data.shards.shard import WORK, Packing, pack_or_keep
from data.utterance import Utterance
from trainer.errors import CorpusError


class _StreamPacking(Packing):
    """Utterances that pass by once: only those of one shard are at hand."""

    def __init__(self, folder: Path, per_shard: int, drops_bad: bool) -> None:
        super().__init__([], folder, per_shard, drops_bad, "--corpus.on-bad")
        self.at_hand: list[Utterance] = []
        self.num_written = 0

    @property
    def num_shards(self) -> int:
        return self.num_written

    def of_shard(self, number: int) -> Iterator[Utterance]:
        return iter(self.at_hand)


def build_from_stream(
    utterances: Iterable[Utterance], folder: Path, per_shard: int, drops_bad: bool, progress: Callable[[int], None]
) -> Seal:
    """Pack utterances as they come; memory holds those of one shard. `progress` is told how many came so far.

    What was interrupted reads the stream again from its beginning, and keeps the shards that it finds the same.
    """
    packing, digest, first = _StreamPacking(folder, per_shard, drops_bad), texts_hash(), dict[str, str]()

    def write() -> None:
        pack_or_keep(packing, packing.num_written)
        packing.num_written += 1
        packing.at_hand.clear()

    with disk_errors(folder, "--cache-dir"):
        folder.mkdir(parents=True, exist_ok=True)
        with alone(folder):
            (folder / WORK).mkdir(exist_ok=True)
            for number, u in enumerate(utterances, 1):
                if (before := first.setdefault(u.id, u.origin)) != u.origin:
                    raise CorpusError(
                        f"{u.origin}: id {u.id!r} stands already at {before}. Ids must be unique in a split."
                    )
                digest.update(said(u))
                packing.at_hand.append(u)
                if len(packing.at_hand) == per_shard:
                    write()
                    progress(number)
            if packing.at_hand:
                write()
            if not packing.num_written:
                raise CorpusError(f"{folder}: the stream holds no utterance.")
            for path in folder.glob("shard-*"):
                if path not in {packing.path(n) for n in range(packing.num_written)}:
                    path.unlink()
            return write_seal(packing, digest.hexdigest())
