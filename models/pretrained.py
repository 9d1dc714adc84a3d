"""Load an encoder from a Hugging Face checkpoint, and say what was loaded.

Weights are read as safetensors, or as .bin through torch.load(weights_only=True); no remote code, no pickle. What the
outputs of its head mean is in models.tokenizer, the weights of one language among many in models.adapter.
"""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from transformers import (
    MODEL_FOR_CTC_MAPPING,
    AutoConfig,
    AutoFeatureExtractor,
    AutoModelForCTC,
    PreTrainedConfig,
    PreTrainedModel,
    Wav2Vec2FeatureExtractor,
)

from models.adapter import Adapter, draw_adapter, load_adapter, read_adapter
from models.config import ModelConfig
from models.encoder import random_config
from models.families import FAMILIES
from models.geometry import FrameGeometry
from models.tokenizer import is_safe_name, read_tokenizer
from models.training_checkpoint import is_training_checkpoint, read_trained_model, read_weights
from models.trust import refuse_non_finite, refuse_remote_code, refuse_what_is_no_checkpoint
from trainer.errors import ModelError


@dataclass(frozen=True)
class Pretrained:
    """What a checkpoint says of itself before its weights are read."""

    source: str
    commit: str | None
    """The hub commit that the revision resolved to; None for a local folder."""
    config: PreTrainedConfig
    do_normalize: bool
    tokens: tuple[str, ...] | None
    """The token of each output of its CTC head; None when its tokenizer does not tell."""
    special: dict[str, str | None] = field(default_factory=dict)
    """Its tokens for blank, unknown and word_delimiter."""
    reading: dict[str, Any] = field(default_factory=dict)
    """How its units are read where that is not as in a new vocabulary: see models.tokenizer."""
    doubt: str = ""
    """What is odd about its tokenizer, although it has a token for each output."""
    mismatch: str = ""
    """Why there are no tokens although there is a tokenizer."""
    is_oversized: bool = False
    """Its tokenizer has more tokens than its head has outputs: a head of other units, of another language perhaps."""
    language: str | None = None
    """Whose vocabulary and adapter these are, in a multilingual checkpoint."""
    adapter: Adapter | None = None
    """That language's weights, where they lie in a file of their own."""
    has_no_such_language: bool = False
    """--model.target-lang is none of its languages: vocabulary, adapter and head would be new."""

    @property
    def has_adapters(self) -> bool:
        """Whether its layers have an adapter for a language (MMS)."""
        return getattr(self.config, "adapter_attn_dim", None) is not None

    @property
    def has_head(self) -> bool:
        """Whether its configuration is that of a model with a CTC head, and not of pre-training alone."""
        architectures = self.config.architectures or ["ForCTC"]
        return any(name.endswith("ForCTC") for name in architectures)


@dataclass(frozen=True)
class LoadReport:
    """Which parameters came from where."""

    num_loaded: int
    new: tuple[str, ...]
    """Initialised afresh: the head, when its vocabulary is new."""
    unused: tuple[str, ...]
    """In the checkpoint, without a place in this model (pre-training heads)."""
    adapter: str = ""
    """The file that a language's adapter came from."""

    def describe(self) -> str:
        """One line for the terminal and the card."""
        new = f"; new: {_summary(self.new)}" if self.new else ""
        unused = f"; not used: {_summary(self.unused)}" if self.unused else ""
        what = "adapter" if "lm_head.weight" in self.new else "adapter and head"
        adapter = f", {what} from {self.adapter}" if self.adapter else ""
        return f"{self.num_loaded} tensors loaded{adapter}{new}{unused}"


def refuse_new_head(source: str, report: LoadReport) -> None:
    """ModelError when the head was not loaded: one drawn at random writes nonsense."""
    if head := [name for name in report.new if name.startswith("lm_head")]:
        raise ModelError(f"{source}: has no {head[0]}, so it writes nothing yet. Fine-tune it first.")


@dataclass(frozen=True)
class EncoderSource:
    """An encoder before its weights: enough to know frames and units."""

    config: PreTrainedConfig
    pretrained: Pretrained | None

    @property
    def do_normalize(self) -> bool:
        return self.pretrained.do_normalize if self.pretrained else True

    def num_frames(self) -> Callable[[int], int]:
        return FrameGeometry.of_config(self.config).num_frames


