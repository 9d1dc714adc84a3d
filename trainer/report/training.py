"""The report's words on training: what was found to be wrong with it, and which utterances were never learnt. HTML."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from trainer.diagnosis.folder import read_facts
from trainer.diagnosis.learnt import learnt_line
from trainer.errors import ConfigError


def findings_html(results: Mapping[str, Any]) -> str:
    """The findings that results.json holds; "" where it holds none."""
    parts = []
    for found in results.get("findings", ()):
        name, sure, what, evidence, change = (
            escape(str(found.get(key, ""))) for key in ("name", "sure", "what", "evidence", "change")
        )
        parts.append(
            f"<h3>{name.capitalize()} <small>({sure})</small></h3><p>{what} {evidence}</p>"
            f"<p><strong>To change:</strong> {change}</p>"
        )
    return "".join(parts)


def learnt_html(run_dir: Path) -> str:
    """A line on the losses of the training utterances; "" where the run has kept none, or they say nothing."""
    try:
        entropy = read_facts(run_dir).unigram_entropy
    except ConfigError:
        return ""
    line = learnt_line(run_dir, entropy)
    return f'<p class="note">{escape(line)}</p>' if line else ""
