"""Write a corrected copy of a manifest, so that other programs get the corrections too.

    python -m scripts.correct train.jsonl --patch corrections.jsonl --out train-corrected.jsonl
    python -m scripts.correct train.csv --exclude bad.txt --out train-corrected.csv --text-field sentence

Rows that a correction leaves out are not written, transcripts that one replaces are another, and every other byte is as
it was. Training with --corpus.exclude and --corpus.patch needs no copy (docs/howto-clean-data.md).
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from trainer.cli.arguments import ArgumentParser
from trainer.cli.parse import report_errors
from trainer.errors import ConfigError


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 written, 2 something in options, manifest or corrections is wrong."""
    return report_errors(lambda: run(parse(argv)))


def parse(argv: Sequence[str] | None) -> Namespace:
    """The options of the command line; ConfigError when they are impossible."""
    parser = ArgumentParser(prog="python -m scripts.correct", description=(__doc__ or "").strip())
    parser.add_argument("manifest", metavar="MANIFEST", type=Path, help=".jsonl, .json, .csv or .tsv")
    parser.add_argument("--exclude", metavar="FILE", default="", help="utterances to leave out, as --corpus.exclude")
    parser.add_argument("--patch", metavar="FILE", default="", help="corrected transcripts, as --corpus.patch")
    parser.add_argument("--out", metavar="FILE", type=Path, required=True, help="the copy, beside the manifest")
    parser.add_argument("--text-field", default="text", help="column of the transcript (default: text)")
    parser.add_argument("--audio-field", default="audio_filepath", help="column of the audio's path")
    args = parser.parse_args(argv)
    if not (args.exclude or args.patch):
        raise ConfigError("no corrections: give --exclude FILE, --patch FILE, or both.")
    return args


def run(args: Namespace) -> int:
    """Write the copy and say what was done."""
    from data.corpora.manifest import ManifestConfig
    from data.corrections.manifest import write_corrected

    config = ManifestConfig(
        exclude=args.exclude, patch=args.patch, text_field=args.text_field, audio_field=args.audio_field
    )
    print(write_corrected(args.manifest, args.out, config))
    return 0


if __name__ == "__main__":
    sys.exit(main())
