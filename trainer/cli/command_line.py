"""The command line of training: the first word is a preset, then come --group.option VALUE. Errors are one line.

Every word is looked up among the options of trainer.cli.options, so that an error can say what was probably meant.
"""

from __future__ import annotations

import contextlib
import difflib
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from trainer.cli.help import help_text
from trainer.cli.hf_flags import counterpart
from trainer.cli.options import SWITCH, Option, groups, options
from trainer.config.presets import PRESETS
from trainer.config.schema import Config
from trainer.errors import ConfigError

HELP = ("-h", "--help", "--help-all")
DASHES = "‐‑‒–—―−"
"""What a word processor makes of the hyphens of an option."""


def read_command_line(argv: Sequence[str], prog: str) -> Config:
    """The Config of a command line: the first word names the preset if it has no leading dash (else demo).

    An option that is given twice has its last value, as everywhere; stderr says so where the values differ.
    """
    has_preset = bool(argv) and argv[0][:1] not in ("-", *DASHES)
    name, rest = (argv[0], argv[1:]) if has_preset else ("demo", argv)
    if name not in PRESETS:
        raise ConfigError(_no_preset(name))
    default = PRESETS[name]()
    if set(HELP) & set(rest):
        listing = {preset: str(make.__doc__) for preset, make in PRESETS.items()}
        print(help_text(prog, listing, default, everything="--help-all" in rest))
        raise SystemExit(0)
    return _encoder_that_was_meant(*_with_values(default, rest))


def with_options(config: Config, words: Sequence[str]) -> Config:
    """`config` with the options in `words`, as training's command line has them; ConfigError as there."""
    return _with_values(config, words)[0]


def _with_values(config: Config, words: Sequence[str]) -> tuple[Config, set[str]]:
    """`config` with the values that `words` give, and the names of the options that they name."""
    by_name = {name: option for option in options(config) for name in option.names}
    values: dict[str, tuple[Option, Any]] = {}
    left = list(words)
    while left:
        word = left.pop(0)
        typed, equals, attached = word.partition("=")
        option = by_name.get(_spelt(typed))
        if option is None:
            raise ConfigError(_no_option(word, config, by_name))
        value = _value(option, _spelt(typed), [attached] if equals else None, left)
        if option.name in values and values[option.name][1] != value:
            with contextlib.suppress(OSError):  # nobody reads stderr: the run goes on
                print(f"note: {option.name} is given twice; the last value holds: {_shown(value)}", file=sys.stderr)
        values[option.name] = (option, value)
    of_group: dict[str, dict[str, Any]] = {}
    for option, value in values.values():
        of_group.setdefault(option.group, {})[option.field] = value
    parts = {name: replace(getattr(config, name), **of_group[name]) for name in groups(config) if name in of_group}
    return replace(config, **of_group.get("", {}), **parts), set(values)


def _spelt(typed: str) -> str:
    """The name of an option as `options` spells it."""
    return typed.replace("_", "-")


def _value(option: Option, typed: str, attached: list[str] | None, left: list[str]) -> Any:
    """The value of `option`, from what is attached by = or else from the first words of `left`, which are taken."""
    if option.is_switch:
        words = attached or ([left.pop(0)] if left and _is_of_switch(option, left[0]) else ["true"])
        value = option.read(words)
        if typed == option.name:
            return value
        if words != ["true"]:
            raise ConfigError(f"{typed} takes no value. Give {typed} alone, or {option.name} {words[0]}.")
        return False
    if attached is not None:
        return option.read(attached)
    words = []
    while left and not _is_option(left[0], option) and (option.takes_several or not words):
        words.append(left.pop(0))
    if words == ["="] or (words and words[0].startswith("=") and len(words[0]) > 1 and option.type is not str):
        raise ConfigError(f"{typed} {words[0]}: write {typed} VALUE, or {typed}=VALUE without spaces.")
    if words or option.takes_several:
        return option.read(words) if words else ()
    found = f"{left[0]} stands where its value belongs" if left else "its value is missing"
    as_value = f" If {left[0]} is the value: {typed}={left[0]}." if left and not left[0].startswith("--") else ""
    raise ConfigError(f"{typed} {option.value}: {found}.{as_value} --help lists the options.")


def _is_of_switch(option: Option, word: str) -> bool:
    return word.lower() in {*SWITCH, option.open_word, "none", "null"}


def _is_option(word: str, option: Option) -> bool:
    """Whether `word` begins another option rather than being a value of this one."""
    return word.startswith("--") or (word[:1] in ("-", *DASHES) and option.type is str)


def _encoder_that_was_meant(config: Config, given: set[str]) -> Config:
    """`config` without the preset's checkpoint where a size is given, and the other way round."""
    model = config.model
    if model.size is not None and model.pretrained is not None:
        if "--model.size" not in given:
            model = replace(model, size=None)
        elif "--model.pretrained" not in given:
            model = replace(model, pretrained=None)
    return replace(config, model=model)


def _no_preset(name: str) -> str:
    """What is said of a first word that is no preset."""
    there = f"there are {', '.join(PRESETS)}"
    if name.lower().endswith((".jsonl", ".json", ".csv", ".tsv")):
        return f"no preset {name!r}; {there}. A manifest: manifest --corpus.train {shlex.quote(name)} --corpus.eval ..."
    if "=" in name or any(name.partition(".")[0] == group for group in groups(PRESETS["demo"]())):
        return f"no preset {name!r}; {there}. If it is an option, it begins with two dashes: --{name}"
    close = difflib.get_close_matches(name.lower().replace("_", "-"), PRESETS, n=1)
    return f"no preset {name!r}; {there}.{f' Did you mean {close[0]}?' if close else ''}"


def _no_option(word: str, config: Config, by_name: dict[str, Option]) -> str:
    """What is said of a word that stands where an option belongs and is none."""
    bare = word.partition("=")[0].lstrip("-" + DASHES)
    name = f"--{_spelt(bare)}"
    if word[:1] == "-" and name == "--":
        return f"{word} is no option: leave it out."
    if word.startswith("--") and not word.startswith("---") and name in ("--preset", "--config"):
        return f"no option {name}. The preset is the first word: python -m trainer.run {config.preset} ..."
    known = [*by_name, *HELP[1:]]
    is_there = name if name in known else name.lower() if name.lower() in known else None
    if is_there and not (word.startswith("--") and word[2:3] != "-"):
        why = "an option begins with two plain dashes" if word[:1] in ("-", *DASHES) else "an option begins with --"
        return f"{word}: {why}. Did you mean {is_there}?"
    if word[:1] not in ("-", *DASHES):
        if word in PRESETS:
            return f"{word} stands where an option belongs: the preset is the first word, and there is one."
        return f"{word} stands where an option belongs. A value follows its option: --group.option VALUE."
    if advice := counterpart(bare):
        return f"no option {name}. {advice}"
    if having := [p for p, make in PRESETS.items() if any(name in o.names for o in options(make()))]:
        return f"preset {config.preset} has no option {name}: that is for {', '.join(having)}."
    if name.startswith("--no-") and f"--{name[5:]}" in by_name:
        return f"no option {name}. Did you mean {by_name[f'--{name[5:]}'].names[-1]}?"
    close = [k for k in known if k.lower() == name.lower() or k.endswith(f".{name[2:]}")]
    close = close or difflib.get_close_matches(name.lower(), known, n=1)
    return f"no option {name}. {f'Did you mean {_either(close)}?' if close else '--help-all lists every option.'}"


def _either(names: Sequence[str]) -> str:
    return " or ".join(names)


def _shown(value: Any) -> str:
    """A value as it is typed."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
