"""Compute the frozen feature encoder's output of many utterances, in calls that all have one shape.

    utterances          |---- a ----|-- b --|------------ c ------------|- d -|
    calls of S samples  [a . b . c1 .][c2 . d . 0 0 0]

A call is a waveform (1, S) that holds utterances end to end, each after the first at the next multiple of the
encoder's stride. S is a number of slots of one stride each: a slot's row of the output is a frame of an utterance, or
it sees two utterances (the slots marked "." above) and is left out. A call is filled to its end: what is left of an
utterance goes into the next call, together with the samples that both parts' frames see. The last call is filled up
with silence.

Matrix products of one shape are computed by one kernel, so a frame's bits depend on what it sees alone, and not on its
neighbours or its place (tests/trainer/prepare/features/test_filling.py, tests/gpu/test_table.py). Group norm sees the
neighbours: an encoder that has it is not computed like this.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from data.audio.decode import normalize
from data.examples.prepare import Example
from data.machine.limits import num_cores
from models.ctc import CTCModel
from models.geometry import FrameGeometry
from models.layers.frontend import extract_features, layer_taps

NUM_SLOTS = {"cuda": 4096, "cpu": 96}
"""Device -> slots of a call, 20 ms each. On CUDA, 82 s give every layer work for the whole GPU and take 1.4 GB at the
width of the large models; on a CPU, 1.9 s stay near the caches. Another number may mean other kernels, hence other
bits: it is part of a table's key."""
MOST_READERS = 8
"""Threads that read and normalise utterances for a GPU."""
CALLS_AHEAD = 3
"""Calls that are prepared, or computed by a GPU, while the host goes on."""


@dataclass(frozen=True)
class Piece:
    """Consecutive frames of one utterance, computed in one call."""

    example: int
    samples: slice
    """The samples of the utterance that its frames see."""
    slot: int
    """The slot of its first frame."""
    num_frames: int


@dataclass(frozen=True)
class Call:
    """What is computed at once."""

    first_row: int
    """The row of its first frame in the table."""
    pieces: tuple[Piece, ...]

    @property
    def num_frames(self) -> int:
        """Rows of the table that it gives."""
        return sum(piece.num_frames for piece in self.pieces)

    @property
    def slots(self) -> np.ndarray:
        """int64 (num_frames,): the slots that hold frames, in the order of the table."""
        return np.concatenate([np.arange(p.slot, p.slot + p.num_frames) for p in self.pieces])


def plan_calls(lengths: Sequence[int], geometry: FrameGeometry, num_slots: int) -> list[Call]:
    """Calls of `num_slots` slots for utterances of `lengths` samples, in their order. Row 0 is left for padding."""
    between = max(0, -(-(geometry.receptive_field - geometry.stride) // geometry.stride))
    assert num_slots > between, "no room for a frame"
    calls: list[Call] = []
    pieces: list[Piece] = []
    row, slot = 1, 0

    def close() -> None:
        nonlocal row, slot
        if pieces:
            calls.append(Call(row, tuple(pieces)))
            row += calls[-1].num_frames
            pieces.clear()
        slot = 0

    for i, length in enumerate(lengths):
        done, num_frames = 0, geometry.num_frames(length)
        while done < num_frames:
            taken = min(num_frames - done, num_slots - between - slot)
            if taken < 1:
                close()
                continue
            pieces.append(Piece(i, geometry.seen(done, done + taken), slot, taken))
            done, slot = done + taken, slot + taken + between
    close()
    return calls


def compute_rows(
    model: CTCModel,
    examples: Sequence[Example],
    calls: Sequence[Call],
    *,
    do_normalize: bool,
    device: torch.device,
    autocast: Callable[[], AbstractContextManager],
) -> Generator[Tensor, None, None]:
    """The rows of each call, float32 (its num_frames, C) on `device`, in the order of the calls.

    Threads read and normalise the audio. On a CPU they also compute, a call in each of torch's threads. On CUDA the
    host runs at most CALLS_AHEAD calls ahead of the device.
    """
    on_cuda, num_threads = device.type == "cuda", torch.get_num_threads()
    num_workers = min(MOST_READERS, num_cores()) if on_cuda else num_threads
    num_samples = NUM_SLOTS[device.type] * model.geometry.stride
    with torch.inference_mode():
        taps = layer_taps(model.base.feature_extractor)

    def load(example: Example) -> np.ndarray:
        samples = example.load()
        return normalize(samples) if do_normalize else samples

    def work(call: Call, loaded: Mapping[int, Future[np.ndarray]], waveform: Tensor) -> Tensor:
        waveform.zero_()  # no frame sees what lies between, but odd numbers can be slow
        for piece in call.pieces:
            samples, begin = loaded[piece.example].result()[piece.samples], piece.slot * model.geometry.stride
            waveform.numpy()[begin : begin + len(samples)] = samples
        return waveform if on_cuda else compute(call, waveform)

    @torch.inference_mode()
    def compute(call: Call, waveform: Tensor) -> Tensor:
        slots = torch.from_numpy(call.slots)
        if on_cuda:  # memory that is not pinned would make the host wait
            slots = slots.pin_memory()
        with autocast():
            on_device = waveform[None].to(device, non_blocking=True)
            features = extract_features(model.base.feature_extractor, on_device, taps=taps)
            return features[0].float().index_select(0, slots.to(device, non_blocking=True))

    # Each thread computes alone, this one too: torch's own threads would wait for each other, and busily at that
    torch.set_num_threads(1)
    pool = ThreadPoolExecutor(num_workers, "features", torch.set_num_threads, (1,))
    computing: deque[torch.cuda.Event] = deque()

    def finish(call: Call, done: Future[Tensor]) -> Tensor:
        if not on_cuda:
            return done.result()
        rows = compute(call, done.result())
        computing.append(torch.cuda.Event())
        computing[-1].record(torch.cuda.current_stream(device))
        if len(computing) > CALLS_AHEAD:
            computing.popleft().synchronize()
        return rows

    try:
        waiting: deque[tuple[Call, Future[Tensor]]] = deque()
        loading: dict[int, Future[np.ndarray]] = {}
        for call in calls:
            for piece in call.pieces:
                if piece.example not in loading:
                    loading[piece.example] = pool.submit(load, examples[piece.example])
            # what it waits for was handed to the pool before it, so that the pool cannot block itself
            waveform = torch.empty(num_samples, pin_memory=on_cuda)
            waiting.append((call, pool.submit(work, call, loading, waveform)))
            last = call.pieces[-1].example
            loading = {last: loading[last]}  # the next call may begin with the rest of it
            if len(waiting) > num_workers * (not on_cuda) + CALLS_AHEAD:
                yield finish(*waiting.popleft())
        while waiting:
            yield finish(*waiting.popleft())
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(num_threads)  # new threads take over what was set last, in whichever thread
        if on_cuda:
            torch.cuda.empty_cache()  # a CUDA graph's own pool cannot use what was left over
