"""Checkpoints of other people's making, read and exported: what is written is what transformers writes.

Reference: transformers' tokenizers and pipeline. Every folder is written by its own save_pretrained.

pytest tests/models/checkpoints/test_tokenizer.py
"""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from transformers import AutoProcessor, AutoTokenizer, pipeline

from data.text.normalise import collapse_spaces
from data.text.vocab import Vocab
from models.checkpoints.export import save_huggingface
from models.checkpoints.pretrained import EncoderSource, read_pretrained
from tests.helpers.checkpoints import KINDS, SPECIALS, Kind, plus, write_checkpoint, write_tokenizer
from tests.helpers.models import edit_json, noise, small_config, small_hf_model
from trainer.cli.console import Console
from trainer.errors import CorpusError, ModelError
from trainer.prepare.vocabulary.choice import choose_vocabulary, own_vocabulary
from trainer.recognize.transcribe import Windows, load_recognizer, transcribe

EVERY_KIND = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def write_described(folder: Path, kind: Kind, num_outputs: int | None = None) -> Path:
    """A checkpoint without weights: its configuration and its tokenizer."""
    write_tokenizer(folder, kind)
    num_outputs = num_outputs or len(kind.tokens)
    config = small_config("wav2vec2", vocab_size=num_outputs, pad_token_id=0, architectures=["Wav2Vec2ForCTC"])
    config.save_pretrained(folder)
    return folder


def vocab_of(folder: Path) -> Vocab:
    vocab = own_vocabulary(read_pretrained(str(folder), None))
    assert vocab is not None, read_pretrained(str(folder), None).mismatch
    return vocab


def random_frames(vocab: Vocab, rng: random.Random) -> list[int]:
    """Units of frames: runs of equal ids, blanks between some."""
    ids: list[int] = []
    for _ in range(rng.randint(0, 25)):
        ids += [rng.randrange(len(vocab))] * rng.randint(1, 3) + [vocab.blank_id] * rng.randint(0, 1)
    return ids


def collapsed(ids: list[int], blank: int) -> list[int]:
    return [i for i, before in zip(ids, [-1, *ids], strict=False) if i not in (before, blank)]


@EVERY_KIND
def test_units_are_read_as_transformers_reads_them(kind: Kind, tmp_path: Path) -> None:
    """200 random rows of frames; the tokenizer is the one in memory, before saving it lost anything."""
    tokenizer, vocab = write_tokenizer(tmp_path, kind), vocab_of(write_described(tmp_path, kind))
    rng, told = random.Random(0), set()
    for _ in range(200):
        ids = random_frames(vocab, rng)
        theirs = tokenizer.decode(ids) if ids else ""  # transformers' phoneme tokenizer raises over none
        assert vocab.decode(collapsed(ids, vocab.blank_id)) == theirs
        told.add(theirs)
    assert len(told) > 100, "texts that are alike show nothing"


@EVERY_KIND
def test_exported_tokenizer_reads_the_same(kind: Kind, tmp_path: Path) -> None:
    """As AutoTokenizer and AutoProcessor load it from the folder."""
    vocab = vocab_of(write_described(tmp_path, kind))
    model = small_hf_model("wav2vec2", vocab_size=len(vocab), pad_token_id=vocab.blank_id)
    save_huggingface(model, vocab.tokens, vocab.special, True, tmp_path / "out", vocab.reading)
    tokenizer, rng = AutoTokenizer.from_pretrained(tmp_path / "out"), random.Random(1)
    assert type(AutoProcessor.from_pretrained(tmp_path / "out").tokenizer) is type(tokenizer)
    assert len(tokenizer) == len(vocab)
    again = vocab_of(tmp_path / "out")
    for _ in range(100):
        ids = random_frames(vocab, rng)
        theirs = tokenizer.decode(ids) if ids else ""
        assert vocab.decode(collapsed(ids, vocab.blank_id)) == theirs
        assert again.decode(collapsed(ids, vocab.blank_id)) == theirs


