"""Whether the hub can be reached, asked once before a checkpoint is read from it.

Without a network its client tries each of a checkpoint's files six times, with a line about every try: two minutes in
all. So it is asked first. If it says nothing, the cache alone is used. If it answers, be it with an error, the client
tries again as ever, since a failure is then likely to pass.
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import HfHubHTTPError

from models.checkpoints.quiet import quiet

SECONDS = 8.0
"""How long the hub may take to answer."""
FORGOTTEN_AFTER = 60.0
"""Seconds for which an answer, or its lack, is taken to hold."""
_found: dict[str, tuple[float, bool]] = {}
"""Hub id -> when it was asked for, and whether the hub answered."""


@contextlib.contextmanager
def within_reach(source: str, revision: str | None) -> Iterator[str]:
    """Inside, files of the hub id `source` come from the cache alone if the hub does not answer, and its client is
    quiet. Yields a few words that say so, or "". A local folder is not asked for."""
    is_hub_id = re.fullmatch(r"[\w.-]+(/[\w.-]+)?", source) is not None and not Path(source).exists()
    if not is_hub_id or huggingface_hub.is_offline_mode() or _answers(source, revision):
        with quiet():
            yield ""
        return
    huggingface_hub.constants.HF_HUB_OFFLINE = True
    try:
        with quiet():
            yield "the hub does not answer"
    finally:
        huggingface_hub.constants.HF_HUB_OFFLINE = False


def _answers(source: str, revision: str | None) -> bool:
    asked, answered = _found.get(source, (-FORGOTTEN_AFTER, False))
    if time.monotonic() - asked >= FORGOTTEN_AFTER:
        answered = hub_answers(source, revision, SECONDS)
        _found[source] = time.monotonic(), answered
    return answered


def hub_answers(source: str, revision: str | None, seconds: float) -> bool:
    """Whether the hub says anything of the model `source` within `seconds`, be it no."""
    answered, given_up = threading.Event(), time.monotonic() + seconds

    def ask() -> None:
        while time.monotonic() < given_up:
            try:
                huggingface_hub.HfApi().model_info(source, revision=revision, timeout=seconds)
                return answered.set()
            except HfHubHTTPError:
                return answered.set()
            except Exception:
                time.sleep(0.5)

    # a thread, since looking up the host's name knows no limit
    threading.Thread(target=ask, daemon=True).start()
    return answered.wait(seconds)
