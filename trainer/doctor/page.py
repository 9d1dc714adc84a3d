"""doctor.html: the suspects of a run to hear, see, and decide on. One file that fetches nothing, the worst first.

The page lists the MOST_ROWS worst utterances that show a sign; as many of the first ones as fit have their audio and
picture in the file. What a person decides stays in the browser, and leaves it as a file for --corpus.patch.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from data.audio.decode import FileAudio
from data.plural import counted
from data.text.normalise import collapse_spaces
from data.text.utf8 import in_utf8
from data.utterance import SAMPLE_RATE
from trainer.cli.streams import one_line
from trainer.doctor.suspect import Suspect
from trainer.errors import AudioError
from trainer.report import shell
from trainer.report.html import LETTERS, to_script_json
from trainer.report.media import encode_audio, spectrogram, to_base64, wave_outline
from trainer.rundir.disk import write_text
from trainer.scoring.alignment import Edit, align_characters, align_words

NAME = "doctor.html"
MOST_ROWS = 5_000
"""Utterances that the page lists: more than a person decides on, and few enough for any browser."""
MOST_BYTES = 15_000_000
"""Of the page with its audio."""
MOST_AUDIO_SECONDS = 60.0
"""A longer utterance has no audio in the page: its picture could not be read."""
SCRIPTS = (("trainer.report", ("elements", "base", "words", "figure", "player")),
           ("trainer.doctor", ("decisions", "filters", "suspect", "list", "loading", "start")))  # fmt: skip
STYLES = (("trainer.report", ("report", "utterance")), ("trainer.doctor", ("doctor",)))
_LONG_WORD = 12
"""Characters a word has on the average in a script that puts no spaces between words, or more."""

Load = Callable[[Suspect], np.ndarray]
"""The waveform of a suspect, float32 (n,) at 16 kHz; AudioError where it cannot be read."""


def load_file(suspect: Suspect) -> np.ndarray:
    """Of a suspect whose audio is a file by itself. AudioError where it is none, as a part of a file or of a shard."""
    return FileAudio(Path(suspect.audio)).load()


def write_page(
    path: Path,
    name: str,
    suspects: Iterable[Suspect],
    load: Load | None = load_file,
    *,
    normalize: Callable[[str], str] = str,
    split: str = "train",
    is_training: bool = True,
    notes: Sequence[str] = (),
    most_bytes: int | None = MOST_BYTES,
    num_audio: int | None = None,
    progress: Callable[[Iterable[Any], int], Iterable[Any]] | None = None,
) -> str:
    """Write the page and return the line that says where it is and what it holds.

    `suspects` of a `split`, the most suspect first; those without a sign are not listed. `normalize` makes of a
    transcript what the model would write. The first suspects whose audio fits into `most_bytes` (None: all) have it, at
    most `num_audio` of them (None: as many as fit). `progress(items, total)` is told of them. Corrections of a split
    that is not the training one name it.
    """
    all_of_them = list(suspects)
    shown = list(itertools.islice((s for s in all_of_them if s.signs), MOST_ROWS))
    num_signed = sum(bool(s.signs) for s in all_of_them)
    rows = [_row(suspect, normalize) for suspect in shown]
    fixed = {
        "head": shell.head(f"{name}: doctor", STYLES),
        "heading": escape(one_line(name)),
        "notes": "".join(f'<p class="note">{escape(note)}</p>' for note in notes),
        "scripts": shell.scripts(SCRIPTS),
    }
    content = {
        "systems": ["the model"],
        "store": "doctor " + hashlib.blake2b(str(path.resolve()).encode(errors="replace"), digest_size=8).hexdigest(),
        "file": f"{_file_name(name)}-corrections.jsonl",
        "split": "" if is_training else split,
        "typical": _typical(all_of_them),
        "rows": rows,
    }
    used = sum(len(text.encode(errors="replace")) for text in fixed.values()) + len(_json(content))
    used += 20_000  # the template, and a margin
    room = None if most_bytes is None else most_bytes - used
    media, num_failed = ([], 0) if load is None else _media(shown, rows, load, room, num_audio, progress)
    told = _summary(len(all_of_them), num_signed, len(shown), len(media), num_failed, split)
    write_text(path, shell.template("trainer.doctor", "doctor").substitute(
        fixed, summary=escape(told), data=_json(content), media=shell.media(media)
    ))  # fmt: skip
    size = path.stat().st_size / 1e6
    return f"{path}: {counted(len(shown), 'suspect')}, {len(media)} to hear and see, {size:.1f} MB"


def _row(suspect: Suspect, normalize: Callable[[str], str]) -> dict[str, Any]:
    edits = None if suspect.hypothesis is None else edits_of(normalize(suspect.text), suspect.hypothesis)
    return {
        "id": suspect.id,
        "score": round(suspect.score, 3),
        "certain": suspect.is_certain,
        "text": suspect.text,
        "written": suspect.hypothesis,
        "edits": edits and edits[0],
        "gap": edits[1] if edits else " ",
        "speaker": suspect.speaker,
        "folder": folder_of(suspect),
        "seconds": round(suspect.seconds, 2),
        "origin": suspect.origin,
        "audio": suspect.audio,
        "losses": [None if loss is None else round(loss, 3) for loss in suspect.losses],
        "signs": [[s.name, s.what, s.certainty, s.start, s.end] for s in suspect.signs],
        "media": None,
    }


def edits_of(text: str, written: str) -> tuple[list[Any], str]:
    """(The transcript against what the model writes, what stands between two pieces of it).

    A piece is a word that both have, or [kind, said, written]. Where a script has no spaces between words, it is some
    characters.

    >>> edits_of("so it goes", "so goes")
    (['so', ['d', 'it', ''], 'goes'], ' ')
    """
    text, written = collapse_spaces(text), collapse_spaces(written)
    longest = max(text, written, key=len)
    is_spaced = len(longest) <= _LONG_WORD * max(1, len(longest.split()))
    edits = align_words(text, written) if is_spaced else _joined(align_characters(text, written))
    pieces = [e.reference if e.kind == "hit" else [LETTERS[e.kind], e.reference, e.hypothesis] for e in edits]
    return pieces, " " if is_spaced else ""


def _joined(edits: Iterable[Edit]) -> list[Edit]:
    """Neighbouring characters of one kind as one piece."""
    return [
        Edit(kind, "".join(e.reference for e in pieces), "".join(e.hypothesis for e in pieces))
        for kind, group in itertools.groupby(edits, key=lambda edit: edit.kind)
        for pieces in [list(group)]
    ]


def folder_of(suspect: Suspect) -> str:
    """The folder, or the shard, that the audio lies in; empty where its name has none."""
    return suspect.audio.rpartition(": ")[0] or suspect.audio.rpartition("/")[0]


def _typical(suspects: Sequence[Suspect]) -> list[float | None]:
    """The median loss of all utterances at each visit: what an utterance's own losses are seen against."""
    losses = np.full((len(suspects), max((len(s.losses) for s in suspects), default=0)), np.nan, np.float32)
    for own, suspect in zip(losses, suspects, strict=True):
        own[: len(suspect.losses)] = [np.nan if loss is None else loss for loss in suspect.losses]
    known = (visit[~np.isnan(visit)] for visit in losses.T)
    return [round(float(np.median(of)), 3) if len(of) else None for of in known]