@pytest.mark.parametrize("delimiter", ["_", "-", " "])
@pytest.mark.parametrize("replacement", [" ", "+"])
def test_another_delimiter_survives_the_export(delimiter: str, replacement: str, tmp_path: Path) -> None:
    """transformers 5 forgets any delimiter but | when it loads a tokenizer: the export must not depend on it."""
    options = dict(word_delimiter_token=delimiter, replace_word_delimiter_char=replacement)
    kind = Kind(plus(*"ab", delimiter=delimiter), options)
    written = write_tokenizer(tmp_path, kind)
    vocab = vocab_of(write_described(tmp_path, kind))
    model = small_hf_model("wav2vec2", vocab_size=len(vocab), pad_token_id=0)
    save_huggingface(model, vocab.tokens, vocab.special, True, tmp_path / "out", vocab.reading)
    ids = [5, 4, 6]
    assert written.decode(ids) == f"a{replacement}b"
    assert vocab.decode(ids) == f"a{replacement}b"
    assert AutoTokenizer.from_pretrained(tmp_path / "out").decode(ids) == f"a{replacement}b"


@EVERY_KIND
def test_text_is_encoded_as_transformers_encodes_it(kind: Kind, tmp_path: Path) -> None:
    """Text that is spelled as the units are. Where units have several characters it is one word: around them
    transformers takes spaces away, and with them the boundaries."""
    tokenizer, vocab = write_tokenizer(tmp_path, kind), vocab_of(write_described(tmp_path, kind))
    if kind is KINDS["space for the delimiter"]:  # transformers' own delimiter has no output there
        assert vocab.encoder()("ab c") == [5, 6, 4, 7]
        return
    if kind is KINDS["lower case, told to lower"]:
        tokenizer.do_lower_case = False  # it would look for capitals that are not there
    rng, units = random.Random(2), sorted(vocab.writable - {vocab.word_delimiter})
    num_words = 1 if any(len(unit) > 1 for unit in units) or (not vocab.word_delimiter and not kind.phonemes) else 4
    for _ in range(50):
        words = [(" " if kind.phonemes else "").join(rng.choices(units, k=rng.randint(1, 5))) for _ in range(num_words)]
        assert vocab.encoder()(" ".join(words)) == tokenizer(" ".join(words)).input_ids


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, id=name, marks=[] if "under" in name or name == "phonemes" else [pytest.mark.slow])
     for name, kind in KINDS.items()],
)  # fmt: skip
def test_pipeline_writes_what_transcribe_writes(kind: Kind, tmp_path: Path) -> None:
    """From the checkpoint's own folder and from the folder that is exported of it, with words in the same order."""
    write_checkpoint(tmp_path / "given", kind)
    recognizer = load_recognizer(str(tmp_path / "given"))
    vocab = recognizer.vocab
    save_huggingface(recognizer.model.hf, vocab.tokens, vocab.special, True, tmp_path / "out", vocab.reading)
    given, exported = (pipeline("automatic-speech-recognition", model=str(tmp_path / n)) for n in ("given", "out"))
    for num_samples in (16_000, 30_000):
        waveform = noise(num_samples, seed=num_samples)
        transcript = transcribe(recognizer, "x", waveform, Windows())
        for recognise in (given, exported):
            theirs = recognise({"raw": waveform.copy(), "sampling_rate": 16_000})["text"]
            assert transcript.text == collapse_spaces(theirs)
        if kind.options.get("replace_word_delimiter_char", " ") == " ":
            assert " ".join(word.text for word in transcript.words) == transcript.text


# Tokens and outputs


def test_specials_behind_the_heads_last_output_are_left_out(tmp_path: Path) -> None:
    kind = KINDS["specials behind the head"]
    assert "<s>" in json.loads((write_described(tmp_path, kind) / "added_tokens.json").read_text())
    assert vocab_of(tmp_path).tokens == kind.tokens


@pytest.mark.parametrize("extra", [("é",), ("<ctc>", "ü")])
def test_more_tokens_than_outputs_are_no_vocabulary(extra: tuple[str, ...], tmp_path: Path) -> None:
    write_described(tmp_path, Kind(plus(*"abc", *extra)), num_outputs=8)
    pretrained = read_pretrained(str(tmp_path), None)
    assert (pretrained.tokens, pretrained.is_oversized) == (None, True)
    shown = ", ".join(map(repr, extra))
    assert pretrained.mismatch.endswith(f"{8 + len(extra)} tokens and its CTC head 8 outputs: none writes {shown}")


@pytest.mark.parametrize("name", ["no unknown unit", "letters and a blank alone"])
def test_what_has_no_unit_is_left_out_of_targets_where_nothing_stands_for_it(name: str, tmp_path: Path) -> None:
    """Never the blank, which would be no target of CTC."""
    vocab = vocab_of(write_described(tmp_path, KINDS[name]))
    assert vocab.unknown is None
    assert vocab.encoder()("axb") == [vocab.ids["a"], vocab.ids["b"]]
    assert vocab.unseen("axb") == {"x": 1}


