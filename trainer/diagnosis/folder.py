"""Facts in a run's folder, and what a run of any age is judged by: its options, records, results and texts."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from data import strict_json
from trainer.config.as_json import read_config
from trainer.config.schema import Config
from trainer.diagnosis.evidence import Evidence, Facts, Record
from trainer.diagnosis.rate import usual_lr
from trainer.diagnosis.written import written_of
from trainer.errors import ConfigError, ResultsError
from trainer.rundir.disk import write_text
from trainer.rundir.reading import read_records
from trainer.rundir.results import read_hypotheses, read_results

NAME = "facts.json"
NEED_FACTS = (
    "audio at the wrong rate", "vocabulary at odds with the checkpoint", "normalisation at odds with the checkpoint",
    "frozen parts", "warm-up too long", "learning rate too low", "too few steps", "flat loss",
)  # fmt: skip
"""Causes that are not looked for in a run without a file of facts. Of transcripts beside their audio, which has several
signs, the evaluation's alone is."""
BY_SHIFT = ("length_correlation", "other_losses")


def write_facts(run_dir: Path, facts: Facts) -> None:
    """Write runs/NAME/facts.json."""
    write_text(run_dir / NAME, strict_json.dumps(dataclasses.asdict(facts), indent=2) + "\n")


def read_facts(run_dir: Path) -> Facts:
    """The facts of a run; ConfigError where there are none, or they are damaged."""
    path = run_dir / NAME
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        for key in BY_SHIFT:
            record[key] = {int(shift): value for shift, value in record[key].items()}
        return Facts(**record)
    except FileNotFoundError:
        raise ConfigError(f"{run_dir} has no {NAME}. Runs of older versions wrote none.") from None
    except OSError as error:
        raise ConfigError(f"{path}: not readable ({error.strerror}).") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path}: not the facts of a run ({error}).") from None


def read_evidence(run_dir: Path) -> Evidence:
    """All that the folder of a run tells, whether it is over or not. ConfigError where it is no run's."""
    config, path = read_config(run_dir / "config.json", lenient=True), run_dir / "metrics.jsonl"
    records = read_records(path) if path.exists() else []
    facts = read_facts(run_dir) if has_facts(run_dir) else facts_of_records(config, records)
    try:
        results, splits = read_results(run_dir), read_hypotheses(run_dir / "hypotheses.jsonl")
    except ResultsError:  # it is not over
        return Evidence(records, facts, config)
    if not has_facts(run_dir):
        precision = results.get("precision", facts.precision)
        facts = dataclasses.replace(facts, total_steps=results.get("steps", facts.total_steps), precision=precision)
    step = int(records[-1]["step"]) if records else 0
    written = written_of(step, [(h.reference, h.hypothesis) for h in splits.get(results["headline"], [])])
    return Evidence(records, facts, config, written, is_over=True)


def has_facts(run_dir: Path) -> bool:
    """Whether this run has written its facts: those of older versions have not."""
    return (run_dir / NAME).exists()


def facts_of_records(config: Config, records: Sequence[Record]) -> Facts:
    """What options and records tell of a run without a file of facts: its plan. Of its corpus and weights nothing is
    known. ConfigError where no record says how long an epoch is."""
    lasts = [(r["step"], r["epoch"]) for r in records if r.get("epoch")]
    if not lasts:
        raise ConfigError(f"{config.run_dir}: it has neither {NAME} nor records, so nothing of it can be judged.")
    step, epoch = lasts[-1]
    steps_per_epoch = max(1, round(step / epoch))
    planned = config.train.epochs * steps_per_epoch
    return Facts(
        total_steps=min(planned, config.train.max_steps or planned),
        steps_per_epoch=steps_per_epoch,
        unigram_entropy=math.nan,
        usual_lr=usual_lr(config),
        precision=config.precision,
    )


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
