"""The processes of a run, and what they do together. A run of one process has a World too, whose methods do nothing.

    rank 0    the first: it alone writes to the screen, and to the run's folder
    host      a machine; its processes have the local ranks 0, 1, ..., and on CUDA the GPUs of these numbers

Three kinds of calls, from fast to slow:

    sum_, agree, gather, broadcast    collectives of torch.distributed. All processes are about as far
    meet, together                    through the store of torchrun: any process may come hours after another one
    local_first                       one process of each host after the other

Every process makes the same calls in the same order. A process that is gone makes them raise PeerLost in all others.
Nothing is ever pickled: values travel as JSON, tensors as their bytes.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from torch import Tensor

from trainer.errors import UserError
from trainer.parallel.launch import Launch

E = TypeVar("E", bound=UserError)


class World:
    """A run of one process. trainer.parallel.processes.Processes is a run of several, with the same methods."""

    backend = ""
    """What sums gradients, such as "gloo" or "nccl"; empty for a process alone."""

    def __init__(self, launch: Launch | None = None) -> None:
        self.launch = launch or Launch()
        self.host, self.pid = socket.gethostname(), os.getpid()

    @property
    def rank(self) -> int:
        """Number of this process, from 0."""
        return self.launch.rank

    @property
    def size(self) -> int:
        """Processes of the run."""
        return self.launch.size

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes."""
        return self.launch.is_first

    @property
    def is_alone(self) -> bool:
        """Whether there is nobody to talk to, so that all methods do nothing."""
        return True

    @property
    def name(self) -> str:
        """What this process is called in messages: `rank 3 on gpu-node-1`."""
        return f"rank {self.rank} on {self.host}"

    def sum_(self, tensor: Tensor) -> None:
        """Replace `tensor` by its sum over all processes. All get the same bits. On CUDA the host does not wait."""

    def has_summed(self) -> bool:
        """Whether the last `sum_` is complete. Not so for good when a process was gone before it took part."""
        return True

    def agree(self, values: Sequence[int]) -> list[int]:
        """The largest of each of these numbers over all processes. Between hosts, without a wait for any device."""
        return list(values)

    def gather(self, value: Any) -> list[Any]:
        """What each process gave, in the order of ranks. `value` is anything that JSON can hold."""
        return [value]

    def broadcast(self, value: Any) -> Any:
        """What rank 0 gave. `value` is anything that JSON can hold, and is not looked at in other processes."""
        return value

    def broadcast_tensors(self, tensors: Iterable[Tensor]) -> None:
        """Replace each of `tensors` by that of rank 0. All processes give as many, of the same shapes and types."""

    def meet(self, value: Any = None, *, what: str = "") -> list[Any]:
        """`gather` by way of the store, which waits as long as no process is gone. An error says that `what` was waited
        for."""
        return [value]

    @contextmanager
    def together(self, what: str) -> Iterator[None]:
        """Leave this context when all processes do. An error in one of them is raised in all; rank 0 tells it."""
        yield

    def shared(self, failures: Sequence[dict | None], own: BaseException | None) -> BaseException:
        """The error for all processes to raise, from what trainer.parallel.failures has recorded of each; None where
        nothing failed. `own` is the error of this process."""
        assert own is not None
        return own

    @contextmanager
    def local_first(self, what: str) -> Iterator[None]:
        """Let one process of each host go through this context before the others: it fills the cache for them."""
        yield

    def told(self, error: E) -> E:
        """`error`, which all processes raise: rank 0 tells it."""
        error.is_told = not self.is_first
        return error

    def quit(self) -> None:
        """Talk to nobody from now on: this process alone has failed, and the others are to notice."""

    def ask_to_stop(self) -> None:
        """Let `is_asked_to_stop` be True in all processes, soon."""

    def is_asked_to_stop(self) -> bool:
        """Whether a process has asked to stop. Looked up a few times a second at most."""
        return False

    def leave(self, *, failed: bool = False) -> None:
        """Take leave of the others. Whoever `failed` makes them raise PeerLost as soon as they miss it."""


ALONE = World()
