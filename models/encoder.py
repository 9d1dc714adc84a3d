"""Build a speech encoder with a CTC head, or load one from a Hugging Face checkpoint, and say what was loaded.

The modules are transformers' own, so that checkpoints load key by key; the forward pass is in models.ctc.
Weights are read as safetensors, or as .bin through torch.load(weights_only=True); no remote code, no pickle.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, AutoFeatureExtractor, AutoModelForCTC, PreTrainedConfig, PreTrainedModel
from transformers import Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor

from models.config import ModelConfig

FAMILIES = ("unispeech", "unispeech-sat", "wav2vec2", "hubert", "wavlm")

# Shared by the public large checkpoints of all five families: layer norm after every convolution, pre-norm layers
_LARGE = dict(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096,
              feat_extract_norm="layer", do_stable_layer_norm=True, conv_bias=True)  # fmt: skip
# Small models train for minutes: what regularises a long fine-tuning only slows them
_UNREGULARISED = dict(hidden_dropout=0.0, attention_dropout=0.0, activation_dropout=0.0, feat_proj_dropout=0.0,
                      final_dropout=0.0, layerdrop=0.0, mask_time_prob=0.0, mask_feature_prob=0.0)  # fmt: skip
_TINY = dict(hidden_size=144, num_hidden_layers=3, num_attention_heads=4, intermediate_size=576,
             conv_dim=(32, 32, 64, 64, 64, 128, 128), num_conv_pos_embeddings=32, num_conv_pos_embedding_groups=8,
             feat_extract_norm="layer", do_stable_layer_norm=True, conv_bias=True, **_UNREGULARISED)  # fmt: skip
SIZES: dict[str, dict[str, Any]] = {
    "tiny": _TINY,
    # Narrower where the frame rate is high: a training step on a CPU takes 0.62 of tiny's time
    "demo": {**_TINY, "conv_dim": (16, 16, 32, 64, 64, 128, 128)},
    # As the public base checkpoints: group norm on the first convolution, post-norm layers
    "base": dict(hidden_size=768, num_hidden_layers=12, num_attention_heads=12, intermediate_size=3072,
                 feat_extract_norm="group", do_stable_layer_norm=False, conv_bias=False),
    "large": _LARGE,
}  # fmt: skip

DROPOUTS = (
    "hidden_dropout",
    "attention_dropout",
    "activation_dropout",
    "feat_proj_dropout",
    "final_dropout",
    "layerdrop",
)
MASKING = ("mask_time_prob", "mask_time_length", "mask_time_min_masks",
           "mask_feature_prob", "mask_feature_length", "mask_feature_min_masks")  # fmt: skip


class ModelError(ValueError):
    """A checkpoint that cannot be used; the message names it, what is wrong and the remedy."""


@dataclass(frozen=True)
class Pretrained:
    """What a checkpoint says of itself before its weights are read."""

    source: str
    commit: str | None
    """The hub commit that the revision resolved to; None for a local folder."""
    config: PreTrainedConfig
    do_normalize: bool
    tokens: tuple[str, ...] | None
    """Its tokenizer's tokens by id; None when it has none that spans the ids."""
    special: dict[str, str] = field(default_factory=dict)
    """Its tokens for blank, unknown and word_delimiter."""


@dataclass(frozen=True)
class LoadReport:
    """Which parameters came from where."""

    num_loaded: int
    new: tuple[str, ...]
    """Initialised afresh: the head, when its vocabulary is new."""
    unused: tuple[str, ...]
    """In the checkpoint, without a place in this model (pre-training heads)."""

    def describe(self) -> str:
        """One line for the terminal and the card."""
        new = f"; new: {', '.join(self.new)}" if self.new else ""
        unused = f"; not used: {_summary(self.unused)}" if self.unused else ""
        return f"{self.num_loaded} tensors loaded{new}{unused}"


