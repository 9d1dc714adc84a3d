"""Which units a run writes (trainer.prepare.vocabulary), and that references and transcripts are compared in one form.

pytest tests/trainer/prepare/test_vocabulary.py
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, pipeline

from data.text.normalise import collapse_spaces, plain
from models.checkpoints.pretrained import EncoderSource, read_pretrained
from scripts.evaluate import main as evaluate_main
from scripts.evaluate import parse_all
from scripts.export_onnx import main as export_main
from tests.helpers.checkpoints import KINDS, SPECIALS, Kind, plus, write_checkpoint, write_tokenizer
from tests.helpers.corpora import write_jsonl
from tests.helpers.models import noise, small_config
from trainer.cli.console import Console
from trainer.errors import CorpusError
from trainer.prepare.vocabulary.choice import choose_vocabulary
from trainer.run import main


def encoder_of(folder: Path, kind: Kind, architecture: str = "Wav2Vec2ForCTC") -> EncoderSource:
    write_tokenizer(folder, kind)
    config = small_config("wav2vec2", vocab_size=len(kind.tokens), pad_token_id=0, architectures=[architecture])
    config.save_pretrained(folder)
    pretrained = read_pretrained(str(folder), None)
    return EncoderSource(pretrained.config, pretrained)


def nfd(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(unicodedata.normalize("NFD", text).replace(" ", "")))


FITTING = [
    (plus(*"abc"), ["ab c"], "as-is"),
    (plus(*"ABC"), ["ab c"], "upper"),
    (plus(*"abc"), ["AB C"], "lower"),
    (plus(*"STRAE"), ["straße"], "upper"),
    (plus(*"STRAEß"), ["straße"], "upper"),
    (plus(*"straeß"), ["straße"], "as-is"),
    (plus(*"Iİ"), ["iı"], "upper"),
    (plus(*nfd("tiếng việt")), ["tiếng việt"], "nfd"),
    (plus(*nfd("tiếng việt".upper())), ["tiếng việt"], "upper-nfd"),
    (plus(*"tiếngvệ"), ["tie\u0302\u0301ng vie\u0323\u0302t"], "nfc"),
    (plus(*"TIẾNGVỆ"), ["tie\u0302\u0301ng vie\u0323\u0302t"], "upper-nfc"),
    (plus(*nfd("한국어 값")), ["한국어", "값"], "nfd"),
    (plus(*"ㅎㅏㄴㄱㅜㅇㅓㅄ"), ["한국어", "값"], "jamo"),
    (plus("e\u0301", "t"), ["été"], "nfd"),
    (plus(*"ABC", delimiter=" "), ["ab c"], "upper"),
]


@pytest.mark.parametrize(("tokens", "texts", "expected"), FITTING)
@pytest.mark.parametrize("training", [True, False])
def test_the_one_spelling_that_fits_is_chosen_and_said(
    tokens: tuple[str, ...], texts: list[str], expected: str, training: bool,
    tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Reference: transformers' tokenizer of the same folder, which knows every character of the spelled text."""
    encoder = encoder_of(tmp_path, Kind(tokens))
    known = texts if training else []
    vocab, is_own = choose_vocabulary("auto", known, encoder, False, training, to_score=texts, console=Console())
    assert (is_own, vocab.spelling.name, vocab.tokens) == (True, expected, tokens)
    unknown = vocab.ids["<unk>"]
    for text in texts:
        ids = vocab.encoder()(text)
        assert unknown not in ids
        assert AutoTokenizer.from_pretrained(tmp_path).decode(ids, group_tokens=False) == vocab.to_compare(text)
    said = "".join(capsys.readouterr())
    assert ("its own units are kept" in said) == (expected != "as-is")
    assert (f"({expected}; --corpus.spelling chooses otherwise)" in said) == (expected != "as-is")


