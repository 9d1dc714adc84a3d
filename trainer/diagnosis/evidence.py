"""What a diagnosis is made from: the run's records, its options, facts of its corpus and model, what it has written.

Everything here can be read from a run's folder, so that a finished or stopped run is judged as one that goes on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from trainer.config.schema import Config
from trainer.scoring.metrics import UNITS

Record = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known before the first step; runs/NAME/facts.json. None or empty: not known, and a cause that needs it
    finds nothing."""

    total_steps: int
    steps_per_epoch: int
    unigram_entropy: float
    """Nats: about the loss of a model that knows the units' frequencies and does not hear. NaN: not known."""
    usual_lr: float | None = None
    """The peak rate that presets choose for such weights."""
    precision: str = "fp32"
    num_utterances: int = 0
    units_per_second: float | None = None
    """Median over training utterances."""
    length_correlation: dict[int, float] = field(default_factory=dict)
    """Shift k -> rank correlation between seconds of utterance i and units of utterance i + k, in the corpus' order."""
    length_spread: float = 0.0
    """The smaller of the two standard deviations of log seconds and log units."""
    bands: dict[str, float] = field(default_factory=dict)
    """Split -> median Hz above which a sample of its recordings is empty, of files whose rate holds 8 kHz."""
    trained: dict[str, int] = field(default_factory=dict)
    """Part of the model -> parameters that are trained."""
    frozen: dict[str, int] = field(default_factory=dict)
    """Part of the model -> parameters that stay as they are."""
    frozen_random: int = 0
    """Parameters that were drawn at random and stay as they are."""
    is_pretrained: bool = False
    has_own_head: bool = False
    """Whether the checkpoint's own head and units are used."""
    dropped_head: str = ""
    """Why the checkpoint's head is not used, where it has one."""
    unknown_share: float = 0.0
    """Of the training transcripts' units: those without a unit of their own in the vocabulary."""
    normalizes: bool = True
    """Whether waveforms are brought to mean 0 and variance 1."""
    wants_normalized: bool | None = None
    """Whether encoders of this kind were trained on such waveforms: with layer norm in the feature encoder they were.
    None: both occur."""
    own_loss: float | None = None
    """Nats per unit before training, of training utterances against their own transcripts; with has_own_head alone."""
    other_losses: dict[int, float] = field(default_factory=dict)
    """Shift k -> the same against the transcript k places further on."""


@dataclass(frozen=True)
class Written:
    """What the model wrote for a sample of evaluated utterances."""

    step: int
    num_characters: int
    top_unit: str
    """The character that it wrote most often."""
    top_share: float
    """Of the characters that it wrote."""
    top_reference_share: float
    """Of the same character, of those of the references."""
    own_rate: float
    """Character errors against the own references, over their length."""
    shifted_rate: float
    """The same against the references `shift` places further on: the best of several shifts."""
    shift: int
    num_utterances: int


@dataclass(frozen=True)
class Curve:
    """Logged training, one value a log: arrays of one length, NaN where nothing was logged."""

    step: np.ndarray
    loss: np.ndarray
    lr: np.ndarray
    norm: np.ndarray
    blank: np.ndarray
    scale: np.ndarray
    skipped: np.ndarray

    @cached_property
    def smooth(self) -> np.ndarray:
        """The loss, each the median of up to five logs that end there (of an even number the lower one): one wild log
        is no trend."""
        if not len(self.loss):
            return self.loss
        padded = np.concatenate([np.full(4, np.nan), self.loss])
        windows = np.sort(np.lib.stride_tricks.sliding_window_view(padded, 5), axis=1)  # NaN stands last
        known = 5 - np.isnan(windows).sum(1)
        return windows[np.arange(len(windows)), np.maximum(known - 1, 0) // 2]


@dataclass(frozen=True)
class Evaluations:
    """Evaluations during training, one value each."""

    step: np.ndarray
    loss: np.ndarray
    rate: np.ndarray
    """WER or PER."""
    blank: np.ndarray
    epoch: np.ndarray
    label: str = "WER"


@dataclass(frozen=True)
class Evidence:
    """All that a cause may look at."""

    records: Sequence[Record]
    facts: Facts
    config: Config
    written: Written | None = None
    is_over: bool = False
    """Whether the plan has come to its end."""

    @property
    def step(self) -> int:
        """Of the latest record; 0 before any."""
        return int(self.records[-1]["step"]) if self.records else 0

    @cached_property
    def train(self) -> Curve:
        """Training as it was logged."""
        logs = [r for r in self.records if "train/loss" in r]

        def column(key: str, missing: float = math.nan) -> np.ndarray:
            return np.array([_number(r.get(key), missing) for r in logs], float)

        norm = np.array([math.inf if r.get("train/grad_norm", 0) is None else _number(r.get("train/grad_norm"))
                         for r in logs], float)  # JSON has no infinity: null  # fmt: skip
        return Curve(
            column("step"), column("train/loss"), column("train/lr"), norm, column("train/blank_share"),
            column("train/grad_scale"), column("train/num_skipped"),
        )  # fmt: skip

    @cached_property
    def evals(self) -> Evaluations:
        """Evaluations as they were logged."""
        units = [u for u in UNITS.values() if any(f"eval/{u.main}" in r for r in self.records[-1000:])]
        main, label = (units[0].main, units[0].label) if units else ("wer", "WER")
        found = [r for r in self.records if f"eval/{main}" in r]

        def column(key: str) -> np.ndarray:
            return np.array([_number(r.get(key)) for r in found], float)

        return Evaluations(
            column("step"), column("eval/loss"), column(f"eval/{main}"), column("eval/blank_share"), column("epoch"),
            label,
        )  # fmt: skip

    @property
    def patience(self) -> int:
        """Steps after which something should have been learnt: a fifth of the plan, at least 300 and at most 1000.

        The reference run, of 2900 steps, writes only blanks at step 200 and has a WER of 72 % at step 300.
        """
        return max(300, min(1000, self.facts.total_steps // 5))


def _number(value: Any, missing: float = math.nan) -> float:
    return missing if value is None else float(value)
