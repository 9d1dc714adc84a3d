"""Load batches in a given order, in worker processes or in this one, and group them into steps of a plan.

data.batches.collate defines what a batch holds.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

import torch
from torch.utils.data import DataLoader

from data.batches.collate import Batch, BatchDataset
from data.batches.plan import BatchPlan
from trainer.errors import AudioError, LoaderError


class _Requests:
    """The sampler of the DataLoader: one (epoch, positions) for each batch, in order."""

    def __init__(self, requests: Callable[[], Iterator[tuple[int, Sequence[int]]]]) -> None:
        self.requests = requests

    def __iter__(self) -> Iterator[tuple[int, Sequence[int]]]:
        return self.requests()


def load_batches(
    dataset: BatchDataset,
    requests: Callable[[], Iterator[tuple[int, Sequence[int]]]],
    *,
    num_workers: int,
    pin_memory: bool,
    timeout_seconds: float = 0.0,
) -> Iterator[Batch]:
    """The requested batches, in their order. One worker makes a whole batch, so no further collating is needed.

    LoaderError when a worker has died, or when no batch has come for `timeout_seconds`. It is raised only where the
    next batch is asked for.
    """
    loader = DataLoader(
        dataset,
        sampler=_Requests(requests),
        batch_size=None,
        num_workers=num_workers,
        pin_memory=pin_memory,
        multiprocessing_context="fork" if num_workers else None,
        timeout=timeout_seconds if num_workers else 0.0,
        worker_init_fn=_ignore_signals if num_workers else None,
    )
    return _watched(loader) if num_workers else iter(loader)


_is_waiting = False
"""Whether the training process waits for a batch. Only then may a worker's death raise an error."""


def _watched(loader: DataLoader) -> Iterator[Batch]:
    global _is_waiting
    batches = iter(loader)
    _raise_only_while_waiting()
    try:
        while True:
            try:
                _is_waiting = True
                torch._C._error_if_any_worker_fails()  # a worker may have died while nobody waited
                batch = next(batches, None)
            except (RuntimeError, OSError, EOFError) as error:  # the queue of a dead worker fails in many ways
                reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
                raise LoaderError(
                    f"a loader worker died or hung ({reason}). --resume goes on; --batching.num-workers 0 does without "
                    "workers."
                ) from None
            finally:
                _is_waiting = False
            if batch is None:
                return
            yield batch
    finally:
        batches._shutdown_workers()  # type: ignore[attr-defined]
        for worker in batches._workers:  # type: ignore[attr-defined]
            worker.kill()  # a hanging worker ignores SIGTERM, and the process would wait for it in the end


def _raise_only_while_waiting() -> None:
    """Let torch's SIGCHLD handler raise only while a batch is waited for, and not in the middle of an update."""
    installed = signal.getsignal(signal.SIGCHLD)
    if not callable(installed) or hasattr(installed, "is_tame"):
        return

    def handler(number: int, frame: FrameType | None) -> None:
        if _is_waiting:
            installed(number, frame)

    handler.is_tame = True  # type: ignore[attr-defined]
    signal.signal(signal.SIGCHLD, handler)


def _ignore_signals(worker_id: int) -> None:
    """Ignore signals in a worker. A scheduler signals the whole process group; the training process decides."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


class TrainLoader:
    """The batches of each optimizer step, from any point of the plan to its end. Workers live on across epochs."""

    def __init__(
        self,
        dataset: BatchDataset,
        plan: BatchPlan,
        *,
        num_workers: int,
        pin_memory: bool,
        timeout_seconds: float = 600.0,
    ) -> None:
        """A loader for `plan`. Its steps raise LoaderError if a worker dies or no batch comes for `timeout_seconds`."""
        self.dataset, self.plan = dataset, plan
        self.num_workers, self.pin_memory, self.timeout_seconds = num_workers, pin_memory, timeout_seconds

    def steps(self, epoch: int, batches_done: int) -> Iterator[tuple[int, list[Batch], bool]]:
        """(epoch, batches of a step, whether they end the epoch), starting after `batches_done` batches of `epoch`."""

        def requests() -> Iterator[tuple[int, Sequence[int]]]:
            for e, step, _ in self.plan.remaining(epoch, batches_done):
                yield from ((e, batch) for batch in step)

        batches = load_batches(
            self.dataset,
            requests,
            num_workers=self.num_workers,
            pin_memory=self.pin_memory,
            timeout_seconds=self.timeout_seconds,
        )
        for e, step, ends_epoch in self.plan.remaining(epoch, batches_done):
            loaded = [next(batches) for _ in step]
            if failures := {k: v for batch in loaded for k, v in batch.failures.items()}:
                what = "; ".join(f"utterance {k}: {v}" for k, v in failures.items())
                # This happens only without a store, which finds undecodable audio before the first step
                raise AudioError(f"{what} Mend the corpus, or leave such utterances out with --corpus.on-bad drop.")
            yield e, loaded, ends_epoch
