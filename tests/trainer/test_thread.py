"""A run that somebody starts from a thread: a notebook's server, a test bench, a queue's worker."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

from tests.helpers.runs import train_on_noise
from trainer.cli.signals import stop_on_signals


def test_a_run_in_a_thread_is_trained_scored_and_closed(tmp_path: Path) -> None:
    """With a loader worker. No handler can be set there, and none is changed."""
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)]
    folders: list[Path] = []
    options = ("--no-report", "--batching.num-workers", "1")
    thread = threading.Thread(target=lambda: folders.append(train_on_noise(tmp_path, *options)))
    thread.start()
    thread.join(120)
    assert (folders[0] / "results.json").exists()
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)] == before


def test_signals_are_up_to_the_main_thread() -> None:
    flags: list[bool] = []

    def work() -> None:
        with stop_on_signals() as flag:
            flags.append(flag())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(10)
    assert flags == [False]
