"""The model card: the sections and the table of the reference card, filled from what the run knows.

Metadata goes through huggingface_hub's own classes, so that `model-index` reads back as it was written. The text of
the sections is in `trainer.card.text`, the tables are in `trainer.card.tables`, the hyper-parameters in
`trainer.card.hyperparameters`.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard

from models.checkpoints.weights import LoadReport
from trainer.card import tables, text
from trainer.card.confidence import confidence_sections
from trainer.card.hyperparameters import hyperparameters
from trainer.card.metadata import metadata_of
from trainer.config.schema import Config
from trainer.prepare.corpus import PreparedCorpus
from trainer.report.curves import draw_curves, to_png
from trainer.rundir.disk import write_bytes, write_text
from trainer.rundir.reading import read_records
from trainer.rundir.results import read_hypotheses
from trainer.scoring.metrics import METRICS, units_of


def write_card(
    run_dir: Path,
    config: Config,
    data: PreparedCorpus,
    results: dict[str, Any],
    load_report: LoadReport | None,
    argv: Sequence[str] | None,
) -> None:
    """Write model/README.md and its pictures. `results` is the content that results.json will have.

    metrics.jsonl, hypotheses.jsonl and model/config.json are read from the run's folder.
    """
    records = read_records(run_dir / "metrics.jsonl")
    hypotheses = read_hypotheses(run_dir / "hypotheses.jsonl")
    pictures = draw_curves(records)
    for name, figure in pictures.items():
        write_bytes(run_dir / "model" / f"curve_{name}.png", to_png(figure))
    headline, parameters = results["headline"], hyperparameters(config, results, _read_model_config(run_dir))
    metadata = metadata_of(config, config.name, units_of(results), _eval_results(data.corpus.title, results))
    sections = [
        f"---\n{metadata.to_yaml()}\n---",
        f"# {config.name}",
        text.summary(config, data, results),
        "## Model description",
        text.description(config, data, results, load_report),
        "### How to use",
        text.usage(config.name),
        "## Intended uses & limitations",
        text.limits(config, data),
        "## Training and evaluation data",
        text.describe_data(data),
        "## Training procedure",
        _command(argv),
        "\n".join(f"![{name} over training](curve_{name}.png)" for name in pictures),
        "### Training hyperparameters",
        f"<details><summary>All of them</summary>\n\n{parameters}\n\n</details>",
        "### Training results",
        tables.training_table(records),
        *tables.sample_sections(hypotheses.get(headline, []), headline, has_report=config.report),
        "### Results by split",
        tables.splits_table(results),
        *tables.group_sections(hypotheses.get(headline, []), headline),
        *tables.confusion_sections(hypotheses.get(headline, []), headline),
        *confidence_sections(run_dir / "model", results),
        "### Speed and memory",
        text.speed(results),
        "### Framework versions",
        text.framework_versions(),
    ]
    card = ModelCard("\n\n".join(section for section in sections if section) + "\n")
    write_text(run_dir / "model" / "README.md", card.content)


def _command(argv: Sequence[str] | None) -> str:
    """`argv` as it can be pasted; None: no command line began this run."""
    if argv is None:
        return "Trained by a Python program (`trainer.session.train`)."
    return f"Command:\n\n```\npython -m trainer.run {shlex.join(argv)}".rstrip() + "\n```"


def _eval_results(title: str, results: dict[str, Any]) -> list[EvalResult]:
    found = []
    for split, record in results["splits"].items():
        if record["weights"] != results["weights"]:
            continue  # these are not the weights in this folder
        for metric in METRICS:  # those of the run
            if record.get(metric) is not None:
                found.append(EvalResult(
                    task_type="automatic-speech-recognition", task_name="Speech Recognition", dataset_type="speech",
                    dataset_name=title, dataset_split=split, metric_type=metric, metric_name=metric.upper(),
                    metric_value=record[metric], dataset_config=record.get("protocol"),
                ))  # fmt: skip
    return found


def _read_model_config(run_dir: Path) -> dict[str, Any]:
    """The exported model's configuration. It has the dropouts and masks that were used, even if no option set them."""
    path = run_dir / "model" / "config.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
