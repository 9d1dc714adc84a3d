"""Parsers of every foreign format, written for the fuzz tests from the formats' descriptions.

No line of them is shared with the code under test, and neither libsndfile, json, csv nor safetensors has a part in
it: bytes in, samples, rows, labels or tensors out; Unreadable when there is no meaning in them.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soxr

LITERALS: dict[str, Any] = {"null": None, "true": True, "false": False, "NaN": float("nan"),
                            "Infinity": float("inf"), "-Infinity": float("-inf")}  # fmt: skip
ESCAPES = dict(zip('"\\/bfnrt', '"\\/\b\f\n\r\t', strict=True))
DTYPES = {"F32": np.dtype("<f4"), "F64": np.dtype("<f8"), "I64": np.dtype("<i8"), "I32": np.dtype("<i4"),
          "F16": np.dtype("<f2"), "U8": np.dtype("u1")}  # fmt: skip


class Unreadable(Exception):  # noqa: N818  what a reference parser says
    """The reference finds no meaning in these bytes."""


# SPHERE


def g711(byte: int, law: str) -> int:
    """16-bit value of a mu-law or A-law byte, by ITU-T G.711's segments."""
    if law == "ulaw":
        byte ^= 0xFF
        magnitude = ((((byte & 15) << 3) + 132) << ((byte >> 4) & 7)) - 132
        return -magnitude if byte & 0x80 else magnitude
    byte ^= 0x55
    segment, step = (byte >> 4) & 7, (byte & 15) << 4
    magnitude = step + 8 if segment == 0 else (step + 264) << (segment - 1)
    return magnitude if byte & 0x80 else -magnitude


def reference_sphere(content: bytes) -> list[float]:
    """Mono samples at 16 kHz of a SPHERE file, by NIST's description of its header."""
    try:
        magic, size, *lines = content.decode("latin-1").split("\n")
        fields = [line for line in lines[: lines.index("end_head")] if not line.startswith(";")]
        header = {name: value for name, _, value in (line.split(" ", 2) for line in fields)}
        channels, count, rate, width = (
            int(header[f]) for f in ("channel_count", "sample_count", "sample_rate", "sample_n_bytes")
        )
        coding, data = header.get("sample_coding", "pcm").strip().lower(), content[int(size) :]
        order = "big" if width > 1 and header["sample_byte_format"].strip()[-1] == "0" else "little"
    except (ValueError, KeyError, IndexError) as error:
        raise Unreadable(repr(error)) from None
    if magic != "NIST_1A" or not channels * width or coding not in ("pcm", "ulaw", "alaw"):
        raise Unreadable("no coding of this parser")
    lacking = count - len(data) // (channels * width)
    if len(data) > channels * count * width or 20 * lacking > count or 2 * lacking > rate:
        raise Unreadable("not as many samples as the header says, but for 5 % and half a second")
    data = data[: channels * width * (count - max(lacking, 0))]
    if coding == "pcm":
        integers = [int.from_bytes(data[i : i + width], order, signed=True) for i in range(0, len(data), width)]
        full_scale = 2 ** (8 * width - 1)
    else:
        integers, full_scale = [g711(byte, coding) for byte in data], 2**15
    samples = np.array(integers, np.float32).reshape(-1, channels) / np.float32(full_scale)
    mono = samples[:, 0] if channels == 1 else samples.mean(axis=1, dtype=np.float32)
    if rate != 16_000:
        length = int(len(mono) * 16_000 / rate + 0.5)
        mono = soxr.resample(mono, rate, 16_000)[:length]
        mono = np.pad(mono, (0, length - len(mono)))
    return mono.tolist()


# Manifests


