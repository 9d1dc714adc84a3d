"""How a command begins and ends: `parse` reads training's command line, `report_errors` tells errors in one line.

Only the standard library is needed to import this module. A command that imports all packages within the action that it
hands to `report_errors` can therefore say what to do when one of them is missing.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from trainer.cli.interpreter import ROOT, describe_missing, describe_old, describe_unfit
from trainer.cli.streams import drop_unread_output, escape_what_cannot_be_printed, one_line
from trainer.errors import INTERRUPTED, TRAINING_STOPPED, UNREAD, WRONG_INPUT, UserError, is_out_of_memory
from trainer.parallel.launch import launched

if TYPE_CHECKING:
    from trainer.config.schema import Config

OLDEST_PYTHON = (3, 11)
NO_THREAD = ("can't start new thread", "Resource temporarily unavailable")
"""What Python and Arrow say where a limit of threads is reached; they have no error of its own for it."""


def parse(argv: Sequence[str], prog: str = "python -m trainer.run") -> Config:
    """The Config of a command line: the first word names the preset if it has no leading dash (else demo)."""
    from trainer.cli.command_line import read_command_line  # imports every corpus' reader, and numpy with them

    return read_command_line(argv, prog)


def report_errors(action: Callable[[], int], advice: str = "Mend that and try again.") -> int:
    """Run `action` and return its exit code. An error that the user can correct becomes one line on stderr.

    A UserError has its own exit code. An OSError, a package that cannot be imported and a limit of threads have exit
    code 2, a lack of memory has 3; `advice` follows what the system said. If the reader of the output goes away
    (`| head`) or at Ctrl-C, nothing is printed and the exit code is the one that a shell uses.
    """
    message = ""
    escape_what_cannot_be_printed()
    try:
        if sys.version_info < OLDEST_PYTHON:
            raise UserError(describe_old())
        if sys.flags.optimize > 1:  # every --help is made of docstrings, and transformers' classes are
            raise UserError(
                "Python runs without docstrings (PYTHONOPTIMIZE=2, or -OO), which transformers and every --help need. "
                "Unset PYTHONOPTIMIZE, or set it to 1."
            )
        code = action()
    except UserError as error:
        message, code = "" if error.is_told else str(error), error.exit_code
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if not package or (ROOT / package).is_dir():  # a module of this project: an error of ours
            raise
        message, code = describe_missing(package), WRONG_INPUT
    except ImportError as error:  # versions that do not fit each other, a shared library that cannot be loaded
        package = (error.name or "").partition(".")[0]
        if package and (ROOT / package).is_dir():
            raise
        message, code = describe_unfit(error), WRONG_INPUT
    except BrokenPipeError:
        code = UNREAD
    except KeyboardInterrupt:
        code = INTERRUPTED
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        is_told = getattr(error, "is_told", False)
        message, code = "" if is_told else f"{where}{_said_by_system(error)}. {advice}", WRONG_INPUT
    except UnicodeEncodeError as error:
        if sys.getfilesystemencoding() == "utf-8":
            raise
        message = (
            f"U+{ord(error.object[error.start]):04X} in a name of a file cannot be written in this locale's encoding, "
            f"{error.encoding}. Set PYTHONUTF8=1, or a locale with UTF-8."
        )
        code = WRONG_INPUT
    except Exception as error:
        if (reached := _limit_reached(error)) is None:
            raise
        message, code = f"{reached[0]}. {advice}", reached[1]
    if message:
        with contextlib.suppress(OSError):  # nobody reads stderr; the exit code must do
            print(f"error: {_of_rank()}{one_line(message)}", file=sys.stderr, flush=True)
    drop_unread_output()
    return code


def _limit_reached(error: Exception) -> tuple[str, int] | None:
    """(What is said, exit code) where memory or threads ran out; None for any other error."""
    reason = (str(error) or type(error).__name__).splitlines()[0].rpartition("DefaultCPUAllocator: ")[2]
    if is_out_of_memory(error):
        where = "the device" if type(error).__name__ == "OutOfMemoryError" else "this machine, or for this process"
        return f"out of memory on {where} ({reason}). Free it of other programs", TRAINING_STOPPED
    return (_no_thread(error), WRONG_INPUT) if any(words in reason for words in NO_THREAD) else None


def _said_by_system(error: OSError) -> str:
    if error.errno == errno.EAGAIN and not error.filename:
        return _no_thread(error)
    reason = error.strerror or str(error)
    if reason.startswith("No usable temporary directory"):  # libraries want one when they are imported
        reason = f"{reason}: set TMPDIR to a folder that can be written"
    return reason


def _no_thread(error: Exception) -> str:
    reason = str(error).splitlines()[0]
    return f"no further thread or process can be started ({reason}): see ulimit -u, and --pids-limit of a container"


def _of_rank() -> str:
    """Which of several processes tells an error; nothing for the first one."""
    with contextlib.suppress(UserError):
        launch = launched()
        return "" if launch.is_first else f"rank {launch.rank} on {socket.gethostname()}: "
    return ""
