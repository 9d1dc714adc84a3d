"""Train: `python -m trainer.run [PRESET] [--group.option value ...]`.

Command line -> Config -> trainer.session: corpus, model, plan -> fit() -> closing evaluation, export, card.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from trainer.cli.parse import parse, report_errors
from trainer.cli.signals import Stopped, stop_on_signals
from trainer.cli.streams import fill_closed_streams
from trainer.config.presets import PRESETS


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Exit code: 0 done; 2 options, data or folder are wrong; 3 training cannot go on; 4 a save
    failed; 75 stopped by SIGTERM or SIGUSR1, 130 by Ctrl-C (saved; --resume goes on); 141 nobody reads the output."""
    argv = sys.argv[1:] if argv is None else argv

    def run() -> int:
        config = parse(argv)
        try:
            with stop_on_signals() as flag:
                from trainer.session import train  # imports torch, which takes seconds

                return train(config, PRESETS[config.preset](), argv, flag)
        except Stopped as stop:
            print(stop, file=sys.stderr)
            return stop.exit_code

    return report_errors(run, "Mend that; what was saved is whole, --resume goes on.")


if __name__ == "__main__":
    fill_closed_streams()
    sys.exit(main())
