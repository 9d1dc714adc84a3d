"""Recordings that are there twice, and long texts that one speaker reads twice.

The same samples are found by a digest; the same recording at another level or through a codec by its fingerprint, among
those of about the same length. What looks the same is then laid over one another, so that "the same" is certain.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from data.audio.fingerprint import distance
from data.examples.example import Example
from trainer.errors import AudioError
from trainer.signs.recording import LITTLE_MODULATION
from trainer.signs.sign import Sign

MOST_BITS = 24
"""By which fingerprints of one recording differ at most. Two readings of a text differ in 40 and more."""
ALIKE = 0.7
"""Correlation at the best shift: of one recording through a codec 0.9, of two readings by one speaker below 0.3."""
LENGTH_STEP = 0.03
"""Of the logarithm, from the first to the last speech: recordings whose lengths differ by more are not compared."""
MOST_OF_A_KEY = 8
"""Neighbours of equal key with which a recording is compared: more of one key are no duplicates but alike."""
MOST_COMPARED = 4
"""Recordings that one is laid over: what looks like more of them is a jingle or a hum."""
LONG_TEXT = 20
"""Characters: a shorter text is said twice in any corpus."""
HABIT = 0.05
"""Share of utterances that are there twice, or whose speaker reads their text twice: from there on the corpus is made
so."""
MOST_SHOWN = 60
"""Characters of a transcript that a sign cites."""


def find_duplicates(examples: Sequence[Example], rows: np.ndarray, speakers: np.ndarray) -> dict[int, list[Sign]]:
    """{Number of an example: its signs}.

    rows, trainer.signs.measured.ROW (n,); speakers, int (n,): negative where unknown.
    """
    pairs: dict[tuple[int, int], str] = {}
    for a, b in _same_content(rows):
        if not _are_one(examples[a], examples[b]):
            pairs[a, b] = "the same samples"
    for a, b in _same_fingerprint(rows):
        if (a, b) in pairs or _are_one(examples[a], examples[b]):
            continue
        if (alike := _correlation(examples[a], examples[b])) >= ALIKE:
            pairs[a, b] = f"the same recording (correlation {alike:.2f})"
    at_odds = {pair for pair in pairs if examples[pair[0]].targets != examples[pair[1]].targets}
    are_usual = len(pairs) - len(at_odds) > HABIT * len(examples)
    signs: dict[int, list[Sign]] = defaultdict(list)
    for pair, what in pairs.items():
        for one, other in (pair, pair[::-1]):
            where = f"{what} as {examples[other].utterance.id}"
            if pair in at_odds:
                where += f", whose transcript is {examples[other].utterance.text[:MOST_SHOWN]!r}"
                signs[one].append(Sign("two transcripts", where, "certain"))
            elif not are_usual:
                signs[one].append(Sign("recorded twice", f"{where}, with the same transcript", "possible"))
    for pair in _same_text(examples, speakers):
        if pair not in pairs:
            for one, other in (pair, pair[::-1]):
                what = f"the same speaker reads the same text in {examples[other].utterance.id}"
                signs[one].append(Sign("text twice", what, "possible"))
    return dict(signs)


def _are_one(a: Example, b: Example) -> bool:
    """Whether they are one utterance, in two splits that overlap."""
    return a.utterance.id == b.utterance.id and a.utterance.audio.name == b.utterance.audio.name


def _same_content(rows: np.ndarray) -> Iterator[tuple[int, int]]:
    """Each recording and the one before it with the same samples."""
    measured = np.flatnonzero(rows["is_measured"])
    yield from map(tuple, _neighbours(measured, rows["content"][measured]).tolist())


def _neighbours(items: np.ndarray, keys: np.ndarray, reach: int = 1) -> np.ndarray:
    """int (m, 2): pairs of `items`, the first one first, with the same key, at most `reach` apart among those."""
    order = np.argsort(keys, kind="stable")
    items, keys = items[order], keys[order]
    pairs = [np.zeros((0, 2), items.dtype)]
    for step in range(1, reach + 1):
        same = np.flatnonzero(keys[step:] == keys[:-step])
        pairs.append(np.stack([items[same], items[same + step]], axis=1))
    return np.concatenate(pairs)


def _same_fingerprint(rows: np.ndarray) -> Iterator[tuple[int, int]]:
    """Pairs of speech whose fingerprints differ in MOST_BITS at most, an eighth of them in none, and lengths hardly."""
    measured = np.flatnonzero(rows["is_measured"] & (rows["modulation"] >= LITTLE_MODULATION))
    prints = rows["fingerprint"]
    speech = (rows["seconds"] - rows["lead"] - rows["trail"])[measured]
    length = np.log(np.maximum(speech, 1e-3)) / LENGTH_STEP
    found = [np.zeros((0, 2), measured.dtype)]
    for shift in (0.0, 0.5):
        cell = np.floor(length + shift).astype(np.int64) + 2**20
        for part in range(prints.shape[1] // 2):
            bits = prints[measured, 2 * part].astype(np.int64) * 256 + prints[measured, 2 * part + 1]
            pairs = _neighbours(measured, cell * 65536 + bits, MOST_OF_A_KEY)
            found.append(pairs[distance(prints[pairs[:, 0]], prints[pairs[:, 1]]) <= MOST_BITS])
    seen: Counter[int] = Counter()
    for a, b in np.unique(np.concatenate(found), axis=0).tolist():
        seen.update((a, b))
        if max(seen[a], seen[b]) <= MOST_COMPARED:
            yield a, b


def _correlation(a: Example, b: Example) -> float:
    """Of the samples of both, at the shift where it is highest: 1 for the same, 0 for unrelated ones."""
    try:
        x, y = a.load(), b.load()
    except AudioError:
        return 0.0
    size = 1 << (len(x) + len(y) - 1).bit_length()
    both = np.fft.irfft(np.fft.rfft(x - x.mean(), size) * np.conj(np.fft.rfft(y - y.mean(), size)), size)
    power = float(np.sqrt(len(x) * np.var(x, dtype=np.float64) * len(y) * np.var(y, dtype=np.float64)))
    return float(np.abs(both).max()) / max(power, 1e-12)


def _same_text(examples: Sequence[Example], speakers: np.ndarray) -> list[tuple[int, int]]:
    """Each utterance and the one before it in which the same speaker reads the same long text."""
    keys = np.array([
        _text_key(int(speaker), example.text) for example, speaker in zip(examples, speakers, strict=True)
    ], np.uint64)  # fmt: skip
    known = np.flatnonzero(keys)
    pairs = [(a, b) for a, b in _neighbours(known, keys[known]).tolist() if not _are_one(examples[a], examples[b])]
    return pairs if len(pairs) <= HABIT * len(keys) else []


def _text_key(speaker: int, text: str) -> int:
    if speaker < 0 or len(text) < LONG_TEXT:
        return 0
    return int.from_bytes(hashlib.blake2b(f"{speaker} {text}".encode(), digest_size=8).digest(), "big") | 1
