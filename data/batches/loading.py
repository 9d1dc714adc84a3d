"""Load batches in a given order, in worker processes or in this one, and group them into steps of a plan.

data.batches.collate defines what a batch holds.
"""

from __future__ import annotations

import multiprocessing
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from types import FrameType

import torch
from torch.utils.data import DataLoader

from data.batches.collate import Batch, BatchDataset, Request
from data.batches.plan import BatchPlan
from data.batches.shares import ALL, Shares
from data.batches.transfer import IS_POSSIBLE, SharedBatch, SharingDataset
from trainer.errors import AudioError, LoaderError, StorageError

SECONDS_BETWEEN_LOOKS = 0.25
"""How often whoever waits for a batch asks whether to stop."""


class StopRequested(Exception):  # noqa: N818  a request, not an error
    """The process was asked to stop, and no further batch is wanted."""


def never() -> bool:
    """Nobody asks to stop."""
    return False


class _Requests:
    """The sampler of the DataLoader: one (epoch, positions) for each batch, in order."""

    def __init__(self, requests: Callable[[], Iterator[Request]]) -> None:
        self.requests = requests

    def __iter__(self) -> Iterator[Request]:
        return self.requests()


def load_batches(
    dataset: BatchDataset,
    requests: Callable[[], Iterator[Request]],
    *,
    num_workers: int,
    pin_memory: bool,
    timeout_seconds: float = 0.0,
    must_stop: Callable[[], bool] = never,
) -> Iterator[Batch]:
    """The requested batches, in their order. One worker makes a whole batch, so no further collating is needed.

    LoaderError, at the next batch and nowhere else, once a worker has died or none came for `timeout_seconds` (0: no
    limit). StopRequested before a batch, or while it is waited for, once `must_stop`.
    """
    if num_workers == 0:
        return _make_here(dataset, requests, pin_memory, must_stop)
    return _watched(
        DataLoader(
            SharingDataset(dataset) if IS_POSSIBLE else dataset,
            sampler=_Requests(requests),
            batch_size=None,
            num_workers=num_workers,
            pin_memory=pin_memory,
            multiprocessing_context="fork",
            timeout=SECONDS_BETWEEN_LOOKS,
            worker_init_fn=_ignore_signals,
        ),
        timeout_seconds,
        must_stop,
    )


def _make_here(
    dataset: BatchDataset,
    requests: Callable[[], Iterator[Request]],
    pin_memory: bool,
    must_stop: Callable[[], bool],
) -> Iterator[Batch]:
    """Batches made by this process, one at a time, in a thread of their own: decoding a long file is one call into a
    library, in which Python hears no signal."""

    def make(request: Request, made: Future[Batch]) -> None:
        try:
            made.set_result(dataset[request])
        except BaseException as error:
            made.set_exception(error)

    for request in requests():
        made: Future[Batch] = Future()
        # a daemon: a process that is asked to stop does not wait for it
        threading.Thread(target=make, args=(request, made), daemon=True).start()
        while not made.done():
            if must_stop():
                raise StopRequested
            wait([made], SECONDS_BETWEEN_LOOKS)
        if must_stop():
            raise StopRequested
        batch = made.result()
        yield batch.pin_memory() if pin_memory else batch


_is_waiting = False
"""Whether the training process waits for a batch. Only then may a worker's death raise an error."""


