"""A run whose training data is looked into: its corpus as it was trained on, and its weights of two times.

A model that was trained long enough writes a wrong transcript as it was told to. So a checkpoint from early in training
is preferred: one that was good already and had not learnt the wrong transcripts by heart.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from data.examples.example import Example
from data.examples.table import ids_of
from models.checkpoints.pretrained import read_encoder
from models.checkpoints.weights import refuse_new_head
from models.config import ModelConfig
from trainer.cli.command_line import with_options
from trainer.cli.console import Console
from trainer.config.as_json import read_config
from trainer.config.schema import Config
from trainer.config.validate import resolve, validate
from trainer.device import choose_device
from trainer.doctor.suspect import Suspect
from trainer.errors import ConfigError
from trainer.prepare.build import read_inputs
from trainer.prepare.corpus import PreparedCorpus
from trainer.prepare.identity import corpus_digest
from trainer.prepare.pieces import build_eval_sets, build_model
from trainer.recognize.transcribe import LoadedModel
from trainer.rundir.model_source import find_model, step_of
from trainer.rundir.reading import checkpoints, read_records
from trainer.scoring.evaluate import EvalSet
from trainer.scoring.metrics import UNITS

GOOD_ENOUGH = 0.5
"""An earlier checkpoint is used if its error rate at evaluation was at most this."""
EARLY = 0.75
"""A checkpoint is an earlier one up to this share of the run's steps."""


@dataclass(frozen=True)
class Weights:
    """A checkpoint of the run, or the model that it exports."""

    source: str
    """A folder that trainer.rundir.model_source knows."""
    step: int | None
    """None: those that the run exports."""

    @property
    def said(self) -> str:
        """What they are called in a sentence."""
        return "the run's model" if self.step is None else f"the checkpoint of step {self.step}"


@dataclass(frozen=True)
class OpenedRun:
    """A run and what it was trained on."""

    run_dir: Path
    config: Config
    data: PreparedCorpus
    weights: tuple[Weights, ...]
    """The earliest first; the run's own model is the last."""
    device: torch.device
    split: str
    """The split that is looked into."""
    notes: tuple[str, ...]
    """What the user should know of it, a sentence each."""

    @property
    def is_training(self) -> bool:
        """Whether the run was trained on this split."""
        return self.split == self.data.corpus.splits.train

    @property
    def examples(self) -> Sequence[Example]:
        """Its utterances."""
        return self.data.train if self.is_training else self.data.evaluation[self.split]

    def load_suspect(self, suspect: Suspect) -> np.ndarray:
        """The waveform of a suspect, float32 (num_samples,); AudioError where it cannot be read."""
        return self.examples[self._positions[suspect.id]].load()

    @functools.cached_property
    def _positions(self) -> dict[str, int]:
        return {utterance: position for position, utterance in enumerate(ids_of(self.examples))}

    def load(self, weights: Weights) -> tuple[LoadedModel, EvalSet]:
        """The model with `weights`, and the split as evaluation scores one.

        ConfigError where the corpus is not read in the units of these weights.
        """
        config = replace(self.config, model=ModelConfig(pretrained=weights.source, freeze_feature_encoder=True))
        encoder = read_encoder(config.model)
        pretrained = encoder.pretrained
        if pretrained is None or list(pretrained.tokens or ()) != list(self.data.vocab.tokens):
            raise ConfigError(f"{weights.source}: its units are not those of the run's model.")
        model, report = build_model(config, encoder, self.data, self.device)
        if report is not None:
            refuse_new_head(weights.source, report)
        one_split = replace(self.data, evaluation={self.split: self.examples})
        sets = build_eval_sets(config, one_split, model, config.batching.num_workers or 0, encoder.do_normalize)
        loaded = LoadedModel(model.eval(), self.data.vocab, encoder.do_normalize, self.device, weights.source)
        return loaded, sets[self.split]


