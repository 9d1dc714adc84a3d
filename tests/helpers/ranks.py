"""Several processes that talk to each other as under torchrun, forked from this one: no second import of torch."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from trainer.parallel.joining import joined
from trainer.parallel.launch import Launch
from trainer.parallel.world import World


@dataclass(frozen=True)
class Ended:
    """How a rank ended."""

    code: int
    """Exit code, or minus the signal's number; 99 after an error that nobody expected."""
    result: Any
    """What its work returned; None if it did not return."""
    stderr: str


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def run_ranks(
    size: int, work: Callable[[Launch], Any], folder: Path, *, timeout: float = 120.0, absent: Sequence[int] = ()
) -> list[Ended]:
    """`work` in each of `size` ranks of one host, except those that are `absent`; how they ended.

    What `work` returns must fit into JSON. `folder` takes what the ranks print. A SystemExit is an exit code. Ranks
    that are not through in time are killed.
    """
    port, children = free_port(), {}
    folder.mkdir(parents=True, exist_ok=True)
    for rank in sorted(set(range(size)) - set(absent)):
        pid = os.fork()
        if pid == 0:
            _be_rank(Launch(rank, size, rank, size), port, work, folder)
        children[rank] = pid
    codes: dict[int, int] = {}
    end = time.monotonic() + timeout
    try:
        while len(codes) < len(children) and time.monotonic() < end:
            for rank in children.keys() - codes.keys():
                pid, status = os.waitpid(children[rank], os.WNOHANG)
                if pid:
                    codes[rank] = os.waitstatus_to_exitcode(status)
            time.sleep(0.01)
    finally:
        for rank in children.keys() - codes.keys():
            os.kill(children[rank], 9)
            os.waitpid(children[rank], 0)
    late = sorted(children.keys() - codes.keys())
    assert not late, f"ranks {late} did not end: {[(folder / f'{rank}.err').read_text() for rank in late]}"
    return [Ended(codes.get(rank, 0), _result(folder, rank), _stderr(folder, rank)) for rank in range(size)]


def in_worlds(size: int, work: Callable[[World], Any], folder: Path, **options: Any) -> list[Any]:
    """What `work` returns in each of `size` ranks, given their World; all must return."""
    cpu = torch.device("cpu")

    def join_and_work(launch: Launch) -> Any:
        with joined(launch, lambda local_rank: cpu) as world:
            return work(world)

    ended = run_ranks(size, join_and_work, folder, **options)
    assert [e.code for e in ended] == [0] * size, "\n".join(e.stderr for e in ended)
    return [e.result for e in ended]


def _be_rank(launch: Launch, port: int, work: Callable[[Launch], Any], folder: Path) -> None:
    """Never returns: this is the child's whole life."""
    code = 99
    try:
        for descriptor, name in ((1, "out"), (2, "err")):
            file = os.open(folder / f"{launch.rank}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(file, descriptor)
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
        names = {"RANK": launch.rank, "WORLD_SIZE": launch.size, "LOCAL_RANK": launch.local_rank,
                 "LOCAL_WORLD_SIZE": launch.local_size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}  # fmt: skip
        os.environ.update({name: str(value) for name, value in names.items()})
        torch.set_num_threads(1)
        result = work(launch)
        (folder / f"{launch.rank}.json").write_text(json.dumps(result))
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _result(folder: Path, rank: int) -> Any:
    path = folder / f"{rank}.json"
    return json.loads(path.read_text()) if path.exists() else None


def _stderr(folder: Path, rank: int) -> str:
    path = folder / f"{rank}.err"
    return path.read_text() if path.exists() else ""
