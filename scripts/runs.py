"""Show all runs of a folder: what differs between them, how good they are, and where they stand.

    python -m scripts.runs runs/
    python -m scripts.runs runs/ --html runs/index.html
    python -m scripts.runs runs/ --html runs/index.html --watch
    python -m scripts.runs runs/ --track

The table has one line for each run: status, error rate with its 95 % interval, time, audio, and the options in which
the runs differ. The page draws the curves of chosen runs over one another and leads to their reports. --watch shows
both anew every few seconds until Ctrl-C, and the page, opened in a browser, follows. Nothing is written into the runs'
folders. --track copies the curves into trackio's store on this machine. docs/howto-runs.md tells more.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.cli.arguments import ArgumentParser, seconds
from trainer.cli.interpreter import describe_missing
from trainer.cli.parse import report_errors
from trainer.errors import ConfigError

if TYPE_CHECKING:
    from trainer.overview.run import Run

SECONDS_BETWEEN_LOOKS = 10.0
SORTS: dict[str, Callable[[Run], object]] = {
    "rate": lambda run: (run.rate is None, run.rate.value if run.rate else 0.0, run.name),
    "name": lambda run: run.name,
    "changed": lambda run: (-(run.changed or 0.0), run.name),
}
"""--sort -> what orders the runs, the first one on top."""


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 shown, 1 --verify found something damaged, 2 something in options, folder or disk is wrong."""
    return report_errors(lambda: show_runs(parse(argv)))


def parse(argv: Sequence[str] | None) -> Namespace:
    """The options of the command line; ConfigError when they are impossible."""
    parser = ArgumentParser(prog="python -m scripts.runs", description=(__doc__ or "").strip())
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER", default=[Path("runs")],
                        help="a folder of runs, or single runs (default: runs)")  # fmt: skip
    parser.add_argument("--html", type=Path, metavar="FILE", help="draw one page as well")
    parser.add_argument("--json", action="store_true", help="print one JSON object a run in place of the table")
    parser.add_argument("--sort", choices=list(SORTS), default="rate",
                        help="best error rate, name or last change first (default: rate)")  # fmt: skip
    parser.add_argument("--watch", type=seconds, nargs="?", const=SECONDS_BETWEEN_LOOKS, metavar="SECONDS",
                        help=f"anew every few seconds until Ctrl-C (default: {SECONDS_BETWEEN_LOOKS:g})")  # fmt: skip
    parser.add_argument("--verify", action="store_true",
                        help="hash every file of all checkpoints too: reads gigabytes")  # fmt: skip
    parser.add_argument("--track", action="store_true", help="copy the curves into trackio's store on this machine")
    parser.add_argument("--project", metavar="NAME", help="trackio's project (default: the folder's name)")
    args = parser.parse_args(argv)
    if args.watch and args.verify:
        raise ConfigError("--watch --verify would read all checkpoints again and again. Give one of them.")
    if args.project and not args.track:
        raise ConfigError("--project names the project of --track, which is not given.")
    return args


def show_runs(args: Namespace) -> int:
    """Show the runs once, or again and again."""
    if not args.watch:
        return look(args)
    try:
        while True:
            look(args, args.watch)
            time.sleep(args.watch)
    finally:
        if args.html:
            draw(args, *found(args))  # a page that does not wait for the next one


def look(args: Namespace, seconds_to_next: float | None = None) -> int:
    """One look at all runs. Returns the exit code."""
    if args.track and importlib.util.find_spec("trackio") is None:
        raise ConfigError(describe_missing("trackio", extra="track"))

    from trainer.overview.terminal import as_json, table

    runs, others = found(args)
    written = []
    if args.html:
        written.append(draw(args, runs, others, seconds_to_next))
    if args.track:
        from trainer.overview.track import track

        written += track(runs, args.project or args.folders[0].resolve().name)
    if seconds_to_next and sys.stdout.isatty():
        print("\x1b[H\x1b[2J", end="")
    if args.json:
        print("".join(f"{as_json(run)}\n" for run in runs), end="", flush=True)
    else:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        print("\n".join(table(runs, others, width)), flush=True)
    for line in written:
        print(line, file=sys.stderr if args.json else sys.stdout, flush=True)
    return 1 if args.verify and any(run.status == "damaged" for run in runs) else 0


def found(args: Namespace) -> tuple[list[Run], list[Path]]:
    """The runs in the order that was asked for, and the folders that hold none."""
    from trainer.overview.find import find_runs

    runs, others = find_runs(args.folders, is_verified=args.verify)
    return sorted(runs, key=SORTS[args.sort]), others  # type: ignore[arg-type]  # every key orders its own kind


def draw(args: Namespace, runs: list[Run], others: Sequence[Path], seconds_to_next: float | None = None) -> str:
    """Write the page; the line that says where it is."""
    from trainer.overview.page import write_page

    return write_page(args.html, runs, others, args.folders, seconds_to_next)


if __name__ == "__main__":
    sys.exit(main())
