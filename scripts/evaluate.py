"""Score a CTC model on a corpus, through the same path as training's closing evaluation.

    python -m scripts.evaluate MODEL [PRESET] [--corpus... --eval... --device ...]

MODEL is a run (runs/demo), one of its checkpoints (runs/demo/checkpoints/best), a model folder or a hub id, with
--model.revision for a hub model and --model.target-lang for a language of a multilingual one. PRESET and options name
the corpus, as for training (demo: sentences that are synthesised). Without PRESET it is the corpus of the run that
MODEL belongs to, as its config.json has it, with the options that are given here.

The command writes results.json, hypotheses.jsonl and report.html into runs/evaluate-NAME (or --name). NAME is the run,
RUN-best or RUN-step-400 for a checkpoint, or the model's name. --corpus.part K/N scores a part of shards, in a folder
of its own, and scripts.merge_parts makes one result of all parts.

A beam besides the best path, reported apart (docs/decode.md):
  --lm FILE             n-gram model in ARPA format, gzip too (scripts.ngram builds one)
  --lm-weight WEIGHT    factor of its log probability; auto (default): tuned on the development split
  --word-score SCORE    added for each word            --unknown-score SCORE  for each word that the model does not know
  --beam WIDTH          beams of each utterance (64)   --lexicon FILE|lm      only these words, or those of the model
  --hot-word PHRASE[=WEIGHT]                           --units                the model is one of characters
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from models.config import ModelConfig
from trainer.cli.arguments import ArgumentParser
from trainer.cli.parse import parse, report_errors
from trainer.config.schema import Config
from trainer.config.validate import validate
from trainer.decoding.options import add_options, is_asked
from trainer.errors import ConfigError

REFERENCE_MODEL = "patrickvonplaten/unispeech-large-1500h-cv-timit"
REFERENCE_ERRORS, REFERENCE_WORDS = 3186, 14_511
"""The counts behind that model's card: its WER, 0.21955757701054374, is 3186 / 14511."""


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 scored, 2 something in options, model or data is wrong."""
    argv = list(sys.argv[1:] if argv is None else argv)
    return report_errors(lambda: score(*parse_all(argv)))


def parse_all(argv: Sequence[str]) -> tuple[str, Config, Namespace]:
    """MODEL, the Config of the words after it, and the options of decoding among them; ConfigError when they are
    impossible."""
    if argv[:1] in (["-h"], ["--help"]):
        print((__doc__ or "").strip())
        raise SystemExit(0)
    if not argv or argv[0].startswith("-"):
        found = f"{argv[0]} stands where MODEL belongs" if argv else "no MODEL"
        raise ConfigError(f"{found}: python -m scripts.evaluate MODEL [PRESET] [options]. --help tells more.")
    prog = f"python -m scripts.evaluate {argv[0]}"
    parser = ArgumentParser(prog=prog, description="", add_help=False)
    add_options(parser, auto="default: auto, tuned on the development split")
    decoding, rest = parser.parse_known_args(argv[1:])
    if rest[:1] and (rest[0][:1] != "-" or {"-h", "--help", "--help-all"} & set(rest)):
        return argv[0], parse(rest, prog=prog), decoding
    from trainer.cli.command_line import with_options  # imports every corpus' reader, and numpy with them

    return argv[0], with_options(of_run(argv[0]), rest), decoding


def of_run(source: str) -> Config:
    """The corpus of the run that `source` belongs to, and how it was evaluated; ConfigError where there is none."""
    from data.corpora.given import GivenConfig
    from trainer.config.as_json import read_config
    from trainer.config.presets import PRESETS
    from trainer.rundir.model_source import is_run, run_of  # imports torch, which takes seconds

    run_dir = Path(source) if is_run(Path(source)) else run_of(Path(source)) if Path(source).exists() else None
    example = f"python -m scripts.evaluate {source} manifest --corpus.eval test.jsonl"
    others = f"Presets: {', '.join(PRESETS)}."
    if run_dir is None:
        what = "belongs to no run here" if Path(source).exists() else "is no folder here, and a hub model has no run"
        raise ConfigError(f"{source} {what}, so name the corpus to score it on, as in {example}. {others}")
    earlier = read_config(run_dir / "config.json", lenient=True)
    if isinstance(earlier.corpus, GivenConfig):
        raise ConfigError(f"{run_dir}: a Python program handed over its corpus. Name one, as in {example}. {others}")
    print(f"note: no PRESET is given: the corpus is that of {run_dir}", file=sys.stderr)
    return Config(preset=earlier.preset, corpus=earlier.corpus, eval=earlier.eval, cache_dir=earlier.cache_dir)


def score(source: str, config: Config, options: Namespace) -> int:
    """Score `source` on every closing split of the corpus and write the results."""
    from trainer.cli.console import Console
    from trainer.cli.greeting import places

    validate(replace(config, model=ModelConfig(pretrained=source)), training=False)
    Console().say(f"{source} on {places(config.corpus)}")

    from trainer.rundir.model_source import find_model, model_name  # imports torch, which takes seconds

    source = find_model(source)
    model = ModelConfig(
        pretrained=source,
        revision=config.model.revision,
        target_lang=config.model.target_lang,
        freeze_feature_encoder=True,
    )
    config = replace(config, model=model)
    if not config.name:
        part = getattr(config.corpus, "part", "")  # processes that share a corpus need folders of their own
        of_part = f"-part-{part.replace('/', '-of-')}" if part else ""
        config = replace(config, name=f"evaluate-{model_name(source)}{of_part}")
    if any((config.run_dir / name).exists() for name in ("lock", "checkpoints", "metrics.jsonl")):
        raise ConfigError(f"{config.run_dir} holds a training run, which is not written over. Choose another --name.")
    refuse_other_corpus(config)

    from trainer.decoding.settings import AUTO, from_options
    from trainer.evaluating import score_model

    decoding = from_options(options) if is_asked(options) else None
    is_tuned = options.lm is not None and options.lm_weight in (None, AUTO)
    if is_tuned and options.word_score is not None:
        raise ConfigError(
            "--word-score: --lm-weight auto tunes it too. Give a number for --lm-weight, or leave it out."
        )
    results = score_model(config, decoding=decoding, is_tuned=is_tuned)
    if config.preset == "timit-hf":
        found = results["splits"]["test"]
        print(
            f"reference card ({REFERENCE_MODEL}): {REFERENCE_ERRORS:,} errors of {REFERENCE_WORDS:,} words; "
            f"found here: {found['num_errors']:,} of {found['num_reference_words']:,}"
        )
    return 0


def refuse_other_corpus(config: Config) -> None:
    """ConfigError where the folder holds an evaluation on another corpus, or on this one read in another way."""
    from trainer.config.as_json import read_config

    path = config.run_dir / "config.json"
    if not path.exists() or config.overwrite:
        return
    earlier = read_config(path, lenient=True)
    if earlier.corpus != config.corpus:
        raise ConfigError(
            f"{config.run_dir} holds an evaluation on another corpus, or with other options of it (preset "
            f"{earlier.preset}). Choose another --name, or write over it: --overwrite."
        )


if __name__ == "__main__":
    sys.exit(main())