def test_own_units_without_an_unknown_one_are_refused_for_text_that_they_cannot_write(tmp_path: Path) -> None:
    pretrained = read_pretrained(str(write_described(tmp_path, KINDS["no unknown unit"])), None)
    encoder = EncoderSource(pretrained.config, pretrained)
    with pytest.raises(CorpusError, match=r"1 character has no unit.*it has no unknown unit to train them as"):
        choose_vocabulary("own", ["axb"], encoder, False, True)


def test_words_of_units_with_nothing_between_are_compared_without_spaces_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pretrained = read_pretrained(str(write_described(tmp_path, KINDS["no unit between words"])), None)
    vocab, is_own = choose_vocabulary(
        "auto", ["我你 他爱"], EncoderSource(pretrained.config, pretrained), False, True, console=Console()
    )
    assert is_own
    assert "no unit of its own stands between words" in "".join(capsys.readouterr())
    assert vocab.to_compare("我你 他爱") == vocab.decode_to_compare(vocab.encoder()("我你 他爱")) == "我你他爱"


def test_unknown_token_that_is_the_blank_is_none(tmp_path: Path) -> None:
    write_described(tmp_path, Kind(plus(*"abc"), dict(unk_token="<pad>")))
    assert vocab_of(tmp_path).unknown is None


def test_special_tokens_of_special_tokens_map_alone_are_read(tmp_path: Path) -> None:
    """transformers 4 read them there; 5 does not, and adds a <pad> that no output writes."""
    kind = KINDS["specials behind the head"]
    write_described(tmp_path, kind)
    content = json.loads((tmp_path / "tokenizer_config.json").read_text())
    specials = {role: content.pop(role) for role in ("pad_token", "unk_token", "bos_token", "eos_token")}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(content))
    specials["pad_token"] = dict(content="[PAD]", lstrip=False, rstrip=False, normalized=True, single_word=False)
    (tmp_path / "special_tokens_map.json").write_text(json.dumps(specials))
    vocab = vocab_of(tmp_path)
    assert (vocab.tokens, vocab.blank, vocab.unknown) == (kind.tokens, "[PAD]", "[UNK]")


@pytest.mark.parametrize("name", ["RobertaTokenizer", "PreTrainedTokenizerFast"])
def test_vocabulary_of_another_kind_of_tokenizer_is_none(name: str, tmp_path: Path) -> None:
    """Byte-level BPE has a vocab.json too, of units such as Ġthe, which would be written as they stand."""
    edit_json(write_described(tmp_path, Kind(plus("Ġthe"))) / "tokenizer_config.json", tokenizer_class=name)
    assert f"its tokenizer is a {name}" in read_pretrained(str(tmp_path), None).mismatch


def test_tokenizer_in_the_folder_above_is_named(tmp_path: Path) -> None:
    """As transformers' Trainer leaves checkpoint-500 in its output folder."""
    write_described(tmp_path, Kind(plus(*"abc")))
    small_config("wav2vec2").save_pretrained(tmp_path / "checkpoint-500")
    mismatch = read_pretrained(str(tmp_path / "checkpoint-500"), None).mismatch
    assert f"no tokenizer, but {tmp_path} has: copy vocab.json and tokenizer_config.json from there" in mismatch


def test_added_tokens_within_the_head_are_units(tmp_path: Path) -> None:
    """As a vocabulary to which somebody added letters before the head was made."""
    tokenizer = write_tokenizer(tmp_path, Kind(plus(*"abc")))
    tokenizer.add_tokens(["é", "ü"])
    tokenizer.save_pretrained(tmp_path)
    config = small_config("wav2vec2", vocab_size=10, pad_token_id=0, architectures=["Wav2Vec2ForCTC"])
    config.save_pretrained(tmp_path)
    assert vocab_of(tmp_path).tokens == plus(*"abcéü")


def test_one_id_for_two_tokens_is_no_vocabulary(tmp_path: Path) -> None:
    """As transformers' example makes it where the text holds the delimiter itself."""
    write_described(tmp_path, Kind(plus(*"abc")))
    edit_json(tmp_path / "vocab.json", b=5)
    assert read_pretrained(str(tmp_path), None).mismatch.endswith("its vocab.json has one id for two tokens")


def test_tokenizer_whose_blank_no_output_writes_is_no_vocabulary(tmp_path: Path) -> None:
    write_described(tmp_path, Kind(tuple(t for t in plus(*"abc") if t != "<pad>")))
    assert "none writes '<pad>'" in read_pretrained(str(tmp_path), None).mismatch


