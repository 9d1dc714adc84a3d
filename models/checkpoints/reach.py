"""Whether the hub can be reached, asked once before a checkpoint is read from it.

Without a network its client tries each of a checkpoint's files six times, with a line about every try: two minutes in
all. So it is asked first. If it says nothing, the cache alone is used. If it answers, be it with an error, the client
tries again as ever, since a failure is then likely to pass.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub

from models.checkpoints.quiet import quiet
from trainer.hub_reach import hub_answers

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
        api = huggingface_hub.HfApi()
        answered = hub_answers(lambda limit: api.model_info(source, revision=revision, timeout=limit), SECONDS)
        _found[source] = time.monotonic(), answered
    return answered
