"""transformers' and the hub's own words: off, and an error's in one line."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

import huggingface_hub
import transformers


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """The libraries' own warnings and bars off: our load report and errors replace them."""
    loggers = (transformers.logging, huggingface_hub.logging)
    before = [logger.get_verbosity() for logger in loggers]
    for logger in loggers:
        logger.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        yield
    finally:
        for logger, verbosity in zip(loggers, before, strict=True):
            logger.set_verbosity(verbosity)


def first_line(error: Exception) -> str:
    """The first line of what `error` says, without its full stop; its class where it says nothing.

    A line that ends with a colon goes on in the next one.

    >>> first_line(ValueError("Field 'hidden_size':\\n    TypeError: expected int."))
    "Field 'hidden_size': TypeError: expected int"
    """
    said = ""
    for line in filter(None, map(str.strip, str(error).splitlines())):
        said = f"{said} {line}".strip()
        if not line.endswith(":"):
            break
    return said.rstrip(".:") or type(error).__name__


@contextlib.contextmanager
def quiet_bitsandbytes() -> Iterator[None]:
    """While it is imported, by us or by peft. It warns on a CPU that it lacks kernels for 4 bits, which nobody uses."""
    logger = logging.getLogger("bitsandbytes")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
