"""Score a model on a split: batches in, hypotheses and pooled error counts out. Every utterance is scored.

Transcripts equal those of one utterance at a time: layer-norm encoders because padding cannot reach a real
frame, group-norm encoders because only equal lengths share a batch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from data.batching import evaluation_batches
from data.collate import Batch, BatchDataset, Frontend, load_batches
from data.prepare import Example
from data.text import collapse_spaces
from data.utterance import SAMPLE_RATE
from data.vocab import Vocab
from models.ctc import CTCModel, ctc_loss_per_utterance
from trainer.config import EvalConfig
from trainer.decode import collapse
from trainer.metrics import EditCounts, count_character_errors, count_word_errors, pool


@dataclass(frozen=True)
class Hypothesis:
    """What the model wrote for one utterance."""

    id: str
    reference: str
    hypothesis: str
    words: EditCounts
    characters: EditCounts
    loss: float
    """Nats per unit; infinite where CTC cannot write the reference, or nothing could be decoded."""
    seconds: float | None = None
    speaker: str | None = None
    sex: str | None = None
    dialect: str | None = None
    """These four None where the corpus does not know."""
    failure: str = ""
    """Why there was no audio to decode."""


@dataclass(frozen=True)
class Scores:
    """One evaluation of one split, utterances in corpus order."""

    split: str
    hypotheses: tuple[Hypothesis, ...]
    seconds: float
    num_audio_seconds: float
    failures: dict[str, str]
    """Utterances whose audio could not be decoded, scored as deletions."""

    @property
    def words(self) -> EditCounts:
        return pool(h.words for h in self.hypotheses)

    @property
    def characters(self) -> EditCounts:
        return pool(h.characters for h in self.hypotheses)

    @property
    def num_infinite(self) -> int:
        """Utterances that `loss` leaves out."""
        return sum(h.loss == float("inf") for h in self.hypotheses)

    @property
    def loss(self) -> float:
        """Mean of the finite losses."""
        finite = [h.loss for h in self.hypotheses if h.loss != float("inf")]
        return sum(finite) / len(finite) if finite else float("nan")


@dataclass(frozen=True)
class EvalSet:
    """A split ready to be scored, as often as needed."""

    split: str
    examples: Sequence[Example]
    frontend: Frontend
    vocab: Vocab
    config: EvalConfig
    num_workers: int
    worker_timeout: float = 600.0


@torch.inference_mode()
def evaluate(
    model: CTCModel,
    eval_set: EvalSet,
    device: torch.device,
    autocast: Callable[[], AbstractContextManager],
    progress: Callable = lambda batches, total: batches,
) -> Scores:
    """Scores of `model` on every utterance of `eval_set`; the model's mode is restored."""
    start, was_training = time.perf_counter(), model.training
    examples = eval_set.examples
    texts, losses = [""] * len(examples), [float("inf")] * len(examples)
    failures = {e.utterance.id: "no audio could be decoded" for e in examples if e.num_samples == 0}
    plan = _plan(model, eval_set)
    model.eval()
    try:
        for batch in progress(_load(eval_set, plan, device), total=len(plan)):
            written = _transcribe(model, batch, eval_set.vocab, device, autocast)
            for i, utterance_id, (text, loss) in zip(batch.positions, batch.ids, written, strict=True):
                if utterance_id not in batch.failures:
                    texts[i], losses[i] = text, loss
            failures |= batch.failures
    finally:
        model.train(was_training)
    hypotheses = tuple(
        _score(example, text, loss, failures.get(example.utterance.id, ""))
        for example, text, loss in zip(examples, texts, losses, strict=True)
    )
    num_audio_seconds = sum(example.num_samples for example in examples) / SAMPLE_RATE
    return Scores(eval_set.split, hypotheses, time.perf_counter() - start, num_audio_seconds, failures)


def _transcribe(
    model: CTCModel, batch: Batch, vocab: Vocab, device: torch.device, autocast: Callable[[], AbstractContextManager]
) -> list[tuple[str, float]]:
    """(Text, nats per unit) of each utterance of `batch`."""
    b = batch.to(device)
    with autocast():
        logits = model(b.waveforms, b.frame_lengths, is_padded=b.is_padded)
    nats = ctc_loss_per_utterance(logits, b.frame_lengths, b.targets, b.target_lengths, blank_id=vocab.blank_id)
    frame_ids = logits.argmax(-1).cpu().numpy()
    units = (collapse(row[:n], vocab.blank_id) for row, n in zip(frame_ids, batch.frame_lengths.tolist(), strict=True))
    texts = (collapse_spaces(vocab.decode(ids.tolist())) for ids in units)
    return list(zip(texts, nats.tolist(), strict=True))


def _plan(model: CTCModel, eval_set: EvalSet) -> list[list[int]]:
    """Batches of positions, without the utterances that give no frame: their hypothesis stays empty."""
    lengths = [example.num_samples for example in eval_set.examples]
    with_frames = [i for i, n in enumerate(lengths) if model.num_frames(n) > 0]
    batches = evaluation_batches(
        [lengths[i] for i in with_frames],
        batch_size=eval_set.config.batch_size,
        max_batch_seconds=eval_set.config.max_batch_seconds,
        equal_lengths=not model.is_batch_invariant,
    )
    return [[with_frames[k] for k in batch] for batch in batches]


def _load(eval_set: EvalSet, plan: list[list[int]], device: torch.device) -> Iterator[Batch]:
    return load_batches(
        BatchDataset(eval_set.examples, eval_set.frontend),
        lambda: ((0, positions) for positions in plan),
        num_workers=eval_set.num_workers,
        pin_memory=device.type == "cuda",
        timeout_seconds=eval_set.worker_timeout,
    )


def _score(example: Example, text: str, loss: float, failure: str) -> Hypothesis:
    reference, utterance = collapse_spaces(example.text), example.utterance
    return Hypothesis(
        id=utterance.id,
        reference=reference,
        hypothesis=text,
        words=count_word_errors(reference, text),
        characters=count_character_errors(reference, text),
        loss=loss,
        seconds=example.num_samples / SAMPLE_RATE,
        speaker=utterance.speaker,
        sex=utterance.sex,
        dialect=utterance.dialect,
        failure=failure,
    )
