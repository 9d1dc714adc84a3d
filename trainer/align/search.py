"""From a recording and its transcript to the frames of every unit: posteriors, pieces between anchors, best paths."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from data.utterance import SAMPLE_RATE
from models.geometry import FrameGeometry
from trainer.align.anchors import find_cuts
from trainer.align.lattice import AFTER, BLANK, DELIMITER, FORCED, SPEECH, Costs, Lattice, Words
from trainer.align.posteriors import Posteriors, read_posteriors
from trainer.align.spelled import SpelledText, spell_text
from trainer.align.viterbi import MAX_BYTES, Path, best_paths
from trainer.errors import CorpusError
from trainer.recognize.transcribe import LoadedModel, Windows

MIN_PIECE_SECONDS = 20.0
"""Between two anchors that cut a recording there is at least so much."""


@dataclass(frozen=True)
class AlignOptions:
    """How text is read and searched for."""

    costs: Costs = field(default_factory=Costs)
    """What leaving out costs; FORCED: everything is aligned, or it is an error."""
    normalizer: str = "plain"
    """One of trainer.align.spelled.RULES."""
    language: str = ""
    windows: Windows = field(default_factory=Windows)
    piece_seconds: float = MIN_PIECE_SECONDS
    """Long recordings are cut at anchors into pieces of at least this length; infinite: never."""
    max_bytes: int = MAX_BYTES
    """Of scores that are kept at a time."""


AS_USUAL = AlignOptions()


@dataclass(frozen=True)
class Prepared:
    """A recording with what the search needs, before it."""

    name: str
    num_samples: int
    spelled: SpelledText
    heard: Posteriors
    columns: dict[str, int]
    """Unit -> its column in heard.log_probs; a space is the delimiter."""


def prepare(recognizer: LoadedModel, name: str, waveform: np.ndarray, text: str, options: AlignOptions) -> Prepared:
    vocab = recognizer.vocab
    try:
        spelled = spell_text(text, vocab, options.normalizer, options.language)
    except CorpusError as error:
        raise CorpusError(f"{name}: {error}") from None
    if not any(word.units for word in spelled.words):
        lost = ", ".join(repr(c) for c, _ in spelled.lost.most_common(8)) + ", ..." * (len(spelled.lost) > 8)
        raise CorpusError(
            f"{name}: no word of the transcript can be written with the model's units: there is none for {lost}. Write "
            "numbers as they are spoken, and see that language and script are the model's."
        )
    ids = {token: i for i, token in enumerate(vocab.tokens)}
    units = sorted({unit for word in spelled.words for unit in word.units} - {" "})
    kept = [vocab.blank_id, *(ids[unit] for unit in units)]
    columns = {unit: i for i, unit in enumerate(units, 1)}
    if vocab.word_delimiter is not None:
        columns[" "] = len(kept)
        kept.append(ids[vocab.word_delimiter])
    heard = read_posteriors(recognizer, waveform, kept, options.windows)
    frames = len(heard.best)
    if frames == 0:
        raise CorpusError(
            f"{name}: {len(waveform) / SAMPLE_RATE:.3f} s of audio are too short for one frame of this model "
            f"({recognizer.geometry.receptive_field / SAMPLE_RATE:.3f} s)."
        )
    if not np.isfinite(heard.log_probs).all():
        raise CorpusError(f"{name}: the model's output is not finite. Is its audio sound, and are its weights?")
    if options.costs == FORCED:
        count, repeats = spelled.frames_needed(delimiter=vocab.word_delimiter is not None)
        if frames < count + repeats:
            raise CorpusError(f"{name}: {too_few(frames, count, repeats, recognizer.geometry)}")
    return Prepared(name, len(waveform), spelled, heard, columns)


def too_few(frames: int, units: int, repeats: int, geometry: FrameGeometry) -> str:
    seconds = frames * geometry.stride / SAMPLE_RATE
    return (
        f"{frames} frames ({seconds:.2f} s) cannot hold the transcript's {units} units and a blank between "
        f"{repeats} repeated ones ({units + repeats} frames): is this its transcript, and all of the audio?"
    )


@dataclass(frozen=True)
class _Piece:
    owner: int
    first_word: int
    """Among those of the recording's words that have units."""
    begin: int
    end: int
    words: Words


@dataclass(frozen=True)
class Found:
    """What the path of a whole recording says."""

    runs: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict)
    """(Word with units, unit) -> its frames [first, last]."""
    delimiters: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Gap -> frames of its delimiter."""
    speech: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Gap -> frames in which something else is said."""


