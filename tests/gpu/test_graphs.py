"""CUDA graphs on a GPU: a replay is the same step. Run by scripts/bench/gpu_check.py.

tests/trainer/loop/test_graphs.py tests the same code with a stand-in for capture.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.amp import GradScaler

from data.batches.collate import BatchDataset, Frontend
from data.batches.grid import Grid
from data.batches.plan import BatchPlan
from data.batches.specaugment import SpecAugment
from data.config import BatchingConfig
from models.ctc import CTCModel, ctc_loss_per_utterance
from tests.helpers.gpu import CUDA, ON_CUDA
from tests.helpers.graphs import Rerun
from tests.helpers.models import eval_set, example, make_talkative
from tests.helpers.models import small_model as talkative_model
from tests.helpers.steps import EXAMPLES, GEOMETRY, NUM_FRAMES, small_model
from trainer.config.schema import OptimConfig
from trainer.device import HALF, autocast_for
from trainer.loop.gradients import Gradients
from trainer.loop.graphs import CudaRecorder, Graphs
from trainer.loop.optim import build_optimizer, build_schedule
from trainer.loop.step import TrainingParts, accumulate_gradient, train_step
from trainer.scoring.evaluate import evaluate

pytestmark = ON_CUDA
GRID = Grid(8, 4, GEOMETRY.num_frames, GEOMETRY.num_samples)
SPEC = SpecAugment(hidden_size=32, time_prob=0.2, time_length=2, time_min_masks=1,
                   feature_prob=0.1, feature_length=2, feature_min_masks=1)  # fmt: skip
TOLERANCES = {"fp32": 1e-5, "bf16": 1e-2, "fp16": 2e-3}


def parts_of(model: CTCModel, precision: str, told: list[str], *, graphs: bool, accumulates: bool) -> TrainingParts:
    model = model.to(CUDA).train()
    optimizer = build_optimizer(model, OptimConfig(lr=1e-2, weight_decay=0.01))
    scaler = GradScaler(CUDA.type, enabled=precision == "fp16", init_scale=256.0)
    autocast = autocast_for(precision, CUDA)
    if precision in HALF:
        model.keep_half_copies(HALF[precision])
    parts = TrainingParts(model, optimizer, build_schedule(optimizer, 3, 40), scaler, CUDA, autocast)
    parts.gradients = Gradients(model, in_one_buffer=True)  # CUDA's own way; a CPU only with this line
    if graphs:
        recorder = CudaRecorder() if CUDA.type == "cuda" else Rerun()
        parts.graphs = Graphs(model, parts.gradients, autocast, recorder, told.append, accumulates=accumulates)
    return parts


def regularised(**options: float) -> CTCModel:
    on = dict(hidden_dropout=0.2, attention_dropout=0.1, activation_dropout=0.1, mask_time_prob=0.2) | options
    return small_model(**on, hidden_size=32)  # type: ignore[arg-type]


def batch_of(positions: list[int], epoch: int):
    lengths, ids = [e.num_samples for e in EXAMPLES], [e.utterance.id for e in EXAMPLES]
    plan = BatchPlan(lengths, ids, BatchingConfig(batch_size=4), 7, 9, grid=GRID)
    batch = BatchDataset(EXAMPLES, Frontend(NUM_FRAMES, specaugment=SPEC, grid=GRID), plan)[epoch, positions]
    return batch.pin_memory() if CUDA.type == "cuda" else batch


@pytest.mark.parametrize("accum", [1, 2])
@pytest.mark.parametrize("layerdrop", [0.0, 0.5])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_replayed_gradient_equals_an_eager_one_of_the_same_seed(precision: str, layerdrop: float, accum: int) -> None:
    """Dropout, masks and LayerDrop follow from the seed. Reference: the same step, launched operation by operation."""
    told: list[str] = []
    eager, replayed = (
        parts_of(regularised(layerdrop=layerdrop), precision, told, graphs=True, accumulates=accum > 1)
        for _ in range(2)
    )
    assert eager.graphs is not None
    eager.graphs.is_broken = True  # it captures nothing
    for seed in range(5):
        batches = [batch_of([0, 2, 4], seed), batch_of([1, 3], seed)][:accum]
        found = []
        for parts in (eager, replayed):
            loss = accumulate_gradient(parts, batches, seed).figures[0]
            found.append({"loss": loss, **{n: p.grad for n, p in parts.model.named_parameters() if p.grad is not None}})
        assert found[0].keys() == found[1].keys()
        size = max(float(g.abs().max()) for name, g in found[0].items() if name != "loss")
        for name, expected in found[0].items():
            close = dict(rtol=TOLERANCES[precision], atol=TOLERANCES[precision] * (1 if name == "loss" else size))
            torch.testing.assert_close(found[1][name], expected, **close, msg=lambda m: f"{name}: {m}")  # noqa: B023
        for parts in (eager, replayed):
            parts.optimizer.zero_grad(set_to_none=True)
    assert not told
    assert replayed.graphs is not None
    assert replayed.graphs.num_recorded == accum


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_thirty_steps_with_graphs_follow_thirty_without(precision: str) -> None:
    losses = []
    told: list[str] = []
    for graphs in (False, True):
        parts, found = parts_of(regularised(), precision, told, graphs=graphs, accumulates=False), []
        for step in range(30):
            positions = [[0, 2, 4], [1, 3], [0, 1, 2, 3]][step % 3]
            found.append(train_step(parts, [batch_of(positions, step)], 1.0, lambda: None, seed=step).loss)
            parts.scheduler.step()
        losses.append(torch.stack(found).tolist())
    assert not told
    rel = {"fp32": 1e-3, "bf16": 0.1, "fp16": 0.05}[precision]
    assert losses[1] == [pytest.approx(loss, rel=rel) for loss in losses[0]]


def test_a_step_in_halves_adds_up_what_is_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four utterances never fit, and their halves come again and again. Reference: the same without captures."""
    told: list[str] = []

    def loss(logits: torch.Tensor, *rest: Any, **options: Any) -> torch.Tensor:
        if len(logits) == 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return ctc_loss_per_utterance(logits, *rest, **options)

    monkeypatch.setattr("trainer.loop.step.ctc_loss_per_utterance", loss)
    without_dropout = dict(hidden_dropout=0.0, attention_dropout=0.0, activation_dropout=0.0)
    eager, replayed = (
        parts_of(regularised(**without_dropout), "fp32", told, graphs=True, accumulates=False) for _ in range(2)
    )
    assert eager.graphs is not None
    assert replayed.graphs is not None
    eager.graphs.is_broken = True
    for seed in range(4):
        norms = []
        for parts in (eager, replayed):
            assert accumulate_gradient(parts, [batch_of([0, 2, 1, 3], seed)], seed).is_halved
            norms.append(float(parts.gradients.norm()))
            parts.optimizer.zero_grad(set_to_none=True)
        assert norms[1] == pytest.approx(norms[0], rel=1e-4)
    assert replayed.graphs.num_recorded > 0
    assert not told


