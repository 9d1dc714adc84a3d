"""Which units a run writes: the checkpoint's own, spelled as it spells them, or new ones.

references, normalised -> tried in every spelling that checkpoints have -> all have a unit in exactly one: that one
                       -> in none or in several: what stands in the way is said, with the option that helps
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from data.text.spelling import AS_IS, BY_NAME, CANDIDATES, Spelling
from data.text.units import RESERVED, TextUnits, as_written, refuse_units
from data.text.vocab import Vocab, merges, refuse_delimiter
from data.utterance import Utterance
from models.checkpoints.pretrained import EncoderSource, Pretrained
from trainer.cli.console import Console
from trainer.errors import CorpusError


@dataclass(frozen=True)
class Fit:
    """One spelling, tried on all references."""

    spelling: Spelling
    missing: Counter[str]
    """How often each character (or phoneme) has no unit."""
    spelled: tuple[tuple[str, ...], ...]
    """The units of each different word: spellings with the same are the same."""


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
    return Vocab.build_phones(texts) if are_units else Vocab.build(texts, bos_eos=bos_eos), False


def own_vocabulary(pretrained: Pretrained) -> Vocab | None:
    """The units of a checkpoint's head; None when its tokenizer does not tell them."""
    return Vocab(pretrained.tokens, **pretrained.special, **pretrained.reading) if pretrained.tokens else None  # type: ignore[arg-type]


def fit_spelling(
    own: Vocab, references: Sequence[str], spelling: str, source: str, console: Console | None = None
) -> Vocab:
    """`own`, spelled so that it can write `references`; where none fits all, so that the fewest are left over.

    A vocabulary that is only scored cannot be replaced. CorpusError when several spellings fit that differ.
    """
    fits = try_spellings(own, references, spelling)
    fitting = [fit for fit in fits if not fit.missing]
    best = _only(fitting, own, source) if fitting else min(fits, key=lambda fit: fit.missing.total())
    _say_spelling(best, source, console)
    if best.missing and console is not None:
        console.warn(
            f"{source}: {_standing_in_the_way(best, own)}: where references hold them there will be errors. Take them "
            "out, or have text written otherwise: --corpus.normalizer, --corpus.spelling"
        )
    return replace(own, spelling=best.spelling)


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
        best = _only(fitting, own, source, to_score)
        _say_spelling(best, source, console)
        return replace(own, spelling=best.spelling)
    best = min(fits, key=lambda fit: fit.missing.total())
    if rule == "own":
        _say_spelling(best, source, console)
        if console is not None:
            console.warn(f"{source}: {_standing_in_the_way(best, own)}: trained as {own.unknown}")
        return replace(own, spelling=best.spelling)
    if console is not None:
        console.warn(
            f"{source}: {_standing_in_the_way(best, own)}, so units and head are new. To keep its head take them "
            f"out of the training text, or train them as {own.unknown}: --corpus.vocabulary own"
        )
    return None


def try_spellings(own: Vocab, texts: Iterable[str], spelling: str) -> list[Fit]:
    """Each spelling that may be meant, on the different words of `texts`."""
    words = Counter(word for text in texts for word in text.split())
    chosen = CANDIDATES if spelling == "auto" else (BY_NAME[spelling],)
    fits = []
    for candidate in chosen:
        vocab, missing = replace(own, spelling=candidate), Counter[str]()
        if spelling == "auto" and own.phonemes and merges(vocab, words):
            continue
        spelled = []
        for word, count in words.items():
            pieces = vocab.split(word)
            spelled.append(tuple(pieces))
            for piece in pieces:
                if piece not in vocab.writable:
                    missing[piece] += count
        fits.append(Fit(candidate, missing, tuple(spelled)))
        if candidate == AS_IS and not missing:
            break  # what the normaliser wrote is what the checkpoint writes
    return fits


def are_units(
    asked: bool | None, texts: Sequence[str], encoder: EncoderSource, rule: str, training: bool
) -> bool | None:
    """Whether transcripts are read as units with spaces between them, where the options (`asked`) leave it open.

    `texts` are those that are trained on, as the corpus wrote them. A checkpoint of phonemes has no words; before it is
    trained on, its units must be those of the texts.
    """
    if asked is not None or encoder.pretrained is None or (rule == "new" and training):
        return asked
    own = own_vocabulary(encoder.pretrained)
    if own is None or not own.phonemes:
        return None
    if not training:
        return True
    return True if any(not fit.missing for fit in try_spellings(own, map(as_written, texts), "auto")) else None


