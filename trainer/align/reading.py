"""From the frames of every unit to words with times, and to what the user should know of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from models.geometry import FrameGeometry
from trainer.align.alignment import AlignedUnit, AlignedWord, Alignment, Status, Unwritten
from trainer.align.search import Found, Prepared, silent_ids, too_few
from trainer.align.times import NEAR, Sides, Spike, SpikeTimes, WordSpikes, bounds, unit_bounds
from trainer.recognize.transcribe import LoadedModel
from trainer.recognize.words import text_of


def to_alignment(recognizer: LoadedModel, item: Prepared, found: Found, times: SpikeTimes | None) -> Alignment:
    """Words with times in samples; where `times` is None those of the frames in which they are written."""
    speech = {gap: _heard(recognizer, item, frames) for gap, frames in found.speech.items()}
    words = word_spikes(recognizer, item, found)
    spans = bounds(list(words.values()), item.num_samples, times)
    numbers = item.spelled.numbers
    aligned = {
        i: _aligned_word(item, found, item.spelled.words[i].text, numbers[i], word, span, times)
        for (i, word), span in zip(words.items(), spans, strict=True)
    }
    filled, unwritten = _fill_in(item, aligned, speech)
    return Alignment(item.name, item.num_samples, tuple(filled), tuple(unwritten), _notes(recognizer, item, filled))


def _heard(recognizer: LoadedModel, item: Prepared, frames: tuple[int, int]) -> tuple[int, int, str]:
    """(Start, end, what is read) of a stretch of speech, without the silence at its ends."""
    ids = item.heard.best[frames[0] : frames[1] + 1]
    said = np.flatnonzero(~np.isin(ids, silent_ids(recognizer)))
    geometry = recognizer.geometry
    if len(said) == 0:
        at = geometry.boundary(frames[0])
        return at, at, ""
    first, last = frames[0] + int(said[0]), frames[0] + int(said[-1])
    end = min(item.num_samples, geometry.boundary(last + 1))
    return geometry.boundary(first), end, text_of(ids, recognizer.vocab)


def _spike(item: Prepared, unit: str, frames: tuple[int, int], geometry: FrameGeometry) -> Spike:
    first, last = frames
    begin, end = max(0, first - 1), min(len(item.heard.best), last + 2)
    mass = np.exp(item.heard.log_probs[begin:end, item.columns[unit]].astype(np.float64))
    middle = float(mass @ np.arange(begin, end) / mass.sum()) if mass.sum() > 0 else (first + last) / 2
    centre = geometry.boundary(0) + (middle + 0.5) * geometry.stride
    start, stop = geometry.boundary(first), min(item.num_samples, geometry.boundary(last + 1))
    return Spike(unit, start, stop, min(max(centre, start), stop))


def word_spikes(recognizer: LoadedModel, item: Prepared, found: Found) -> dict[int, WordSpikes]:
    """{Which word of the transcript: its spikes and those around its boundaries} of each word that is aligned."""
    geometry, numbers = recognizer.geometry, item.spelled.numbers
    spikes = {
        i: tuple(_spike(item, unit, found.runs[numbers[i], k], geometry) for k, unit in enumerate(word.units))
        for i, word in enumerate(item.spelled.words)
        if word.units and (numbers[i], 0) in found.runs
    }
    matched = list(spikes)

    def delimiter(gap: int, edge: Spike) -> Spike | None:
        frames = found.delimiters.get(gap)
        return None if frames is None else _near(_spike(item, " ", frames, geometry), edge)

    follows = [
        k > 0 and numbers[matched[k - 1]] == numbers[i] - 1 and numbers[i] not in found.speech
        for k, i in enumerate(matched)
    ]
    words = {}
    for k, i in enumerate(matched):
        own, number = spikes[i], numbers[i]
        before = spikes[matched[k - 1]][-1] if follows[k] else None
        after = spikes[matched[k + 1]][0] if k + 1 < len(matched) and follows[k + 1] else None
        first, last = own[0], own[-1]
        at_start = Sides(first, own[1] if len(own) > 1 else None, delimiter(number, first), _near(before, first))
        at_end = Sides(last, own[-2] if len(own) > 1 else None, delimiter(number + 1, last), _near(after, last))
        words[i] = WordSpikes(own, at_start, at_end, follows[k])
    return words


def _near(spike: Spike | None, edge: Spike) -> Spike | None:
    return spike if spike is not None and abs(spike.centre - edge.centre) <= NEAR else None


def _aligned_word(
    item: Prepared,
    found: Found,
    text: str,
    number: int,
    word: WordSpikes,
    span: tuple[int, int],
    times: SpikeTimes | None,
) -> AlignedWord:
    log_scores = []
    for k, spike in enumerate(word.spikes):
        first, last = found.runs[number, k]
        log_scores.append(min(0.0, float(item.heard.log_probs[first : last + 1, item.columns[spike.unit]].max())))
    units = tuple(
        AlignedUnit(spike.unit, start, end, math.exp(log_score))
        for spike, (start, end), log_score in zip(word.spikes, unit_bounds(word, *span, times), log_scores, strict=True)
    )
    return AlignedWord(text, "aligned", *span, math.exp(sum(log_scores) / len(log_scores)), units)


def _fill_in(
    item: Prepared,
    aligned: dict[int, AlignedWord],
    speech: dict[int, tuple[int, int, str]],
) -> tuple[list[AlignedWord], list[Unwritten]]:
    """All words in order, those without times put between their neighbours; and the speech that is no word's."""
    words: list[AlignedWord] = []
    taken: set[int] = set()
    at = 0
    for i, (word, gap) in enumerate(zip(item.spelled.words, item.spelled.numbers, strict=True)):
        if i in aligned:
            words.append(aligned[i])
            at = aligned[i].end
        elif not word.units and not word.is_silent and gap in speech and gap not in taken:
            taken.add(gap)
            start = max(at, speech[gap][0])
            at = max(start, speech[gap][1])
            words.append(AlignedWord(word.text, "unspelled", start, at, None))
        else:
            status: Status = "unmatched" if word.units else "silent" if word.is_silent else "unspelled"
            words.append(AlignedWord(word.text, status, at, at, None))
    unwritten = [Unwritten(*speech[gap]) for gap in sorted(speech) if gap not in taken and speech[gap][2]]
    return words, unwritten


