"""Time each lever of scripts.bench.levers on batches as long as TIMIT's, in the precision of the reference recipe."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from typing import Any

from scripts.bench.gpu.record import Record, parse_part
from scripts.bench.lever_work import LEVERS, measure_levers
from trainer.cli.parse import report_errors


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 all were measured, 1 a lever failed, 2 an option is wrong."""
    return report_errors(lambda: measure(parse_part(argv, "levers", __doc__ or "")))


def measure(options: Namespace) -> int:
    """Time the levers; each is recorded when it is measured."""
    record, on_cpu = Record(options.out), options.device == "cpu"
    ratios: dict[str, Any] = {}

    def keep(name: str, figures: dict[str, Any]) -> None:
        ratios[name] = round(figures["ratio"], 3) if "ratio" in figures else figures["failed"]
        if "device_ms" in figures:
            ratios[name] = f"{ratios[name]}, device {' to '.join(map(str, figures['device_ms']))} ms"
        record.add(headline=ratios, **{name: figures})

    # what the recipe trains with comes first: the time may not suffice for all
    chosen = sorted((name for name, lever in LEVERS.items() if not (on_cpu and lever.needs_cuda)),
                    key=lambda name: not LEVERS[name].frozen)  # fmt: skip
    size = (
        {"rounds": 1, "batch_size": 2, "seconds": 1.0} if on_cpu else {"rounds": 4, "batch_size": 32, "seconds": 3.07}
    )
    measure_levers(Namespace(only=chosen, size=options.size, device=options.device, precision=None, **size), keep)
    return int(any("failed" in figures for name, figures in record.found.items() if name in LEVERS))


if __name__ == "__main__":
    sys.exit(main())