def num_frames_function(kernels: Sequence[int], strides: Sequence[int]) -> Callable[[int], int]:
    """A function from samples to encoder frames, exact for every length; 0 below the receptive field."""
    geometry = tuple(zip(kernels, strides, strict=True))

    def num_frames(num_samples: int) -> int:
        for kernel, stride in geometry:
            num_samples = max(0, (num_samples - kernel) // stride + 1)
        return num_samples

    return num_frames


def random_config(model: ModelConfig) -> PreTrainedConfig:
    """The configuration for random weights of a family and size, without a vocabulary."""
    assert model.size is not None
    size = dict(SIZES[model.size])
    if model.family == "hubert" and size["feat_extract_norm"] == "group":
        size["feat_proj_layer_norm"] = True
    # 0.02, transformers' fixed standard deviation, suits width 1024 or so; narrow layers would start
    # nearly silent and learn late. 1/sqrt(width) keeps the signal at any width.
    return AutoConfig.for_model(model.family, **size, initializer_range=size["hidden_size"] ** -0.5)


def read_pretrained(source: str, revision: str | None) -> Pretrained:
    """A checkpoint's configuration, tokenizer and feature extractor, from the hub or a local folder."""
    if Path(source).is_dir() and not (Path(source) / "config.json").exists():
        raise ModelError(f"{source}: no config.json here; this is not a Hugging Face model folder.")
    if not Path(source).exists() and (source.startswith((".", "/", "~")) or source.count("/") > 1):
        raise ModelError(f"{source}: no such folder.")
    try:
        with quiet():
            config = AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=False)
    except (OSError, ValueError, StrictDataclassError) as error:
        raise ModelError(
            f"{source}: no usable model configuration ({_first_line(error)}). "
            "--model.pretrained is a hub id within reach, or a folder with config.json."
        ) from None
    if config.model_type not in FAMILIES:
        raise ModelError(f"{source} is of the family {config.model_type!r}; this trains {', '.join(FAMILIES)}.")
    if getattr(config, "add_adapter", False):
        raise ModelError(
            f"{source} has a convolutional adapter behind its encoder (add_adapter), which is not supported."
        )
    commit = getattr(config, "_commit_hash", None)
    do_normalize, rate = True, 16_000
    with contextlib.suppress(OSError), quiet():
        extractor = AutoFeatureExtractor.from_pretrained(source, revision=commit or revision, trust_remote_code=False)
        if not isinstance(extractor, Wav2Vec2FeatureExtractor):
            raise ModelError(
                f"{source}: its preprocessor_config.json is of a {type(extractor).__name__}, not of waveforms."
            )
        do_normalize, rate = extractor.do_normalize, extractor.sampling_rate
    if rate != 16_000:
        raise ModelError(f"{source} wants audio at {rate} Hz; only encoders of 16 kHz are supported.")
    tokens, special = _read_tokenizer(source, commit or revision)
    return Pretrained(source, commit, config, do_normalize, tokens, special)


def _read_tokenizer(source: str, revision: str | None) -> tuple[tuple[str, ...] | None, dict[str, str]]:
    try:
        with quiet():
            tokenizer = Wav2Vec2CTCTokenizer.from_pretrained(source, revision=revision)
    except (OSError, AttributeError, TypeError, ValueError):  # a checkpoint of pre-training has none
        return None, {}
    by_id = {i: token for token, i in tokenizer.get_vocab().items()}
    if sorted(by_id) != list(range(len(by_id))):
        return None, {}
    special = dict(
        blank=tokenizer.pad_token, unknown=tokenizer.unk_token, word_delimiter=tokenizer.word_delimiter_token
    )
    return tuple(by_id[i] for i in range(len(by_id))), special


def configure(config: PreTrainedConfig, model: ModelConfig, *, vocab_size: int, blank_id: int) -> PreTrainedConfig:
    """`config` with the options of `model` that are set, and the vocabulary."""
    for name in DROPOUTS + MASKING:
        if (value := getattr(model, name)) is not None:
            setattr(config, name, value)
    config.vocab_size, config.pad_token_id = vocab_size, blank_id
    # transformers wants these inside the vocabulary, UniSpeech-SAT wants them at all; CTC has no use for them
    config.bos_token_id = config.eos_token_id = blank_id if config.model_type == "unispeech-sat" else None
    config.ctc_loss_reduction, config.ctc_zero_infinity = "mean", False
    return config


