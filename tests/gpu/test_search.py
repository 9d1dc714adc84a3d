"""The CTC loss of odd targets, the beam search and alignment on a GPU: each gives what it gives on the CPU.

Run by scripts/bench/gpu/tests.py, a part of gpu_check.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.ctc import ctc_loss_per_utterance
from tests.helpers.gpu import CPU, CUDA, ON_CUDA
from trainer.align.lattice import Costs, Words
from trainer.align.viterbi import best_paths
from trainer.decoding import hotwords
from trainer.decoding.beam import BeamOptions, BeamSearch
from trainer.decoding.estimate import estimate
from trainer.decoding.fusion import Fusion, Weights
from trainer.decoding.hashing import HashTable, hash_all
from trainer.decoding.ngram import build

pytestmark = ON_CUDA


@pytest.mark.parametrize(
    ("frames", "targets"),
    [
        ([60, 31], [20, 3]),
        ([9], [4]),
        ([12, 7, 1], [0, 3, 0]),
        ([5, 5], [0, 0]),
        ([950, 700], [400, 12]),  # 801 states: more than a block of CUDA's kernel has threads in fp64
    ],
    ids=str,
)
def test_the_ctc_loss_of_odd_targets_is_the_cpus(frames: list[int], targets: list[int]) -> None:
    """Empty transcripts, one utterance, long ones; in fp64 on both sides, so 1e-5 is float32's rounding of both."""
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(len(frames), max(frames), 12, generator=generator)
    units = torch.randint(0, 11, (len(targets), max(targets)), generator=generator)
    lengths, target_lengths = torch.tensor(frames), torch.tensor(targets)
    found = []
    for device in (CPU, CUDA):
        leaf = logits.to(device).requires_grad_()
        nats = ctc_loss_per_utterance(leaf, lengths, units.to(device), target_lengths, blank_id=11)
        (gradient,) = torch.autograd.grad(nats.sum(), leaf)
        found.append((nats.detach().cpu(), gradient.cpu()))
    assert torch.isfinite(found[0][0]).all()
    for on_cuda, expected in zip(found[1], found[0], strict=True):
        torch.testing.assert_close(on_cuda, expected, rtol=1e-5, atol=1e-6)


UNITS = "|abcd-"
TEXT = [line.split() for line in ("ab a cab", "ab b a", "bad cab a", "a", "dab ab b", "b", "a bad ab a", "ba")]


def fusion_on(device: torch.device, *, lexicon: bool) -> Fusion:
    """A model of words in three grams, a hot word, and perhaps a lexicon."""
    estimated = estimate(TEXT, 3)
    model = build(estimated.words, estimated.levels)
    words = sorted({word for line in TEXT for word in line})
    hashes = hash_all([[UNITS.index(c) for c in word] for word in words], len(UNITS))
    is_boundary = torch.arange(len(UNITS)) == 0
    fusion = Fusion(
        len(UNITS), len(UNITS) - 1, is_boundary.to(device), Weights(lm=0.7, word=0.4, unknown=-0.3), device,
        model.to(device), HashTable.of(hashes[:, -1], torch.tensor([model.ids[w] for w in words])).to(device),
        hot_words=hotwords.build({(4, 1, 2): 1.5}, len(UNITS), 0).to(device),
    )  # fmt: skip
    if not lexicon:
        return fusion
    whole, beginnings = HashTable.of(hashes[:, -1]), HashTable.of(hashes[:, 1:].flatten())
    return replace(fusion, lexicon=whole.to(device), beginnings=beginnings.to(device))


@pytest.mark.parametrize(("width", "lexicon"), [(1, False), (8, True)])
def test_the_beam_search_finds_the_cpus_texts(width: int, lexicon: bool) -> None:
    """16 utterances of spiky noise. Scores differ by the order of float32 sums alone."""
    generator = torch.Generator().manual_seed(width)
    log_probs = (4 * torch.randn(16, 24, len(UNITS), generator=generator)).log_softmax(-1)
    lengths = torch.randint(1, 25, (16,), generator=generator)
    options = BeamOptions(width=width)
    expected, found = (
        BeamSearch(fusion_on(device, lexicon=lexicon), options)(log_probs.to(device), lengths, 3)
        for device in (CPU, CUDA)
    )
    for ours, theirs in zip(found, expected, strict=True):
        assert ours[0].units == theirs[0].units
        assert [one.score for one in ours] == [pytest.approx(one.score, rel=1e-4, abs=1e-4) for one in theirs]


@pytest.mark.parametrize("max_bytes", [2**28, 2**14])
def test_alignment_finds_the_cpus_path(max_bytes: int) -> None:
    """Words of random units, in memory for all scores and for few. On both sides they are sums of the same numbers."""
    rng, emissions, stretches = np.random.default_rng(0), [], []
    for num_words in (1, 3, 6):
        log_probs = torch.from_numpy(3 * rng.standard_normal((40, 6))).log_softmax(-1).float()
        relative = log_probs - log_probs.max(-1, keepdim=True).values
        emissions.append(torch.cat([relative, -torch.from_numpy(rng.random((40, 1))).float()], 1))
        units = tuple(tuple(rng.integers(2, 6, 3).tolist()) for _ in range(num_words))
        stretches.append(Words(units, 1, 0, frozenset({0})))
    expected, found = (
        best_paths([e.to(device) for e in emissions], stretches, Costs(), max_bytes)[1] for device in (CPU, CUDA)
    )
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.states.tolist() == theirs.states.tolist()
        assert ours.score == pytest.approx(theirs.score, rel=1e-5)
