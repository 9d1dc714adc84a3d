"""Time the beam search against pyctcdecode and flashlight-text, in turns: the same log posteriors, n-gram model, width
and pruning.

    python -m scripts.bench.decoding.beam runs/demo recordings/ --lm words.arpa.gz [--width 100] [--rounds 5]

The model reads every recording once; then each side decodes all of them, first in one process with one thread, then in
`--processes` processes that were started before. Ours decodes them together, and once more one at a time; no round
profits from what another has looked up. All keep units above a log posterior of -5 (flashlight has no such option) and
beams within 10 of the best, which are pyctcdecode's own settings. flashlight writes only words of the model, so ours is
timed with that lexicon too.

Needs pyctcdecode and kenlm, which this project does not; flashlight-text is timed where it is installed.
"""

from __future__ import annotations

import gzip
import math
import multiprocessing
import re
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

LEAST, BEHIND, ALPHA, BETA, UNKNOWN = -5.0, 10.0, 0.5, 1.5, -10.0
Decode = Callable[["Sequence[np.ndarray]"], list[str]]
SIDES: dict[str, Decode] = {}
"""The decoders; processes that are forked find them here."""


def main(argv: Sequence[str] | None = None) -> int:
    """Print a table."""
    return report_errors(lambda: run(parse(argv)))


def parse(argv: Sequence[str] | None) -> Namespace:
    """The options of the command line."""
    parser = ArgumentParser(prog="python -m scripts.bench.decoding.beam", description=__doc__ or "")
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
    SIDES["pyctcdecode"] = _theirs(recognizer, args)
    SIDES["ours"] = _ours(recognizer, args, at_once=True)
    SIDES["ours, one at a time"] = _ours(recognizer, args, at_once=False)
    flashlight = _flashlight(recognizer, args)
    if flashlight is not None:
        SIDES["flashlight, words of the model"] = flashlight
        SIDES["ours, words of the model"] = _ours(recognizer, args, at_once=True, lexicon="lm")
        SIDES["ours, words of the model, one at a time"] = _ours(recognizer, args, at_once=False, lexicon="lm")
    parts = [log_probs[i :: args.processes] for i in range(args.processes)]
    texts = {side: decode(log_probs) for side, decode in SIDES.items()}
    cpu: dict[str, list[float]] = {side: [] for side in SIDES}
    wall: dict[str, list[float]] = {side: [] for side in SIDES}
    with multiprocessing.get_context("fork").Pool(args.processes) as pool:
        for side in SIDES:
            pool.starmap(_decode, [(side, part) for part in parts], chunksize=1)
        for _ in range(args.rounds):
            for side, decode in SIDES.items():
                before = time.process_time()
                decode(log_probs)
                cpu[side].append(time.process_time() - before)
            for side in SIDES:
                begin = time.perf_counter()
                pool.starmap(_decode, [(side, part) for part in parts], chunksize=1)
                wall[side].append(time.perf_counter() - begin)
    print(f"{len(log_probs)} utterances, {sum(map(len, log_probs)):,} frames; x: how much faster than pyctcdecode")
    print(f"| decoder | CPU seconds, one thread | x | wall seconds, {args.processes} processes | x | same text |")
    print("|---|---|---|---|---|---|")
    for side in SIDES:
        same = sum(a == b for a, b in zip(texts["pyctcdecode"], texts[side], strict=True))
        cells = [f"{_figures(of[side])} | {_ratios(of['pyctcdecode'], of[side])}" for of in (cpu, wall)]
        print(f"| {side} | {' | '.join(cells)} | {same} |")
    return 0


def _ratios(theirs: Sequence[float], ours: Sequence[float]) -> str:
    return _figures([a / b for a, b in zip(theirs, ours, strict=True)])


def _figures(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.2f} ({min(seconds):.2f} to {max(seconds):.2f})"


def _decode(side: str, part: Sequence[np.ndarray]) -> list[str]:
    return SIDES[side](part)


