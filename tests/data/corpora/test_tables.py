"""data.corpora.tables: cells, quotes, delimiters, encodings and JSON arrays."""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from data.corpora.tables import open_table
from trainer.errors import CorpusError

HEADER = ["audio_filepath", "text"]


def rows(path: Path, content: str | bytes) -> list[dict | str]:
    """Each row, or what is wrong with it behind its line."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    table = open_table(path, lambda cells: set(HEADER) <= set(cells))
    return [str(row).removeprefix(f"{path}:") if isinstance(row, CorpusError) else row for _, row in table.rows]


def texts(path: Path, content: str | bytes) -> list[str]:
    return [row if isinstance(row, str) else row["text"] for row in rows(path, content)]


# Quotes

UNCLOSED = "2: a quote opens its cell 2 and does not close on this line."
ACROSS = "2: a quote opens inside one cell and closes inside another."
BEHIND = "2: its cell 2 goes on behind a closing quote"
CELLS = {
    "a.wav,plain": "plain",
    'a.wav,"a, b"': "a, b",
    'a.wav,"say ""a"", b"': 'say "a", b',
    'a.wav,""': "",
    'a.wav,""""': '"',
    'a.wav,he said "what" then': 'he said "what" then',
    'a.wav,"what" a day': '"what" a day',
    'a.wav,"what" a "day"': '"what" a "day"',
    'a.wav,a 12" single': 'a 12" single',
    'a.wav,"closed" ': "closed",
    '"a.wav",b': "b",
    'a.wav,"what a day': UNCLOSED,
    'a.wav,"what "" a day': UNCLOSED,
    'a.wav,"a, b" c': BEHIND,
    'a.wav,"a" b "c': BEHIND,
    'a.wav,say "a, b"': ACROSS,
    'a.wav,a, b': "2: its cells do not match the header's 2: there are 3.",
    "a.wav": "2: its cells do not match the header's 2: there are 1.",
    "a.wav,b,, ": "b",
}  # fmt: skip


@pytest.mark.parametrize(("line", "expected"), CELLS.items(), ids=CELLS)
def test_quotes_mean_what_they_can_only_mean(tmp_path: Path, line: str, expected: str):
    """The next row is never swallowed, whatever becomes of this one."""
    found, next_row = texts(tmp_path / "m.csv", f"audio_filepath,text\n{line}\nb.wav,next\n")
    assert found.startswith(expected) if expected[:2] == "2:" else found == expected
    assert next_row == "next"


def test_what_a_csv_writer_writes_is_read_back(tmp_path: Path):
    """Reference: Python's csv module writes every text of up to four of these characters, in three dialects."""
    every = ["".join(t) for n in range(5) for t in itertools.product('a", ;', repeat=n)]
    for delimiter, quoting in ((",", csv.QUOTE_MINIMAL), (";", csv.QUOTE_MINIMAL), (",", csv.QUOTE_ALL)):
        file = io.StringIO(newline="")
        writer = csv.writer(file, delimiter=delimiter, quoting=quoting)
        writer.writerows([HEADER, *([f"{i}.wav", text] for i, text in enumerate(every))])
        assert texts(tmp_path / "m.csv", file.getvalue()) == every


def test_tsv_knows_no_quotes(tmp_path: Path):
    """Reference: the cells themselves, joined by tabs."""
    cells = ['"what a day', 'what a day"', '"', '"so" it goes', '"""so"" it goes"', "a, b", "it's"]
    content = "audio_filepath\ttext\n" + "".join(f"{i}.wav\t{cell}\n" for i, cell in enumerate(cells))
    for name in ("m.tsv", "m.csv"):
        assert texts(tmp_path / name, content) == cells


def test_tsv_whose_header_is_quoted_is_quoted(tmp_path: Path):
    assert texts(tmp_path / "m.tsv", '"audio_filepath"\t"text"\n"a.wav"\t"say ""a"""\n') == ['say "a"']


# Delimiters