def _notes(recognizer: LoadedModel, item: Prepared, words: Sequence[AlignedWord]) -> tuple[str, ...]:
    notes = []
    if item.spelled.lost:
        lost = ", ".join(f"{c!r} {n}x" for c, n in item.spelled.lost.most_common(8))
        more = len(item.spelled.lost) - 8
        lost += f" and {more} more" if more > 0 else ""
        unspelled = sum(word.status == "unspelled" for word in words)
        whole = f"; words of nothing else ({unspelled}) get what is said between their neighbours" if unspelled else ""
        notes.append(f"the model has no unit for {lost}: left out of their words{whole}")
    unmatched = [word.text for word in words if word.status == "unmatched"]
    if unmatched:
        what = "units" if recognizer.vocab.phonemes else "words"
        count, repeats = item.spelled.frames_needed(delimiter=recognizer.vocab.word_delimiter is not None)
        frames = len(item.heard.best)
        named = ", ".join(repr(text) for text in unmatched[:5]) + (", ..." if len(unmatched) > 5 else "")
        spoken = sum(word.status in ("aligned", "unmatched") for word in words)
        notes.append(f"{len(unmatched)} of {spoken} {what} are not heard: {named}")
        if frames < count + repeats:
            notes.append(too_few(frames, count, repeats, recognizer.geometry))
        elif 2 * len(unmatched) > spoken:
            notes.append(f"most {what} are not heard: is this its transcript?")
    return tuple(notes)