class Json:
    """A JSON text as RFC 8259 describes it, with Python's NaN and Infinity; keys must differ."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    def document(self) -> Any:
        value = self.value()
        self.blanks()
        if self.at != len(self.text):
            raise Unreadable("something behind the value")
        return value

    def blanks(self) -> None:
        while self.text[self.at : self.at + 1] in (" ", "\t", "\n", "\r"):
            self.at += 1

    def take(self, mark: str) -> bool:
        self.blanks()
        found = self.text.startswith(mark, self.at)
        self.at += len(mark) * found
        return found

    def expect(self, mark: str) -> None:
        if not self.take(mark):
            raise Unreadable(f"no {mark} at {self.at}")

    def value(self) -> Any:
        if self.take("{"):
            pairs = [] if self.take("}") else self.several(self.pair, "}")
            if len({key for key, _ in pairs}) < len(pairs):
                raise Unreadable("a key twice")
            return dict(pairs)
        if self.take("["):
            return [] if self.take("]") else self.several(self.value, "]")
        if self.take('"'):
            return self.string()
        for word, meaning in LITERALS.items():
            if self.take(word):
                return meaning
        number = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?").match(self.text, self.at)
        if number is None:
            raise Unreadable(f"no value at {self.at}")
        self.at = number.end()
        return float(number[0]) if number[2] or number[3] else int(number[0])

    def several(self, one: Callable[[], Any], end: str) -> list[Any]:
        found = [one()]
        while self.take(","):
            found.append(one())
        self.expect(end)
        return found

    def pair(self) -> tuple[str, Any]:
        self.expect('"')
        key = self.string()
        self.expect(":")
        return key, self.value()

    def string(self) -> str:
        units: list[int] = []  # UTF-16, so that escaped pairs join
        while True:
            char = self.text[self.at : self.at + 1]
            self.at += 1
            if char == '"':
                raw = b"".join(struct.pack("<H", unit) for unit in units)
                return raw.decode("utf-16-le", "surrogatepass")
            if char < " ":  # also the end of the text
                raise Unreadable("a string that does not end, or holds a control character")
            if char == "\\":
                char = self.text[self.at : self.at + 1]
                self.at += 1
                if char == "u" and re.fullmatch("[0-9a-fA-F]{4}", self.text[self.at : self.at + 4]):
                    units.append(int(self.text[self.at : self.at + 4], 16))
                    self.at += 4
                    continue
                if char not in ESCAPES:
                    raise Unreadable("an unknown escape")
                char = ESCAPES[char]
            units += struct.unpack(f"<{len(char.encode('utf-16-le')) // 2}H", char.encode("utf-16-le"))


def table_rows(text: str, delimiter: str) -> list[list[str]]:
    """Records as RFC 4180 describes them, any line end; a blank line is an empty record."""
    rows: list[list[str]] = []
    row: list[str] = []
    at = 0
    while at < len(text):
        if text[at] == '"':
            cell = ""
            while True:
                close = text.find('"', at + 1)
                if close < 0:
                    raise Unreadable("an open quote")
                cell += text[at + 1 : close]
                at = close + 1
                if text[at : at + 1] != '"':
                    break
                cell += '"'
            if text[at : at + 1] not in ("", delimiter, "\r", "\n"):
                raise Unreadable("something behind a closing quote")
        else:
            bare = re.compile(rf"[^{delimiter}\r\n]*").match(text, at)
            assert bare is not None
            cell, at = bare[0], bare.end()
        row.append(cell)
        mark = text[at : at + 1]
        at += 1
        if mark == delimiter and at == len(text):
            row.append("")  # the file ends behind a delimiter
        if mark != delimiter or at == len(text):
            at += mark == "\r" and text[at : at + 1] == "\n"
            rows.append([] if row == [""] and text[at - 2 : at - 1] != '"' else row)
            row = []
    return rows


def reference_manifest(content: bytes, suffix: str) -> list[tuple[str, str, str, str | None]]:
    """(id, path, text, speaker) of each row."""
    try:
        text = content.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise Unreadable(str(error)) from None
    if suffix == ".jsonl":
        rows = [Json(line).document() for line in re.split("\r\n|\r|\n", text) if line.strip()]
    else:
        header, *cells = table_rows(text, "," if suffix == ".csv" else "\t") or [[]]
        cells = [row for row in cells if row]
        if len(set(header)) < len(header) or any(len(row) != len(header) for row in cells):
            raise Unreadable("cells without a column of their own")
        rows = [dict(zip(header, row, strict=True)) for row in cells]
    utterances = [_reference_row(row) for row in rows]
    if not utterances or len({u[0] for u in utterances}) < len(utterances):
        raise Unreadable("no row, or an id twice")
    return utterances


def _reference_row(row: Any) -> tuple[str, str, str, str | None]:
    if not isinstance(row, dict) or row.get("offset"):
        raise Unreadable("no object, or an offset")
    path, text = row.get("audio_filepath"), row.get("text")
    if not isinstance(path, str) or not isinstance(text, str) or not path or "\0" in path:
        raise Unreadable("no path or no text")
    names = [row.get("id"), row.get("speaker")]
    if any(type(name) not in (str, int, float, type(None)) for name in names):
        raise Unreadable("a name of another type")
    name, speaker = ("" if name is None else str(name) for name in names)
    for char in (name or path) + text:
        code = ord(char)
        is_control = (code < 0x20 and not 9 <= code <= 13 and not 0x1C <= code <= 0x1F) or 0x7F <= code < 0xA0
        if (is_control and code != 0x85) or 0xD800 <= code < 0xE000:
            raise Unreadable(f"U+{code:04X}")
    return name or path, str(Path("/m") / path), text, speaker or None


# Label files


def reference_lines(content: bytes) -> list[list[str]]:
    """The words of each line that has any."""
    try:
        text = content.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise Unreadable(str(error)) from None
    words: list[list[str]] = [[""]]
    for char in text:
        if char in "\r\n":
            words.append([""])
        elif char.isspace():
            words[-1].append("")
        else:
            words[-1][-1] += char
    lines = [[word for word in line if word] for line in words]
    return [line for line in lines if line]


def _is_number(word: str) -> bool:
    return 0 < len(word) <= 10 and set(word) <= set("0123456789")


def reference_transcript(content: bytes) -> str:
    """The sentence behind the two numbers."""
    lines = reference_lines(content)
    if len(lines) != 1 or len(lines[0]) < 3 or not all(map(_is_number, lines[0][:2])):
        raise Unreadable("not one line of two numbers and a sentence")
    return " ".join(lines[0][2:])


def reference_segments(content: bytes) -> list[tuple[int, int, str]]:
    """The three columns."""
    segments = []
    for line in reference_lines(content):
        if len(line) != 3 or not all(map(_is_number, line[:2])):
            raise Unreadable("not two numbers and a label")
        segments.append((int(line[0]), int(line[1]), line[2]))
    return segments


# Checkpoints


def reference_tensors(content: bytes) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """{name: (type, shape, bytes)} of a safetensors file: header length, JSON, then the bytes without a gap."""
    try:
        (size,) = struct.unpack_from("<Q", content)
        header = Json(content[8 : 8 + size].decode("utf-8")).document()
        data, covered = content[8 + size :], 0
        if 8 + size > len(content):
            raise Unreadable("the header is cut off")
        tensors = {}
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        for name, entry in sorted(entries.items(), key=lambda item: item[1]["data_offsets"]):
            begin, end = entry["data_offsets"]
            shape = tuple(entry["shape"])
            num_bytes = int(np.prod(shape, dtype=object)) * DTYPES[entry["dtype"]].itemsize
            if begin != covered or end - begin != num_bytes:
                raise Unreadable("a gap, or not as many bytes as the shape says")
            tensors[name], covered = (entry["dtype"], shape, data[begin:end]), end
    except (ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise Unreadable(repr(error)) from None
    if covered != len(data):
        raise Unreadable("bytes behind the last tensor")
    return tensors


def reference_checkpoint(folder: Path) -> dict[str, Any]:
    """What a sealed checkpoint holds, if every file has the hash that its manifest says."""
    try:
        files = Json((folder / "manifest.json").read_text("utf-8")).document()["files"]
        for name, entry in files.items():
            content = (folder / name).read_bytes()
            if (len(content), hashlib.sha256(content).hexdigest()) != (entry["size"], entry["sha256"]):
                raise Unreadable(f"{name} is not what was written")
        state = Json((folder / "state.json").read_text("utf-8")).document()
        tensors = [reference_tensors((folder / f"{name}.safetensors").read_bytes()) for name in ("model", "optimizer")]
        return {
            "state": repr(state),
            "model": tensors[0],
            "optimizer": tensors[1],
            "last": state["scheduler"]["last_epoch"],
        }
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise Unreadable(repr(error)) from None
