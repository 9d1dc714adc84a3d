"""Read and write n-gram models in the ARPA format, plain or gzip.

    \\data\\
    ngram 1=4
    ngram 2=3

    \\1-grams:
    -1.2<tab>word<tab>-0.3       log10 of the probability, the words, log10 of the back-off weight (0 if left out)
    ...
    \\end\\

A file that contradicts itself is refused with the line; the words themselves may be in any script.
"""

from __future__ import annotations

import gzip
import math
import re
import zlib
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from trainer.decoding.ngram import BEGIN, END, NEVER, UNKNOWN, Level, ListedTwiceError, NgramModel, build
from trainer.errors import ModelError

GZIP = b"\x1f\x8b"
BINARIES = {b"mmap lm http://kheafield.com/code": "a binary file of KenLM", b"blmt": "a binary file of IRSTLM"}
"""What other formats of n-gram models begin with."""
PACKED = {b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"PK\x03\x04": "zip"}
"""What packed files begin with that are not read here."""
CAPITALS = {"<UNK>": UNKNOWN, "<S>": BEGIN, "</S>": END}
"""What a model in capitals calls them. KenLM takes the first for UNKNOWN too."""
MOST_ABOVE_ZERO = 1e-4
"""What rounding may leave above log10 of 1; such a value is read as 0."""


def read_arpa(path: Path) -> NgramModel:
    """The model at `path`; ModelError names file and line of what is wrong with it."""
    reader = _Reader(path)
    try:
        return reader.read()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise reader.wrong(f"the gzip file is cut off or damaged behind this line ({error}). Copy it again.") from None
    except OSError as error:
        raise ModelError(
            f"{path}: cannot be read ({error.strerror or error}). Give the ARPA file of a model."
        ) from None


