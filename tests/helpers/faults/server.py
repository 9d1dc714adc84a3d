"""The process that forks runs and lets them break themselves (see harness, faults).

Run as a program: one JSON request a line on stdin, one JSON answer a line on stdout.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import sys
import threading
from typing import Any

from tests.helpers.faults import faults


def child(request: dict[str, Any]) -> int:
    """The victim: its streams, its faults, then the command line's own way."""
    os.setpgid(0, 0)
    log = os.open(request["log"], os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o644)
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.close(log)
    os.close(null)
    os.environ.update(request["environment"])
    if request["torchrun"] is not None:
        return run_agent(request)
    return work(request)


def work(request: dict[str, Any]) -> int:
    """A rank breaks itself as it was asked to, then does what the command line does."""
    from trainer.cli.streams import fill_closed_streams
    from trainer.run import main

    for name, options in request["faults"]:
        getattr(faults, name)(**options)
    fill_closed_streams()
    return main(request["argv"])


def run_agent(request: dict[str, Any]) -> int:
    """torchrun itself, but for its workers: they are forked, and need not import torch again. Its exit code."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(**request["torchrun"], start_method="fork", monitor_interval=0.1)
    try:
        elastic_launch(config, end_with)(request)
    except (ChildFailedError, SignalException) as error:
        print(f"torchrun: {type(error).__name__}", file=sys.stderr)
        return 1
    return 0


def end_with(request: dict[str, Any]) -> None:
    """The whole life of a worker."""
    os.setsid()  # as torchrun does it for a command
    code = work(request)
    if code:
        sys.stderr.flush()
        os._exit(code)


def leave(code: int) -> None:
    """The interpreter's end, but for taking the modules apart, which takes a second in a process this large."""
    threading._shutdown()  # type: ignore[attr-defined]  waits for threads
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def serve() -> None:
    """Answer requests until stdin ends."""
    import torch

    torch.set_num_threads(1)
    import torch.distributed.launcher.api
    from transformers import Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor  # noqa: F401

    import trainer.session  # noqa: F401  what a run imports, and what transformers imports late

    gc.collect()
    gc.freeze()  # or every collection in a victim would copy the pages that it shares with this process
    for line in iter(sys.stdin.readline, ""):
        request = json.loads(line)
        if "ready" in request:
            answer = request
        elif "wait" in request:
            answer = {"status": os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])}
        else:
            pid = os.fork()
            if pid == 0:
                leave(child(request))
            answer = {"pid": pid}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    serve()
