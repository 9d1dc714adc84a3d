"""Measure how fast the table of features is filled, kept and found again, and whether its bits depend on neighbours.

    python -m scripts.bench.table_fill [--device cuda] [--size large] [--corpus full] [--out table.json]

The model has random weights and a layer norm after each convolution, the audio is a synthetic corpus, as in `timit-hf`.
Rates are seconds of audio per second.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from argparse import Namespace
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.families import SIZES
from scripts.bench.lab.record import Record
from trainer.cli.arguments import ArgumentParser
from trainer.cli.parse import parse, report_errors

if TYPE_CHECKING:
    import torch

    from models.feature_table import FeatureTable
    from trainer.prepare.filling import Call

NUM_COMPARED = 24
"""Utterances whose rows are computed again in other company."""


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 done, 1 rows depend on the neighbours of their utterance, 2 an option is wrong."""
    return report_errors(lambda: measure(parse_options(argv)))


def parse_options(argv: Sequence[str] | None) -> Namespace:
    """The options of the command line; ConfigError when they are impossible."""
    parser = ArgumentParser(prog="python -m scripts.bench.table_fill", description=__doc__ or "")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, ... or auto")
    parser.add_argument("--size", default="large", choices=[s for s in SIZES if s != "base"], help="size of the model")
    parser.add_argument("--corpus", default="full", choices=("tiny", "demo", "full"), help="synthetic corpus")
    parser.add_argument("--precision", default="auto", choices=("auto", "fp32", "bf16", "fp16"))
    parser.add_argument("--cache-dir", type=Path, default=Path("cache"), help="folder of the synthetic corpus")
    parser.add_argument("--scratch", type=Path, default=None, help="where the tables go (default: a temporary folder)")
    parser.add_argument("--out", type=Path, default=None, help="where the JSON goes")
    return parser.parse_args(argv)


def measure(options: Namespace, record: Record | None = None) -> int:
    """Measure; print each figure, and write it into `record` or, if asked, a file of its own."""
    import torch

    from data.corpora.synthetic.tree import ensure_tree
    from data.utterance import SAMPLE_RATE
    from trainer.cli.console import Console
    from trainer.config.schema import resolve, validate
    from trainer.device import autocast_for, choose_device, choose_precision, device_model
    from trainer.prepare.build import build_model, read_inputs
    from trainer.prepare.features import num_table_bytes, open_table, plan_table, seconds_to_fill, table_examples
    from trainer.prepare.filling import compute_rows

    record, console, device = record or Record(options.out), Console(), choose_device(options.device)
    tree = ensure_tree(options.corpus, 0, options.cache_dir)
    command = [
        "timit-hf", "--corpus.root", str(tree), "--model.size", options.size, "--model.freeze-feature-encoder",
        "--precision", options.precision, "--device", str(device), "--cache-dir", str(options.cache_dir),
    ]  # fmt: skip
    config, encoder, data = read_inputs(resolve(validate(parse(command))), console)
    model, _ = build_model(config, encoder, data, device)
    precision = choose_precision(config.precision, config.auto_precision, device)
    autocast, examples = autocast_for(precision, device), table_examples(data)
    audio = sum(example.num_samples for example in examples) / SAMPLE_RATE
    record.add(
        device=device_model(device), threads=torch.get_num_threads(), precision=precision, size=options.size,
        num_utterances=len(examples), audio_seconds=audio, num_bytes=num_table_bytes(model, examples),
        num_calls=len(plan_table(model, examples, device)),
    )  # fmt: skip

    def note(**figures: Any) -> None:
        record.add(**figures)
        print(" ".join(f"{name}={value}" for name, value in figures.items()), flush=True)

    with nullcontext(options.scratch) if options.scratch else tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)

        def open_in(name: str, chosen: Sequence, later: Callable[[Callable[[], None]], None]) -> FeatureTable:
            table = open_table(
                model, chosen, folder / name, do_normalize=encoder.do_normalize, precision=precision, device=device,
                autocast=autocast, log=console.say, progress=no_bar, later=later,
            )  # fmt: skip
            synchronize(device)
            return table

        note(estimated_seconds=seconds_to_fill(model, examples, encoder.do_normalize, device, autocast))
        # without audio or disk: what the device alone takes
        calls = plan_table(model, examples, device)
        some = calls[: min(len(calls), 40)]
        silence = [type(examples[0])(e.utterance, "", (), e.num_samples, Silence(e.num_samples)) for e in examples]
        begin = time.perf_counter()
        for _ in compute_rows(model, silence, some, do_normalize=False, device=device, autocast=autocast):
            pass
        synchronize(device)
        seconds = time.perf_counter() - begin
        note(
            seconds_per_call_without_reading=seconds / len(some),
            rate_without_reading=audio / seconds * len(some) / len(calls),
        )

        threads: list[threading.Thread] = []

        def start(work: Callable[[], None]) -> None:
            threads.append(threading.Thread(target=work))
            threads[-1].start()

        begin = time.perf_counter()
        table = open_in("first", examples, start)
        seconds = time.perf_counter() - begin
        note(fill_seconds=seconds, fill_rate=audio / seconds)
        for thread in threads:
            thread.join()
        note(seconds_until_on_the_disk=time.perf_counter() - begin)
        begin = time.perf_counter()
        again = open_in("first", examples, start)
        note(seconds_when_found=time.perf_counter() - begin, found_equals_filled=torch.equal(table.rows, again.rows))
        del again
        chosen = list(range(0, len(examples), max(1, len(examples) // NUM_COMPARED)))[::-1]
        others = open_in("others", [examples[i] for i in chosen], lambda work: work())
        differing = [
            examples[i].utterance.id
            for i, first in zip(chosen, others.first_rows, strict=True)
            if not same_rows(table, table.first_rows[i], others, first, model.num_frames(examples[i].num_samples))
        ]
        note(num_compared=len(chosen), rows_differ=differing)
    return int(bool(differing) or not record.found["found_equals_filled"])


class Silence:
    """Audio of zeros, of which nothing is read."""

    def __init__(self, num_samples: int) -> None:
        self.num_samples = num_samples

    def __call__(self) -> Any:
        import numpy as np

        return np.zeros(self.num_samples, np.float32)


def no_bar(calls: Iterable[Call], total: int) -> Iterable[Call]:
    return calls


def same_rows(a: FeatureTable, first_in_a: int, b: FeatureTable, first_in_b: int, num_frames: int) -> bool:
    """Whether both tables hold the same bits for an utterance."""
    import torch

    return torch.equal(a.rows[first_in_a : first_in_a + num_frames], b.rows[first_in_b : first_in_b + num_frames])


def synchronize(device: torch.device) -> None:
    """Wait for the GPU; nothing on a CPU."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    sys.exit(main())
