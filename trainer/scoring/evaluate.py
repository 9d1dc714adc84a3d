"""Score a model on a split: hypotheses and pooled error counts from batches. Every utterance is scored.

Transcripts equal those of one utterance at a time. With layer-norm encoders padding cannot reach a real frame; with
group-norm encoders only utterances of equal length share a batch.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import torch

from data.batches.collate import Batch, BatchDataset, Frontend
from data.batches.dealing import deal_batches
from data.batches.loading import load_batches, never
from data.batches.plan import evaluation_batches
from data.examples.prepare import Example
from data.text.normalise import collapse_spaces
from data.text.vocab import Vocab
from data.utterance import SAMPLE_RATE
from models.ctc import CTCModel
from models.feature_table import FeatureTable
from trainer.config.schema import EvalConfig
from trainer.parallel.lockstep import idle_pass, in_lockstep, out_of_memory_alone
from trainer.parallel.world import ALONE, World
from trainer.scoring.confidence import written_evidence
from trainer.scoring.forward import Replays
from trainer.scoring.found import Found, Scored, from_json, join_found, to_json
from trainer.scoring.metrics import (
    EditCounts,
    Units,
    count_character_errors,
    count_word_errors,
    describe_rule,
    units_written,
)
from trainer.scoring.scores import Followed, Hypothesis, Scores
from trainer.scoring.transcripts import Transcript, transcribe_batches


@dataclass(frozen=True)
class EvalSet:
    """A split that is ready to be scored any number of times."""

    split: str
    examples: Sequence[Example]
    frontend: Frontend
    vocab: Vocab
    config: EvalConfig
    num_workers: int
    worker_timeout: float = 600.0
    features: FeatureTable | None = None
    """The frozen feature encoder's output for `examples`, if it was computed beforehand; then no audio is loaded."""

    @property
    def units(self) -> Units:
        """What its transcripts consist of."""
        return units_written(self.vocab)


@torch.inference_mode()
def evaluate(
    model: CTCModel,
    eval_set: EvalSet,
    device: torch.device,
    autocast: Callable[[], AbstractContextManager],
    progress: Callable = lambda batches, total: batches,
    must_stop: Callable[[], bool] = never,
    replays: Replays | None = None,
    followed: Collection[int] = (),
    world: World = ALONE,
    confidence: bool = False,
) -> Scores:
    """Scores of `model` on every utterance of `eval_set`; the model's mode is restored.

    `replays` gives the logits of shapes that it has captured. The posteriors of the utterances at the positions
    `followed` are kept, and with `confidence` the evidence for each word that is written. StopRequested once
    `must_stop`, also while a batch is waited for.

    Each of several ranks scores its share of the batches, whole ones, and all get the same Scores. What one of them
    raises is raised in all.
    """
    start = time.perf_counter()
    examples = eval_set.examples
    plan = _plan(model, eval_set)
    lengths = [example.num_samples for example in examples]
    of_ranks = deal_batches(plan, lengths, world.size) if not world.is_alone else [plan]
    # FSDP keeps the memory that it gathers weights in, and training could not use what inference mode has made
    plain = torch.inference_mode(not model.is_sharded), torch.no_grad()
    with plain[0], plain[1], world.together("the other ranks' share of an evaluation"), world.noticing():
        found = _score_batches(
            model, eval_set, of_ranks[world.rank], device, autocast, progress, must_stop, replays, followed, world,
            confidence,
        )  # fmt: skip
    if not world.is_alone:
        found = join_found([from_json(record) for record in world.gather(to_json(found))], plan)
    failures = {e.utterance.id: "no audio could be decoded" for e in examples if e.num_samples == 0} | found.failures
    nothing = Transcript((), math.inf, 0, 0)
    hypotheses = tuple(
        _hypothesis(examples[i], found.scored[i], eval_set.units)
        if i in found.scored
        else _hypothesis(
            example, _score(example, eval_set.vocab, nothing), eval_set.units, failures.get(example.utterance.id, "")
        )
        for i, example in enumerate(examples)
    )
    num_audio_seconds = sum(lengths) / SAMPLE_RATE
    seconds = time.perf_counter() - start
    shown = tuple(
        Followed(examples[i].utterance.id, examples[i].targets, lengths[i] / SAMPLE_RATE, found.posteriors[i])
        for i in sorted(found.posteriors)
    )
    rule = describe_rule(eval_set.vocab)
    return Scores(
        eval_set.split, hypotheses, seconds, num_audio_seconds, failures, shown, units=eval_set.units, rule=rule
    )


