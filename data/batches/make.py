"""A batch from waveforms and targets that a program already has, for a loop of its own (docs/use-from-python.md)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from data.audio.decode import at_16_khz
from data.audio.sampled import SampledAudio, digest_of, to_mono
from data.batches.collate import Batch, BatchDataset, Frontend
from data.batches.plan import BatchPlan
from data.batches.specaugment import SpecAugment
from data.config import BatchingConfig
from data.examples.prepare import Example, frames_needed
from data.utterance import SAMPLE_RATE, AudioHeader, Utterance
from trainer.errors import CorpusError


def make_batch(
    waveforms: Sequence[Any],
    targets: Sequence[Sequence[int]],
    num_frames: Callable[[int], int],
    *,
    ids: Sequence[str] | None = None,
    rate: int = SAMPLE_RATE,
    do_normalize: bool = True,
    specaugment: SpecAugment | None = None,
    seed: int = 0,
) -> Batch:
    """The batch of B utterances that a training step or an evaluation takes, on the CPU.

    waveforms: B tensors or arrays of samples, (n,) or (channels, n), at `rate` per second; full scale is 1, or the
    integer type's. targets: B sequences of unit ids, as Vocab.encoder gives them. num_frames: encoder frames for a
    number of samples, CTCModel.num_frames. ids: names for messages, and for the masks; "0", "1", ... if missing.
    do_normalize: whether each waveform gets zero mean and unit variance, as the model's feature extractor says.
    specaugment: masks, which follow from `seed` and the ids: give another seed in every step.

    AudioError where a waveform holds no sound. CorpusError where the numbers differ, or where an utterance has fewer
    frames than CTC needs for its targets, since its loss would be infinite.
    """
    names = [str(i) for i in range(len(waveforms))] if ids is None else list(ids)
    if not (len(waveforms) == len(targets) == len(names) > 0):
        raise CorpusError(
            f"a batch of {len(waveforms)} waveforms, {len(targets)} targets and {len(names)} ids: give one of each for "
            "every utterance, and at least one utterance."
        )
    examples = []
    for name, waveform, units in zip(names, waveforms, targets, strict=True):
        mono = to_mono(waveform, name)
        samples = at_16_khz(mono, name, AudioHeader(rate, 1, len(mono), is_pcm16=False))
        units = tuple(int(unit) for unit in units)
        frames, needed = num_frames(len(samples)), max(1, frames_needed(units))
        if frames < needed:
            raise CorpusError(
                f"{name}: its {len(samples)} samples are {frames} frames; CTC needs {needed} for {len(units)} units."
            )
        audio = SampledAudio(name, partial(np.copy, samples), len(samples), digest_of(samples))
        examples.append(Example(Utterance(name, audio, ""), "", units, len(samples), audio.load))
    plan = None
    if specaugment is not None:
        lengths = [example.num_samples for example in examples]
        plan = BatchPlan(lengths=lengths, ids=names, batching=BatchingConfig(), seed=seed, epochs=1)
    return BatchDataset(examples, Frontend(num_frames, do_normalize, specaugment), plan)[0, range(len(examples))]
