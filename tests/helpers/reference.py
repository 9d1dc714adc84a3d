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


Utterances = list[tuple[str, str, str, str | None, float, float | None, float | None]]
KNOWN = {
    "audio_filepath": "audio_filepath audio audio_path audio_file audio_filename path file file_path filepath "
    "file_name filename wav wav_path wav_file wav_filename wav_filepath",
    "text": "text sentence transcript transcription txt wrd",
    "id": "id utt_id utterance_id uttid",
    "speaker": "speaker speaker_id client_id spk spk_id speaker_name speakerid spkid",
    "offset": "offset",
    "duration": "duration dur duration_s duration_sec duration_seconds",
    "start": "start start_time start_s start_sec start_seconds begin begin_time segment_start",
    "end": "end end_time end_s end_sec end_seconds stop stop_time segment_end",
}
UNITS = {"ms", "msec", "milli", "millis", "milliseconds", "sample", "samples", "frame", "frames"}


def reference_manifest(content: bytes, suffix: str) -> Utterances:
    """(id, path, text, speaker, start, end, stated duration) of each row."""
    codec = "utf-8"
    if content[:2] in (b"\xff\xfe", b"\xfe\xff") or [bool(b) for b in content[:2]] in ([True, False], [False, True]):
        codec = "utf-16-be" if content[:1] in (b"\xfe", b"\0") else "utf-16-le"
    try:
        text = re.sub(
            "(^|[\r\n])\ufeff+", r"\1", content.decode(codec)
        )  # files that were joined have their marks inside
    except UnicodeDecodeError as error:
        raise Unreadable(str(error)) from None
    lines = [line for line in re.split("\r\n|\r|\n", text) if line.strip()]
    if suffix == ".jsonl":
        is_array = text.strip(" \t\r\n").startswith("[")
        rows = Json(text).document() if is_array else [Json(line).document() for line in lines]
    else:
        rows = [row for row in _table(lines, suffix) if any(value and value.strip() for value in row.values())]
    if not all(isinstance(row, dict) for row in rows):
        raise Unreadable("no object")
    utterances: Utterances = []
    names: list[str] = []
    plain_ids: dict[str, tuple[float, float | None]] = {}
    for row in rows:
        names = names or [_column(list(row), field) for field in ("audio_filepath", "text")]
        utterances.append(_reference_row(row, *names, plain_ids))
    if not utterances or len({u[0] for u in utterances}) < len(utterances):
        raise Unreadable("no row, or an id twice")
    return utterances


def _words(column: str) -> str:
    return re.sub("[ -]+", "_", re.sub(r"[()\[\]]", "", column.strip().lower()))


def _column(columns: list[str], field: str) -> str:
    """The one column that is `field`, by its own name, by its name in other letters, by another name."""
    known = KNOWN[field].split()
    for fitting in (
        [c for c in columns if c == field],
        [c for c in columns if _words(c) == field],
        [c for c in columns if _words(c) in known],
    ):
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            break
    raise Unreadable(f"not one column for {field}")


def _table(lines: list[str], suffix: str) -> list[dict[str, str]]:
    lines = list(lines)
    told = lines.pop(0)[4] if lines and lines[0][:4] == "sep=" and len(lines[0]) == 5 else ""
    if not lines:
        raise Unreadable("no header")
    delimiters = [",", "\t", ";", "|"] if suffix == ".csv" else ["\t", ",", ";", "|"]
    fitting = [told] if told in delimiters else []
    for delimiter in [] if fitting else delimiters:
        try:
            for field in ("audio_filepath", "text"):
                _column([cell.strip() for cell in lines[0].replace('"', "").split(delimiter)], field)
            fitting.append(delimiter)
        except Unreadable:
            continue
    if not fitting:
        raise Unreadable("no delimiter under which the header names the audio and the text")
    delimiter = fitting[0]
    parts = lines[0].split(delimiter)
    is_quoted = delimiter in ",;" or all(len(p) > 1 and p[0] == p[-1] == '"' and '"' not in p[1:-1] for p in parts)
    header = _cells(lines[0], delimiter, is_quoted, False)
    is_spaced = len(header) > 1 and all(cell[:1] == " " for cell in header[1:])
    header = [cell.strip() for cell in header]
    if any(cell and header.count(cell) > 1 for cell in header):
        raise Unreadable("a column twice")
    for field in ("audio_filepath", "text"):
        _column(header, field)
    rows = []
    for line in lines[1:]:
        cells = _cells(line, delimiter, is_quoted, is_spaced)
        if len(cells) < len(header) or any(cell.strip() for cell in cells[len(header) :]):
            raise Unreadable("cells without a column of their own")
        if len(header) > 1 and [cell.strip() for cell in cells[: len(header)]] == header:
            raise Unreadable("the header again")
        rows.append({name: cell for name, cell in zip(header, cells, strict=False) if name or cell})
    return rows


def _cells(line: str, delimiter: str, is_quoted: bool, is_spaced: bool) -> list[str]:
    """RFC 4180's cells, and quotes as text where they cannot be anything else."""
    cells, num_odd, more = [], 0, delimiter
    while more:
        if is_spaced:
            line = line.lstrip(" ")
        cell, more, behind = line.partition(delimiter)
        if is_quoted and line.startswith('"'):
            body, at = "", 1
            while line[at : at + 1] != '"' or line[at + 1 : at + 2] == '"':
                if at >= len(line):
                    raise Unreadable("an open quote")
                body += line[at]
                at += 2 if line[at] == '"' else 1
            closed = line[at + 1 :].lstrip(" ")
            if not closed or closed.startswith(delimiter):
                cell, more, behind = body, closed[:1], closed[1:]
            elif len(cell) <= at or cell.count('"') % 2:
                raise Unreadable("something behind a closing quote")
        elif is_quoted:
            num_odd += cell.count('"') % 2
        cells.append(cell)
        line = behind
    if num_odd > 1:
        raise Unreadable("a quote from cell to cell")
    return cells


