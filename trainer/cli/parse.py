"""How a command begins and ends: `parse` reads training's command line, `report_errors` tells errors in one line.

Only the standard library is needed to import this module. A command that imports all packages within the action that it
hands to `report_errors` can therefore say what to do when one of them is missing.
"""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from trainer.cli.interpreter import ROOT, describe_missing, describe_old
from trainer.cli.streams import drop_unread_output, escape_what_cannot_be_printed, one_line
from trainer.errors import INTERRUPTED, TRAINING_STOPPED, UNREAD, WRONG_INPUT, UserError, is_out_of_memory
from trainer.parallel.launch import launched

if TYPE_CHECKING:
    from trainer.config.schema import Config

OLDEST_PYTHON = (3, 11)


def parse(argv: Sequence[str], prog: str = "python -m trainer.run") -> Config:
    """The Config of a command line: the first word names the preset if it has no leading dash (else demo)."""
    from trainer.cli.command_line import read_command_line  # imports every corpus' reader, and numpy with them

    return read_command_line(argv, prog)


def report_errors(action: Callable[[], int], advice: str = "Mend that and try again.") -> int:
    """Run `action` and return its exit code. An error that the user can correct becomes one line on stderr.

    A UserError has its own exit code. An OSError and a package that is not installed have exit code 2, and a
    device without memory 3; `advice` follows what is said of both. If the reader of the output goes away
    (`| head`) or at Ctrl-C, nothing is printed and the exit code is the one that a shell uses.
    """
    message = ""
    escape_what_cannot_be_printed()
    try:
        if sys.version_info < OLDEST_PYTHON:
            raise UserError(describe_old())
        code = action()
    except UserError as error:
        message, code = "" if error.is_told else str(error), error.exit_code
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if not package or (ROOT / package).is_dir():  # a module of this project: an error of ours
            raise
        message, code = describe_missing(package), WRONG_INPUT
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        reason = str(error).splitlines()[0]
        message, code = f"out of memory on the device ({reason}). Free it of other programs. {advice}", TRAINING_STOPPED
    except BrokenPipeError:
        code = UNREAD
    except KeyboardInterrupt:
        code = INTERRUPTED
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        is_told = getattr(error, "is_told", False)
        message, code = "" if is_told else f"{where}{error.strerror or error}. {advice}", WRONG_INPUT
    if message:
        with contextlib.suppress(OSError):  # nobody reads stderr; the exit code must do
            print(f"error: {_of_rank()}{one_line(message)}", file=sys.stderr, flush=True)
    drop_unread_output()
    return code


def _of_rank() -> str:
    """Which of several processes tells an error; nothing for the first one."""
    with contextlib.suppress(UserError):
        launch = launched()
        return "" if launch.is_first else f"rank {launch.rank} on {socket.gethostname()}: "
    return ""