class _Reader:
    """One pass over the lines of a file."""

    def __init__(self, path: Path) -> None:
        self.path, self.number = path, 0
        self.heading = b""
        """The line that begins the next level, or ends the file."""
        self.words: dict[bytes, int] = {}
        self.lines_of: list[array[int]] = []
        """The line of each n-gram, level by level."""

    def wrong(self, what: str) -> ModelError:
        return ModelError(f"{self.path}:{self.number}: {what}")

    def lines(self) -> Iterator[bytes]:
        """Lines without their ends, CRLF and a byte order mark included."""
        with open(self.path, "rb") as file:
            is_gzip = file.read(2) == GZIP
        with gzip.open(self.path, "rb") if is_gzip else open(self.path, "rb") as lines:
            for line in lines:
                self.number += 1
                yield line.removeprefix(b"\xef\xbb\xbf").rstrip(b"\r\n") if self.number == 1 else line.rstrip(b"\r\n")

    def read(self) -> NgramModel:
        lines = self.lines()
        counts = self._header(lines)
        levels: list[Level] = []
        for n, count in enumerate(counts, 1):
            levels.append(self._level(lines, n, count, is_last=n == len(counts)))
        if self.heading != b"\\end\\":
            raise self.wrong(
                f"{_shown(self.heading)} stands where \\end\\ belongs. The file announces {len(counts)}-grams."
            )
        names = [word.decode() for word in self.words]
        for capital, mark in CAPITALS.items():
            if capital in names and mark not in names:
                names[names.index(capital)] = mark
        has_unknown = UNKNOWN in names
        if not has_unknown:
            names.append(UNKNOWN)
            first = levels[0]
            first.ngrams = np.arange(len(names))[:, None]
            first.log_probs = np.append(first.log_probs, np.float32(NEVER))
            first.backoffs = np.append(first.backoffs, np.float32(0))
        try:
            return build(names, levels, has_unknown)
        except ListedTwiceError as error:
            self.number = self.lines_of[error.n - 1][error.place]
            raise self.wrong(f"{error}. Build the model again.") from None

    def _header(self, lines: Iterator[bytes]) -> list[int]:
        """The number of n-grams of each length."""
        for line in lines:  # what stands before \data\ is a comment
            for begin, what in BINARIES.items():
                if line.startswith(begin):
                    raise self.wrong(f"this is {what}. Give the ARPA file that it was made from, which may be in gzip.")
            for begin, how in PACKED.items():
                if self.number == 1 and line.startswith(begin):
                    raise self.wrong(f"packed with {how}. Unpack the file, or pack it with gzip.")
            if line.strip() == b"\\data\\":
                break
            if line.strip() == b"iARPA":  # IRSTLM's intermediate files: probabilities lack the shorter n-grams' share
                raise self.wrong("iARPA is not ARPA. Convert the file: compile-lm FILE --text=yes X.arpa.")
        else:
            raise self.wrong(
                "the file ends without a line \\data\\, so it is no ARPA file. Give an n-gram model in ARPA format."
            )
        counts: list[int] = []
        for line in lines:
            text = line.strip()
            if not text:
                continue
            if text.startswith(b"\\"):
                self.heading = text
                break
            match = re.fullmatch(rb"ngram\s+(\d+)\s*=\s*(\d+)", text)
            if match is None or int(match[1]) != len(counts) + 1:
                raise self.wrong(f"{_shown(text)} stands where ngram {len(counts) + 1}=COUNT belongs.")
            counts.append(int(match[2]))
        if not counts:
            raise self.wrong("\\data\\ announces no n-grams.")
        if not self.heading:
            raise self.wrong("the file ends before any n-gram. Copy it again.")
        return counts

    def _level(self, lines: Iterator[bytes], n: int, count: int, *, is_last: bool) -> Level:
        if self.heading != b"\\%d-grams:" % n:
            raise self.wrong(f"{_shown(self.heading)} stands where \\{n}-grams: belongs.")
        first_line = self.number
        ids: list[int] = []
        log_probs: list[float] = []
        backoffs: list[float] = []
        numbers = array("I")
        self.lines_of.append(numbers)
        words, self.heading = self.words, b""
        for line in lines:
            fields = line.split()
            if not fields:
                continue
            if fields[0][:1] == b"\\" and len(fields) == 1:
                self.heading = fields[0]
                break
            try:
                log_prob = float(fields[0])
                backoff = float(fields[n + 1]) if len(fields) == n + 2 else 0.0
            except ValueError:
                raise self.wrong(f"{_shown(line)} is not log10, {n} words and a back-off weight.") from None
            if not n + 1 <= len(fields) <= n + 2:
                raise self.wrong(f"{len(fields) - 1} fields behind the probability, but these are {n}-grams.")
            if is_last and len(fields) == n + 2 and backoff != 0.0:
                raise self.wrong(f"a back-off weight on the highest level, {n}: nothing is longer than these n-grams.")
            if not log_prob <= MOST_ABOVE_ZERO or backoff != backoff or backoff == math.inf:
                raise self.wrong(f"{_shown(line)}: log10 of a probability is at most 0, and a weight is a number.")
            if n == 1:
                if fields[1] in words:
                    raise self.wrong(f"the word {_shown(fields[1])} stands twice.")
                try:
                    fields[1].decode()
                except UnicodeDecodeError:
                    raise self.wrong(
                        f"the word {fields[1]!r} is not UTF-8. Convert the file: iconv -t UTF-8."
                    ) from None
                words[fields[1]] = len(words)
                ids.append(words[fields[1]])
            else:
                try:
                    ids.extend([words[word] for word in fields[1 : n + 1]])
                except KeyError as error:
                    raise self.wrong(f"the word {_shown(error.args[0])} is not among the 1-grams.") from None
            numbers.append(self.number)
            log_probs.append(min(log_prob, 0.0))
            backoffs.append(backoff)
        else:
            raise self.wrong("the file ends without \\end\\. Copy it again.")
        if len(log_probs) != count:
            raise ModelError(
                f"{self.path}:{first_line}: {len(log_probs)} {n}-grams stand here, but the head announces {count}. The "
                "file is damaged: build it again."
            )
        # -inf, which some tools write for log10 of 0, and SRILM's -99 are both "never"
        values = (np.clip(np.array(v, np.float32), NEVER, None) for v in (log_probs, backoffs))
        return Level(np.array(ids, np.int64).reshape(-1, n), *values)


def _shown(line: bytes) -> str:
    return repr(line[:60].decode(errors="replace"))


def write_arpa(path: Path, words: Sequence[str], levels: Sequence[Level]) -> None:
    """Write `levels` of the n-grams of `words`; gzip if `path` ends in .gz. The same model is the same bytes."""
    with open(path, "wb") as raw:
        file = gzip.GzipFile("", "wb", 6, raw, mtime=0) if path.suffix == ".gz" else raw
        head = "".join(f"ngram {n}={len(level.log_probs)}\n" for n, level in enumerate(levels, 1))
        file.write(f"\\data\\\n{head}".encode())
        for n, level in enumerate(levels, 1):
            file.write(f"\n\\{n}-grams:\n".encode())
            is_last = n == len(levels)
            rows = zip(level.ngrams.tolist(), level.log_probs.tolist(), level.backoffs.tolist(), strict=True)
            for ids, log_prob, backoff in rows:
                end = "" if is_last else f"\t{backoff:.7g}"
                file.write(f"{log_prob:.7g}\t{' '.join(words[i] for i in ids)}{end}\n".encode())
        file.write(b"\n\\end\\\n")
        if file is not raw:
            file.close()
