"""From a Config to the parts that are trained (trainer.prepare.build), on a small model and a small corpus."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from data.batches.collate import BatchDataset, Frontend
from data.examples.prepare import Example
from models.feature_table import FeatureTable
from models.layers.frontend import extract_features
from tests.helpers.resumed import options
from trainer.cli.console import Console
from trainer.cli.parse import parse
from trainer.config.validate import resolve, validate
from trainer.prepare.build import PreparedRun, prepare, use_features

CPU = torch.device("cpu")


@pytest.fixture
def prepared(run_inputs: Path, tmp_path: Path) -> Callable[..., PreparedRun]:
    """prepared("--option", "value") -> the run that a command line with these options would start."""

    def build(*more: str) -> PreparedRun:
        return prepare(resolve(validate(parse(options(tmp_path, run_inputs, *more)))), Console(io.StringIO()))

    return build


def assert_rows_are_of(table: FeatureTable, examples: list[Example], run: PreparedRun) -> None:
    """Each utterance's rows in the table are what the feature encoder gives for its audio alone."""
    model, frontend = run.parts.model, Frontend(run.parts.model.num_frames, run.loader.dataset.frontend.do_normalize)
    assert len(table.first_rows) == len(examples)
    for i, example in enumerate(examples):
        batch = BatchDataset(examples, frontend)[0, (i,)]
        with torch.inference_mode():
            expected = extract_features(model.base.feature_extractor, batch.waveforms)[0]
        rows = torch.arange(table.first_rows[i], table.first_rows[i] + len(expected))
        assert torch.equal(table.gather(rows[None], CPU)[0], expected), example.utterance.id


def test_training_and_evaluation_read_each_its_own_rows_of_the_feature_table(
    prepared: Callable[..., PreparedRun],
) -> None:
    """Reference: the feature encoder on each utterance alone; no two of the corpus sound alike."""
    run = prepared("--model.freeze-feature-encoder", "--augment.speeds")
    use_features(run, Console(io.StringIO()))
    assert run.parts.features is not None
    assert run.monitor.features is not None
    assert_rows_are_of(run.parts.features, run.data.train, run)
    assert_rows_are_of(run.monitor.features, run.data.evaluation["eval"], run)
    assert run.loader.dataset.frontend.first_rows == run.parts.features.first_rows


def test_the_time_that_a_worker_is_waited_for_reaches_every_loader(prepared: Callable[..., PreparedRun]) -> None:
    run = prepared("--batching.worker-timeout", "7")
    assert run.loader.timeout_seconds == 7
    assert [split.worker_timeout for split in run.eval_sets.values()] == [7]


def test_a_run_masks_and_drops_out_as_its_options_say(prepared: Callable[..., PreparedRun]) -> None:
    """Masks in training alone, where the model's configuration asks for them."""
    run = prepared("--model.mask-time-prob", "0.3", "--model.mask-time-length", "3", "--model.hidden-dropout", "0.25")
    spec = run.loader.dataset.frontend.specaugment
    assert spec is not None
    assert (spec.time_prob, spec.time_length) == (0.3, 3)
    assert run.parts.model.hf.config.hidden_dropout == 0.25
    assert run.monitor.frontend.specaugment is None
    (_, batches, _), *_ = run.loader.steps(0, 0)
    assert all(batch.time_mask is not None and batch.time_mask.any() for batch in batches)
    assert prepared().parts.model.hf.config.hidden_dropout == 0.2


def test_the_schedule_ends_where_the_plan_does(prepared: Callable[..., PreparedRun]) -> None:
    """The rate of the last step but one is the last above zero."""
    run = prepared("--train.max-steps", "6")
    assert run.total_steps == 6
    (factor, _) = run.parts.scheduler.lr_lambdas
    assert [round(factor(step), 6) for step in range(7)] == [0, 0.5, 1, 0.75, 0.5, 0.25, 0]
