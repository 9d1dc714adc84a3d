"""python -m scripts.ngram: what its texts may be, and what is no text.

pytest tests/scripts/test_ngram.py
"""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import soundfile

from scripts.ngram import main
from trainer.decoding.arpa import read_arpa

Capture = pytest.CaptureFixture[str]


def put(folder: Path, name: str, content: str | bytes) -> str:
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(folder / name)


def run(folder: Path, capsys: Capture, *texts: str) -> tuple[int, str, Path]:
    """(Exit code, stderr, the model's path)."""
    code = main([*texts, "--order", "2", "--out", str(folder / "out.arpa")])
    return code, capsys.readouterr().err, folder / "out.arpa"


ROW = '{"audio_filepath": "a.wav", "text": "one two"}\n'


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.jsonl.gz", gzip.compress(ROW.encode(), mtime=0), "x.jsonl.gz: a packed manifest is not read. Unpack it"),
        ("x.txt", ROW, "x.txt:1: this is a manifest."),
        ("x.txt", "a b\n<s> a b </s>\n", "x.txt:2: holds <s>, which a model uses for itself, and would be a word."),
        ("x.txt", "a <UNK> b\n", "x.txt:1: holds <UNK>, which"),
        ("x.txt", "\n\\data\\\nngram 1=3\n", "x.txt:2: this is an n-gram model."),
        ("x.txt", "one\ncaf\xe9\n".encode("latin-1"), "x.txt:2: not UTF-8."),
    ],
    ids=["packed manifest", "manifest", "begin and end", "unknown", "n-gram model", "Latin-1"],
)
def test_what_is_no_text_is_refused_with_one_file_and_line(
    tmp_path: Path, capsys: Capture, name: str, content: str | bytes, message: str
) -> None:
    """Not counted as words: a model of `audio filepath wav` would be written without a complaint."""
    path = put(tmp_path, name, content)
    code, said, model = run(tmp_path, capsys, path)
    assert code == 2
    assert not model.exists()
    assert said.startswith(f"error: {tmp_path / message}")
    assert said.count(str(tmp_path)) == 1


@pytest.mark.parametrize(
    ("line", "which"), [("spk-{:03d} one two", "first"), ("one two (spk-{:03d})", "last"), ("one two {:03d} end", None)]
)
def test_names_of_utterances_among_the_words_are_told(
    tmp_path: Path, capsys: Capture, line: str, which: str | None
) -> None:
    """Kaldi's `text` and NIST's trn have them."""
    code, said, model = run(tmp_path, capsys, put(tmp_path, "x.txt", "\n".join(map(line.format, range(12)))))
    assert code == 0
    assert read_arpa(model).num_ngrams > 12
    told = [row for row in said.splitlines() if "names of utterances" in row]
    assert [f"the {which} word of each line" in row for row in told] == ([True] if which else [])


