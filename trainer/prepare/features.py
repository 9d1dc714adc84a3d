"""The frozen feature encoder's output, computed once: a table of frames in one memory-mapped file.

    cache/features/KEY/frames.bin     float32 (1 + all frames, C); row 0 is zeros, for padding

Each utterance is computed alone, so its bits depend neither on the batch nor on the run. KEY is a hash of all that
decides them: the feature encoder's weights and configuration, every encoded byte of audio, normalisation, precision,
the GPU's model and torch's version. SHA-256 shows whether the file is damaged; it is then computed again.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data.audio.decode import normalize
from data.examples import Example
from models.ctc import CTCModel
from models.encoder import weights_digest
from models.feature_table import FeatureTable
from models.frontend import extract_features
from trainer.config.as_json import read_config
from trainer.config.schema import Config
from trainer.device import device_model
from trainer.errors import ConfigError, DamagedError
from trainer.prepare.corpus import PreparedCorpus
from trainer.rundir.disk import verify, write_sealed

FORMAT = "features-1"
LARGEST_BY_DEFAULT = 8e9
"""Bytes. A larger table is made only if the user asks for it."""
ROOM = 1.1
"""This many times the table's bytes must be free on the disk before it is begun."""
DEVICE_SHARE = 0.25
"""Share of the device's free memory that a table may take."""


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


def table_examples(data: PreparedCorpus) -> list[Example]:
    """The utterances of the table: all of the training split, then all of the split that is scored during training."""
    return [*data.train, *data.evaluation[data.corpus.splits.monitor]]


def num_table_bytes(model: CTCModel, examples: Sequence[Example]) -> int:
    """Size in bytes of the table of `examples`."""
    width = model.hf.config.conv_dim[-1]
    return 4 * width * (1 + sum(model.num_frames(e.num_samples) for e in examples))


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
    """Estimated seconds to compute the table of `examples`, from timing the utterance of median length."""
    middle = sorted(examples, key=lambda e: e.num_samples)[len(examples) // 2]
    for _ in range(2):  # the first round is a warm-up
        begin = time.perf_counter()
        _features(model, middle, do_normalize, device, autocast)
        seconds = time.perf_counter() - begin
    return seconds / middle.num_samples * sum(e.num_samples for e in examples)


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
    progress: Callable[[Iterable[Example], int], Iterable[Example]],
) -> FeatureTable:
    """The table of `examples`, computed if it is not on the disk. It lies on `device` if it fits there.

    OSError when the disk is full. Without room for the whole table nothing is computed.
    """
    folder = table_folder(cache_dir, model, examples, do_normalize, precision, device)
    num_bytes = num_table_bytes(model, examples)

    def compute(path: Path) -> None:
        with open(path, "wb") as file:
            file.write(bytes(4 * model.hf.config.conv_dim[-1]))
            for example in progress(examples, len(examples)):
                if model.num_frames(example.num_samples) > 0:
                    file.write(_features(model, example, do_normalize, device, autocast).numpy().tobytes())

    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # wait for another run that computes the same table
        if not _is_sound(folder, log):
            if (free := shutil.disk_usage(folder.parent).free) < ROOM * num_bytes:
                raise OSError(errno.ENOSPC, f"it takes {num_bytes / 1e9:.2f} GB, and {free / 1e9:.2f} GB are free")
            log(
                f"computing the frozen feature encoder's output of {len(examples)} utterances once, into {folder} "
                f"({num_bytes / 1e6:.0f} MB)"
            )
            write_sealed(folder, {"frames.bin": compute})
    # copy-on-write: nobody writes, but torch warns of memory that cannot be written
    mapped = np.memmap(folder / "frames.bin", dtype=np.float32, mode="c").reshape(-1, model.hf.config.conv_dim[-1])
    rows = torch.from_numpy(mapped)
    if fits_device(num_bytes, device):
        rows = rows.to(device)
    frames = (model.num_frames(e.num_samples) for e in examples)
    return FeatureTable(rows, tuple(accumulate(frames, initial=1))[:-1])


def fits_device(num_bytes: int, device: torch.device) -> bool:
    """Whether a table of this size lies on the device. Otherwise it stays in a memory-mapped file on the host."""
    return device.type == "cuda" and num_bytes < DEVICE_SHARE * torch.cuda.mem_get_info(device)[0]


@torch.inference_mode()
def _features(
    model: CTCModel,
    example: Example,
    do_normalize: bool,
    device: torch.device,
    autocast: Callable[[], AbstractContextManager],
) -> Tensor:
    """The features of one utterance, float32 (T, C), on the host."""
    samples = example.load()
    waveform = torch.from_numpy(normalize(samples) if do_normalize else samples)[None].to(device)
    with autocast():
        return extract_features(model.base.feature_extractor, waveform)[0].float().cpu()


def _key(model: CTCModel, examples: Sequence[Example], do_normalize: bool, precision: str, device: torch.device) -> str:
    c = model.hf.config
    settings = [FORMAT, c.conv_kernel, c.conv_stride, c.conv_dim, c.feat_extract_activation, do_normalize, precision,
                device_model(device), torch.__version__, weights_digest(model.base.feature_extractor)]  # fmt: skip
    key = hashlib.blake2b(json.dumps(settings).encode(), digest_size=12)
    for example in examples:
        assert example.digest or example.num_samples == 0, "no store"
        key.update(f"{example.digest} {example.num_samples}\n".encode())
    return key.hexdigest()


def _is_sound(folder: Path, log: Callable[[str], None]) -> bool:
    if not folder.exists():
        return False
    try:
        verify(folder)
    except DamagedError as error:
        log(f"{error}; computing it again")
        return False
    return True
