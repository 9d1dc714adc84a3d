"""What the columns of a table mean: the names that are known, and the seconds of an utterance that is part of a file.

audio_filepath, text, speaker, id      also under the names that other tools give them, where just one column fits
duration                               of the whole file: a second opinion, never needed
offset, duration  or  start, end       the part of the file that is spoken (NeMo's and Kaldi's habit), in seconds
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from trainer.errors import CorpusError

AUDIO = ("audio_filepath", "audio", "audio_path", "audio_file", "audio_filename", "path", "file", "file_path",
         "filepath", "file_name", "filename", "wav", "wav_path", "wav_file", "wav_filename",
         "wav_filepath")  # fmt: skip
TEXT = ("text", "sentence", "transcript", "transcription", "txt", "wrd")
ID = ("id", "utt_id", "utterance_id", "uttid")
SPEAKER = ("speaker", "speaker_id", "client_id", "spk", "spk_id", "speaker_name", "speakerid", "spkid")
"""Best first; the names of Common Voice (client_id, path, sentence), `datasets`' audiofolder (file_name,
transcription), SpeechBrain (wav, spk_id, wrd), DeepSpeech (wav_filename, transcript) are among these."""
TIMES = {
    "offset": ("offset",),
    "duration": ("duration", "dur", "duration_s", "duration_sec", "duration_seconds"),
    "start": ("start", "start_time", "start_s", "start_sec", "start_seconds", "begin", "begin_time", "segment_start"),
    "end": ("end", "end_time", "end_s", "end_sec", "end_seconds", "stop", "stop_time", "segment_end"),
}
_OTHER_BOUND = re.compile(
    r"((seg(ment)?|utt(erance)?|clip|audio|speech|time|frame|sample|t)_)?"
    r"(offset|start|begin|onset|from|end|stop|to|t0|t1|tmin|tmax|xmin|xmax)"
    r"(_(time|offset|point|pos(ition)?|ms|msec|millis(econds)?|samples?|frames?|s|sec|seconds))*"
)
_PAIR = ("segment", "segments", "timestamp", "timestamps", "interval", "span", "bounds", "time")
"""Columns that may hold [start, end]."""
_OTHER_END = re.compile(r"(seg(ment)?_)?(end|stop|length|len|dur(ation)?)(_.*)?")
FROM_0 = ("channel_index", "channel_selector")
FROM_1 = ("channel_number",)
CHANNEL = ("channel", "channel_id", "audio_channel", "chan", *FROM_0, *FROM_1)
"""Which channel of the file is meant; the first two are counted from 0, the third from 1. Columns of YouTube's channels
and of microphones have these names too."""
_SPLIT = ("split", "set", "subset", "partition", "test_or_train")
_SPLIT_WORDS = {"train": "train", "training": "train", "test": "test", "testing": "test", **dict.fromkeys(
    ("dev", "development", "valid", "validation", "val", "eval", "evaluation"), "dev")}  # fmt: skip
_NO_NAME = ("", "nan", "NaN", "None", "null", "NULL", "<NA>")
"""What programs write for a name that they do not know; datasets and pandas among them."""
AGREEMENT = 0.05
"""Seconds by which end - start and a duration beside them may differ: rounding."""


def known_as(names: Sequence[str], columns: Iterable[str]) -> list[str]:
    """Those of `columns` that are one of `names`, in their order, however written: startTime, Start-Time, start (s)."""
    by_plain: dict[str, list[str]] = {}
    for column in columns:
        for plain in {_plain(column), _plain(column.lower())}:  # a capital may begin a word, or be a slip
            by_plain.setdefault(plain, []).append(column)
    return [column for name in names for column in by_plain.get(name, ())]


def _plain(column: str) -> str:
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", column.strip())
    words = re.sub(r"[ _]*[(\[]\s*(s|secs?|seconds)\s*[)\]]$", "", words)
    return re.sub(r"[ -]+", "_", re.sub(r"[()\[\]]", "", words).lower())


def name_of(value: object) -> str:
    """A speaker or an id as a string; empty where nothing is said (null, NaN).

    A whole number is the same with a point as without: a table with gaps makes floats of numbers.

    >>> name_of(12.0), name_of("s1"), name_of(float("nan"))
    ('12', 's1', '')
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def known_name(value: object) -> str | None:
    """The name of a speaker or a channel in a cell, or None where it is not known. The same one has one name in all
    tables.

    >>> known_name("12.0"), known_name(12), known_name(" s1 "), known_name("nan")
    ('12', '12', 's1', None)
    """
    name = name_of(value).strip()
    return None if name in _NO_NAME else re.sub(r"^([0-9]+)[.,]0$", r"\1", name)


