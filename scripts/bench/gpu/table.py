"""Fill the table of features of the corpus, write it, find it again, and compare some rows with those of the same
utterances elsewhere. Rates are seconds of audio per second.

    python -m scripts.bench.gpu.table --device cuda --size large --corpus full --out table.json
"""

from __future__ import annotations

import sys
import threading
import time
from argparse import Namespace
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from data.corpora.synthetic.tree import ensure_tree
from data.examples.prepare import Example
from data.utterance import SAMPLE_RATE
from models.ctc import CTCModel
from models.feature_table import FeatureTable
from scripts.bench.gpu.record import Record, parse_part, timit_hf_options
from scripts.bench.gpu.step import read_config
from scripts.bench.gpu.timing import synchronize
from trainer.cli.console import Console
from trainer.cli.parse import report_errors
from trainer.device import autocast_for, choose_device, choose_precision
from trainer.prepare.build import read_inputs
from trainer.prepare.features.filling import Call, compute_rows
from trainer.prepare.features.table import num_table_bytes, open_table, plan_table, seconds_to_fill, table_examples
from trainer.prepare.pieces import build_model

NUM_COMPARED = 24
NUM_CALLS = 40
"""Calls that are timed without reading audio."""


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 done, 1 rows depend on the neighbours of their utterance, 2 an option is wrong."""
    return report_errors(lambda: time_table(parse_part(argv, "table", __doc__ or "")))


def time_table(options: Namespace) -> int:
    """Time a table that is computed and one that is found, and compare bits."""
    record, console, device = Record(options.out), Console(), choose_device(options.device)
    command = timit_hf_options(options, ensure_tree(options.corpus, 0, options.cache_dir))
    begin = time.perf_counter()
    config, encoder, data = read_inputs(read_config([*command, "--cache-dir", str(options.cache_dir)]), console)
    model, _ = build_model(config, encoder, data, device)
    precision = choose_precision(config.precision, config.auto_precision, device)
    examples, autocast = table_examples(data), autocast_for(precision, device)
    audio = sum(example.num_samples for example in examples) / SAMPLE_RATE
    record.add(preparation_seconds=round(time.perf_counter() - begin, 2), precision=precision,
               threads=torch.get_num_threads(), num_utterances=len(examples), audio_seconds=round(audio, 1),
               num_bytes=num_table_bytes(model, examples))  # fmt: skip
    writing: list[threading.Thread] = []

    def in_a_thread(seal: Callable[[], None]) -> None:
        writing.append(threading.Thread(target=seal))
        writing[-1].start()

    def open_at(folder: str, examples: Sequence[Example]) -> tuple[FeatureTable, float]:
        """The table, and the seconds after which training could begin."""
        synchronize(device)
        begin = time.perf_counter()
        table = open_table(
            model, examples, options.scratch / folder, do_normalize=encoder.do_normalize, precision=precision,
            device=device, autocast=autocast, log=console.say, progress=without_bar, later=in_a_thread,
        )  # fmt: skip
        synchronize(device)
        return table, time.perf_counter() - begin

    table, seconds = open_at("cold", examples)
    headline = {"fill_seconds": round(seconds, 2), "audio_rate": round(audio / seconds, 1)}
    record.add(headline=headline, **headline)
    begin = time.perf_counter()
    for thread in writing:
        thread.join()
    record.add(seconds_until_written=round(time.perf_counter() - begin, 2))
    found, seconds = open_at("cold", examples)
    record.add(seconds_when_found=round(seconds, 2), found_as_filled=torch.equal(found.rows, table.rows))
    del found

    chosen = range(0, len(examples), max(1, len(examples) // NUM_COMPARED))
    others, _ = open_at("some", [examples[i] for i in reversed(chosen)])
    differing = [
        examples[i].utterance.id
        for i, first in zip(reversed(chosen), others.first_rows, strict=True)
        if not same_rows(model, examples[i], table, table.first_rows[i], others, first)
    ]
    for thread in writing:
        thread.join()
    headline["rows_differ"] = len(differing)
    record.add(headline=headline, num_compared=len(chosen), rows_differ=differing)
    record.add(estimated_seconds=round(seconds_to_fill(model, examples, encoder.do_normalize, device, autocast), 2))
    record.add(audio_rate_without_reading=round(rate_without_reading(model, examples, device, autocast), 1))
    return int(bool(differing) or not record.found["found_as_filled"])


def rate_without_reading(
    model: CTCModel, examples: Sequence[Example], device: torch.device, autocast: Callable
) -> float:
    """Seconds of audio per second where the audio is silence, which takes no reading and no normalising."""
    longest = np.zeros(max(example.num_samples for example in examples), np.float32)
    silent = [replace(example, load=partial(longest.__getitem__, slice(example.num_samples))) for example in examples]
    calls = plan_table(model, examples, device)[:NUM_CALLS]
    synchronize(device)
    begin = time.perf_counter()
    for _ in compute_rows(model, silent, calls, do_normalize=False, device=device, autocast=autocast):
        pass
    synchronize(device)
    num_frames = sum(call.num_frames for call in calls)
    return num_frames * model.geometry.stride / SAMPLE_RATE / (time.perf_counter() - begin)


def without_bar(calls: Iterable[Call], total: int) -> Iterable[Call]:
    return calls


def same_rows(
    model: CTCModel, example: Example, a: FeatureTable, first_in_a: int, b: FeatureTable, first_in_b: int
) -> bool:
    """Whether both tables hold the same bits for an utterance."""
    num = model.num_frames(example.num_samples)
    return torch.equal(a.rows[first_in_a : first_in_a + num], b.rows[first_in_b : first_in_b + num])


if __name__ == "__main__":
    sys.exit(main())
