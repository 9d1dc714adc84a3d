"""Find the times at which a known text is said: forced alignment of recordings with their transcripts.

    python -m scripts.align runs/demo/model recordings/ --format ctm textgrid --out aligned/
    python -m scripts.align runs/demo/model corpus.jsonl --format json --out aligned/
    python -m scripts.align runs/demo/model TIMIT --split train --learn-times runs/demo/model/times.json
    python -m scripts.align runs/demo/model TIMIT --split test --evaluate

MODEL is a run (runs/demo), one of its checkpoints, a model folder, or the hub id of a fine-tuned model. The other
argument is a recording (NAME.wav, or another audio file, beside NAME.txt), a folder of them, a manifest (.jsonl, .csv,
.tsv), packed shards, or a TIMIT folder. Audio and transcripts may have any length. Words that are not heard and speech
that is not written are marked. docs/align.md tells more.
"""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from data.utterance import SAMPLE_RATE
from trainer.cli.arguments import ArgumentParser
from trainer.cli.parse import report_errors
from trainer.cli.streams import print_exactly, say
from trainer.errors import ConfigError, CorpusError

if TYPE_CHECKING:
    import numpy as np

    from trainer.align.inputs import Item
    from trainer.align.search import AlignOptions, Found, Prepared
    from trainer.align.times import SpikeTimes
    from trainer.recognize.transcribe import LoadedModel

