"""The options of decoding that scripts.evaluate and scripts.transcribe share."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from trainer.cli.arguments import ArgumentParser, count
from trainer.errors import ConfigError


def add_options(parser: ArgumentParser, *, auto: str) -> None:
    """`auto` says what --lm-weight is by default."""
    group = parser.add_argument_group("decoding with a beam (docs/decode.md)")
    group.add_argument("--lm", type=Path, metavar="FILE", help="n-gram model, ARPA or ARPA in gzip")
    group.add_argument("--lm-weight", metavar="WEIGHT", help=f"factor of its log probability ({auto})")
    group.add_argument("--word-score", metavar="SCORE", help="added for each word (default: 0)")
    group.add_argument("--unknown-score", metavar="SCORE", help="added for each word that the model does not know")
    group.add_argument("--beam", type=count, metavar="WIDTH", help="beams of each utterance (default: 64)")
    group.add_argument("--hot-word", action="append", default=[], metavar="PHRASE[=WEIGHT]",
                       help="a phrase that is likelier than the model thinks; @FILE: one a line")  # fmt: skip
    group.add_argument("--lexicon", default="", metavar="FILE",
                       help="only these words, one a line; lm: only the words of the model")  # fmt: skip
    group.add_argument("--units", action="store_true", help="the model is one of characters (scripts.ngram --units)")


def is_asked(args: Namespace) -> bool:
    """Whether any option asks for a beam. ConfigError where one makes no sense without another."""
    if args.lm is None:
        for name, given in (
            ("--lm-weight", args.lm_weight is not None),
            ("--unknown-score", args.unknown_score is not None),
            ("--units", args.units),
        ):
            if given:
                raise ConfigError(f"{name} is of a language model, and there is none: give --lm FILE.")
    others = args.hot_word or args.lexicon or args.beam is not None or args.word_score is not None
    return args.lm is not None or bool(others)
