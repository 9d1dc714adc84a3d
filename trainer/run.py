"""Train: `python -m trainer.run [PRESET] [--group.option value ...]`.

Command line -> Config -> trainer.session: corpus, model, plan -> fit() -> closing evaluation, export, card.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from trainer.cli import parse, report_errors
from trainer.presets import PRESETS


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 done, 2 something in options or data is wrong, 130 stopped by Ctrl-C (saved)."""
    argv = sys.argv[1:] if argv is None else argv

    def run() -> int:
        config = parse(argv)
        from trainer.session import train  # torch and transformers take seconds: only once the command line is right

        return train(config, PRESETS[config.preset](), argv)

    return report_errors(run)


if __name__ == "__main__":
    sys.exit(main())
