"""A transcript as subtitles of at most two lines and six seconds, whatever its words are.

    words -> pieces that fit into a line and into six seconds -> groups of pieces, one a subtitle -> lines

Where a language writes no spaces a "word" is whatever stands between two pauses, of any length; such a one is cut
where nobody speaks, between characters that may stand on two lines.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from data.utterance import SAMPLE_RATE
from trainer.recognize.transcript import TimedTranscript, Word

MAX_CUE_SECONDS, PAUSE_SECONDS = 6.0, 0.8
"""A subtitle is at most this long, and ends where nobody speaks for so long."""
MIN_CUE_SECONDS = 1.0
"""A subtitle stands at least so long, if the next one leaves it the time."""
MAX_LINES, MAX_LINE_COLUMNS = 2, 42
"""What broadcasters set for Latin script. A Chinese, Japanese or Korean character is two columns wide: 21 a line."""
LEADS = frozenset("เแโใไເແໂໃໄ")
"""Thai and Lao vowels that are written before the consonant that they follow in speech."""
NEVER_FIRST = frozenset("ぁぃぅぇぉっゃゅょゎァィゥェォッャュョヮヵヶー々ゝゞヽヾฯๆ")
"""Letters that do not begin a line (JIS X 4051; the Thai signs for abbreviation and repetition)."""


@dataclass(frozen=True)
class Piece:
    """A word, or a part of one, with the times of its characters in samples."""

    text: str
    times: tuple[tuple[int, int], ...]
    """(start, end) of each character."""
    begins_word: bool = True

    @property
    def start(self) -> int:
        return self.times[0][0]

    @property
    def end(self) -> int:
        return self.times[-1][1]

    @cached_property
    def fits(self) -> bool:
        """Whether a subtitle may hold it."""
        return self.end - self.start <= MAX_CUE_SECONDS * SAMPLE_RATE and columns(self.text) <= MAX_LINE_COLUMNS


def cues(transcript: TimedTranscript) -> list[tuple[int, int, str]]:
    """Subtitles as (start, end, text) in milliseconds, none overlapping the next."""
    groups = _groups([piece for word in transcript.words for piece in _pieces(word)])
    starts = [_milliseconds(group[0].start) for group in groups]
    most = round(1000 * MAX_CUE_SECONDS)  # a single character may be held for longer
    spans = [(start, min(_milliseconds(group[-1].end), start + most))
             for start, group in zip(starts, groups, strict=True)]  # fmt: skip
    limits = [start for start, _ in spans[1:]] + [_milliseconds(transcript.num_samples)]
    found = []
    for (start, end), limit, group in zip(spans, limits, groups, strict=False):  # without a word no span, and one limit
        lines = _lay_out(group)
        assert lines is not None, "a group is closed before it is too large"
        found.append((start, max(end, min(start + round(1000 * MIN_CUE_SECONDS), limit)), "\n".join(lines)))
    return found


def columns(text: str) -> int:
    """How wide `text` is on a screen: wide characters of East Asia count double, marks above and below not at all.

    >>> columns("naïve"), columns("日本語"), columns("ที่นี่")
    (5, 6, 2)
    """
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text
               if unicodedata.category(c) not in ("Mn", "Me", "Cf"))  # fmt: skip


def _pieces(word: Word) -> list[Piece]:
    n, length = len(word.text), word.end - word.start
    times = word.times
    if len(times) != n:  # not known: as if every character took as long
        bounds = [word.start + length * i // n for i in range(n + 1)]
        times = tuple(pairwise(bounds))
    return _cut(Piece(word.text, times))


def _cut(piece: Piece) -> list[Piece]:
    """`piece` itself, or its halves as often as needed: cut in the middle half, where the silence is longest."""
    import regex  # `--help` of what names the formats needs none

    ends = [match.end() for match in regex.finditer(r"\X", piece.text)][:-1]  # what a reader takes for characters
    if piece.fits or not ends:
        return [piece]
    middle = len(piece.text) / 2
    inner = [i for i in ends if abs(i - middle) <= middle / 2] or [min(ends, key=lambda i: abs(i - middle))]
    allowed = [i for i in inner if _may_break(piece.text[i - 1], piece.text[i])] or inner
    at = max(allowed, key=lambda i: (piece.times[i][0] - piece.times[i - 1][1], -abs(i - middle)))
    left = Piece(piece.text[:at], piece.times[:at], piece.begins_word)
    right = Piece(piece.text[at:], piece.times[at:], begins_word=False)
    return [*_cut(left), *_cut(right)]


def _may_break(before: str, after: str) -> bool:
    """Whether a line may end with the one character and the next begin with the other."""
    opens = before in LEADS or unicodedata.category(before) in ("Ps", "Pi")
    return not opens and after not in NEVER_FIRST and unicodedata.category(after) not in ("Pe", "Pf", "Po")


def _groups(pieces: Sequence[Piece]) -> list[list[Piece]]:
    groups = [[piece] for piece in pieces[:1]]
    for before, piece in pairwise(pieces):
        is_full = (
            piece.end - groups[-1][0].start > MAX_CUE_SECONDS * SAMPLE_RATE
            or _lay_out([*groups[-1], piece]) is None
            or piece.start - before.end > PAUSE_SECONDS * SAMPLE_RATE
        )
        if is_full:
            groups.append([])
        groups[-1].append(piece)
    return groups


def _lay_out(pieces: Sequence[Piece]) -> list[str] | None:
    """One line, or two of about the same width; None when they do not fit into two."""
    text = _join(pieces)
    if columns(text) <= MAX_LINE_COLUMNS:
        return [text]
    if columns(text) > MAX_LINES * MAX_LINE_COLUMNS:
        return None
    found = [[_join(pieces[:i]), _join(pieces[i:])] for i in range(1, len(pieces))]
    fitting = [lines for lines in found if max(map(columns, lines)) <= MAX_LINE_COLUMNS]
    return min(fitting, key=lambda lines: max(map(columns, lines)), default=None)


def _join(pieces: Sequence[Piece]) -> str:
    return "".join(" " * (p.begins_word and i > 0) + p.text for i, p in enumerate(pieces))


def _milliseconds(num_samples: int) -> int:
    return (2000 * num_samples + SAMPLE_RATE) // (2 * SAMPLE_RATE)
