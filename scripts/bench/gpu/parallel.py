"""What it costs to train as one rank of several: the steps of timit-hf with and without the sum over ranks, in turns.

There is one rank, so nothing travels: the difference is the agreement between hosts and the call that sums, by NCCL on
CUDA and by gloo on a CPU. It should be below 2 % of a step.

    python -m scripts.bench.gpu.parallel --device cuda --size large --corpus full --out parallel.json
"""

from __future__ import annotations

import os
import socket
import statistics
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from unittest import mock

import torch

from data.corpora.synthetic.tree import ensure_tree
from scripts.bench.gpu.record import Record, parse_part, timit_hf_options
from scripts.bench.gpu.step import Steps, Variant, read_config
from scripts.bench.gpu.timing import synchronize
from trainer.cli.console import Console
from trainer.cli.parse import report_errors
from trainer.device import choose_device
from trainer.loop.gradients import Gradients
from trainer.parallel.ballot import Ballot
from trainer.parallel.joining import join
from trainer.parallel.launch import Launch
from trainer.parallel.world import ALONE
from trainer.prepare.build import read_inputs

NUM_ROUNDS = 7


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 done, 2 an option is wrong."""
    return report_errors(lambda: compare(parse_part(argv, "parallel", __doc__ or "")))


def compare(options: Namespace) -> int:
    """Time rounds of steps alone and as a rank, one after the other on the same batches."""
    record, console, device = Record(options.out), Console(), choose_device(options.device)
    device = torch.device("cuda", torch.cuda.current_device()) if device.type == "cuda" else device
    command = timit_hf_options(options, ensure_tree(options.corpus, 0, options.cache_dir))
    command += ["--cache-dir", str(options.cache_dir), "--train.epochs", "1000"]
    config, encoder, data = read_inputs(read_config(command), console)
    variant = Variant(config, encoder, data, device, console)
    parts = variant.parts
    if parts.gradients.buffer is None:  # on a CPU, a process alone has none
        parts.gradients = Gradients(variant.model, in_one_buffer=True, scaled_by_update=False)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(listener.getsockname()[1])}
    with mock.patch.dict(os.environ, address):
        world = join(Launch(), device, always=True)
    steps = Steps(variant.model, parts, variant.loader, console)
    sides = {"alone": ALONE, "as a rank": world}
    found: dict[str, list[float]] = {side: [] for side in sides}
    for number in range(NUM_ROUNDS + 1):  # the first is a warm-up: kernels are chosen, graphs captured
        for side, its_world in sides.items():
            parts.world, parts.ballot = its_world, Ballot(its_world, len(parts.gradients.parameters))
            begin = time.perf_counter()
            for _ in range(max(options.steps, 0 if number else 2 * steps.num_batches)):
                steps.take()
            synchronize(device)
            if number:
                found[side].append(1000 * (time.perf_counter() - begin) / options.steps)
    steps.finish()
    world.leave()
    ratios = [b / a - 1 for a, b in zip(found["alone"], found["as a rank"], strict=True)]
    headline = {
        "backend": world.backend,
        "step_ms_alone": round(statistics.median(found["alone"]), 2),
        "step_ms_as_a_rank": round(statistics.median(found["as a rank"]), 2),
        "cost_percent": round(100 * statistics.median(ratios), 2),
        "buffer_mb": round(parts.gradients.num_bytes / 1e6, 1),
    }
    record.add(headline=headline, rounds_ms={side: [round(t, 3) for t in times] for side, times in found.items()},
               num_graphs=parts.graphs.num_recorded if parts.graphs else 0)  # fmt: skip
    print(headline, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
