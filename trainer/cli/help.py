"""The texts of `--help` (the common options) and `--help-all` (every option), and the error for a mistyped option.

The meaning of an option is the text under its field in the dataclasses of data.config, data.corpora,
models.config and trainer.config.schema. It is read from their source, so that help and source cannot differ.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import inspect
import re
import textwrap
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import tyro

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
WIDTH = 80


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

    @property
    def name(self) -> str:
        return "--" + f"{self.group}.{self.field}".lstrip(".").replace("_", "-")

    @property
    def names(self) -> list[str]:
        """The names under which it may be typed; a switch has a second one that turns it off."""
        off = self.name.replace("--", "--no-", 1) if not self.group else self.name.replace(".", ".no-", 1)
        return [self.name, off] if bool in kinds(self.hint) else [self.name]

    @property
    def value(self) -> str:
        """The kind of value that it takes. The unit stands in its meaning.

        >>> Option("", "lr", float | None, None, "").value
        'FLOAT'
        """
        literals = [str(c) for kind in kinds(self.hint) if typing.get_origin(kind) is Literal
                    for c in typing.get_args(kind)]  # fmt: skip
        if literals:
            return "|".join(literals)
        kind = next(k for k in kinds(self.hint) if k is not types.NoneType)
        if typing.get_origin(kind) is tuple:
            return f"{typing.get_args(kind)[0].__name__.upper()}..."
        return "" if kind is bool else {"str": "TEXT"}.get(kind.__name__, kind.__name__.upper())

    @property
    def default_text(self) -> str:
        """The default as it would be typed; "see text" where its meaning explains the default."""
        if self.default in (None, ""):
            return "see text" if re.search("None:|empty:", self.meaning) else "none"
        if isinstance(self.default, tuple):
            return " ".join(map(str, self.default)) or "none"
        return {True: "yes", False: "no"}[self.default] if isinstance(self.default, bool) else str(self.default)

    def __str__(self) -> str:
        meaning = textwrap.fill(f"{self.meaning.rstrip('.')} [{self.default_text}]", WIDTH - 6)
        return f"{self.name} {self.value}".rstrip() + "\n" + textwrap.indent(meaning, " " * 6)


def kinds(hint: Any) -> list[Any]:
    """The members of a union, or the type itself; Annotated is taken off."""
    if typing.get_origin(hint) is typing.Annotated:
        return kinds(typing.get_args(hint)[0])
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return [kind for member in typing.get_args(hint) for kind in kinds(member)]
    return [hint]


def options(config: Config) -> list[Option]:
    """Every option of `config`. The values of `config` are the defaults."""
    return [*_options(config, ""), *(o for group in _groups(config) for o in _options(getattr(config, group), group))]


def help_text(prog: str, presets: Mapping[str, str], config: Config, everything: bool) -> str:
    """The text that `--help` prints, or `--help-all` if `everything`."""
    lines = [f"usage: {prog} [PRESET] [--group.option VALUE ...]", "", f"{Config.__doc__}", "", "presets"]
    for preset, meaning in presets.items():
        indents = {"initial_indent": f"  {preset:9} ", "subsequent_indent": " " * 12}
        lines += textwrap.wrap(meaning, WIDTH, **indents)  # type: ignore[arg-type]
    lines += ["", f"options, with what they are for {config.preset} in brackets"]
    for group in ("", *_groups(config)):
        shown = [o for o in options(config) if o.group == group and (everything or o.is_common)]
        lines += ["", *(f"  {option}" for option in shown)] if shown else []
    more = "" if everything else "  --help-all: every option."
    footer = "A switch has its opposite: --no-resume, --corpus.no-store.  PRESET --help: another preset's defaults."
    return "\n".join([*lines, "", *textwrap.wrap(footer + more, WIDTH)])


def refuse_unknown(argv: Sequence[str], config: Config, presets: Mapping[str, Config]) -> None:
    """ConfigError for the first option that does not exist. It names similar options, or the presets that have it."""
    known = [name for option in options(config) for name in option.names]
    for word in argv:
        name = word.partition("=")[0].replace("_", "-")
        if not name.startswith("--") or name in known:
            continue
        if having := [p for p, other in presets.items() if any(name in o.names for o in options(other))]:
            raise ConfigError(f"preset {config.preset} has no option {name}: that is for {', '.join(having)}.")
        close = [k for k in known if k.endswith(f".{name[2:]}")] or difflib.get_close_matches(name, known, n=1)
        hint = f"Did you mean {' or '.join(close)}?" if close else "--help-all lists every option."
        raise ConfigError(f"no option {name}. {hint}")


def one_line(box: str) -> str:
    """The error message out of the box that tyro prints, without the box and without tyro's help.

    >>> one_line("╭─ Value error ─╮\\n│ Error parsing --seed: │\\n│ bad 'x' │\\n│ ──── │\\n│ For help │\\n╰───╯")
    "Error parsing --seed: bad 'x'"
    """
    _, *lines = [line.strip("│ ") for line in box.splitlines()] or [""]  # the first is the title
    blocks: list[list[str]] = [[]]
    for line in lines:
        if line and set(line) <= set("─-╰╯"):  # without UTF-8, tyro prints dashes instead of a box
            blocks.append([])
        else:
            blocks[-1].append(line)
    return " ".join(next(filter(None, blocks), []))


def _groups(config: Config) -> list[str]:
    return [f.name for f in dataclasses.fields(config) if dataclasses.is_dataclass(getattr(config, f.name))]


def _options(part: Any, group: str) -> Iterator[Option]:
    meanings, hints = dict(_meanings(type(part))), typing.get_type_hints(type(part), include_extras=True)
    for field in dataclasses.fields(part):
        hint, value = hints[field.name], getattr(part, field.name)
        if not dataclasses.is_dataclass(value) and tyro.conf.Suppress not in getattr(hint, "__metadata__", ()):
            is_common = field.name in COMMON.get(group, ()) or bool(field.metadata.get("common"))
            yield Option(group, field.name, hint, value, meanings.get(field.name, ""), is_common)


def _meanings(cls: type) -> Iterator[tuple[str, str]]:
    """(Field, text under it) for every field of a dataclass and of its bases."""
    for base in reversed(cls.__mro__[:-1]):
        body = ast.parse(inspect.getsource(base)).body[0]
        assert isinstance(body, ast.ClassDef)
        for field, text in zip(body.body, body.body[1:], strict=False):
            match field, text:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(meaning))):
                    yield name, " ".join(meaning.split())
