"""From a corpus to examples: read, checked, encoded and decoded once. Shared by training and scoring."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from tqdm import tqdm

from data.audio.store import open_store
from data.corpora import open_corpus
from data.durations import describe_durations
from data.examples import (
    MISSING,
    Drops,
    Example,
    describe_conversions,
    num_reference_words,
    prepare_evaluation,
    prepare_training,
    read_split,
    refuse_endless,
    refuse_or_report,
    refuse_unreadable,
)
from data.leaks import find_leaks
from data.text.normalise import NORMALIZERS
from data.text.vocab import Vocab
from data.utterance import AudioSource, Corpus, Utterance
from models.pretrained import EncoderSource
from trainer.cli.console import Console
from trainer.config.schema import Config
from trainer.errors import AudioError, CorpusError


@dataclass
class PreparedCorpus:
    """What is read of a corpus: everything that training and scoring need, and what the card tells of it."""

    corpus: Corpus
    vocab: Vocab
    own_tokenizer: bool
    """The vocabulary is the checkpoint's, head included."""
    train: list[Example]
    evaluation: dict[str, list[Example]]
    drops: Drops
    unseen: dict[str, Counter[str]]
    leaks: list[str] = field(default_factory=list)
    """Speakers and recordings that are in training and in an evaluation split."""
    conversions: str = ""
    """Which files are resampled or downmixed; empty when none is."""


@dataclass(frozen=True)
class CorpusUtterances:
    """A corpus' utterances as it wrote them."""

    corpus: Corpus
    train: list[Utterance]
    """Empty when only scoring."""
    evaluation: dict[str, list[Utterance]]


def read_corpus(config: Config, console: Console, *, training: bool = True) -> CorpusUtterances:
    """All utterances that will be used, before any encoder is fetched; without `training` those to score."""
    with _synthesis_bar(console) as progress:
        corpus = open_corpus(config.corpus, Path(config.cache_dir), progress)
    splits = corpus.splits
    train = read_split(corpus, splits.train) if training else []
    eval_splits = dict.fromkeys([splits.monitor, *splits.closing, *splits.unselected])
    return CorpusUtterances(corpus, train, {split: read_split(corpus, split) for split in eval_splits})


def prepare_corpus(
    config: Config, reading: CorpusUtterances, encoder: EncoderSource, console: Console, *, training: bool = True
) -> PreparedCorpus:
    """Check, encode and (unless --corpus.no-store) decode a corpus; one line on the console for each thing to know.

    Without `training` the vocabulary must be the checkpoint's.
    """
    c, cache_dir = config.corpus, Path(config.cache_dir)
    corpus, utterances, eval_utterances = reading.corpus, reading.train, reading.evaluation
    splits, normalize = corpus.splits, NORMALIZERS[c.normalizer]
    vocab, own = choose_vocabulary(c.vocabulary, [normalize(u.text) for u in utterances], encoder, c.bos_eos, training)

    train: list[Example] = []
    drops = Drops(splits.train, len(utterances))
    if training:
        train, drops = prepare_training(
            utterances, normalize, vocab, encoder.num_frames(),
            max_seconds=c.max_seconds, max_speed=max((1.0, *config.augment.speeds)),
            on_bad=c.on_bad, split=splits.train,
        )  # fmt: skip
    evaluation: dict[str, list[Example]] = {}
    unseen: dict[str, Counter[str]] = {}
    unreadable: list[Drops] = []
    for split, of_split in eval_utterances.items():
        evaluation[split], bad, unseen[split] = prepare_evaluation(of_split, normalize, vocab, split=split)
        refuse_endless(evaluation[split], c.max_eval_seconds)
        unreadable.append(bad)
        if unseen[split]:
            shown = ", ".join(f"{char!r} {count}" for char, count in unseen[split].most_common(5))
            console.warn(f"{split}: {unseen[split].total()} characters were never seen in training ({shown})")
    refuse_unreadable([bad for bad in unreadable if MISSING in bad.ids], c.on_bad_eval)
    everything = {id(u): u for u in [*utterances, *(u for s in eval_utterances.values() for u in s)]}
    if conversions := describe_conversions(list(everything.values())):
        console.say(conversions)
    for split, of_split in {splits.train: utterances, **eval_utterances}.items():
        if line := describe_durations(split, of_split):
            console.warn(line)
            conversions = f"{conversions}; {line}" if conversions else line
    if c.store:
        train, evaluation = _use_store(train, evaluation, drops, unreadable, c.on_bad, cache_dir, console)
    else:
        if c.on_bad == "drop":
            train = _drop_undecodable(train, drops, console)
        if c.on_bad_eval == "error":
            _find_undecodable(evaluation, unreadable, console)
    refuse_unreadable(unreadable, c.on_bad_eval)
    for bad in unreadable:
        if bad.num_dropped:
            console.warn(bad.describe("scored as deletions"))
    if drops.num_dropped:
        console.warn(drops.describe())
    words = {split: num_reference_words(examples) for split, examples in evaluation.items()}
    if (checksum := corpus.checksum(words)) is not None:
        line, is_suspicious = checksum
        (console.warn if is_suspicious else console.say)(line)
    leaks = find_leaks(train, evaluation)
    if leaks and config.strict:
        raise CorpusError(f"{'; '.join(leaks)}. Mend the splits, or train without --strict.")
    for leak in leaks:
        console.warn(leak)
    return PreparedCorpus(corpus, vocab, own, train, evaluation, drops, unseen, leaks, conversions)


