"""The Python that runs: how it is called, and what to do when it is too old or has not all packages.

Only the standard library is imported here, so that it works in any of them.
"""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""This checkout."""


def python_command() -> str:
    """How the Python that runs is called from the current folder: `python` if that is it, else by its path."""
    for name in ("python", "python3"):
        found = shutil.which(name)
        if found and Path(found).absolute() == Path(sys.executable).absolute():
            return name
    return shlex.quote(_from_here(Path(sys.executable)))


def program_command(name: str) -> str:
    """How a program that lies beside the Python that runs is called from the current folder, or "" without one."""
    program = Path(sys.executable).with_name(name)
    found = shutil.which(name)
    if found and Path(found).absolute() == program.absolute():
        return name
    return shlex.quote(_from_here(program)) if program.exists() else ""


def describe_missing(package: str, extra: str = "") -> str:
    """What is said when `package`, of an extra of setup.cfg if it is of one, is not installed for this Python."""
    return f"{sys.executable} has no package {package}. {_use_environment(extra)}"


def describe_unfit(error: ImportError) -> str:
    """What is said when a package is installed for this Python and cannot be imported."""
    reason = " ".join(str(error).split()).rstrip(".")
    return (
        f"{sys.executable}: a package cannot be imported: {reason}. Its version may not fit the others, or this "
        f"machine. {_use_environment()}"
    )


def describe_old() -> str:
    """What is said when the Python that runs is older than this project's code."""
    version = ".".join(map(str, sys.version_info[:3]))
    return f"{sys.executable} is Python {version}; 3.11 or newer is needed. {_use_environment()}"


def _use_environment(extra: str = "") -> str:
    """How to come to an environment that has everything: this checkout's, or one of the user's own."""
    environment = ROOT / ".venv"
    activate = f"source {shlex.quote(_from_here(environment / 'bin' / 'activate'))}"
    make = "make venv" if Path.cwd() == ROOT else f"make -C {shlex.quote(str(ROOT))} venv"
    if not (environment / "bin" / "python").exists():
        remedy = f"{make} && {activate}"
    else:  # what is missing in there was added to setup.cfg since, which make sees
        remedy = make if Path(sys.prefix).resolve() == environment.resolve() else activate
    own = f'pip install --editable ".[{extra}]"' if extra else "pip install --editable ."
    return f"Run: {remedy} (in an environment of your own: {own})."


def _from_here(path: Path) -> str:
    """`path`, relative to the current folder if it lies below it. Links stay: .venv/bin/python is one."""
    path = path.absolute()
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
