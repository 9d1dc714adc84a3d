"""Build an n-gram model of text, with interpolated modified Kneser-Ney smoothing, as an ARPA file.

    python -m scripts.ngram corpus.txt more.txt.gz --order 4 --out words.arpa.gz
    python -m scripts.ngram train.jsonl --order 4 --out words.arpa.gz
    python -m scripts.ngram --order 4 --out demo.arpa.gz --corpus demo

TEXT is a text file with one sentence a line (gzip too), or a manifest (.jsonl, .csv, .tsv), whose transcripts are the
sentences. --corpus PRESET stands last: the training split of a preset's corpus, with options of training behind it.
All text is normalised as training normalises it (--normalizer). --units builds a model of characters.
"""

from __future__ import annotations

import gzip
import re
import sys
from argparse import REMAINDER, Namespace
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from trainer.cli.arguments import ArgumentParser, count
from trainer.cli.parse import report_errors
from trainer.cli.streams import say
from trainer.errors import ConfigError, CorpusError

MANIFESTS = (".jsonl", ".json", ".csv", ".tsv")
LINES_LOOKED_AT = 1000
"""Of a text file, for names of utterances."""


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 written, 2 something in options or text is wrong."""
    return report_errors(lambda: run(parse(argv)))


def parse(argv: Sequence[str] | None) -> Namespace:
    """The options of the command line; ConfigError when they are impossible."""
    parser = ArgumentParser(prog="python -m scripts.ngram", description=(__doc__ or "").strip())
    parser.add_argument("texts", metavar="TEXT", nargs="*", type=Path, help="text files and manifests")
    parser.add_argument("--order", type=count, default=4, help="words of the longest n-grams (default: 4)")
    parser.add_argument("--out", type=Path, required=True, help="the model: NAME.arpa or NAME.arpa.gz")
    parser.add_argument("--corpus", nargs=REMAINDER, metavar="PRESET",
                        help="stands last: a preset, whose training split is the text; options may follow")  # fmt: skip
    parser.add_argument("--normalizer", default="plain", choices=["plain", "plain-upper", "hf-timit", "none"],
                        help="as --corpus.normalizer; none: the text as it stands (default: plain)")  # fmt: skip
    parser.add_argument("--language", default="", help="as --corpus.language")
    parser.add_argument("--text-field", default="text", help="column of a manifest's transcripts (default: text)")
    parser.add_argument("--units", action="store_true", help="a model of characters, | between words")
    args = parser.parse_args(argv)
    if bool(args.texts) == bool(args.corpus):
        raise ConfigError("Give text files or manifests, or --corpus PRESET: one of both.")
    if args.order > 12:
        raise ConfigError(f"--order {args.order}: 12 at most.")
    if not args.out.name.endswith((".arpa", ".arpa.gz")):
        raise ConfigError(f"--out {args.out}: give a name that ends in .arpa or .arpa.gz.")
    return args


def run(args: Namespace) -> int:
    """Count, smooth and write."""
    from trainer.decoding.arpa import write_arpa
    from trainer.decoding.estimate import estimate

    try:
        found = estimate(sentences(args), args.order)
    except CorpusError as error:
        if any(str(error).startswith(f"{path}:") for path in args.texts):
            raise
        raise CorpusError(f"{', '.join(map(str, args.texts)) or ' '.join(args.corpus)}: {error}") from None
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_arpa(args.out, found.words, found.levels)
    for order in found.fallbacks:
        say(
            f"warning: too few different counts to estimate the discounts of {order}-grams; 0.5, 1 and 1.5 are taken "
            "(as lmplz --discount_fallback)"
        )
    sizes = ", ".join(f"{len(level.log_probs):,} {n}-grams" for n, level in enumerate(found.levels, 1))
    say(f"{args.out}: {found.num_sentences:,} sentences, {found.num_tokens:,} words: {sizes}")
    return 0


def sentences(args: Namespace) -> Iterator[list[str]]:
    """The words of each sentence; empty ones are left out."""
    from data.text.normalise import normalizer

    normalize: Callable[[str], str] = str
    if args.corpus:
        texts, normalize = corpus_texts(args)
    else:
        texts = (text for path in args.texts for text in texts_of(path, args))
        if args.normalizer != "none":
            normalize = normalizer(args.normalizer, args.language)
    for text in texts:
        words = normalize(text).split()
        if words:
            yield list("|".join(words)) if args.units else words


def texts_of(path: Path, args: Namespace) -> Iterator[str]:
    """The lines of a text file, or the transcripts of a manifest; CorpusError names file and line."""
    if path.name.lower().removesuffix(".gz").endswith(MANIFESTS):
        if path.suffix.lower() == ".gz":
            raise CorpusError(f"{path}: a packed manifest is not read. Unpack it: gunzip --keep.")
        from data.corpora.manifest import ManifestConfig, ManifestCorpus

        config = ManifestConfig(train=str(path), text_field=args.text_field)
        yield from (utterance.text for utterance in ManifestCorpus(config).utterances("train"))
        return
    number = 0
    first_words, last_words = list[str](), list[str]()
    try:
        with open(path, "rb") as file:
            is_gzip = file.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if is_gzip else open(path, "rb") as lines:
            for number, line in enumerate(lines, 1):
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                if what := no_sentence(text, number):
                    raise CorpusError(f"{path}:{number}: {what}")
                if len(first_words) < LINES_LOOKED_AT and (words := text.split()):
                    first_words.append(words[0])
                    last_words.append(words[-1])
                yield text
    except UnicodeDecodeError:
        raise CorpusError(f"{path}:{number}: not UTF-8. Convert the file: iconv -t UTF-8.") from None
    except (OSError, EOFError) as error:
        raise CorpusError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error}).") from None
    for which, words in (("first", first_words), ("last", last_words)):
        if are_names(words):
            say(
                f"warning: {path}: the {which} word of each line is another one with a digit, such as {words[0]!r}. If "
                "these are names of utterances, take them out: the model counts them as words."
            )


def no_sentence(line: str, number: int) -> str:
    """What a line shows a file to be that is no text, and what to do; empty where it may be text."""
    if line.strip() == "\\data\\":
        return "this is an n-gram model. Give the text that it is made of, or the model itself to --lm."
    if mark := re.search(r"(?i)(?<!\S)(?:</?s>|<unk>)(?!\S)", line):  # IRSTLM wants <s> and </s> around each sentence
        return (
            f"holds {mark[0]}, which a model uses for itself, and would be a word. Take all such marks out of the text."
        )
    if number == 1 and line.startswith('{"'):
        return f"this is a manifest. Unpack it if need be, and give it a name that ends in {MANIFESTS[0]}."
    return ""


def are_names(words: Sequence[str]) -> bool:
    """Whether the first (or last) words of lines look like the names of utterances that some formats have there."""
    return len(words) >= 10 and len(set(words)) == len(words) and all(any(map(str.isdigit, word)) for word in words)


def corpus_texts(args: Namespace) -> tuple[Iterator[str], Callable[[str], str]]:
    """The transcripts of the training split of a preset's corpus, and what training makes of them."""
    from trainer.cli.console import Console
    from trainer.cli.parse import parse as parse_training
    from trainer.prepare.corpus import open_corpus

    config = parse_training(args.corpus, prog="python -m scripts.ngram --corpus")
    corpus = open_corpus(config, Console())
    texts = (utterance.text for utterance in corpus.utterances(corpus.splits.train))
    return texts, config.corpus.text_rule()


if __name__ == "__main__":
    sys.exit(main())
