"""Train: `python -m trainer.run [PRESET] [--group.option value ...]`.

Several processes do it together: `torchrun --nproc-per-node N -m trainer.run ...` (docs/howto-cluster.md).

Command line -> Config -> trainer.session: corpus, model, plan -> fit() -> closing evaluation, export, card.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence

from trainer.cli.clock import Clock  # first, for it notes when
from trainer.cli.parse import parse, report_errors
from trainer.cli.segments import grow_segments
from trainer.cli.signals import Stopped, stop_on_signals
from trainer.cli.streams import fill_closed_streams
from trainer.parallel.launch import launched, told_once


def main(argv: Sequence[str] | None = None, clock: Clock | None = None) -> int:
    """Run the command line. Exit code: 0 done; 1 a trial (--overfit, --lr-finder) failed; 2 options, data or folder are
    wrong; 3 training cannot go on; 4 a save failed; 75 stopped by SIGTERM, SIGUSR1 or SIGHUP, 130 by Ctrl-C (saved;
    --resume goes on); 141 nobody reads the output.

    `clock` counts the time of the run's phases; without one the run begins with this call.
    """
    argv, clock = sys.argv[1:] if argv is None else argv, clock or Clock()

    def run() -> int:
        launch = launched()
        with told_once(launch):
            with clock.phase("imports"):
                config = parse(argv)  # imports every corpus' reader, and numpy with them
                from trainer.cli.greeting import greet
                from trainer.config.validate import validate

            validate(config)
        try:
            with stop_on_signals() as flag:
                flag.is_silent = not launch.is_first
                if launch.is_first and not config.seeds:
                    greet(config)
                grow_segments()
                with clock.phase("imports"):
                    from trainer.seeds import train_seeds
                    from trainer.session import train  # imports torch, which takes seconds

                if config.seeds:
                    return train_seeds(config, argv, flag, clock)
                return train(config, argv, flag, clock)
        except Stopped as stop:
            if launch.is_first:
                print(stop, file=sys.stderr)
            return stop.exit_code

    return report_errors(run, "Mend that; what was saved is whole, --resume goes on.")


if __name__ == "__main__":
    fill_closed_streams()
    exit_code = main(clock=Clock.of_process())
    gc.freeze()  # else the interpreter looks for garbage among all objects before it ends, for a second
    sys.exit(exit_code)
