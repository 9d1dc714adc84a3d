"""How much of a CUDA card's memory a run takes, found without a card: a step is played on tensors that have no content.

torch's FakeTensorMode carries shapes through the loop's own forward and backward pass, and every tensor that lives at
the same time is counted. What lies in memory between steps is counted from the parameters. Added to both is what CUDA
takes for itself. Not seen are the work spaces of libraries; `scripts.bench.memory` compares with torch's allocator.
"""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from models.ctc import LOSS_DTYPE, CTCModel
from models.layers.half_copies import HalfCopies
from trainer.device import HALF, autocast_for
from trainer.loop.gradients import Gradients
from trainer.loop.optim import moment_bytes

ROUNDED_TO = 512
"""Bytes. CUDA's allocator hands out multiples of it."""
CUDA_ITSELF = 0.7e9
"""Bytes for CUDA's context and kernels, cuBLAS' work space and gaps between tensors; 0.4 to 0.6 GB are usual."""


@dataclass(frozen=True)
class Held:
    """Bytes that lie in a card's memory while a run trains."""

    weights: int
    copies: int
    """Of the weights, in half precision."""
    gradients: int
    """The buffer that sums them up."""
    moments: int
    table: int
    """Of features, where the card has room for it."""
    step: int
    """The most that a step takes besides: activations, gradients of one microbatch, work space."""
    evaluation: int
    """The most that an evaluation takes instead of a step."""
    graphs: int = 0
    """The pool of captured CUDA graphs, which keeps a step's memory."""

    @property
    def between_steps(self) -> int:
        return self.weights + self.copies + self.gradients + self.moments + self.table + self.graphs

    @property
    def total(self) -> int:
        """With what CUDA takes for itself."""
        return int(self.between_steps + max(self.step, self.evaluation) + CUDA_ITSELF)

    def describe(self) -> str:
        """The parts that are not zero, in GB.

        >>> Held(10**9, 0, 0, 2 * 10**9, 0, 3 * 10**9, 10**9).describe()
        'weights 1.00, moments 2.00, a step 3.00 (an evaluation 1.00), CUDA itself 0.70'
        """
        names = {"weights": self.weights, "half copies": self.copies, "gradients": self.gradients,
                 "moments": self.moments, "table": self.table, "graphs": self.graphs}  # fmt: skip
        parts = [f"{name} {size / 1e9:.2f}" for name, size in names.items() if size]
        step = f"a step {self.step / 1e9:.2f} (an evaluation {self.evaluation / 1e9:.2f})"
        return ", ".join([*parts, step, f"CUDA itself {CUDA_ITSELF / 1e9:.2f}"])


def count_held(
    model: CTCModel,
    moments: str,
    precision: str,
    *,
    training: tuple[int, int],
    evaluation: tuple[int, int],
    from_table: bool = False,
    table_bytes: int = 0,
    uses_graphs: bool = False,
    accumulates: bool = False,
) -> Held:
    """What training `model` takes on a CUDA card. `training` and `evaluation` are (utterances, samples of each) of the
    largest microbatch and of the largest batch of an evaluation; `from_table`: training reads features; `accumulates`:
    a step has several microbatches."""
    weights = sum(_rounded(t.nbytes) for t in model.state_dict().values())
    trained = [p for p in model.parameters() if p.requires_grad]
    step = step_bytes(model, precision, *training, from_table=from_table)
    step = max(step, summing_bytes(trained, precision, accumulates))
    # the closing evaluation is in fp32 and reads audio, but no half copies
    closing = evaluation_bytes(model, "fp32", *evaluation)
    copied = 0
    if precision in HALF:
        with FakeTensorMode(allow_non_fake_inputs=True):
            copied = sum(t.nbytes for t in HalfCopies(model, HALF[precision]).of.values())
    return Held(
        weights=weights,
        copies=copied,
        gradients=sum(4 * p.numel() for p in trained),
        moments=sum(moment_bytes(p, moments) for p in trained),
        table=table_bytes,
        step=step,
        evaluation=closing,
        graphs=step if uses_graphs else 0,
    )


def summing_bytes(trained: Sequence[nn.Parameter], precision: str, accumulates: bool) -> int:
    """What is held while a microbatch's gradients are added to those before: they, and where they are of half precision
    the same in fp32. Activations are gone by then."""
    in_half = precision in HALF
    return sum(p.numel() for p in trained) * ((2 if in_half else 4) + (4 if in_half and accumulates else 0))


