"""How well confidences calibrated on some synthetic speakers fit the words of others.

    python -m scripts.bench.decoding.calibration runs/demo --seeds 0 1 2

RUN is a finished run of preset demo. Its model reads the test speakers of the synthetic corpora of these seeds, 24
each. Each corpus in turn is the development split of the others; then 100 draws of 8 and of 24 of all speakers are.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainer.cli.arguments import ArgumentParser
from trainer.cli.parse import report_errors

NUM_DRAWS = 100


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 measured, 2 something in options, model or data is wrong."""
    return report_errors(lambda: run(parse(argv)))


def parse(argv: Sequence[str] | None) -> Namespace:
    parser = ArgumentParser(prog="python -m scripts.bench.decoding.calibration", description=(__doc__ or "").strip())
    parser.add_argument("run", metavar="RUN", type=Path, help="folder of a finished run of preset demo")
    parser.add_argument("--cache-dir", default="cache", help="where the corpora lie or are made (default: cache)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the corpora (default: 0 1 2)")
    return parser.parse_args(argv)


def run(args: Namespace) -> int:
    """Print both tables as Markdown."""
    import numpy as np

    from trainer.scoring.reliability import learn_calibration, reliability, with_confidences
    from trainer.scoring.scores import Scores

    speakers, size = read_speakers(args)

    def row(development: Sequence[tuple[int, str]]) -> tuple[Any, dict[str, Any] | None]:
        chosen = set(development)
        dev = Scores("dev", tuple(h for s in speakers if s in chosen for h in speakers[s]), 0.0, 0.0, {})
        test = Scores("test", tuple(h for s in speakers if s not in chosen for h in speakers[s]), 0.0, 0.0, {})
        calibration = learn_calibration(dev, size)
        if isinstance(calibration, str):
            return calibration, None
        return calibration, reliability(with_confidences([test], calibration, size)[0].hypotheses)

    print("| calibrated on | words (wrong) | method, temperature | words of others | ECE | by chance | AUC |")
    print("|---|---|---|---|---|---|---|")
    for seed in args.seeds:
        c, found = row([speaker for speaker in speakers if speaker[0] == seed])
        if found is None:
            print(f"| seed {seed} | {c} |")
        else:
            figures = " | ".join(f"{found[key]:.3f}" for key in ("ece", "ece_by_chance", "auc"))
            learnt = f"{c.num_words:,} ({c.num_wrong}) | {c.method}, {c.temperature:.2f}"
            print(f"| seed {seed} | {learnt} | {found['num_words']:,} | {figures} |")
    for number in (8, 24):
        errors = []
        for draw in range(NUM_DRAWS):
            order = np.random.default_rng(draw).permutation(len(speakers))[:number]
            _, found = row([list(speakers)[i] for i in order])
            errors += [] if found is None else [found["ece"]]
        print(f"{number} speakers of all, {len(errors)} draws: ECE on the others {np.mean(errors):.3f} on average, "
              f"{np.quantile(errors, 0.9):.3f} or less in 9 of 10")  # fmt: skip
    return 0


def read_speakers(args: Namespace) -> tuple[dict[tuple[int, str], list[Any]], int]:
    """(Seed, speaker) -> hypotheses with the evidence for their words; and the number of the vocabulary's units."""
    from dataclasses import replace

    import torch

    from data.corpora.synthetic import SyntheticConfig
    from models.config import ModelConfig
    from trainer.cli.console import Console
    from trainer.closing import score_closing
    from trainer.config.as_json import read_config
    from trainer.prepare.build import prepare_scoring
    from trainer.rundir.model_source import find_model

    config = read_config(args.run / "config.json", lenient=True)
    model = ModelConfig(pretrained=find_model(str(args.run)), freeze_feature_encoder=True)
    speakers: dict[tuple[int, str], list[Any]] = {}
    for seed in args.seeds:
        corpus = SyntheticConfig(size="demo", seed=seed)
        config = replace(config, model=model, cache_dir=args.cache_dir, corpus=corpus)
        given = prepare_scoring(config, torch.device("cpu"), 0, Console())
        eval_set = given.eval_sets[given.data.corpus.splits.headline]
        for h in score_closing(given.model, eval_set, torch.device("cpu"), Console()).hypotheses:
            speakers.setdefault((seed, str(h.speaker)), []).append(h)
    return speakers, len(given.data.vocab)


if __name__ == "__main__":
    sys.exit(main())
