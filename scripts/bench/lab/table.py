"""Fill the table of features of the corpus, and compare some rows with those of the same utterances elsewhere.

scripts.bench.table_fill does it.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence

from scripts.bench import table_fill
from scripts.bench.lab.record import Record, parse_part
from trainer.cli.parse import report_errors
from trainer.errors import ConfigError


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 done, 1 rows depend on the neighbours of their utterance, 2 an option is wrong."""
    return report_errors(lambda: time_table(parse_part(argv, "table", __doc__ or "")))


def time_table(options: Namespace) -> int:
    """Measure, and put what matters most first."""
    if options.size == "base":
        raise ConfigError("--size base: its encoder's group norm sees padding, so it has no table of features.")
    record = Record(options.out)
    options.precision = "auto"
    code = table_fill.measure(options, record)
    headline = {name: round(record.found[name], 2) for name in ("fill_seconds", "fill_rate", "seconds_when_found")}
    record.add(headline={**headline, "rows_differ": len(record.found["rows_differ"])})
    return code


if __name__ == "__main__":
    sys.exit(main())
