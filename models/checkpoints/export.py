"""Write the Hugging Face folder of a trained model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import (
    PreTrainedModel,
    PreTrainedTokenizer,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2PhonemeCTCTokenizer,
)

from models.checkpoints.adapter import save_adapter
from models.checkpoints.quiet import quiet
from models.checkpoints.tokenizer import UNITS_ARE
from models.encoder import uses_attention_mask


def save_huggingface(
    model: PreTrainedModel,
    tokens: Sequence[str],
    special: Mapping[str, str | None],
    do_normalize: bool,
    folder: Path,
    reading: Mapping[str, Any] | None = None,
    *,
    language: str | None = None,
) -> None:
    """Write a folder that `pipeline` and `AutoModelForCTC` load as it is: safetensors, tokenizer, feature extractor.

    `special` and `reading` are data.text.vocab.Vocab's. With a `language` and adapter layers the folder has one
    vocabulary and one adapter, under that name (transformers' target_lang).
    """
    if getattr(model.config, "adapter_attn_dim", None) is None:
        language = None
    folder.mkdir(parents=True, exist_ok=True)
    with quiet():
        model.save_pretrained(folder)
        if language is not None:
            save_adapter(model, language, folder)
        _save_tokenizer(tokens, special, reading or {}, language, folder)
        extractor = Wav2Vec2FeatureExtractor(
            feature_size=1,
            sampling_rate=16_000,
            padding_value=0.0,
            do_normalize=do_normalize,
            return_attention_mask=uses_attention_mask(model.config),
        )
        extractor.save_pretrained(folder)


def _save_tokenizer(
    tokens: Sequence[str],
    special: Mapping[str, str | None],
    reading: Mapping[str, Any],
    language: str | None,
    folder: Path,
) -> None:
    delimiter, phonemes = special["word_delimiter"], reading.get("phonemes", False)
    is_named = delimiter is not None and (delimiter != " " or "delimiter_text" in reading)
    if not phonemes and "|" not in tokens and is_named:
        # transformers 5 loads every tokenizer with the delimiter |, whatever its configuration says
        tokens, delimiter = ["|" if token == delimiter else token for token in tokens], "|"
    vocabulary: dict[str, Any] = {token: i for i, token in enumerate(tokens)}
    if language is not None and not phonemes:
        vocabulary = {language: vocabulary}
    vocabulary_file = folder / "vocab.json"
    vocabulary_file.write_text(json.dumps(vocabulary, ensure_ascii=False, indent=2), encoding="utf-8")
    options = dict(
        pad_token=special["blank"],
        unk_token=special["unknown"],
        word_delimiter_token=delimiter,
        bos_token="<s>" if "<s>" in tokens else None,
        eos_token="</s>" if "</s>" in tokens else None,
        clean_up_tokenization_spaces=reading.get("clean_up", False),
    )
    tokenizer: PreTrainedTokenizer
    if phonemes:
        if units := reading.get("units_are"):
            options[UNITS_ARE] = units
        tokenizer = Wav2Vec2PhonemeCTCTokenizer(str(vocabulary_file), do_phonemize=False, **options)
    else:
        tokenizer = Wav2Vec2CTCTokenizer(
            str(vocabulary_file),
            do_lower_case=reading.get("lower_case", False),
            replace_word_delimiter_char=reading.get("delimiter_text", " "),
            target_lang=language,
            **options,
        )
    assert len(tokenizer) == len(tokens), "the tokenizer added a token that the head does not have"
    tokenizer.save_pretrained(folder)
    if delimiter is None:
        _write_no_delimiter(folder / "tokenizer_config.json")


def _write_no_delimiter(file: Path) -> None:
    """transformers 5 writes None as a string, and would add a token of that name when it loads the tokenizer."""
    content = json.loads(file.read_text(encoding="utf-8"))
    content["word_delimiter_token"] = None
    file.write_text(json.dumps(content, ensure_ascii=False, indent=2), encoding="utf-8")
