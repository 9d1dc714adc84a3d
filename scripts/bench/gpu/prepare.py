"""What all parts need: the synthetic corpus, and the device."""

from __future__ import annotations

import os
import sys
import threading
import time
from argparse import Namespace
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from data.corpora.synthetic.tree import ensure_tree
from scripts.bench.gpu.record import Record, parse_part
from trainer.cli.parse import report_errors
from trainer.errors import CorpusError, UserError


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 done, 1 no corpus, so that only the parts that need none can run, 2 no such device."""
    return report_errors(lambda: prepare(parse_part(argv, "prepare", __doc__ or "")))


def prepare(options: Namespace) -> int:
    """Synthesise the corpus; meanwhile look at the machine."""
    record, begin, no_device = Record(options.out), time.perf_counter(), threading.Event()

    def give_up(done: int, total: int) -> None:
        if no_device.is_set():
            raise CorpusError("nobody needs this corpus")

    with ThreadPoolExecutor(1) as pool:
        tree = pool.submit(ensure_tree, options.corpus, 0, options.cache_dir, progress=give_up)
        try:
            describe_machine(options, record)
        except BaseException:
            no_device.set()
            raise
        try:
            tree.result()
        except UserError as error:
            record.add(corpus_error=str(error))
            print(f"error: {error}", file=sys.stderr)
            return 1
    record.add(corpus_seconds=round(time.perf_counter() - begin, 2))
    return 0


def describe_machine(options: Namespace, record: Record) -> None:
    """Device, versions and cores. It imports torch, which takes seconds that the corpus needs anyway."""
    begin = time.perf_counter()
    import torch

    from trainer.card.text import versions
    from trainer.device import choose_device, device_model

    name = device_model(choose_device(options.device))
    record.add(headline={"device": name}, device=name, versions=versions(), cpu_count=os.cpu_count(),
               num_threads=torch.get_num_threads(), import_seconds=round(time.perf_counter() - begin, 2))  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
