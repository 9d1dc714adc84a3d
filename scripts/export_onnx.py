"""Export a fine-tuned model to ONNX, and check the file against PyTorch under onnxruntime.

    python -m scripts.export_onnx runs/demo/model
    python -m scripts.export_onnx runs/demo/model --int8 --manifest test.jsonl --out speech.onnx

MODEL is a folder that a run exported, or the hub id of a fine-tuned model. The graph takes waveforms (batch, samples)
of 16 kHz and waveform_lengths (batch), and gives logits (batch, frames, units) and frame_lengths (batch). With
--manifest (audio_filepath, text) the word error rates of all versions are measured; without it the check is on noise.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data.config import ManifestConfig
from data.corpora.manifest import ManifestCorpus
from data.text import NORMALIZERS, collapse_spaces
from data.utterance import SAMPLE_RATE
from trainer.arguments import ArgumentParser
from trainer.cli import report_errors
from trainer.config import ConfigError

TOLERANCE, NUM_COMPARED = 1e-4, 50


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 exported and equal, 1 not equal to PyTorch, 2 something in options, model or data is wrong."""
    return report_errors(lambda: run(parse(argv)))


def parse(argv: Sequence[str] | None) -> Namespace:
    """The command line's options; ConfigError when they cannot be."""
    parser = ArgumentParser(prog="python -m scripts.export_onnx", description=(__doc__ or "").strip())
    parser.add_argument("model", metavar="MODEL", help="folder or hub id")
    parser.add_argument("--out", type=Path, help="file to write (default: model.onnx, in MODEL if it is a folder)")
    parser.add_argument("--int8", action="store_true", help="write OUT.int8.onnx too: 8-bit weights, for CPUs")
    parser.add_argument("--manifest", help="utterances with references to measure on: .jsonl, .csv or .tsv")
    parser.add_argument("--normalizer", choices=NORMALIZERS, default="plain",
                        help="of the references, as in training (default: plain)")  # fmt: skip
    parser.add_argument("--revision", help="branch, tag or commit of a hub model")
    return parser.parse_args(argv)


def run(args: Namespace) -> int:
    """Export, compare, measure; a line for each."""
    missing = [name for name in ("onnx", "onnxruntime", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f'the export needs {", ".join(missing)}, not installed here: pip install ".[onnx]"')
    waveforms, references = read_manifest(args.manifest, args.normalizer) if args.manifest else (noise(), [])

    from models.onnx_graph import write_onnx
    from trainer.onnx_check import max_deviation, open_graph, pytorch, quantize, word_errors
    from trainer.transcribe import load_recognizer

    recognizer = load_recognizer(args.model, args.revision, "cpu")
    if args.out is not None and (args.out.is_dir() or args.out.suffix != ".onnx"):
        raise ConfigError(f"--out {args.out}: name a file that ends in .onnx.")
    path = args.out or (Path(args.model) if Path(args.model).is_dir() else Path()) / "model.onnx"
    metadata = {
        "tokens": json.dumps(recognizer.vocab.tokens, ensure_ascii=False),
        "blank_id": str(recognizer.vocab.blank_id),
        "sample_rate": str(SAMPLE_RATE),
    }
    try:
        write_onnx(recognizer.model, recognizer.do_normalize, path, metadata)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror or error}). Give another --out.") from None
    versions = {"PyTorch": pytorch(recognizer), "ONNX": open_graph(path)}
    compared = [w for w in waveforms if recognizer.model.num_frames(len(w)) > 0][:NUM_COMPARED]
    batch_size = 8 if recognizer.model.is_batch_invariant else 1
    deviation = max_deviation(versions["PyTorch"], versions["ONNX"], compared, batch_size)
    kind = "utterances" if references else "stretches of noise"
    print(
        f"{path}: {megabytes(path)}; largest difference of a logit from PyTorch's {deviation:.1e} "
        f"({len(compared)} {kind}, in batches of {batch_size})"
    )
    if batch_size == 1:
        print("note: group norm over time: a batch must hold one utterance, or utterances of equal length")
    if args.int8:
        small = path.with_suffix(".int8.onnx")
        quantize(path, small)
        versions["int8"] = open_graph(small)
        print(f"{small}: {megabytes(small)}")
    if references:
        for name, logits in versions.items():
            counts = word_errors(recognizer, logits, waveforms, references)
            rate = f"{100 * counts.rate:.2f} %"
            print(f"{name:8} WER {rate} ({counts.num_errors} errors of {counts.num_reference} words)")
    if deviation > TOLERANCE:
        print(f"error: the exported graph differs from PyTorch by more than {TOLERANCE:g}.", file=sys.stderr)
        return 1
    return 0


def read_manifest(path: str, normalizer: str) -> tuple[list[np.ndarray], list[str]]:
    """(Waveforms, normalised references) of a manifest."""
    utterances = list(ManifestCorpus(ManifestConfig(eval=path)).utterances("eval"))
    return [u.audio.load() for u in utterances], [collapse_spaces(NORMALIZERS[normalizer](u.text)) for u in utterances]


def noise() -> list[np.ndarray]:
    """Noise of 0.3 to 8 s, always the same."""
    rng = np.random.default_rng(0)
    return [0.1 * rng.standard_normal(int(n)).astype(np.float32) for n in rng.integers(5000, 128_000, NUM_COMPARED)]


def megabytes(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.1f} MB"


if __name__ == "__main__":
    sys.exit(main())
