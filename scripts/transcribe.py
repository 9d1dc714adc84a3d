"""Write down what is said in recordings, with the time and confidence of every word.

    python -m scripts.transcribe runs/demo/model speech.wav
    python -m scripts.transcribe runs/demo/model recordings/ --format srt json --out transcripts/
    python -m scripts.transcribe runs/demo/model speech.wav --lm words.arpa.gz --hot-word Saoirse
    python -m scripts.transcribe runs/demo/model s3://bucket/shards --part 3/16 --format json --out transcripts/

MODEL is a run (runs/demo), one of its checkpoints (runs/demo/checkpoints/best), a model folder, or the hub id of a
fine-tuned model. Audio may have any length. It may be wav, flac, ogg, mp3, aiff or another format of libsndfile; with
ffmpeg installed also m4a, mp4, webm and the like. A manifest (.jsonl, .csv, .tsv; no transcripts needed), and a folder
or an address of packed shards (scripts.shards), stand for their utterances.
"""

from __future__ import annotations

import itertools
import os
import sys
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from data.utterance import SAMPLE_RATE
from trainer.cli.arguments import ArgumentParser, count
from trainer.cli.parse import report_errors
from trainer.cli.streams import say
from trainer.decoding.options import add_options, is_asked
from trainer.errors import AudioError, ConfigError, CorpusError
from trainer.recognize.formats import FORMATS, ONE_A_LINE, WITH_CONFIDENCE
from trainer.recognize.transcript import TimedTranscript

if TYPE_CHECKING:
    import numpy as np

    from trainer.decoding.settings import Decoding
    from trainer.recognize.transcribe import Progress, Windows
    from trainer.recognizer import Recognizer

