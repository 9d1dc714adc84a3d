"""Greedy decoding (trainer.scoring.decode) against a naive loop and against transformers' tokenizer.

pytest tests/trainer/scoring/test_decode.py
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Wav2Vec2CTCTokenizer

from data.text.normalise import collapse_spaces
from data.text.vocab import Vocab
from tests.helpers.models import VOCAB
from trainer.scoring.decode import NOTHING, collapse

REFERENCE_RUN = Vocab(("|", *"abcdefghijklmnopqrstuvwxyz", "[UNK]", "[PAD]", "<s>", "</s>"))
"""The 31 units of timit-hf, with the <s> and </s> that nothing is trained on."""


def naive(frame_ids: list[int], blank_id: int) -> list[int]:
    """The definition, frame by frame: a unit is written when it is no blank and not what the frame before held."""
    written, before = [], None
    for unit in frame_ids:
        if unit not in (before, blank_id):
            written.append(unit)
        before = unit
    return written


def written(frame_ids: list[int], blank_id: int) -> list[int]:
    """`collapse` of one utterance, with two frames of padding behind it that would write."""
    padded = torch.tensor([[*frame_ids, blank_id + 1, blank_id + 2]])
    units = collapse(padded, torch.tensor([len(frame_ids)]), blank_id)[0].tolist()
    return [unit for unit in units if unit != NOTHING]


def test_blank_between_repeats_is_required() -> None:
    assert written([3, 3, 3], blank_id=0) == [3]
    assert written([3, 0, 3], blank_id=0) == [3, 3]
    assert written([3, 0, 0, 3, 3, 0], blank_id=0) == [3, 3]


@pytest.mark.parametrize("blank_id", [0, 1, 2])
def test_collapse_equals_the_definition_on_every_short_path(blank_id: int) -> None:
    """Reference: `naive`, on all 3^T paths up to T = 6."""
    for num_frames in range(1, 7):
        for path in itertools.product(range(3), repeat=num_frames):
            assert written(list(path), blank_id) == naive(list(path), blank_id), path


def test_no_frames_write_nothing() -> None:
    assert written([], blank_id=0) == []


@pytest.mark.parametrize("vocab", [VOCAB, REFERENCE_RUN], ids=["11 units", "31 units with <s> </s>"])
def test_transcripts_equal_transformers_tokenizer(vocab: Vocab, tmp_path: Path) -> None:
    """Reference: Wav2Vec2CTCTokenizer.decode on 300 random sequences with runs, white space collapsed on both sides.

    [UNK], <s> and </s> are printed, as the tokenizer prints them.
    """
    (tmp_path / "vocab.json").write_text(json.dumps(vocab.ids))
    has_bos = "<s>" in vocab.tokens
    tokenizer = Wav2Vec2CTCTokenizer(
        str(tmp_path / "vocab.json"), pad_token="[PAD]", unk_token="[UNK]", word_delimiter_token="|",
        bos_token="<s>" if has_bos else None, eos_token="</s>" if has_bos else None, do_lower_case=False,
    )  # fmt: skip
    rng, seen = np.random.default_rng(0), set()
    for _ in range(300):
        distinct = rng.integers(0, len(vocab), rng.integers(1, 40))
        frame_ids = np.repeat(distinct, rng.integers(1, 4, len(distinct)))
        ours = collapse_spaces(vocab.decode(written(frame_ids.tolist(), vocab.blank_id)))
        assert ours == collapse_spaces(tokenizer.decode(frame_ids.tolist()))
        seen |= {token for token in vocab.tokens if token in ours}
    assert seen >= set(vocab.tokens) - {"|", "[PAD]"}, "a unit never came up: the comparison shows less than it says"
