"""Measure how fast the audio of shards is read: what a loader's process does for each utterance, in random order.

    python -m scripts.bench.scale.shard_reading shards/train [--utterances 2000] [--processes 1]

The first process reads each utterance: its row of the index, its bytes, their digest, the samples at 16 kHz in fp32.
Seconds are those of the processor, so that they hold on a busy machine too; the clock's stand beside them. With several
processes each reads its share.
"""

from __future__ import annotations

import multiprocessing
import random
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

from trainer.cli.arguments import ArgumentParser, count
from trainer.cli.parse import report_errors

SAMPLE_RATE = 16_000


@dataclass(frozen=True)
class Reading:
    """What a process has read."""

    audio_seconds: float
    num_bytes: int
    cpu_seconds: float
    """Of reading and decoding."""
    fetching: float
    """CPU seconds of looking up, reading and comparing the bytes alone, in a pass of its own."""


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table."""
    return report_errors(lambda: run(parse(argv)))


def parse(argv: Sequence[str] | None) -> Namespace:
    """The options of the command line; ConfigError when they are impossible."""
    parser = ArgumentParser(prog="python -m scripts.bench.scale.shard_reading", description=__doc__ or "")
    parser.add_argument("shards", metavar="SHARDS", help="folder or address of packed shards")
    parser.add_argument("--utterances", type=count, default=2000, help="how many are read, at most all")
    parser.add_argument("--processes", type=count, default=1)
    parser.add_argument("--cache-dir", type=Path, default=Path("cache"), help="for what lies in an object store")
    return parser.parse_args(argv)


def run(options: Namespace) -> int:
    """Measure, and print the table."""
    from data.shards.table import Shards

    length = len(Shards(options.shards, options.cache_dir, 0).index)
    places = random.Random(0).sample(range(length), min(options.utterances, length))
    shares = [places[i :: options.processes] for i in range(options.processes)]
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        started = time.perf_counter()
        readings = pool.starmap(read, [(options.shards, options.cache_dir, share) for share in shares], chunksize=1)
        wall = time.perf_counter() - started
    audio, size, cpu, fetching = (sum(column) for column in zip(*map(astuple, readings), strict=True))
    print(f"{len(places):,} of {length:,} utterances in random order: {audio / 3600:.2f} h, {size / 1e6:,.0f} MB")
    print("| | CPU seconds | seconds of audio a CPU second | MB a CPU second |\n|---|---|---|---|")
    for name, seconds in (("read and decoded", cpu), ("of these, looked up, read and compared", fetching)):
        print(f"| {name} | {seconds:.2f} | {audio / seconds:,.0f} | {size / 1e6 / seconds:,.0f} |")
    who = f"{options.processes} process{'es' if options.processes > 1 else ''}"
    print(f"{who} took {wall:.1f} s by the clock for both passes, imports included.")
    return 0


def read(url: str, cache_dir: Path, places: Sequence[int]) -> Reading:
    """Read the utterances at `places`, once as bytes and once as samples."""
    from data.shards.table import ShardAudio, Shards, ShardTable

    table = ShardTable(Shards(url, cache_dir, 0))
    if places:
        table[places[0]].audio.load()  # what is imported for the first one
    started = time.process_time()
    num_bytes = 0
    for i in places:
        audio = table.utterance(i).audio
        assert isinstance(audio, ShardAudio)
        with audio.open() as file:
            num_bytes += len(file.read())
    fetched = time.process_time()
    num_samples = sum(len(table[i].audio.load()) for i in places)
    done = time.process_time()
    return Reading(num_samples / SAMPLE_RATE, num_bytes, done - fetched, fetched - started)


if __name__ == "__main__":
    sys.exit(main())