@pytest.mark.parametrize("missing", ["<unk>", "|"])
def test_token_of_vocab_json_that_no_output_writes_is_no_vocabulary(missing: str, tmp_path: Path) -> None:
    """It was not added by transformers: this is the tokenizer of a larger head."""
    kept = tuple(t for t in plus(*"abc") if t != missing)
    write_described(tmp_path, Kind((*kept, missing)), num_outputs=len(kept))
    assert f"none writes {missing!r}" in read_pretrained(str(tmp_path), None).mismatch


@pytest.mark.parametrize("tokenizer_class", ["Wav2Vec2CTCTokenizer", "Wav2Vec2Tokenizer"])
def test_configuration_of_transformers_4_is_read(tokenizer_class: str, tmp_path: Path) -> None:
    """As 4.40 wrote it: every token of several characters with its flags, clean-up on by default, <s> outside."""
    kind = KINDS["specials behind the head"]
    write_described(tmp_path, kind)
    flags = dict(normalized=False, single_word=False)
    added = {
        str(i): dict(content=token, lstrip=i < 8, rstrip=i < 8, special=i >= 8, **flags)
        for i, token in ((6, "[UNK]"), (7, "[PAD]"), (8, "<s>"), (9, "</s>"))
    }
    config = dict(
        added_tokens_decoder=added, bos_token="<s>", eos_token="</s>", unk_token="[UNK]", pad_token="[PAD]",
        clean_up_tokenization_spaces=True, do_lower_case=False, replace_word_delimiter_char=" ", target_lang=None,
        tokenizer_class=tokenizer_class, word_delimiter_token="|", processor_class="Wav2Vec2Processor",
    )  # fmt: skip
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    vocab = vocab_of(tmp_path)
    assert (vocab.tokens, vocab.reading) == (kind.tokens, {"clean_up": True})


@pytest.mark.parametrize("content", ['{"a": "0"}', '{"a": -1, "b": 0}', '{"a": {"b": 0}, "c": 1}', "{}", "[1]", "{"])
def test_damaged_vocabulary_is_none(content: str, tmp_path: Path) -> None:
    write_described(tmp_path, Kind(plus(*"abc")))
    (tmp_path / "vocab.json").write_text(content)
    pretrained = read_pretrained(str(tmp_path), None)
    assert pretrained.tokens is None
    assert pretrained.mismatch


@pytest.mark.parametrize(
    "content",
    ["{", "[]", '{"added_tokens_decoder": 3}', '{"added_tokens_decoder": {"1": {"a": 2}}}', '{"pad_token": null}',
     '{"target_lang": 7}', '{"word_delimiter_token": 7}'],
)  # fmt: skip
def test_damaged_tokenizer_configuration_is_no_traceback(content: str, tmp_path: Path) -> None:
    write_described(tmp_path, Kind(plus(*"abc")))
    (tmp_path / "tokenizer_config.json").write_text(content)
    pretrained = read_pretrained(str(tmp_path), None)
    assert pretrained.tokens == plus(*"abc") or pretrained.mismatch


def test_blank_that_is_another_in_the_configuration_is_said(tmp_path: Path) -> None:
    """As a model is that was made without pad_token_id: transformers' default is 0."""
    write_described(tmp_path, KINDS["specials behind the head"])
    assert (
        "blank is '[PAD]', but its configuration says '|' (pad_token_id 0)"
        in read_pretrained(str(tmp_path), None).doubt
    )
    edit_json(tmp_path / "config.json", pad_token_id=KINDS["specials behind the head"].tokens.index("[PAD]"))
    assert read_pretrained(str(tmp_path), None).doubt == ""


def test_tokenizer_of_pretraining_alone_is_none(tmp_path: Path) -> None:
    write_described(tmp_path, Kind(plus(*"abc")))
    for name in ("vocab.json", "tokenizer_config.json"):
        (tmp_path / name).unlink()
    pretrained = read_pretrained(str(tmp_path), None)
    assert (pretrained.tokens, pretrained.mismatch) == (None, "")


def test_language_of_a_checkpoint_with_one_is_refused(tmp_path: Path) -> None:
    write_described(tmp_path, Kind((*SPECIALS, "|", "a")))
    with pytest.raises(ModelError, match=r"has no adapters for languages\. Leave --model\.target-lang tur out"):
        read_pretrained(str(tmp_path), None, "tur")
