"""Which units a run writes: the checkpoint's own, spelled as it spells them, or new ones.

references, normalised -> tried in every spelling that checkpoints have -> all have a unit in exactly one: that one
                       -> in none or in several: what stands in the way is said, with the option that helps
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from data.text.units import as_written
from data.text.vocab import Vocab
from models.checkpoints.pretrained import EncoderSource, Pretrained
from trainer.cli.console import Console
from trainer.errors import CorpusError
from trainer.prepare.vocabulary.spelled import fit_spelling, only, say_spelling, standing_in_the_way, try_spellings


def choose_vocabulary(
    rule: str,
    texts: Sequence[str],
    encoder: EncoderSource,
    bos_eos: bool,
    training: bool,
    *,
    spelling: str = "auto",
    to_score: Sequence[str] = (),
    console: Console | None = None,
    are_units: bool | None = None,
) -> tuple[Vocab, bool]:
    """The vocabulary, and whether it is the checkpoint's own (then its head is kept too).

    `texts` are those that are trained on, `to_score` the references of evaluation, all normalised. Where only scoring
    is done the vocabulary must be the checkpoint's. `are_units`: whether texts consist of units with spaces between
    them (phones, or others) or of words; None: nobody has said. CorpusError where no answer is right.
    """
    pretrained = encoder.pretrained
    own = own_vocabulary(pretrained) if pretrained is not None else None
    if own is not None and pretrained is not None and pretrained.has_head and pretrained.doubt and console is not None:
        console.warn(pretrained.doubt)
    if own is not None and pretrained is not None and (rule != "new" or not training):
        _say_no_boundary(own, [*texts, *to_score], pretrained.source, console)
    if not training:
        if own is None or pretrained is None:
            why = _why_not(pretrained) or "there is no checkpoint"
            raise CorpusError(
                f"{why}. So there is no tokenizer that matches its CTC head, and its output cannot be read. Give a "
                "folder that a training run exported, or a fine-tuned hub model."
            )
        if are_units and not own.phonemes:
            raise CorpusError(
                f"{pretrained.source}: it writes characters, and --corpus.units asks for phones or other units with "
                "spaces between them. Leave that out, or give a model that was trained on them."
            )
        if are_units is False and own.phonemes:
            raise CorpusError(
                f"{pretrained.source}: it writes phones (or other units with spaces between them), and the corpus was "
                "asked for words. Give the units that it was trained on: --corpus.units phones61, phones48, phones39, "
                "phones or spaced."
            )
        own.refuse_delimiter(to_score)
        return fit_spelling(own, to_score, spelling, pretrained.source, console), True
    if spelling != "auto" and (rule == "new" or own is None):
        raise CorpusError(
            f"--corpus.spelling {spelling} is how text is written in a checkpoint's own units, and here units are new. "
            "Leave it out; --corpus.normalizer is how new ones are written."
        )
    if are_units and own is not None and pretrained is not None and not own.phonemes:
        if rule == "own":
            raise CorpusError(
                f"--corpus.vocabulary own: {pretrained.source} writes characters, not units with spaces between them."
            )
        if rule == "auto" and pretrained.has_head and console is not None:
            console.warn(f"{pretrained.source}: it writes characters, so units and head are new: those of the text")
        return Vocab.build_phones(texts), False
    if rule == "own" and own is None:
        raise CorpusError(f"--corpus.vocabulary own: {_why_not(pretrained) or 'there is no checkpoint'}.")
    if rule != "new" and own is not None and pretrained is not None:
        own.refuse_delimiter([*texts, *to_score])
        if not pretrained.has_head and rule == "auto" and spelling == "auto":
            if own.fits(texts):  # its tokenizer was never used: there is no head to keep by spelling text its way
                return own, True
        elif chosen := _fit_training(own, rule, texts, to_score, spelling, pretrained, console):
            return chosen, True
    elif rule != "new" and pretrained is not None and pretrained.mismatch:
        if pretrained.is_oversized and pretrained.has_head:
            raise CorpusError(
                f"{pretrained.mismatch}. That is the tokenizer of another head. Give its own, or --corpus.vocabulary "
                "new to train a new head."
            )
        if console is not None and (pretrained.has_head or pretrained.has_no_such_language):
            new = "vocabulary, adapter and head" if pretrained.has_no_such_language else "units and head"
            console.warn(f"{pretrained.mismatch}; without one, {new} are new")
    elif rule != "new" and pretrained is not None and pretrained.has_head and console is not None:
        console.warn(f"{pretrained.source}: it has no tokenizer to say what its head writes: units and head are new")
    return Vocab.build_phones(texts) if are_units else Vocab.build(texts, bos_eos=bos_eos), False


def _say_no_boundary(own: Vocab, texts: Sequence[str], source: str, console: Console | None) -> None:
    """A line where texts have spaces and the checkpoint has no unit to write one with."""
    if console is not None and own.word_delimiter is None and not own.phonemes and any(" " in text for text in texts):
        console.say(
            f"{source}: no unit of its own stands between words, so text is written and compared without spaces: a "
            "transcript counts as one word, and the CER says more than the WER"
        )


def own_vocabulary(pretrained: Pretrained) -> Vocab | None:
    """The units of a checkpoint's head; None when its tokenizer does not tell them."""
    return Vocab(pretrained.tokens, **pretrained.special, **pretrained.reading) if pretrained.tokens else None  # type: ignore[arg-type]