def test_phonemes_are_units_between_spaces(tmp_path: Path) -> None:
    """Reference: transformers' phoneme tokenizer."""
    encoder = encoder_of(tmp_path, KINDS["phonemes and words"])
    text = "ɑ̃ tʃ | a"
    vocab, is_own = choose_vocabulary("auto", [text], encoder, False, True)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert is_own
    assert vocab.encoder()(text) == tokenizer(text, do_phonemize=False).input_ids
    assert vocab.to_compare(text) == tokenizer.decode(vocab.encoder()(text)) == "ɑ̃ tʃ a"


def test_words_in_place_of_phonemes_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    encoder = encoder_of(tmp_path, KINDS["phonemes"])
    choose_vocabulary("auto", [], encoder, False, False, to_score=["hello world"], console=Console())
    said = "".join(capsys.readouterr())
    assert "2 phonemes have no unit in its vocabulary ('hello' 1, 'world' 1)" in said
    assert "with spaces between them" in said


def test_several_spellings_that_differ_are_refused_with_the_option(tmp_path: Path) -> None:
    encoder = encoder_of(tmp_path, Kind(plus(*"ÉTE", "\u0301")))
    with pytest.raises(CorpusError, match=r"more than one way, as 'ÉTÉ' \(upper\) or .* \(upper-nfd\)\. Choose with"):
        choose_vocabulary("auto", ["été"], encoder, False, True)
    vocab, is_own = choose_vocabulary("auto", ["été"], encoder, False, True, spelling="upper-nfd")
    assert (is_own, vocab.spelling.name) == (True, "upper-nfd")


def test_spellings_alike_in_training_are_told_apart_by_what_is_scored(tmp_path: Path) -> None:
    encoder = encoder_of(tmp_path, Kind(plus(*"ETX", "\u0301")))
    vocab, _ = choose_vocabulary("auto", ["tex"], encoder, False, True, to_score=["été"])
    assert vocab.spelling.name == "upper-nfd"


