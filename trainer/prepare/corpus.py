"""From a corpus to examples: utterances are read and checked, texts encoded, audio decoded once."""

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
from data.examples import (
    Drops,
    Example,
    describe_conversions,
    num_reference_words,
    prepare_evaluation,
    prepare_training,
    read_split,
    refuse_endless,
    refuse_or_report,
)
from data.leaks import find_leaks
from data.text.normalise import normalizer
from data.text.vocab import Vocab
from data.utterance import AudioSource, Corpus, Utterance
from models.pretrained import EncoderSource
from trainer.cli.console import Console
from trainer.config.schema import Config
from trainer.errors import AudioError, CorpusError


@dataclass
class PreparedCorpus:
    """A corpus as training and scoring need it, with what the model card says about it."""

    corpus: Corpus
    vocab: Vocab
    own_tokenizer: bool
    """Whether the vocabulary is the checkpoint's; its head is then kept too."""
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
    """A corpus' utterances as the corpus wrote them."""

    corpus: Corpus
    train: list[Utterance]
    """Empty when only scoring."""
    evaluation: dict[str, list[Utterance]]


def read_corpus(config: Config, console: Console, *, training: bool = True) -> CorpusUtterances:
    """Read all utterances that the run uses; without `training`, only those to score. No encoder is needed yet."""
    with _synthesis_bar(console) as progress:
        corpus = open_corpus(config.corpus, Path(config.cache_dir), progress)
    splits = corpus.splits
    train = read_split(corpus, splits.train) if training else []
    eval_splits = dict.fromkeys([splits.monitor, *splits.closing, *splits.unselected])
    return CorpusUtterances(corpus, train, {split: read_split(corpus, split) for split in eval_splits})


def prepare_corpus(
    config: Config, reading: CorpusUtterances, encoder: EncoderSource, console: Console, *, training: bool = True
) -> PreparedCorpus:
    """Check, encode and (unless --corpus.no-store) decode a corpus. Each finding is one line on the console.

    Without `training` the vocabulary must be the checkpoint's.
    """
    c, cache_dir = config.corpus, Path(config.cache_dir)
    corpus, utterances, eval_utterances = reading.corpus, reading.train, reading.evaluation
    splits, normalize = corpus.splits, normalizer(c.normalizer, c.language)
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
    for split, of_split in eval_utterances.items():
        evaluation[split], unreadable, unseen[split] = prepare_evaluation(of_split, normalize, vocab, split=split)
        refuse_endless(evaluation[split], c.max_eval_seconds)
        if unreadable.num_dropped:
            console.warn(f"{unreadable.describe('scored as deletions')}")
        if unseen[split]:
            shown = ", ".join(f"{char!r} {count}" for char, count in unseen[split].most_common(5))
            console.warn(f"{split}: {unseen[split].total()} characters were never seen in training ({shown})")
    everything = {id(u): u for u in [*utterances, *(u for s in eval_utterances.values() for u in s)]}
    if conversions := describe_conversions(list(everything.values())):
        console.say(conversions)
    if c.store:
        train, evaluation = _use_store(train, evaluation, drops, c.on_bad, cache_dir, console)
    elif c.on_bad == "drop":
        train = _drop_undecodable(train, drops, console)
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
    """The vocabulary, and whether it is the checkpoint's own. Then its head is kept too."""
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
    on_bad: str,
    cache_dir: Path,
    console: Console,
) -> tuple[list[Example], dict[str, list[Example]]]:
    """The same examples, read from a store of decoded audio. What fails to decode is dropped, or has 0 samples."""
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
    for split, examples in scored.items():
        failed = [e.utterance.id for e in examples if e.num_samples == 0 and e.utterance.audio.identity in position]
        if failed:
            names = ", ".join(failed[:3]) + (", ..." if len(failed) > 3 else "")
            console.warn(f"{split}: {len(failed)} of {len(examples)} fail to decode, scored as deletions ({names})")
    return kept, scored


def _drop_undecodable(train: list[Example], drops: Drops, console: Console) -> list[Example]:
    """The examples whose audio decodes. Without a store only decoding shows it; the plan must know it beforehand."""
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