def read_encoder(model: ModelConfig) -> EncoderSource:
    """The configuration of random weights or of the checkpoint."""
    if model.pretrained is None:
        return EncoderSource(random_config(model), None)
    pretrained = read_pretrained(model.pretrained, model.revision, model.target_lang)
    return EncoderSource(pretrained.config, pretrained)


def read_pretrained(source: str, revision: str | None, language: str | None = None) -> Pretrained:
    """A checkpoint's configuration, tokenizer and feature extractor, from the hub or a local folder.

    The folder may also be a checkpoint of training. `language` chooses among those of a multilingual checkpoint; None:
    what its tokenizer is configured for.
    """
    if is_training_checkpoint(Path(source)):
        own = read_trained_model(Path(source))
        return Pretrained(
            source, None, own.config, own.do_normalize, own.tokens, own.special, own.reading, language=own.language
        )
    refuse_what_is_no_checkpoint(source)
    refuse_remote_code(source, revision)
    try:
        with quiet():
            config = AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=False)
    except (OSError, ValueError, StrictDataclassError) as error:
        raise ModelError(
            f"{source}: no usable model configuration ({_first_line(error)}). "
            "Give a hub id within reach, or a folder with config.json."
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
    return _with_units(Pretrained(source, commit, config, do_normalize, None), commit or revision, language)


def _with_units(pretrained: Pretrained, revision: str | None, language: str | None) -> Pretrained:
    """`pretrained` with what its outputs mean, in the language that is asked for."""
    source, config = pretrained.source, pretrained.config
    with quiet():
        tokenizer = read_tokenizer(source, revision, language)
    if language and not pretrained.has_adapters:
        raise ModelError(f"{source} has no adapters for languages. Leave --model.target-lang {language} out.")
    if language and tokenizer.languages and language not in tokenizer.languages:
        if not is_safe_name(language):  # it will be part of a file's name
            raise ModelError(f"--model.target-lang {language!r}: letters, digits, - and _ make a language's name.")
        why = f"{source}: {tokenizer.problem}"
        return replace(pretrained, language=language, mismatch=why, has_no_such_language=True)
    adapter = None
    if pretrained.has_adapters and tokenizer.language:
        adapter = read_adapter(source, revision, tokenizer.language)
    if language and adapter is None and language != tokenizer.own_language:
        raise ModelError(
            f"{source}: no adapter.{language}.safetensors and no adapter.{language}.bin, so it cannot be read in that "
            "language. Give a checkpoint that has it."
        )
    num_outputs = adapter.num_outputs if adapter else config.vocab_size
    tokens, mismatch, is_oversized = tokenizer.tokens_of(num_outputs)
    doubt, pad, blank = "", config.pad_token_id, tokenizer.special.get("blank")
    if tokens and isinstance(pad, int) and pad < len(tokens) and tokens[pad] != blank:
        doubt = (
            f"{source}: its tokenizer's blank is {blank!r}, but its configuration says {tokens[pad]!r} (pad_token_id "
            f"{pad}): it may have been trained with that. The tokenizer's is used, as in transformers"
        )
    return replace(
        pretrained,
        tokens=tokens,
        doubt=doubt,
        special=tokenizer.special if tokens else {},
        reading=tokenizer.reading if tokens else {},
        mismatch=f"{source}: {mismatch}" if mismatch else "",
        is_oversized=is_oversized,
        language=tokenizer.language,
        adapter=adapter,
    )


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
            is_ours = is_training_checkpoint(Path(pretrained.source))
            of_family = MODEL_FOR_CTC_MAPPING[type(config)] if is_ours else AutoModelForCTC
            model, info = of_family.from_pretrained(
                None if is_ours else pretrained.source,
                state_dict=read_weights(Path(pretrained.source)) if is_ours else None,
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
        drawn = draw_adapter(model) if pretrained.has_no_such_language else set()
    adapter = pretrained.adapter
    from_adapter = load_adapter(pretrained.source, model, adapter, keep_head=keep_head) if adapter else set()
    mismatched = {entry[0]: entry[1:] for entry in info["mismatched_keys"]}
    head = {"lm_head.weight", "lm_head.bias"}
    new = {*info["missing_keys"], *mismatched, *(() if keep_head else head), *drawn} - from_adapter
    may_be_new = {*head, f"{model.base_model_prefix}.masked_spec_embed", *drawn}
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
    refuse_non_finite(pretrained.source, model)
    report = LoadReport(
        len(model.state_dict()) - len(new), tuple(sorted(new)), tuple(unexpected), adapter.file if adapter else ""
    )
    return model, report


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