@pytest.mark.parametrize("name", ["m.csv", "m.tsv"])
@pytest.mark.parametrize(("delimiter", "word"), [(",", "commas"), (";", "semicolons"), ("\t", "tabs"), ("|", "bars")])
def test_the_header_says_what_separates_cells(tmp_path: Path, name: str, delimiter: str, word: str):
    path = tmp_path / name
    path.write_text(f"id{delimiter}audio_filepath{delimiter}text\n1{delimiter}a.wav{delimiter}so it goes\n")
    table = open_table(path, lambda cells: set(HEADER) <= set(cells))
    assert [row for _, row in table.rows] == [{"id": "1", "audio_filepath": "a.wav", "text": "so it goes"}]
    usual = {"m.csv": ",", "m.tsv": "\t"}[name] == delimiter
    assert table.notes == ([] if usual else [f"{name}: its cells are separated by {word}"])


def test_other_delimiters_inside_cells_do_not_matter(tmp_path: Path):
    assert texts(tmp_path / "m.csv", "audio_filepath,text\na.wav,a;b|c\td\n") == ["a;b|c\td"]
    assert texts(tmp_path / "m.csv", "audio_filepath;text\na.wav;a, b, c\n") == ["a, b, c"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("sep=;\naudio_filepath;text\na.wav;x\n", ["x"]),
        ("audio_filepath, text\na.wav, x\n", ["x"]),
        ('audio_filepath, text\na.wav, "a, b"\n', ["a, b"]),
        ("audio_filepath,text,,\na.wav,x,,\n", ["x"]),
        (",audio_filepath,text\n0,a.wav,x\n", ["x"]),
    ],
    ids=["a spreadsheet's first line", "blanks", "blanks before quotes", "empty columns", "pandas' index"],
)
def test_what_programs_add_to_tables_changes_nothing(tmp_path: Path, content: str, expected: list[str]):
    assert texts(tmp_path / "m.csv", content) == expected


# Encodings


ENCODINGS = {
    "UTF-8": lambda text: text.encode(),
    "UTF-8 with its mark": lambda text: text.encode("utf-8-sig"),
    "UTF-16 with its mark": lambda text: text.encode("utf-16"),
    "UTF-16, big-endian, with its mark": lambda text: b"\xfe\xff" + text.encode("utf-16-be"),
    "UTF-16 without": lambda text: text.encode("utf-16-le"),
    "UTF-16, big-endian, without": lambda text: text.encode("utf-16-be"),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_encoding_and_line_end_gives_the_same_rows(tmp_path: Path, encoding: str, end: str):
    text = "über élan 你好 😀 \u2028 \u0a0a"
    encode = ENCODINGS[encoding]
    table = f"audio_filepath,text{end}a.wav,{text}{end}{end}b.wav,b{end}"
    assert texts(tmp_path / "m.csv", encode(table)) == [text, "b"]
    line = json.dumps({"audio_filepath": "a.wav", "text": text}, ensure_ascii=False)
    assert texts(tmp_path / "m.jsonl", encode(line + end + line)) == [text, text]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\nc,é\n".encode("latin-1"), "2: byte 6 is not UTF-8. Save the manifest as UTF-8."),
        ("\ufeffa,b\r\n\r\nc,".encode() + b"\xff", "3: byte 12 is not UTF-8. Save the manifest as UTF-8."),
        ("a,b\nc,d".encode("utf-16") + b"x", "2: byte 16 is not UTF-16. Save the manifest as UTF-8."),
        ("a,b\n".encode("utf-16-le") + b"\x00\xdc", "2: byte 8 is not UTF-16. Save the manifest as UTF-8."),
    ],
    ids=["latin-1", "behind a mark", "half a character", "half a pair"],
)
def test_what_is_no_text_is_named_by_line_and_byte(tmp_path: Path, content: bytes, message: str):
    with pytest.raises(CorpusError) as caught:
        rows(tmp_path / "m.csv", content)
    assert str(caught.value) == f"{tmp_path / 'm.csv'}:{message}"


# JSON arrays


def objects(number: int) -> list[dict[str, str]]:
    return [{"audio_filepath": f"{i}.wav", "text": f'[{i}], "{{}}"'} for i in range(number)]


