"""argparse with this project's errors: one line, exit code 2, and the option that the user probably meant."""

from __future__ import annotations

import argparse
import difflib
import itertools
import math
import os
import sys
from collections.abc import Callable, Container, Iterable
from typing import Any, NoReturn

from trainer.errors import ConfigError


class ArgumentParser(argparse.ArgumentParser):
    """Raises ConfigError where argparse prints its usage and exits."""

    def __init__(self, *, prog: str, description: str, add_help: bool = True) -> None:
        super().__init__(
            prog=prog,
            description=description,
            add_help=add_help,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self._words: list[str] = []  # what is parsed

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self._words = list(sys.argv[1:] if args is None else args)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        hint = ""
        unknown = message.partition("unrecognized arguments: ")[2].split(" ")[0].partition("=")[0]
        if close := difflib.get_close_matches(unknown, self._option_string_actions, n=1) if unknown else []:
            hint = f" Did you mean {close[0]}?"
        names = [word for word in self._words if word[:1] == "-" and os.path.lexists(word)]
        if names and not hint:
            hint = f" A name that begins with a dash is written with its folder: ./{names[0]}."
        raise ConfigError(f"{message.rstrip('.')}.{hint} {self.prog} --help lists what there is.")


def split_words(words: Iterable[str], own: Container[str]) -> tuple[list[str], list[str]]:
    """(Options called as in `own`, each with the word behind it; all other words), both in their order.

    For a command whose line names a corpus as training's does, with options of its own at any place.

    >>> split_words(["demo", "--out", "DIR", "--corpus.size=tiny", "--seed=1"], {"--out", "--seed"})
    (['--out', 'DIR', '--seed=1'], ['demo', '--corpus.size=tiny'])
    """
    found: list[str] = []
    others: list[str] = []
    left = iter(words)
    for word in left:
        if word.partition("=")[0] not in own:
            others.append(word)
            continue
        found.append(word)
        if "=" not in word:
            found += itertools.islice(left, 1)
    return found, others


def names(known: Iterable[str]) -> Callable[[str], list[str]]:
    """The type of an option that takes some of the `known` names, with commas between them, each once and in order."""
    known = list(known)

    def chosen(text: str) -> list[str]:
        asked = list(dict.fromkeys(text.split(",")))
        for name in asked:
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                hint = f" Did you mean {close[0]}?" if close else ""
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}.{hint}")
        return asked

    return chosen


def count(text: str) -> int:
    """The value of an option that takes a whole number of 1 or more."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: give a whole number of 1 or more")
    return int(text)


def seconds(text: str) -> float:
    """The value of an option that takes a length of time."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text}: give seconds, more than 0")
    return number
