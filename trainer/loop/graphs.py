"""CUDA graphs: the forward and the backward pass of a batch, captured once for its shape and launched as a whole.

A large model's step is 2,500 kernels. Launching one takes the host 8 to 33 us, so an H100 waits for the host for half
of a step. A graph is one launch: 1 ms for both passes.

    forward graph     features or waveforms, lengths, masks -> logits
    between them      the CTC loss and the gradient of the logits: torch's kernel takes its lengths from the host
    backward graph    the gradient of the logits -> the gradients of all parameters, in Gradients' buffer

A graph reads and writes fixed memory, so a batch is copied into the inputs of the graph of its shape. Batches come on a
grid of shapes (data.batches.grid). The first batch of a shape is computed operation by operation: that is when
libraries choose their kernels and make their plans, which is not possible during capture. The next one is captured,
unless memory ran out in the first.

All graphs share one pool of memory: only one of them is under way at a time, and nothing that one leaves is read after
the next one has begun, save the logits, which have memory of their own. A graph must read no memory that may be given
to others while the graph lives: what it reads is its inputs, weights, their copies, and what it computes itself.

Random numbers are those of the same passes operation by operation: a replay reads seed and offset of CUDA's generator.
LayerDrop is drawn on the host. A layer that it skips is computed all the same, in both ways, and counts for nothing:
so the layers behind it draw the same dropout, and a graph holds for every choice of layers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from models.ctc import CTCModel
from models.layers.transformer import is_dropped
from trainer.errors import ConfigError
from trainer.loop.gradients import Gradients
from trainer.scoring.forward import ModelInputs, logits_of

MOST_GRAPHS = 128
"""Shapes that are captured at most, in training and in evaluation together. Batches of others run without a graph."""


class Recorder(Protocol):
    """Records the operations of a function."""

    def record(self, operations: Callable[[], Tensor | None]) -> tuple[Tensor | None, Callable[[], None]]:
        """(The tensor that `operations` returns, a function that runs its operations again with the same memory)."""

    def recover(self) -> bool:
        """After a `record` that failed: make the device usable again. Whether earlier recordings can still be run."""


class CudaRecorder:
    """Records by capturing CUDA graphs, which all share one pool of memory."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def record(self, operations: Callable[[], Tensor | None]) -> tuple[Tensor | None, Callable[[], None]]:
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        # other threads go on meanwhile: they pin memory for batches and wait for copies
        capture = torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local")
        has_gradient = torch.is_grad_enabled()
        try:
            # The first capture makes tensors for the generator's seed. Made in an evaluation's inference mode, they
            # could not be written in training
            with torch.inference_mode(False), torch.set_grad_enabled(has_gradient), capture:
                result = operations()
        finally:
            torch.cuda.set_stream(stream)  # torch stays on that of the capture if CUDA has broken the capture off
        return result, graph.replay

    def recover(self) -> bool:
        """torch does not end a capture that CUDA has broken off: its allocator gives back no memory from then on, and
        its generator refuses to draw ("Offset increment outside graph capture"). A copy of the generator's state
        draws the same, but graphs that were captured before would go on with the old one."""
        device = torch.cuda.current_device()
        with contextlib.suppress(RuntimeError):  # which says that the capture was ended
            torch._C._cuda_endAllocateToPool(device, self._pool)
        generator = torch.cuda.default_generators[device]
        state = generator.get_state()
        try:
            torch.rand(1, device=generator.device, generator=generator)
        except RuntimeError:
            generator.graphsafe_set_state(generator.clone_state())
            return False
        generator.set_state(state)
        return True


@dataclass
class _Recorded:
    """The passes of one shape, and their memory."""

    inputs: ModelInputs
    kept_layers: Tensor | None
    """bool (layers,), on the device; None without LayerDrop."""
    live: Tensor | None = None
    """Logits with what their backward pass needs, between the two passes."""
    logits: Tensor | None = None
    gradient: Tensor | None = None
    """Of the logits; None in evaluation."""
    forward: Callable[[], None] | None = None
    backward: Callable[[], None] | None = None
    read: tuple[nn.Parameter, ...] = ()
    """Parameters that have a gradient."""