def _score_batches(
    model: CTCModel, eval_set: EvalSet, plan: list[list[int]], device: torch.device,
    autocast: Callable[[], AbstractContextManager], progress: Callable, must_stop: Callable[[], bool],
    replays: Replays | None, followed: Collection[int], world: World, confidence: bool,
) -> Found:  # fmt: skip
    """What the model writes for the utterances of `plan`, and how much of it is wrong.

    Ranks that share one model do it in step. None of them can go back to halve a batch.
    """
    found, was_training = Found(), model.training
    model.eval()
    try:
        in_step = model.is_sharded
        batches = progress(_load(eval_set, plan, device, never if in_step else must_stop), total=len(plan))
        if in_step:
            batches = in_lockstep(iter(batches), world, must_stop, functools.partial(_idle, model, device, autocast))
        written = transcribe_batches(
            model, batches, device, autocast, features=eval_set.features, replays=replays, followed=followed,
            confidence=confidence, may_halve=not in_step,
        )  # fmt: skip
        for batch, transcripts, posteriors in written:
            for i, utterance_id, transcript in zip(batch.positions, batch.ids, transcripts, strict=True):
                if utterance_id not in batch.failures:
                    found.scored[i] = _score(eval_set.examples[i], eval_set.vocab, transcript)
            found.posteriors.update((i, p) for i, p in posteriors.items() if i in found.scored)
            found.failures.update(batch.failures)
    except torch.OutOfMemoryError:
        if not in_step:
            raise
        raise out_of_memory_alone(world, "in an evaluation") from None
    finally:
        model.train(was_training)
    return found


def _idle(model: CTCModel, device: torch.device, autocast: Callable[[], AbstractContextManager]) -> None:
    with autocast():
        idle_pass(model, device)


def _plan(model: CTCModel, eval_set: EvalSet) -> list[list[int]]:
    """Batches of positions. Utterances too short for a frame are left out; their hypothesis stays empty."""
    lengths = [example.num_samples for example in eval_set.examples]
    with_frames = [i for i, n in enumerate(lengths) if model.num_frames(n) > 0]
    batches = evaluation_batches(
        [lengths[i] for i in with_frames],
        batch_size=eval_set.config.batch_size,
        max_batch_seconds=eval_set.config.max_batch_seconds,
        equal_lengths=not model.is_batch_invariant,
    )
    return [[with_frames[k] for k in batch] for batch in batches]


def _load(
    eval_set: EvalSet, plan: list[list[int]], device: torch.device, must_stop: Callable[[], bool]
) -> Iterator[Batch]:
    frontend, num_workers = eval_set.frontend, eval_set.num_workers
    if (table := eval_set.features) is not None:  # rows and their numbers are cheap: no workers
        frontend = replace(frontend, first_rows=table.first_rows, host_rows=table.host_rows(device))
        num_workers = 0
    return load_batches(
        BatchDataset(eval_set.examples, frontend),
        lambda: ((0, positions) for positions in plan),
        num_workers=num_workers,
        pin_memory=device.type == "cuda",
        timeout_seconds=eval_set.worker_timeout,
        must_stop=must_stop,
    )


def _score(example: Example, vocab: Vocab, written: Transcript) -> Scored:
    reference, text = collapse_spaces(example.text), collapse_spaces(vocab.decode_to_compare(written.units))
    evidence = written.frames and written_evidence(*written.frames, vocab, len(text.split()))
    return Scored(
        hypothesis=text,
        words=count_word_errors(reference, text),
        characters=EditCounts() if vocab.phonemes else count_character_errors(reference, text),
        loss=written.loss,
        num_frames=written.num_frames,
        num_blank_frames=written.num_blank_frames,
        evidence=evidence,
    )


def _hypothesis(example: Example, scored: Scored, units: Units, failure: str = "") -> Hypothesis:
    utterance = example.utterance
    return Hypothesis(
        id=utterance.id,
        reference=collapse_spaces(example.text),
        **scored._asdict(),
        seconds=example.num_samples / SAMPLE_RATE,
        speaker=utterance.speaker,
        sex=utterance.sex,
        dialect=utterance.dialect,
        failure=failure,
        units=units,
    )