def _number(value: Any) -> float | None:
    if isinstance(value, str):
        value = value.strip().lower()
        if value in ("", "nan", "none", "null"):
            return None
        if set(value) - set("0123456789.+-e"):
            raise Unreadable("no number")
        try:
            value = float(value)
        except ValueError:
            raise Unreadable("no number") from None
    if value is None or value != value:  # NaN
        return None
    if type(value) not in (int, float) or not -1e9 <= value <= 1e9:
        raise Unreadable("no number of seconds")
    return float(value)


def _reference_times(row: dict[str, Any], others: list[str]) -> tuple[float, float | None, float | None]:
    """(Start, end, stated duration)."""
    found: dict[str, Any] = {}
    taken = []
    for field in ("offset", "duration", "start", "end"):
        fitting = [c for c in others if _words(c) in KNOWN[field].split()]
        if len(fitting) > 1 and field not in fitting:
            raise Unreadable("two columns for a bound")
        name = field if field in fitting else next(iter(fitting), None)
        found[field] = None if name is None else _number(row[name])
        taken.append(name)
    offset, start, end, duration = (found[f] for f in ("offset", "start", "end", "duration"))
    if None not in (offset, start) and offset != start:
        raise Unreadable("two starts")
    begin = offset if offset is not None else start
    unknown = [_words(c).removeprefix("segment_").removeprefix("seg_") for c in others if c not in taken]
    if begin is None:
        for name in [c for c in others if c not in taken]:
            plain = _words(name).removeprefix("segment_").removeprefix("seg_")
            first = next((w for w in ("offset", "start", "begin", "onset", "end", "stop") if plain.startswith(w)), None)
            if first and plain.removeprefix(first).removeprefix("_time").removeprefix("_") in UNITS:
                if row[name] not in (None, ""):
                    raise Unreadable("another unit")
                break
        if end is not None:
            raise Unreadable("an end without a start")
        return 0.0, None, duration if duration is not None and duration > 0 else None
    if begin < 0 or (duration is not None and duration <= 0):
        raise Unreadable("below 0")
    if end == -1 or end is None:
        lacks = any(w.split("_")[0] in ("end", "stop", "length", "len", "dur", "duration") for w in unknown)
        if duration is None and end is None and (begin > 0 or start is not None or lacks):
            raise Unreadable("no end")
        return begin, None if duration is None else begin + duration, None
    if end <= begin or (duration is not None and abs(duration - (end - begin)) > 0.05):
        raise Unreadable("bounds that cannot be")
    return begin, end, None


def _name(value: str | float | None) -> str:
    """A whole number is written without a point."""
    if value is None or value != value:  # NaN
        return ""
    return f"{value:.0f}" if isinstance(value, float) and value == value // 1 else str(value)


def _reference_row(
    row: dict[str, Any], audio: str, column: str, plain_ids: dict[str, tuple[float, float | None]]
) -> tuple[str, str, str, str | None, float, float | None, float | None]:
    path, text = row.get(audio), row.get(column)
    if not isinstance(path, str) or not isinstance(text, str) or not path or min(path + text) == "\0":
        raise Unreadable("no path or no text")
    if min(path) < " " or "://" in path or path.rstrip().endswith("|"):
        raise Unreadable("no path of a file")
    start, end, stated = _reference_times(row, [name for name in row if name not in (audio, column)])
    speakers = ["speaker"] if "speaker" in row else [c for k in KNOWN["speaker"].split() for c in row if _words(c) == k]
    ids = ["id"] if "id" in row else [c for k in KNOWN["id"].split() for c in row if _words(c) == k]
    names = [row[found[0]] if found else None for found in (ids, speakers)]
    if any(type(name) not in (str, int, float, type(None)) for name in names):
        raise Unreadable("a name of another type")
    name, speaker = (_name(name) for name in names)
    speaker = re.sub(r"^([0-9]+)[.,]0$", r"\1", speaker.strip())
    if speaker in ("nan", "NaN", "None", "null", "NULL", "<NA>"):
        speaker = ""
    if not name:
        is_plain = start == 0 and plain_ids.setdefault(path, (start, end)) == (start, end)
        name = path if is_plain else f"{path}#t={start:g}" + ("" if end is None else f",{end:g}")
    if any(ord(char) < 0x20 or ord(char) == 0x85 for char in name):
        raise Unreadable("an id that breaks a line")
    for code in map(ord, text):  # U+FFFD, private use, and what is no character
        if (
            code == 0xFFFD
            or 0xE000 <= code < 0xF900
            or code >= 0xF0000
            or 0xFDD0 <= code < 0xFDF0
            or code % 65536 > 65533
        ):
            raise Unreadable(f"U+{code:04X}")
    for char in name + text:
        code = ord(char)
        is_control = (code < 0x20 and not 9 <= code <= 13 and not 0x1C <= code <= 0x1F) or 0x7F <= code < 0xA0
        if (is_control and code != 0x85) or 0xD800 <= code < 0xE000:
            raise Unreadable(f"U+{code:04X}")
    return name, str(Path("/m") / path), text, speaker or None, start, end, stated


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
