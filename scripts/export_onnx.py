"""Export a fine-tuned model to ONNX, and check the file against PyTorch under onnxruntime.

    python -m scripts.export_onnx runs/demo/model
    python -m scripts.export_onnx runs/demo/model --int8 --manifest test.jsonl --out speech.onnx

MODEL is a run (runs/demo), one of its checkpoints (runs/demo/checkpoints/best), a model folder, or the hub id of a
fine-tuned model. The graph takes waveforms (batch, samples) of 16 kHz and waveform_lengths (batch), and gives logits
(batch, frames, units) and frame_lengths (batch).

The command compares logits on 50 utterances and measures the word error rate of every version. The utterances come from
--manifest (audio_filepath, text), or else from the evaluation split of the run that MODEL belongs to
(runs/NAME/config.json). Without either, it compares logits on noise and measures no word error rate.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.text.normalise import NORMALIZERS, collapse_spaces, normalizer
from data.text.phones import PhoneScoring
from data.text.units import as_written
from data.text.vocab import Vocab
from data.utterance import SAMPLE_RATE, Utterance
from trainer.cli.arguments import ArgumentParser, count
from trainer.cli.interpreter import describe_missing
from trainer.cli.parse import report_errors
from trainer.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np

    from trainer.recognize.transcribe import LoadedModel

TOLERANCE, NUM_COMPARED = 1e-4, 50
NUM_SCORED = 200
"""This many utterances of a run are scored, evenly spaced. A whole large corpus would take long on a CPU."""


@dataclass(frozen=True)
class Speech:
    """The speech that the versions are measured on."""

    kind: str
    waveforms: list[np.ndarray]
    references: list[str]
    """Normalised; empty for noise."""
    scoring: PhoneScoring | None = None
    """How TIMIT's phones are compared; None for what is compared as it stands."""


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 exported and equal, 1 not equal to PyTorch, 2 something in options, model or data is wrong."""
    return report_errors(lambda: run(parse(argv)))


def parse(argv: Sequence[str] | None) -> Namespace:
    """The options of the command line; ConfigError when they are impossible."""
    parser = ArgumentParser(prog="python -m scripts.export_onnx", description=(__doc__ or "").strip())
    parser.add_argument("model", metavar="MODEL", help="run, checkpoint, folder or hub id")
    parser.add_argument("--out", type=Path, help="file to write (default: model.onnx, in the model's folder)")
    parser.add_argument("--int8", action="store_true", help="write OUT.int8.onnx too: 8-bit weights, for CPUs")
    parser.add_argument("--manifest", help="utterances with references to measure on: .jsonl, .csv or .tsv")
    parser.add_argument("--normalizer", choices=NORMALIZERS, default="plain",
                        help="of a manifest's references, as in training (default: plain)")  # fmt: skip
    parser.add_argument("--language", default="", metavar="CODE",
                        help="language of a manifest's references, as in training")  # fmt: skip
    parser.add_argument("--utterances", type=count, metavar="N",
                        help=f"how many to measure on (default: all of a manifest, {NUM_SCORED} of a run)")  # fmt: skip
    parser.add_argument("--revision", help="branch, tag or commit of a hub model")
    parser.add_argument("--target-lang", metavar="LANG", help="language of a multilingual model (MMS), as tur")
    return parser.parse_args(argv)


def run(args: Namespace) -> int:
    """Export, compare and measure. Each prints a line."""
    missing = [name for name in ("onnx", "onnxruntime", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(describe_missing(", ".join(missing), extra="onnx"))
    if args.out is not None and (args.out.is_dir() or args.out.suffix != ".onnx"):
        raise ConfigError(f"--out {args.out}: name a file that ends in .onnx.")
    if args.manifest is not None and not Path(args.manifest).is_file():
        raise ConfigError(f"--manifest {args.manifest}: no such file.")
    from models.checkpoints.onnx_graph import write_onnx
    from trainer.recognize.onnx_check import max_deviation, open_graph, pytorch, quantize, word_errors
    from trainer.recognize.transcribe import load_recognizer
    from trainer.scoring.metrics import describe_rule, units_written

    recognizer = load_recognizer(args.model, args.revision, "cpu", args.target_lang)
    model = Path(recognizer.source)
    if args.manifest is None:
        speech = read_run(model, recognizer.vocab, args.utterances or NUM_SCORED)
    else:
        normalize = as_written if recognizer.vocab.phonemes else normalizer(args.normalizer, args.language)
        speech = read_manifest(args.manifest, normalize, args.utterances)
    recognizer, speech = in_one_form(recognizer, speech)
    compared = [w for w in speech.waveforms if recognizer.model.num_frames(len(w)) > 0][:NUM_COMPARED]
    if not compared:
        raise ConfigError(f"{speech.kind}: each is shorter than a frame of the model, so there is nothing to compare.")
    path = args.out or default_path(model)
    metadata = {
        "tokens": json.dumps(recognizer.vocab.tokens, ensure_ascii=False),
        "blank_id": str(recognizer.vocab.blank_id),
        "reading": json.dumps(reading_of(recognizer.vocab), ensure_ascii=False),
        "sample_rate": str(SAMPLE_RATE),
    }
    try:
        write_onnx(recognizer.model, recognizer.do_normalize, path, metadata)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror or error}). Give another --out.") from None
    versions = {"PyTorch": pytorch(recognizer), "ONNX": open_graph(path)}
    batch_size = 8 if recognizer.model.is_batch_invariant else 1
    deviation = max_deviation(versions["PyTorch"], versions["ONNX"], compared, batch_size)
    print(
        f"{path}: {megabytes(path)}; largest difference of a logit from PyTorch's {deviation:.1e} "
        f"(on {len(compared)} of {speech.kind}, in batches of {batch_size})",
        flush=True,
    )
    if batch_size == 1:
        print("note: group norm over time: a batch must hold one utterance, or utterances of equal length")
    if args.int8:
        small = path.with_suffix(".int8.onnx")
        quantize(path, small)
        versions["int8"] = open_graph(small)
        print(f"{small}: {megabytes(small)}")
    if not speech.references:
        print("note: no word error rate was measured; --manifest names utterances to measure it on")
    units, rule = units_written(recognizer.vocab), describe_rule(recognizer.vocab)
    label = units.label + (f" [{rule}]" if rule else "")
    for name, logits in versions.items() if speech.references else ():
        counts = word_errors(recognizer, logits, speech.waveforms, speech.references)
        rate = f"{100 * counts.rate:.2f} %"
        print(
            f"{name:8} {label} {rate} ({counts.num_errors:,} errors of {counts.num_reference:,} {units.name}, "
            f"{len(speech.waveforms)} of {speech.kind})",
            flush=True,
        )
    if not deviation <= TOLERANCE:  # NaN is not agreement either
        print(f"error: the exported graph differs from PyTorch by more than {TOLERANCE:g}.", file=sys.stderr)
        return 1
    return 0


def default_path(model: Path) -> Path:
    """In the model's folder; in the working folder for a hub model; in the run for a checkpoint, which is sealed."""
    from models.checkpoints.training_checkpoint import is_training_checkpoint
    from trainer.rundir.model_source import short_name

    if is_training_checkpoint(model):
        return model.parent.parent / f"{short_name(model)}.onnx"
    return (model if model.is_dir() else Path()) / "model.onnx"


