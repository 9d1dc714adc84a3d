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
from data.audio.sides import describe_sides
from data.chain import is_checked, once_each, overshoots_of
from data.config import CorpusConfig
from data.corpora import reading_notes
from data.corrections.corpus import CorrectedCorpus, corrected
from data.examples.drops import Drops, is_corpus_wrong, refuse_unreadable
from data.examples.durations import describe_durations
from data.examples.example import Example
from data.examples.leaks import find_leaks
from data.examples.measuring import describe_conversions
from data.examples.prepare import (
    num_reference_words,
    prepare_evaluation,
    prepare_training,
    read_split,
    refuse_endless,
    refuse_wordless,
)
from data.faults import Fault, Faults
from data.text.normalised import normalise_all
from data.text.vocab import Vocab
from data.utterance import Corpus, Utterance
from models.checkpoints.pretrained import EncoderSource
from trainer.cli.console import Console
from trainer.config.schema import Config
from trainer.errors import CorpusError
from trainer.prepare.decoding import drop_undecodable, find_undecodable, use_store
from trainer.prepare.vocabulary.choice import are_units, choose_vocabulary
from trainer.prepare.vocabulary.refused import refuse_delimiters, refuse_special_units
from trainer.prepare.vocabulary.unseen import describe_unseen, first_places, pieces_of

LEAVE_OUT = "Mend them, or leave such training utterances out: --corpus.on-bad drop"
"""The remedy for all that is wrong with single utterances of training."""
COUNT_AS_DELETIONS = "Mend them, or have their words counted as deletions: --corpus.on-bad-eval deletions"
MEND = "Mend the corpus: evaluation leaves nothing out"
"""The remedies for evaluation audio that cannot be used."""


@dataclass
class PreparedCorpus:
    """A corpus as training and scoring need it, with what the model card says about it."""

    corpus: Corpus
    vocab: Vocab
    own_tokenizer: bool
    """Whether the vocabulary is the checkpoint's; its head is then kept too."""
    train: Sequence[Example]
    evaluation: dict[str, Sequence[Example]]
    drops: Drops
    unseen: dict[str, Counter[str]]
    leaks: list[str] = field(default_factory=list)
    """Speakers and recordings that are in training and in an evaluation split."""
    conversions: str = ""
    """Which files are resampled or downmixed; empty when none is."""
    language: str | None = None
    """Whose adapter the model has, in a multilingual checkpoint: the exported folder names it."""
    faults: Faults = field(default_factory=Faults)
    """What a check has found."""
    of_units: bool | None = None
    """Whether transcripts were read as units with spaces between them, and so not normalised."""
    corrections: dict[str, str] = field(default_factory=dict)
    """Split -> what --corpus.exclude and --corpus.patch have changed in it; a split is here only if they have."""

    def with_corrections(self, split: str, note: str) -> str:
        """What must be said of the figures of a split: `note`, and how its utterances were corrected."""
        return "; ".join(filter(None, [note, self.corrections.get(split, "")]))


@dataclass(frozen=True)
class CorpusUtterances:
    """A corpus' utterances as the corpus wrote them."""

    corpus: Corpus
    train: Sequence[Utterance]
    """Empty when only scoring."""
    evaluation: dict[str, Sequence[Utterance]]
    faults: Faults = field(default_factory=Faults)


def read_corpus(
    config: Config,
    console: Console,
    *,
    training: bool = True,
    faults: Faults | None = None,
    corpus: Corpus | None = None,
) -> CorpusUtterances:
    """Read all utterances that the run uses; without `training`, only those to score. No encoder is needed yet.

    The first fault of the corpus is an error; where `faults` collects, the reading goes on with what is sound. `corpus`
    is one that a program hands over; None: the one that `config` names.
    """
    faults = faults or Faults()
    corpus = open_corpus(config, console, corpus)
    splits = corpus.splits
    train = read_split(corpus, splits.train, faults) if training else []
    eval_splits = dict.fromkeys([splits.monitor, *splits.closing, *splits.unselected])
    evaluation = {split: read_split(corpus, split, faults) for split in eval_splits}
    for note in reading_notes(corpus):
        console.say(note)
    if isinstance(corpus, CorrectedCorpus):
        tell_corrections(corpus, [splits.train, *eval_splits], config, console, training=training, faults=faults)
    if faults.collects and not (train and all(evaluation.values())):
        raise CorpusError("Nothing can be looked at beyond the faults named here: a split has no sound utterance.")
    return CorpusUtterances(corpus, train, evaluation, faults)


