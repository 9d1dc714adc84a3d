"""Train: `python -m trainer.run [PRESET] [--group.option value ...]`.

Command line -> Config -> corpus, model, plan -> fit() -> closing evaluation, export, model card.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence

import tyro

from trainer.config import Config, ConfigError
from trainer.presets import PRESETS


def parse(argv: Sequence[str]) -> Config:
    """The Config of a command line: the first word names the preset if it has no leading dash."""
    name, rest = (argv[0], argv[1:]) if argv and not argv[0].startswith("-") else ("demo", argv)
    if name not in PRESETS:
        close = difflib.get_close_matches(name, PRESETS, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise ConfigError(f"no preset {name!r}; there are {', '.join(PRESETS)}.{hint}")
    listing = "\n".join(f"  {preset:10}{make.__doc__}" for preset, make in PRESETS.items())
    return tyro.cli(
        Config,
        prog=f"python -m trainer.run {name}",
        description=f"Fine-tune a speech encoder for recognition with CTC.\n\nPresets:\n{listing}",
        default=PRESETS[name](),
        args=list(rest),
        config=(tyro.conf.AvoidSubcommands,),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 done, 2 something in options or data is wrong, 130 stopped by Ctrl-C (saved)."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        config = parse(argv)
        from trainer.session import train  # torch and transformers take seconds: only once the command line is right

        return train(config, PRESETS[config.preset](), argv)
    except ValueError as error:
        if not type(error).__module__.startswith(("data.", "models.", "trainer.")):
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
