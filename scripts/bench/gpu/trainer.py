"""transformers' Trainer, tuned, and ours: one round of scripts.bench.benchmark on a sample of the synthetic corpus."""

from __future__ import annotations

import json
import os
import random
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data.corpora.synthetic.tree import ensure_tree
from data.corpora.timit import TimitCorpus
from scripts.bench import benchmark
from scripts.bench.against.report import Figures, summarize
from scripts.bench.gpu.record import Record, parse_part
from trainer.cli.parse import report_errors

NUM_UTTERANCES = {"train": 1600, "test": 320}
SIDES = ("ours", "hf-tuned")
WORKLOADS = {"tiny": "tiny-frozen", "base": "base", "large": "large"}
MOST_THREADS = 8


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 done, 1 a side failed, 2 an option is wrong."""
    return report_errors(lambda: compare(parse_part(argv, "trainer", __doc__ or "")))


def compare(options: Namespace) -> int:
    """Run both sides; each is recorded when it ends."""
    record, on_cpu = Record(options.out), options.device == "cpu"
    manifests = write_manifests(ensure_tree(options.corpus, 0, options.cache_dir), options.scratch)
    rounds: dict[str, list[Figures]] = {side: [] for side in SIDES}

    def keep(side: str, figures: Figures) -> None:
        rounds[side].append(figures)
        done = {side: some for side, some in rounds.items() if some}
        summary = summarize(done)
        ratios = summary["ratios"].get("hf-tuned", {})
        headline: dict[str, Any] = {name: round(ratio["median"], 3) for name, ratio in ratios.items()}
        record.add(headline=headline or {side: figures}, rounds=done, **summary)

    benchmark.run_rounds(
        benchmark.parse([
            WORKLOADS[options.size], "--manifest", *map(str, manifests), "--sides", *SIDES, "--rounds", "1",
            "--steps", str(options.trainer_steps), "--device", options.device.partition(":")[0],
            "--precision", "fp32" if on_cpu else "fp16",
            "--threads", str(1 if on_cpu else min(MOST_THREADS, os.cpu_count() or 1)),
        ]),
        keep,
    )  # fmt: skip
    return 0


def write_manifests(tree: Path, folder: Path) -> list[Path]:
    """train.jsonl and test.jsonl in `folder`: utterances of the tree, drawn from a seed."""
    corpus, paths = TimitCorpus(tree, "hf", "plain"), []
    for split, number in NUM_UTTERANCES.items():
        utterances = list(corpus.utterances(split))
        chosen = random.Random(0).sample(utterances, min(number, len(utterances)))
        rows = [
            {"id": u.id, "audio_filepath": str(Path(u.audio.name).resolve()), "text": u.text, "speaker": u.speaker}
            for u in chosen
        ]
        paths.append(folder / f"{split}.jsonl")
        paths[-1].write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return paths


if __name__ == "__main__":
    sys.exit(main())
