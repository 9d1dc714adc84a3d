"""Serve a page on this machine: record or drop a file and read the words.

    python -m scripts.serve runs/demo/model

MODEL is a run (runs/demo), one of its checkpoints (runs/demo/checkpoints/best), a model folder, or the hub id of a
fine-tuned model. The page needs gradio: pip install --editable ".[serve]". Only this machine reaches the page, unless
--host says otherwise.
"""

from __future__ import annotations

import contextlib
import importlib.util
import signal
import sys
import threading
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from trainer.cli.arguments import ArgumentParser
from trainer.cli.interpreter import describe_missing
from trainer.cli.parse import report_errors
from trainer.errors import ConfigError


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 stopped, 2 something in options or model is wrong."""
    return report_errors(lambda: run(parse(argv)))


def parse(argv: Sequence[str] | None) -> Namespace:
    """The options of the command line; ConfigError when they are impossible."""
    parser = ArgumentParser(prog="python -m scripts.serve", description=(__doc__ or "").strip())
    parser.add_argument("model", metavar="MODEL", help="run, checkpoint, folder or hub id")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=7860, help="(default: 7860)")
    parser.add_argument("--max-seconds", type=float, default=600.0, help="longest recording (default: 600)")
    parser.add_argument("--max-megabytes", type=float, default=50.0, help="largest file (default: 50)")
    parser.add_argument("--at-once", type=int, default=4, help="recordings written down at once (default: 4)")
    parser.add_argument("--examples", metavar="FILE", type=Path, nargs="*",
                        help="recordings to try the page with; no FILE: no examples (default: two utterances that the "
                        "run was scored on, if they are at hand and only this machine reaches the page)")  # fmt: skip
    parser.add_argument("--window", type=float, default=20.0, metavar="SECONDS",
                        help="longer recordings are read in windows of this length (default: 20)")  # fmt: skip
    parser.add_argument("--overlap", type=float, default=4.0, metavar="SECONDS",
                        help="what neighbouring windows share (default: 4)")  # fmt: skip
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, ... (default: auto)")
    parser.add_argument("--revision", help="branch, tag or commit of a hub model")
    parser.add_argument("--target-lang", metavar="LANG", help="language of a multilingual model (MMS), as tur")
    args = parser.parse_args(argv)
    if not 1 <= args.port <= 65_535:
        raise ConfigError(f"--port {args.port}: give 1 to 65535.")
    return args


def run(args: Namespace) -> int:
    """Load the model and show the page until Ctrl-C."""
    if importlib.util.find_spec("gradio") is None:
        raise ConfigError(describe_missing("gradio", extra="serve"))

    from trainer.cli.console import Console
    from trainer.recognize.clips import NO_CLIPS, clips_of_files, clips_of_run
    from trainer.recognize.page import Limits, is_loopback, serving
    from trainer.recognize.transcribe import Windows, advise
    from trainer.recognizer import Recognizer

    limits, windows = Limits(args.max_seconds, args.max_megabytes, args.at_once), Windows(args.window, args.overlap)
    examples, console = NO_CLIPS, Console()
    if args.examples is not None:
        examples = clips_of_files(args.examples, limits.max_seconds)
    recognizer = Recognizer(
        args.model, revision=args.revision, device=args.device, language=args.target_lang, windows=windows
    )
    if args.examples is None and is_loopback(args.host):  # a corpus' licence may not allow others to hear it
        examples = clips_of_run(Path(recognizer.loaded.source), limits.max_seconds, console)
    if not is_loopback(args.host):
        console.warn(f"whoever reaches port {args.port} of {args.host} can use this page")
    if advice := advise(recognizer.loaded, windows, limits.max_seconds):
        console.warn(f"long recordings are {advice}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that SIGTERM removes uploads too
    with (
        contextlib.suppress(KeyboardInterrupt),
        serving(recognizer, limits, windows, args.host, args.port, examples) as url,
    ):
        print(f"{url} (Ctrl-C stops it)", flush=True)
        threading.Event().wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
