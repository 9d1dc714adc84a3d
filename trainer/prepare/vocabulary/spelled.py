"""How text is written in a checkpoint's own units: every spelling that checkpoints have is tried on the references."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from data.text.spelling import AS_IS, BY_NAME, CANDIDATES, Spelling
from data.text.vocab import Vocab, merges
from trainer.cli.console import Console
from trainer.errors import CorpusError
from trainer.prepare.vocabulary.unseen import describe_unseen


@dataclass(frozen=True)
class Fit:
    """One spelling, tried on all references."""

    spelling: Spelling
    missing: Counter[str]
    """How often each character (or phoneme) has no unit."""
    spelled: tuple[tuple[str, ...], ...]
    """The units of each different word: spellings with the same are the same."""


def fit_spelling(
    own: Vocab, references: Sequence[str], spelling: str, source: str, console: Console | None = None
) -> Vocab:
    """`own`, spelled so that it can write `references`; where none fits all, so that the fewest are left over.

    A vocabulary that is only scored cannot be replaced. CorpusError when several spellings fit that differ.
    """
    fits = try_spellings(own, references, spelling)
    fitting = [fit for fit in fits if not fit.missing]
    best = only(fitting, own, source) if fitting else min(fits, key=lambda fit: fit.missing.total())
    say_spelling(best, source, console)
    if best.missing and console is not None:
        console.warn(
            f"{source}: {standing_in_the_way(best, own)}: where references hold them there will be errors. Take them "
            "out, or have text written otherwise: --corpus.normalizer, --corpus.spelling"
        )
    return replace(own, spelling=best.spelling)


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


def only(fitting: Sequence[Fit], own: Vocab, source: str, to_score: Sequence[str] = ()) -> Fit:
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


def say_spelling(fit: Fit, source: str, console: Console | None) -> None:
    if fit.spelling != AS_IS and console is not None:
        console.say(
            f"{source}: its own units are kept, and text is written {fit.spelling.describe()} as they are "
            f"({fit.spelling.name}; --corpus.spelling chooses otherwise)"
        )


def standing_in_the_way(fit: Fit, own: Vocab) -> str:
    spelled = f", even when text is written {fit.spelling.describe()} ({fit.spelling.name})"
    how = spelled if fit.spelling != AS_IS else ""
    if own.phonemes:
        how += "; its units are phonemes, which transcripts must hold with spaces between them"
        how += " (--corpus.units phones)"
    what = ("phoneme" if own.phonemes else "character") + ("s have" if fit.missing.total() > 1 else " has")
    return f"{fit.missing.total()} {what} no unit in its vocabulary ({describe_unseen(fit.missing)}){how}"
