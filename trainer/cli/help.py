"""The texts of `--help` (the common options) and `--help-all` (every option)."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

from trainer.cli.options import Option, groups, options
from trainer.config.schema import Config

WIDTH = 80


def help_text(prog: str, presets: Mapping[str, str], config: Config, everything: bool) -> str:
    """The text that `--help` prints, or `--help-all` if `everything`."""
    lines = [f"usage: {prog} [PRESET] [--group.option VALUE ...]", "", f"{Config.__doc__}", "", "presets"]
    for preset, meaning in presets.items():
        indents = {"initial_indent": f"  {preset:9} ", "subsequent_indent": " " * 12}
        lines += textwrap.wrap(meaning, WIDTH, **indents)  # type: ignore[arg-type]
    lines += ["", f"options, with what they are for {config.preset} in brackets"]
    for group in ("", *groups(config)):
        shown = [o for o in options(config) if o.group == group and (everything or o.is_common)]
        lines += ["", *(f"  {describe(option)}" for option in shown)] if shown else []
    more = "" if everything else "  --help-all: every option."
    footer = "A switch has its opposite: --no-resume, --corpus.no-store.  PRESET --help: another preset's defaults."
    return "\n".join([*lines, "", *textwrap.wrap(footer + more, WIDTH)])


def describe(option: Option) -> str:
    """Name, kind of value, meaning and default, as `--help` shows them."""
    meaning = textwrap.fill(f"{option.meaning.rstrip('.')} [{option.default_text}]", WIDTH - 6)
    return f"{option.name} {option.value}".rstrip() + "\n" + textwrap.indent(meaning, " " * 6)
