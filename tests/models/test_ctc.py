"""The CTC loss (models.ctc) against enumeration of every path, and against transformers.

pytest tests/models/test_ctc.py
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from data.examples.prepare import frames_needed
from models.ctc import CTCModel, ctc_loss_per_utterance
from tests.helpers.models import EVERY_FAMILY, VOCAB, padded_batch, small_hf_model, small_model

# Sums of a few hundred float64 probabilities
EXACT = dict(atol=1e-10, rtol=1e-10)


def written_by(path: Sequence[int], blank_id: int) -> tuple[int, ...]:
    """What a path of frame labels spells: repeats merged first, blanks dropped then (Graves et al. 2006)."""
    return tuple(unit for unit, _ in itertools.groupby(path) if unit != blank_id)


def enumerated_nats(logits: Tensor, target: Sequence[int], blank_id: int) -> Tensor:
    """-log of the summed probability of every path over logits (T, V) that spells `target`; infinite if none does."""
    log_probs = logits.log_softmax(-1)
    num_frames, num_units = log_probs.shape
    paths = [
        sum((log_probs[t, unit] for t, unit in enumerate(path)), log_probs.new_zeros(()))
        for path in itertools.product(range(num_units), repeat=num_frames)
        if written_by(path, blank_id) == tuple(target)
    ]
    return -torch.stack(paths).logsumexp(0) if paths else log_probs.new_tensor(math.inf)


def random_logits(*shape: int, seed: int = 0) -> Tensor:
    return 2 * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pad(targets: Sequence[Sequence[int]], fill: int) -> tuple[Tensor, Tensor]:
    """(B, U) with `fill` behind each target, which nobody may read; and the lengths."""
    width = max(map(len, targets)) + 1
    padded = torch.tensor([[*target, *([fill] * (width - len(target)))] for target in targets])
    return padded, torch.tensor([len(target) for target in targets])


# (frames, target): a single unit, all different, repeats, repeats with exactly the frames they need, nothing at all
UTTERANCES = [
    (1, (1,)), (4, (1,)), (5, (1, 2)), (3, (1, 1)), (5, (1, 1)), (5, (2, 1, 2)), (5, (2, 2, 1)), (5, (1, 1, 1)),
    (4, ()), (2, (2, 1)),
]  # fmt: skip


def relabelled(target: Sequence[int], blank_id: int) -> tuple[int, ...]:
    """The same target with its units moved out of the way of the blank (units 1, 2 of {0, 1, 2})."""
    units = [unit for unit in range(3) if unit != blank_id]
    return tuple(units[unit - 1] for unit in target)


@pytest.mark.parametrize("blank_id", [0, 1, 2])
@pytest.mark.parametrize(("num_frames", "target"), UTTERANCES, ids=str)
def test_loss_equals_enumeration_of_every_path(num_frames: int, target: tuple[int, ...], blank_id: int) -> None:
    """Reference: the sum over all 3^T paths; tolerance EXACT. Divided by the target's length, an empty one by 1."""
    target = relabelled(target, blank_id)
    logits = random_logits(1, num_frames, 3)
    targets, lengths = pad([target], fill=blank_id)
    loss = ctc_loss_per_utterance(logits, torch.tensor([num_frames]), targets, lengths, blank_id=blank_id)
    expected = enumerated_nats(logits[0], target, blank_id) / max(1, len(target))
    torch.testing.assert_close(loss, expected[None], **EXACT)


@pytest.mark.parametrize("blank_id", [0, 2])
@pytest.mark.parametrize("fill", [0, 1, 2])
def test_uneven_batch_equals_enumeration_utterance_by_utterance(blank_id: int, fill: int) -> None:
    """Reference: as above, each row with its own frames and units, whatever stands behind them; tolerance EXACT."""
    frames = torch.tensor([n for n, _ in UTTERANCES])
    all_targets = [relabelled(target, blank_id) for _, target in UTTERANCES]
    logits = random_logits(len(UTTERANCES), 6, 3)
    targets, lengths = pad(all_targets, fill)
    loss = ctc_loss_per_utterance(logits, frames, targets, lengths, blank_id=blank_id)
    expected = torch.stack([
        enumerated_nats(row[:n], target, blank_id) / max(1, len(target))
        for row, n, target in zip(logits, frames, all_targets, strict=True)
    ])  # fmt: skip
    torch.testing.assert_close(loss, expected, **EXACT)