def refuse_several_splits(column: str, values: Iterable[object]) -> None:
    """CorpusError when the column of `Columns.split` says of some rows that they are for training and of others not."""
    said = dict[str, object]()
    for value in values:
        word = re.match("[a-z]*", str(value).strip().lower())  # train of train-clean-100
        if word and word[0] in _SPLIT_WORDS:
            said.setdefault(_SPLIT_WORDS[word[0]], value)
    if len(said) > 1:
        listed = " and ".join(f'"{value}"' for value in said.values())
        raise CorpusError(
            f'"{column}" is {listed}, and a manifest is one split. Make one of the rows of each; or rename the column '
            "if all rows belong together."
        )


def find_column(columns: Sequence[str], wanted: str, names: Sequence[str], what: str) -> str:
    """The column named `wanted`, else the only one of `names`, which is empty where the user chose `wanted`.

    CorpusError says which columns there are, and that --corpus.`what`-field names one.
    """
    if wanted in columns:
        return wanted
    others = known_as(names, columns)
    exact = known_as([wanted], others)
    if len(exact or others) == 1:
        return (exact or others)[0]
    if others:
        listed = " and ".join(f'"{name}"' for name in others)
        raise CorpusError(f'no "{wanted}" field; {listed} may be it: name one with --corpus.{what}-field.')
    fields = ", ".join(map(str, columns)) or "none"
    raise CorpusError(f'no "{wanted}" field (fields: {fields}). Add it, or name it with --corpus.{what}-field.')


def find_speaker(columns: Sequence[str]) -> str | None:
    """The column that names the speaker: "speaker", or the best known other name."""
    return "speaker" if "speaker" in columns else next(iter(known_as(SPEAKER, columns)), None)


@dataclass(frozen=True)
class Columns:
    """Which column of a row holds what; None where there is none."""

    audio: str
    text: str
    id: str | None = None
    speaker: str | None = None
    offset: str | None = None
    duration: str | None = None
    start: str | None = None
    end: str | None = None
    channels: tuple[str, ...] = ()
    """What may say which channel of the file is meant (data.corpora.channels)."""
    other_bounds: tuple[str, ...] = ()
    """What may say which part of the file is meant: in milliseconds, samples or frames, or under another name."""
    other_end: str | None = None
    """What may be the end or the length of a part of the file, under a name that is not known."""
    split: str | None = None
    """What may say which split a row is of."""

    @classmethod
    def of(cls, columns: Sequence[str], audio: str, text: str) -> Columns:
        """What each of `columns` is, by its name; CorpusError where two columns say the same."""
        if len(sed := known_as(("onset", "offset"), columns)) == 2:  # sound event detection: an offset is an end
            raise CorpusError(f'"{sed[0]}" and "{sed[1]}": where is the end? Rename them "start" and "end".')
        bounds = {}
        for field, names in TIMES.items():
            found = known_as(names, [column for column in columns if column not in (audio, text)])
            if field in found:
                found = [field]
            if len(found) > 1:
                listed = " and ".join(f'"{name}"' for name in found)
                raise CorpusError(f"{listed} may both be the segment's {field}. Rename or remove one.")
            bounds[field] = found[0] if found else None
        others = [column for column in columns if column not in (audio, text, *bounds.values())]
        other_bounds = [column for column in others if _OTHER_BOUND.fullmatch(_plain(column))]
        other_pairs = [column for column in others if _plain(column) in _PAIR]
        other_end = next((column for column in others if _OTHER_END.fullmatch(_plain(column))), None)
        channels = tuple(known_as(CHANNEL, others))
        id = "id" if "id" in columns else next(iter(known_as(ID, others)), None)
        split = next(iter(known_as(_SPLIT, others)), None)
        return cls(
            audio, text, id, find_speaker(columns), **bounds,
            channels=channels, other_bounds=(*other_bounds, *other_pairs), other_end=other_end, split=split,
        )  # fmt: skip


