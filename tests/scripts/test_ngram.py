"""python -m scripts.ngram: what its texts may be, and what is no text.

pytest tests/scripts/test_ngram.py
"""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

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
        ("x.txt", "\n\\data\\\nngram 1=3\n", "x.txt:2: this is an n-gram model."),
        ("x.txt", "one\ncaf\xe9\n".encode("latin-1"), "x.txt:2: not UTF-8."),
    ],
    ids=["packed manifest", "manifest", "n-gram model", "Latin-1"],
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
