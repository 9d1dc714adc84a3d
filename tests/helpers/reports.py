"""Reports of runs that never ran: tones are heard by a recogniser of tones, so words and their times are known."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from data.examples.prepare import Example
from data.utterance import SAMPLE_RATE, Utterance
from tests.helpers.tones import VOCAB, ToneModel
from trainer.report.media_choice import MediaSource
from trainer.rundir.results import write_hypotheses
from trainer.scoring.metrics import count_character_errors, count_word_errors
from trainer.scoring.scores import Hypothesis, Scores


@dataclass(frozen=True)
class Spoken:
    """One utterance: what is said in tones, what the transcripts' file says was said, and what was written."""

    id: str
    waveform: np.ndarray
    reference: str
    hypothesis: str
    speaker: str | None = None


class HearingModel(ToneModel):
    """A ToneModel with what a report asks of a model besides."""

    training = False
    blank_id = VOCAB.blank_id

    def eval(self) -> None: ...

    def train(self, mode: bool) -> None: ...

    def read(self, waveforms: torch.Tensor) -> torch.Tensor:
        return 0.2 * super().read(waveforms)  # softer posteriors: sure, but not all 1.00


def hypothesis(spoken: Spoken, **known: Any) -> Hypothesis:
    words = count_word_errors(spoken.reference, spoken.hypothesis)
    characters = count_character_errors(spoken.reference, spoken.hypothesis)
    seconds = len(spoken.waveform) / SAMPLE_RATE
    return Hypothesis(
        spoken.id, spoken.reference, spoken.hypothesis, words, characters, 0.5, seconds, spoken.speaker, **known
    )


def write_run(run_dir: Path, spoken: Sequence[Spoken], **results: Any) -> MediaSource:
    """The files of a run that a report reads, and the source of its audio."""
    run_dir.mkdir(parents=True, exist_ok=True)
    scores = Scores("eval", tuple(map(hypothesis, spoken)), 1.0, 1.0, {})
    write_hypotheses(run_dir / "hypotheses.jsonl", [scores])
    (run_dir / "results.json").write_text(
        json.dumps({"headline": "eval", "num_parameters": 1000, "device": "cpu", **results})
    )
    examples = [_example(i, s) for i, s in enumerate(spoken)]
    eval_set = SimpleNamespace(examples=examples, vocab=VOCAB, frontend=SimpleNamespace(do_normalize=False))
    return MediaSource(HearingModel(), {"eval": eval_set}, torch.device("cpu"))  # type: ignore[arg-type, dict-item]


def _example(number: int, spoken: Spoken) -> Example:
    n = len(spoken.waveform)
    audio = SimpleNamespace(name=spoken.id, identity=f"spoken-{number}", num_samples=n)
    utterance = Utterance(spoken.id, audio, spoken.reference, spoken.speaker)  # type: ignore[arg-type]
    return Example(utterance, spoken.reference, (), n, lambda: spoken.waveform)
