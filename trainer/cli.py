"""The command line: first word a preset, then --group.option value; and errors as one line."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Sequence

import tyro

from trainer.config import Config, ConfigError
from trainer.presets import PRESETS


def parse(argv: Sequence[str], prog: str = "python -m trainer.run") -> Config:
    """The Config of a command line: the first word names the preset if it has no leading dash (else demo)."""
    name, rest = (argv[0], argv[1:]) if argv and not argv[0].startswith("-") else ("demo", argv)
    if name not in PRESETS:
        close = difflib.get_close_matches(name, PRESETS, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise ConfigError(f"no preset {name!r}; there are {', '.join(PRESETS)}.{hint}")
    listing = "\n".join(f"  {preset:10}{make.__doc__}" for preset, make in PRESETS.items())
    return tyro.cli(
        Config,
        prog=f"{prog} {name}",
        description=f"Fine-tune a speech encoder for recognition with CTC.\n\nPresets:\n{listing}",
        default=PRESETS[name](),
        args=list(rest),
        config=(tyro.conf.AvoidSubcommands,),
    )


def report_errors(action: Callable[[], int]) -> int:
    """`action`'s exit code; 2 and one line on stderr for what is the user's to mend (this project's ValueErrors)."""
    try:
        return action()
    except ValueError as error:
        if type(error).__module__.partition(".")[0] not in ("data", "models", "trainer"):
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2
