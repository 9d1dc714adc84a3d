"""The end of packing: the index of all shards, and the seal that says what the folder holds. The seal comes last."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data.examples.durations import describe_segment, segments_among
from data.machine.filesystems import flush_to_disk
from data.shards.index import INDEX, SEAL, Seal, Sealed, map_table, write_index
from data.shards.shard import WORK, Packing, digest_of_file
from data.utterance import SAMPLE_RATE
from trainer.errors import CorpusError


def write_seal(packing: Packing, inputs: str) -> Seal:
    """Write index and seal from what is known of every shard."""
    folder, shards = packing.folder, list[Sealed]()
    dropped: list[tuple[str, str]] = []
    _refuse_parts(packing)

    def tables() -> Iterable[pa.Table]:
        for number in range(packing.num_shards):
            table = map_table(packing.note(number))
            known = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
            shards.append(Sealed(packing.path(number).name, int(known["bytes"]), known["digest"], len(table)))
            dropped.extend((id, why) for id, why in json.loads(known["dropped"]))
            yield table

    part = folder / f"{INDEX}.part"
    write_index(part, tables())
    index = map_table(part)
    if not len(index):
        raise CorpusError(
            f"{folder}: nothing is left to pack: all {len(dropped)} utterances are bad ({dropped[0][1]})."
        )
    seal = Seal(
        index=Sealed(INDEX, part.stat().st_size, digest_of_file(part), len(index)),
        shards=tuple(shards),
        utterances=len(index),
        samples=pc.sum(index["samples"]).as_py(),
        inputs=inputs,
        dropped=tuple(dropped),
    )
    del index
    _put(part, folder / INDEX)
    part = folder / f"{SEAL}.part"
    part.write_text(seal.as_json(), encoding="utf-8")
    _put(part, folder / SEAL)
    shutil.rmtree(folder / WORK)
    return seal


def _put(part: Path, path: Path) -> None:
    with open(part, "rb") as file:
        os.fsync(file.fileno())
    part.replace(path)
    flush_to_disk(path.parent)


def _refuse_parts(packing: Packing) -> None:
    """CorpusError where a row gives a duration and means a part of its file, as training would refuse it."""
    rows = pa.concat_tables(
        map_table(packing.note(number)).replace_schema_metadata(None).select(["id", "stated", "samples"])
        for number in range(packing.num_shards)
    )
    positions = np.flatnonzero(pc.is_valid(rows["stated"]).to_numpy(zero_copy_only=False))
    said, seconds = rows["stated"].to_numpy()[positions], rows["samples"].to_numpy()[positions] / SAMPLE_RATE
    for i, (of_list, of_audio) in segments_among(positions, said, seconds).items():
        raise CorpusError(f"utterance {rows['id'][i].as_py()}: {describe_segment(of_list, of_audio)}.")