def build_random(config: PreTrainedConfig, seed: int) -> PreTrainedModel:
    """A model with weights drawn from `seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AutoModelForCTC.from_config(config)


def load_pretrained(
    pretrained: Pretrained, config: PreTrainedConfig, seed: int, *, keep_head: bool
) -> tuple[PreTrainedModel, LoadReport]:
    """The checkpoint's weights in a model of `config`, and what was loaded; ModelError on a partial load.

    Only the head (and the mask embedding) may be missing or of another shape: they are then drawn from `seed`.
    So is the head without `keep_head`: for other units, a head that happens to have their number means nothing.
    """
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(seed)
        try:
            model, info = AutoModelForCTC.from_pretrained(
                pretrained.source,
                revision=pretrained.commit,
                config=config,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                dtype=torch.float32,
                trust_remote_code=False,
            )
        except pickle.UnpicklingError:
            raise ModelError(
                f"{pretrained.source}: its .bin file is damaged or holds more than tensors, which could run code: "
                "it is not read. Give a checkpoint in safetensors."
            ) from None
        except Exception as error:  # what a damaged file makes torch, safetensors and transformers raise has no bounds
            raise ModelError(f"{pretrained.source}: its weights do not load ({_first_line(error)}).") from error
        if not keep_head:
            torch.nn.init.normal_(model.lm_head.weight, std=config.initializer_range)
            torch.nn.init.zeros_(model.lm_head.bias)
    mismatched = {entry[0]: entry[1:] for entry in info["mismatched_keys"]}
    head = {"lm_head.weight", "lm_head.bias"}
    new = {*info["missing_keys"], *mismatched, *(() if keep_head else head)}
    may_be_new = {*head, f"{model.base_model_prefix}.masked_spec_embed"}
    if bad := sorted(new - may_be_new):
        shapes = [f"{k} {tuple(mismatched[k][0])} for {tuple(mismatched[k][1])}" for k in bad if k in mismatched]
        what = f"of the wrong shape: {shapes[0]}" if shapes else f"missing: {_summary(bad)}"
        raise ModelError(
            f"{pretrained.source}: {len(bad)} of the encoder's {len(model.state_dict())} tensors are {what}. "
            "A partly loaded encoder would train, badly and silently; is config.json that of these weights?"
        )
    unexpected = sorted(info["unexpected_keys"])
    # A checkpoint of the encoder alone has keys without the prefix
    parts_of_encoder = ("encoder.", "feature_extractor.", "feature_projection.")
    if misplaced := [
        k for k in unexpected if k.removeprefix(f"{model.base_model_prefix}.").startswith(parts_of_encoder)
    ]:
        raise ModelError(
            f"{pretrained.source}: {len(misplaced)} of its encoder's tensors have no place in this model "
            f"({_summary(misplaced)}); is config.json that of these weights?"
        )
    report = LoadReport(len(model.state_dict()) - len(new), tuple(sorted(new)), tuple(unexpected))
    return model, report


def save_huggingface(model: PreTrainedModel, tokens: Sequence[str], special: dict[str, str], do_normalize: bool,
                     folder: Path) -> None:  # fmt: skip
    """Write a folder that `pipeline` and `AutoModelForCTC` load as it is: safetensors, tokenizer, feature extractor."""
    folder.mkdir(parents=True, exist_ok=True)
    with quiet():
        model.save_pretrained(folder)
        vocabulary_file = folder / "vocab.json"
        vocabulary_file.write_text(
            json.dumps({token: i for i, token in enumerate(tokens)}, ensure_ascii=False, indent=2), encoding="utf-8"
        )
        tokenizer = Wav2Vec2CTCTokenizer(
            str(vocabulary_file),
            pad_token=special["blank"],
            unk_token=special["unknown"],
            word_delimiter_token=special["word_delimiter"],
            bos_token="<s>" if "<s>" in tokens else None,
            eos_token="</s>" if "</s>" in tokens else None,
            do_lower_case=False,
        )
        assert len(tokenizer) == len(tokens), "the tokenizer added a token that the head does not have"
        tokenizer.save_pretrained(folder)
        extractor = Wav2Vec2FeatureExtractor(
            feature_size=1,
            sampling_rate=16_000,
            padding_value=0.0,
            do_normalize=do_normalize,
            return_attention_mask=uses_attention_mask(model.config),
        )
        extractor.save_pretrained(folder)


def uses_attention_mask(config: PreTrainedConfig) -> bool:
    """Layer-norm extractors were pre-trained with an attention mask, group-norm ones without (transformers' docs)."""
    return config.feat_extract_norm == "layer"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """The libraries' own warnings and bars off: our load report and errors replace them."""
    loggers = (transformers.logging, huggingface_hub.logging)
    before = [logger.get_verbosity() for logger in loggers]
    for logger in loggers:
        logger.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        yield
    finally:
        for logger, verbosity in zip(loggers, before, strict=True):
            logger.set_verbosity(verbosity)


def _summary(keys: Sequence[str]) -> str:
    """`quantizer.* (3), project_q.weight` and the like: keys grouped by their first two parts."""
    groups: dict[str, list[str]] = {}
    for key in keys:
        groups.setdefault(".".join(key.split(".")[:2]), []).append(key)
    return ", ".join(k[0] if len(k) == 1 else f"{g}.* ({len(k)})" for g, k in list(groups.items())[:6]) + (
        ", ..." if len(groups) > 6 else ""
    )


def _first_line(error: Exception) -> str:
    return next((line.strip().rstrip(".") for line in str(error).splitlines() if line.strip()), type(error).__name__)


os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # our loader workers fork
