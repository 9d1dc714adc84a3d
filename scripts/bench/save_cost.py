"""Measure what a checkpoint every N steps adds to the time of a step, written at once or in the background.

    python -m scripts.bench.save_cost [--size demo] [--every 50] [--steps 200] [--rounds 3]

The model has random weights of the size SIZE, the batches are noise. Three kinds of run alternate in every round: no
saving, saving and waiting for the disk, saving in the background. The medians over the rounds are compared.
"""

from __future__ import annotations

import copy
import functools
import statistics
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from models.families import SIZES
from trainer.cli.arguments import ArgumentParser, count, seconds
from trainer.cli.parse import report_errors
from trainer.errors import ConfigError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from data.batches.collate import Batch
    from models.ctc import CTCModel
    from trainer.loop.step import TrainingParts

KINDS = ("no saving", "waiting", "background")


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table."""
    return report_errors(lambda: compare_kinds(parse(argv)))


def parse(argv: Sequence[str] | None) -> Namespace:
    """The options of the command line; ConfigError when they are impossible."""
    parser = ArgumentParser(prog="python -m scripts.bench.save_cost", description=__doc__ or "")
    parser.add_argument("--size", default="demo", choices=SIZES)
    parser.add_argument("--every", type=count, default=50, help="steps between checkpoints")
    parser.add_argument("--steps", type=count, default=200, help="steps of each kind in a round")
    parser.add_argument("--rounds", type=count, default=3)
    parser.add_argument("--batch-size", type=count, default=16)
    parser.add_argument("--seconds", type=seconds, default=3.0, help="audio per utterance")
    parser.add_argument("--folder", default=None, help="where to write (default: a temporary folder)")
    return parser.parse_args(argv)


def compare_kinds(options: Namespace) -> int:
    """Measure, and print the table."""
    from trainer.loop.step import train_step

    parts = build(options.size)
    batch = noise(parts.model, options.batch_size, options.seconds)
    times: dict[str, list[float]] = {kind: [] for kind in KINDS}
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for _ in range(3):
            train_step(parts, [batch], 1.0, lambda: None)
        for _ in range(options.rounds):
            for kind in KINDS:
                times[kind].append(run(parts, batch, kind, options.steps, options.every, Path(folder)))
        newest = max(Path(folder).glob("checkpoints/step-*"))
        size = sum(path.stat().st_size for path in newest.iterdir()) / 1e6
    base = statistics.median(times["no saving"])
    print(f"{options.size}, {options.batch_size} x {options.seconds:g} s, "
          f"a checkpoint of {size:.1f} MB every {options.every} steps")  # fmt: skip
    for kind in KINDS:
        step = statistics.median(times[kind])
        print(f"{kind:12} {1000 * step:8.1f} ms a step, {100 * (step - base) / base:+6.2f} % "
              f"({', '.join(f'{1000 * s:.1f}' for s in times[kind])})")  # fmt: skip
    return 0


def run(parts: TrainingParts, batch: Batch, kind: str, steps: int, every: int, folder: Path) -> float:
    """Seconds per step over `steps` steps. The writing of the last save counts only if the loop waits for it."""
    from trainer.loop.state import TrainState
    from trainer.loop.step import train_step
    from trainer.rundir.checkpoints.saving import Saver

    saver, state = Saver(folder, 3, {}, lambda line: print(line, file=sys.stderr)), TrainState()
    begin = time.perf_counter()
    for state.step in range(1, steps + 1):
        train_step(parts, [batch], 1.0, lambda: None)
        if kind != "no saving" and state.step % every == 0:
            saver.save(parts, state)
            if kind == "waiting":
                saver.finish()
    elapsed = time.perf_counter() - begin
    saver.finish()
    return elapsed / steps


def build(
    size: str, *, precision: str = "fp32", device: torch.device | None = None, frozen: bool = False,
    moments: str = "fp32", freeze_layers: int = 0, lora_rank: int | None = None, regularised: bool = True,
) -> TrainingParts:  # fmt: skip
    """A model of that size with random weights, in training mode, on CUDA if there is a GPU and no device is given.

    `frozen`: without training the feature encoder. The others are options of trainer.run; lower layers and a model with
    low-rank updates are frozen here though their weights are random. Without `regularised` there is neither dropout nor
    LayerDrop.
    """
    import torch
    from torch.amp import GradScaler

    from models.checkpoints.lora import add_updates, lora_of
    from models.config import ModelConfig
    from models.ctc import CTCModel
    from trainer.config.schema import OptimConfig
    from trainer.device import HALF, autocast_for
    from trainer.loop.optim import build_optimizer, build_schedule
    from trainer.loop.step import TrainingParts

    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    hf = copy.deepcopy(random_encoder(size, regularised))
    if (lora := lora_of(ModelConfig(lora_rank=lora_rank, freeze_layers=freeze_layers))) is not None:
        add_updates(hf, lora, 0)
    model = CTCModel(hf, freeze_feature_encoder=frozen, freeze_layers=freeze_layers).to(device)
    model.train()
    optimizer = build_optimizer(model, OptimConfig(lr=1e-4, moments=moments))  # type: ignore[arg-type]
    scaler = GradScaler(device.type, enabled=precision == "fp16", init_scale=1024)  # no step is skipped
    autocast = autocast_for(precision, device)
    if precision in HALF:
        model.keep_half_copies(HALF[precision])
    return TrainingParts(model, optimizer, build_schedule(optimizer, 10, 10**6), scaler, device, autocast)


@functools.lru_cache(maxsize=1)
def random_encoder(size: str, regularised: bool) -> PreTrainedModel:
    """A UniSpeech of that size with random weights, which take seconds to draw for a large one."""
    from models.config import ModelConfig
    from models.encoder import DROPOUTS, build_random, configure, random_config

    options = ModelConfig(size=size, **({} if regularised else dict.fromkeys(DROPOUTS, 0.0)))  # type: ignore[arg-type]
    config = configure(random_config(options), options, vocab_size=32, blank_id=31)
    return build_random(config, 0)


def noise(model: CTCModel, batch_size: int, seconds: float, num_units: int = 40) -> Batch:
    """A batch of noise whose utterances all have the same length.

    They have `num_units` units, or as many as half their frames if these are fewer. ConfigError without a frame.
    """
    import torch

    from data.batches.collate import Batch
    from data.utterance import SAMPLE_RATE

    generator, num_samples = torch.Generator().manual_seed(0), int(seconds * SAMPLE_RATE)
    num_frames = model.num_frames(num_samples)
    if num_frames < 1:
        raise ConfigError(f"--seconds {seconds:g} is too short: the encoder makes no frame of it.")
    num_units = min(num_units, -(-num_frames // 2))
    return Batch(
        waveforms=torch.randn(batch_size, num_samples, generator=generator),
        waveform_lengths=torch.full((batch_size,), num_samples),
        frame_lengths=torch.full((batch_size,), num_frames),
        targets=torch.randint(0, 31, (batch_size, num_units), generator=generator),
        target_lengths=torch.full((batch_size,), num_units),
        time_mask=None,
        feature_mask=None,
        positions=tuple(range(batch_size)),
        ids=tuple(map(str, range(batch_size))),
        num_samples=batch_size * num_samples,
        num_padded_samples=batch_size * num_samples,
        is_padded=False,
    )


if __name__ == "__main__":
    sys.exit(main())
