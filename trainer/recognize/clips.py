"""Example clips for the page: two utterances that the model's run was scored on, or recordings that its owner names.

A model folder alone has no clips, and none is made up for it: a synthetic voice, or another language, would say nothing
of the model.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from data.audio.media import load_recording
from data.text.normalise import collapse_spaces
from data.utterance import SAMPLE_RATE
from trainer.cli.console import Console
from trainer.config.as_json import read_config
from trainer.errors import AudioError
from trainer.prepare.corpus import read_corpus
from trainer.rundir.model_source import run_of

MOST_SECONDS = 20.0
"""No longer utterance is taken as an example."""
LABEL_CHARACTERS = 60


@dataclass(frozen=True)
class Clip:
    """An example, as the page offers it."""

    name: str
    """The transcript's name, and that of the files to keep."""
    label: str
    waveform: np.ndarray
    """float32 (num_samples,), mono at SAMPLE_RATE."""


@dataclass(frozen=True)
class Clips:
    """The examples, and where they come from, in words."""

    origin: str = ""
    clips: tuple[Clip, ...] = ()


NO_CLIPS = Clips()


def clips_of_files(paths: Sequence[Path], max_seconds: float) -> Clips:
    """The recordings at `paths`. AudioError when one cannot be read or lasts above `max_seconds`."""
    clips = []
    for path in paths:
        waveform = load_recording(path, max_seconds)
        clips.append(Clip(path.stem, _label(path.name, waveform), waveform))
    return Clips("", tuple(clips))


def clips_of_run(model: Path, max_seconds: float, console: Console) -> Clips:
    """Two utterances of the headline split of the run in whose folder `model` lies: the first ones of the split's two
    halves that can be used. None where there is no run or its corpus is not at hand; then a line says why."""
    run_dir = run_of(model)
    if run_dir is None:
        return NO_CLIPS
    try:
        reading = read_corpus(read_config(run_dir / "config.json", lenient=True), console, training=False)
    except (ValueError, OSError) as error:
        console.say(f"no example clips: {error}")
        return NO_CLIPS
    split = reading.corpus.splits.headline
    utterances = reading.evaluation[split]
    halves = (utterances[: (len(utterances) + 1) // 2], utterances[(len(utterances) + 1) // 2 :])
    found = []
    for half in halves:
        for utterance in half:
            try:
                if not 0 < utterance.audio.num_samples <= min(MOST_SECONDS, max_seconds) * SAMPLE_RATE:
                    continue
                waveform = utterance.audio.load()
            except AudioError:  # the run has told of it
                continue
            said = collapse_spaces(utterance.text)
            found.append(Clip(_file_name(utterance.id), _label(said, waveform), waveform))
            break
    origin = (
        f"From {split}, the split of {reading.corpus.title} that the run was scored on. What was said is on the button."
    )
    return Clips(origin, tuple(found)) if found else NO_CLIPS


def write_clips(clips: Sequence[Clip], folder: Path) -> list[Path]:
    """Write each clip into a folder of its own below `folder`, as wav of 16 bits. Returns the paths."""
    paths = []
    for number, clip in enumerate(clips, 1):
        path = folder / f"example-{number}" / f"{clip.name}.wav"
        path.parent.mkdir(parents=True)
        soundfile.write(path, np.clip(clip.waveform, -1, 1), SAMPLE_RATE, subtype="PCM_16")
        paths.append(path)
    return paths


def _label(text: str, waveform: np.ndarray) -> str:
    shown = text if len(text) <= LABEL_CHARACTERS else text[: LABEL_CHARACTERS - 1].rstrip() + "…"
    return f"{shown} ({len(waveform) / SAMPLE_RATE:.1f} s)"


def _file_name(utterance_id: str) -> str:
    """The last part of an id, which may be a path, as a file's name without a suffix.

    >>> _file_name("clips/a b.wav"), _file_name("..")
    ('a_b', 'example')
    """
    return re.sub(r"[^\w-]+", "_", Path(utterance_id).stem).strip("_")[:80] or "example"
