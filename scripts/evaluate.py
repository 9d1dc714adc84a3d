"""Score a CTC model on a corpus, through the same path as training's closing evaluation.

    python -m scripts.evaluate MODEL [PRESET] [--corpus... --eval... --device ...]

MODEL is a folder (such as runs/demo/model) or a hub id. PRESET and options name the corpus, as for training. The
command writes results.json and hypotheses.jsonl into runs/evaluate-NAME (or --name). For a model in runs/NAME/model,
NAME is the run; otherwise it is the model's name.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from models.config import ModelConfig
from trainer.cli.parse import parse, report_errors
from trainer.config.schema import Config
from trainer.errors import ConfigError

REFERENCE_MODEL = "patrickvonplaten/unispeech-large-1500h-cv-timit"
REFERENCE_ERRORS, REFERENCE_WORDS = 3186, 14_511
"""The counts behind that model's card: its WER, 0.21955757701054374, is 3186 / 14511."""


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 scored, 2 something in options, model or data is wrong."""
    argv = list(sys.argv[1:] if argv is None else argv)
    return report_errors(lambda: score(*parse_both(argv)))


def parse_both(argv: Sequence[str]) -> tuple[str, Config]:
    """MODEL, and the Config of the words after it; ConfigError when they are impossible."""
    if argv[:1] in (["-h"], ["--help"]):
        print((__doc__ or "").strip())
        raise SystemExit(0)
    if not argv or argv[0].startswith("-"):
        found = f"{argv[0]} stands where MODEL belongs" if argv else "no MODEL"
        raise ConfigError(f"{found}: python -m scripts.evaluate MODEL [PRESET] [options]. --help tells more.")
    return argv[0], parse(argv[1:], prog=f"python -m scripts.evaluate {argv[0]}")


def score(source: str, config: Config) -> int:
    """Score `source` on every closing split of the corpus and write the results."""
    config = replace(config, model=ModelConfig(pretrained=source, freeze_feature_encoder=True))
    if not config.name:
        path = Path(source).resolve()  # a model in runs/NAME/model is named after NAME
        config = replace(config, name="evaluate-" + (path.parent if path.name == "model" else path).name)
    if any((config.run_dir / name).exists() for name in ("lock", "checkpoints", "metrics.jsonl")):
        raise ConfigError(f"{config.run_dir} holds a training run, which is not written over. Choose another --name.")

    from trainer.closing import score_model

    results = score_model(config)
    if config.preset == "timit-hf":
        found = results["splits"]["test"]
        print(
            f"reference card ({REFERENCE_MODEL}): {REFERENCE_ERRORS:,} errors of {REFERENCE_WORDS:,} words; "
            f"found here: {found['num_errors']:,} of {found['num_reference_words']:,}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
