"""Pack utterances into shards, by as many processes as there are cores. Killed at any point, it goes on.

`shard` packs one of them, `sealing` writes the index when all are there, and `stream` packs what passes by once.
"""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from data.audio.segments import AudioSegment
from data.machine.filesystems import lock
from data.machine.processes import do_tasks
from data.shards.index import FORMAT, INDEX, SEAL, Seal, read_seal
from data.shards.sealing import write_seal
from data.shards.shard import WORK, Packing, pack_or_keep
from data.utterance import AudioSource, Utterance
from trainer.errors import AudioError, CorpusError


def build(
    packing: Packing,
    num_processes: int,
    progress: Callable[[Iterator[None], int], Iterator[None]],
    say: Callable[[str], None],
) -> Seal:
    """Pack everything, or go on with it; CorpusError where something is in the way, with what to do."""
    folder = packing.folder
    inputs = _digest_of_texts(packing.utterances)
    with disk_errors(folder, "--out"):
        folder.mkdir(parents=True, exist_ok=True)
        with alone(folder):
            if (finished := _finished(packing, inputs)) is not None:
                say(
                    f"{folder}: all {len(finished.shards)} shards are packed already; --verify reads every byte of them"
                )
                return finished
            (folder / WORK).mkdir(exist_ok=True)
            num_kept = _pack_all(packing, num_processes, progress)
            if num_kept:
                say(f"{folder}: {num_kept} of {packing.num_shards} shards were there already, with their digests")
            return write_seal(packing, inputs)


def _finished(packing: Packing, inputs: str) -> Seal | None:
    """The seal of a folder that holds all of this already; CorpusError if it holds something else."""
    seal_path = packing.folder / SEAL
    if not seal_path.exists():
        strange = sorted(path.name for path in packing.folder.iterdir() if not _is_ours(path.name))
        if strange:
            raise CorpusError(f"{packing.folder}: holds {strange[0]}, which is no shard. Give another --out.")
        return None
    seal = read_seal(seal_path.read_text(encoding="utf-8"), str(seal_path))
    if seal.inputs != inputs:
        raise CorpusError(
            f"{packing.folder}: holds the shards of other utterances ({seal.utterances}; these are "
            f"{len(packing.utterances)}), or of other parts or channels of their files. Give another --out, or delete "
            "that folder."
        )
    shutil.rmtree(packing.folder / WORK, ignore_errors=True)
    return seal


def _is_ours(name: str) -> bool:
    return (
        name in (WORK, INDEX, SEAL, ".lock") or name.removesuffix(".part") in (INDEX, SEAL) or name.startswith("shard-")
    )


def _pack_all(packing: Packing, num_processes: int, progress: Callable) -> int:
    """Pack what is not there. Returns how many shards were."""
    num_kept, num_shards = 0, packing.num_shards
    bar = progress(iter([None] * num_shards), num_shards)
    with closing(do_tasks(lambda number: pack_or_keep(packing, number), num_shards, num_processes)) as answers:
        for _, was_there in answers:
            num_kept += was_there
            next(bar, None)
    next(bar, None)
    for extra in packing.folder.glob("shard-*"):  # of a longer corpus that was begun here, or left by a kill
        if extra not in {packing.path(n) for n in range(num_shards)}:
            extra.unlink()
    return num_kept


def _digest_of_texts(utterances: Sequence[Utterance]) -> str:
    digest = texts_hash()
    for u in utterances:
        digest.update(said(u))
    return digest.hexdigest()


def texts_hash() -> hashlib.blake2b:
    """The hash that `said` of every utterance goes into."""
    return hashlib.blake2b(f"shards {FORMAT}".encode(), digest_size=16)


def said(u: Utterance) -> bytes:
    """What tells one corpus from another, of one utterance: not where its file lies, but which part of it is meant."""
    return json.dumps([u.id, u.text, u.speaker, *_part_of(u.audio)]).encode()


def _part_of(audio: AudioSource) -> tuple[float | None, ...]:
    """(First second, last one, channel) of a part of a file; nothing of a whole one."""
    if not isinstance(audio, AudioSegment):
        return ()
    with suppress(AudioError):  # is told when it is packed
        if audio.is_the_file:
            return ()
    return (audio.start, audio.end, audio.channel)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """CorpusError when another process packs into this folder. Where it has no locks, that is not noticed."""
    with open(folder / ".lock", "w") as file:
        try:
            lock(file)
        except BlockingIOError:
            raise CorpusError(f"{folder}: another process packs into it. Wait for it, or give another --out.") from None
        yield


@contextmanager
def disk_errors(folder: Path, option: str) -> Iterator[None]:
    """CorpusError in place of an OSError of the disk. `option` is the one that names another place."""
    try:
        yield
    except OSError as error:
        what = f"{error.filename or folder}: {error.strerror or error}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise CorpusError(
                f"{what}. Free some space: the same command goes on with the shards that are whole."
            ) from None
        raise CorpusError(f"{what}. Give another {option}, or mend that; the same command goes on.") from None