def open_run(run_dir: Path, words: Sequence[str], console: Console, split: str = "train") -> OpenedRun:
    """The run in `run_dir`, with the options `words` of training's command line in place of its own.

    `split`: train, whatever the corpus calls it, or one that the run scored. ConfigError, ModelError or CorpusError
    where there is no run, no model, no such split, or not its corpus.
    """
    if not (run_dir / "config.json").is_file():
        raise ConfigError(f"{run_dir} holds no run: it has no config.json.")
    config = with_options(read_config(run_dir / "config.json", lenient=True), words)
    weights = choose_weights(run_dir, console)
    corpus = replace(config.corpus, vocabulary="own")
    config = replace(
        config, corpus=corpus, model=ModelConfig(pretrained=weights[-1].source, freeze_feature_encoder=True),
        resume=False, overwrite=False, parallel="auto",
    )  # fmt: skip
    config = resolve(validate(config, training=False))
    if missing := [what for what, given in config.corpus.required(True) if not given]:
        raise ConfigError(f"{run_dir}: its config.json names no training data: it lacks {'; '.join(missing)}.")
    config, _, data = read_inputs(config, console)
    own = data.corpus.splits.train
    if split not in ("train", own, *data.evaluation):
        raise ConfigError(f"--split {split}: this run has {', '.join(['train', *data.evaluation])}.")
    split = own if split == "train" else split
    notes = [*_changes(run_dir, data.train), *_judged(run_dir)]
    return OpenedRun(run_dir, config, data, weights, choose_device(config.device), split, tuple(notes))


def _judged(run_dir: Path) -> list[str]:
    """Whether the model is too bad to judge transcripts, by its last evaluation."""
    rates = _error_rates(run_dir)
    last = rates[max(rates)] if rates else 0.0
    if last <= GOOD_ENOUGH:
        return []
    return [
        f"The last evaluation's error rate is {100 * last:.0f} %. A model that makes so many errors hardly tells wrong "
        "transcripts from right ones: where none is named here, that means little. Why it did not learn: "
        f"python -m scripts.diagnose {run_dir}"
    ]


def choose_weights(run_dir: Path, console: Console) -> tuple[Weights, ...]:
    """The run's model, and before it the earliest checkpoint that was good already, if there is one."""
    own = Weights(find_model(str(run_dir), console.say), None)
    kept = checkpoints(run_dir)
    if not kept:
        return (own,)
    last = max(step for step, _ in kept)
    folders = dict(kept)
    best = run_dir / "checkpoints" / "best"
    if best.is_dir():
        folders.setdefault(step_of(best), best)
    rates = _error_rates(run_dir)
    early = [
        step for step in sorted(folders) if step <= EARLY * last and _rate_at(rates, step) <= GOOD_ENOUGH
    ]  # fmt: skip
    if not early:
        return (own,)
    return (Weights(find_model(str(folders[early[0]]), console.say), early[0]), own)


def _error_rates(run_dir: Path) -> dict[int, float]:
    """{step: the main error rate} of every evaluation, whatever units the run has."""
    path = run_dir / "metrics.jsonl"
    found = read_records(path) if path.exists() else []
    keys = [f"eval/{units.main}" for units in UNITS.values()]
    return {r["step"]: r[key] for r in found for key in keys if r.get(key) is not None}


def _rate_at(rates: dict[int, float], step: int) -> float:
    """The error rate of the last evaluation up to `step`; infinite where there was none."""
    before = [at for at in rates if at <= step]
    return rates[max(before)] if before else float("inf")


def _changes(run_dir: Path, train: Sequence[Example]) -> list[str]:
    """Whether the corpus is still the one that the finished run was trained on."""
    try:
        then = json.loads((run_dir / "results.json").read_text(encoding="utf-8")).get("training_data")
    except (OSError, ValueError, AttributeError):
        return ["The run is not over: what is said here is of its weights and losses so far."]
    if then is not None and then != corpus_digest(train):
        return ["The corpus is not the one that the run was trained on: its text or audio has changed since."]
    return []
