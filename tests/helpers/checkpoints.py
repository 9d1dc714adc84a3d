"""Fine-tuned checkpoints as others leave them, in miniature: written by transformers' own classes alone."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import (
    PreTrainedModel,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2PhonemeCTCTokenizer,
)

from models.ctc import CTCModel
from tests.helpers.models import make_talkative, small_model

SPECIALS = ("<pad>", "<s>", "</s>", "<unk>")
JAMO = tuple(dict.fromkeys(unicodedata.normalize("NFD", "가나닥")))


@dataclass(frozen=True)
class Kind:
    """A tokenizer that exists in the wild."""

    tokens: Sequence[str]
    options: Mapping[str, Any] = field(default_factory=dict)
    phonemes: bool = False


def plus(*units: str, delimiter: str = "|") -> tuple[str, ...]:
    return (*SPECIALS, delimiter, *units)


KINDS = {
    "capitals": Kind(plus(*"ABCDE")),
    "lower case": Kind(plus(*"abcde")),
    "specials behind the head": Kind(("|", *"abcde", "[UNK]", "[PAD]"), dict(pad_token="[PAD]", unk_token="[UNK]")),
    "space as delimiter": Kind(plus(*"abcde", delimiter=" "), dict(word_delimiter_token=" ")),
    "space for the delimiter": Kind(plus(*"abcde", delimiter=" ")),
    "space written as underscore": Kind(plus(*"abcde"), dict(replace_word_delimiter_char="_")),
    "nothing between words": Kind(plus(*"我你他爱"), dict(replace_word_delimiter_char="")),
    "capitals read as lower case": Kind(plus(*"ABCDEÄ"), dict(do_lower_case=True)),
    "capitals read as lower case, Greek": Kind(plus(*"ΑΣΟΤ"), dict(do_lower_case=True)),
    "lower case, told to lower": Kind(plus(*"abcdeß"), dict(do_lower_case=True)),
    "German": Kind(plus(*"abcdäöüß")),
    "decomposed": Kind(plus(*"abce", "\u0302", "\u0301")),
    "letter and marks as one unit": Kind(plus("a", "b", "e\u0301", "o\u0302\u0301", "u")),
    "Korean letters": Kind(plus(*JAMO)),
    "Korean letters that stand alone": Kind(plus(*"ㄱㄴㄷㅏㅗ")),
    "several characters": Kind(plus(*"abch", "ch", "abc")),
    "no unknown unit": Kind(("<pad>", "<s>", "</s>", "|", *"abcde")),
    "no unit between words": Kind((*SPECIALS, *"我你他爱")),
    "letters and a blank alone": Kind((*"abcde", "[PAD]"), dict(pad_token="[PAD]", bos_token=None, eos_token=None)),
    "phonemes without an unknown one": Kind(("<pad>", "a", "tʃ", "ɑ̃"), dict(do_phonemize=False), phonemes=True),
    "digits": Kind(plus(*"0123ab")),
    "cleaned up": Kind(plus(*"as'n", delimiter="|"), dict(clean_up_tokenization_spaces=True)),
    "phonemes": Kind((*SPECIALS, "a", "tʃ", "ɑ̃", "əl"), dict(do_phonemize=False), phonemes=True),
    "phonemes and words": Kind(
        (*SPECIALS, "|", "a", "tʃ", "ɑ̃"), dict(do_phonemize=False, word_delimiter_token="|"), phonemes=True
    ),
}


def write_tokenizer(folder: Path, kind: Kind) -> Wav2Vec2CTCTokenizer | Wav2Vec2PhonemeCTCTokenizer:
    """vocab.json, tokenizer_config.json and the like, by save_pretrained."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "vocab.json"
    file.write_text(json.dumps({token: i for i, token in enumerate(kind.tokens)}), encoding="utf-8")
    tokenizer = (Wav2Vec2PhonemeCTCTokenizer if kind.phonemes else Wav2Vec2CTCTokenizer)(str(file), **kind.options)
    tokenizer.save_pretrained(folder)
    return tokenizer


@torch.no_grad()
def silence(model: CTCModel, units: Sequence[int]) -> None:
    """Make the head never write `units`."""
    model.hf.lm_head.weight[list(units)] = 0.0
    model.hf.lm_head.bias[list(units)] = -1e6


def write_checkpoint(folder: Path, kind: Kind, *, seed: int = 0, **config: Any) -> PreTrainedModel:
    """A model that writes long, varied nonsense in the units of `kind`, without its special tokens."""
    pad = kind.options.get("pad_token", "<pad>")
    config = {"vocab_size": len(kind.tokens), "pad_token_id": list(kind.tokens).index(pad), **config}
    model = make_talkative(small_model("wav2vec2", seed=seed, **config), seed=seed)
    dead = ("<s>", "</s>", "<unk>", "[UNK]")
    silence(model, [i for i, token in enumerate(kind.tokens) if token in dead])
    model.hf.save_pretrained(folder)
    write_tokenizer(folder, kind)
    Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True).save_pretrained(folder)
    return model.hf


LANGUAGES = {"eng": plus(*"abcde"), "tur": plus(*"abcdeçı"), "fra": plus(*"abcdé")}
"""English and French have heads of one size: only the file tells them apart."""


def write_multilingual(folder: Path, *, own: str = "eng", suffix: str = "safetensors") -> dict[str, PreTrainedModel]:
    """A checkpoint as facebook/mms-1b-all is: nested vocab.json, the weights of `own`, a file for each language.

    Returns transformers' own models of each language: the same encoder, another adapter and head.
    """
    folder.mkdir(parents=True, exist_ok=True)
    models: dict[str, PreTrainedModel] = {}
    for seed, (language, tokens) in enumerate(LANGUAGES.items()):
        options = dict(adapter_attn_dim=4, vocab_size=len(tokens), pad_token_id=0)
        model = make_talkative(small_model("wav2vec2", seed=0, **options), seed=seed)
        with torch.no_grad():
            generator = torch.Generator().manual_seed(seed)
            for name, tensor in model.hf.named_parameters():
                if "adapter_layer" in name:
                    tensor.copy_(0.5 * torch.randn(tensor.shape, generator=generator))
        silence(model, [1, 2, 3])
        models[language] = model.hf
        adapter = {name: tensor.detach().contiguous() for name, tensor in model.hf._get_adapters().items()}
        if suffix == "safetensors":
            save_file(adapter, folder / f"adapter.{language}.safetensors", metadata={"format": "pt"})
        else:
            torch.save(adapter, folder / f"adapter.{language}.bin")
    models[own].save_pretrained(folder)
    vocabularies = {lang: {token: i for i, token in enumerate(tokens)} for lang, tokens in LANGUAGES.items()}
    (folder / "vocab.json").write_text(json.dumps(vocabularies), encoding="utf-8")
    Wav2Vec2CTCTokenizer(str(folder / "vocab.json"), target_lang=own).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True).save_pretrained(folder)
    return models
