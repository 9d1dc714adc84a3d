"""Very small encoders of all five families and both extractor norms: a forward takes milliseconds.

Kernels and strides are the real ones (320 samples a frame, receptive field 400), so that lengths are real; only
widths and depths are small. Every random draw comes from a seed.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor
from transformers import AutoConfig, AutoModelForCTC, PreTrainedConfig, PreTrainedModel

from data.batches.collate import Frontend
from data.examples.prepare import Example
from data.text.vocab import Vocab
from data.utterance import Utterance
from models.ctc import CTCModel
from trainer.config.schema import EvalConfig
from trainer.scoring.evaluate import EvalSet

FAMILIES = ("unispeech", "unispeech-sat", "wav2vec2", "hubert", "wavlm")
NORMS = ("layer", "group")
EVERY_VARIANT = pytest.mark.parametrize(
    ("family", "norm"), [(family, norm) for family in FAMILIES for norm in NORMS], ids=lambda value: value
)
EVERY_FAMILY = pytest.mark.parametrize("family", FAMILIES)

HIDDEN = 24
RECEPTIVE_FIELD = 400
VOCAB = Vocab(("|", *"abcdefgh", "[UNK]", "[PAD]"))
"""11 units; the blank is not id 0, so that a forgotten blank_id shows."""
NO_DROPOUT = dict(
    hidden_dropout=0.0, attention_dropout=0.0, activation_dropout=0.0, feat_proj_dropout=0.0, final_dropout=0.0,
    layerdrop=0.0,
)  # fmt: skip


def small_config(family: str = "unispeech", norm: str = "layer", **changes: Any) -> PreTrainedConfig:
    """A configuration of about 20,000 parameters. `norm` "layer" is built as the public large checkpoints are
    (a norm after every convolution, pre-norm layers), "group" as the base ones."""
    is_large = norm == "layer"
    options: dict[str, Any] = dict(
        hidden_size=HIDDEN,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        conv_dim=(8,) * 7,
        num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=2,
        feat_extract_norm=norm,
        do_stable_layer_norm=is_large,
        conv_bias=is_large,
        # wide enough that logits of random weights differ from frame to frame
        initializer_range=0.3,
        vocab_size=len(VOCAB),
        pad_token_id=VOCAB.blank_id,
        ctc_loss_reduction="mean",
        mask_time_prob=0.05,
        mask_time_length=2,
        mask_time_min_masks=0,
        mask_feature_prob=0.0,
        mask_feature_length=4,
        # pre-training classes need these, and they should be small as well
        num_codevectors_per_group=4,
        num_codevector_groups=2,
        codevector_dim=8,
        proj_codevector_dim=8,
        **NO_DROPOUT,
    )
    return AutoConfig.for_model(family, **{**options, **changes})


def small_hf_model(family: str = "unispeech", norm: str = "layer", *, seed: int = 0, **changes: Any) -> PreTrainedModel:
    """transformers' own *ForCTC with random weights, in evaluation mode."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return AutoModelForCTC.from_config(small_config(family, norm, **changes)).eval()


def small_model(
    family: str = "unispeech",
    norm: str = "layer",
    *,
    seed: int = 0,
    freeze_feature_encoder: bool = False,
    **changes: Any,
) -> CTCModel:
    """Our module around `small_hf_model`, in evaluation mode."""
    hf_model = small_hf_model(family, norm, seed=seed, **changes)
    return CTCModel(hf_model, freeze_feature_encoder=freeze_feature_encoder).eval()


@torch.no_grad()
def make_talkative(model: CTCModel, *, seed: int = 0) -> CTCModel:
    """The same model with a large random head, centred so that no unit is favoured: transcripts become long and
    varied, and an argmax changes where the encoder's output does."""
    generator = torch.Generator().manual_seed(seed)
    head = model.hf.lm_head
    head.weight.copy_(30.0 * torch.randn(head.weight.shape, generator=generator))
    probe = padded_batch(model, (8000, 8000, 8000), seed=1000)
    hidden: list[Tensor] = []
    hook = head.register_forward_pre_hook(lambda module, inputs: hidden.append(inputs[0]))
    model(probe.waveforms, probe.frame_lengths, is_padded=False)
    hook.remove()
    head.bias.copy_(-head.weight @ hidden[0].mean((0, 1)))
    return model


def noise(num_samples: int, seed: int = 0) -> np.ndarray:
    """float32 (num_samples,): noise whose loudness and colour wander, so that frames differ."""
    rng = np.random.default_rng(seed)
    white = rng.standard_normal(num_samples + 64)
    num_knots = 2 + num_samples // 1600
    knots = np.linspace(0, num_samples, num_knots)
    tilt = np.interp(np.arange(num_samples), knots, rng.uniform(-0.95, 0.95, num_knots))
    gain = np.interp(np.arange(num_samples), knots, rng.uniform(0.05, 0.5, num_knots))
    smooth = np.convolve(white, np.ones(16) / 4, mode="same")[:num_samples]
    return (gain * (white[:num_samples] * (1 - np.abs(tilt)) + tilt * smooth)).astype(np.float32) * 0.3


@dataclasses.dataclass
class PaddedBatch:
    """Waveforms (B, S) zero-padded behind each one's length, and what both sides want to know of them."""

    waveforms: Tensor
    lengths: Tensor
    frame_lengths: Tensor

    @property
    def attention_mask(self) -> Tensor:
        """int64 (B, S), as a feature extractor returns it."""
        return (torch.arange(self.waveforms.shape[1]) < self.lengths[:, None]).long()


def padded_batch(model: CTCModel, num_samples: Sequence[int] = (5200, 3333, 4100, 400), seed: int = 0) -> PaddedBatch:
    """Noise of these lengths in one batch."""
    waveforms = torch.zeros(len(num_samples), max(num_samples))
    for i, n in enumerate(num_samples):
        waveforms[i, :n] = torch.from_numpy(noise(n, seed + i))
    frames = torch.tensor([model.num_frames(n) for n in num_samples])
    return PaddedBatch(waveforms, torch.tensor(num_samples), frames)


def example(
    num_samples: int, text: str = "", *, seed: int = 0, vocab: Vocab = VOCAB, utterance_id: str | None = None
) -> Example:
    """An utterance of noise with a transcript that has nothing to do with it."""
    waveform = noise(num_samples, seed)
    audio = SimpleNamespace(name=f"noise-{seed}", identity=f"noise-{seed}-{num_samples}", num_samples=num_samples)
    utterance = Utterance(id=utterance_id or f"u{seed:03d}", audio=audio, text=text)
    return Example(utterance, text, tuple(vocab.encoder()(text)), num_samples, lambda: waveform)


def eval_set(model: CTCModel, examples: Sequence[Example], *, vocab: Vocab = VOCAB, do_normalize: bool = True,
             **config: Any) -> EvalSet:  # fmt: skip
    """`examples` ready to be scored by `model`."""
    return EvalSet("test", examples, Frontend(model.num_frames, do_normalize), vocab, EvalConfig(**config), 0)


def edit_json(path: Path, **changes: Any) -> None:
    """Change some fields of a JSON file."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@contextmanager
def transformers_log() -> Iterator[list[str]]:
    """What transformers logs from a warning up, as text."""
    logger = logging.getLogger("transformers")
    level, said = logger.level, []  # type: ignore[var-annotated]
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    transformers.utils.logging.warning_once.cache_clear()
    logger.setLevel(logging.WARNING)
    logger.addHandler(handler)
    try:
        yield said
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