def _media(
    shown: Sequence[Suspect],
    rows: Sequence[dict[str, Any]],
    load: Load,
    room: int | None,
    num_audio: int | None,
    progress: Callable[[Iterable[Any], int], Iterable[Any]] | None,
) -> tuple[list[str], int]:
    """(JSON of the audio and picture of the first suspects, how many of those cannot be read); numbers them in
    `rows`."""
    media: list[str] = []
    used = num_failed = 0
    number = len(shown) if num_audio is None else min(num_audio, len(shown))
    first: Iterable[tuple[Suspect, dict[str, Any]]] = itertools.islice(zip(shown, rows, strict=True), number)
    for suspect, row in first if progress is None else progress(first, number):
        if suspect.seconds > MOST_AUDIO_SECONDS:
            continue
        try:
            waveform = load(suspect)
        except AudioError:
            num_failed += 1
            continue
        if len(waveform) == 0:
            continue
        text = _json(_picture(waveform))
        used += len(text) + shell.BYTES_AROUND_MEDIA
        if room is not None and used > room:
            break
        row["media"] = len(media)
        media.append(text)
    return media, num_failed


def _picture(waveform: np.ndarray) -> dict[str, Any]:
    """What the report's player and picture need, without posteriors and words."""
    nothing = {"units": "", "best": "", "blank": "", "said": [], "written": [], "words": [], "phones": []}
    return {
        "audio": to_base64(encode_audio(waveform)),
        "seconds": round(len(waveform) / SAMPLE_RATE, 4),
        "wave": to_base64(wave_outline(waveform).tobytes()),
        "spectrogram": to_base64(spectrogram(waveform)),
        "first": 0.0,
        "step": 0.02,
        **nothing,
    }


def _summary(num_all: int, num_signed: int, num_shown: int, num_heard: int, num_failed: int, split: str) -> str:
    show = "shows" if num_signed == 1 else "show"
    told = f"{num_signed:,} of the {num_all:,} utterances of {split} {show} a sign that something may be wrong"
    if num_shown < num_signed:
        told += f". The {num_shown:,} most suspect are listed; doctor.jsonl has all"
    if num_shown:
        told += f". {'All' if num_heard == num_shown else f'{num_heard:,}'} can be heard and seen here"
    return told + (f"; {num_failed} could not be read." if num_failed else ".")


def _json(value: Any) -> str:
    """For a <script> element. A lone surrogate, of a file's name that is no UTF-8, is escaped."""
    return re.sub(r"[\ud800-\udfff]", lambda match: f"\\u{ord(match[0]):04x}", to_script_json(value))


def _file_name(name: str) -> str:
    """`name` as a file's name that any system takes."""
    return re.sub(r"[^\w.-]+", "-", in_utf8(name)).strip("-.") or "run"
