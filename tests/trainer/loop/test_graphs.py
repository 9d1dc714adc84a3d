"""Captured passes, with a stand-in for CUDA graphs that runs the same operations in the same memory again."""

from __future__ import annotations

import contextlib
import itertools
import weakref
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest
import torch
from torch import nn

from data.batches.grid import Grid
from data.batches.specaugment import SpecAugment
from models.ctc import CTCModel, ctc_loss_per_utterance
from models.feature_table import FeatureTable
from tests.helpers.graphs import Rerun, with_graphs
from tests.helpers.models import eval_set, example, make_talkative
from tests.helpers.models import small_model as talkative_model
from tests.helpers.steps import CPU, EXAMPLES, GEOMETRY, loader_of, make_batch, make_parts, run_fit, small_model
from trainer.config.schema import TrainConfig
from trainer.device import autocast_for
from trainer.errors import ConfigError
from trainer.loop.gradients import Gradients, clip
from trainer.loop.graphs import CudaRecorder, wants_graphs
from trainer.loop.step import TrainingParts, accumulate_gradient, train_step
from trainer.scoring.evaluate import evaluate
from trainer.scoring.forward import model_inputs

pytestmark = pytest.mark.usefixtures("one_thread")

GRID = Grid(8, 2, GEOMETRY.num_frames, GEOMETRY.num_samples)
LOGGED = TrainConfig(log_every=1, eval_every=0, save_every=0)
SPEC = SpecAugment(hidden_size=16, time_prob=0.2, time_length=2, time_min_masks=1,
                   feature_prob=0.1, feature_length=2, feature_min_masks=1)  # fmt: skip


def trained(model: CTCModel, *, graphs: bool, accum: int = 1, steps: int = 12) -> tuple[list[float], Any, Rerun | None]:
    parts = make_parts(model)
    parts.gradients = Gradients(model, in_one_buffer=True)
    recorder = with_graphs(parts, accumulates=accum > 1) if graphs else None
    loader = loader_of(EXAMPLES, accum=accum, grid=GRID, specaugment=SPEC)
    losses = run_fit(parts, loader, LOGGED, steps).losses
    return losses, {k: v.clone() for k, v in model.state_dict().items()}, recorder


@pytest.mark.parametrize("accum", [1, 2])
@pytest.mark.parametrize(
    "options", [{}, {"hidden_dropout": 0.3, "attention_dropout": 0.2, "feat_proj_dropout": 0.1}, {"layerdrop": 0.5}],
    ids=["plain", "dropout", "layerdrop"],
)  # fmt: skip
def test_replayed_steps_equal_steps_without_graphs(options: dict[str, float], accum: int) -> None:
    """Bit for bit: dropout and LayerDrop draw the same, a skipped layer is not updated, microbatches are summed.

    On a CPU dropout and LayerDrop draw from one generator, so they are not mixed here; on CUDA they have two.
    """
    plain = trained(small_model(mask_time_prob=0.2, **options), graphs=False, accum=accum)
    replayed = trained(small_model(mask_time_prob=0.2, **options), graphs=True, accum=accum)
    assert replayed[2] is not None
    assert replayed[2].num_rerun > 8
    assert replayed[0] == plain[0]
    assert all(torch.equal(plain[1][name], replayed[1][name]) for name in plain[1])


@pytest.mark.parametrize("accum", [1, 2])
def test_dropout_and_layerdrop_together_are_those_of_the_seed(accum: int) -> None:
    """Reference: graphs that never capture, so each pass runs operation by operation. A layer that is skipped leaves
    the draws of those behind it alone."""
    found = []
    for captures in (False, True):
        parts = make_parts(small_model(hidden_dropout=0.3, layerdrop=0.5, mask_time_prob=0.2))
        with_graphs(parts, accumulates=accum > 1)
        assert parts.graphs is not None
        parts.graphs.is_broken = not captures
        loader = loader_of(EXAMPLES, accum=accum, grid=GRID, specaugment=SPEC)
        losses = run_fit(parts, loader, LOGGED, 12).losses
        found.append((losses, [p.detach().clone() for p in parts.model.parameters()]))
        assert (parts.graphs.num_recorded > 0) is captures
    assert found[0][0] == found[1][0]
    assert all(torch.equal(a, b) for a, b in zip(found[0][1], found[1][1], strict=True))