def test_head_that_is_lost_is_said_with_the_characters_and_the_option(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    encoder = encoder_of(tmp_path, Kind(plus(*"ABC")))
    texts = ["ab 5", "c5 é"]
    vocab, is_own = choose_vocabulary("auto", texts, encoder, False, True, console=Console())
    assert not is_own
    assert vocab.spelling.name == "as-is"
    said = " ".join("".join(capsys.readouterr()).split())
    assert "3 characters have no unit in its vocabulary ('5' 2, 'É' 1), even when text is written in capitals" in said
    assert "units and head are new" in said
    assert "--corpus.vocabulary own" in said
    vocab, is_own = choose_vocabulary("own", texts, encoder, False, True, console=Console())
    assert (is_own, vocab.spelling.name) == (True, "upper")
    assert [vocab.tokens[i] for i in vocab.encoder()(texts[0])] == ["A", "B", "|", "<unk>"]
    assert "trained as <unk>" in "".join(capsys.readouterr())


def test_references_that_fit_in_no_spelling_are_scored_in_the_nearest_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    encoder = encoder_of(tmp_path, Kind(plus(*"ABC")))
    vocab, _ = choose_vocabulary("auto", [], encoder, False, False, to_score=["ab 5", "c"], console=Console())
    assert vocab.to_compare("ab 5") == "AB 5"
    said = " ".join("".join(capsys.readouterr()).split())
    assert "1 character has no unit in its vocabulary ('5' 1)" in said
    assert "--corpus.normalizer" in said


def test_encoder_that_was_only_pretrained_gets_units_of_the_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """facebook/wav2vec2-base has a tokenizer of capitals, and no head: there is nothing to keep."""
    encoder = encoder_of(tmp_path, Kind(plus(*"ABC")), "Wav2Vec2ForPreTraining")
    vocab, is_own = choose_vocabulary("auto", ["ab"], encoder, False, True, console=Console())
    assert (is_own, vocab.tokens) == (False, ("|", "a", "b", "[UNK]", "[PAD]"))
    assert "".join(capsys.readouterr()) == ""


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("rule", ["auto", "own"])
def test_delimiter_in_a_reference_is_refused_under_the_checkpoints_own_units(
    rule: str, training: bool, tmp_path: Path
) -> None:
    encoder = encoder_of(tmp_path, Kind(plus(*"abc")))
    with pytest.raises(CorpusError, match=r"contains '\|', which marks word boundaries: 'a\|b'"):
        choose_vocabulary(rule, ["a|b"], encoder, False, training, to_score=["a|b"])


def test_delimiter_that_is_a_space_forbids_nothing(tmp_path: Path) -> None:
    encoder = encoder_of(tmp_path, Kind(plus(*"ab|", delimiter=" "), dict(word_delimiter_token=" ")))
    assert choose_vocabulary("auto", ["a|b a"], encoder, False, True)[0].encoder()("a|b a") == [5, 7, 6, 4, 5]


@pytest.mark.parametrize(
    ("rule", "message"),
    [("new", "here units are new"), ("auto", "here units are new")],
)  # fmt: skip
def test_spelling_of_new_units_is_refused(rule: str, message: str, tmp_path: Path) -> None:
    encoder = encoder_of(tmp_path, Kind(plus(*"abc")))
    if rule == "auto":
        (tmp_path / "vocab.json").unlink()
        pretrained = read_pretrained(str(tmp_path), None)
        encoder = EncoderSource(pretrained.config, pretrained)
    with pytest.raises(CorpusError, match=message):
        choose_vocabulary(rule, ["ab"], encoder, False, True, spelling="upper")


# Through the commands


def as_people_write(name: str) -> Callable[[str], str]:
    """A transcript of `name`'s, as its speaker's corpus would hold it."""
    if name == "nothing between words":
        return lambda text: text
    if name == "space written as underscore":
        return lambda text: text.replace("_", " ")
    return lambda text: unicodedata.normalize("NFC", text).lower()


END_TO_END = ["capitals", "letter and marks as one unit"]
# Nonsense of marks without a letter, of quotes, of Korean letters out of order is no text that people write
NO_TEXT = ("decomposed", "cleaned up", "Korean letters that stand alone")
OTHERS = [name for name in KINDS if name not in (*END_TO_END, *NO_TEXT)]


def corpus_of(folder: Path, checkpoint: Path, name: str) -> Path:
    """A manifest whose references are what transformers' pipeline writes, as people write it: right is 0 errors."""
    recognise, rows = pipeline("automatic-speech-recognition", model=str(checkpoint)), []
    for i in range(3):
        soundfile.write(folder / f"{i}.wav", noise(14_000 + 900 * i, seed=i), 16_000, subtype="PCM_16")
        samples, _ = soundfile.read(folder / f"{i}.wav", dtype="float32")
        text = as_people_write(name)(collapse_spaces(recognise({"raw": samples, "sampling_rate": 16_000})["text"]))
        rows.append({"audio_filepath": f"{i}.wav", "text": text, "speaker": f"s{i}"})
    assert any(row["text"] for row in rows)
    return write_jsonl(folder / "test.jsonl", rows)


def options_of(folder: Path, manifest: Path) -> list[str]:
    return [
        "--corpus.eval", str(manifest), "--device", "cpu",
        "--runs-dir", str(folder / "runs"), "--cache-dir", str(folder / "cache"), "--name", "it",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "name", [*END_TO_END, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)]
)  # fmt: skip
def test_references_that_people_write_score_zero_where_all_is_right(name: str, tmp_path: Path) -> None:
    """Reference: transformers' pipeline."""
    write_checkpoint(tmp_path / "model", KINDS[name])
    manifest = corpus_of(tmp_path, tmp_path / "model", name)
    texts = [json.loads(line)["text"] for line in manifest.read_text(encoding="utf-8").splitlines()]
    assert evaluate_main([str(tmp_path / "model"), "manifest", *options_of(tmp_path, manifest)]) == 0
    results = json.loads((tmp_path / "runs" / "it" / "results.json").read_text())
    assert (results["num_errors"], results.get("cer", 0.0)) == (0, 0.0)  # phonemes have no character error rate
    if name != "nothing between words":
        number = results["num_reference_phones" if "per" in results else "num_reference_words"]
        assert number == sum(len(plain(text).split()) for text in texts) >= len(texts)


