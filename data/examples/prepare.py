"""From a corpus to what can be trained on and what is scored: utterances in, examples out, nothing lost silently.

corpus.utterances(split) -> read_split -> [Utterance]      ids unique, split not empty
  -> normalise, encode, measure -> prepare -> [Example]    bad ones refused, or dropped, counted and named
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from data.audio.decode import speed_length
from data.examples.drops import SEGMENT, Drops, refuse_or_report
from data.examples.durations import describe_segment, find_segments
from data.examples.example import Example
from data.examples.measuring import measure, why_unreadable
from data.examples.table import ExampleTable, lengths_of, texts_in, writes_characters
from data.faults import Faults
from data.text.normalise import collapse_spaces, control_character, impossible_character
from data.text.normalised import ArrowTexts
from data.text.vocab import Vocab
from data.utterance import SAMPLE_RATE, Corpus, Utterance
from data.utterance_table import UtteranceTable, first_twice
from trainer.errors import CorpusError

_BREAK = re.compile(r"[\t\n\v\f\r\x1c-\x1f\x85]")
"""A tab, or what some program takes for the end of a line: lists of ids have one a line, and columns behind tabs."""


def read_split(corpus: Corpus, split: str, faults: Faults | None = None) -> Sequence[Utterance]:
    """All utterances of a split; CorpusError when it is empty, an id stands twice or a text cannot be one.

    Where `faults` collects, those without a fault. What the corpus gives as a table stays one.
    """
    faults = faults or Faults()
    utterances: list[Utterance] = []
    already, first = len(faults.found), dict[str, Utterance]()
    with faults.noted("unreadable corpus", split):
        found = corpus.utterances(split, faults)
        if isinstance(found, UtteranceTable) and len(found) and (found.is_checked or _is_sound(found)):
            return found
        for utterance in found:  # one of them is faulty, or they are no table: one by one
            with faults.noted("id or text that cannot be", split):
                _check(utterance, first)
                utterances.append(utterance)
    if not utterances and len(faults.found) == already:
        with faults.noted("empty split", split):
            raise CorpusError(f"{corpus.title}: split {split!r} holds no utterance.")
    return utterances


def _is_sound(table: UtteranceTable) -> bool:
    """Whether `_check` passes all rows of a table."""
    if first_twice(table.rows["id"]) is not None:
        return False
    return not any(map(_is_no_id, _not_plain(table, "id"))) and not any(
        map(impossible_character, _not_plain(table, "text"))
    )


def _is_no_id(id: str) -> bool:
    return bool(_BREAK.search(id) or control_character(id))


def _not_plain(table: UtteranceTable, name: str) -> list[str]:
    """The values that hold anything but printable ASCII; the others need no look."""
    column = table.rows[name]
    return column.filter(pc.match_substring_regex(column, "[^ -~]")).to_pylist()


def _check(utterance: Utterance, first: dict[str, Utterance]) -> None:
    """CorpusError when its id is in `first` already, or a text cannot be one; else it is put into `first`."""
    if (other := first.setdefault(utterance.id, utterance)) is not utterance:
        raise CorpusError(
            f"{utterance.origin}: id {utterance.id!r} stands already at {other.origin}. Ids must be unique in a split."
        )
    if found := _BREAK.search(utterance.id):
        raise CorpusError(
            f"{utterance.origin}: utterance {utterance.id!r}: its id holds U+{ord(found[0]):04X}, a tab or a line "
            "break, and lists of ids have one a line. Take it out."
        )
    characters = (("id", control_character(utterance.id)), ("transcript", impossible_character(utterance.text)))
    for what, character in characters:
        if character:
            raise CorpusError(
                f"{utterance.origin}: utterance {utterance.id}: its {what} holds {character}, a character that no "
                "text has: another encoding, or damage? Save the corpus as UTF-8, or take the character out."
            )


def frames_needed(targets: Sequence[int]) -> int:
    """Fewest encoder frames in which CTC can emit `targets`.

    A label takes one frame and two equal neighbours need a blank between them (Graves et al. 2006). With
    fewer frames the loss is infinite.

    >>> frames_needed([3, 3, 5])
    4
    """
    return len(targets) + sum(a == b for a, b in itertools.pairwise(targets))


@dataclass(frozen=True)
class _Limits:
    """What a training utterance must be."""

    num_frames: Callable[[int], int]
    max_seconds: float
    max_speed: float

    def problem(self, text: str, written: str, targets: Sequence[int], length: int) -> tuple[str, str] | None:
        """(Reason, detail) where an utterance with this transcript, as it was `written`, cannot be trained on."""
        if length == 0:
            return "without audio", "its audio has no samples"
        if not text.strip():
            return "without text", f"its transcript {written!r} is empty once normalised"
        if length > self.max_seconds * SAMPLE_RATE:
            lasts = f"it lasts {length / SAMPLE_RATE:.1f} s, over --corpus.max-seconds {self.max_seconds:g}"
            return f"over {self.max_seconds:g} s", lasts
        frames = self.num_frames(speed_length(length, self.max_speed))
        if frames >= max(1, frames_needed(targets)):
            return None
        detail = f"its {frames} frames are too few: CTC needs {frames_needed(targets)} for {len(targets)} units"
        if frames == 0:
            least = next(n for n in itertools.count(1) if self.num_frames(speed_length(n, self.max_speed)))
            detail = f"its {length} samples are too short: the encoder's first frame takes {least}"
        return "too short for their transcript", detail

    def doubtful(self, texts: ArrowTexts, lengths: np.ndarray) -> np.ndarray:
        """bool (n,): where `problem` may find one. A character is a unit, and needs two frames at most."""
        num_characters = texts.num_characters(trimmed=True).to_numpy()
        different, which = np.unique(lengths, return_inverse=True)
        frames = np.array([self.num_frames(speed_length(int(n), self.max_speed)) for n in different])[which]
        longest = self.max_seconds * SAMPLE_RATE
        enough = frames >= 2 * texts.num_characters().to_numpy()
        return ~((lengths > 0) & (lengths <= longest) & (num_characters > 0) & enough)


def prepare_training(
    utterances: Sequence[Utterance],
    normalize: Callable[[str], str],
    vocab: Vocab,
    num_frames: Callable[[int], int],
    *,
    max_seconds: float,
    max_speed: float,
    on_bad: str,
    split: str,
    texts: Sequence[str] | None = None,
) -> tuple[Sequence[Example], Drops]:
    """Training examples and what was left out; with on_bad "error" the first bad utterance is a CorpusError.

    `max_speed` is the fastest speed perturbation: the utterance must fit its transcript even then. `texts` are the
    transcripts normalised, where that was done already. The examples of a table are a table.
    """
    encode, drops = vocab.encoder(), Drops(split, len(utterances))
    limits = _Limits(num_frames, max_seconds, max_speed)
    texts = [normalize(u.text) for u in utterances] if texts is None else texts
    (lengths, errors), segments = measure(utterances), find_segments(utterances)
    kept: list[Example] = []
    is_good = np.ones(len(utterances), np.bool_)
    is_table = isinstance(utterances, UtteranceTable)
    positions: Iterable[int] = range(len(utterances))
    if isinstance(texts, ArrowTexts) and writes_characters(vocab):
        doubtful = limits.doubtful(texts, lengths)
        doubtful[[*errors, *segments]] = True
        positions = np.flatnonzero(doubtful).tolist()
    for i in positions:
        utterance, text, length = utterances[i], texts[i], int(lengths[i])
        targets = tuple(encode(text))
        problem = limits.problem(text, utterance.text, targets, length)
        if i in errors:
            problem = "unreadable", str(errors[i])
        elif i in segments and length:
            problem = SEGMENT, describe_segment(*segments[i])
        if problem is not None:
            is_good[i] = False
            drops.add(problem[0], utterance, problem[1])
        elif not is_table:
            kept.append(Example(utterance, vocab.to_compare(text), targets, length, utterance.audio.load))
    refuse_or_report(drops, on_bad)
    if not is_good.any():
        raise CorpusError(f"{drops.describe()}. Nothing is left to train on.")
    if isinstance(utterances, UtteranceTable):
        rows = np.flatnonzero(is_good)
        return ExampleTable(utterances, texts, vocab, lengths[rows], rows), drops
    return kept, drops


def prepare_evaluation(
    utterances: Sequence[Utterance],
    normalize: Callable[[str], str],
    vocab: Vocab,
    *,
    split: str,
    texts: Sequence[str] | None = None,
) -> tuple[Sequence[Example], Drops, Counter[str]]:
    """All utterances as examples, those without readable audio (num_samples 0), and unseen characters.

    None is left out; whether what cannot be read stops the run, `refuse_unreadable` says. A row that means a part of
    its file is a CorpusError. `texts`: see prepare_training.
    """
    encode, drops, examples = vocab.encoder(), Drops(split, len(utterances)), []
    texts = [normalize(u.text) for u in utterances] if texts is None else texts
    unseen: Counter[str] = Counter()
    (lengths, errors), segments = measure(utterances), find_segments(utterances)
    for i in sorted({*errors, *segments, *np.flatnonzero(lengths == 0).tolist()}):
        if i in errors:
            drops.add(why_unreadable(utterances[i]), utterances[i], str(errors[i]))
        elif i in segments:
            drops.add(SEGMENT, utterances[i], describe_segment(*segments[i]))
        else:
            drops.add("without audio", utterances[i], "its audio has no samples")
    for text in texts:
        unseen.update(vocab.unseen(text))
    if isinstance(utterances, UtteranceTable):
        return ExampleTable(utterances, texts, vocab, lengths, np.arange(len(lengths))), drops, unseen
    for utterance, text, length in zip(utterances, texts, lengths.tolist(), strict=True):
        targets = tuple(encode(text))
        examples.append(Example(utterance, vocab.to_compare(text), targets, length, utterance.audio.load))
    return examples, drops, unseen


def refuse_wordless(examples: Sequence[Example], split: str) -> None:
    """CorpusError when there is nothing to score: not one word in all references once they are normalised."""
    if num_reference_words(examples) == 0:
        u = examples[0].utterance
        raise CorpusError(
            f"{u.origin}: split {split!r} has no reference word, hence no error rate: its {len(examples)} transcripts "
            f"are empty once normalised (the first was {u.text[:40]!r}). Mend them, or give another "
            "--corpus.text-field or --corpus.normalizer."
        )


def refuse_endless(
    examples: Sequence[Example], max_seconds: float, faults: Faults | None = None, split: str = ""
) -> None:
    """A fault for each evaluation utterance that is too long to be scored: none is left out."""
    for i in np.flatnonzero(lengths_of(examples) > max_seconds * SAMPLE_RATE):
        u, seconds = examples[int(i)].utterance, examples[int(i)].num_samples / SAMPLE_RATE
        with (faults or Faults()).noted("too long to be scored", split):
            raise CorpusError(
                f"{u.origin}: utterance {u.id}: it lasts {seconds:.1f} s, over --corpus.max-eval-seconds "
                f"{max_seconds:g}. Cut it, or raise the limit if memory allows: evaluation leaves nothing out."
            )


def num_reference_words(examples: Sequence[Example]) -> int:
    """Words of all references, as the WER counts them."""
    return sum(len(collapse_spaces(text).split()) for text in texts_in(examples))