def _ours(recognizer: Recognizer, args: Namespace, *, at_once: bool, lexicon: str = "") -> Decode:
    import torch

    from trainer.decoding.beam import BeamOptions
    from trainer.decoding.decoder import build_decoder
    from trainer.decoding.fusion import Weights
    from trainer.decoding.settings import Decoding

    options = BeamOptions(width=args.width, min_log_prob=LEAST, max_behind=BEHIND)
    decoding = Decoding(args.lm, Weights(ALPHA, BETA, UNKNOWN), lexicon=lexicon, beam=options)
    decoder, vocab = build_decoder(recognizer.vocab, decoding, torch.device("cpu")), recognizer.vocab

    def decode(log_probs: Sequence[np.ndarray]) -> list[str]:
        fresh = decoder.with_weights(decoding.weights)  # without what the last round has looked up
        found = fresh.decode(log_probs) if at_once else [fresh.decode([one])[0] for one in log_probs]
        return [vocab.decode_to_compare(best.units) for best, *_ in found]

    return decode


def _arpa(path: Path) -> tuple[bytes, list[str]]:
    """An ARPA file without compression, which kenlm needs, and the words in it."""
    data = path.read_bytes()
    text = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    return text, re.findall(r"^\S+\t([^<\s]\S*)", text.decode().split("\\2-grams:")[0], re.M)


def _theirs(recognizer: Recognizer, args: Namespace) -> Decode:
    try:
        from pyctcdecode import build_ctcdecoder
    except ImportError as error:
        raise ConfigError(f"pyctcdecode cannot be imported ({error}): pip install pyctcdecode kenlm.") from None
    text, unigrams = _arpa(args.lm)
    vocab = recognizer.vocab
    special = {vocab.word_delimiter: " ", vocab.tokens[vocab.blank_id]: "", "[UNK]": "⁇", "<unk>": "⁇"}
    labels = [special.get(token, token) for token in vocab.tokens]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.arpa"
        path.write_bytes(text)
        decoder = build_ctcdecoder(labels, str(path), unigrams, alpha=ALPHA, beta=BETA)
    return lambda log_probs: [
        decoder.decode(x, beam_width=args.width, beam_prune_logp=-BEHIND, token_min_logp=LEAST) for x in log_probs
    ]


def _flashlight(recognizer: Recognizer, args: Namespace) -> Decode | None:
    """The decoder of flashlight-text over the words of the model; None where it is not installed."""
    try:
        from flashlight.lib.text import decoder as fl
        from flashlight.lib.text.decoder.kenlm import KenLM
        from flashlight.lib.text.dictionary import create_word_dict
    except ImportError:
        return None
    import numpy as np

    vocab, (text, words) = recognizer.vocab, _arpa(args.lm)
    blank, silence = vocab.blank_id, vocab.ids[str(vocab.word_delimiter)]
    spelled = {word: [*(vocab.ids[piece] for piece in vocab.split(word)), silence] for word in words}
    numbers = create_word_dict({word: [[]] for word in [*words, "<unk>"]})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.arpa"
        path.write_bytes(text)
        model = KenLM(str(path), numbers)
    trie, start = fl.Trie(len(vocab), silence), model.start(False)
    for word, units in spelled.items():
        number = numbers.get_index(word)
        trie.insert(units, number, model.score(start, number)[1])
    trie.smear(fl.SmearingMode.MAX)
    options = fl.LexiconDecoderOptions(
        args.width, len(vocab), BEHIND, ALPHA * math.log(10), BETA, UNKNOWN, 0.0, True, fl.CriterionType.CTC
    )
    unknown = numbers.get_index("<unk>")
    decoder = fl.LexiconDecoder(options, trie, model, silence, blank, unknown, [], False)

    at_end = np.where(np.arange(len(vocab)) == silence, 0.0, -99.0)[None]  # there a word ends with a delimiter only

    def decode(log_probs: Sequence[np.ndarray]) -> list[str]:
        texts = []
        for one in log_probs:
            one = np.concatenate([one, at_end]).astype(np.float32)
            best = decoder.decode(one.ctypes.data, *one.shape)[0]
            texts.append(" ".join(numbers.get_entry(word) for word in best.words if word >= 0))
        return texts

    return decode


if __name__ == "__main__":
    sys.exit(main())
