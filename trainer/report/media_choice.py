"""Choose the utterances of a report that have audio and pictures: as many as fit, the worst first, then random ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from data.examples.prepare import Example
from data.randomness import derive_seed
from data.utterance import SAMPLE_RATE
from models.ctc import CTCModel
from trainer.errors import AudioError
from trainer.report.html import to_script_json
from trainer.report.media import utterance_media
from trainer.report.shell import BYTES_AROUND_MEDIA
from trainer.scoring.evaluate import EvalSet
from trainer.scoring.scores import Hypothesis

WORST_SHARE = 0.75
"""If not all utterances fit, the worst ones fill this share of the room; utterances drawn at random fill the rest."""
MOST_SECONDS = 60.0
"""Longer utterances have no picture, since it could not be read. They have audio only in a file without a limit."""

Scored = tuple[str, Hypothesis]
"""(Split, hypothesis of one of its utterances)."""


@dataclass(frozen=True)
class MediaSource:
    """The model and the corpus that audio and posteriors come from."""

    model: CTCModel
    eval_sets: dict[str, EvalSet]
    device: torch.device

    def examples(self) -> dict[tuple[str, str], Example]:
        """(Split, id) -> example."""
        return {(s, e.utterance.id): e for s, eval_set in self.eval_sets.items() for e in eval_set.examples}


@dataclass
class Media:
    """The audio and pictures of a page, and which of its utterances have them."""

    note: str = ""
    elements: list[str] = field(default_factory=list)
    """JSON of each element. Its position here is its number."""
    numbers: dict[tuple[str, str], int] = field(default_factory=dict)
    """(Split, id) -> number of its element. An utterance that is in several splits has one element."""
    num_bytes: int = 0
    num_long: int = 0
    num_failed: int = 0


def collect_media(source: MediaSource, scored: Sequence[Scored], room: int | None, *, seed: int = 0) -> Media:
    """Audio and pictures that fit into `room` bytes (None: all): the worst of `scored` first, then drawn by `seed`."""
    media, space = Media(), math.inf if room is None else room
    was_training = source.model.training
    source.model.eval()
    try:
        worst = sorted(scored, key=lambda item: (-item[1].words.num_errors, -item[1].words.rate, -item[1].loss))
        left = _fill(media, source, worst, WORST_SHARE * space)
        num_worst = len(media.elements)
        left.sort(key=lambda item: derive_seed(seed, "report", item[0], item[1].id))
        _fill(media, source, left, space)
    finally:
        source.model.train(was_training)
    media.note = _note(media, len(scored), num_worst, is_limited=room is not None)
    return media


def _fill(media: Media, source: MediaSource, wanted: list[Scored], room: float) -> list[Scored]:
    """Add the media of `wanted` until `room` bytes are full. Returns those that did not fit."""
    examples = source.examples()
    by_content = {examples[key].utterance.audio.identity: number for key, number in media.numbers.items()}
    for i, (split, hypothesis) in enumerate(wanted):
        example = examples.get((split, hypothesis.id))
        if example is None or example.num_samples == 0 or hypothesis.failure:
            media.num_failed += 1
            continue
        is_long = example.num_samples > MOST_SECONDS * SAMPLE_RATE
        media.num_long += is_long
        if is_long and room < math.inf:
            continue
        identity = example.utterance.audio.identity
        if identity not in by_content:
            eval_set = source.eval_sets[split]
            try:
                found = utterance_media(
                    source.model, example, eval_set.vocab, eval_set.frontend.do_normalize, source.device,
                    pictures=not is_long,
                )  # fmt: skip
            except AudioError:
                media.num_failed += 1
                continue
            if len(written := found.get("written", ())) == len(sure := hypothesis.confidences or ()):
                found["written"] = [[*word[:3], round(c, 3)] for word, c in zip(written, sure, strict=True)]
            text = to_script_json(found)
            if media.num_bytes + len(text) + BYTES_AROUND_MEDIA > room:
                return wanted[i:]
            media.num_bytes += len(text) + BYTES_AROUND_MEDIA
            by_content[identity] = len(media.elements)
            media.elements.append(text)
        media.numbers[split, hypothesis.id] = by_content[identity]
    return []


def _note(media: Media, num_all: int, num_worst: int, *, is_limited: bool) -> str:
    num_shown = len(media.numbers)
    if num_shown == num_all:
        note = f"Every one of the {num_all} utterances has its audio, spectrogram and posteriors in this file"
    else:
        note = f"{num_shown} of {num_all} utterances have audio, spectrogram and posteriors in this file"
        if len(media.elements) > num_worst:
            note += f": the {num_worst} worst, and {len(media.elements) - num_worst} drawn at random from the rest"
        elif num_worst and is_limited:
            note += ", the worst"
    if media.num_long:
        note += f"; {media.num_long} of more than {MOST_SECONDS:.0f} s "
        note += "are left out" if is_limited else "have audio without pictures"
    if media.num_failed:
        note += f"; {media.num_failed} have no audio that decodes"
    if num_shown < num_all:
        note += ". Text and alignment are there for all"
    return note + ("; --media all lifts the limit." if num_shown + media.num_failed < num_all else ".")