def _only(fitting: Sequence[Fit], own: Vocab, source: str, to_score: Sequence[str] = ()) -> Fit:
    """The one spelling that fits; of those that spell all of this alike, the one that fits `to_score` best."""
    if different := [fit for fit in fitting if fit.spelled != fitting[0].spelled]:
        word, other = next(
            ("".join(a), "".join(b)) for a, b in zip(fitting[0].spelled, different[0].spelled, strict=True) if a != b
        )
        raise CorpusError(
            f"{source}: its own units can write the references in more than one way, as {word!r} "
            f"({fitting[0].spelling.name}) or {other!r} ({different[0].spelling.name}). Choose with --corpus.spelling."
        )
    if len(fitting) == 1 or not to_score:
        return fitting[0]
    words = Counter(word for text in to_score for word in text.split())

    def left_over(fit: Fit) -> int:
        vocab = replace(own, spelling=fit.spelling)
        return sum(vocab.unseen(word).total() * count for word, count in words.items())

    return min(fitting, key=left_over)


def _say_spelling(fit: Fit, source: str, console: Console | None) -> None:
    if fit.spelling != AS_IS and console is not None:
        console.say(
            f"{source}: its own units are kept, and text is written {fit.spelling.describe()} as they are "
            f"({fit.spelling.name}; --corpus.spelling chooses otherwise)"
        )


def _standing_in_the_way(fit: Fit, own: Vocab) -> str:
    spelled = f", even when text is written {fit.spelling.describe()} ({fit.spelling.name})"
    how = spelled if fit.spelling != AS_IS else ""
    if own.phonemes:
        how += "; its units are phonemes, which transcripts must hold with spaces between them"
        how += " (--corpus.units phones)"
    what = ("phoneme" if own.phonemes else "character") + ("s have" if fit.missing.total() > 1 else " has")
    return f"{fit.missing.total()} {what} no unit in its vocabulary ({describe_unseen(fit.missing)}){how}"


def pieces_of(vocab: Vocab) -> str:
    """What it is that has a unit or none."""
    if not vocab.phonemes:
        return "characters"
    return "units" if vocab.units_are == "spaced" else "phones"


def describe_unseen(missing: Counter[str], places: Mapping[str, str] | None = None) -> str:
    """The five most frequent, with their counts and, if `places` are given, where each stands first.

    >>> describe_unseen(Counter("abba5")), describe_unseen(Counter("zz"), {"z": "dev.csv:7"})
    ("'a' 2, 'b' 2, '5' 1", "'z' 2 from dev.csv:7 on")
    """
    more = f", and {len(missing) - 5} others" if len(missing) > 5 else ""
    places = places or {}
    shown = (
        f"{piece!r} {count}" + (f" from {places[piece]} on" if piece in places else "")
        for piece, count in missing.most_common(5)
    )
    return ", ".join(shown) + more


def first_places(
    missing: Counter[str], utterances: Sequence[Utterance], texts: Sequence[str], vocab: Vocab
) -> dict[str, str]:
    """Where each of those that `describe_unseen` names stands first in the normalised `texts` of `utterances`."""
    wanted, places = {piece for piece, _ in missing.most_common(5)}, dict[str, str]()
    for i, text in enumerate(texts):
        if not wanted:
            break
        for piece in wanted & vocab.unseen(text).keys():
            places[piece] = utterances[i].origin
            wanted.discard(piece)
    return places


def _why_not(pretrained: Pretrained | None) -> str:
    if pretrained is None:
        return ""
    return pretrained.mismatch or f"{pretrained.source}: it has no tokenizer"


def refuse_delimiters(
    splits: Iterable[tuple[Sequence[Utterance], Sequence[str]]], encoder: EncoderSource, rule: str
) -> None:
    """CorpusError over a transcript that holds the token between words, with the place where it stands.

    `splits` are the utterances of each split with their normalised transcripts.
    """
    own = own_vocabulary(encoder.pretrained) if encoder.pretrained is not None and rule != "new" else None
    if own is not None and own.phonemes:
        return  # its delimiter may stand between spaces, as a unit does
    delimiter = str("|" if own is None else own.word_delimiter)
    for utterances, texts in splits:
        for i, text in enumerate(texts):
            if delimiter in text:
                u = utterances[i]
                refuse_delimiter([text], delimiter, f"{u.origin}: utterance {u.id}: its transcript")


def refuse_special_units(
    splits: Iterable[Sequence[Utterance]], units: TextUnits, encoder: EncoderSource, rule: str
) -> None:
    """CorpusError, with its place, over a unit of a transcript that cannot be one: see data.text.units.refuse_units."""
    own = own_vocabulary(encoder.pretrained) if encoder.pretrained is not None and rule != "new" else None
    reserved = set(RESERVED)
    if own is not None and own.phonemes:
        reserved = (reserved | {own.blank, own.unknown}) - {own.word_delimiter or ""}
    for utterances in splits:
        refuse_units(utterances, units, reserved=sorted(reserved))