def test_training_on_a_checkpoint_of_capitals_keeps_its_head_and_exports_capitals(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a rate of nearly nothing the head stays what it was, and the error is 0 from the first step."""
    model = write_checkpoint(tmp_path / "model", KINDS["capitals"])
    manifest = corpus_of(tmp_path, tmp_path / "model", "capitals")
    options = ["--corpus.train", str(manifest), "--train.max-steps", "1", "--optim.lr", "1e-12", "--no-report",
               "--optim.warmup-steps", "0", "--model.pretrained", str(tmp_path / "model")]  # fmt: skip
    assert main(["manifest", *options_of(tmp_path, manifest), *options]) == 0
    assert json.loads((tmp_path / "runs" / "it" / "results.json").read_text())["wer"] == 0.0
    said = " ".join("".join(capsys.readouterr()).split())
    assert "text is written in capitals as they are (upper; --corpus.spelling chooses otherwise)" in said
    assert "new: lm_head" not in said
    exported = load_file(tmp_path / "runs" / "it" / "model" / "model.safetensors")
    assert torch.allclose(exported["lm_head.weight"], model.lm_head.weight.detach(), atol=1e-6)
    assert AutoTokenizer.from_pretrained(tmp_path / "runs" / "it" / "model").get_vocab()["A"] == 5


def test_bar_in_a_reference_is_named_with_its_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The reference's own normaliser keeps it."""
    write_checkpoint(tmp_path / "model", KINDS["lower case"])
    soundfile.write(tmp_path / "0.wav", noise(9000), 16_000)
    manifest = write_jsonl(tmp_path / "test.jsonl", [{"audio_filepath": "0.wav", "text": "ab|c"}])
    options = [*options_of(tmp_path, manifest), "--corpus.normalizer", "hf-timit"]
    assert evaluate_main([str(tmp_path / "model"), "manifest", *options]) == 2
    said = capsys.readouterr().err
    assert "test.jsonl:1: utterance 0.wav: its transcript contains '|', which marks word boundaries: 'ab|c" in said


@pytest.mark.slow
def test_onnx_is_measured_in_the_same_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A checkpoint of capitals that are read as lower case, with underscores between words."""
    import onnx

    kind = Kind(plus(*"ABCDE"), dict(do_lower_case=True, replace_word_delimiter_char="_"))
    model = write_checkpoint(tmp_path / "model", kind)
    model.lm_head.weight.data /= 100  # so loud a head shows differences that are rounding
    model.lm_head.bias.data /= 100
    model.save_pretrained(tmp_path / "model")
    manifest = corpus_of(tmp_path, tmp_path / "model", "space written as underscore")
    assert export_main([str(tmp_path / "model"), "--manifest", str(manifest)]) == 0
    assert capsys.readouterr().out.count("WER 0.00 %") == 2
    graph = onnx.load(tmp_path / "model" / "model.onnx")
    assert json.loads({p.key: p.value for p in graph.metadata_props}["reading"]) == {
        "word_delimiter": "|", "delimiter_text": "_", "between_units": "", "lower_case": True, "clean_up": False,
    }  # fmt: skip


def test_evaluate_takes_revision_and_language() -> None:
    options = ["--model.target-lang", "tur", "--model.revision", "v1", "--corpus.eval", "x"]
    source, config, _ = parse_all(["some/model", "manifest", *options])
    assert (source, config.model.target_lang, config.model.revision) == ("some/model", "tur", "v1")


def test_special_tokens_are_never_written_by_text(tmp_path: Path) -> None:
    """A blank of one character, as older vocabularies have, is no letter."""
    kind = Kind(("-", *SPECIALS[1:], "|", "a", "b"), dict(pad_token="-"))
    encoder = encoder_of(tmp_path, kind)
    vocab, is_own = choose_vocabulary("own", ["a-b"], encoder, False, True)
    assert is_own
    assert [vocab.tokens[i] for i in vocab.encoder()("a-b")] == ["a", "<unk>", "b"]
    assert not vocab.fits(["a-b"])