IN_A_RECORD = str.maketrans({"\t": "\\t", "\n": "\\n", "\r": "\\r"})
UNCALIBRATED = "not calibrated: they rank words, but are no probabilities"


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 all written down, 2 something in options, model or audio is wrong."""
    return report_errors(lambda: run(parse(argv)))


def parse(argv: Sequence[str] | None) -> Namespace:
    """The options of the command line; ConfigError when they are impossible."""
    parser = ArgumentParser(prog="python -m scripts.transcribe", description=(__doc__ or "").strip())
    parser.add_argument("model", metavar="MODEL", help="run, checkpoint, folder or hub id")
    parser.add_argument(
        "inputs", metavar="FILE_OR_FOLDER", nargs="+", help="audio, a folder with all below it, a manifest, or shards"
    )
    parser.add_argument("--format", nargs="+", choices=[*FORMATS, "txt"], default=["text"], metavar="FORMAT",
                        help=f"one or more of {', '.join(FORMATS)} (default: text)")  # fmt: skip
    parser.add_argument("--out", type=Path, help="folder for one file a recording and format (default: print)")
    parser.add_argument("--overwrite", action="store_true", help="replace files that are in --out already")
    parser.add_argument("--resume", action="store_true", help="keep files that are in --out, and write the rest")
    parser.add_argument("--window", type=float, default=20.0, metavar="SECONDS",
                        help="longer recordings are read in windows of this length (default: 20)")  # fmt: skip
    parser.add_argument("--overlap", type=float, default=4.0, metavar="SECONDS",
                        help="what neighbouring windows share (default: 4)")  # fmt: skip
    parser.add_argument("--batch-size", type=int, default=4, help="windows that are read at once (default: 4)")
    parser.add_argument(
        "--channel", type=count, metavar="N", help="of files, the first is 1 (default: the mean of all channels)"
    )
    parser.add_argument("--part", metavar="K/N", help="only the K-th of N equal stretches of all recordings")
    parser.add_argument("--cache-dir", type=Path, default=Path("cache"), help="for the index of remote shards")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, ... (default: auto)")
    parser.add_argument("--revision", help="branch, tag or commit of a hub model")
    parser.add_argument("--target-lang", metavar="LANG", help="language of a multilingual model (MMS), as tur")
    add_options(parser, auto="default: as an evaluation of this model has tuned it, else 0.5")
    parser.add_argument(
        "--nbest", type=count, default=0, metavar="N", help="the N best texts with scores, in JSON (a beam)"
    )
    args = parser.parse_args(argv)
    args.format = list(dict.fromkeys("text" if name == "txt" else name for name in args.format))
    if args.nbest and "json" not in args.format:
        raise ConfigError(f"--nbest {args.nbest}: only JSON has room for several texts. Give --format json.")
    return args


def run(args: Namespace) -> int:
    """Transcribe every input. A recording that cannot be read is named, and the others go on."""
    from tqdm import tqdm

    from data.audio.sides import FirstApart
    from data.shards.parts import read_part
    from trainer.recognize.recordings import find_all

    channel = None if args.channel is None else args.channel - 1
    recordings = find_all(args.inputs, args.cache_dir, read_part(args.part) if args.part else None, channel)
    if args.out is None and len(args.format) > 1:
        raise ConfigError(f"--format {' '.join(args.format)}: several formats need a folder to go to, --out FOLDER.")
    if args.out is None and len(recordings) > 1 and args.format[0] not in ONE_A_LINE:
        raise ConfigError(f"{len(recordings)} recordings as {args.format[0]} need a folder to go to, --out FOLDER.")
    if args.out is not None and args.out.exists() and not args.out.is_dir():
        raise ConfigError(f"--out {args.out} is a file. Name a folder.")

    from trainer.cli.deliver import check_resume, deliver, is_delivered, refuse_existing
    from trainer.recognize.transcribe import Windows, advise
    from trainer.recognizer import Recognizer

    names = output_names([(recording.path, recording.name) for recording in recordings])
    suffixes = [FORMATS[name][0] for name in args.format]
    check_resume(args.out, resume=args.resume, overwrite=args.overwrite)
    refuse_existing(args.out, names, suffixes, overwrite=args.overwrite or args.resume)
    windows = Windows(args.window, args.overlap, args.batch_size)
    decoding = choose_decoding(args) if is_asked(args) or args.nbest else None
    recognizer = Recognizer(
        args.model, revision=args.revision, device=args.device, language=args.target_lang, windows=windows
    )
    transcribe = recognizer.transcribe if decoding is None else by_beam(recognizer, decoding, windows, args.nbest)
    begin, num_samples, errors, is_cut, advice = time.perf_counter(), 0, 0, False, None
    num_emptied = num_kept = 0
    sides = FirstApart()
    is_many = len(recordings) > 1
    bar = partial(tqdm, file=sys.stderr, leave=False)
    files = bar(recordings, unit="file", disable=None if is_many else True)
    windows_bar = partial(bar, unit="batch", disable=True if is_many else None)
    for recording, name in zip(files, names, strict=True):
        path = recording.title
        if args.resume and is_delivered(args.out, name, suffixes):
            num_kept += 1
            continue
        try:
            waveform = recording.load()
            if channel is None and sides.of_file(recording.path):
                say(
                    f"warning: {path}: each channel has its own sound: a speaker on either side? They are averaged; "
                    "--channel 1 and --channel 2 read one after the other"
                )
            if advice is None and (advice := advise(recognizer.loaded, windows, len(waveform) / SAMPLE_RATE)):
                say(f"warning: {path}: {advice}")  # once: the others are no different
            transcript = transcribe(waveform, name=path, progress=windows_bar)
        except AudioError as error:
            errors += 1
            say(f"error: {error}")
            continue
        transcript = replace(transcript, label=name.as_posix(), channel=args.channel)
        num_samples += len(waveform)
        num_emptied += transcript.is_emptied
        is_cut |= len(waveform) > args.window * SAMPLE_RATE
        try:
            texts = in_formats(transcript, args.format, is_named=is_many and args.out is None)
            deliver(texts, args.out, name, path, keep=args.resume)
        except CorpusError as error:
            errors += 1
            say(f"error: {error}")
    if is_cut and not recognizer.loaded.model.is_batch_invariant:
        say("note: this encoder has a group norm over time, so reading long recordings in windows is an approximation")
    if WITH_CONFIDENCE & set(args.format):
        calibration = recognizer.loaded.calibration if decoding is None else None  # it is one of the best path
        say(f"note: confidences are {f'by {calibration.describe()}' if calibration else UNCALIBRATED}")
    if decoding is not None:
        from trainer.decoding.emptied import describe_emptied

        if emptied := describe_emptied(num_emptied, len(recordings) - errors - num_kept, decoding):
            say(f"warning: {emptied}")
    seconds = time.perf_counter() - begin
    audio = num_samples / SAMPLE_RATE
    done = len(recordings) - errors - num_kept
    kept = f", {num_kept} were there already" if num_kept else ""
    factor = f", real-time factor {seconds / audio:.3f}" if audio else ""
    say(f"{done} of {len(recordings)} recordings{kept}, {audio:.1f} s of audio in {seconds:.1f} s{factor}")
    return 2 if errors else 0


def by_beam(
    recognizer: Recognizer, decoding: Decoding, windows: Windows, num_best: int
) -> Callable[..., TimedTranscript]:
    """What transcribes in place of `recognizer.transcribe`."""
    from trainer.decoding.decoder import build_decoder
    from trainer.recognize.beam import transcribe_with

    decoder = build_decoder(recognizer.vocab, decoding, recognizer.loaded.device)
    for note in decoder.notes:
        say(f"note: {note}")

    def transcribe(audio: np.ndarray, name: str, progress: Progress) -> TimedTranscript:
        waveform, _ = recognizer.read(audio, name=name)
        return transcribe_with(decoder, recognizer.loaded, name, waveform, windows, progress, num_best)

    return transcribe


def choose_decoding(args: Namespace) -> Decoding:
    """The beam that the options ask for. Weights that are not given are those that scripts.evaluate has tuned for this
    model and this language model, or the defaults, and a line says which."""
    from trainer.decoding.settings import AUTO, from_options, tuned_weights
    from trainer.rundir.model_source import model_name, run_of

    run_dir, found = run_of(Path(args.model)) or Path(args.model), None
    evaluation = run_dir.parent / f"evaluate-{model_name(args.model)}"
    if args.lm is not None and args.lm.is_file() and args.lm_weight in (None, AUTO):
        found = tuned_weights(evaluation, args.lm)
        if found is None and args.lm_weight == AUTO:
            raise ConfigError(
                f"--lm-weight auto: {evaluation} has no weights that were tuned for {args.lm}. Tune them: python -m "
                f"scripts.evaluate {args.model} PRESET --lm {args.lm}; or give --lm-weight and --word-score."
            )
    decoding = from_options(args, None if found is None else found[0])
    if args.lm is not None:
        origin = f"tuned on {found[1]} ({evaluation})" if found else "not tuned: scripts.evaluate --lm does that"
        say(f"note: {decoding.describe}; {'given' if args.lm_weight not in (None, AUTO) else origin}")
    return decoding


def output_names(recordings: Sequence[tuple[Path, Path]]) -> list[Path]:
    """For each (file, path below the given folder) the path below --out, without a suffix.

    If two paths are equal, all get the name of the folder above them in front, and of the next one if needed. x.wav
    beside x.flac keep their suffixes.

    >>> [str(p) for p in output_names([(Path("in/x.wav"), Path("x.wav")), (Path("in/y.wav"), Path("y.wav"))])]
    ['x', 'y']
    >>> [str(p) for p in output_names([(Path("a/x.wav"), Path("x.wav")), (Path("b/x.wav"), Path("x.wav"))])]
    ['a/x', 'b/x']
    """
    parts = [(Path(os.path.abspath(path)).parts[1:], len(name.parts)) for path, name in recordings]
    for more in itertools.count():
        names = [Path(*path[-(depth + more) :]) for path, depth in parts]
        if len(set(names)) == len(names):
            break
    counts = Counter(name.with_suffix("") for name in names)
    chosen = [name.with_suffix("") if counts[name.with_suffix("")] == 1 else name for name in names]
    return chosen if len(set(chosen)) == len(chosen) else names


def in_formats(transcript: TimedTranscript, formats: Sequence[str], *, is_named: bool) -> list[tuple[str, str]]:
    """(Suffix of a file, text) of each format; plain text begins with the recording's name if it `is_named`.

    A tab or a line end within the name is escaped there: lines are records.
    """
    named = f"{transcript.name.translate(IN_A_RECORD)}\t" if is_named else ""
    texts = []
    for format in formats:
        suffix, write = FORMATS[format]
        texts.append((suffix, (named if format == "text" else "") + write(transcript)))
    return texts


if __name__ == "__main__":
    sys.exit(main())
