"""data.batches.loading: a stop request, a small /dev/shm and a thread, with workers and without."""

from __future__ import annotations

import errno
import multiprocessing
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from data.batches.collate import Batch, BatchDataset, Frontend
from data.batches.loading import StopRequested, load_batches
from data.batches.transfer import SharedBatch
from tests.helpers.batches import EXAMPLES, NUM_FRAMES, assert_equal, training_set
from trainer.errors import LoaderError

POSITIONS = [(3, 11, 5), (1,), (0, 2)]


def load(dataset: Any, num_workers: int, **options: Any) -> Iterator[Batch]:
    requests = ((0, positions) for positions in POSITIONS)
    return load_batches(dataset, lambda: requests, num_workers=num_workers, pin_memory=False, **options)


class Slow(BatchDataset):
    """Whose second batch takes ten seconds, in a call that hears no signal."""

    def __getitem__(self, key: Any) -> Batch:
        if key[1] == POSITIONS[1]:
            time.sleep(10)
        return super().__getitem__(key)


@pytest.mark.parametrize("rows", [None, [1] * 40])
def test_what_a_worker_sends_is_what_it_made(rows: list[int] | None) -> None:
    """Every field of every batch; with rows of a feature table no waveform: its tensor is empty."""
    dataset = training_set()
    dataset.frontend = Frontend(NUM_FRAMES, True, dataset.frontend.specaugment, rows)
    sent, made = list(load(dataset, 2)), [dataset[0, positions] for positions in POSITIONS]
    assert [batch.ids for batch in sent] == [batch.ids for batch in made]
    for a, b in zip(sent, made, strict=True):
        assert_equal(a, b)
        a.waveforms += 1  # views of memory of their own, which may be written


def test_tensors_need_no_room_in_dev_shm(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's own way, which fails where /dev/shm is full, is not gone; the workers inherit what is broken here."""

    def no_room(*args: object) -> None:
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)")

    monkeypatch.setattr(torch.UntypedStorage, "_share_fd_cpu_", no_room)
    monkeypatch.setattr(torch.UntypedStorage, "_share_filename_cpu_", no_room)
    dataset = BatchDataset(EXAMPLES, Frontend(NUM_FRAMES))
    assert [batch.ids for batch in load(dataset, 2, timeout_seconds=10)] == [
        dataset[0, positions].ids for positions in POSITIONS
    ]


@pytest.mark.filterwarnings("error")  # of what torch prints when its half-made iterator is collected
def test_no_room_for_locks_is_one_line_at_once_that_names_the_remedy(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def no_room(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("multiprocessing.synchronize._multiprocessing.SemLock", no_room)
    with pytest.raises(LoaderError, match=r"^the 2 loader workers cannot start \(No space left .* /dev/shm"):
        next(load(BatchDataset(EXAMPLES, Frontend(NUM_FRAMES)), 2))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_stop_request_is_honoured_within_a_second_while_a_batch_is_waited_for(num_workers: int) -> None:
    """The first batch comes, the second takes ten seconds; the request comes while it is waited for."""
    stop = threading.Event()
    batches = load(Slow(EXAMPLES, Frontend(NUM_FRAMES)), num_workers, must_stop=stop.is_set, timeout_seconds=600)
    assert next(batches).ids == ("u3", "u11", "u5")
    threading.Timer(0.1, stop.set).start()
    begin = time.perf_counter()
    with pytest.raises(StopRequested):
        next(batches)
    assert time.perf_counter() - begin < 1.1
    assert multiprocessing.active_children() == []


def test_a_worker_that_takes_longer_than_a_look_is_waited_for_up_to_the_limit() -> None:
    """Ten seconds against a limit of one, though the loader asks four times a second."""
    batches = load(Slow(EXAMPLES, Frontend(NUM_FRAMES)), 2, timeout_seconds=1)
    next(batches)
    begin = time.perf_counter()
    with pytest.raises(LoaderError, match=r"^a loader worker died or hung \(no batch for 1 s\)\."):
        next(batches)
    assert 0.9 < time.perf_counter() - begin < 3


@pytest.mark.parametrize("error", [TimeoutError("of the file system"), KeyError("x")])
def test_without_workers_an_error_of_the_data_set_is_its_own(error: Exception) -> None:
    class Broken(BatchDataset):
        def __getitem__(self, key: Any) -> Batch:
            raise error

    with pytest.raises(type(error)) as caught:
        next(load(Broken(EXAMPLES, Frontend(NUM_FRAMES)), 0))
    assert caught.value is error


@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_can_be_loaded_from_a_thread(num_workers: int) -> None:
    """Only the main thread may set signal handlers; the workers still ignore signals."""
    made: list[Any] = []

    def work() -> None:
        try:
            made.extend(batch.ids for batch in load(BatchDataset(EXAMPLES, Frontend(NUM_FRAMES)), num_workers))
        except BaseException as error:
            made.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(30)
    assert made == [("u3", "u11", "u5"), ("u1",), ("u0", "u2")]


def test_too_many_open_files_is_an_error_and_not_a_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Raised where the batch is made, so that it reaches the training process; torch loses such a batch."""

    def refuse(*args: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("data.batches.transfer.os.memfd_create", refuse)
    with pytest.raises(LoaderError, match=r"died or hung \(OSError: .*Too many open files"):
        next(load(BatchDataset(EXAMPLES, Frontend(NUM_FRAMES)), 1, timeout_seconds=20))


def test_a_shared_batch_is_unpacked_before_it_is_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the function of torch's that its pinning thread calls; pinning itself needs a GPU, so it is a copy here."""
    monkeypatch.setattr(torch.Tensor, "pin_memory", torch.Tensor.clone)
    batch = BatchDataset(EXAMPLES, Frontend(NUM_FRAMES))[0, (1, 2)]
    assert_equal(torch.utils.data._utils.pin_memory.pin_memory(SharedBatch(batch)), batch)
