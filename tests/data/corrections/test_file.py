"""The files of corrections: what their lines mean, and what is said of lines that mean nothing.

pytest tests/data/corrections/test_file.py
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from data.corrections.file import read_corrections
from trainer.errors import CorpusError


def write(path: Path, content: str | bytes) -> str:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def meant(exclude: str = "", patch: str = "") -> list[tuple[str, str | None, str]]:
    """(Id, text or None, split) of each correction."""
    corrections = read_corrections(exclude, patch)
    assert corrections is not None
    return [(entry.id, entry.text, entry.split) for entry in corrections.entries]


def test_without_a_file_there_are_no_corrections() -> None:
    assert read_corrections("", "") is None


ODD_IDS = ["s1 0007", 'he said "no"', "wav/ü.flac#t=1,2", "日本 語", "a\u2028b", "-1", "{x"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_list_of_ids_in_any_encoding_and_with_any_line_ends(tmp_path: Path, end: str, encoding: str) -> None:
    text = end.join(["# from doctor.html", "", *ODD_IDS, "  # more", ""])
    path = write(tmp_path / "bad.txt", text.encode(encoding))
    assert meant(exclude=path) == [(name, None, "") for name in ODD_IDS]


@pytest.mark.parametrize("name", ["bad.jsonl", "bad.JSON"])
def test_lines_of_json_exclude_by_their_id_whatever_else_they_say(tmp_path: Path, name: str) -> None:
    """So the first lines of a doctor.jsonl will do."""
    rows = [{"id": odd, "score": 0.9, "text": "hello", "reasons": []} for odd in ODD_IDS]
    rows.append({"id": 7, "split": "eval"})
    path = write(tmp_path / name, "".join(json.dumps(row) + "\n" for row in rows))
    assert meant(exclude=path) == [*((odd, None, "") for odd in ODD_IDS), ("7", None, "eval")]


@pytest.mark.parametrize(("name", "delimiter"), [("bad.csv", ","), ("bad.CSV", ";"), ("bad.tsv", "\t")])
def test_a_table_excludes_by_its_column_of_ids(tmp_path: Path, name: str, delimiter: str) -> None:
    rows = [["note", "id", "split"], ["x", "wav/a.wav", ""], ["", "007", "eval"]]
    path = write(tmp_path / name, "".join(delimiter.join(row) + "\r\n" for row in rows))
    assert meant(exclude=path) == [("wav/a.wav", None, ""), ("007", None, "eval")]


def test_a_csv_without_a_column_of_ids_is_a_list_of_ids(tmp_path: Path) -> None:
    assert meant(exclude=write(tmp_path / "bad.csv", "a,1.wav\nb.wav\n")) == [
        ("a,1.wav", None, ""),
        ("b.wav", None, ""),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,note\n", ": names no utterance"),
        ("id,note\na,b,c\n", ":2: its cells do not match the header's 2"),
        ("id,note\n,b\n", ":2: \"id\" must be a string or a number, found ''"),
        ("id,note\na,b\na,c\n", ":3: id 'a' stands already at "),
    ],
)
def test_a_table_of_ids_that_means_nothing_is_refused_with_its_line(tmp_path: Path, content: str, message: str) -> None:
    path = write(tmp_path / "bad.csv", content)
    with pytest.raises(CorpusError) as caught:
        read_corrections(path, "")
    assert str(caught.value).startswith(f"{path}{message}")


def test_a_patch_replaces_or_leaves_out(tmp_path: Path) -> None:
    path = write(
        tmp_path / "fix.jsonl",
        '{"id": "a", "text": "so it goes", "was": "so it", "note": "heard"}\n'
        "# of the test set\n"
        '{"id": "a", "text": "it went", "split": "test"}\n'
        '{"id": "b", "drop": true}\n{"id": "c", "drop": false, "text": " two  words "}\n',
    )
    assert meant(patch=path) == [
        ("a", "so it goes", ""), ("a", "it went", "test"), ("b", None, ""), ("c", " two  words ", ""),
    ]  # fmt: skip


def test_a_later_line_corrects_the_correction_whose_text_it_names(tmp_path: Path) -> None:
    """So the file of a second round can be put behind that of the first."""
    rows = [
        {"id": "a", "text": "one", "was": "o"}, {"id": "b", "text": "two"}, {"id": "c", "text": "three"},
        {"id": "a", "text": "one more", "was": "one"}, {"id": "b", "drop": True, "was": "two"},
    ]  # fmt: skip
    path = write(tmp_path / "fix.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    corrections = read_corrections("", path)
    assert corrections is not None
    found = {entry.id: (entry.text, entry.was) for entry in corrections.entries}
    assert found == {"a": ("one more", "o"), "b": (None, None), "c": ("three", None)}
    write(tmp_path / "fix.jsonl", "".join(json.dumps(row) + "\n" for row in [*rows, rows[2] | {"was": "tree"}]))
    with pytest.raises(CorpusError, match=r":6: id 'c' stands already at .*:3\."):
        read_corrections("", path)


def test_the_sources_are_named_with_the_digests_that_sha256sum_gives(tmp_path: Path) -> None:
    exclude, patch = write(tmp_path / "bad.txt", "a\r\n"), write(tmp_path / "fix.jsonl", '{"id": "b", "text": "c"}')
    digests = [hashlib.sha256(Path(path).read_bytes()).hexdigest()[:12] for path in (exclude, patch)]
    corrections = read_corrections(exclude, patch)
    assert corrections is not None
    assert corrections.sources == f"bad.txt (sha256 {digests[0]}) and fix.jsonl (sha256 {digests[1]})"


def test_a_name_that_is_no_utf8_can_be_printed(tmp_path: Path) -> None:
    path = write(tmp_path / os.fsdecode(b"f\xe9.txt"), "a\n")
    corrections = read_corrections(path, "")
    assert corrections is not None
    assert corrections.sources.encode().startswith(rb"f\udce9.txt (sha256 ")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"id": "a", "text": "b"}\n\n{"id": "a", "text": "b"}\n', r":3: id 'a' stands already at .*fix.jsonl:1\."),
        ('{"id": "a", "text": "b"}\n{"id": "a", "drop": true}\n', r":2: id 'a' stands already at .*:1\."),
        ('{"id": "a", "text": " \\n"}\n', ':1: utterance a: its text is empty. "drop": true leaves'),
        ('{"id": "a", "text": "b\\u0000"}\n', r":1: utterance a: its text holds U\+0000"),
        ('{"id": "a", "text": "\\ud800"}\n', r":1: utterance a: its text holds U\+D800"),
        ('{"id": "a"}\n', ':1: utterance a: no "text"'),
        ('{"id": "a", "text": null}\n', ':1: utterance a: "text" must be a string, found None'),
        ('{"id": "a", "text": "b", "was": 3}\n', ':1: utterance a: "was" must be a string, found 3'),
        ('{"id": "a", "text": "b", "drop": true}\n', ':1: both "drop" and "text"'),
        ('{"id": "a", "drop": 1}\n', ':1: "drop" must be true or false, found 1'),
        ('{"id": "a", "text": "b", "spilt": "eval"}\n', ':1: "spilt" is not known'),
        ('{"id": "a", "text": "b", "split": 2}\n', ':1: "split" must be a string, found 2'),
        ('{"text": "b"}\n', ':1: no "id"'),
        ('{"id": "", "text": "b"}\n', ":1: \"id\" must be a string or a number, found ''"),
        ('{"id": true, "text": "b"}\n', ':1: "id" must be a string or a number, found True'),
        ('{"id": "a", "id": "b", "text": "c"}\n', ':1: "id" stands twice'),
        ("a\tb\n", ":1: not a JSON object on one line"),
        ('["a"]\n', ":1: not a JSON object on one line"),
        ("# nothing\n\n", ": names no utterance"),
        (b'{"id": "a", "text": "caf\xe9"}\n', ":1: byte 24 is not UTF-8. Save the file as UTF-8"),
    ],
)
def test_what_is_wrong_with_a_patch_is_told_in_one_line_with_its_place(
    tmp_path: Path, content: str | bytes, message: str
) -> None:
    path = write(tmp_path / "fix.jsonl", content)
    with pytest.raises(CorpusError, match=f"^{path}{message}") as caught:
        read_corrections("", path)
    assert "\n" not in str(caught.value)


def test_an_id_in_both_files_is_refused(tmp_path: Path) -> None:
    exclude, patch = write(tmp_path / "bad.txt", "b\na\n"), write(tmp_path / "fix.jsonl", '{"id": "a", "text": "c"}')
    with pytest.raises(CorpusError, match=r"fix.jsonl:1: id 'a' stands already at .*bad.txt:2\. Leave one of them"):
        read_corrections(exclude, patch)


@pytest.mark.parametrize(("option", "place"), [("exclude", 0), ("patch", 1)])
def test_a_file_that_cannot_be_read_is_named_with_its_option(tmp_path: Path, option: str, place: int) -> None:
    for path, why in ((tmp_path / "missing", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(CorpusError, match=f"{path}: {why}.*--corpus.{option} names a file"):
            read_corrections(*("" if i != place else str(path) for i in range(2)))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CorpusError, match="a FIFO, not a file"):
        read_corrections(*("" if i != place else str(tmp_path / "pipe") for i in range(2)))