@dataclass(frozen=True)
class Times:
    """What a row says of its audio, in seconds."""

    start: float = 0.0
    end: float | None = None
    """None: to the end of the file."""
    stated_duration: float | None = None
    """Of a whole file."""

    @property
    def is_segment(self) -> bool:
        return self.start > 0 or self.end is not None


def read_times(row: dict[str, Any], columns: Columns) -> Times:
    """The part of its file that a row is, or how long it says that the file is; CorpusError when that cannot be."""
    offset, start = _seconds(row, columns.offset), _seconds(row, columns.start)
    end, duration = _seconds(row, columns.end), _seconds(row, columns.duration)
    if offset is not None and start is not None and offset != start:
        raise CorpusError(f'"{columns.offset}" {offset:g} and "{columns.start}" {start:g} differ. Remove one.')
    begin = start if offset is None else offset
    if begin is None:
        if end is not None:
            raise CorpusError(f'"{columns.end}" without a start: add "start", or rename it if it is not in the audio.')
        for column in columns.other_bounds:
            value = row.get(column)
            if _is_pair(value) if _plain(column) in _PAIR else _may_be_bound(value):
                raise CorpusError(
                    f'"{column}" is not read: give the part of the file as "offset" and "duration" or "start" and '
                    '"end", in seconds; or rename it if the file is this utterance alone.'
                )
        return Times(stated_duration=duration if duration and duration > 0 else None)
    if begin < 0:
        raise CorpusError(f'"{columns.offset if offset is not None else columns.start}" {begin:g} is below 0.')
    to_the_end = end == -1  # in Kaldi's words
    if to_the_end:
        end = None
    if duration is not None and duration <= 0:
        raise CorpusError(f'"{columns.duration}" {duration:g} of a part of a file must be above 0 s.')
    if end is None and duration is not None:
        return Times(begin, begin + duration)
    if end is None and not to_the_end and (begin > 0 or start is not None or columns.other_end):
        lacks = f' ("{columns.other_end}" is not known)' if columns.other_end else ""
        raise CorpusError(
            f'a part of a file begins at {begin:g} s and has no end{lacks}: add "duration" or "end", in seconds; an '
            "end of -1 is the file's."
        )
    if end is None:
        return Times(begin)
    if end <= begin:
        raise CorpusError(f'"{columns.end}" {end:g} is not above its start, {begin:g}: both are seconds.')
    if duration is not None and abs(duration - (end - begin)) > AGREEMENT:
        raise CorpusError(
            f'"{columns.duration}" {duration:g} is not the {end - begin:g} s from {begin:g} to {end:g}: rename it if '
            "it is the whole file's, or mend the bounds."
        )
    return Times(begin, end)


def _may_be_bound(value: Any) -> bool:
    """Whether it is a number or a clock time."""
    if isinstance(value, str):
        return re.fullmatch(r"\s*[+-]?[0-9]+([.,:][0-9]+)*\s*", value) is not None
    return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_may_be_bound, value))


def _seconds(row: dict[str, Any], column: str | None) -> float | None:
    """A finite number, or None where nothing is said (no column, null, NaN, an empty cell)."""
    value = None if column is None else row.get(column)
    if isinstance(value, str):
        text = value.strip()
        if text.lower() in ("", "nan", "none", "null"):
            return None
        if not re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", text):
            raise CorpusError(
                f'"{column}" must be seconds such as 1.5, found {value!r}. Rename it if it is something else.'
            )
        value = float(text)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise CorpusError(
            f'"{column}" must be seconds such as 1.5, found {value!r}. Rename it if it is something else.'
        )
    if not abs(value) <= 1e9:
        raise CorpusError(f'"{column}" must be seconds such as 1.5, found {value!r:.40}. Mend it.')
    return float(value)
