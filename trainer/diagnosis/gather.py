"""The facts of a run that is about to begin: its corpus' lengths and bands, its parts, what its checkpoint hears."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch

from data.audio.quality import measure_quality
from data.batches.collate import BatchDataset, Frontend
from data.examples.example import Example
from data.examples.table import audio_of, lengths_of, unit_counts, waits_for_network
from data.utterance import SAMPLE_RATE
from models.ctc import ctc_loss_per_utterance
from trainer.diagnosis.evidence import Facts
from trainer.diagnosis.rate import usual_lr
from trainer.errors import AudioError
from trainer.loop.gradients import part_of
from trainer.prepare.build import PreparedRun
from trainer.scoring.forward import batch_logits

IN_ORDER = 2000
"""Utterances whose lengths are compared, from the first on: neighbours in the corpus' order."""
SHIFTS = (0, 1, -1, 2, -2, 3, -3)
HEARD = 12
"""Recordings of a split whose band is measured."""
PROBED, PROBED_SECONDS = 12, 40.0
"""Training utterances that a checkpoint with a head is tried on before training, and their seconds at most."""


def facts_of(run: PreparedRun, *, probes: bool = True) -> Facts:
    """The facts of `run`. Without `probes` the checkpoint is not tried, since its weights are no longer its own."""
    config, model, train, report = run.config, run.parts.model, run.data.train, run.load_report
    counts = unit_counts(train)
    correlation, spread, rate = compare_lengths(*_lengths(train))
    trained: Counter[str] = Counter()
    frozen: Counter[str] = Counter()
    new = None if report is None else set(report.new)
    random = 0
    for name, parameter in model.hf.named_parameters():
        (trained if parameter.requires_grad else frozen)[part_of(name)] += parameter.numel()
        if not parameter.requires_grad and (new is None or name in new) and "masked_spec_embed" not in name:
            random += parameter.numel()
    has_own_head = run.data.own_tokenizer and new is not None and not any(n.startswith("lm_head") for n in new)
    dropped = ""
    pretrained = run.encoder.pretrained if run.encoder is not None else None
    if pretrained is not None and pretrained.has_head and pretrained.tokens and not run.data.own_tokenizer:
        dropped = (
            f"{pretrained.source} has a head of {len(pretrained.tokens)} units, and the run trains a new one of "
            f"{len(run.data.vocab)}."
        )
    own, others = None, dict[int, float]()
    if probes and has_own_head and not model.is_sharded and not waits_for_network(train):
        own, others = hear_neighbours(run)
    splits = {run.data.corpus.splits.train: train, run.monitor.split: run.monitor.examples}
    return Facts(
        total_steps=run.total_steps,
        steps_per_epoch=run.plan.num_steps(0),
        unigram_entropy=unigram_entropy(counts),
        usual_lr=usual_lr(config),
        precision=run.precision,
        num_utterances=len(train),
        units_per_second=rate,
        length_correlation=correlation,
        length_spread=spread,
        bands={split: band for split, of in splits.items() if (band := band_of(of)) is not None},
        trained=dict(trained),
        frozen=dict(frozen),
        frozen_random=random,
        is_pretrained=report is not None,
        has_own_head=has_own_head,
        dropped_head=dropped,
        unknown_share=counts[run.data.vocab.ids.get(run.data.vocab.unknown or "", -1)] / max(1, counts.total()),
        normalizes=run.do_normalize,
        wants_normalized=True if report is not None and model.is_batch_invariant else None,
        own_loss=own,
        other_losses=others,
    )


def unigram_entropy(counts: Counter[int]) -> float:
    """Entropy of the units' frequencies, in nats: about the loss of a model that ignores the audio.

    >>> round(unigram_entropy(Counter([0, 1, 2, 3])), 4)  # log(4)
    1.3863
    """
    total = sum(counts.values())
    return -sum(n / total * math.log(n / total) for n in counts.values() if n)


def compare_lengths(seconds: np.ndarray, units: np.ndarray) -> tuple[dict[int, float], float, float | None]:
    """(Shift k -> rank correlation of the seconds of i and the units of i + k; the smaller spread of the two, in log;
    median units a second), from float (n,) each, in the corpus' order."""
    if len(seconds) < 10:
        return {}, 0.0, None
    spread = float(min(np.log(seconds).std(), np.log(np.maximum(units, 1)).std()))
    a, b = _ranks(seconds), _ranks(units)
    found = {}
    for k in SHIFTS:
        x, y = (a[: len(a) - k], b[k:]) if k >= 0 else (a[-k:], b[:k])
        if x.std() > 0 and y.std() > 0:
            found[k] = round(float(np.corrcoef(x, y)[0, 1]), 4)
    return found, spread, float(np.median(units / seconds))


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 0, equal values sharing their mean."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts + 1) / 2)[inverse]


def _lengths(examples: Sequence[Example]) -> tuple[np.ndarray, np.ndarray]:
    """Seconds and units of the first utterances."""
    n = min(IN_ORDER, len(examples))
    units = np.array([len(examples[i].targets) for i in range(n)], float)
    seconds = lengths_of(examples)[:n] / SAMPLE_RATE
    return seconds[units > 0], units[units > 0]


def band_of(examples: Sequence[Example]) -> float | None:
    """Median Hz above which a sample of the recordings is empty; None where few can be read, or their files' own rate
    holds less than 8 kHz."""
    if waits_for_network(examples) or not len(examples):
        return None
    bands = []
    for i in np.unique(np.linspace(0, len(examples) - 1, HEARD).astype(int)).tolist():
        try:
            if audio_of(examples, i).header.rate >= SAMPLE_RATE and examples[i].num_samples:
                bands.append(measure_quality(examples[i].load()[: 30 * SAMPLE_RATE]).band)
        except AudioError:
            continue
    return statistics.median(bands) if len(bands) >= HEARD // 2 else None


@torch.inference_mode()
def hear_neighbours(run: PreparedRun) -> tuple[float | None, dict[int, float]]:
    """(Nats per unit of some neighbouring training utterances against their own transcripts; shift k -> against those k
    places further on), by the model as it is. (None, {}) where too few fit."""
    parts, data, model = run.parts, run.data.train, run.parts.model
    lengths = lengths_of(data)[:PROBED]
    n = int((np.cumsum(lengths) <= PROBED_SECONDS * SAMPLE_RATE).sum())
    if n < 6:
        return None, {}
    targets = [data[i].targets for i in range(n)]
    width = max(map(len, targets))
    padded = torch.zeros(n, width, dtype=torch.int64)
    for row, target in zip(padded, targets, strict=True):
        row[: len(target)] = torch.tensor(target)
    target_lengths = torch.tensor([len(t) for t in targets])
    dataset = BatchDataset(data, Frontend(model.num_frames, run.do_normalize))
    losses = np.full((n, n), np.nan)
    was_training = model.training
    model.eval()
    try:
        for i in range(n):
            _, logits = batch_logits(model, dataset[0, [i]], parts.device, parts.autocast)
            frames = torch.full((n,), logits.shape[1])
            losses[i] = ctc_loss_per_utterance(
                logits.float().cpu().expand(n, -1, -1), frames, padded, target_lengths, blank_id=model.blank_id
            ).numpy()
    finally:
        model.train(was_training)
    losses[~np.isfinite(losses)] = np.nan
    found = {}
    for k in SHIFTS:
        diagonal = np.diagonal(losses, k)
        known = diagonal[~np.isnan(diagonal)]
        if len(known) >= max(3, n // 2):
            found[k] = float(np.median(known))
    own = found.pop(0, None)
    return own, found if own is not None else {}
