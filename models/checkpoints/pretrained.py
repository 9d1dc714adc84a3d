"""What a Hugging Face checkpoint says of itself, before its weights are read.

No remote code is run. `weights` loads the weights; what the outputs of the head mean is in `tokenizer`, the weights of
one language among many in `adapter`. All lie beside this file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    PreTrainedConfig,
    Wav2Vec2FeatureExtractor,
)

from models.checkpoints.adapter import Adapter, read_adapter
from models.checkpoints.elsewhere import format_of_file
from models.checkpoints.quiet import first_line, quiet
from models.checkpoints.reach import within_reach
from models.checkpoints.tokenizer import is_safe_name, read_tokenizer
from models.checkpoints.training_checkpoint import is_training_checkpoint, read_trained_model
from models.checkpoints.trust import read_json, refuse_remote_code, refuse_what_is_no_checkpoint
from models.config import ModelConfig
from models.encoder import random_config
from models.families import FAMILIES
from models.geometry import FrameGeometry
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
    """How its units are read where that is not as in a new vocabulary: see models.checkpoints.tokenizer."""
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
    notes: tuple[str, ...] = ()
    """What was assumed or left aside in reading it, a sentence each."""
    has_no_such_language: bool = False
    """--model.target-lang is none of its languages: vocabulary, adapter and head would be new."""

    @property
    def has_adapters(self) -> bool:
        """Whether its layers have an adapter for a language (MMS)."""
        return getattr(self.config, "adapter_attn_dim", None) is not None

    @property
    def has_head(self) -> bool:
        """Whether its configuration is that of a model with a CTC head, also of a class of somebody's own
        (Wav2Vec2ForCTCWithTags). The bare encoder, pre-training and other tasks have none."""
        architectures = self.config.architectures or ["ForCTC"]
        return any("CTC" in name for name in architectures)


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
    if revision is not None and Path(source).is_dir():
        raise ModelError(
            f"--model.revision {revision}: {source} is a folder here, which is as it is, and not a hub id. Leave the "
            "revision out; if you mean the hub's, run this where no folder has that name."
        )
    with within_reach(source, revision) as why_not:
        return _read_pretrained(source, revision, language, why_not)


def _read_pretrained(source: str, revision: str | None, language: str | None, why_not: str) -> Pretrained:
    """`why_not` says why the hub is not asked; empty where it is, or need not be."""
    refuse_remote_code(source, revision)
    config = _read_config(source, revision, why_not)
    commit = None if Path(source).is_dir() else getattr(config, "_commit_hash", None)
    do_normalize, notes = _read_extractor(source, commit or revision)
    return _with_units(
        Pretrained(source, commit, config, do_normalize, None, notes=notes), commit or revision, language
    )


def _read_config(source: str, revision: str | None, why_not: str) -> PreTrainedConfig:
    """config.json, of one of the families."""
    plain = read_json(source, "config.json", revision)
    if plain and isinstance(plain, dict):
        if isinstance(family := plain.get("model_type"), str) and family not in FAMILIES:
            raise ModelError(
                f"{source} is of the family {family!r}; this trains {', '.join(FAMILIES)}. Give a checkpoint of one of "
                "these, such as facebook/wav2vec2-xls-r-300m."
            )
        if plain.get("quantization_config"):
            raise ModelError(
                f"{source}: its weights are quantised (quantization_config in its config.json). Give the checkpoint "
                "that they were made of."
            )
    if read_json(source, "adapter_config.json", revision):
        what = "is" if plain is None else "has beside its weights, which transformers would change by it,"
        raise ModelError(f"{source}: {what} {format_of_file(Path('adapter_config.json'))}.")
    try:
        with quiet():
            config = AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=False)
    except Exception as error:  # what a strange config.json makes transformers raise has no bounds
        reason = f"{why_not}, and the cache holds no copy" if why_not else first_line(error)
        remedy = (
            "Mend its config.json."
            if plain is not None
            else "Give a hub id within reach, or a folder with config.json."
        )
        raise ModelError(f"{source}: no usable model configuration ({reason}). {remedy}") from None
    if config.model_type not in FAMILIES:
        raise ModelError(f"{source} is of the family {config.model_type!r}; this trains {', '.join(FAMILIES)}.")
    if getattr(config, "add_adapter", False):
        raise ModelError(
            f"{source} has a convolutional adapter behind its encoder (add_adapter), which is not supported. Take a "
            "checkpoint without one."
        )
    if config._attn_implementation not in (None, "eager", "sdpa"):
        config._attn_implementation = "eager"  # attention is our own, and another package for it may not be here
    return config


def _read_extractor(source: str, revision: str | None) -> tuple[bool, tuple[str, ...]]:
    """Whether waveforms are normalised, and what should be said of it; ModelError when we cannot feed the encoder."""
    names = ("preprocessor_config.json", "processor_config.json")
    contents = {name: read_json(source, name, revision) for name in names}
    if broken := [name for name, content in contents.items() if not isinstance(content, dict | None)]:
        raise ModelError(
            f"{source}: its {broken[0]} is damaged, so nobody knows whether audio is normalised. Take a sound copy."
        )
    try:
        with quiet():
            extractor = AutoFeatureExtractor.from_pretrained(source, revision=revision, trust_remote_code=False)
    except OSError:  # neither file says anything of a feature extractor
        return True, (f"{source}: has no preprocessor_config.json, so audio is normalised (mean 0, variance 1)",)
    except Exception as error:  # as of config.json: what strange values make transformers raise has no bounds
        raise ModelError(f"{source}: its preprocessor_config.json cannot be used ({first_line(error)}).") from None
    if not isinstance(extractor, Wav2Vec2FeatureExtractor):
        raise ModelError(
            f"{source}: its preprocessor_config.json is of a {type(extractor).__name__}, not of waveforms."
        )
    if extractor.sampling_rate != 16_000:
        raise ModelError(
            f"{source} wants audio at {extractor.sampling_rate} Hz; only encoders of 16 kHz are supported."
        )
    return extractor.do_normalize, _notes_on_language_model(source, contents)


def _notes_on_language_model(source: str, contents: Mapping[str, Any]) -> tuple[str, ...]:
    """What to say of a language model that transformers' pipeline would decode with."""
    if not any((content or {}).get("processor_class") == "Wav2Vec2ProcessorWithLM" for content in contents.values()):
        return ()
    return (f"{source}: its language model (language_model/) is not used; --lm takes one as an ARPA file",)


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
    num_outputs = adapter.num_outputs if adapter else config.vocab_size or 0
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
        special=tokenizer.special_of(tokens) if tokens else {},
        reading=tokenizer.reading if tokens else {},
        mismatch=f"{source}: {mismatch}" if mismatch else "",
        is_oversized=is_oversized,
        language=tokenizer.language,
        adapter=adapter,
    )