def open_corpus(config: Config, console: Console, corpus: Corpus | None = None) -> Corpus:
    """The corpus that `config` names, or the one that a program hands over, with the corrections of `config`."""
    if corpus is None:
        with synthesis_bar(console) as progress:
            corpus = config.corpus.open(Path(config.cache_dir), progress)
    return corrected(corpus, config.corpus) or corpus


def tell_corrections(
    corpus: CorrectedCorpus,
    splits: Sequence[str],
    config: Config,
    console: Console,
    *,
    training: bool,
    faults: Faults | None = None,
) -> None:
    """A line for each of the splits, which were read, that was corrected, and one for lines that met nothing.

    `training`: whether the training split is one of those that were read.
    """
    faults = faults or Faults()
    for split in splits:
        if done := corpus.describe(split):
            console.say(f"{split}: {done}")
    if training:
        with faults.noted("correction of another corpus"):
            corpus.refuse_misplaced()
    if unmet := corpus.describe_unmet(training=training):
        if config.strict:
            with faults.noted("correction that meets no utterance"):
                raise CorpusError(f"{unmet}. Take them out of the file, or leave out --strict.")
        console.warn(unmet)


def prepare_corpus(
    config: Config, reading: CorpusUtterances, encoder: EncoderSource, console: Console, *, training: bool = True
) -> PreparedCorpus:
    """Check, encode and (unless --corpus.no-store) decode a corpus. Each finding is one line on the console.

    Without `training` the vocabulary must be the checkpoint's.
    """
    c, cache_dir, faults = config.corpus, Path(config.cache_dir), reading.faults
    on_bad = "drop" if faults.collects else c.on_bad  # a check goes on without them
    corpus, utterances, eval_utterances = reading.corpus, reading.train, reading.evaluation
    splits, scoring = corpus.splits, c.phone_scoring()
    of_units = are_units(c.are_units(), (u.text for u in utterances), encoder, c.vocabulary, training)
    normalize = c.text_rule(are_units=of_units)
    name = f"units {c.units}" if of_units else f"{c.normalizer} {c.language}"
    if of_units:
        refuse_special_units([utterances, *eval_utterances.values()], c.units, encoder, c.vocabulary)
    written = partial(normalise_all, normalize=normalize, name=name, cache_dir=cache_dir)
    texts, eval_texts = written(utterances), {split: written(of) for split, of in eval_utterances.items()}
    if not of_units:
        refuse_delimiters(
            [(utterances, texts), *((of, eval_texts[split]) for split, of in eval_utterances.items())],
            encoder,
            c.vocabulary,
        )
    vocab, own = choose_vocabulary(
        c.vocabulary, texts, encoder, c.bos_eos, training,
        spelling=c.spelling, to_score=[text for of_split in eval_texts.values() for text in of_split], console=console,
        are_units=of_units,
    )  # fmt: skip
    said = "" if not vocab.phonemes else vocab.units_are if c.units == "auto" else c.units if scoring is None else ""
    vocab = replace(vocab, scoring=scoring, units_are=said)

    train: Sequence[Example] = []
    drops = Drops(splits.train, len(utterances))
    if training:
        train, drops = prepare_training(
            utterances, normalize, vocab, encoder.num_frames(),
            max_seconds=c.max_seconds, max_speed=max((1.0, *config.augment.speeds)),
            on_bad=on_bad, split=splits.train, texts=texts,
        )  # fmt: skip
    evaluation: dict[str, Sequence[Example]] = {}
    unseen: dict[str, Counter[str]] = {}
    unreadable: list[Drops] = []
    for split, of_split in eval_utterances.items():
        evaluation[split], bad, unseen[split] = prepare_evaluation(
            of_split, normalize, vocab, split=split, texts=eval_texts[split]
        )
        with faults.noted("no reference word", split):
            refuse_wordless(evaluation[split], split)
        refuse_endless(evaluation[split], c.max_eval_seconds, faults, split)
        unreadable.append(bad)
        if unseen[split]:
            what = "have no unit in the checkpoint's vocabulary" if own else "were never seen in training"
            places = first_places(unseen[split], of_split, eval_texts[split], vocab)
            missing = describe_unseen(unseen[split], places)
            console.warn(f"{split}: {unseen[split].total()} {pieces_of(vocab)} {what} ({missing})")
    if not faults.collects:
        refuse_unreadable(list(filter(is_corpus_wrong, unreadable)), c.on_bad_eval)
    everything = once_each([utterances, *eval_utterances.values()])
    if conversions := describe_conversions(everything):
        console.say(conversions)
    if sides := describe_sides(everything):
        console.warn(sides)
    if overshoots := describe_overshoots([found for part in everything.parts for found in overshoots_of(part)]):
        console.warn(overshoots)
    for split, of_split in {splits.train: utterances, **eval_utterances}.items():
        if line := describe_durations(split, of_split):
            console.warn(line)
            conversions = f"{conversions}; {line}" if conversions else line
    with console.phase("decoding"):
        if c.store:
            train, evaluation = use_store(train, evaluation, drops, unreadable, on_bad, cache_dir, console)
        else:
            if on_bad == "drop" and not is_checked(utterances):
                train = drop_undecodable(train, drops, console)
            if c.on_bad_eval == "error" or faults.collects:
                find_undecodable(evaluation, unreadable, console)
    if not faults.collects:
        refuse_unreadable(unreadable, c.on_bad_eval)
    _tell_unusable(drops, unreadable, c, faults, console)
    words = {split: num_reference_words(examples) for split, examples in evaluation.items()}
    if (checksum := corpus.checksum(words)) is not None:
        line, is_suspicious = checksum
        (console.warn if is_suspicious else console.say)(line)
    leaks = find_leaks(train, evaluation)
    _tell_leaks(leaks, config.strict, faults, console)
    language = config.model.target_lang
    if own and encoder.pretrained is not None and encoder.pretrained.has_adapters:
        language = encoder.pretrained.language
    corrections = {}
    if isinstance(corpus, CorrectedCorpus):
        corrections = {split: done for split in [splits.train, *evaluation] if (done := corpus.describe(split))}
    return PreparedCorpus(
        corpus, vocab, own, train, evaluation, drops, unseen, leaks, conversions, language, faults, of_units,
        corrections,
    )  # fmt: skip


