"""Everything that is known of a run's utterances, put together: suspects, the most suspect first.

suspects, groups = examine(open_run(Path("runs/a"), [], console), console)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data.examples.example import Example
from data.examples.table import ids_of, texts_in
from data.text.normalise import collapse_spaces
from data.utterance import SAMPLE_RATE
from trainer.cli.console import Console
from trainer.doctor.dynamics import Learning, learning, losses_of
from trainer.doctor.opening import OpenedRun
from trainer.doctor.other_transcripts import find_swaps
from trainer.doctor.own_words import OwnWords, hear
from trainer.doctor.ranking import Seen, score_of, weigh
from trainer.doctor.stretches import leftovers
from trainer.doctor.suspect import Suspect
from trainer.errors import ConfigError, DamagedError
from trainer.rundir.dynamics.files import read_dynamics
from trainer.signs.find import signs_of
from trainer.signs.groups import Groups, Standout
from trainer.signs.sign import Sign

ALIGNED_SHARE, FEWEST_ALIGNED = 0.1, 200
"""Of all utterances so many are aligned, and searched for among other transcripts: those that stand out most."""


@dataclass(frozen=True)
class Examined:
    """What was found in a split."""

    suspects: list[Suspect]
    """All its utterances, the most suspect first."""
    groups: list[Standout]
    """Speakers and folders in which a sign is far more frequent than elsewhere."""
    heard: OwnWords
    """What the earliest checkpoint that was used writes."""
    learning: Learning | None
    notes: tuple[str, ...]
    """What the user should know, a sentence each."""


def examine(run: OpenedRun, console: Console) -> Examined:
    """Look into a split of `run`: its losses in training, the model's own words, alignments, and signs without a
    model."""
    examples, notes = run.examples, [*run.notes]
    ids = list(ids_of(examples))
    texts = [collapse_spaces(text) for text in texts_in(examples)]
    trained = _learning(run, ids, notes)
    heard = hear(run, run.weights[0], console)
    if trained is None and len(run.weights) == 1:
        notes.append(
            "There are neither losses of training nor earlier weights. A model that was trained long enough writes "
            "wrong transcripts as they are, and then little is found here."
        )
    seen = Seen.of(heard, trained)
    phones = run.data.vocab.phonemes
    doubted = seen.suspects(max(FEWEST_ALIGNED, int(ALIGNED_SHARE * len(examples))))
    swaps = find_swaps(heard.hypotheses, texts, doubted, phones=phones)
    model, _ = run.load(run.weights[0])
    rest = [i for i in doubted if i not in swaps]
    bar = console.progress(leftovers(model, [examples[i] for i in rest]), len(rest), "aligning", "utterance")
    left = {i: found for i, found in zip(rest, bar, strict=True) if found is not None}
    groups, suspects = Groups(), []
    for i, (example, signs) in enumerate(
        signs_of(examples, lambda items, total: console.progress(items, total, "listening", "utterance"))
    ):
        score, told = score_of(float(seen.out[i]), weigh(seen, ids, texts, swaps, left, i), signs)
        groups.add(example.utterance, told)
        suspects.append(_suspect(run, example, score, told, heard.hypotheses[i], trained, i))
    suspects.sort(key=lambda suspect: -suspect.score)
    return Examined(suspects, groups.standing_out(), heard, trained, tuple(notes))


def _learning(run: OpenedRun, ids: Sequence[str], notes: list[str]) -> Learning | None:
    """What the run's losses tell; None, and a note, where it kept none."""
    try:
        kept = read_dynamics(run.run_dir)
    except (ConfigError, DamagedError) as error:
        notes.append(f"Without losses of training, from the model alone: {error}")
        return None
    losses, unknown = losses_of(kept, ids, training=run.is_training)
    if losses.size == 0 or unknown == len(ids):
        notes.append("Without losses of training, from the model alone: the run kept none of these utterances.")
        return None
    if unknown:
        notes.append(f"{unknown} of {len(ids)} utterances were never visited by the run: is the corpus still the same?")
    return learning(losses, np.array([len(text) for text in texts_in(run.examples)]))


def _suspect(
    run: OpenedRun,
    example: Example,
    score: float,
    signs: Sequence[Sign],
    hypothesis: str,
    trained: Learning | None,
    i: int,
) -> Suspect:
    utterance = example.utterance
    losses = [] if trained is None else trained.losses[:, i].tolist()
    return Suspect(
        utterance.id, score, tuple(signs), utterance.text, hypothesis, run.split, utterance.speaker,
        utterance.audio.name, utterance.origin, round(example.num_samples / SAMPLE_RATE, 3),
        tuple(round(loss, 4) if loss == loss and abs(loss) != float("inf") else None for loss in losses),
    )  # fmt: skip
