"""What is to be aligned: NAME.wav beside NAME.txt, alone or in a folder, or a corpus.

What cannot be aligned is an error among them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from data.audio.files import files_below, open_regular
from data.audio.media import SUFFIXES, load_recording
from data.corpora.manifest import ManifestConfig, ManifestCorpus
from data.corpora.timit import TimitCorpus
from data.corpora.timit.labels import read_segments
from data.corpora.timit.tree import find_tree
from data.shards.table import Shards, ShardTable
from data.text.phones import PHONE_SETS, fold
from data.text.utf8 import wrong_byte
from data.utterance import Segment, Utterance
from trainer.errors import CorpusError
from trainer.recognize.recordings import MANIFESTS, file_names, is_shards

SENTENCE = re.compile(r"[0-9]{1,10} [0-9]{1,10} (.+)")
"""What a .TXT file of TIMIT holds: first and last sample, and the sentence."""
TRANSCRIPTS = frozenset([".txt", ".lab"])
"""Suffixes of what is said, beside a recording of the same name; .lab is what the Montreal Forced Aligner reads."""


@dataclass(frozen=True)
class Item:
    """A recording and what is said in it. No audio is read yet."""

    title: str
    """For messages: the file's path, or the utterance's id."""
    name: Path
    """Below --out, without a suffix."""
    load: Callable[[], np.ndarray]
    """float32 (num_samples,), mono at 16 kHz; AudioError when it cannot be read."""
    text: str
    words: tuple[Segment, ...] = ()
    phones: tuple[Segment, ...] = ()
    """The corpus' own times, where it has them."""
    origin: str = ""
    """Where the corpus found it."""
    segments: tuple[Segment, ...] = ()
    """The known times of the words of `text`; () where the text was not made of them."""


def find_items(source: str, split: str, cache_dir: Path) -> Sequence[Item | CorpusError]:
    """Everything that `source` holds, in a fixed order; CorpusError where it is none of these: shards, a manifest,
    a TIMIT tree, a recording beside its transcript, a folder of these.

    `split` is one of a TIMIT tree's.
    """
    path = Path(source)
    if is_shards(source):
        return _of_utterances(ShardTable(Shards(source, cache_dir, cache_bytes=0)))
    if path.is_file() and path.suffix.lower() in MANIFESTS:
        readings = ManifestCorpus(ManifestConfig(eval=source)).readings("eval")
        return _of_utterances(readings)
    if path.is_file():
        return [_beside(path)]
    if not path.is_dir():
        raise CorpusError(f"{source}: no such file or folder.")
    if _is_tree(path):
        found = _of_utterances(TimitCorpus(path, "hf", "plain").readings(split))
        if not found:
            raise CorpusError(f"{source}: holds no utterance of {split}. Give another --split.")
        return found
    return _pairs(path)


def _is_tree(path: Path) -> bool:
    try:
        find_tree(path)
    except CorpusError:
        return False
    return True


def _of_utterances(readings: Iterable[Utterance | CorpusError]) -> list[Item | CorpusError]:
    """The utterances as items, and what is wrong with others in its place."""
    readings = list(readings)
    names = iter(file_names([one.id for one in readings if not isinstance(one, CorpusError)]))
    return [
        one
        if isinstance(one, CorpusError)
        else Item(one.id, next(names), one.audio.load, one.text, one.words, one.phones, one.origin)
        for one in readings
    ]


def _beside(audio: Path) -> Item:
    """One recording, whatever its name, with the transcript beside it; CorpusError where there is none."""
    if audio.suffix.lower() in TRANSCRIPTS:
        raise CorpusError(f"{audio}: this is a transcript. Give the recording beside it, or the folder of both.")
    folder = audio.absolute().parent
    texts = [p for p in sorted(folder.iterdir()) if p.stem == audio.stem and p.suffix.lower() in TRANSCRIPTS]
    texts = [audio.parent / p.name for p in texts]
    found = _paired([audio], texts, audio.with_suffix(""), audio.parent)
    if isinstance(found, CorpusError):
        raise found
    return found


def _pairs(folder: Path) -> list[Item | CorpusError]:
    """NAME.wav (or another audio file) with NAME.txt or NAME.lab, anywhere below the folder."""
    audio: dict[Path, list[Path]] = {}
    texts: dict[Path, list[Path]] = {}
    for path in files_below(folder):
        suffix = path.suffix.lower()
        if suffix in SUFFIXES or suffix in TRANSCRIPTS:
            (texts if suffix in TRANSCRIPTS else audio).setdefault(path.with_suffix(""), []).append(path)
    if not audio:
        raise CorpusError(f"{folder}: no audio file in this folder. A recording is NAME.wav beside NAME.txt.")
    return [_paired(audio.get(stem, []), texts.get(stem, []), stem, folder) for stem in sorted({*audio, *texts})]


