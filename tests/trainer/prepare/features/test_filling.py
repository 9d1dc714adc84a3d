"""The table of features is computed in calls of one shape, in which many utterances lie end to end."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch

from data.audio.decode import normalize
from data.examples.prepare import Example
from models.ctc import CTCModel
from models.geometry import FrameGeometry
from tests.helpers.models import example, small_model
from trainer.device import autocast_for
from trainer.errors import AudioError
from trainer.prepare.features.filling import NUM_SLOTS, compute_rows, plan_calls

CPU = torch.device("cpu")
ODD_WIDTHS = (24, 16, 8, 40, 56, 24, 48)


@pytest.fixture
def threads() -> Callable[[int], None]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def short_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NUM_SLOTS, "cpu", 20)


def rows_of(
    model: CTCModel, examples: Sequence[Example], precision: str = "fp32", **options: bool
) -> list[torch.Tensor]:
    """The rows of each utterance, computed together."""
    lengths = [e.num_samples for e in examples]
    calls = plan_calls(lengths, model.geometry, NUM_SLOTS["cpu"])
    rows = compute_rows(model, examples, calls, do_normalize=options.get("do_normalize", True), device=CPU,
                        autocast=autocast_for(precision, CPU))  # fmt: skip
    return list(
        torch.cat([*rows, torch.empty(0, model.hf.config.conv_dim[-1])]).split([*map(model.num_frames, lengths)])
    )


@pytest.mark.parametrize("kernels", [(10, 3, 3, 3, 3, 2, 2), (5, 2, 2), (25, 3), (3,)])
def test_every_frame_of_every_utterance_has_its_own_samples_in_one_place(kernels: tuple[int, ...]) -> None:
    """Reference: each frame's samples by themselves, placed one by one."""
    geometry = FrameGeometry.of(kernels, (5, 2, 2, 2, 2, 2, 2)[: len(kernels)])
    rng = random.Random(0)
    for num_slots in (8, 9, 64):
        lengths = [rng.choice([0, 1, geometry.receptive_field, rng.randrange(60 * geometry.stride)]) for _ in range(40)]
        row, done = 1, [0] * len(lengths)
        for call in plan_calls(lengths, geometry, num_slots):
            owner: dict[int, tuple[int, int]] = {}  # sample of the call -> the utterance's sample that lies there
            for piece in call.pieces:
                begin = piece.slot * geometry.stride
                for at, sample in enumerate(range(piece.samples.start, piece.samples.stop), begin):
                    assert at not in owner
                    owner[at] = (piece.example, sample)
            assert max(owner) < num_slots * geometry.stride
            assert call.first_row == row
            where = iter(call.slots)
            for piece in call.pieces:
                for _ in range(piece.num_frames):
                    first, slot = done[piece.example] * geometry.stride, next(where)
                    for k in range(geometry.receptive_field):
                        assert owner[slot * geometry.stride + k] == (piece.example, first + k)
                    done[piece.example] += 1
            assert next(where, None) is None
            row += call.num_frames
        assert done == [geometry.num_frames(n) for n in lengths]


def test_calls_are_full_but_the_last_and_one_slot_for_each_piece() -> None:
    geometry = FrameGeometry.of((10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2))
    lengths = [random.Random(i).randrange(8_000, 80_000) for i in range(100)]
    *full, _ = plan_calls(lengths, geometry, 128)
    assert all(call.num_frames + len(call.pieces) >= 127 for call in full)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_utterances_bits_depend_on_neither_neighbours_nor_place_nor_threads(
    precision: str, threads: Callable[[int], None]
) -> None:
    """Each alone in one thread, against several orders in one to three threads. One is longer than three calls."""
    for widths in (ODD_WIDTHS, (32, 32, 64, 64, 64, 128, 128)):
        model = small_model(freeze_feature_encoder=True, conv_dim=widths)
        examples = [example(n, seed=i) for i, n in enumerate((5200, 23_456, 400, 3333, 719, 6400, 1041, 2222))]
        threads(1)
        alone = [rows_of(model, [e], precision)[0] for e in examples]
        order = list(range(len(examples)))
        for seed in range(4):
            threads(1 + seed % 3)
            random.Random(seed).shuffle(order)
            for i, rows in zip(order, rows_of(model, [examples[i] for i in order], precision), strict=True):
                assert torch.equal(rows, alone[i]), (seed, i)
            assert torch.get_num_threads() == 1 + seed % 3


def test_a_neighbour_that_overflows_harms_nobody() -> None:
    model = small_model(freeze_feature_encoder=True)
    bad = replace(example(3000), load=lambda: np.full(3000, np.inf, np.float32))
    sound = [example(2000, seed=1), example(4000, seed=2)]
    first, spoilt, last = rows_of(model, [sound[0], bad, sound[1]], do_normalize=False)
    assert not spoilt.isfinite().all()
    assert torch.equal(first, rows_of(model, sound, do_normalize=False)[0])
    assert torch.equal(last, rows_of(model, sound, do_normalize=False)[1])


def test_features_are_those_of_transformers() -> None:
    """Reference: transformers' feature encoder on each utterance; 1e-4 covers other summation orders."""
    model = small_model(freeze_feature_encoder=True, conv_dim=ODD_WIDTHS)
    examples = [example(n, seed=i) for i, n in enumerate((5200, 23_456, 3333))]
    for e, rows in zip(examples, rows_of(model, examples), strict=True):
        with torch.no_grad():
            expected = model.base.feature_extractor(torch.from_numpy(normalize(e.load()))[None])[0].T
        torch.testing.assert_close(rows, expected, rtol=1e-4, atol=1e-4)


def test_utterances_without_a_frame_have_no_row() -> None:
    model = small_model(freeze_feature_encoder=True)
    assert [len(rows) for rows in rows_of(model, [example(399), example(400, seed=1), example(0, seed=2)])] == [0, 1, 0]
    assert rows_of(model, [example(399)])[0].shape == (0, 8)


def test_each_utterance_is_read_once_however_many_calls_it_is_cut_into() -> None:
    model, reads = small_model(freeze_feature_encoder=True), list[str]()

    def counted(e: Example) -> Example:
        return replace(e, load=lambda: (reads.append(e.utterance.id), e.load())[1])

    examples = [example(n, seed=i) for i, n in enumerate((30_000, 2000, 9000, 30_000))]
    rows_of(model, [counted(e) for e in examples])
    assert sorted(reads) == [e.utterance.id for e in examples]


@pytest.mark.parametrize("error", [AudioError("gone"), torch.OutOfMemoryError("no memory"), KeyboardInterrupt()])
def test_an_error_ends_all_threads_and_is_raised_as_it_is(
    error: BaseException, threads: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> np.ndarray:
        raise error

    threads(2)
    before = threading.active_count()
    examples = [example(9000, seed=i) for i in range(6)]
    examples[3] = replace(examples[3], load=fail)
    with pytest.raises(type(error)) as raised:
        rows_of(small_model(freeze_feature_encoder=True), examples)
    assert raised.value is error
    assert threading.active_count() == before
    assert torch.get_num_threads() == 2


def test_who_asks_for_no_more_rows_leaves_no_thread() -> None:
    model, before = small_model(freeze_feature_encoder=True), threading.active_count()
    examples = [example(9000, seed=i) for i in range(6)]
    calls = plan_calls([9000] * 6, model.geometry, 20)
    rows = compute_rows(model, examples, calls, do_normalize=True, device=CPU, autocast=nullcontext)
    next(rows)
    rows.close()
    assert threading.active_count() == before
