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

from data.audio.segments import describe_overshoots
from data.audio.store import open_store
from data.corpora import open_corpus, reading_notes
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
    refuse_wordless,
)
from data.faults import Fault, Faults
from data.leaks import find_leaks
from data.text.normalise import normalizer
from data.text.vocab import Vocab
from data.utterance import AudioSource, Corpus, Utterance
from models.pretrained import EncoderSource
from trainer.cli.console import Console
from trainer.config.schema import Config
from trainer.errors import AudioError, CorpusError

LEAVE_OUT = "Mend them, or leave such training utterances out: --corpus.on-bad drop"
"""The remedy for all that is wrong with single utterances."""


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
    faults: Faults = field(default_factory=Faults)
    """What a check has found."""


@dataclass(frozen=True)
class CorpusUtterances:
    """A corpus' utterances as the corpus wrote them."""

    corpus: Corpus
    train: list[Utterance]
    """Empty when only scoring."""
    evaluation: dict[str, list[Utterance]]
    faults: Faults = field(default_factory=Faults)


def read_corpus(
    config: Config, console: Console, *, training: bool = True, faults: Faults | None = None
) -> CorpusUtterances:
    """Read all utterances that the run uses; without `training`, only those to score. No encoder is needed yet.

    The first fault of the corpus is an error; where `faults` collects, the reading goes on with what is sound.
    """
    faults = faults or Faults()
    with _synthesis_bar(console) as progress:
        corpus = open_corpus(config.corpus, Path(config.cache_dir), progress)
    splits = corpus.splits
    train = read_split(corpus, splits.train, faults) if training else []
    eval_splits = dict.fromkeys([splits.monitor, *splits.closing, *splits.unselected])
    evaluation = {split: read_split(corpus, split, faults) for split in eval_splits}
    for note in reading_notes(corpus):
        console.say(note)
    if faults.collects and not (train and all(evaluation.values())):
        raise CorpusError("Nothing can be looked at beyond the faults above: a split has no sound utterance.")
    return CorpusUtterances(corpus, train, evaluation, faults)


def prepare_corpus(
    config: Config, reading: CorpusUtterances, encoder: EncoderSource, console: Console, *, training: bool = True
) -> PreparedCorpus:
    """Check, encode and (unless --corpus.no-store) decode a corpus. Each finding is one line on the console.

    Without `training` the vocabulary must be the checkpoint's.
    """
    c, cache_dir, faults = config.corpus, Path(config.cache_dir), reading.faults
    on_bad = "drop" if faults.collects else c.on_bad  # a check goes on without them
    corpus, utterances, eval_utterances = reading.corpus, reading.train, reading.evaluation
    splits, normalize = corpus.splits, normalizer(c.normalizer, c.language)
    vocab, own = choose_vocabulary(c.vocabulary, [normalize(u.text) for u in utterances], encoder, c.bos_eos, training)

    train: list[Example] = []
    drops = Drops(splits.train, len(utterances))
    if training:
        train, drops = prepare_training(
            utterances, normalize, vocab, encoder.num_frames(),
            max_seconds=c.max_seconds, max_speed=max((1.0, *config.augment.speeds)),
            on_bad=on_bad, split=splits.train,
        )  # fmt: skip
    evaluation: dict[str, list[Example]] = {}
    unseen: dict[str, Counter[str]] = {}
    for split, of_split in eval_utterances.items():
        if faults.collects:
            of_split = [u for u in of_split if is_there(u, split, faults)]
        evaluation[split], unreadable, unseen[split] = prepare_evaluation(of_split, normalize, vocab, split=split)
        with faults.noted("no reference word", split):
            refuse_wordless(evaluation[split], split)
        for example in evaluation[split]:
            with faults.noted("too long to be scored", split):
                refuse_endless([example], c.max_eval_seconds)
        for fault in unreadable.faults(stops=False, remedy="Mend them: until then they are scored as deletions."):
            faults.add(fault)
        if unreadable.num_dropped:
            console.warn(f"{unreadable.describe('scored as deletions')}")
        if unseen[split]:
            shown = ", ".join(f"{char!r} {count}" for char, count in unseen[split].most_common(5))
            console.warn(f"{split}: {unseen[split].total()} characters were never seen in training ({shown})")
    everything = {id(u): u for u in [*utterances, *(u for s in eval_utterances.values() for u in s)]}
    if conversions := describe_conversions(list(everything.values())):
        console.say(conversions)
    if overshoots := describe_overshoots(everything.values()):
        console.warn(overshoots)
    if c.store:
        train, evaluation = _use_store(train, evaluation, drops, on_bad, cache_dir, console, faults)
    elif on_bad == "drop":
        train = _drop_undecodable(train, drops, console)
    for fault in drops.faults(stops=c.on_bad == "error", remedy=LEAVE_OUT):
        faults.add(fault)
    if drops.num_dropped and c.on_bad == "drop":
        console.warn(drops.describe())
    words = {split: num_reference_words(examples) for split, examples in evaluation.items()}
    if (checksum := corpus.checksum(words)) is not None:
        line, is_suspicious = checksum
        (console.warn if is_suspicious else console.say)(line)
    leaks = find_leaks(train, evaluation)
    if leaks and config.strict and not faults.collects:
        raise CorpusError(f"{'; '.join(leaks)}. Mend the splits, or train without --strict.")
    for leak in leaks:
        if config.strict:
            faults.add(Fault("leak", leak, "Mend the splits, or leave out --strict."))
        console.warn(leak)
    return PreparedCorpus(corpus, vocab, own, train, evaluation, drops, unseen, leaks, conversions, faults)


def is_there(utterance: Utterance, split: str, faults: Faults) -> bool:
    """Whether there is such a file at all."""
    with faults.noted("missing file", split, "Put it there, or take the row out."):
        try:
            utterance.audio.identity  # noqa: B018  raises when there is none
            return True
        except AudioError as error:
            raise CorpusError(f"{utterance.origin}: utterance {utterance.id}: {error}") from None
    return False


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
    faults: Faults,
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

    kept = []
    for example in map(stored, train):
        if example.num_samples > 0:
            kept.append(example)
            continue
        message = store.failures[position[example.utterance.audio.identity]]
        drops.add("undecodable", example.utterance, message)
    refuse_or_report(drops, on_bad)
    if train and not kept:
        raise CorpusError(f"{drops.describe()}. Nothing is left to train on.")
    scored = {split: list(map(stored, examples)) for split, examples in evaluation.items()}
    for split, examples in scored.items():
        failed = Drops(split, len(examples))
        for e in examples:
            if e.num_samples == 0 and e.utterance.audio.identity in position:
                failed.add("undecodable", e.utterance, store.failures[position[e.utterance.audio.identity]])
        for fault in failed.faults(stops=False, remedy="Mend them: until then they are scored as deletions."):
            faults.add(fault)
        if failed.num_dropped:
            ids = failed.ids["undecodable"]
            names = ", ".join(ids[:3]) + (", ..." if len(ids) > 3 else "")
            console.warn(f"{split}: {len(ids)} of {len(examples)} fail to decode, scored as deletions ({names})")
    return kept, scored


def _drop_undecodable(train: list[Example], drops: Drops, console: Console) -> list[Example]:
    """The examples whose audio decodes. Without a store only decoding shows it; the plan must know it beforehand."""
    kept = []
    for example in console.progress(train, len(train), "decoding", "file"):
        try:
            example.load()
            kept.append(example)
        except AudioError as error:
            drops.add("undecodable", example.utterance, str(error))
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