def test_a_shape_is_captured_when_it_comes_again_and_then_replayed() -> None:
    parts = make_parts(small_model())
    recorder = with_graphs(parts)
    parts.model.train()
    short, long = make_batch([0, 2], grid=GRID), make_batch([3, 1], grid=GRID)
    recorded = []
    for batch in (short, short, long, short, long):
        train_step(parts, [batch], 1.0, lambda: None)
        recorded.append((recorder.num_recorded // 2, recorder.num_rerun // 2))
    assert recorded == [(0, 0), (1, 1), (1, 1), (1, 2), (2, 3)]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("graphs", [False, True])
def test_the_encoder_may_be_frozen_for_some_steps(graphs: bool, precision: str) -> None:
    """As docs/change-the-loop.md does it: requires_grad changes between steps. A frozen weight does not move."""
    parts = half_parts(small_model(), precision, copies=precision != "fp32")
    recorder = with_graphs(parts) if graphs else None
    encoder = list(parts.model.base.parameters())
    for step in range(8):
        for parameter in encoder:
            parameter.requires_grad_(step >= 4)
        before = [p.detach().clone() for p in encoder]
        head = parts.model.hf.lm_head.weight.detach().clone()
        result = train_step(parts, [make_batch([0, 1], grid=GRID)], 1.0, lambda: None, is_logged=True)
        parts.scheduler.step()
        moved = [not torch.equal(a, b) for a, b in zip(before, encoder, strict=True)]
        assert any(moved) is (step >= 4)
        assert step == 0 or not torch.equal(head, parts.model.hf.lm_head.weight)
        assert ("transformer" in result.part_norms) is (step >= 4)
        assert "head" in result.part_norms
    # a graph holds for the parameters that were trained when it was captured: two shapes' worth of both passes
    assert recorder is None or recorder.num_recorded == 4


def test_a_replay_reads_weights_that_were_rounded_after_the_last_update() -> None:
    """Reference: the same five steps operation by operation, bit for bit."""
    found = []
    for graphs in (False, True):
        parts = half_parts(small_model(), "bf16", copies=True)
        recorder = with_graphs(parts) if graphs else None
        parts.model.train()
        losses = []
        for _ in range(5):
            losses.append(train_step(parts, [make_batch([0, 1], grid=GRID)], 1.0, lambda: None).loss.item())
            parts.scheduler.step()
        found.append(losses)
        assert recorder is None or recorder.num_rerun == 8
    assert found[0] == found[1]
    assert len(set(found[0])) == 4  # the rate of the first update is 0


def test_a_capture_without_memory_is_told_once_and_training_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    expected = trained(small_model(mask_time_prob=0.2), graphs=False)
    parts = make_parts(small_model(mask_time_prob=0.2))
    recorder = with_graphs(parts, told=told)

    def fail(operations: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore")

    monkeypatch.setattr(recorder, "record", fail)
    loader = loader_of(EXAMPLES, grid=GRID, specaugment=SPEC)
    assert run_fit(parts, loader, LOGGED, 12).losses == expected[0]
    assert len(told) == 1
    assert "CUDA out of memory. Tried to allocate 2 GiB)" in told[0]


def short_of_memory(monkeypatch: pytest.MonkeyPatch, fails: Callable[[int, int], bool]) -> None:
    """Let the pass of a batch run out of memory after its logits, where fails(number of the pass, rows)."""
    numbers = itertools.count()

    def loss(logits: torch.Tensor, frame_lengths: torch.Tensor, *rest: Any, **options: Any) -> torch.Tensor:
        if fails(next(numbers), len(frame_lengths)):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return ctc_loss_per_utterance(logits, frame_lengths, *rest, **options)

    monkeypatch.setattr("trainer.loop.step.ctc_loss_per_utterance", loss)


def test_a_step_in_halves_adds_what_was_captured_to_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four utterances never fit, so their halves come again and again and are captured. Reference: the whole batch
    without graphs; 1e-5 for the order of sums."""
    batch, gradients = make_batch([0, 2, 1, 3]), list[torch.Tensor]()
    for graphs in (False, True):
        parts = make_parts(small_model())
        parts.gradients = Gradients(parts.model, in_one_buffer=True)
        recorder = with_graphs(parts) if graphs else None
        parts.model.train()
        if graphs:
            short_of_memory(monkeypatch, lambda number, rows: rows == 4)
        for _ in range(4):
            assert accumulate_gradient(parts, [batch], 0).is_halved is graphs
            gradients.append(torch.cat([p.grad.flatten() for p in parts.model.parameters() if p.grad is not None]))
            parts.optimizer.zero_grad(set_to_none=True)
    assert recorder is not None
    assert recorder.num_rerun > 0
    assert all((g - gradients[0]).norm() < 1e-5 * gradients[0].norm() for g in gradients)


def test_a_shape_whose_first_pass_ran_out_of_memory_is_not_captured_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Libraries have not made their plans for it, which they cannot do while it is captured."""
    parts = make_parts(small_model())
    recorder = with_graphs(parts)
    parts.model.train()
    short_of_memory(monkeypatch, lambda number, rows: number == 0)
    recorded = []
    for _ in range(3):
        accumulate_gradient(parts, [make_batch([0, 2], grid=GRID)], 0)
        parts.optimizer.zero_grad(set_to_none=True)
        recorded.append(recorder.num_recorded // 2)
    assert recorded == [0, 0, 1]


def test_a_batch_that_ran_out_of_memory_is_let_go_before_the_next_one() -> None:
    parts = make_parts(small_model())
    with_graphs(parts)
    assert parts.graphs is not None
    parts.model.train()
    held: list[bool] = []
    model_forward = parts.model.forward

    def forward(*args: Any, **options: Any) -> torch.Tensor:
        held.append(before is not None and before() is not None)
        return model_forward(*args, **options)

    parts.model.forward = forward  # type: ignore[method-assign]
    before: weakref.ref[torch.Tensor] | None = None
    for positions in ([0, 1], [0], [1]):
        batch = make_batch(positions)
        logits = parts.graphs.logits(model_inputs(batch, batch, None))  # no backward pass follows
        before = weakref.ref(logits)
        del logits
    assert held == [False] * 3


def test_a_capture_that_breaks_off_leaves_the_stream_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.cuda.graph's __exit__ does not come to its stream when capture_end raises, so the stand-in does neither."""
    current = ["training"]

    @contextlib.contextmanager
    def graph(*args: Any, **options: Any) -> Iterator[None]:
        current[0] = "capture"
        yield
        raise RuntimeError("CUDA error: operation failed due to a previous error during capture")

    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 1))
    monkeypatch.setattr(torch.cuda, "CUDAGraph", mock.Mock)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: current[0])
    monkeypatch.setattr(torch.cuda, "set_stream", lambda stream: current.__setitem__(0, stream))
    monkeypatch.setattr(torch.cuda, "graph", graph)
    with pytest.raises(RuntimeError, match="operation failed"):
        CudaRecorder().record(lambda: None)
    assert current == ["training"]


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_what_is_made_in_a_capture_can_be_written_in_training(mode: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch keeps the generator's seed in tensors of the first capture, which may be one of an evaluation."""
    made: list[torch.Tensor] = []

    @contextlib.contextmanager
    def graph(*args: Any, **options: Any) -> Iterator[None]:
        made.append(torch.zeros(1))
        yield

    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 1))
    monkeypatch.setattr(torch.cuda, "CUDAGraph", mock.Mock)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: None)
    monkeypatch.setattr(torch.cuda, "set_stream", lambda stream: None)
    monkeypatch.setattr(torch.cuda, "graph", graph)
    weight = torch.ones(1, requires_grad=True)
    with mode():
        result, _ = CudaRecorder().record(lambda: weight * 2)
    made[0].fill_(7)
    assert result is not None
    assert result.requires_grad is (mode is torch.enable_grad)


