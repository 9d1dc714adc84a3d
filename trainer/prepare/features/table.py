"""The frozen feature encoder's output, computed once: a table of frames, in memory and in one file.

    cache/features/KEY/frames.bin     float32 (1 + all frames, C); row 0 is zeros, for padding

The table is computed into the memory of the device that trains, where it fits, and training begins at once; a thread
writes the file meanwhile, for the runs that follow. KEY is a hash of all that decides its bits: the feature encoder's
weights and configuration, every encoded byte of audio in its order, normalisation, precision, the shape of the calls
(trainer.prepare.features.filling), the GPU's model and torch's version. SHA-256 shows whether the file is damaged; the
table is then computed again.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack, closing
from itertools import accumulate
from pathlib import Path

import torch
from torch import Tensor

from data.chain import Chain
from data.examples.example import Example
from data.examples.table import digests_of, lengths_of
from data.machine.filesystems import describe_no_locks, lock, unlock
from models.ctc import CTCModel
from models.encoder import weights_digest
from models.feature_table import FeatureTable
from trainer.config.as_json import read_config
from trainer.config.schema import Config
from trainer.device import HostCopy, device_model, free_memory
from trainer.errors import ConfigError, DamagedError
from trainer.prepare.corpus import PreparedCorpus
from trainer.prepare.features.file import FileRows, ResidentRows, map_rows, read_rows
from trainer.prepare.features.filling import CALLS_AHEAD, NUM_SLOTS, Call, compute_rows, plan_calls
from trainer.rundir.disk import verify

FORMAT = "features-2"
LARGEST_BY_DEFAULT = 8e9
"""Bytes. A larger table is made only if the user asks for it."""
ROOM = 1.1
"""This many times the table's bytes must be free on the disk before it is begun."""
DEVICE_SHARE = 0.25
"""Share of the device's free memory that a table may take; the rest is for training."""


def wants_cache(config: Config, model: CTCModel, num_bytes: int, passes: float) -> bool:
    """Whether to train from a table. ConfigError when the user asks for it and it cannot be exact.

    If the user does not say, a resumed run keeps the choice that the run began with, since the other one rounds
    differently.
    """
    asked, reason = config.model.cache_features, why_not(config, model)
    if asked and reason:
        raise ConfigError(f"--model.cache-features: {reason}. Leave the option out.")
    if asked is not None:
        return asked
    if reason is None and config.resume and (config.run_dir / "config.json").exists():
        return bool(read_config(config.run_dir / "config.json").model.cache_features)
    return reason is None and passes > 1 and num_bytes <= LARGEST_BY_DEFAULT


def why_not(config: Config, model: CTCModel) -> str | None:
    """Why a table is impossible, or would differ from what the feature encoder computes; None if neither."""
    if not model.freeze_feature_encoder:
        return "the feature encoder is trained, so its output changes with every step"
    if not model.is_batch_invariant:
        return "group norm sees the batch's padding, so the output depends on the batch"
    if config.augment.speeds:
        return "--augment.speeds changes the waveform from epoch to epoch"
    if not config.corpus.store:
        return "the table is keyed by the audio store, which --corpus.no-store leaves out"
    return None


def table_examples(data: PreparedCorpus) -> Sequence[Example]:
    """The utterances of the table: all of the training split, then all of the split that is scored during training."""
    return Chain([data.train, data.evaluation[data.corpus.splits.monitor]])


def num_table_bytes(model: CTCModel, examples: Sequence[Example]) -> int:
    """Size in bytes of the table of `examples`."""
    width = model.hf.config.conv_dim[-1]
    return (
        4
        * width
        * (1 + sum(count * model.num_frames(n) for n, count in Counter(lengths_of(examples).tolist()).items()))
    )


def training_share(model: CTCModel, data: PreparedCorpus) -> float:
    """The share of the table's frames that training reads; its evaluations read the others."""
    frames = [sum(model.num_frames(e.num_samples) for e in part)
              for part in (data.train, data.evaluation[data.corpus.splits.monitor])]  # fmt: skip
    return frames[0] / sum(frames)


def plan_table(model: CTCModel, examples: Sequence[Example], device: torch.device) -> list[Call]:
    """The calls in which the table of `examples` is computed on `device`."""
    return plan_calls(lengths_of(examples).tolist(), model.geometry, NUM_SLOTS[device.type])


def zero_table(model: CTCModel, num_frames: int, device: torch.device) -> FeatureTable:
    """A table of zeros, for timing: a step takes as long with it as with a real table."""
    return FeatureTable(torch.zeros(1 + num_frames, model.hf.config.conv_dim[-1], device=device), ())


def table_folder(
    cache_dir: Path, model: CTCModel, examples: Sequence[Example], do_normalize: bool, precision: str,
    device: torch.device,
) -> Path:  # fmt: skip
    """The folder in which the table of `examples` lies, or will lie."""
    return cache_dir / "features" / _key(model, examples, do_normalize, precision, device)