def step_bytes(
    model: CTCModel, precision: str, rows: int, num_samples: int, *, from_table: bool = False, as_on_cuda: bool = True
) -> int:
    """The most bytes that the passes of a microbatch of `rows` utterances of `num_samples` hold at once."""
    peak, frames = Peak(), model.num_frames(num_samples)
    with played(model, precision, training=True, as_on_cuda=as_on_cuda) as autocast, peak:
        inputs = _inputs(model, rows, num_samples, from_table)
        lengths = torch.full((rows,), frames, device=inputs.device)
        hf = model.hf.config
        time_mask = torch.zeros((rows, frames), dtype=torch.bool, device=inputs.device)
        kept = torch.ones(len(model.base.encoder.layers), dtype=torch.bool, device=inputs.device)
        with autocast():
            logits = model(
                inputs, lengths, is_padded=as_on_cuda,
                time_mask=time_mask if hf.mask_time_prob > 0 else None,
                kept_layers=kept if hf.layerdrop > 0 else None,
            )  # fmt: skip
        hold_loss(logits.detach())
        found = Gradients(model, in_one_buffer=False).of(logits, torch.ones_like(logits))
        del logits, found
    return peak.bytes


def hold_loss(logits: Tensor) -> None:
    """Make what the CTC loss and its gradient make for `logits`, and let it go: with a vocabulary of thousands of units
    it is more than a layer takes. The sums over paths, which are as large as the transcripts, are left out."""
    log_probs = logits.to(LOSS_DTYPE).log_softmax(-1)
    # their gradient, first as (T, B, V) and then as they are, and that of the logits before it is rounded
    _ = [torch.empty_like(log_probs) for _ in range(3)]


def evaluation_bytes(model: CTCModel, precision: str, rows: int, num_samples: int) -> int:
    """The same for the forward pass of an evaluation, from audio."""
    peak = Peak()
    with played(model, precision, training=False) as autocast, peak, torch.no_grad():
        inputs = _inputs(model, rows, num_samples, False)
        lengths = torch.full((rows,), model.num_frames(num_samples), device=inputs.device)
        with autocast():
            hold_loss(model(inputs, lengths, is_padded=True))
    return peak.bytes


def _inputs(model: CTCModel, rows: int, num_samples: int, from_table: bool) -> Tensor:
    device = next(model.parameters()).device
    if from_table:
        return torch.zeros(rows, model.num_frames(num_samples), model.hf.config.conv_dim[-1], device=device)
    return torch.zeros(rows, num_samples, device=device)


@contextmanager
def played(model: CTCModel, precision: str, *, training: bool, as_on_cuda: bool = True) -> Iterator[Callable[[], Any]]:
    """Within this context operations have shapes and no content, and the layers take the way that they take on CUDA, if
    `as_on_cuda`. Gives the autocast to use; the model is as before afterwards."""
    was_training, copies = model.training, model.half_copies
    device = next(model.parameters()).device
    layers: list[Any] = [m for m in model.modules() if hasattr(m, "num_heads") and hasattr(m, "dropout")]
    dropouts = [m.dropout for m in layers]
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", message="Accessing the data pointer")  # models.layers.linear compares them
        stack.enter_context(torch.random.fork_rng(devices=[]))
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        if as_on_cuda:
            stack.enter_context(mock.patch.object(FakeTensor, "is_cuda", True, create=True))
        try:
            model.train(training)
            model.half_copies = HalfCopies(model, HALF[precision]) if precision in HALF else None
            for layer in layers:
                layer.dropout = 0.0  # a CPU's kernel for attention has no dropout, and another one takes far more
            yield autocast_for(precision, device)
        finally:
            model.train(was_training)
            model.half_copies = copies
            for layer, dropout in zip(layers, dropouts, strict=True):
                layer.dropout = dropout


class Peak(TorchDispatchMode):
    """Counts the most bytes of tensors without content that lived at once."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = self._now = 0
        self._alive: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if any(result.alias_info is not None for result in func._schema.returns):
            return made  # a view of what is there already, a weight perhaps
        for tensor in tree_leaves(made):
            if isinstance(tensor, FakeTensor):
                self._see(tensor.untyped_storage())
        return made

    def _see(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._alive:
            return
        size = _rounded(storage.nbytes())
        self._alive.add(key)
        self._now += size
        self.bytes = max(self.bytes, self._now)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._alive.discard(key)
        self._now -= size


def _rounded(num_bytes: int) -> int:
    return -(-num_bytes // ROUNDED_TO) * ROUNDED_TO
