"""`--check --card-memory GB`: whether a run fits into a CUDA card, which need not be here."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

from data.batches.plan import evaluation_batches
from data.utterance import SAMPLE_RATE
from trainer.config.schema import Config
from trainer.device import choose_precision
from trainer.loop.graphs import why_no_graphs
from trainer.prepare.build import PreparedRun
from trainer.prepare.check.memory import Held, count_held
from trainer.prepare.features.table import DEVICE_SHARE

GB = 1e9
GIB = 2**30
"""What makers of cards call a GB."""


def judge_card(run: PreparedRun, asked: Config, table_bytes: int, say: Callable[[str], None]) -> int:
    """Say whether the run fits into the card that `asked` names; 2 if it does not, else 0."""
    assert asked.card_memory is not None
    card, model, cuda = int(asked.card_memory * GIB), run.parts.model, torch.device("cuda")
    precision = choose_precision(asked.precision, asked.auto_precision, cuda)
    graphs = asked.model.cuda_graphs
    if graphs is None:
        graphs = why_no_graphs(model, cuda) is None
    batches, lengths = run.plan.batches(0), run.plan.epoch_lengths(0)
    training = largest_batch(batches, [int(length) for length in lengths])
    config = run.config.eval
    evaluation = max(
        (
            largest_batch(evaluation_batches(
                [e.num_samples for e in eval_set.examples], batch_size=config.batch_size,
                max_batch_seconds=config.max_batch_seconds, equal_lengths=not model.is_batch_invariant,
            ), [e.num_samples for e in eval_set.examples])
            for eval_set in run.eval_sets.values()
        ),
        key=math.prod,
    )  # fmt: skip
    held = count_held(
        model, asked.optim.moments, precision, training=training, evaluation=evaluation,
        from_table=table_bytes > 0, table_bytes=table_bytes if table_bytes <= DEVICE_SHARE * card else 0,
        uses_graphs=graphs, accumulates=asked.train.grad_accum_steps > 1,
    )  # fmt: skip
    fits = held.total <= card
    rows, num_samples = training
    say(
        f"card:      about {held.total / GB:.2f} of {card / GB:.2f} GB in {precision}: {held.describe()}; the largest "
        f"microbatch is {rows} x {num_samples / SAMPLE_RATE:.1f} s: "
        + ("it fits" if fits else f"DOES NOT FIT: {remedies(held, asked, graphs)}")
    )
    return 0 if fits else 2


def remedies(held: Held, asked: Config, graphs: bool) -> str:
    """The options that would save memory and are not in use, those without a price in quality first."""
    model, found = asked.model, []
    if held.evaluation > held.step:
        found.append("a smaller --eval.max-batch-seconds")
    if graphs:
        found.append("--model.no-cuda-graphs")
    if not model.activation_checkpointing:
        found.append("--model.activation-checkpointing")
    found.append("a smaller --batching.batch-size with a larger --train.grad-accum-steps")
    if asked.optim.moments != "8bit":
        found.append("--optim.moments 8bit")
    if model.lora_rank is None:
        found.append("--model.lora-rank 16")
    return f"try {', '.join(found)}"


def largest_batch(batches: Sequence[Sequence[int]], lengths: Sequence[int]) -> tuple[int, int]:
    """(Utterances, samples of the longest) of the batch with the most padded audio."""
    return max(((len(batch), max(lengths[i] for i in batch)) for batch in batches), key=math.prod)
