"""A run of several processes, and how they talk. `trainer.parallel.joining` brings them together.

The backend is gloo on CPUs. On CUDA it is NCCL for tensors of GPUs, and gloo for what hosts tell each other.
"""

from __future__ import annotations

import contextlib
import copy
import json
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from trainer.errors import PeerLost
from trainer.parallel.failures import as_error, as_record, is_shared_kind
from trainer.parallel.launch import SECONDS_TO_BE_ENDED, Launch
from trainer.parallel.peers import SECONDS_BETWEEN_LOOKS, Peers
from trainer.parallel.store import LONGEST_NAP, agent_has_store, hear
from trainer.parallel.world import World

COLLECTIVE_SECONDS = 1800.0
"""A collective that takes longer has failed: some process hangs."""
SUM_PATIENCE = 10.0
"""Seconds in which a sum on GPUs ends, or never does: a process was gone before it took part."""
THROUGH, NOTICED = "first-is-through", "first-has-noticed"
SECONDS_TO_NOTICE = 10.0
"""A process that has failed goes after so long if rank 0 knows nothing of a failure."""
ASKED = "asked-to-stop"


class Processes(World):
    """The processes of a run, seen from one of them."""

    def __init__(self, launch: Launch, store: dist.Store, device: torch.device, present: Sequence[dict]) -> None:
        """All have met in `store`, where each has left what `present` holds: rank, host, machine, process id."""
        super().__init__(launch)
        self.store, self.device, self.peers = store, device, Peers(store, launch, present)
        self.backend = "nccl" if device.type == "cuda" else "gloo"
        self.is_broken = self.has_left = self.has_quit = False
        self._summed: torch.cuda.Event | None = None
        self._num_meetings, self._place = 0, "meeting"
        self._last_look = 0.0
        self._was_asked = False
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", store=dist.PrefixStore("group", store),
            rank=launch.rank, world_size=launch.size, timeout=timedelta(seconds=COLLECTIVE_SECONDS),
            device_id=device if device.type == "cuda" else None,
        )  # fmt: skip

    @property
    def is_alone(self) -> bool:
        return False

    def sum_(self, tensor: Tensor) -> None:
        with self._collective():
            dist.all_reduce(tensor)
        if tensor.is_cuda:
            self._summed = torch.cuda.Event()
            self._summed.record()

    def has_summed(self) -> bool:
        if self._summed is None:
            return True
        end = time.monotonic() + SUM_PATIENCE
        while not self._summed.query():
            if time.monotonic() >= end:
                return False
            time.sleep(0.01)
        return True

    def agree(self, values: Sequence[int]) -> list[int]:
        largest = torch.tensor(values, dtype=torch.int32)
        with self._collective():
            dist.all_reduce(largest, dist.ReduceOp.MAX, group=self.group)
        return largest.tolist()

    def gather(self, value: Any) -> list[Any]:
        own = _to_bytes(value)
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        with self._collective():
            dist.all_gather(sizes, torch.tensor([len(own)]), group=self.group)
            longest = max(int(size) for size in sizes)
            rows = [torch.empty(longest, dtype=torch.uint8) for _ in range(self.size)]
            dist.all_gather(rows, torch.cat([own, own.new_zeros(longest - len(own))]), group=self.group)
        return [_from_bytes(row[: int(size)]) for row, size in zip(rows, sizes, strict=True)]

    def broadcast(self, value: Any) -> Any:
        content = _to_bytes(value if self.is_first else None)
        size = torch.tensor([len(content)])
        with self._collective():
            dist.broadcast(size, 0)
            content = content if self.is_first else torch.empty(int(size), dtype=torch.uint8)
            dist.broadcast(content, 0)
        return _from_bytes(content)

    @torch.no_grad()
    def broadcast_tensors(self, tensors: Iterable[Tensor]) -> None:
        for tensor in tensors:
            content = tensor.detach().contiguous()
            with self._collective():
                dist.broadcast(content.view(-1).view(torch.uint8), 0)
            if not tensor.is_contiguous():
                tensor.copy_(content)

    def meet(self, value: Any = None, *, what: str = "") -> list[Any]:
        self._num_meetings += 1
        keys = [f"{self._place}/{self._num_meetings}/{rank}" for rank in range(self.size)]
        with self._collective():
            self.store.set(keys[self.rank], json.dumps(value))
            self._wait_for(dict(enumerate(keys)), what)
            return [json.loads(self.store.get(key)) for key in keys]

    @contextmanager
    def together(self, what: str) -> Iterator[None]:
        own: BaseException | None = None
        try:
            yield
        except BaseException as error:
            if not is_shared_kind(error) or isinstance(error, PeerLost):
                raise
            own = error
        failures = self.meet(None if own is None else as_record(own), what=what)
        if own is not None or any(failures):
            raise self.shared(failures, own) from None

    @contextmanager
    def noticing(self) -> Iterator[None]:
        try:
            yield
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            lost = self.peers.are_gone(self.peers.others(), patience=2.0)
            if not lost and "onnection" not in str(error):  # closed, or reset, by one on another host
                raise
            self.is_broken = True
            raise self._lost(lost, "") from None

    def aside(self) -> World:
        other = copy.copy(self)
        other.group = dist.new_group(backend="gloo", timeout=timedelta(seconds=COLLECTIVE_SECONDS))
        other._num_meetings, other._place = 0, "aside"
        return other

    @contextmanager
    def local_first(self, what: str) -> Iterator[None]:
        self._num_meetings += 1
        key = f"first/{self._num_meetings}/{self.rank - self.launch.local_rank}"
        first = self.rank - self.launch.local_rank
        if self.rank == first:
            failure: dict | None = None
            try:
                yield
            except BaseException as error:
                failure = as_record(error) if is_shared_kind(error) else None
                raise
            else:
                failure = {}
            finally:
                if failure is not None:
                    with contextlib.suppress(RuntimeError):
                        self.store.set(key, json.dumps(failure))
            return
        with self._collective():
            self._wait_for({first: key}, what)
            failure = json.loads(self.store.get(key))
        if failure:
            raise as_error(failure)
        yield

    def quit(self) -> None:
        if not self.has_quit:  # the first reason is the one that counts
            self.peers.say_gone(follows=self.is_broken)
        self.is_broken = self.has_quit = True

    def ask_to_stop(self) -> None:
        if not self._was_asked:
            self._was_asked = True
            with contextlib.suppress(RuntimeError):
                self.store.set(ASKED, "")

    def is_asked_to_stop(self) -> bool:
        if not self._was_asked and time.monotonic() - self._last_look >= SECONDS_BETWEEN_LOOKS:
            with contextlib.suppress(RuntimeError):  # a store that is gone is found by the next collective
                self._was_asked = self.store.check([ASKED])
            self._last_look = time.monotonic()
        return self._was_asked

    def leave(self, *, failed: bool = False) -> None:
        self.has_left = True
        if failed:
            self.quit()
        if dist.is_initialized() and not (self.is_broken and self.device.type == "cuda"):  # NCCL would wait for them
            with contextlib.suppress(RuntimeError):
                dist.destroy_process_group()

    def wait_for_first(self) -> None:
        """Wait until rank 0 has saved and told all. torchrun ends all processes as soon as it sees that one has ended
        before its time, so rank 0 must be that one."""
        with contextlib.suppress(RuntimeError):
            if self.is_first:
                self.store.set(THROUGH, "")
                hear(self.store, self.launch, [rank for rank in range(self.size) if not self.peers.has_died(rank)])
                return
            begin = time.monotonic()
            while not (self.store.check([THROUGH]) or self.peers.has_died(0)):
                knows = not self.is_broken or self.store.check([NOTICED])
                if time.monotonic() - begin > (COLLECTIVE_SECONDS if knows else SECONDS_TO_NOTICE):
                    break  # rank 0 may wait for this process in a collective, until it is gone
                time.sleep(LONGEST_NAP)
            hear(self.store, self.launch, ())
            if agent_has_store():
                time.sleep(SECONDS_TO_BE_ENDED)

    @contextmanager
    def _collective(self) -> Iterator[None]:
        """A collective fails when a process is gone; PeerLost then says which, if it can be known."""
        if self.is_broken:
            raise PeerLost(
                "the processes of this run no longer talk to each other. --resume goes on from the last save."
            )
        try:
            yield
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            self.is_broken = True
            self._cut_off(error)
            lost = self.peers.are_gone(self.peers.others(), patience=2.0)
            reason = str(error).splitlines()[0].rstrip(".")
            raise self._lost(lost, "" if lost else f" ({reason})") from None

    def _cut_off(self, error: RuntimeError) -> None:
        """Close the connections to the others after a collective failed, so that it fails in all of them: who waits for
        this process rather than for the one that is gone would not notice. (NCCL would wait for the others here.)"""
        traceback.clear_frames(error.__traceback__)  # they hold the group, whose end closes the connections
        if dist.is_initialized() and self.device.type != "cuda":
            with contextlib.suppress(RuntimeError):
                dist.destroy_process_group()

    def _wait_for(self, keys: dict[int, str], what: str) -> None:
        """Wait until each of these ranks has set its key; PeerLost once one of them is gone."""
        if lost := self.peers.wait_for(keys):
            raise self._lost(lost, f" while {what} was waited for" if what else "")

    def _lost(self, ranks: Sequence[int], detail: str) -> PeerLost:
        causes = self.peers.causes(ranks)
        names = ", ".join(self.peers.name_of(rank) for rank in causes) or "another process of the run"
        verb, who = ("are", "they") if len(causes) > 1 else ("is", "it")
        error = PeerLost(
            f"{names} {verb} gone{detail}; what {who} printed says why. --resume goes on from the last save."
        )
        error.is_told = self.rank != min(set(range(self.size)) - set(ranks)) and not self.peers.is_far(0)
        self.is_broken = True
        self._notice()
        return error

    def _notice(self) -> None:
        """Rank 0 lets the others know that it knows of a failure, and may take long to save."""
        if self.is_first:
            with contextlib.suppress(RuntimeError):
                self.store.set(NOTICED, "")

    def shared(self, failures: Sequence[dict | None], own: BaseException | None) -> BaseException:
        """The error that all processes raise for `failures`, one of each process: the first, as its process saw it."""
        self._notice()
        first = min((r for r, f in enumerate(failures) if f), key=lambda r: (failures[r]["is_request"], r))  # type: ignore[index]
        record = failures[first]
        assert record is not None
        everywhere = all(f == record for f in failures)
        error = as_error(record if everywhere or first == 0 else record | {"where": self.peers.name_of(first)})
        if own is not None and as_record(own) == record and everywhere:
            error = own
        error.is_told = not self.is_first  # type: ignore[attr-defined]
        return error


def _to_bytes(value: Any) -> Tensor:
    return torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)


def _from_bytes(content: Tensor) -> Any:
    return json.loads(content.numpy().tobytes())