def read_manifest(path: str, normalize: Callable[[str], str], number: int | None) -> Speech:
    """The utterances of a manifest, or `number` of them; AudioError when one cannot be read."""
    from data.corpora.manifest import ManifestConfig, ManifestCorpus

    utterances = list(ManifestCorpus(ManifestConfig(eval=path)).utterances("eval"))
    return speech_of(utterances, normalize, number or len(utterances), path)


def read_run(model: Path, vocab: Vocab, number: int) -> Speech:
    """`number` of the utterances that the run of `model` was scored on; noise if there are none."""
    import numpy as np

    from trainer.cli.console import Console
    from trainer.config.as_json import read_config
    from trainer.prepare.corpus import read_corpus
    from trainer.rundir.model_source import run_of

    run_dir, why = run_of(model), "it belongs to no run"
    if run_dir is not None:
        try:
            config = read_config(run_dir / "config.json", lenient=True)
            reading = read_corpus(config, Console(), training=False)
            split = reading.corpus.splits.headline
            normalize = config.corpus.text_rule(are_units=vocab.phonemes)
            speech = speech_of(reading.evaluation[split], normalize, number, f"{run_dir.name}'s {split}")
            return replace(speech, scoring=config.corpus.phone_scoring())
        except (ValueError, OSError) as error:
            why = str(error)
    print(f"warning: {model}: no speech to measure on: {why}", file=sys.stderr)
    rng = np.random.default_rng(0)
    lengths = rng.integers(5000, 128_000, NUM_COMPARED)
    noise = [0.1 * rng.standard_normal(int(n)).astype(np.float32) for n in lengths]
    return Speech(f"{NUM_COMPARED} stretches of noise", noise, [])


def speech_of(utterances: Sequence[Utterance], normalize: Callable[[str], str], number: int, origin: str) -> Speech:
    """`number` of the utterances, evenly spaced."""
    number = min(number, len(utterances))
    chosen = [utterances[i * len(utterances) // number] for i in range(number)]
    references = [collapse_spaces(normalize(u.text)) for u in chosen]
    return Speech(f"{len(utterances):,} utterances of {origin}", [u.audio.load() for u in chosen], references)


def in_one_form(recognizer: LoadedModel, speech: Speech) -> tuple[LoadedModel, Speech]:
    """Both with the references written as the model's units are: see trainer.prepare.vocabulary.spelled."""
    from trainer.cli.console import Console
    from trainer.prepare.vocabulary.spelled import fit_spelling

    recognizer.vocab.refuse_delimiter(speech.references)
    vocab = fit_spelling(recognizer.vocab, speech.references, "auto", recognizer.source, Console())
    vocab = replace(vocab, scoring=speech.scoring)
    references = [collapse_spaces(vocab.to_compare(text)) for text in speech.references]
    return replace(recognizer, vocab=vocab), replace(speech, references=references)


def reading_of(vocab: Vocab) -> dict[str, Any]:
    """How to make text of the units that the graph writes: what docs/use.md does with it."""
    return {
        "word_delimiter": vocab.word_delimiter,
        "delimiter_text": "" if vocab.phonemes else vocab.delimiter_text,
        "between_units": " " if vocab.phonemes else "",
        "lower_case": vocab.lower_case,
        "clean_up": vocab.clean_up,
    }


def megabytes(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.1f} MB"


if __name__ == "__main__":
    sys.exit(main())