def search(recognizer: LoadedModel, items: Sequence[Prepared], options: AlignOptions) -> list[Found]:
    pieces = [piece for i, item in enumerate(items) for piece in _pieces(recognizer, i, item, options)]
    found = [Found() for _ in items]
    for some in _batches(pieces, options.max_bytes):
        rows = [_emissions(items[piece.owner], piece, options.costs, recognizer) for piece in some]
        emissions = [torch.from_numpy(row).to(recognizer.device) for row in rows]
        lattice, paths = best_paths(emissions, [p.words for p in some], options.costs, options.max_bytes)
        for row, (piece, path) in enumerate(zip(some, paths, strict=True)):
            assert path.score > -math.inf, "enough frames were asked for"
            _read_path(found[piece.owner], piece, lattice, row, path)
    return found


def _pieces(recognizer: LoadedModel, owner: int, item: Prepared, options: AlignOptions) -> Iterator[_Piece]:
    columns, vocab = item.columns, recognizer.vocab
    delimiter = columns.get(" ")
    words, free = list[tuple[int, ...]](), set[int]()
    for word in item.spelled.words:
        if word.units:
            words.append(tuple(columns[unit] for unit in word.units))
        elif not word.is_silent:
            free.add(len(words))
    frames = len(item.heard.best)
    min_frames = options.piece_seconds * SAMPLE_RATE / recognizer.geometry.stride
    cuts = list[tuple[int, int]]()
    if frames >= 2 * min_frames:
        ids = {column: vocab.ids[unit] for unit, column in columns.items() if unit != " "}
        if delimiter is not None:
            ids[delimiter] = vocab.ids[vocab.word_delimiter or ""]
        ignored = {vocab.blank_id} | ({ids[delimiter]} if delimiter is not None else set())
        in_ids = [[ids[column] for column in word] for word in words]
        cuts = [cut for cut in find_cuts(in_ids, item.heard.best, ignored, math.ceil(min_frames)) if cut[0] not in free]
    for (first, begin), (last, end) in zip([(0, 0), *cuts], [*cuts, (len(words), frames)], strict=True):
        inside = frozenset(gap - first for gap in free if first <= gap <= last)
        units = tuple(words[first:last])
        yield _Piece(owner, first, begin, end, Words(units, delimiter, 0, inside, inner_start=first > 0))


def _batches(pieces: Sequence[_Piece], max_bytes: int) -> Iterator[list[_Piece]]:
    """Pieces of like length together, as many as fit."""

    def size(piece: _Piece) -> int:
        return 4 * (sum(2 * len(units) for units in piece.words.units) + 4 * len(piece.words.units) + 5)

    some: list[_Piece] = []
    for piece in sorted(pieces, key=lambda p: (p.end - p.begin, size(p))):
        longest = piece.end - piece.begin
        if some and (len(some) + 1) * longest * max(map(size, [*some, piece])) > max_bytes:
            yield some
            some = []
        some.append(piece)
    if some:
        yield some


def _emissions(item: Prepared, piece: _Piece, costs: Costs, recognizer: LoadedModel) -> np.ndarray:
    """float32 (T, K + 1): log posteriors relative to each frame's best unit; speech comes last."""
    heard = item.heard.best[piece.begin : piece.end]
    log_probs = item.heard.log_probs[piece.begin : piece.end]
    begins = np.diff(heard, prepend=-1) != 0
    is_unit = ~np.isin(heard, silent_ids(recognizer))
    # A unit that goes on costs a little: otherwise the last frames of a word could as well be speech behind it
    cost = costs.heard if costs != FORCED else 0.0
    speech = -cost * is_unit * np.where(begins, 1.0, 0.1)
    return np.concatenate([log_probs[:, :-1] - log_probs[:, -1:], speech[:, None].astype(np.float32)], 1)


def silent_ids(recognizer: LoadedModel) -> list[int]:
    """Ids of what is written where nothing is said: the blank and what stands between words."""
    vocab = recognizer.vocab
    return [vocab.blank_id, *(i for i in range(len(vocab)) if vocab.is_boundary(i))]


def _read_path(found: Found, piece: _Piece, lattice: Lattice, row: int, path: Path) -> None:
    """Add what a piece's path says to the recording's."""
    ends = np.flatnonzero(np.diff(path.states)) + 1
    starts = np.concatenate([[0], ends])
    ends = np.append(ends, len(path.states))
    n, g = lattice.n, lattice.g
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        state = int(path.states[start])
        frames = (piece.begin + start, piece.begin + end - 1)
        if state < n:
            word = int(np.searchsorted(lattice.firsts[row, : lattice.num_words[row]], state, side="right")) - 1
            unit, is_blank = divmod(state - int(lattice.firsts[row, word]), 2)
            if not is_blank:
                found.runs[piece.first_word + word, unit] = frames
            continue
        kind, gap = divmod(state - n, g)
        if kind == DELIMITER:
            found.delimiters[piece.first_word + gap] = frames
        elif kind == SPEECH:
            before = found.speech.get(piece.first_word + gap, frames)
            found.speech[piece.first_word + gap] = (min(before[0], frames[0]), max(before[1], frames[1]))
        else:
            assert kind in (BLANK, AFTER)