@pytest.mark.parametrize("is_stuck", [False, True])
def test_a_generator_that_refuses_to_draw_after_a_capture_is_replaced(
    is_stuck: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It draws the same as if nothing had happened, and graphs that hold the old one are given up."""

    class Stuck(torch.Generator):
        replaced = False

        def graphsafe_set_state(self, state: torch.Generator) -> torch.Generator:  # type: ignore[override]
            self.replaced = True
            return self

        def clone_state(self) -> torch.Generator:
            return self

    generator, rand, ended = Stuck(), torch.rand, []

    def draw(*size: int, **options: Any) -> torch.Tensor:
        if is_stuck and not generator.replaced:
            raise RuntimeError("Offset increment outside graph capture encountered unexpectedly.")
        return rand(*size, **options)

    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 1))
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "default_generators", (generator,))
    monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", lambda *where: ended.append(where), raising=False)
    monkeypatch.setattr(torch, "rand", draw)
    expected = rand(3, generator=torch.Generator().manual_seed(7))
    generator.manual_seed(7)
    assert CudaRecorder().recover() is not is_stuck
    assert torch.equal(draw(3, generator=generator), expected)
    assert ended == [(0, (0, 1))]


def test_when_random_numbers_are_lost_all_graphs_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    parts = make_parts(small_model())
    recorder = with_graphs(parts, told=told)
    parts.model.train()
    for _ in range(2):
        train_step(parts, [make_batch([0, 2], grid=GRID)], 1.0, lambda: None)
    assert parts.graphs is not None
    assert parts.graphs.num_recorded == 1
    monkeypatch.setattr(recorder, "record", mock.Mock(side_effect=RuntimeError("CUDA error: capture invalidated")))
    monkeypatch.setattr(recorder, "recover", lambda: False)
    for _ in range(2):
        train_step(parts, [make_batch([3, 1], grid=GRID)], 1.0, lambda: None)
    assert told == [
        "no further CUDA graphs (CUDA error: capture invalidated): batches are launched operation by operation"
    ]
    before = recorder.num_rerun
    train_step(parts, [make_batch([0, 2], grid=GRID)], 1.0, lambda: None)
    assert (parts.graphs.num_recorded, recorder.num_rerun) == (0, before)


def test_rows_that_fill_a_batch_weigh_nothing() -> None:
    """Reference: the same three utterances in a batch without a grid. Filled up: 8 rows and 5 frames more at least."""
    grid = Grid(48, 8, GEOMETRY.num_frames, GEOMETRY.num_samples)
    found = []
    for of_batch in (None, grid):
        parts = make_parts(small_model().double())
        parts.gradients = Gradients(parts.model, in_one_buffer=True)
        batch = make_batch([0, 3, 1], grid=of_batch)
        batch.waveforms = batch.waveforms.double()
        result = train_step(parts, [batch], 1e9, lambda: None, is_logged=True)
        assert result.blank_share is not None
        found.append([result.loss, result.grad_norm, result.blank_share, *result.nats, *parts.model.parameters()])
    assert batch.waveforms.shape[0] == 8
    assert batch.frame_lengths.tolist() == [30, 100, 70, 1, 1, 1, 1, 1]
    assert batch.num_padded_samples == 8 * GEOMETRY.num_samples(144)
    for plain, filled in zip(*found, strict=True):
        torch.testing.assert_close(filled, plain, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("norm", [0.5, 1e6])
@pytest.mark.parametrize("scale", [1.0, 1024.0])
def test_clipping_inside_the_update_equals_clipping_before_it(norm: float, scale: float) -> None:
    """Reference: the gradient is unscaled and clipped by GradScaler and torch. 1e-6 for another order of operations."""
    from torch.amp import GradScaler

    found = []
    for in_one_buffer in (False, True):
        parts = make_parts(small_model(), scaler=GradScaler("cpu", init_scale=scale, enabled=scale > 1))
        parts.gradients = Gradients(parts.model, in_one_buffer=in_one_buffer)
        parts.model.train()
        for _ in range(3):
            result = train_step(parts, [make_batch([0, 1])], norm, lambda: None, is_logged=True)
            parts.scheduler.step()
        found.append((result.grad_norm, *result.part_norms.values(), *parts.model.parameters()))
        assert parts.scaler.get_scale() == scale
    for before, inside in zip(*found, strict=True):
        torch.testing.assert_close(inside, before, rtol=1e-5, atol=1e-6)


def test_a_gradient_that_overflows_changes_nothing_but_the_scale() -> None:
    from torch.amp import GradScaler

    parts = make_parts(small_model(), scaler=GradScaler("cpu", init_scale=2.0**120, growth_interval=2))
    parts.gradients = Gradients(parts.model, in_one_buffer=True)
    accumulate_gradient(parts, [make_batch([0, 1])], 0)
    parts.gradients.parameters[0].grad.fill_(float("inf"))
    before = [p.detach().clone() for p in parts.model.parameters()]
    clipped = clip(parts.gradients, parts.optimizer, parts.scaler, 1.0, torch.tensor(1.0))
    parts.optimizer.step()
    parts.scaler.update()
    assert not clipped.finite
    assert parts.scaler.get_scale() == 2.0**119
    assert all(torch.equal(a, b) for a, b in zip(before, parts.model.parameters(), strict=True))


def half_parts(model: CTCModel, precision: str, *, copies: bool) -> TrainingParts:
    parts = make_parts(model)
    parts.autocast = autocast_for(precision, CPU)
    if copies:
        model.keep_half_copies(torch.bfloat16 if precision == "bf16" else torch.float16)
    parts.gradients = Gradients(model, in_one_buffer=True)
    return parts


def test_copies_of_the_weights_follow_autocasts_losses() -> None:
    """Reference: the same 20 steps with torch's autocast, which rounds each weight in every pass."""
    config = dict(mask_time_prob=0.2)
    losses = [
        run_fit(half_parts(small_model(**config), "bf16", copies=copies), loader_of(EXAMPLES), LOGGED, 20).losses
        for copies in (False, True)
    ]
    exact = run_fit(make_parts(small_model(**config)), loader_of(EXAMPLES), LOGGED, 20).losses
    assert losses[1] == [pytest.approx(loss, rel=0.02) for loss in losses[0]]
    assert losses[1] != exact, "half precision rounds"


def test_without_layer_norms_copies_are_autocast_bit_for_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one difference from autocast is the layer norms' rounding."""
    without_norms = lambda path, module: isinstance(module, nn.Linear | nn.Conv1d)  # noqa: E731
    monkeypatch.setattr("models.layers.half_copies._is_copied", without_norms)
    losses = [
        run_fit(half_parts(small_model(), "bf16", copies=copies), loader_of(EXAMPLES), LOGGED, 10).losses
        for copies in (False, True)
    ]
    assert losses[1] == losses[0]


def test_copies_are_rounded_anew_after_every_change_of_the_weights() -> None:
    parts = half_parts(small_model(), "bf16", copies=True)
    copies = parts.model.half_copies
    assert copies is not None
    loaded = {name: tensor + 1 for name, tensor in parts.model.state_dict().items()}

    def change(how: str) -> None:
        if how == "update":
            train_step(parts, [make_batch([0, 1])], 1.0, lambda: None)
            parts.scheduler.step()
            train_step(parts, [make_batch([0, 1])], 1.0, lambda: None)  # the first rate is 0
        elif how == "load":
            parts.model.load_state_dict(loaded)

    for how in ("update", "load"):
        before = parts.model.hf.lm_head.weight.clone()
        change(how)
        assert not torch.equal(before, parts.model.hf.lm_head.weight)
        copies.refresh()
        assert all(torch.equal(copy, weight.bfloat16()) for weight, copy in copies.of.items()), how


def test_logits_under_autocast_are_those_of_a_head_in_fp32() -> None:
    parts = half_parts(small_model(), "bf16", copies=True)
    batch = make_batch([0])
    with parts.autocast(), torch.no_grad():
        logits = parts.model(batch.waveforms, batch.frame_lengths, is_padded=False)
    assert logits.dtype is torch.float32
    assert not torch.equal(logits, logits.bfloat16().float())


def test_evaluations_with_graphs_write_the_same() -> None:
    """The second evaluation captures, the third replays; the reference has no graphs. Weights change in between."""
    model = make_talkative(talkative_model())
    split = eval_set(model, [example(6000 + 900 * i, "abba cab", seed=i) for i in range(6)], batch_size=2)
    parts = make_parts(model)
    recorder = with_graphs(parts)
    for _ in range(3):
        with torch.no_grad():
            model.hf.lm_head.bias += 0.01
        replayed = evaluate(model, split, CPU, parts.autocast, replays=parts.graphs, followed=(1, 4))
        plain = evaluate(model, split, CPU, parts.autocast, followed=(1, 4))
        assert replayed.hypotheses == plain.hypotheses
        assert [f.id for f in replayed.followed] == [split.examples[i].utterance.id for i in (1, 4)]
        assert all((a.posteriors == b.posteriors).all() for a, b in zip(replayed.followed, plain.followed, strict=True))
    assert recorder.num_recorded == 3
    assert recorder.num_rerun == 6


def test_a_batch_of_table_rows_is_replayed_too() -> None:
    """The rows are gathered from the table into the graph's memory."""
    found = []
    for graphs in (False, True):
        parts = make_parts(small_model())
        parts.model.hf.freeze_feature_encoder()
        parts.gradients = Gradients(parts.model, in_one_buffer=True)
        if graphs:
            with_graphs(parts)
        rows = torch.randn(400, 8, generator=torch.Generator().manual_seed(0))
        parts.features = FeatureTable(rows, (1, 60, 130, 200, 320))
        loader = loader_of(EXAMPLES, grid=GRID)
        from dataclasses import replace

        loader.dataset.frontend = replace(loader.dataset.frontend, first_rows=parts.features.first_rows)
        found.append(run_fit(parts, loader, LOGGED, 9).losses)
    assert found[0] == found[1]


def test_who_asks_for_graphs_where_they_cannot_be_hears_why() -> None:
    model = small_model()
    assert wants_graphs(None, model, CPU) is False
    with pytest.raises(ConfigError, match=r"--model\.cuda-graphs: they are CUDA's\. Leave the option out"):
        wants_graphs(True, model, CPU)
    cuda = torch.device("cuda")
    assert wants_graphs(None, model, cuda) is True
    assert wants_graphs(False, model, cuda) is False
    model.activation_checkpointing = True
    with pytest.raises(ConfigError, match="activation checkpointing"):
        wants_graphs(True, model, cuda)
    assert wants_graphs(None, model, cuda) is False
