"""The options of the command line: every field of a Config, with the words that it takes and what they mean.

The meaning of an option is the text under its field in the dataclasses of data.config, data.corpora, models.config and
trainer.config.schema. It is read from their source, so that help and source cannot differ. Where an option may be left
open, that text says what then holds, after "auto:" if a value is chosen and after "none:" if nothing takes its place.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import functools
import inspect
import math
import re
import types
import typing
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from trainer.config.schema import Config
from trainer.errors import ConfigError

COMMON = {
    "": ("name", "resume", "overwrite", "check", "precision", "device", "seed", "runs_dir"),
    "model": ("pretrained", "size", "family", "freeze_feature_encoder"),
    "batching": ("batch_size", "max_batch_seconds"),
    "optim": ("lr", "warmup_steps"),
    "train": ("epochs", "max_steps", "grad_accum_steps", "eval_every", "save_every"),
}
"""Group -> the options that `--help` shows; a corpus marks its own (data.config.option)."""
SWITCH = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
NONE = ("none", "null")
"""How JSON and Python write that an option is left open; accepted in any case."""


@dataclasses.dataclass(frozen=True)
class Option:
    """One option as the command line knows it."""

    group: str
    field: str
    hint: Any
    default: Any
    meaning: str
    is_common: bool = False
    """Whether `--help` shows it."""
    is_required: bool = False
    """Whether nothing can be done without it."""

    @property
    def name(self) -> str:
        return "--" + f"{self.group}.{self.field}".lstrip(".").replace("_", "-")

    @property
    def off(self) -> str:
        """The name that turns a switch off."""
        return self.name.replace("--", "--no-", 1) if not self.group else self.name.replace(".", ".no-", 1)

    @property
    def names(self) -> list[str]:
        """The names under which it may be typed; a switch has a second one that turns it off."""
        return [self.name, self.off] if self.is_switch else [self.name]

    @property
    def is_switch(self) -> bool:
        return bool in kinds(self.hint)

    @property
    def choices(self) -> list[str]:
        """The words that it takes, if it takes no others."""
        return [c for kind in kinds(self.hint) if typing.get_origin(kind) is Literal for c in typing.get_args(kind)]

    @property
    def type(self) -> type:
        """The type of its value, or of each of its values."""
        kind = next(kind for kind in kinds(self.hint) if kind is not types.NoneType)
        if typing.get_origin(kind) is Literal:
            return str
        return typing.get_args(kind)[0] if typing.get_origin(kind) is tuple else kind

    @property
    def takes_several(self) -> bool:
        return any(typing.get_origin(kind) is tuple for kind in kinds(self.hint))

    @property
    def value(self) -> str:
        """The kind of value that it takes. The unit stands in its meaning.

        >>> Option("", "lr", float | None, None, "").value
        'FLOAT'
        """
        if self.choices:
            return "|".join(self.choices)
        kind = {bool: "", str: "TEXT"}.get(self.type, self.type.__name__.upper())
        return f"{kind}..." if self.takes_several else kind

    @property
    def open_word(self) -> str | None:
        """What stands for an option that is left open, or None if it cannot be.

        >>> Option("", "patience", int | None, None, "Stop after so many; none: never.").open_word
        'none'
        """
        if found := re.search(r"\b(auto|none):", self.meaning):
            return found[1] if not self.choices or types.NoneType in kinds(self.hint) else None
        return "none" if types.NoneType in kinds(self.hint) or self.takes_several else None

    @property
    def open_value(self) -> Any:
        """The value of an option that is left open."""
        return None if types.NoneType in kinds(self.hint) else () if self.takes_several else ""

    @property
    def default_text(self) -> str:
        """The default as it would be typed, or "required"."""
        if self.is_required and not self.default:
            return "required"
        if self.default in (None, "", ()):
            return self.open_word or "none"
        if isinstance(self.default, tuple):
            return " ".join(map(str, self.default))
        return {True: "yes", False: "no"}[self.default] if isinstance(self.default, bool) else str(self.default)

    def read(self, words: Sequence[str]) -> Any:
        """The value that `words` give it; ConfigError, which says what it takes, when they cannot."""
        if any(not word.strip() for word in words):
            raise ConfigError(f"{self.name} is empty (is a variable of the shell not set?): {self._remedy()}")
        if len(words) == 1 and self.open_word and words[0].lower() in {self.open_word, *NONE}:
            return self.open_value
        if self.takes_several:
            return tuple(map(self._read, words))
        return self._read(words[0])

    def _read(self, word: str) -> Any:
        if self.choices:
            if word in self.choices:
                return word
            close = [c for c in self.choices if c == word.lower()] or difflib.get_close_matches(word, self.choices, 1)
            raise ConfigError(f"{self.name} {word}: {self._remedy()}{f' Did you mean {close[0]}?' if close else ''}")
        try:
            return SWITCH[word.lower()] if self.is_switch else self.type(word)
        except (ValueError, KeyError):
            raise ConfigError(f"{self.name} {word}: {self._remedy(_as_number(word, self.type))}") from None

    def _remedy(self, example: str = "") -> str:
        """What it takes, as an advice."""
        if self.choices:
            several = [*self.choices, *([self.open_word] if self.open_word else [])]
            return f"choose {', '.join(several[:-1])} or {several[-1]}."
        what = {bool: "true or false", int: "a whole number", float: "a number"}.get(self.type, "a value")
        if self.takes_several:
            what = {int: "whole numbers", float: "numbers", str: "words"}[self.type] + " with spaces between them"
        or_open = f", or {self.open_word}" if self.open_word else ""
        return f"give {what}{f' ({example})' if example else ''}{or_open}."


def _as_number(word: str, kind: type) -> str:
    """How the number that `word` probably means is typed; empty where that is not clear.

    >>> _as_number("1e3", int), _as_number("1,5", float), _as_number("many", int)
    ('1000', '1.5', '')
    """
    try:
        number = float(word.replace(",", ".") if word.count(",") == 1 else word)
    except ValueError:
        return ""
    if kind is float:
        return f"{number:g}"
    return str(int(number)) if kind is int and math.isfinite(number) and number.is_integer() else ""


def kinds(hint: Any) -> list[Any]:
    """The members of a union, or the type itself; Annotated is taken off."""
    if typing.get_origin(hint) is typing.Annotated:
        return kinds(typing.get_args(hint)[0])
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return [kind for member in typing.get_args(hint) for kind in kinds(member)]
    return [hint]


def groups(config: Config) -> list[str]:
    """The names of the groups of options, in the order of `--help`."""
    return [f.name for f in dataclasses.fields(config) if dataclasses.is_dataclass(getattr(config, f.name))]


def options(config: Config) -> list[Option]:
    """Every option of `config`. The values of `config` are the defaults."""
    required = {what.split()[0].rstrip(",") for what, _ in config.corpus.required(True)}
    found = [*_options(config, ""), *(o for group in groups(config) for o in _options(getattr(config, group), group))]
    return [dataclasses.replace(option, is_required=option.name in required) for option in found]


def _options(part: Any, group: str) -> Iterator[Option]:
    for name, hint, meaning, is_common in _fields(part.__class__):
        value = getattr(part, name)
        if not dataclasses.is_dataclass(value):
            yield Option(group, name, hint, value, meaning, is_common or name in COMMON.get(group, ()))


@functools.cache  # reading a source takes milliseconds
def _fields(cls: Any) -> list[tuple[str, Any, str, bool]]:
    """(Name, type, text under it, whether it is marked as common) of a dataclass' fields but those of presets alone."""
    hints, meanings = typing.get_type_hints(cls), dict[str, str]()
    for base in reversed(cls.__mro__[:-1]):
        body = ast.parse(inspect.getsource(base)).body[0]
        assert isinstance(body, ast.ClassDef)
        for field, text in zip(body.body, body.body[1:], strict=False):
            match field, text:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(meaning))):
                    meanings[name] = " ".join(meaning.split())
    fields = [field for field in dataclasses.fields(cls) if not field.metadata.get("preset")]
    return [(f.name, hints[f.name], meanings.get(f.name, ""), bool(f.metadata.get("common"))) for f in fields]
