"""The command line: the first word is a preset, then come --group.option VALUE. Errors are one line."""

from __future__ import annotations

import contextlib
import difflib
import io
import sys
from collections.abc import Callable, Sequence

import tyro

from trainer.cli.help import help_text, one_line, refuse_unknown
from trainer.cli.streams import drop_unread_output, escape_what_cannot_be_printed
from trainer.config.presets import PRESETS
from trainer.config.schema import Config
from trainer.errors import INTERRUPTED, TRAINING_STOPPED, UNREAD, WRONG_INPUT, ConfigError, UserError


def parse(argv: Sequence[str], prog: str = "python -m trainer.run") -> Config:
    """The Config of a command line: the first word names the preset if it has no leading dash (else demo)."""
    name, rest = (argv[0], argv[1:]) if argv and not argv[0].startswith("-") else ("demo", argv)
    if name not in PRESETS:
        close = difflib.get_close_matches(name, PRESETS, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise ConfigError(f"no preset {name!r}; there are {', '.join(PRESETS)}.{hint}")
    default = PRESETS[name]()
    if {"-h", "--help", "--help-all"} & set(rest):
        listing = {preset: str(make.__doc__) for preset, make in PRESETS.items()}
        print(help_text(prog, listing, default, everything="--help-all" in rest))
        raise SystemExit(0)
    refuse_unknown(rest, default, {preset: make() for preset, make in PRESETS.items()})
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(Config, default=default, args=list(rest), config=(tyro.conf.AvoidSubcommands,))
    except SystemExit:
        raise ConfigError(f"{one_line(said.getvalue())} --help lists the options.") from None


def report_errors(action: Callable[[], int], advice: str = "Mend that and try again.") -> int:
    """Run `action` and return its exit code. An error that the user can correct becomes one line on stderr.

    A UserError has its own exit code. An OSError has exit code 2, and torch's OutOfMemoryError 3; `advice` follows what
    they say. If the reader of the output goes away (`| head`) or at Ctrl-C, nothing is printed and the exit code is the
    one that a shell uses.
    """
    message = ""
    escape_what_cannot_be_printed()
    try:
        code = action()
    except UserError as error:
        message, code = str(error), error.exit_code
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # torch's; it is not imported for this
            raise
        reason = str(error).splitlines()[0]
        message, code = f"out of memory on the device ({reason}). Free it of other programs. {advice}", TRAINING_STOPPED
    except BrokenPipeError:
        code = UNREAD
    except KeyboardInterrupt:
        code = INTERRUPTED
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        message, code = f"{where}{error.strerror or error}. {advice}", WRONG_INPUT
    if message:
        with contextlib.suppress(OSError):  # nobody reads stderr; the exit code must do
            print(f"error: {_one_line(message)}", file=sys.stderr, flush=True)
    drop_unread_output()
    return code


def _one_line(message: str) -> str:
    """`message` with unprintable characters escaped: line ends, terminal codes, surrogates in a file's name."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in message)