def are_units(
    asked: bool | None, texts: Iterable[str], encoder: EncoderSource, rule: str, training: bool
) -> bool | None:
    """Whether transcripts are read as units with spaces between them, where the options (`asked`) leave it open.

    A checkpoint of phonemes has no words. Before it is trained on, its units must be those of `texts`, which are what
    is trained on, as the corpus wrote it; for other checkpoints they are not read.
    """
    if asked is not None or encoder.pretrained is None or (rule == "new" and training):
        return asked
    own = own_vocabulary(encoder.pretrained)
    if own is None or not own.phonemes:
        return None
    if not training:
        return True
    return True if any(not fit.missing for fit in try_spellings(own, map(as_written, texts), "auto")) else None


def _fit_training(
    own: Vocab,
    rule: str,
    texts: Sequence[str],
    to_score: Sequence[str],
    spelling: str,
    pretrained: Pretrained,
    console: Console | None,
) -> Vocab | None:
    """`own` as the training text is spelled in it; None when it cannot be, which is said."""
    source, fits = pretrained.source, try_spellings(own, texts, spelling)
    fitting = [fit for fit in fits if not fit.missing]
    if fitting:
        best = only(fitting, own, source, to_score)
        say_spelling(best, source, console)
        return replace(own, spelling=best.spelling)
    best = min(fits, key=lambda fit: fit.missing.total())
    if rule == "own":
        if own.unknown is None:
            raise CorpusError(
                f"--corpus.vocabulary own: {source}: {standing_in_the_way(best, own)}, and it has no unknown unit to "
                "train them as. Take them out of the training text, or give --corpus.vocabulary new."
            )
        say_spelling(best, source, console)
        if console is not None:
            console.warn(f"{source}: {standing_in_the_way(best, own)}: trained as {own.unknown}")
        return replace(own, spelling=best.spelling)
    if console is not None:
        or_unknown = f", or train them as {own.unknown}: --corpus.vocabulary own" if own.unknown else ""
        console.warn(
            f"{source}: {standing_in_the_way(best, own)}, so units and head are new. To keep its head take them "
            f"out of the training text{or_unknown}"
        )
    return None


def _why_not(pretrained: Pretrained | None) -> str:
    if pretrained is None:
        return ""
    return pretrained.mismatch or f"{pretrained.source}: it has no tokenizer"