FORMAT_NAMES = ("ctm", "unit-ctm", "textgrid", "json", "srt", "vtt")
RULE_NAMES = ("plain", "plain-upper", "hf-timit", "none")
TOGETHER_SECONDS = 120.0
"""Audio whose best paths are searched together."""


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 all aligned, 2 something in options, model, audio or transcripts is wrong."""
    return report_errors(lambda: run(parse(argv)))


def parse(argv: Sequence[str] | None) -> Namespace:
    """The options of the command line; ConfigError when they are impossible."""
    parser = ArgumentParser(prog="python -m scripts.align", description=(__doc__ or "").strip())
    parser.add_argument("model", metavar="MODEL", help="run, checkpoint, folder or hub id")
    parser.add_argument("source", metavar="FILE_OR_FOLDER", help="NAME.wav beside NAME.txt, a folder, or a corpus")
    parser.add_argument("--format", nargs="+", choices=FORMAT_NAMES, default=["ctm"], metavar="FORMAT",
                        help=f"one or more of {', '.join(FORMAT_NAMES)} (default: ctm)")  # fmt: skip
    parser.add_argument("--out", type=Path, help="folder for one file a recording and format (default: print)")
    parser.add_argument("--overwrite", action="store_true", help="replace files that are in --out already")
    parser.add_argument("--resume", action="store_true", help="keep files that are in --out, and write the rest")
    parser.add_argument("--split", choices=["train", "test", "train-no-sa", "test-no-sa", "dev", "core"],
                        default="test", help="of a TIMIT folder (default: test)")  # fmt: skip
    parser.add_argument("--force", action="store_true", help="align every word: none is left out, and no speech")
    parser.add_argument("--normalizer", choices=RULE_NAMES, default="plain",
                        help="how the transcripts become what the model writes (default: plain)")  # fmt: skip
    parser.add_argument("--language", default="", help="ISO 639 code: tr, az and lt have their own rules of case")
    parser.add_argument("--times", metavar="FILE",
                        help="correction of CTC's lag (default: times.json in the model's folder, if it is there; "
                        "none: words last from their first to their last frame)")  # fmt: skip
    parser.add_argument("--learn-times", type=Path, metavar="FILE",
                        help="learn that correction from a corpus with known times, and write it")  # fmt: skip
    parser.add_argument("--evaluate", action="store_true",
                        help="compare with a TIMIT folder's times, with and without the correction")  # fmt: skip
    parser.add_argument("--window", type=float, default=20.0, metavar="SECONDS",
                        help="longer recordings are read in windows of this length (default: 20)")  # fmt: skip
    parser.add_argument("--overlap", type=float, default=4.0, metavar="SECONDS",
                        help="what neighbouring windows share (default: 4)")  # fmt: skip
    parser.add_argument("--batch-size", type=int, default=4, help="windows that are read at once (default: 4)")
    parser.add_argument("--cache-dir", type=Path, default=Path("cache"), help="for the index of remote shards")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, ... (default: auto)")
    parser.add_argument("--revision", help="branch, tag or commit of a hub model")
    parser.add_argument("--target-lang", metavar="LANG", help="language of a multilingual model (MMS), as tur")
    args = parser.parse_args(argv)
    args.format = list(dict.fromkeys(args.format))
    if args.learn_times and (args.evaluate or args.times or args.out):
        raise ConfigError("--learn-times writes times and nothing else: leave out --evaluate, --times and --out.")
    return args


def run(args: Namespace) -> int:
    """Align everything. What cannot be aligned is named, and the others go on."""
    from trainer.align.formats import ONE_A_LINE
    from trainer.align.inputs import find_items

    if args.out is not None and args.out.exists() and not args.out.is_dir():
        raise ConfigError(f"--out {args.out} is a file. Name a folder.")
    items = find_items(args.source, args.split, args.cache_dir)
    if args.out is None and not args.evaluate and not args.learn_times:
        if len(args.format) > 1:
            raise ConfigError(
                f"--format {' '.join(args.format)}: several formats need a folder to go to, --out FOLDER."
            )
        if len(items) > 1 and args.format[0] not in ONE_A_LINE:
            raise ConfigError(f"{len(items)} recordings as {args.format[0]} need a folder to go to, --out FOLDER.")

    from trainer.align.align import AlignOptions
    from trainer.align.formats import FORMATS
    from trainer.align.lattice import FORCED, Costs
    from trainer.cli.deliver import check_resume, is_delivered, refuse_existing
    from trainer.recognize.transcribe import Windows, load_recognizer

    num_all, suffixes = len(items), [FORMATS[name][0] for name in args.format]
    check_resume(args.out, resume=args.resume, overwrite=args.overwrite)
    if not args.learn_times:
        names = (item.name for item in items if not isinstance(item, CorpusError))
        refuse_existing(args.out, names, suffixes, overwrite=args.overwrite or args.resume)
    if args.resume:
        items = [i for i in items if isinstance(i, CorpusError) or not is_delivered(args.out, i.name, suffixes)]
    windows = Windows(args.window, args.overlap, args.batch_size)
    options = AlignOptions(FORCED if args.force else Costs(), args.normalizer, args.language, windows)
    recognizer = load_recognizer(args.model, args.revision, args.device, args.target_lang)
    begin, tally = time.perf_counter(), Tally()
    found = find_all(recognizer, items, options, tally, has_known_times=args.evaluate or args.learn_times is not None)
    if args.learn_times:
        learn_times(recognizer, found, args.source, args.learn_times)
    else:
        align_all(args, recognizer, found, tally)
    seconds = time.perf_counter() - begin
    factor = f", real-time factor {seconds / tally.seconds:.3f}" if tally.seconds else ""
    kept = f", {num_all - len(items)} were there already" if len(items) < num_all else ""
    done = f"{len(items) - tally.errors} of {num_all} recordings{kept}"
    say(f"{done}, {tally.seconds:.1f} s of audio in {seconds:.1f} s{factor}")
    return 2 if tally.errors else 0


@dataclass
class Tally:
    """What was read so far."""

    seconds: float = 0.0
    errors: int = 0

    def fail(self, error: CorpusError) -> None:
        """Tell and count what is wrong with one recording."""
        self.errors += 1
        say(f"error: {error}")


def find_all(
    recognizer: LoadedModel,
    items: Sequence[Item | CorpusError],
    options: AlignOptions,
    tally: Tally,
    *,
    has_known_times: bool,
) -> Iterator[tuple[Item, Prepared, Found]]:
    """Each recording that can be aligned, with the frames of its units. What is wrong with another one is told.

    With `has_known_times`, or where the model writes phonemes and the corpus has them, it is not the transcript that is
    aligned but the labels of the known times.
    """
    from tqdm import tqdm

    from data.audio.sides import FirstApart
    from trainer.align.align import find_many
    from trainer.align.inputs import with_known_times

    sides = FirstApart()
    batch: list[tuple[Item, np.ndarray]] = []

    def finish() -> Iterator[tuple[Item, Prepared, Found]]:
        several = find_many(recognizer, [(item.title, waveform, item.text) for item, waveform in batch], options)
        for (item, _), one in zip(batch, several, strict=True):
            if isinstance(one, CorpusError):
                tally.fail(one)
            else:
                tally.seconds += one[0].num_samples / SAMPLE_RATE
                yield item, *one
        batch.clear()

    for item in tqdm(items, file=sys.stderr, leave=False, unit="file", disable=None):
        if isinstance(item, CorpusError):
            tally.fail(item)
            continue
        try:
            waveform, vocab = item.load(), recognizer.vocab
            if sides.of_file(Path(item.origin)):
                say(
                    f"warning: {item.title}: each channel has its own sound: a speaker on either side? They are "
                    'averaged; a manifest with a column "channel" says which one a text belongs to'
                )
            if has_known_times or (vocab.phonemes and item.phones):
                item = with_known_times(item, phones=vocab.phonemes, units=vocab.writable, num_samples=len(waveform))
            batch.append((item, waveform))
        except CorpusError as error:
            tally.fail(error)
        if sum(len(waveform) for _, waveform in batch) > TOGETHER_SECONDS * SAMPLE_RATE:
            yield from finish()
    yield from finish()


def learn_times(
    recognizer: LoadedModel, found: Iterable[tuple[Item, Prepared, Found]], source: str, path: Path
) -> None:
    """Learn the distances from spikes to known boundaries, and write them to `path`."""
    from trainer.align.boundaries import learn
    from trainer.align.reading import word_spikes
    from trainer.align.times import save_times

    aligned = ((word_spikes(recognizer, prepared, frames), item.segments) for item, prepared, frames in found)
    times = learn(aligned, source)
    save_times(times, path)
    say(f"{path}: learned from {times.source}")


def align_all(
    args: Namespace, recognizer: LoadedModel, found: Iterable[tuple[Item, Prepared, Found]], tally: Tally
) -> None:
    """Write or print every alignment, or compare it with what is known."""
    from trainer.align.boundaries import HEADER, BoundaryErrors, describe
    from trainer.align.formats import FORMATS
    from trainer.align.reading import to_alignment
    from trainer.cli.deliver import deliver

    times = choose_times(args.times, recognizer.source, recognizer.vocab.writable)
    without, with_times = BoundaryErrors(), BoundaryErrors()
    for item, prepared, frames in found:
        alignment = replace(to_alignment(recognizer, prepared, frames, times), label=item.name.as_posix())
        for note in alignment.notes:
            say(f"warning: {item.title}: {note}")
        if args.evaluate:
            known = item.segments
            with_times.add(alignment, known)
            without.add(to_alignment(recognizer, prepared, frames, None), known)
        if args.out is not None or not args.evaluate:
            texts = [(suffix, write(alignment)) for suffix, write in map(FORMATS.__getitem__, args.format)]
            try:
                deliver(texts, args.out, item.name, item.title, keep=args.resume)
            except CorpusError as error:
                tally.fail(error)
    if args.evaluate:
        rows = [HEADER, describe("frames", without)] + [describe("learned", with_times)] * (times is not None)
        print_exactly("\n".join(rows) + "\n")


def choose_times(asked: str | None, source: str, units: Collection[str]) -> SpikeTimes | None:
    """The file that --times names, or the one beside the model, which writes `units`; None with `none`, or where there
    is no such file."""
    from trainer.align.times import load_times, times_beside

    if asked == "none":
        return None
    return times_beside(source, units) if asked is None else load_times(Path(asked), units)


if __name__ == "__main__":
    sys.exit(main())
