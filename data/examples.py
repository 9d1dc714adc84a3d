"""From a corpus to what can be trained on and what is scored: utterances in, examples out, nothing lost silently.

corpus.utterances(split) -> read_split -> [Utterance]      ids unique, split not empty
  -> normalise, encode, measure -> prepare -> [Example]    bad ones refused, or dropped, counted and named
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from data.audio.decode import speed_length
from data.drops import MISSING, SEGMENT, Drops, name_some, refuse_or_report
from data.durations import describe_segment, find_segments
from data.faults import Faults
from data.text.normalise import collapse_spaces, control_character, impossible_character
from data.text.vocab import Vocab
from data.utterance import SAMPLE_RATE, Corpus, Utterance
from trainer.errors import AudioError, CorpusError


@dataclass(frozen=True)
class Example:
    """An utterance ready for batching."""

    utterance: Utterance
    text: str
    """Normalised transcript in the form in which it is scored (Vocab.to_compare); single spaces between words are up
    to the scorer."""
    targets: tuple[int, ...]
    num_samples: int
    """At 16 kHz; 0 when the audio cannot be decoded (in evaluation only)."""
    load: Callable[[], np.ndarray]
    """float32 (num_samples,), not normalised."""
    digest: str = ""
    """Of the encoded audio, where a store knows it."""


def read_split(corpus: Corpus, split: str, faults: Faults | None = None) -> list[Utterance]:
    """All utterances of a split; CorpusError when it is empty, an id stands twice or a text cannot be one.

    Where `faults` collects, those without a fault.
    """
    faults = faults or Faults()
    utterances: list[Utterance] = []
    already, first = len(faults.found), dict[str, Utterance]()
    with faults.noted("unreadable corpus", split):
        for utterance in corpus.utterances(split, faults):
            with faults.noted("id or text that cannot be", split):
                _check(utterance, first)
                utterances.append(utterance)
    if not utterances and len(faults.found) == already:
        with faults.noted("empty split", split):
            raise CorpusError(f"{corpus.title}: split {split!r} holds no utterance.")
    return utterances


def _check(utterance: Utterance, first: dict[str, Utterance]) -> None:
    """CorpusError when its id is in `first` already, or a text cannot be one; else it is put into `first`."""
    if (other := first.setdefault(utterance.id, utterance)) is not utterance:
        raise CorpusError(
            f"{utterance.origin}: id {utterance.id!r} stands already at {other.origin}. Ids must be unique in a split."
        )
    found = (("id", control_character(utterance.id)), ("transcript", impossible_character(utterance.text)))
    for what, character in found:
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
) -> tuple[list[Example], Drops]:
    """Training examples and what was left out; with on_bad "error" the first bad utterance is a CorpusError.

    `max_speed` is the fastest speed perturbation: the utterance must fit its transcript even then.
    """
    encode, drops, examples = vocab.encoder(), Drops(split, len(utterances)), []
    lengths, segments = measure(utterances), find_segments(utterances)
    for i, (utterance, length) in enumerate(zip(utterances, lengths, strict=True)):
        text = normalize(utterance.text)
        targets = tuple(encode(text))
        reason, detail = "", ""
        if isinstance(length, AudioError):
            reason, detail = "unreadable", str(length)
        elif length == 0:
            reason, detail = "without audio", "its audio has no samples"
        elif i in segments:
            reason, detail = SEGMENT, describe_segment(*segments[i])
        elif not text.strip():
            reason, detail = "without text", f"its transcript {utterance.text!r} is empty once normalised"
        elif length > max_seconds * SAMPLE_RATE:
            reason = f"over {max_seconds:g} s"
            detail = f"it lasts {length / SAMPLE_RATE:.1f} s, over --corpus.max-seconds {max_seconds:g}"
        elif (frames := num_frames(speed_length(length, max_speed))) < max(1, frames_needed(targets)):
            reason = "too short for their transcript"
            detail = f"its {frames} frames are too few: CTC needs {frames_needed(targets)} for {len(targets)} units"
            if frames == 0:
                least = next(n for n in itertools.count(1) if num_frames(speed_length(n, max_speed)))
                detail = f"its {length} samples are too short: the encoder's first frame takes {least}"
        else:
            examples.append(Example(utterance, vocab.to_compare(text), targets, length, utterance.audio.load))
            continue
        drops.add(reason, utterance, detail)
    refuse_or_report(drops, on_bad)
    if not examples:
        raise CorpusError(f"{drops.describe()}. Nothing is left to train on.")
    return examples, drops


def prepare_evaluation(
    utterances: Sequence[Utterance], normalize: Callable[[str], str], vocab: Vocab, *, split: str
) -> tuple[list[Example], Drops, Counter[str]]:
    """All utterances as examples, those without readable audio (num_samples 0), and unseen characters.

    None is left out; whether what cannot be read stops the run, `refuse_unreadable` says. A row that means a part of
    its file is a CorpusError.
    """
    encode, drops, examples = vocab.encoder(), Drops(split, len(utterances)), []
    unseen: Counter[str] = Counter()
    lengths, segments = measure(utterances), find_segments(utterances)
    for i, (utterance, length) in enumerate(zip(utterances, lengths, strict=True)):
        if isinstance(length, AudioError):
            drops.add(_why_unreadable(utterance), utterance, str(length))
            length = 0
        elif i in segments:
            drops.add(SEGMENT, utterance, describe_segment(*segments[i]))
        elif length == 0:
            drops.add("without audio", utterance, "its audio has no samples")
        text = normalize(utterance.text)
        unseen += vocab.unseen(text)
        text, targets = vocab.to_compare(text), tuple(encode(text))
        examples.append(Example(utterance, text, targets, length, utterance.audio.load))
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


def _why_unreadable(utterance: Utterance) -> str:
    try:
        utterance.audio.identity  # noqa: B018  raises when there is no such file
    except AudioError:
        return MISSING
    return "unreadable"


def refuse_endless(examples: Sequence[Example], max_seconds: float) -> None:
    """CorpusError over an evaluation utterance that is too long to be scored: none is left out."""
    for example in examples:
        if example.num_samples > max_seconds * SAMPLE_RATE:
            u, seconds = example.utterance, example.num_samples / SAMPLE_RATE
            raise CorpusError(
                f"{u.origin}: utterance {u.id}: it lasts {seconds:.1f} s, over --corpus.max-eval-seconds "
                f"{max_seconds:g}. Cut it, or raise the limit if memory allows: evaluation leaves nothing out."
            )


def measure(utterances: Sequence[Utterance]) -> list[int | AudioError]:
    """Samples at 16 kHz of each utterance, from the headers, or what is wrong with one."""

    def num_samples(utterance: Utterance) -> int | AudioError:
        try:
            return utterance.audio.num_samples
        except AudioError as error:
            return error

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(num_samples, utterances))


def describe_conversions(utterances: Sequence[Utterance]) -> str:
    """How many files are resampled, downmixed, or not quite as they should be, in one line; empty when none is."""
    rates: Counter[int] = Counter()
    num_downmixed, longest = 0, 0.0
    short: list[str] = []
    remarks: dict[str, list[str]] = {}
    for utterance in utterances:
        try:
            header = utterance.audio.header
        except AudioError:
            continue
        rates[header.rate] += 1
        num_downmixed += header.num_channels > 1
        if header.num_missing:
            short.append(utterance.id)
            longest = max(longest, header.num_missing / header.rate)
        if header.remark:
            remarks.setdefault(header.remark, []).append(utterance.id)
    resampled = {rate: count for rate, count in sorted(rates.items()) if rate != SAMPLE_RATE}
    parts = []
    if resampled:
        by_rate = ", ".join(f"{count} from {rate} Hz" for rate, count in resampled.items())
        parts.append(f"{sum(resampled.values())} of {len(utterances)} files are resampled to 16 kHz ({by_rate})")
    if num_downmixed:
        parts.append(f"{num_downmixed} are downmixed to mono")
    if short:
        parts.append(
            f"{len(short)} of {len(utterances)} files are shorter than they say, by {longest:.3f} s at most "
            f"({name_some(short)})"
        )
    parts += [f"{len(ids)} of {len(utterances)} files: {remark} ({name_some(ids)})" for remark, ids in remarks.items()]
    return "; ".join(parts)


def num_reference_words(examples: Sequence[Example]) -> int:
    """Words of all references, as the WER counts them."""
    return sum(len(collapse_spaces(example.text).split()) for example in examples)
