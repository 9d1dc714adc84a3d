"""What all parts need: the synthetic corpus; and what their figures depend on: the machine's own speed."""

from __future__ import annotations

import os
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from data.corpora.synthetic.tree import ensure_tree
from scripts.bench.lab.record import Record, parse_part
from trainer.cli.parse import report_errors
from trainer.errors import UserError


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 done, 1 no corpus, so that only the parts that need none can run, 2 no such device."""
    return report_errors(lambda: prepare(parse_part(argv, "prepare", __doc__ or "")))


def prepare(options: Namespace) -> int:
    """Synthesise the corpus; meanwhile time a dense product and a kernel launch."""
    record, begin = Record(options.out), time.perf_counter()
    with ThreadPoolExecutor(1) as pool:
        tree = pool.submit(ensure_tree, options.corpus, 0, options.cache_dir)
        measure_machine(options, record)
        try:
            tree.result()
        except UserError as error:
            record.add(corpus_error=str(error))
            print(f"error: {error}", file=sys.stderr)
            return 1
    record.add(corpus_seconds=round(time.perf_counter() - begin, 2))
    return 0


def measure_machine(options: Namespace, record: Record) -> None:
    """Name, versions and speed of the device. It imports torch, which takes seconds that the corpus needs anyway."""
    begin = time.perf_counter()
    import torch

    from scripts.bench.lab.timing import device_name, launch_microseconds, matmul_tflops
    from trainer.card.text import versions
    from trainer.device import choose_device

    device = choose_device(options.device)
    record.add(import_seconds=round(time.perf_counter() - begin, 2), device=device_name(device), versions=versions(),
               cpu_count=os.cpu_count(), num_threads=torch.get_num_threads())  # fmt: skip
    record.add(matmul_tflops=round(matmul_tflops(device, *((256, 5) if device.type == "cpu" else ())), 3),
               launch_us=round(launch_microseconds(device), 2))  # fmt: skip
    record.add(headline={key: record.found[key] for key in ("device", "matmul_tflops", "launch_us")})


if __name__ == "__main__":
    sys.exit(main())
