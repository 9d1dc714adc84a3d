"""The model card's section on word confidences, with the reliability diagram of the headline split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trainer.card.tables import escape
from trainer.report.curves import to_png
from trainer.report.reliability import EXPLAINED, HEAD, describe_confidences, draw_reliability, reliability_rows
from trainer.rundir.disk import write_bytes

PICTURE = "reliability.png"


def confidence_sections(folder: Path, results: dict[str, Any]) -> list[str]:
    """The section, and the picture written into `folder`. Nothing where no word of the headline split has one."""
    headline = results["headline"]
    record = results["splits"][headline].get("confidence")
    if record is None or not record["bins"]:
        (folder / PICTURE).unlink(missing_ok=True)  # of earlier weights
        return []
    write_bytes(folder / PICTURE, to_png(draw_reliability(record)))
    rows = [HEAD, ["---"] * len(HEAD), *([escape(row[0]), *row[1:]] for row in reliability_rows(results))]
    return [
        "### Confidence",
        describe_confidences(results),
        f"![right words over confidence, {headline}]({PICTURE})",
        "\n".join("| " + " | ".join(row) + " |" for row in rows),
        EXPLAINED,
    ]