def _tell_unusable(
    drops: Drops, unreadable: Sequence[Drops], config: CorpusConfig, faults: Faults, console: Console
) -> None:
    """Say which utterances of training are left out and which of evaluation count as deletions; a check notes all."""
    for bad in unreadable:
        stops = config.on_bad_eval == "error" or is_corpus_wrong(bad)
        for fault in bad.faults(stops=stops, remedy=MEND if is_corpus_wrong(bad) else COUNT_AS_DELETIONS):
            faults.add(fault)
        if bad.num_dropped and not stops:
            console.warn(bad.describe("scored as deletions"))
    for fault in drops.faults(stops=config.on_bad == "error", remedy=LEAVE_OUT):
        faults.add(fault)
    if drops.num_dropped and config.on_bad == "drop":
        console.warn(drops.describe())


def _tell_leaks(leaks: Sequence[str], is_strict: bool, faults: Faults, console: Console) -> None:
    """Warn of what training and evaluation share. CorpusError instead if `is_strict`, unless a check goes on."""
    if leaks and is_strict and not faults.collects:
        raise CorpusError(f"{'; '.join(leaks)}. Mend the splits, or train without --strict.")
    for leak in leaks:
        if is_strict:
            faults.add(Fault("leak", leak, "Mend the splits, or leave out --strict."))
        console.warn(leak)


@contextlib.contextmanager
def synthesis_bar(console: Console) -> Iterator[Callable[[int, int], None]]:
    """What a corpus calls while it is made. The bar appears with the first call: most corpora are only read."""
    with contextlib.ExitStack() as shown:
        bars: list[tqdm] = []
        begin, spoken = time.perf_counter(), 0

        def progress(done: int, total: int) -> None:
            nonlocal spoken
            if not bars:
                bars.append(shown.enter_context(console.bar(total, desc="synthesising", unit="speaker", leave=False)))
            spoken = done
            bars[0].update(done - bars[0].n)

        yield progress
    if spoken:
        console.say(f"synthesised {spoken} speakers once, in {time.perf_counter() - begin:.0f} s")