def seconds_to_fill(
    model: CTCModel, examples: Sequence[Example], do_normalize: bool, device: torch.device,
    autocast: Callable[[], AbstractContextManager],
) -> float:  # fmt: skip
    """Estimated seconds to compute the table of `examples`, from timing a few of its calls."""
    calls = plan_table(model, examples, device)
    some = calls[len(calls) // 2 :][: max(CALLS_AHEAD, torch.get_num_threads() if device.type == "cpu" else 0)]
    if not some:
        return 0.0
    for _ in range(2):  # the first round is a warm-up
        begin = time.perf_counter()
        for rows in compute_rows(model, examples, some, do_normalize=do_normalize, device=device, autocast=autocast):
            kept = rows
        HostCopy(kept).wait()
        seconds = time.perf_counter() - begin
    return seconds / len(some) * len(calls)


def open_table(
    model: CTCModel,
    examples: Sequence[Example],
    cache_dir: Path,
    *,
    do_normalize: bool,
    precision: str,
    device: torch.device,
    autocast: Callable[[], AbstractContextManager],
    log: Callable[[str], None],
    progress: Callable[[Iterable[Call], int], Iterable[Call]],
    warn: Callable[[str], None] | None = None,
    later: Callable[[Callable[[], None]], None] = lambda work: work(),
) -> FeatureTable:
    """The table of `examples`, computed if it is not on the disk. It lies on `device` if it fits there.

    `progress` wraps an iterator over the calls in which it is computed. `later` is given what is left to do once the
    table can be used: writing or hashing the file, which holds the table's lock until then. If that fails, `warn` (or
    `log`) is told. OSError when the table can lie nowhere but on the disk and the disk is full; nothing is computed
    where that is known beforehand.
    """
    folder = table_folder(cache_dir, model, examples, do_normalize, precision, device)
    num_bytes, width = num_table_bytes(model, examples), model.hf.config.conv_dim[-1]
    frames = (model.num_frames(e.num_samples) for e in examples)
    first_rows = tuple(accumulate(frames, initial=1))[:-1]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        file = stack.enter_context(open(folder.with_suffix(".lock"), "w"))
        # unlocked by name: a worker that is forked meanwhile has the same lock open, as long as it lives
        stack.callback(unlock, file)
        reason = lock(file, waits=True)  # for another run that computes the same table
        if (rows := _read(folder, num_bytes, width, device, log)) is not None:
            return FeatureTable(rows, first_rows)
        if reason:
            (warn or log)(describe_no_locks(cache_dir, reason))
        sink = _choose_sink(folder, num_bytes, width, device)
        stack.callback(sink.discard)
        free = shutil.disk_usage(folder.parent).free
        is_kept = free >= ROOM * num_bytes
        why = f"it takes {num_bytes / 1e9:.2f} GB, and {free / 1e9:.2f} GB are free"
        if not is_kept and isinstance(sink, FileRows):
            raise OSError(errno.ENOSPC, why)
        calls = plan_table(model, examples, device)
        log(
            f"computing the frozen feature encoder's output of {len(examples)} utterances once, into {folder} "
            f"({num_bytes / 1e6:.0f} MB)"
        )
        with closing(
            compute_rows(model, examples, calls, do_normalize=do_normalize, device=device, autocast=autocast)
        ) as computed:
            for call, of_call in zip(progress(calls, len(calls)), computed, strict=True):
                sink.put(call.first_row, of_call)
        sink.finish()
        not_kept = (
            f"{folder}: the feature encoder's output is not kept on the disk (%s); this run trains from it all the "
            "same, and the next one computes it again"
        )
        if not is_kept:
            (warn or log)(not_kept % why)
            return FeatureTable(sink.rows, first_rows)
        held = stack.pop_all()

        def seal() -> None:
            with held:
                try:
                    sink.seal(folder)
                except Exception as error:  # an error in a thread would go unnoticed
                    (warn or log)(not_kept % (getattr(error, "strerror", None) or str(error) or type(error).__name__))

        later(seal)
    return FeatureTable(sink.rows, first_rows)


def fits_device(num_bytes: int, device: torch.device) -> bool:
    """Whether a table of this size lies in the device's memory. Otherwise it stays in a memory-mapped file."""
    return num_bytes < DEVICE_SHARE * free_memory(device)


def _choose_sink(folder: Path, num_bytes: int, width: int, device: torch.device) -> ResidentRows | FileRows:
    if fits_device(num_bytes, device):
        with contextlib.suppress(torch.OutOfMemoryError):  # it then stays on the host
            return ResidentRows(num_bytes // (4 * width), width, device)
    return FileRows(folder, width)


def _read(folder: Path, num_bytes: int, width: int, device: torch.device, log: Callable[[str], None]) -> Tensor | None:
    """The rows of a table that is on the disk; None when there is none, or when it is damaged."""
    if not folder.exists():
        return None
    try:
        if fits_device(num_bytes, device):
            with contextlib.suppress(torch.OutOfMemoryError):  # it then stays on the host
                rows = torch.empty(num_bytes // (4 * width), width, device=device)
                read_rows(folder, rows)
                return rows
        verify(folder)
        return map_rows(folder, width)
    except DamagedError as error:
        log(f"{error}; computing it again")
        return None


def _key(model: CTCModel, examples: Sequence[Example], do_normalize: bool, precision: str, device: torch.device) -> str:
    c = model.hf.config
    settings = [FORMAT, NUM_SLOTS[device.type], c.conv_kernel, c.conv_stride, c.conv_dim, c.feat_extract_activation,
                do_normalize, precision, device_model(device), torch.__version__,
                weights_digest(model.base.feature_extractor)]  # fmt: skip
    key = hashlib.blake2b(json.dumps(settings).encode(), digest_size=12)
    for digest, num_samples in zip(digests_of(examples), lengths_of(examples).tolist(), strict=True):
        assert digest or num_samples == 0, "no store"
        key.update(f"{digest} {num_samples}\n".encode())
    return key.hexdigest()