class Graphs:
    """The graphs of a model, by shape."""

    def __init__(
        self,
        model: CTCModel,
        gradients: Gradients,
        autocast: Callable[[], AbstractContextManager],
        recorder: Recorder,
        warn: Callable[[str], None],
        *,
        accumulates: bool,
    ) -> None:
        """`gradients` has its buffer. `accumulates` tells whether a step has several microbatches."""
        self.model, self.gradients, self.autocast = model, gradients, autocast
        self.recorder, self.warn, self.accumulates = recorder, warn, accumulates
        self.is_broken = False
        self._recorded: dict[tuple, _Recorded] = {}
        self._ready: set[tuple] = set()
        """Shapes of which a batch was computed operation by operation, to the end."""
        self._current: _Recorded | tuple[tuple, Tensor] | None = None
        """The passes that are under way; or shape and logits of a batch that is computed operation by operation."""
        self._dropped: list[int] = []

    @property
    def num_recorded(self) -> int:
        """Shapes that have a graph."""
        return len(self._recorded)

    def logits(self, inputs: ModelInputs) -> Tensor:
        """Logits (B, T, V) for a batch, in the model's mode. They hold until the next call.

        In training `backward` may follow.
        """
        self._current = None  # it may hold the activations of a batch for which memory ran out
        key = (self.model.training, self.gradients.are_trained, *inputs.shape)
        recorded = self._graph(key, inputs) if self._may_replay() else None
        kept_layers = self._draw_layers(inputs.frame_lengths.device)
        if recorded is None:
            logits = logits_of(self.model, inputs, self.autocast, kept_layers=kept_layers)
            self._current = key, logits
            if not self.model.training:
                self._ready.add(key)
            return logits
        self._refresh()
        recorded.inputs.fill(inputs)
        if recorded.kept_layers is not None and kept_layers is not None:
            recorded.kept_layers.copy_(kept_layers)
        assert recorded.forward is not None
        assert recorded.logits is not None
        recorded.forward()
        self._current = recorded
        return recorded.logits

    def backward(self, gradient: Tensor) -> None:
        """Add the gradient of the last logits' batch, from that of the logits of its first rows and frames."""
        current, self._current = self._current, None
        assert current is not None, "logits come first"
        layers = self.model.base.encoder.layers
        skipped = {id(p) for i in self._dropped for p in layers[i].parameters()}
        if isinstance(current, tuple):
            key, logits = current
            found = self.gradients.of(logits[: gradient.shape[0], : gradient.shape[1]], gradient)
            pairs = zip(self.gradients.parameters, found, strict=True)
            self.gradients.add([None if id(p) in skipped else g for p, g in pairs])
            self._ready.add(key)
            return
        assert current.gradient is not None
        assert current.backward is not None
        current.gradient.zero_()
        current.gradient[: gradient.shape[0], : gradient.shape[1]].copy_(gradient)
        if self.accumulates:
            self.gradients.clear_unused()
        current.backward()
        self.gradients.adopt(p for p in current.read if id(p) not in skipped)

    def _may_replay(self) -> bool:
        """Whether a graph would do. Its backward pass overwrites the gradient where no step `accumulates`; but a step
        whose memory ran out has a further microbatch all the same, and that one must add to the gradient."""
        return not self.model.training or self.accumulates or all(p.grad is None for p in self.gradients.parameters)

    def _graph(self, key: tuple, inputs: ModelInputs) -> _Recorded | None:
        """The passes of this shape, captured now if it is time; None if there are none."""
        recorded = self._recorded.get(key)
        if recorded is None and key in self._ready and not self.is_broken and self.num_recorded < MOST_GRAPHS:
            recorded = self._record_or_warn(inputs)
            if recorded is not None:
                self._recorded[key] = recorded
        return recorded

    def _refresh(self) -> None:
        if self.model.half_copies is not None:
            self.model.half_copies.refresh()

    def _draw_layers(self, device: torch.device) -> Tensor | None:
        """Draw which layers LayerDrop skips, as a pass without graphs would: bool (layers,) on `device`, False for
        those. None where none is ever skipped."""
        encoder, chosen = self.model.base.encoder, self.model.dropped_layers
        if chosen is not None and self.model.training:
            self._dropped = sorted(chosen)
        else:
            self._dropped = [i for i in range(len(encoder.layers)) if is_dropped(encoder, i)]
        if not (self.model.training and encoder.config.layerdrop > 0):
            return None
        kept = torch.ones(len(encoder.layers), dtype=torch.bool)
        kept[self._dropped] = False
        return (kept.pin_memory() if device.type == "cuda" else kept).to(device, non_blocking=True)

    def _record_or_warn(self, inputs: ModelInputs) -> _Recorded | None:
        """The passes for the shape of `inputs`; None, after a warning, when they cannot be captured."""
        try:
            return self._record(inputs)
        except RuntimeError as error:  # out of memory too
            reason = str(error).splitlines()[0]
        # Freeing memory must wait until the exception, which holds tensors, is gone. One attempt is enough: others
        # would fail too, and each takes time
        self.is_broken = True
        which = "of other shapes "
        if not self.recorder.recover():
            which = ""
            self._recorded.clear()
        torch.cuda.empty_cache()
        self.warn(f"no further CUDA graphs ({reason}): batches {which}are launched operation by operation")
        return None

    def _record(self, inputs: ModelInputs) -> _Recorded:
        model, gradients = self.model, self.gradients
        encoder = model.base.encoder
        kept = None
        if model.training and encoder.config.layerdrop > 0:
            kept = torch.ones(len(encoder.layers), dtype=torch.bool, device=inputs.frame_lengths.device)
        recorded = _Recorded(inputs.clone(), kept)
        self._refresh()  # or it would be part of the graph

        def forward() -> Tensor:
            recorded.live = logits_of(model, recorded.inputs, self.autocast, kept_layers=recorded.kept_layers)
            return recorded.live.detach()

        def backward() -> None:
            live, recorded.live = recorded.live, None
            assert live is not None
            assert recorded.gradient is not None
            pairs = list(zip(gradients.parameters, gradients.of(live, recorded.gradient), strict=True))
            recorded.read = tuple(p for p, g in pairs if g is not None)
            (gradients.add_to_buffer if self.accumulates else gradients.write)(pairs)

        recorded.logits, recorded.forward = self.recorder.record(forward)
        if model.training:
            assert recorded.logits is not None
            recorded.gradient = torch.zeros_like(recorded.logits)
            _, recorded.backward = self.recorder.record(backward)
        recorded.live = None
        return recorded


def why_no_graphs(model: CTCModel, device: torch.device) -> str | None:
    """Why the passes of `model` cannot be captured; None if they can."""
    if device.type != "cuda":
        return "they are CUDA's"
    if model.is_sharded:
        return "with --parallel fsdp weights are gathered and freed in every pass"
    if not model.is_batch_invariant:
        return "group norm sees padding, so its batches have no fixed shapes"
    if model.activation_checkpointing:
        return "activation checkpointing sets the state of random numbers, which is not possible in a graph"
    return None


def wants_graphs(asked: bool | None, model: CTCModel, device: torch.device) -> bool:
    """Whether to use graphs. ConfigError when the user asks for them and they are not possible."""
    reason = why_no_graphs(model, device)
    if asked and reason:
        raise ConfigError(f"--model.cuda-graphs: {reason}. Leave the option out.")
    return reason is None if asked is None else asked
