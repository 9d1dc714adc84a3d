"""Measure what several processes gain over one, and how their gradients are best summed.

    python -m scripts.bench.scale.ranks [--processes 2] [--rounds 5] [--size tiny] [--batch-size 32] [--out FILE]

A step is train_step with random weights on noise of TIMIT-like lengths; batches are dealt to the processes as in a run.
Each has one thread. In each round all sides take the same steps, one side after the other:

    one process     the first process alone, on whole batches; the others wait
    one sum         all processes; the gradient is summed by one call when it is whole, as in a run
    no sum          all processes, each for itself: what summing costs is the difference
    overlapped      all processes with torch's DistributedDataParallel, which sums 25 MB at a time while the backward
                    pass goes on

The table has medians over rounds, of the time on the clock and of the CPU time of the busiest process. On a machine
that does other work only the latter tells anything.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.config import ModelConfig
from models.families import SIZES
from trainer.cli.arguments import ArgumentParser, count
from trainer.cli.parse import report_errors
from trainer.errors import TrainingStopped

if TYPE_CHECKING:
    from data.batches.collate import Batch
    from models.ctc import CTCModel
    from trainer.loop.step import TrainingParts
    from trainer.parallel.world import World

SIDES = ("one process", "one sum", "no sum", "overlapped")
NUM_BATCHES = 6


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table."""
    return report_errors(lambda: measure(parse(argv)))


def parse(argv: Sequence[str] | None) -> Namespace:
    """The options of the command line; ConfigError when they are impossible."""
    parser = ArgumentParser(prog="python -m scripts.bench.scale.ranks", description=__doc__ or "")
    parser.add_argument("--processes", type=count, default=2, help="processes of one thread each")
    parser.add_argument("--rounds", type=count, default=5, help="rounds of all sides")
    parser.add_argument("--steps", type=count, default=6, help="steps of each side in a round")
    parser.add_argument("--size", default="tiny", choices=("tiny", "base", "large"), help="of the model")
    parser.add_argument("--batch-size", type=count, default=32, help="utterances of all processes together")
    parser.add_argument("--out", type=Path, default=None, help="where the JSON goes")
    return parser.parse_args(argv)


