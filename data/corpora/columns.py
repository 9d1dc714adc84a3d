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
SPEAKER = ("speaker", "speaker_id", "client_id", "spk", "spk_id", "speaker_name", "speakerid", "spkid")
"""Best first; the names of Common Voice (client_id, path, sentence), `datasets`' audiofolder (file_name,
transcription), SpeechBrain (wav, spk_id, wrd), DeepSpeech (wav_filename, transcript) are among these."""
TIMES = {
    "offset": ("offset",),
    "duration": ("duration", "dur", "duration_s", "duration_sec", "duration_seconds"),
    "start": ("start", "start_time", "start_s", "start_sec", "start_seconds", "begin", "begin_time", "segment_start"),
    "end": ("end", "end_time", "end_s", "end_sec", "end_seconds", "stop", "stop_time", "segment_end"),
}
_OTHER_UNIT = re.compile(
    r"(seg(ment)?_)?(offset|start|begin|onset|end|stop)(_time)?_?(ms|msec|millis(econds)?|samples?|frames?)"
)
_OTHER_END = re.compile(r"(seg(ment)?_)?(end|stop|length|len|dur(ation)?)(_.*)?")
_CHANNEL = ("channel", "channel_selector")
AGREEMENT = 0.05
"""Seconds by which end - start and a duration beside them may differ: rounding."""


def known_as(names: Sequence[str], columns: Iterable[str]) -> list[str]:
    """Those of `columns` that are one of `names`, in their order, whatever case, blanks and hyphens."""
    by_plain: dict[str, list[str]] = {}
    for column in columns:
        by_plain.setdefault(_plain(column), []).append(column)
    return [column for name in names for column in by_plain.get(name, ())]


def _plain(column: str) -> str:
    return re.sub(r"[ -]", "_", column.strip().lower())


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
    speaker: str | None = None
    offset: str | None = None
    duration: str | None = None
    start: str | None = None
    end: str | None = None
    unread: tuple[str, ...] = ()
    """Columns that would change what is heard, and are not read."""
    other_unit: str | None = None
    """A bound of a part of the file in milliseconds, samples or frames."""
    other_end: str | None = None
    """What may be the end or the length of a part of the file, under a name that is not known."""

    @classmethod
    def of(cls, columns: Sequence[str], audio: str, text: str) -> Columns:
        """What each of `columns` is, by its name; CorpusError where two columns say the same."""
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
        other_unit = next((column for column in others if _OTHER_UNIT.fullmatch(_plain(column))), None)
        other_end = next((column for column in others if _OTHER_END.fullmatch(_plain(column))), None)
        unread = tuple(known_as(_CHANNEL, columns))
        speaker = find_speaker(columns)
        return cls(audio, text, speaker, **bounds, unread=unread, other_unit=other_unit, other_end=other_end)


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
        if columns.other_unit and row.get(columns.other_unit) not in (None, ""):
            raise CorpusError(
                f'"{columns.other_unit}" is not read: give the part of the file as "offset" and "duration" or "start" '
                'and "end", in seconds; or rename it if the file is this utterance alone.'
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
