"""Write the report of a finished run. `python -m scripts.compare runs/A runs/B` compares runs.

    python -m scripts.report runs/NAME [--media all|none] [--model MODEL] [--cache-dir DIR] [--out FILE]

The result is one HTML file that opens from disk: runs/NAME/report.html. Audio and posteriors need model/ and the run's
corpus, which its config.json names. Without them the file holds text only and says so. The folder of an evaluation has
no model/: if the run that it scored was renamed, --model names it.
--media all lifts the limit of 15 MB, --media none leaves out all audio and pictures.
"""

from __future__ import annotations

import shlex
import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from models.config import ModelConfig
from trainer.cli.arguments import ArgumentParser
from trainer.cli.parse import report_errors
from trainer.config.schema import Config
from trainer.config.validate import resolve, validate
from trainer.errors import ConfigError

if TYPE_CHECKING:
    from trainer.report.media_choice import MediaSource


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 written, 2 something in options, runs or disk is wrong."""
    return report_errors(lambda: report(parse(argv)))


def parse(argv: Sequence[str] | None) -> Namespace:
    """The options of the command line; ConfigError when they are impossible."""
    parser = ArgumentParser(prog="python -m scripts.report", description=(__doc__ or "").strip())
    parser.add_argument("run", nargs="+", type=Path, metavar="runs/NAME", help="a finished run")
    add_options(parser)
    args = parser.parse_args(argv)
    if len(args.run) > 1:
        raise ConfigError(f"{len(args.run)} runs: python -m scripts.compare {shlex.join(map(str, args.run))}")
    return args


def add_options(parser: ArgumentParser) -> None:
    """The options that a report and a comparison share."""
    parser.add_argument("--media", choices=("fit", "all", "none"), default="fit",
                        help="audio and pictures: as much as fits into 15 MB, all or none (default: fit)")  # fmt: skip
    parser.add_argument("--model", help="the model that the run scored, if it is not where the run says")
    parser.add_argument("--cache-dir", help="where the corpus' cache is, if not where the run had it")
    parser.add_argument("--out", type=Path, help="the file to write")


def report(args: Namespace) -> int:
    """Write the report, and print where it is."""
    from trainer.report.run import write_report
    from trainer.rundir.results import read_results

    run = args.run[0]
    read_results(run)  # a folder that holds no finished run is said before anything else
    source, why_none, most_bytes = media_of(run, args)
    print(write_report(run, run.resolve().name, source, why_none=why_none, most_bytes=most_bytes, path=args.out))
    return 0


def media_of(run: Path, args: Namespace) -> tuple[MediaSource | None, str, int | None]:
    """(Where audio and posteriors come from, why from nowhere, the page's limit in bytes) as the options ask."""
    from trainer.report.page import MOST_BYTES

    most_bytes = None if args.media == "all" else MOST_BYTES
    if args.media == "none":
        return None, "Audio and pictures were not asked for.", most_bytes
    source, why_none = open_source(run, args.cache_dir, args.model)
    if source is None:
        print(f"warning: text only: {why_none}", file=sys.stderr)
        why_none = f"Text only, without audio and pictures: {why_none}"
    return source, why_none, most_bytes


def open_source(run_dir: Path, cache_dir: str | None, model: str | None) -> tuple[MediaSource | None, str]:
    """The run's corpus and model, or None and why they are not at hand."""
    try:
        return read_source(run_dir, cache_dir, model), ""
    except (ValueError, OSError) as error:
        return None, str(error)


def read_source(run_dir: Path, cache_dir: str | None, model: str | None = None) -> MediaSource:
    """The evaluation splits of a run's corpus, and `model` or else the one that it exported or scored."""
    from trainer.cli.console import Console
    from trainer.config.as_json import read_config
    from trainer.device import choose_device
    from trainer.prepare.build import prepare_scoring
    from trainer.report.media_choice import MediaSource
    from trainer.rundir.model_source import find_moved_model, is_hub_id

    config: Config = read_config(run_dir / "config.json", lenient=True)
    exported, scored = run_dir / "model", config.model.pretrained
    if model is None and exported.is_dir():
        model = str(exported)
    elif model is None and scored is not None:
        model = find_moved_model(scored, run_dir)
        if not Path(model).exists() and not is_hub_id(model):
            raise ConfigError(f"{scored} is not there any more. Where the model lies now, say with --model.")
    config = replace(
        config,
        model=ModelConfig(pretrained=model, freeze_feature_encoder=True),
        cache_dir=cache_dir or config.cache_dir,
        resume=False,
        overwrite=False,
    )
    config = resolve(validate(config, training=False))
    given = prepare_scoring(config, choose_device("auto"), 0, Console())  # the run's device may be on another machine
    return MediaSource(given.model, given.eval_sets, given.device)


if __name__ == "__main__":
    sys.exit(main())