def test_gradient_equals_that_of_the_enumeration() -> None:
    """Reference: autograd through the sum over all paths; tolerance EXACT. Frames behind an utterance's end get 0."""
    frames, all_targets = torch.tensor([5, 3, 4]), [(1, 1, 2), (2,), (1, 2)]
    logits = random_logits(3, 5, 3).requires_grad_()
    targets, lengths = pad(all_targets, fill=1)
    loss = ctc_loss_per_utterance(logits, frames, targets, lengths, blank_id=0)
    (ours,) = torch.autograd.grad(loss.sum(), logits)
    expected = sum(enumerated_nats(logits[i, : frames[i]], t, 0) / len(t) for i, t in enumerate(all_targets))
    (theirs,) = torch.autograd.grad(expected, logits)
    torch.testing.assert_close(ours, theirs, **EXACT)
    assert float(ours[1, 3:].abs().max()) == 0


@pytest.mark.parametrize("target", [(1,), (1, 2), (1, 1), (2, 2, 2), (1, 2, 2, 1)], ids=str)
def test_loss_is_infinite_exactly_below_the_frames_needed(target: tuple[int, ...]) -> None:
    """Reference: enumeration, which finds no path then; and data.examples.prepare.frames_needed, which drops go by."""
    needed = frames_needed(target)
    for num_frames in range(1, needed + 2):
        logits = random_logits(1, num_frames, 3)
        targets, lengths = pad([target], fill=0)
        loss = ctc_loss_per_utterance(logits, torch.tensor([num_frames]), targets, lengths, blank_id=0)
        is_infinite = bool(torch.isinf(enumerated_nats(logits[0], target, 0)))
        assert bool(torch.isinf(loss)) == is_infinite == (num_frames < needed), num_frames


def test_one_infinite_loss_leaves_its_neighbours_alone() -> None:
    """Reference: the same utterances without the impossible one; equal to the bit."""
    logits, frames = random_logits(3, 4, 3), torch.tensor([4, 2, 3])
    targets, lengths = pad([(1,), (2, 2), (1, 2)], fill=0)
    loss = ctc_loss_per_utterance(logits, frames, targets, lengths, blank_id=0)
    rest = [0, 2]
    alone = ctc_loss_per_utterance(logits[rest], frames[rest], targets[rest], lengths[rest], blank_id=0)
    assert torch.isinf(loss[1])
    assert torch.equal(loss[rest], alone)


def test_batch_of_empty_references_is_finite() -> None:
    """Reference: -log p(blank) summed over the frames, in float64; tolerance EXACT."""
    logits = random_logits(2, 4, 3)
    loss = ctc_loss_per_utterance(
        logits, torch.tensor([4, 2]), torch.zeros(2, 0, dtype=torch.long), torch.tensor([0, 0]), blank_id=0
    )
    silent = -logits.log_softmax(-1)[..., 0]
    torch.testing.assert_close(loss, torch.stack([silent[0].sum(), silent[1, :2].sum()]), **EXACT)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_logits_have_the_exact_loss_in_float32(dtype: torch.dtype) -> None:
    """Reference: the same rounded logits in float64."""
    logits = random_logits(2, 60, 5).to(dtype)
    targets, lengths = pad([(1, 2, 2, 3), (4, 1)], fill=0)
    frames = torch.tensor([60, 41])
    loss = ctc_loss_per_utterance(logits, frames, targets, lengths, blank_id=0)
    expected = ctc_loss_per_utterance(logits.double(), frames, targets, lengths, blank_id=0)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected.float(), atol=0, rtol=0)


