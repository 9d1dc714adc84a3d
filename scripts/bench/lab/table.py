"""Fill the table of features of the corpus, and compare some rows with those of the same utterances elsewhere."""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from collections.abc import Iterable, Sequence

import torch

from data.corpora.synthetic.tree import ensure_tree
from data.examples import Example
from data.utterance import SAMPLE_RATE
from models.ctc import CTCModel
from models.feature_table import FeatureTable
from scripts.bench.lab.record import Record, parse_part, timit_hf_options
from scripts.bench.lab.step import read_config
from scripts.bench.lab.timing import synchronize
from trainer.cli.console import Console
from trainer.cli.parse import report_errors
from trainer.device import autocast_for, choose_device, choose_precision
from trainer.prepare.build import build_model, read_inputs
from trainer.prepare.features import num_table_bytes, open_table, table_examples

NUM_COMPARED = 24


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
    record.add(preparation_seconds=round(time.perf_counter() - begin, 2), precision=precision)

    def open_at(folder: str, examples: Sequence[Example]) -> tuple[FeatureTable, float]:
        synchronize(device)
        begin = time.perf_counter()
        table = open_table(
            model, examples, options.scratch / folder, do_normalize=encoder.do_normalize, precision=precision,
            device=device, autocast=autocast_for(precision, device), log=console.say, progress=without_bar,
        )  # fmt: skip
        synchronize(device)
        return table, time.perf_counter() - begin

    examples = table_examples(data)
    audio = sum(example.num_samples for example in examples) / SAMPLE_RATE
    table, seconds = open_at("cold", examples)
    headline = {"fill_seconds": round(seconds, 2), "audio_rate": round(audio / seconds, 1)}
    record.add(headline=headline, num_utterances=len(examples), audio_seconds=round(audio, 1),
               num_bytes=num_table_bytes(model, examples), **headline)  # fmt: skip
    record.add(seconds_when_found=round(open_at("cold", examples)[1], 2))

    chosen = range(0, len(examples), max(1, len(examples) // NUM_COMPARED))
    others, _ = open_at("some", [examples[i] for i in reversed(chosen)])
    differing = [
        examples[i].utterance.id
        for i, first in zip(reversed(chosen), others.first_rows, strict=True)
        if not same_rows(model, examples[i], table, table.first_rows[i], others, first)
    ]
    record.add(headline={**headline, "rows_differ": len(differing)}, num_compared=len(chosen), rows_differ=differing)
    return int(bool(differing))


def without_bar(items: Iterable[Example], total: int) -> Iterable[Example]:
    return items


def same_rows(
    model: CTCModel, example: Example, a: FeatureTable, first_in_a: int, b: FeatureTable, first_in_b: int
) -> bool:
    """Whether both tables hold the same bits for an utterance."""
    num = model.num_frames(example.num_samples)
    return torch.equal(a.rows[first_in_a : first_in_a + num], b.rows[first_in_b : first_in_b + num])


if __name__ == "__main__":
    sys.exit(main())