def measure(options: Namespace) -> int:
    """Start the processes, or be one of them."""
    if "RANK" in os.environ:
        return be_rank(options)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    number = options.processes
    command = [sys.executable, "-m", "scripts.bench.scale.ranks", *sys.argv[1:]]
    common = {"WORLD_SIZE": number, "LOCAL_WORLD_SIZE": number, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
              "OMP_NUM_THREADS": 1}  # fmt: skip
    places: list[dict[str, object]] = [common | {"RANK": rank, "LOCAL_RANK": rank} for rank in range(number)]
    ranks = [subprocess.Popen(command, env=os.environ | {k: str(v) for k, v in p.items()}) for p in places]
    try:
        codes = [rank.wait() for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    if any(codes):
        raise TrainingStopped(f"the processes ended with exit codes {codes}: see above.")
    return 0


def be_rank(options: Namespace) -> int:
    """Take part in all rounds; the first process prints what was found."""
    import torch

    from trainer.parallel.joining import joined
    from trainer.parallel.launch import launched

    torch.set_num_threads(1)
    with joined(launched(), lambda local_rank: torch.device("cpu")) as world:
        sides = make_sides(options, world)
        times: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
        for number in range(options.rounds + 1):  # the first is a warm-up
            for side, take_step in sides.items():
                found = timed(world, take_step, options.steps)
                if number:
                    times[side].append(found)
        if world.is_first:
            tell(options, times)
    return 0


def make_sides(options: Namespace, world: World) -> dict[str, Callable[[int], None] | None]:
    """A function for each side that takes its step of some number; None where this process only waits."""
    import torch

    from data.batches.plan import BatchPlan
    from data.batches.shares import ALL, Shares
    from data.config import BatchingConfig
    from trainer.loop.step import train_step
    from trainer.parallel.world import ALONE

    number = NUM_BATCHES * options.batch_size
    seconds = torch.randn(number, generator=torch.Generator().manual_seed(0)).mul(0.9).add(3.1).clamp(0.5, 30)
    lengths = (seconds * 16000).long().tolist()
    batching = BatchingConfig(batch_size=options.batch_size)
    plan = BatchPlan(lengths, list(map(str, range(number))), batching, seed=0, epochs=1)

    def batches(parts: TrainingParts, shares: Shares) -> list[Batch]:
        found = []
        for batch in plan.batches(0):
            (share,) = shares.of_step(plan, 0, [batch])
            found.append(share.complete(noise(parts.model, [lengths[i] for i in share.positions])))
        return found

    def ours(own_world: World, shares: Shares) -> Callable[[int], None]:
        parts = build_parts(options.size, own_world)
        of_side = batches(parts, shares)

        def step(i: int) -> None:
            train_step(parts, [of_side[i % NUM_BATCHES]], 1.0, lambda: None, i).loss.item()

        return step

    share = Shares(world.rank, world.size)
    return {
        "one process": ours(ALONE, ALL) if world.is_first else None,
        "one sum": ours(world, share),
        "no sum": ours(ALONE, share),
        "overlapped": overlapped(options, batches, share),
    }


def overlapped(options: Namespace, batches: Callable[..., list[Batch]], share: Any) -> Callable[[int], None]:
    """A step with torch's DistributedDataParallel: the same model, loss, clipping and update."""
    import torch
    from torch.nn.parallel import DistributedDataParallel

    from models.ctc import ctc_loss_per_utterance
    from trainer.parallel.world import ALONE

    parts = build_parts(options.size, ALONE)
    model, optimizer = parts.model, parts.optimizer
    ddp, of_side = DistributedDataParallel(model), batches(parts, share)

    def step(i: int) -> None:
        batch = of_side[i % NUM_BATCHES]
        logits = ddp(batch.waveforms, batch.frame_lengths, is_padded=batch.is_padded)
        nats = ctc_loss_per_utterance(
            logits, batch.frame_lengths, batch.targets, batch.target_lengths, blank_id=model.blank_id
        )
        (nats.sum() * share.world_size / batch.num_utterances).backward()  # DDP divides by the processes
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        nats.sum().item()

    return step


def build_parts(size: str, world: World) -> TrainingParts:
    """A model of random weights and what trains it."""
    import torch
    from torch.amp import GradScaler
    from transformers import AutoConfig

    from models.ctc import CTCModel
    from models.encoder import build_random, configure
    from trainer.config.schema import OptimConfig
    from trainer.loop.optim import build_optimizer, build_schedule
    from trainer.loop.step import TrainingParts

    shape = SIZES[size]
    config = AutoConfig.for_model("unispeech", **shape, initializer_range=shape["hidden_size"] ** -0.5)
    config = configure(config, ModelConfig(), vocab_size=32, blank_id=31)
    model = CTCModel(build_random(config, 0), freeze_feature_encoder=False).train()
    optimizer = build_optimizer(model, OptimConfig(lr=1e-5))
    scaler, schedule = GradScaler("cpu", enabled=False), build_schedule(optimizer, 0, 10**6)
    return TrainingParts(model, optimizer, schedule, scaler, torch.device("cpu"), nullcontext, world=world)


def noise(model: CTCModel, lengths: Sequence[int]) -> Batch:
    """A batch of noise of these lengths, with about 12 units a second."""
    import torch

    from data.batches.make import make_batch

    rng = torch.Generator().manual_seed(sum(lengths))
    waveforms = [torch.randn(n, generator=rng) for n in lengths]
    targets = [torch.randint(0, 31, (max(1, n * 12 // 16000),), generator=rng).tolist() for n in lengths]
    return make_batch(waveforms, targets, model.num_frames)


def timed(world: World, take_step: Callable[[int], None] | None, num_steps: int) -> dict[str, float]:
    """Seconds a step on the clock and of the CPU of the busiest process, until all are through."""
    world.agree([0])
    begin, cpu = time.perf_counter(), time.process_time()
    for i in range(num_steps if take_step else 0):
        assert take_step is not None
        take_step(i)
    cpu = time.process_time() - cpu
    busiest = world.agree([round(1e6 * cpu)])[0] / 1e6
    return {"clock": (time.perf_counter() - begin) / num_steps, "cpu": busiest / num_steps}


def tell(options: Namespace, times: dict[str, list[dict[str, float]]]) -> None:
    """Print the table, and write the JSON."""
    medians = {
        side: {k: statistics.median(t[k] for t in of_side) for k in ("clock", "cpu")} for side, of_side in times.items()
    }
    print(f"{options.processes} processes of one thread, {options.size}, batches of {options.batch_size}, "
          f"{options.rounds} rounds of {options.steps} steps")  # fmt: skip
    print("| side | step [ms] | CPU of the busiest [ms] | times one process | by CPU |\n|---|---|---|---|---|")
    for side in SIDES:
        m = medians[side]
        ratios = [
            statistics.median(a[k] / b[k] for a, b in zip(times["one process"], times[side], strict=True))
            for k in ("clock", "cpu")
        ]
        m["speedup"], m["speedup_by_cpu"] = ratios
        print(f"| {side} | {1000 * m['clock']:.1f} | {1000 * m['cpu']:.1f} | {ratios[0]:.2f} | {ratios[1]:.2f} |")
    if options.out:
        record = {"options": vars(options) | {"out": str(options.out)}, "medians": medians, "rounds": times}
        options.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