def _paired(files: Sequence[Path], transcripts: Sequence[Path], stem: Path, folder: Path) -> Item | CorpusError:
    """The item of what has one `stem`, or what is wrong with it. Beside a .txt, a .lab may be labels with times."""
    transcripts = [path for path in transcripts if path.suffix.lower() == ".txt"] or transcripts
    if len(files) > 1 or len(transcripts) > 1:
        twice = files if len(files) > 1 else transcripts
        return CorpusError(f"{twice[0]}: {' and '.join(p.name for p in twice[1:])} has the same name. Leave one.")
    if not files:
        return CorpusError(f"{transcripts[0]}: no audio of this name. Put {stem.name}.wav beside it.")
    if not transcripts:
        return CorpusError(f"{files[0]}: no transcript. Write what is said into {stem.name}.txt beside it.")
    item = Item(str(files[0]), stem.relative_to(folder), partial(load_recording, files[0]), "", origin=str(files[0]))
    try:
        text = read_text(transcripts[0])
        if of_timit := SENTENCE.fullmatch(" ".join(text.split())):
            words, phones = (_labels_beside(transcripts[0], suffix) for suffix in (".WRD", ".PHN"))
            if words or phones:
                return replace(item, text=of_timit[1], words=words, phones=phones)
    except CorpusError as error:
        return error
    return replace(item, text=text)


def _labels_beside(transcript: Path, suffix: str) -> tuple[Segment, ...]:
    """What TIMIT's file of that suffix says, in a folder that is a part of its tree; () where there is none."""
    found = [path for s in (suffix, suffix.lower()) if (path := transcript.with_suffix(s)).is_file()]
    return read_segments(found[0]) if found else ()


def read_text(path: Path) -> str:
    """The text of a file; CorpusError, with the line, where it is not UTF-8 or empty."""
    try:
        with open_regular(path) as file:
            raw = file.read()
    except OSError as error:
        raise CorpusError(f"{path}: {error.strerror or error}.") from None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, byte = wrong_byte(error)
        raise CorpusError(f"{path}:{line}: not UTF-8 (byte 0x{byte:02x}). Save it as UTF-8.") from None
    if not text.strip():
        raise CorpusError(f"{path}: the transcript is empty. Write down what is said.")
    return text


def with_known_times(item: Item, *, phones: bool, units: Collection[str] = (), num_samples: float = math.inf) -> Item:
    """`item` with the labels of its known words (or phones) as its text; CorpusError over times that cannot be, as
    those behind the audio's `num_samples`."""
    segments, kind = (item.phones, "PHN") if phones else (item.words, "WRD")
    if not segments:
        raise CorpusError(f"{item.title}: no times are known. They are in the .WRD and .PHN files of a TIMIT folder.")
    before = 0
    for number, segment in enumerate(segments, 1):
        wrong = "begins before the line above" if segment.start < before else ""
        if segment.end <= segment.start:
            wrong = "does not end after its beginning"
        elif segment.end > num_samples:
            wrong = f"ends behind the audio, which has {num_samples} samples"
        if wrong:
            line = f"{segment.start} {segment.end} {segment.label}"
            raise CorpusError(f"{_label_file(item, kind)}:{number}: {line!r} {wrong}. Mend the file.")
        before = segment.start
    if phones:
        segments = _in_units(segments, units)
    return replace(item, text=" ".join(segment.label for segment in segments), segments=segments)


def _in_units(phones: Sequence[Segment], units: Collection[str]) -> tuple[Segment, ...]:
    """TIMIT's phones in the classes that a vocabulary of `units` has: 39, 48 or TIMIT's own 61. A vocabulary has those
    that occur in training. Phones of another kind stay as they are."""
    known = next((name for name in sorted(PHONE_SETS) if set(units) <= set(PHONE_SETS[name])), None)
    if known is None:
        return tuple(phones)
    return tuple(phone._replace(label=label) for phone in phones for label in fold([phone.label], known))


def _label_file(item: Item, kind: str) -> str:
    """The path of a recording's .WRD or .PHN file, whose suffix may have any case."""
    audio = Path(item.origin)
    found = [path for path in audio.parent.glob(f"{audio.stem}.*") if path.suffix.upper() == f".{kind}"]
    return str(found[0]) if found else f"{item.title}.{kind}"
