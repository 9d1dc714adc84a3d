"""data.text.vocab against the Hugging Face CTC example's vocabulary and transformers' tokenizer."""

from __future__ import annotations

import json
import random
import string
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from data.text.normalise import hf_timit, plain
from data.text.vocab import Vocab
from trainer.errors import CorpusError

PANGRAMS = ["The quick brown fox jumps over the lazy dog.", "Pack my box with five dozen liquor jugs!"]


def huggingface_vocabulary(texts: Iterable[str]) -> dict[str, int]:
    """`create_vocabulary_from_data` of transformers' run_speech_recognition_ctc.py, on one split."""
    vocabulary = {character: i for i, character in enumerate(sorted(set(" ".join(texts))))}
    vocabulary["|"] = vocabulary.pop(" ")
    vocabulary["[UNK]"] = len(vocabulary)
    vocabulary["[PAD]"] = len(vocabulary)
    return vocabulary


@pytest.mark.parametrize("normalize", [plain, hf_timit])
@pytest.mark.parametrize("texts", [PANGRAMS, ["it's", "a b"], ["café 7", "Ünder"]])
def test_new_vocabulary_has_the_ids_of_the_hugging_face_example(texts: list[str], normalize):
    """Reference: the example's own construction, re-implemented above."""
    normalized = [normalize(text) for text in texts]
    assert dict(Vocab.build(normalized).ids) == huggingface_vocabulary(normalized)


def test_timit_hf_head_has_the_reference_runs_31_units():
    """Reference: the published run: | 0, a-z 1 to 26, [UNK] 27, [PAD] 28, <s> 29, </s> 30; blank 28."""
    vocab = Vocab.build(map(hf_timit, PANGRAMS), bos_eos=True)
    assert vocab.tokens == ("|", *string.ascii_lowercase, "[UNK]", "[PAD]", "<s>", "</s>")
    assert (len(vocab), vocab.blank_id) == (31, 28)


def tokenizer_of(vocab: Vocab, folder: Path):
    """transformers' Wav2Vec2CTCTokenizer with the units of `vocab`, written as the example writes them."""
    from transformers import Wav2Vec2CTCTokenizer

    file = folder / "vocab.json"
    file.write_text(json.dumps({t: i for t, i in vocab.ids.items() if t not in ("<s>", "</s>")}))
    return Wav2Vec2CTCTokenizer(str(file), unk_token="[UNK]", pad_token="[PAD]", word_delimiter_token="|")


def test_bos_and_eos_stand_where_the_tokenizer_adds_them(tmp_path: Path):
    """Reference: transformers' tokenizer, which adds <s> and </s> to a vocabulary of 29."""
    vocab = Vocab.build(map(hf_timit, PANGRAMS), bos_eos=True)
    assert tokenizer_of(vocab, tmp_path).get_vocab() == dict(vocab.ids)


@pytest.mark.parametrize("text", ["so it goes", "a b ", "don't 9 é", " a  b", ""])
def test_encoding_equals_the_tokenizers(tmp_path: Path, text: str):
    """Reference: transformers' tokenizer; spaces become |, what has no unit [UNK]."""
    vocab = Vocab.build(map(hf_timit, PANGRAMS), bos_eos=True)
    assert vocab.encoder()(text) == tokenizer_of(vocab, tmp_path)(text).input_ids


def test_decoding_equals_the_tokenizers(tmp_path: Path):
    """Reference: transformers' tokenizer on 200 random blank-free sequences, white space aside."""
    vocab, rng = Vocab.build(map(hf_timit, PANGRAMS), bos_eos=True), random.Random(0)
    tokenizer = tokenizer_of(vocab, tmp_path)
    units = [i for i in range(len(vocab)) if i != vocab.blank_id]
    for _ in range(200):
        ids = rng.choices(units, k=rng.randint(0, 12))
        theirs = tokenizer.decode(ids, group_tokens=False, clean_up_tokenization_spaces=False)
        assert vocab.decode(ids).split() == theirs.split(), ids


def test_text_survives_encoding_and_decoding():
    vocab = Vocab.build([plain(text) for text in PANGRAMS])
    for text in map(plain, PANGRAMS):
        assert vocab.decode(vocab.encoder()(text)) == text


