"""How much of a device's peak speed a run uses, for `train/mfu` of the log."""

from __future__ import annotations

from collections import Counter

from data.examples.table import lengths_of
from data.utterance import SAMPLE_RATE
from models.flops import forward_flops, training_flops
from trainer.device import device_model, peak_flops
from trainer.prepare.build import PreparedRun


def flops_share(run: PreparedRun) -> float | None:
    """The share of the device's peak that training at one second of audio per second takes; None for unknown peaks.

    It is the mean over the training split. Padding and recomputed activations are no useful work and do not count.
    """
    peak = peak_flops(device_model(run.parts.device), run.precision)
    if peak is None or not run.parts.model.trains_all_layers:  # a frozen layer needs no gradient of its weights
        return None
    hf, flops, num_samples = run.parts.model.hf.config, 0.0, 0
    for length, count in Counter(lengths_of(run.data.train).tolist()).items():
        of_utterance = training_flops(hf, length, frozen=run.parts.model.freeze_feature_encoder)
        if run.config.model.cache_features:  # the convolutions ran before training
            of_utterance -= forward_flops(hf, length)[0]
        flops, num_samples = flops + count * of_utterance, num_samples + count * length
    return flops / (num_samples / SAMPLE_RATE) / peak