@pytest.mark.parametrize("indent", [None, 0, 2])
@pytest.mark.parametrize("number", [1, 3])
def test_an_array_of_objects_is_read_like_lines(tmp_path: Path, indent: int | None, number: int):
    """Reference: json.loads. The line is that on which the object begins."""
    text = json.dumps(objects(number), indent=indent)
    path = tmp_path / "m.json"
    path.write_text(f"\n {text}\n")
    found = list(open_table(path, lambda cells: True).rows)
    assert [row for _, row in found] == json.loads(text)
    per_object = {None: 0, 0: 4, 2: 4}[indent]
    first = 2 if indent is None else 3
    assert [line for line, _ in found] == [first + per_object * i for i in range(number)]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('[{"a": 1}\n{"a": 2}]', "2: the file's array goes on without a comma, or does not end here."),
        ('[{"a": 1},\n]', "2: not a JSON object in the file's array (Expecting value)."),
        ('[{"a": 1}', "1: the file's array goes on without a comma, or does not end here."),
        ('[{"a": 1}]\n[{"a": 2}]', "1: the file's array goes on without a comma, or does not end here."),
        ('[{"a": 1},\n{"a": 2, "a": 3}]', '2: "a" stands twice. Leave one.'),
        ('[{"a": 1},\n 7]', "2: not a JSON object but int."),
        ("[" * 100_000, "1: not a JSON object in the file's array (RecursionError)."),
    ],
)
def test_what_is_no_array_of_objects_is_named_with_its_line(tmp_path: Path, content: str, expected: str):
    assert rows(tmp_path / "m.json", content)[-1] == expected


def test_has_columns_is_asked_of_the_cells(tmp_path: Path):
    """The usual delimiter is taken if the header fits under it, whatever fits under others."""
    asked: list[Sequence[str]] = []

    def has_columns(cells: Sequence[str]) -> bool:
        asked.append(cells)
        return True

    (tmp_path / "m.csv").write_text('"a;b",c\n1,2\n')
    assert [row for _, row in open_table(tmp_path / "m.csv", has_columns).rows] == [{"a;b": "1", "c": "2"}]
    assert asked[0] == ["a;b", "c"]


# What spreadsheets, editors and joined files leave behind


def test_rows_of_delimiters_alone_are_blank_lines(tmp_path: Path):
    assert texts(tmp_path / "m.csv", "audio_filepath,text,,\na.wav,x,,\n,,,\n , ,,\nb.wav,y,,\n") == ["x", "y"]


@pytest.mark.parametrize("encoding", ["utf-32", "utf-32-be", "utf-16", "utf-8-sig"])
def test_encodings_are_told_by_their_mark(tmp_path: Path, encoding: str):
    mark = "\ufeff" if encoding == "utf-32-be" else ""
    assert texts(tmp_path / "m.csv", f"{mark}audio_filepath,text\na.wav,é\n".encode(encoding)) == ["é"]


@pytest.mark.parametrize("unseen", ["\ufeff", "\ufeff\ufeff", "\u200b", "\u00a0", "\u200e"], ids=ascii)
def test_invisible_characters_around_a_columns_name_are_no_part_of_it(tmp_path: Path, unseen: str):
    assert texts(tmp_path / "m.csv", f"{unseen}audio_filepath,text{unseen}\na.wav,x\n") == ["x"]


def test_marks_inside_joined_files_are_no_part_of_a_row(tmp_path: Path):
    line = '\ufeff{"audio_filepath": "a.wav", "text": "x"}\n'
    assert texts(tmp_path / "m.jsonl", line * 2) == ["x", "x"]


def test_the_header_of_a_joined_file_is_no_row(tmp_path: Path):
    part = "\ufeffaudio_filepath,text\na.wav,x\n"
    assert texts(tmp_path / "m.csv", part * 2) == [
        "x", "3: the header stands here again: were files joined? Take this line out.", "x",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["a.csv,b.csv", "*.csv", "{a,b}.csv"])
def test_several_files_in_one_option_are_told(tmp_path: Path, name: str):
    with pytest.raises(CorpusError, match=r"A split is one file: join several into one\."):
        open_table(tmp_path / name, lambda cells: True)
