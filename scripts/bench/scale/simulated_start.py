"""What scripts.bench.scale.simulate measures: how a run starts, seen from rank 0, without a model or other ranks.

    python -m scripts.bench.scale.simulated_start '{"lengths": "lengths.npy", "ranks": 8, "started": 1764196000.0, ...}'

Prints what it found as one line of JSON. Linux only, since the kernel says how much memory the process had.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from transformers import AutoConfig

import trainer.session  # noqa: F401  so that this process imports what a run does
from data.batches.arrays import Batches
from data.batches.collate import BatchDataset, Frontend
from data.batches.dealing import Cost, costs_of_step, deal_step, waiting_share
from data.batches.grid import Grid
from data.batches.padding import padding_share
from data.batches.plan import BatchPlan
from data.batches.specaugment import SpecAugment
from data.config import BatchingConfig
from data.examples.prepare import Example
from data.utterance import Utterance
from models.families import SIZES
from models.flops import attention_samples
from models.geometry import FrameGeometry


class Ids(Sequence[str]):
    """The ids of a corpus, made when they are asked for, as a table on the disk gives them."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, i: Any) -> Any:
        return f"recording-{i:08d}"

    def __iter__(self) -> Iterator[str]:
        return map(self.__getitem__, range(self.number))


class Noise(Sequence[Example]):
    """The examples of a corpus, made when they are asked for; their audio is noise."""

    def __init__(self, lengths: np.ndarray, ids: Ids) -> None:
        self.lengths, self.ids = lengths, ids

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, i: Any) -> Any:
        length = int(self.lengths[i])

        def load() -> np.ndarray:
            return np.random.default_rng(i).standard_normal(length, dtype=np.float32)

        utterance = Utterance(self.ids[i], audio=None, text="")  # type: ignore[arg-type]
        return Example(utterance, "", tuple(range(1, 16)), length, load)


def find(spec: dict[str, Any]) -> dict[str, Any]:
    """Start as a run does, and measure: all but the first batch in seconds of a core."""
    found: dict[str, Any] = {"ranks": spec["ranks"], "imports": time.process_time()}
    lengths = np.load(spec["lengths"], mmap_mode="r")
    config = AutoConfig.for_model("unispeech", **SIZES[spec["size"]])
    geometry = FrameGeometry.of_config(config)
    ids, plan = Ids(len(lengths)), plan_of(spec, lengths, geometry)
    cost = Cost(attention_samples(config), plan.grid)

    begin = time.process_time()
    found |= {"utterances": len(lengths), "steps": plan.num_steps(0)}
    planned = time.process_time()
    found["total_steps"] = plan.total_steps()
    counted = time.process_time()
    dataset = BatchDataset(Noise(lengths, ids), frontend_of(config, geometry, plan.grid), plan)
    make_first_share(dataset, 0, 0, spec["ranks"], cost)
    made = time.process_time()
    cpu = time.process_time()
    found |= {"first_batch": time.time() - spec["started"], "plan": planned - begin, "counting": counted - planned,
              "making": made - counted, "cpu": cpu, "memory": peak_memory_mb()}  # fmt: skip

    begin = time.process_time()
    resumed = plan_of(spec, lengths, geometry)
    dataset.plan = resumed
    middle = found["steps"] // 2 * spec["grad_accum_steps"]
    make_first_share(dataset, spec["epochs"] - 1, middle, spec["ranks"], cost)
    found["going_on"] = time.process_time() - begin
    return found | balance(plan, spec["ranks"], spec["steps"], cost)


def plan_of(spec: dict[str, Any], lengths: np.ndarray, geometry: FrameGeometry) -> BatchPlan:
    """The plan of a run in which each rank has as much as `spec` says."""
    size, budget, frames = spec["batch_size"], spec["batch_seconds"], spec["frame_grid"]
    ranks = spec["ranks"]
    batching = BatchingConfig(
        batch_size=None if size is None else size * ranks, max_batch_seconds=None if budget is None else budget * ranks
    )
    grid = None if frames == 1 else Grid(frames, 1, geometry.num_frames, geometry.num_samples)
    return BatchPlan(
        lengths, Ids(len(lengths)), batching, seed=0, epochs=spec["epochs"],
        grad_accum_steps=spec["grad_accum_steps"], speeds=tuple(spec["speeds"]), grid=grid,
    )  # fmt: skip


def frontend_of(config: Any, geometry: FrameGeometry, grid: Grid | None) -> Frontend:
    """What collating does in a usual run: normalised waveforms and SpecAugment's masks."""
    spec = SpecAugment(config.hidden_size, 0.05, 10, 2, 0.0, 10, 0)
    return Frontend(geometry.num_frames, True, spec, grid=grid)


def make_first_share(dataset: BatchDataset, epoch: int, batches_done: int, ranks: int, cost: Cost) -> None:
    """Deal the next step and make the tensors of rank 0's share of its first batch."""
    assert dataset.plan is not None
    epoch, step, _ = next(dataset.plan.remaining(epoch, batches_done))
    (share, *_), *_ = deal_step(step, dataset.plan.epoch_lengths(epoch), ranks, cost)
    dataset[epoch, share]


def balance(plan: BatchPlan, ranks: int, num_steps: int, cost: Cost) -> dict[str, float]:
    """What ranks lose by padding and waiting in `num_steps` steps of the first epoch, dealt by length and in turn."""
    lengths, of_epoch = plan.epoch_lengths(0), plan.num_steps(0)
    times, costs, in_turn, useful = [], [], [], 0
    shares: list[list[int]] = []
    shares_in_turn: list[list[int]] = []
    unpadded = Cost(cost.attention_samples)
    numbers = sorted({k * of_epoch // num_steps for k in range(num_steps)})
    for number in numbers:
        step = plan.step(0, number)
        begin = time.process_time()
        dealt = deal_step(step, lengths, ranks, cost)
        times.append(time.process_time() - begin)
        costs.append(costs_of_step(dealt, lengths, cost))
        careless = [[batch[rank::ranks] for batch in step] for rank in range(ranks)]
        in_turn.append(costs_of_step(careless, lengths, cost))
        useful += sum(unpadded.row(int(lengths[i])) for batch in step for i in batch)
        shares += [share for of_rank in dealt for share in of_rank if share]
        shares_in_turn += [share for of_rank in careless for share in of_rank if share]
    return {
        "steps_looked_at": len(numbers),
        "a_step": sum(map(len, shares)) / len(numbers),
        "dealing": 1000 * statistics.median(times),
        "padding": padding_share(Batches.of(shares), lengths, plan.grid),
        "padding_in_turn": padding_share(Batches.of(shares_in_turn), lengths, plan.grid),
        "waiting": waiting_share(costs),
        "waiting_in_turn": waiting_share(in_turn),
        "lost": 1 - useful / ranks / sum(map(max, costs)),
        "lost_in_turn": 1 - useful / ranks / sum(map(max, in_turn)),
    }


def peak_memory_mb() -> float:
    """The most memory that the process had at once, files mapped into it included."""
    with open("/proc/self/status") as status:  # ru_maxrss keeps the parent's across exec
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) * 1024 / 1e6


if __name__ == "__main__":
    print(json.dumps(find(json.loads(sys.argv[1]))))