def choose_vocabulary(
    rule: str, texts: Sequence[str], encoder: EncoderSource, bos_eos: bool, training: bool
) -> tuple[Vocab, bool]:
    """The vocabulary, and whether it is the checkpoint's own (then its head is kept too)."""
    pretrained = encoder.pretrained
    if pretrained is not None and pretrained.tokens is not None and (rule == "auto" or not training):
        with contextlib.suppress(CorpusError):
            num_units = pretrained.config.vocab_size
            # transformers adds <s> and </s> (and misread entries of old files) behind the head's last unit
            own = Vocab(pretrained.tokens[:num_units], **pretrained.special)
            if len(own) == num_units and own.fits(texts):
                return own, True
    if not training:
        raise CorpusError(
            f"{pretrained.source if pretrained else 'the model'}: has no tokenizer that matches its CTC head, so its "
            "output cannot be read. Give a folder that a training run exported, or a fine-tuned hub model."
        )
    return Vocab.build(texts, bos_eos=bos_eos), False


def _use_store(
    train: list[Example],
    evaluation: dict[str, list[Example]],
    drops: Drops,
    unreadable: Sequence[Drops],
    on_bad: str,
    cache_dir: Path,
    console: Console,
) -> tuple[list[Example], dict[str, list[Example]]]:
    """The same examples, read from a store of decoded audio; what fails to decode is dropped or left at 0 samples."""
    sources: dict[str, AudioSource] = {}
    for example in [*train, *(e for examples in evaluation.values() for e in examples)]:
        if example.num_samples > 0:
            sources.setdefault(example.utterance.audio.identity, example.utterance.audio)
    position = {identity: i for i, identity in enumerate(sources)}
    try:
        store = open_store(
            list(sources.values()),
            cache_dir,
            log=console.say,
            progress=lambda items, total: console.progress(items, total, "decoding", "file"),
        )
    except OSError as error:
        raise CorpusError(
            f"{cache_dir}: the decoded audio cannot be written ({error.strerror or error}). "
            "Give another --cache-dir, or --corpus.no-store to decode on the fly."
        ) from None

    def stored(example: Example) -> Example:
        if example.num_samples == 0:
            return example
        i = position[example.utterance.audio.identity]
        if i in store.failures:
            return replace(example, num_samples=0)
        return replace(example, load=partial(store.load, i), digest=store.digests[i])

    kept, first_bad = [], ""
    for example in map(stored, train):
        if example.num_samples > 0:
            kept.append(example)
            continue
        message = store.failures[position[example.utterance.audio.identity]]
        drops.add("undecodable", example.utterance.id)
        first_bad = first_bad or f"{example.utterance.origin}: utterance {example.utterance.id}: {message}"
    if first_bad:
        refuse_or_report(drops, first_bad, on_bad)
    if train and not kept:
        raise CorpusError(f"{drops.describe()}. Nothing is left to train on.")
    scored = {split: list(map(stored, examples)) for split, examples in evaluation.items()}
    for bad, examples in zip(unreadable, scored.values(), strict=True):
        for example, before in zip(examples, evaluation[bad.split], strict=True):
            if before.num_samples and not example.num_samples:
                _add_undecodable(bad, example, store.failures[position[example.utterance.audio.identity]])
    return kept, scored


def _find_undecodable(evaluation: dict[str, list[Example]], unreadable: Sequence[Drops], console: Console) -> None:
    """Add what fails to decode to `unreadable`: without a store, a run would only stop at its first evaluation."""
    for bad in unreadable:
        examples = evaluation[bad.split]
        for example in console.progress(examples, len(examples), f"decoding {bad.split}", "file"):
            try:
                if example.num_samples:
                    example.load()
            except AudioError as error:
                _add_undecodable(bad, example, str(error))


def _add_undecodable(bad: Drops, example: Example, message: str) -> None:
    u = example.utterance
    bad.add("undecodable", u.id, f"{u.origin}: utterance {u.id}: {message.rstrip('.')}")


def _drop_undecodable(train: list[Example], drops: Drops, console: Console) -> list[Example]:
    """The examples whose audio decodes: without a store only decoding tells, and the plan must know beforehand."""
    kept = []
    for example in console.progress(train, len(train), "decoding", "file"):
        try:
            example.load()
            kept.append(example)
        except AudioError:
            drops.add("undecodable", example.utterance.id)
    if train and not kept:
        raise CorpusError(f"{drops.describe()}. Nothing is left to train on.")
    return kept


@contextlib.contextmanager
def _synthesis_bar(console: Console) -> Iterator[Callable[[int, int], None]]:
    with tqdm(
        desc="synthesising", unit="speaker", file=console.stream, leave=False, disable=not console.is_terminal
    ) as bar:
        begin, spoken = time.perf_counter(), 0

        def progress(done: int, total: int) -> None:
            nonlocal spoken
            bar.total, spoken = total, done
            bar.update(done - bar.n)

        yield progress
    if spoken:
        console.say(f"synthesised {spoken} speakers once, in {time.perf_counter() - begin:.0f} s")