def gradient_by_scaled_sums(logits: Tensor, target: Sequence[int], blank_id: int) -> Tensor:
    """Of -log p(target) for logits (T, V): softmax minus the share of paths that go through each unit. Forward and
    backward sums are probabilities in float64 that are scaled to a sum of 1 in each frame (Rabiner 1989)."""
    probs = logits.double().softmax(-1)
    states = torch.tensor([blank_id, *(unit for one in target for unit in (one, blank_id))])
    may_skip = torch.zeros(len(states), dtype=torch.bool)
    may_skip[3::2] = states[3::2] != states[1:-2:2]

    def scaled_sums(emitted: Tensor, may_skip: Tensor) -> Tensor:
        sums = torch.zeros_like(emitted)
        sums[0, :2] = emitted[0, :2] / emitted[0, :2].sum()
        for t in range(1, len(emitted)):
            from_before = torch.cat([torch.zeros(1), sums[t - 1, :-1]])
            over_blank = torch.cat([torch.zeros(2), sums[t - 1, :-2]]) * may_skip
            here = (sums[t - 1] + from_before + over_blank) * emitted[t]
            sums[t] = here / here.sum()
        return sums

    emitted = probs[:, states]
    skip_to_left = torch.cat([may_skip[2:], torch.zeros(2, dtype=torch.bool)]).flip(0)
    shares = scaled_sums(emitted, may_skip) * scaled_sums(emitted.flip(0, 1), skip_to_left).flip(0, 1) / emitted
    shares /= shares.sum(-1, keepdim=True)
    return probs - torch.zeros_like(probs).index_add(1, states, shares)


def test_gradient_of_a_thousand_frames_is_as_exact_as_its_float32_logits() -> None:
    """Reference: sums of scaled probabilities. torch's CTC in float32 is a thousand times farther from it."""
    generator = torch.Generator().manual_seed(0)
    logits = (3 * torch.randn(1, 1000, 32, generator=generator)).requires_grad_()
    targets = torch.randint(1, 32, (1, 150), generator=generator)
    lengths = torch.tensor([1000]), targets, torch.tensor([150])
    exact = gradient_by_scaled_sums(logits[0].detach(), targets[0].tolist(), 0)

    def error(loss: Tensor) -> float:
        (gradient,) = torch.autograd.grad(loss.sum() * 150, logits)
        return float((gradient[0].double() - exact).norm() / exact.norm())

    assert error(ctc_loss_per_utterance(logits, *lengths, blank_id=0)) < 1e-6
    log_probs = logits.log_softmax(-1).transpose(0, 1)
    of_torch = torch.nn.functional.ctc_loss(log_probs, targets, lengths[0], lengths[2], reduction="sum")
    assert error(of_torch / 150) > 1e-4


@EVERY_FAMILY
def test_mean_over_utterances_equals_transformers_loss(family: str) -> None:
    """Reference: the family's own loss from labels, ctc_loss_reduction "mean"; fp32 on both sides, 1e-6 relative."""
    hf_model = small_hf_model(family)
    model = CTCModel(hf_model, freeze_feature_encoder=False).eval()
    batch = padded_batch(model, (5200, 3333, 4100))
    all_targets = [VOCAB.encoder()(text) for text in ("abba cab", "head", "a")]
    targets, lengths = pad(all_targets, fill=0)
    labels = targets.masked_fill(torch.arange(targets.shape[1]) >= lengths[:, None], -100)
    with torch.no_grad():
        logits = model(batch.waveforms, batch.frame_lengths)
        ours = ctc_loss_per_utterance(logits, batch.frame_lengths, targets, lengths, blank_id=model.blank_id).mean()
        theirs = hf_model(batch.waveforms, attention_mask=batch.attention_mask, labels=labels).loss
    torch.testing.assert_close(ours, theirs, atol=0, rtol=1e-6)


def test_under_autocast_the_head_reads_and_writes_full_precision() -> None:
    """Reference: the product in fp32 of hidden states that half precision cannot hold."""
    model = small_model("unispeech", "layer").eval()
    batch, head = padded_batch(model), model.hf.lm_head
    hidden = torch.randn(len(batch.waveforms), int(batch.frame_lengths.max()), head.in_features)
    model.hf.dropout.register_forward_hook(lambda module, inputs, output: hidden)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        logits = model(batch.waveforms, batch.frame_lengths)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, hidden @ head.weight.T + head.bias, rtol=1e-5, atol=1e-6)
