"""What a stream's look-ahead costs in word errors: each utterance as a stream, and those of a speaker joined to one.

    python -m scripts.bench.decoding.streaming runs/demo --seconds 0.5 --left 2 --look-ahead 0 0.1 0.2 0.4 0.8

RUN is a finished training run whose corpus is at hand; its headline split is read. The first row is without a stream:
utterances as a whole, joined ones in windows, as scripts.transcribe reads them. Joined ones have pauses between them.
"""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.cli.arguments import ArgumentParser
from trainer.cli.parse import report_errors

if TYPE_CHECKING:
    import numpy as np

PAUSE_SECONDS = 0.6
"""Of faint noise between utterances."""
PIECE = 320
"""Samples that are fed at once: what a microphone gives in 20 ms."""


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 measured, 2 something in options, model or data is wrong."""
    return report_errors(lambda: run(parse(argv)))


def parse(argv: Sequence[str] | None) -> Namespace:
    parser = ArgumentParser(prog="python -m scripts.bench.decoding.streaming", description=(__doc__ or "").strip())
    parser.add_argument("run", metavar="RUN", type=Path, help="folder of a finished run")
    parser.add_argument("--cache-dir", type=Path, help="where the corpus lies (default: as the run)")
    parser.add_argument("--seconds", type=float, default=0.5, help="length of a chunk (default: 0.5)")
    parser.add_argument("--left", type=float, default=2.0, metavar="SECONDS", help="read again before it (default: 2)")
    parser.add_argument("--look-ahead", type=float, nargs="+", metavar="SECONDS", default=[0, 0.1, 0.2, 0.4, 0.8])
    parser.add_argument("--window", type=float, default=3.0, help="of scripts.transcribe's reading (default: 3)")
    return parser.parse_args(argv)


def run(args: Namespace) -> int:
    """Print the table as Markdown."""
    import numpy as np
    import torch

    from data.utterance import SAMPLE_RATE
    from models.config import ModelConfig
    from trainer.cli.console import Console
    from trainer.config.as_json import read_config
    from trainer.prepare.build import prepare_scoring
    from trainer.recognize.streaming import Chunks
    from trainer.recognize.transcribe import Windows
    from trainer.recognizer import Recognizer
    from trainer.scoring.metrics import count_word_errors, pool

    torch.set_num_threads(1)
    recognizer = Recognizer(args.run, device="cpu")
    model = ModelConfig(pretrained=recognizer.loaded.source, freeze_feature_encoder=True)
    config = replace(read_config(args.run / "config.json", lenient=True), model=model)
    if args.cache_dir is not None:
        config = replace(config, cache_dir=args.cache_dir)
    given = prepare_scoring(config, recognizer.loaded.device, 0, Console())
    examples = given.eval_sets[given.data.corpus.splits.headline].examples
    rng = np.random.default_rng(0)
    recordings = []
    for _, of_speaker in groupby(examples, key=lambda e: e.utterance.speaker):
        chosen = list(of_speaker)
        parts = [part for e in chosen for part in (e.load(), _pause(rng, SAMPLE_RATE))]
        recordings.append((" ".join(e.text for e in chosen), np.concatenate(parts)))
    alone = [(e.text, e.load()) for e in examples]
    seconds = sum(len(waveform) for _, waveform in alone + recordings) / SAMPLE_RATE

    def stream(chunks: Chunks, waveform: np.ndarray) -> str:
        opened = recognizer.stream(chunks=chunks)
        words = [w.text for i in range(0, len(waveform), PIECE) for w in opened.feed(waveform[i : i + PIECE])]
        return " ".join([*words, *(w.text for w in opened.finish())])

    def row(name: str, delay: str, read: Callable[[np.ndarray], str]) -> None:
        begin, cells = time.process_time(), []
        for pairs in (alone, recordings):
            counts = pool(count_word_errors(reference, read(waveform)) for reference, waveform in pairs)
            cells.append(f"{100 * counts.rate:.1f} % ({counts.num_errors})")
        factor = (time.process_time() - begin) / seconds
        print(f"| {name} | {delay} | {' | '.join(cells)} | {factor:.3f} |", flush=True)

    print(f"{len(alone)} utterances, {len(recordings)} joined, {seconds:.0f} s in all\n")
    print("| read | settled within | WER alone (errors) | WER joined | CPU seconds per second |\n|---|---|---|---|---|")
    windows = Windows(args.window, args.window / 3)
    row("as a whole", "", lambda waveform: recognizer.transcribe(waveform, windows=windows).text)
    for ahead in args.look_ahead:
        chunks = Chunks(args.seconds, ahead, args.left)
        delay = recognizer.stream(chunks=chunks).delay_seconds
        row(f"look-ahead {ahead:g} s", f"{delay:.2f} s", partial(stream, chunks))
    return 0


def _pause(rng: np.random.Generator, rate: int) -> np.ndarray:
    return (1e-4 * rng.standard_normal(round(PAUSE_SECONDS * rate))).astype("float32")


if __name__ == "__main__":
    sys.exit(main())
