"""Show that our training step and transformers.Trainer compute the same numbers. Where they do not, show who is right.

    python -m scripts.hf.compare_hf_trainer [--steps 200] [--families unispeech wav2vec2 hubert wavlm] [--draws 10000]

The exit code is 0 when every line says ok. A line has the largest relative difference of loss and gradient norm, over
the first 20 steps and over all, and the number of steps in which both had the same bits. "fp32 itself" is how far the
Trainer's fp32 gradient norms lie from its own in fp64. Two fp32 trainings can agree more closely only bit for bit.
"""

from __future__ import annotations

import sys
import tempfile
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from trainer.cli.arguments import ArgumentParser, count
from trainer.cli.parse import report_errors

# Public group-norm checkpoints take no attention mask: the Trainer then scores the padding too (show_scored_padding)
NORMS = {"unispeech": "layer", "unispeech-sat": "layer", "wav2vec2": "group", "hubert": "layer", "wavlm": "layer"}


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 when everything agrees or is explained, else 1."""
    return report_errors(lambda: compare_everything(parse(argv)))


def parse(argv: Sequence[str] | None) -> Namespace:
    """The options of the command line; ConfigError when they are impossible."""
    parser = ArgumentParser(prog="python -m scripts.hf.compare_hf_trainer", description=__doc__ or "")
    parser.add_argument("--steps", type=count, default=200, help="of the first family; the others take 20")
    parser.add_argument("--families", nargs="+", default=["unispeech", "wav2vec2", "hubert", "wavlm"], choices=NORMS)
    parser.add_argument("--draws", type=count, default=10_000, help="masks drawn on each side")
    return parser.parse_args(argv)


def compare_everything(options: Namespace) -> int:
    """Print a line for each comparison."""
    from scripts.hf.comparisons import (
        NUM_FIRST,
        compare_mask_statistics,
        compare_steps,
        compare_transcripts,
        show_faults,
        show_scored_padding,
    )
    from scripts.hf.equality import tone_examples, write_checkpoint

    results: list[bool] = []
    with tempfile.TemporaryDirectory() as scratch:
        examples = tone_examples(64, seed=3)
        folders = {f: write_checkpoint(Path(scratch) / f, f, NORMS[f]) for f in options.families}
        columns = ["loss, 20", "norm, 20", "loss", "norm", "same bits", "fp32 itself"]
        print(f"{'steps':44} " + " ".join(f"{c:>{w}}" for c, w in zip(columns, (9, 9, 9, 9, 10, 12), strict=True)))
        for number, (family, folder) in enumerate(folders.items()):
            steps = options.steps if number == 0 else min(NUM_FIRST, options.steps)
            results += compare_steps(family, NORMS[family], folder, examples, steps, thorough=number == 0)
        first = folders[options.families[0]]
        results += compare_mask_statistics(options.draws)
        results += show_faults(first, examples)
        results += compare_transcripts(first, tone_examples(40, seed=4, first=1000))
        if "wav2vec2" in folders:
            results += [show_scored_padding(folders["wav2vec2"], examples)]
    print(f"\n{sum(results)} of {len(results)} lines ok")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