def words_of(model: Path) -> set[str]:
    """The words of a model, without the marks that each has."""
    return set(read_arpa(model).words) - {"<s>", "</s>", "<unk>"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "Give text files or manifests, or --corpus PRESET: one of both."),
        (["x.txt", "--corpus", "demo"], "Give text files or manifests, or --corpus PRESET: one of both."),
        (["x.txt", "--order", "13"], "--order 13: 12 at most."),
        (["x.txt", "--out", "x.bin"], "--out x.bin: give a name that ends in .arpa or .arpa.gz."),
        (["none.txt"], "none.txt: cannot be read (No such file or directory)."),
    ],
)
def test_impossible_options_are_refused(
    words: list[str], message: str, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    put(tmp_path, "x.txt", "one two\n")
    assert main(["--out", "y.arpa", *words]) == 2
    assert message in capsys.readouterr().err


def test_text_may_be_packed_and_begin_with_a_byte_order_mark(tmp_path: Path, capsys: Capture) -> None:
    text = "\ufeffOne, two!\n\n \nthree\n".encode()
    for name, content in (("x.txt", text), ("x.gz", gzip.compress(text, mtime=0))):
        code, said, model = run(tmp_path, capsys, put(tmp_path, name, content))
        assert code == 0
        assert words_of(model) == {"one", "two", "three"}
        assert "2 sentences, 3 words" in said  # empty lines are none
        *_, model = run(tmp_path, capsys, str(tmp_path / name), "--normalizer", "none")
        assert words_of(model) == {"One,", "two!", "three"}
    cut = put(tmp_path, "cut.gz", gzip.compress(text * 999, mtime=0)[:-20])
    code, said, _ = run(tmp_path, capsys, cut)
    assert code == 2
    assert f"{cut}: cannot be read (Compressed file ended" in said


def test_text_is_normalised_as_it_is_asked_for(tmp_path: Path, capsys: Capture) -> None:
    path = put(tmp_path, "x.txt", "One, two!\n")
    for asked, words in (
        (["--normalizer", "none"], {"One,", "two!"}), (["--normalizer", "plain-upper"], {"ONE", "TWO"}),
        (["--units"], {*"onetw", "|"}),
    ):  # fmt: skip
        code, _, model = run(tmp_path, capsys, path, *asked)
        assert code == 0
        assert words_of(model) == words


def test_discounts_that_cannot_be_estimated_are_told(tmp_path: Path, capsys: Capture) -> None:
    _, said, _ = run(tmp_path, capsys, put(tmp_path, "x.txt", "one two\n"))
    assert "warning: too few different counts to estimate the discounts of 1-grams" in said
    assert "discounts of 2-grams" in said


def test_a_model_goes_to_a_folder_that_is_made_for_it(tmp_path: Path) -> None:
    path = put(tmp_path, "x.txt", "one two\n")
    assert main([path, "--out", str(tmp_path / "new" / "deep" / "x.arpa.gz")]) == 0
    assert words_of(tmp_path / "new" / "deep" / "x.arpa.gz") == {"one", "two"}


def test_a_manifests_transcripts_are_the_text(tmp_path: Path, capsys: Capture) -> None:
    write_silence(tmp_path / "a.wav")
    path = put(tmp_path, "x.jsonl", '{"audio_filepath": "a.wav", "text": "one", "said": "two"}\n')
    for asked, words in (([], {"one"}), (["--text-field", "said"], {"two"})):
        code, _, model = run(tmp_path, capsys, path, *asked)
        assert code == 0
        assert words_of(model) == words


def write_silence(path: Path) -> None:
    soundfile.write(path, np.zeros(16_000), 16_000)


def test_a_presets_corpus_is_read_as_training_reads_it(tmp_path: Path, capsys: Capture) -> None:
    """Its own normaliser, which here writes capitals."""
    write_silence(tmp_path / "a.wav")
    path = put(tmp_path, "x.jsonl", '{"audio_filepath": "a.wav", "text": "one, two"}\n')
    preset = ["manifest", "--corpus.train", path, "--corpus.eval", path, "--corpus.normalizer", "plain-upper"]
    code = main(["--order", "2", "--out", str(tmp_path / "out.arpa"), "--corpus", *preset])
    assert code == 0, capsys.readouterr().err
    assert words_of(tmp_path / "out.arpa") == {"ONE", "TWO"}


def test_text_without_a_word_names_its_files(tmp_path: Path, capsys: Capture) -> None:
    path = put(tmp_path, "x.txt", "?!\n")
    code, said, _ = run(tmp_path, capsys, path)
    assert code == 2
    assert said.startswith(f"error: {path}: ")
    assert "no word" in said


@pytest.mark.parametrize(
    ("lines", "is_told"),
    [
        ([f"w{i} a" for i in range(10)], True),
        ([f"w{i} a" for i in range(9)], False),
        ([f"w{i} a" for i in range(10)] + ["w1 a"], False),
        ([f"w{i} a" for i in range(10)] + ["x a"], False),
    ],
    ids=["ten", "nine", "one twice", "one without a digit"],
)
def test_ten_different_words_with_digits_look_like_names(
    lines: list[str], is_told: bool, tmp_path: Path, capsys: Capture
) -> None:
    _, said, _ = run(tmp_path, capsys, put(tmp_path, "x.txt", "\n".join(lines)))
    assert ("names of utterances" in said) == is_told