def test_captures_of_an_evaluation_may_come_before_those_of_training() -> None:
    told: list[str] = []
    model = make_talkative(talkative_model(hidden_dropout=0.1))
    parts = parts_of(model, "bf16", told, graphs=True, accumulates=False)
    assert parts.graphs is not None
    split = eval_set(model, [example(8000, "abba cab", seed=i) for i in range(6)], batch_size=2)
    evaluate(model, split, CUDA, parts.autocast, replays=parts.graphs)
    assert parts.graphs.num_recorded == 1
    model.train()
    batch = BatchDataset(split.examples, split.frontend)[0, [0, 1]]
    for seed in range(3):
        train_step(parts, [batch], 1.0, lambda: None, seed=seed)
    assert told == []
    assert parts.graphs.num_recorded == 2


@pytest.mark.skipif(CUDA.type == "cpu", reason="a capture is broken off by CUDA alone")
def test_training_goes_on_when_cuda_breaks_a_capture_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wait for the device is forbidden in a capture. Reference: the same steps without graphs."""
    told: list[str] = []
    eager, parts = (parts_of(regularised(), "fp32", told, graphs=True, accumulates=False) for _ in range(2))
    assert eager.graphs is not None
    assert parts.graphs is not None
    eager.graphs.is_broken = True
    original = Gradients.of

    def of(gradients: Gradients, logits: torch.Tensor, gradient: torch.Tensor) -> list[torch.Tensor | None]:
        if torch.cuda.is_current_stream_capturing() and parts.graphs is not None and parts.graphs.num_recorded:
            gradient.sum().item()
        return original(gradients, logits, gradient)

    monkeypatch.setattr(Gradients, "of", of)
    for seed, positions in enumerate([[0, 2, 4], [0, 2, 4], [1], [1], [1], [0, 2, 4]]):
        losses = []
        for own in (eager, parts):
            losses.append(float(train_step(own, [batch_of(positions, seed)], 1.0, lambda: None, seed=seed).loss))
            own.scheduler.step()
        assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    assert len(told) == 1
    assert torch.cuda.current_stream() == torch.cuda.default_stream()
    torch.cuda.empty_cache()


def spoil_free_memory() -> None:
    """Fill what the allocator holds ready with NaN: what a graph reads after it was freed is then seen. A CPU holds
    nothing ready."""
    if CUDA.type == "cpu":
        return
    for size in (2**8, 2**12, 2**16, 2**20, 2**24):
        for _ in range(20):
            torch.full((size,), float("nan"), device=CUDA)
            torch.full((size,), float("nan"), device=CUDA, dtype=torch.float16)


def test_graphs_read_no_memory_that_was_given_to_others() -> None:
    """Shapes that grow, each captured, and all replayed again at the end. Reference: the same without captures."""
    told: list[str] = []
    eager, replayed = (parts_of(regularised(), "bf16", told, graphs=True, accumulates=False) for _ in range(2))
    assert eager.graphs is not None
    eager.graphs.is_broken = True
    shapes = [[0], [0, 2], [2, 4], [4, 1], [1, 3], [3]]
    for seed, positions in enumerate([p for p in shapes for _ in range(2)] + shapes * 2):
        losses = []
        for parts in (eager, replayed):
            spoil_free_memory()
            loss = accumulate_gradient(parts, [batch_of(positions, seed)], seed).figures[0]
            norm = torch.stack([p.grad.norm() for p in parts.gradients.parameters if p.grad is not None]).norm()
            losses.append((float(loss), float(norm)))
            parts.optimizer.zero_grad(set_to_none=True)
        assert losses[1] == pytest.approx(losses[0], rel=1e-2)
    assert not told


def test_evaluations_that_are_replayed_write_the_same() -> None:
    """Weights change between the evaluations; steps of training, which share the graphs' memory, come in between."""
    told: list[str] = []
    model = make_talkative(talkative_model())
    parts = parts_of(model, "bf16", told, graphs=True, accumulates=False)
    split = eval_set(model, [example(6000 + 900 * i, "abba cab", seed=i) for i in range(6)], batch_size=2)
    for _ in range(4):
        with torch.no_grad():
            model.hf.lm_head.bias += 0.01
        replayed = evaluate(model, split, CUDA, parts.autocast, replays=parts.graphs)
        plain = evaluate(model, split, CUDA, parts.autocast)
        assert [h.hypothesis for h in replayed.hypotheses] == [h.hypothesis for h in plain.hypotheses]
        assert [h.loss for h in replayed.hypotheses] == [pytest.approx(h.loss, rel=1e-3) for h in plain.hypotheses]
    assert not told
