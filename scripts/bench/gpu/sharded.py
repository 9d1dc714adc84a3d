"""Time training steps of timit-hf with the model spread by FSDP over one rank (NCCL; gloo on a CPU), and without FSDP.

With one rank nothing is shared out: what is seen is what gathering, hooks and DTensors cost, in time and in memory. The
batches are those of the part `step`.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from data.corpora.synthetic.tree import ensure_tree
from scripts.bench.gpu.record import Record, parse_part, timit_hf_options
from scripts.bench.gpu.step import Variant, failed, forget, read_config
from trainer.cli.console import Console
from trainer.cli.parse import report_errors
from trainer.device import choose_device
from trainer.parallel.joining import joined
from trainer.parallel.launch import Launch
from trainer.parallel.world import ALONE, World
from trainer.prepare.build import read_inputs

VARIANTS = {
    "plain": "",
    "plain, no graphs": "--model.no-cuda-graphs",
    "fsdp": "--parallel fsdp",
    "plain, no graphs, activation checkpointing": "--model.no-cuda-graphs --model.activation-checkpointing",
    "fsdp, activation checkpointing": "--parallel fsdp --model.activation-checkpointing",
    "fsdp, 2 microbatches": "--parallel fsdp --train.grad-accum-steps 2",
}
"""Name -> options of trainer.run."""


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 all were timed, 1 a variant failed, 2 an option is wrong."""
    return report_errors(lambda: time_variants(parse_part(argv, "sharded", __doc__ or "")))


def time_variants(options: Namespace) -> int:
    """Time each variant; each is recorded when it is timed, and one that fails costs only itself."""
    device = choose_device(options.device)
    numbered = torch.device("cuda", device.index or 0) if device.type == "cuda" else device
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(free_port()))
    with joined(Launch(), lambda local_rank: numbered, always=True) as world:
        return _time_variants(options, device, world)


def _time_variants(options: Namespace, device: torch.device, world: World) -> int:
    record, begin, console = Record(options.out), time.perf_counter(), Console()
    command = timit_hf_options(options, ensure_tree(options.corpus, 0, options.cache_dir))
    command += ["--cache-dir", str(options.cache_dir), "--train.epochs", "1000"]
    config, encoder, data = read_inputs(read_config(command), console)
    variants: dict[str, Any] = {}
    headline: dict[str, Any] = {"backend": world.backend}
    record.add(preparation_seconds=round(time.perf_counter() - begin, 2), headline=headline)
    for name, changes in VARIANTS.items():
        try:
            changed = read_config([*command, *changes.split()])
            with_corpus = replace(changed, model=replace(changed.model, revision=config.model.revision))
            of_variant = world if changed.parallel == "fsdp" else ALONE
            variants[name] = Variant(with_corpus, encoder, data, device, console, of_variant).time(options.steps, False)
            headline[name] = {
                key: variants[name][key] for key in ("step_ms_p50", "step_ms_in_a_row", "audio_rate", "peak_memory_gb")
            } | {"last_loss": variants[name]["losses"][-1]}
        except Exception as error:
            variants[name] = failed(error)
            headline[name] = variants[name]["failed"][:200]
        print(f"{name}: {headline[name]}", flush=True)
        record.add(headline=headline, variants=variants)
        forget(device)
    return int(any("failed" in figures for figures in variants.values()))


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main())
