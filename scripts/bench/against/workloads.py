"""What the sides of scripts.bench.benchmark are timed on."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Workload:
    """The work that every side does."""

    size: str = "tiny"
    batch_size: int = 16
    epochs: int = 2
    max_steps: int | None = None
    lr: float = 2e-3
    freeze: bool = False
    eval_every: int = 0
    save_every: int = 0
    log_every: int = 1
    """More than 1 on a GPU, since every log waits for the device. Step times are then means over this many steps."""
    precision: str = "fp32"
    device: str = "cpu"
    num_workers: int = 0
    only_evaluate: bool = False
    mask_time_prob: float = 0.0


TIMIT_LIKE = Workload(batch_size=32, epochs=20, lr=1e-4, freeze=True, eval_every=100, save_every=400, log_every=10,
                      precision="fp16", device="cuda", num_workers=4, mask_time_prob=0.05)  # fmt: skip
WORKLOADS = {
    "tiny": Workload(),
    "tiny-frozen": Workload(freeze=True, epochs=4),
    # set as the reference run: feature encoder frozen, length groups, an evaluation every 100 steps
    "reference": Workload(freeze=True, epochs=4, eval_every=100, save_every=400, log_every=10),
    "eval": Workload(only_evaluate=True),
    "base": replace(TIMIT_LIKE, size="base"),
    "large": replace(TIMIT_LIKE, size="large"),
}
