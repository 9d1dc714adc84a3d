"""Whether the Hugging Face hub can be reached. Besides trainer.errors the only module of `trainer` that `data` and
`models` import: data sets and checkpoints ask the same."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from huggingface_hub.errors import HfHubHTTPError


def hub_answers(ask: Callable[[float], object], seconds: float) -> bool:
    """Whether the hub says anything within `seconds`, be it no.

    ask(limit) makes one request through huggingface_hub, with a time limit in seconds. It is tried again until time is
    up, since a network may have to wake up first.
    """
    answered, given_up = threading.Event(), time.monotonic() + seconds

    def try_again() -> None:
        while time.monotonic() < given_up:
            try:
                ask(seconds)
                return answered.set()
            except HfHubHTTPError:
                return answered.set()
            except Exception:
                # huggingface_hub lets through what its HTTP library raises, which is another one in another version and
                # shares no base class with the last. Whatever it is, the hub has not answered
                time.sleep(0.5)

    # a thread, since looking up the host's name knows no limit
    threading.Thread(target=try_again, daemon=True).start()
    return answered.wait(seconds)
