"""Time the beam search against pyctcdecode: the same log posteriors, n-gram model, width and pruning, in turns.

    python -m scripts.bench.beam runs/demo recordings/ --lm words.arpa.gz [--width 100] [--rounds 5] [--processes 2]

The model reads every recording once; then both decode all of them, first in one process with one thread, then in
`--processes` processes that were started before. Needs pyctcdecode and kenlm, which this project does not. Both keep
units above a log posterior of -5 and beams within 10 of the best, which are pyctcdecode's own settings.
"""

from __future__ import annotations

import gzip
import multiprocessing
import re
import resource
import statistics
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.cli.arguments import ArgumentParser, count
from trainer.cli.parse import report_errors
from trainer.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np

    from trainer.recognizer import Recognizer

LEAST, BEHIND, ALPHA, BETA = -5.0, 10.0, 0.5, 1.5
Decode = Callable[["Sequence[np.ndarray]"], list[str]]
SIDES: dict[str, Decode] = {}
"""The two decoders; processes that are forked find them here."""


def main(argv: Sequence[str] | None = None) -> int:
    """Print a table."""
    return report_errors(lambda: run(parse(argv)))


def parse(argv: Sequence[str] | None) -> Namespace:
    """The options of the command line."""
    parser = ArgumentParser(prog="python -m scripts.bench.beam", description=__doc__ or "")
    parser.add_argument("model", metavar="MODEL", help="run or model folder")
    parser.add_argument("inputs", nargs="+", metavar="FILE_OR_FOLDER")
    parser.add_argument("--lm", type=Path, required=True, help="an ARPA file of words, gzip too")
    parser.add_argument("--width", type=count, default=100)
    parser.add_argument("--rounds", type=count, default=5)
    parser.add_argument("--processes", type=count, default=2)
    return parser.parse_args(argv)


def run(args: Namespace) -> int:
    """Both sides in turns."""
    import torch

    from trainer.recognize.recordings import find_all
    from trainer.recognizer import Recognizer

    torch.set_num_threads(1)
    recognizer = Recognizer(args.model, device="cpu")
    waveforms = [recording.load() for recording in find_all(args.inputs, Path("cache"), None)]
    logits = [torch.from_numpy(recognizer.logits(waveform)) for waveform in waveforms]
    log_probs = [one.float().log_softmax(-1).numpy() for one in logits]
    SIDES["pyctcdecode"], SIDES["ours"] = _theirs(recognizer, args), _ours(recognizer, args)
    parts = [log_probs[i :: args.processes] for i in range(args.processes)]
    texts = {side: decode(log_probs) for side, decode in SIDES.items()}
    cpu: dict[str, list[float]] = {side: [] for side in SIDES}
    wall: dict[str, list[float]] = {side: [] for side in SIDES}
    with multiprocessing.get_context("fork").Pool(args.processes) as pool:
        for side in SIDES:
            pool.starmap(_decode, [(side, part) for part in parts], chunksize=1)
        for _ in range(args.rounds):
            for side, decode in SIDES.items():
                before = _cpu_seconds()
                decode(log_probs)
                cpu[side].append(_cpu_seconds() - before)
            for side in SIDES:
                begin = time.perf_counter()
                pool.starmap(_decode, [(side, part) for part in parts], chunksize=1)
                wall[side].append(time.perf_counter() - begin)
    same = sum(a == b for a, b in zip(texts["pyctcdecode"], texts["ours"], strict=True))
    print(f"{len(log_probs)} utterances, {sum(map(len, log_probs)):,} frames, {same} with the same text")
    print(f"| decoder | CPU seconds, one thread | wall seconds, {args.processes} processes |\n|---|---|---|")
    for side in SIDES:
        print(f"| {side} | {_figures(cpu[side])} | {_figures(wall[side])} |")
    for name, seconds in (("one thread", cpu), (f"{args.processes} processes", wall)):
        ratios = [a / b for a, b in zip(seconds["pyctcdecode"], seconds["ours"], strict=True)]
        print(f"{name}: ours is {statistics.median(ratios):.2f} times as fast ({min(ratios):.2f} to {max(ratios):.2f})")
    return 0


def _figures(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.2f} ({min(seconds):.2f} to {max(seconds):.2f})"


def _decode(side: str, part: Sequence[np.ndarray]) -> list[str]:
    return SIDES[side](part)


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _ours(recognizer: Recognizer, args: Namespace) -> Decode:
    import torch

    from trainer.decoding.beam import BeamOptions
    from trainer.decoding.decoder import build_decoder
    from trainer.decoding.fusion import Weights
    from trainer.decoding.settings import Decoding

    options = BeamOptions(width=args.width, min_log_prob=LEAST, max_behind=BEHIND)
    decoding = Decoding(args.lm, Weights(ALPHA, BETA, -10.0), beam=options)
    decoder, vocab = build_decoder(recognizer.vocab, decoding, torch.device("cpu")), recognizer.vocab
    return lambda log_probs: [vocab.decode_to_compare(found[0].units) for found in decoder.decode(log_probs)]


def _theirs(recognizer: Recognizer, args: Namespace) -> Decode:
    try:
        from pyctcdecode import build_ctcdecoder
    except ImportError as error:
        raise ConfigError(f"pyctcdecode cannot be imported ({error}): pip install pyctcdecode kenlm.") from None
    data = args.lm.read_bytes()
    text = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    unigrams = re.findall(r"^\S+\t([^<\s]\S*)", text.decode().split("\\2-grams:")[0], re.M)
    vocab = recognizer.vocab
    special = {vocab.word_delimiter: " ", vocab.tokens[vocab.blank_id]: "", "[UNK]": "⁇", "<unk>": "⁇"}
    labels = [special.get(token, token) for token in vocab.tokens]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.arpa"
        path.write_bytes(text)  # kenlm reads no gzip here
        decoder = build_ctcdecoder(labels, str(path), unigrams, alpha=ALPHA, beta=BETA)
    return lambda log_probs: [
        decoder.decode(x, beam_width=args.width, beam_prune_logp=-BEHIND, token_min_logp=LEAST) for x in log_probs
    ]


if __name__ == "__main__":
    sys.exit(main())