def test_hf_timit_targets_end_in_a_word_delimiter_and_plain_ones_do_not():
    vocab = Vocab.build(map(hf_timit, PANGRAMS))
    delimiter = vocab.tokens.index("|")
    assert vocab.encoder()(hf_timit("Stop."))[-1] == delimiter
    assert delimiter not in vocab.encoder()(plain("Stop."))


def test_order_of_texts_changes_no_id():
    assert Vocab.build(PANGRAMS) == Vocab.build(PANGRAMS[::-1])


def test_unseen_characters_are_counted_and_encoded_as_unknown():
    vocab = Vocab.build(["abc cab"])
    assert vocab.unseen("abba xxy cab") == Counter({"x": 2, "y": 1})
    assert [vocab.tokens[i] for i in vocab.encoder()("a xc")] == ["a", "|", "[UNK]", "c"]


@pytest.mark.parametrize(("texts", "fits"), [(["ab", "b a"], True), ([], True), (["ab", "abd"], False), (["A"], False)])
def test_vocabulary_fits_texts_whose_every_character_has_a_unit(texts: list[str], fits: bool):
    assert Vocab.build(["ab"]).fits(texts) is fits


def test_transcript_with_a_word_delimiter_is_refused():
    with pytest.raises(CorpusError, match=r"transcript contains '\|', which marks word boundaries: 'so a\|b'\."):
        Vocab.build(["so it goes", "so a|b", "c|d"])


def test_two_ids_for_one_token_are_refused():
    with pytest.raises(CorpusError, match="'a' stands for two ids"):
        Vocab(("|", "a", "a", "[UNK]", "[PAD]"))


@pytest.mark.parametrize("missing", ["|", "[UNK]", "[PAD]"])
def test_vocabulary_without_a_special_token_is_refused(missing: str):
    tokens = tuple(t for t in ("|", "a", "[UNK]", "[PAD]") if t != missing)
    with pytest.raises(CorpusError) as caught:
        Vocab(tokens)
    assert repr(missing) in str(caught.value)


def test_checkpoints_own_special_tokens_are_used():
    vocab = Vocab(("<pad>", "<s>", "</s>", "<unk>", "|", "E"), blank="<pad>", unknown="<unk>", word_delimiter="|")
    assert vocab.blank_id == 0
    assert vocab.encoder()("E z") == [5, 4, 3]


def test_letter_that_has_units_composed_and_decomposed_is_compared_in_one_form():
    """Reference: Unicode's canonical equivalence: the model may write either."""
    vocab = Vocab(("|", "e", "é", "\u0301", "t", "[UNK]", "[PAD]"))
    assert vocab.encoder()("été") == [2, 4, 2]
    assert vocab.decode([1, 3, 4, 2]) == "e\u0301té"
    assert vocab.decode_to_compare([1, 3, 4, 2]) == vocab.to_compare("été") == vocab.to_compare("e\u0301té") == "été"


@pytest.mark.parametrize("delimiter_text", ["_", "+|+"])
def test_visible_delimiter_makes_no_word_of_a_sentence(delimiter_text: str):
    vocab = Vocab(("|", "a", "b", "[UNK]", "[PAD]"), delimiter_text=delimiter_text)
    assert vocab.decode([1, 0, 2]) == f"a{delimiter_text}b"
    assert vocab.decode_to_compare([1, 0, 2]) == vocab.to_compare("a b") == "a b"


@pytest.mark.parametrize("text", ["it 's", "a . b , c", "do n't", "x ' y", "we 've 're 'm", "no change"])
def test_clean_up_is_transformers(text: str, tmp_path: Path):
    """Reference: clean_up_tokenization of transformers' tokenizers."""
    from data.text.vocab import clean_up_spaces

    assert clean_up_spaces(text) == tokenizer_of(Vocab.build(["a"]), tmp_path).clean_up_tokenization(text)


def test_longest_unit_that_begins_at_a_place_is_taken():
    """Reference: transformers' tokenizer, whose trie does the same."""
    vocab = Vocab(("|", "a", "b", "c", "h", "ch", "abc", "[UNK]", "[PAD]"))
    assert vocab.split("abchab ch") == ["abc", "h", "a", "b", " ", "ch"]
    assert vocab.unseen("chxab[UNK]") == Counter("x[UNK]")
