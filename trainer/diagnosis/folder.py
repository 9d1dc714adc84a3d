"""Facts in a run's folder, and the diagnosis of any run from its files."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

from data import strict_json
from trainer.config.as_json import read_config
from trainer.diagnosis.causes import diagnose
from trainer.diagnosis.evidence import Evidence, Facts
from trainer.diagnosis.finding import Finding
from trainer.diagnosis.written import written_of
from trainer.errors import ConfigError, ResultsError
from trainer.rundir.disk import write_text
from trainer.rundir.reading import read_records
from trainer.rundir.results import read_hypotheses, read_results

NAME = "facts.json"
BY_SHIFT = ("length_correlation", "other_losses")


def write_facts(run_dir: Path, facts: Facts) -> None:
    """Write runs/NAME/facts.json."""
    record = dataclasses.asdict(facts)
    write_text(run_dir / NAME, strict_json.dumps(strict_json.finite(record), indent=2) + "\n")


def read_facts(run_dir: Path) -> Facts:
    """The facts of a run; ConfigError where there are none, or they are damaged."""
    path = run_dir / NAME
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        for key in BY_SHIFT:
            record[key] = {int(shift): value for shift, value in record[key].items()}
        return Facts(**record)
    except FileNotFoundError:
        raise ConfigError(
            f"{run_dir} has no {NAME}, which a run writes before its first step. A run of an older version "
            "wrote none, and cannot be diagnosed."
        ) from None
    except OSError as error:
        raise ConfigError(f"{path}: not readable ({error.strerror}).") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path}: not the facts of a run ({error}).") from None


def read_evidence(run_dir: Path) -> Evidence:
    """All that the folder of a run tells, whether it is over or not. ConfigError where it is no run's, or too old."""
    config, facts = read_config(run_dir / "config.json", fill=True), read_facts(run_dir)
    path = run_dir / "metrics.jsonl"
    records = read_records(path) if path.exists() else []
    try:
        headline, splits = read_results(run_dir)["headline"], read_hypotheses(run_dir / "hypotheses.jsonl")
    except ResultsError:  # it is not over
        return Evidence(records, facts, config)
    step = int(records[-1]["step"]) if records else 0
    written = written_of(step, [(h.reference, h.hypothesis) for h in splits.get(headline, [])])
    return Evidence(records, facts, config, written, is_over=True)


def keep_facts(run_dir: Path, gather: Callable[[], Facts], *, is_new: bool) -> Facts:
    """The facts of a run that begins, which are gathered and written; of one that goes on, those that its folder has.

    What a checkpoint heard before training cannot be gathered again, and the plan is that of now.
    """
    facts = gather()
    if not is_new:
        with contextlib.suppress(ConfigError):
            before = read_facts(run_dir)
            facts = dataclasses.replace(facts, own_loss=before.own_loss, other_losses=before.other_losses)
    write_facts(run_dir, facts)
    return facts


def diagnose_folder(run_dir: Path) -> list[Finding]:
    """What is found in the run of this folder. ConfigError as in `read_evidence`."""
    return diagnose(read_evidence(run_dir))