def _watched(loader: DataLoader, timeout_seconds: float, must_stop: Callable[[], bool]) -> Iterator[Batch]:
    global _is_waiting
    try:
        _make_locks(loader.num_workers)
        batches = iter(loader)
    except OSError as error:
        raise LoaderError(
            f"the {loader.num_workers} loader workers cannot start ({error.strerror or error}): their locks need some "
            "kB of /dev/shm, and each is a process. In a container: docker run --ipc=host, or --shm-size=1g. Without "
            "workers: --batching.num-workers 0."
        ) from None
    _raise_only_while_waiting()
    try:
        waiting_since = time.monotonic()
        while True:
            if must_stop():
                raise StopRequested
            try:
                _is_waiting = True
                torch._C._error_if_any_worker_fails()  # a worker may have died while nobody waited
                batch = next(batches, None)
                if isinstance(batch, SharedBatch):  # pinning unpacks
                    batch = batch.unpack()
            except StorageError as error:  # with a worker's traceback around it
                raise StorageError(str(error).strip().rpartition("StorageError: ")[2]) from None
            except (RuntimeError, OSError, EOFError) as error:  # a dead worker's queue fails in many ways
                _is_waiting = False  # or the signal of its death, when that comes second, would raise in here
                lines = str(error).splitlines() or [type(error).__name__]
                reason = lines[0].rstrip(".")
                if reason.startswith("DataLoader timed out"):  # its state is as before: it can be asked again
                    waited = time.monotonic() - waiting_since
                    if not 0 < timeout_seconds <= waited:
                        continue
                    reason = f"no batch for {waited:.0f} s"
                elif reason.startswith("Caught"):  # what the worker raised, with its traceback
                    reason = lines[-1]
                elif isinstance(error, OSError | EOFError):
                    reason = f"its connection broke: {reason}"
                raise LoaderError(
                    f"a loader worker died or hung ({reason}). --resume goes on; --batching.num-workers 0 does without "
                    "workers."
                ) from None
            finally:
                _is_waiting = False
            if batch is None:
                return
            yield batch
            waiting_since = time.monotonic()
    finally:
        for worker in batches._workers:  # type: ignore[attr-defined]
            worker.kill()  # torch gives each five seconds to end, and SIGTERM, which they ignore
        batches._shutdown_workers()  # type: ignore[attr-defined]


def _make_locks(num_workers: int) -> None:
    """Make the locks that a loader will make, and drop them: without room for them torch prints a traceback."""
    context = multiprocessing.get_context("fork")
    _ = context.Event(), [context.Queue() for _ in range(num_workers + 1)]


def _raise_only_while_waiting() -> None:
    """Let torch's SIGCHLD handler raise only while a batch is waited for, and not in the middle of an update."""
    installed = signal.getsignal(signal.SIGCHLD)
    if not callable(installed) or hasattr(installed, "is_tame"):
        return
    if threading.current_thread() is not threading.main_thread():  # no other may set a handler
        return

    def handler(number: int, frame: FrameType | None) -> None:
        if _is_waiting:
            installed(number, frame)

    handler.is_tame = True  # type: ignore[attr-defined]
    signal.signal(signal.SIGCHLD, handler)


def _ignore_signals(worker_id: int) -> None:
    """Ignore signals in a worker. A scheduler signals the whole process group; the training process decides."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
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
        shares: Shares = ALL,
    ) -> None:
        """A loader for `plan`. Its steps raise LoaderError if a worker dies or no batch comes for `timeout_seconds`.

        `shares` says which part of each batch this process trains on.
        """
        self.dataset, self.plan, self.shares = dataset, plan, shares
        self.num_workers, self.pin_memory, self.timeout_seconds = num_workers, pin_memory, timeout_seconds

    def steps(
        self, epoch: int, batches_done: int, must_stop: Callable[[], bool] = never
    ) -> Iterator[tuple[int, list[Batch], bool]]:
        """(epoch, batches of a step, whether they end the epoch), going on after `batches_done` of `epoch`.

        A rank of several gets its share of each batch, without rows if nothing is left for it.

        StopRequested between two steps once `must_stop`, also while a batch is waited for.
        """

        def requests() -> Iterator[Request]:
            for e, step, _ in self.plan.remaining(epoch, batches_done):
                yield from (share.request for share in self.shares.of_step(self.plan, e, step) if share.positions)

        batches = load_batches(
            self.dataset,
            requests,
            num_workers=self.num_workers,
            pin_memory=self.pin_memory,
            timeout_seconds=self.timeout_seconds,
            must_stop=must_stop,
        )
        for e, step, ends_epoch in self.plan.remaining(epoch, batches_done):
            shares = self.shares.of_step(self.plan, e, step)
            loaded = [share.complete(next(batches) if share.positions else None) for share in shares]
            if failures := {k: v for batch in loaded for k, v in batch.failures.items()}:
                what = "; ".join(f"utterance {k}: {v}" for k, v in failures.items())
                # This happens only without a store, which finds undecodable audio before the first step
                raise AudioError(f"{what} Mend the corpus, or leave such utterances out with --corpus.on-bad drop.")
            yield e, loaded, ends_epoch
