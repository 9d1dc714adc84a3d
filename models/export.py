"""Write the Hugging Face folder of a trained model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from transformers import PreTrainedModel, Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor

from models.encoder import uses_attention_mask
from models.pretrained import quiet


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
