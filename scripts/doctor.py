"""Which training utterances of a run are likely wrong, and why: what a person should listen to first.

    python -m scripts.doctor runs/NAME [--top N] [--split train] [--corpus... --cache-dir ... --device ...]

The losses that the run kept of every utterance, what its model writes for each, how that aligns with the transcript,
and what audio and text show without a model make one score. The worst are printed. runs/NAME/doctor.jsonl has all of
them, the most suspect first, with reasons; runs/NAME/doctor.html shows and plays them, and makes a file of what you
decide. It costs about one evaluation of the training data.

    --top N         utterances that are printed (default: 20)
    --split SPLIT   train, or a split that the run scores (doctor-SPLIT.jsonl, doctor-SPLIT.html)
    --audio N       utterances that can be heard in the page (default: as many as fit into 15 MB)
    --exclude SURE  certain or likely: name the utterances that are marked so, or surer, in doctor-exclude.jsonl, which
                    --corpus.exclude takes. Better listen first: doctor.jsonl says why.

All other options are training's; they stand in place of the run's own: --corpus.train where the corpus has moved,
--device, --eval.batch-size. A run that goes on, or that kept no losses, is looked into as far as possible.
docs/howto-clean-data.md tells what to do with what is found.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from trainer.cli.arguments import ArgumentParser
from trainer.cli.parse import report_errors
from trainer.cli.streams import print_exactly
from trainer.errors import ConfigError


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 looked into, 2 something in options, run, corpus or disk is wrong."""
    argv = list(sys.argv[1:] if argv is None else argv)
    return report_errors(lambda: run(*read(argv)))


def read(argv: Sequence[str]) -> tuple[Namespace, list[str]]:
    """(Options of this command, options of training); ConfigError when they are impossible."""
    if "-h" in argv or "--help" in argv:
        print((__doc__ or "").strip())
        raise SystemExit(0)
    if not argv or argv[0].startswith("-"):
        found = f"{argv[0]} stands where the run belongs" if argv else "no run"
        raise ConfigError(f"{found}: python -m scripts.doctor runs/NAME [options]. --help tells more.")
    parser = ArgumentParser(prog="python -m scripts.doctor", description="", add_help=False)
    parser.add_argument("--top", type=int, default=20)
    parser.add_argument("--split", default="train")
    parser.add_argument("--audio", type=int)
    parser.add_argument("--exclude", choices=("certain", "likely"))
    args, rest = parser.parse_known_args(argv[1:])
    if args.top < 0:
        raise ConfigError(f"--top {args.top}: give the number of utterances to print, 0 or more.")
    if args.audio is not None and args.audio < 0:
        raise ConfigError(f"--audio {args.audio}: give the number of utterances to hear in the page, 0 or more.")
    if args.exclude and args.split != "train":
        raise ConfigError("--exclude leaves utterances out of training: leave out --split, or --exclude.")
    args.run = Path(argv[0])
    return args, rest


def run(args: Namespace, options: Sequence[str]) -> int:
    """Look into the split, print the worst, write the file."""
    from trainer.cli.console import Console
    from trainer.doctor.examine import examine
    from trainer.doctor.opening import open_run
    from trainer.doctor.page import NAME, write_page
    from trainer.doctor.suspect import EXCLUDED, FILE, write_excluded, write_suspects
    from trainer.doctor.terminal import tell

    console = Console(sys.stderr)
    opened = open_run(args.run, options, console, args.split)
    found = examine(opened, console)
    print_exactly("\n".join(tell(found.suspects, found.groups, found.notes, args.top)) + "\n")
    name, page = (
        args.run / (file if opened.is_training else file.replace(".", f"-{args.split}.")) for file in (FILE, NAME)
    )
    write_suspects(name, found.suspects)
    print(f"{name} has all of them, the most suspect first")
    said = write_page(
        page, args.run.resolve().name, found.suspects, opened.load_suspect,
        normalize=opened.config.corpus.text_rule(), split=opened.split, is_training=opened.is_training,
        notes=found.notes, num_audio=args.audio,
        progress=lambda items, total: console.progress(items, total, "drawing", "utterance"),
    )  # fmt: skip
    print(said)
    if args.exclude:
        number = write_excluded(args.run / EXCLUDED, found.suspects, args.exclude)
        path = args.run / EXCLUDED
        print(
            f"train without {number} of them: --corpus.exclude {path}"
            if number
            else f"{path} is empty: nothing is marked {args.exclude}, or surer"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
