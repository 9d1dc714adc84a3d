"""What the processes of a spread model decide together: bad steps, evaluations of unequal shares, lost processes."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from data.batches.loading import StopRequested
from tests.helpers.models import eval_set, make_talkative, small_model
from tests.helpers.ranks import run_ranks
from tests.helpers.sharded import CPU, EXAMPLES, digests, in_ranks, loader_for, trained, training_parts, whole_weights
from tests.helpers.steps import poisoned
from trainer.errors import LoaderError, PeerLost, TrainingStopped
from trainer.loop.step import train_step
from trainer.parallel.joining import joined
from trainer.parallel.launch import Launch
from trainer.parallel.lockstep import in_lockstep
from trainer.parallel.sharding import shard, spread_again, whole_model
from trainer.parallel.world import ALONE, World
from trainer.scoring.evaluate import evaluate

pytestmark = pytest.mark.distributed


def test_step_that_is_bad_in_one_process_changes_nothing_in_any(tmp_path: Path, one_thread: None) -> None:
    """One utterance has a sample that is not a number: its rank sees a loss that is none, the others a sound one."""
    spoiled = (*EXAMPLES[:4], poisoned(EXAMPLES[4]), *EXAMPLES[5:])

    def work(world: World) -> Any:
        with pytest.raises(TrainingStopped, match="not finite 3 times in a row"):
            trained(world, is_sharded=True, dtype=torch.float32, examples=[spoiled[4]] * 5, steps=6)
        parts = training_parts(small_model(), world, is_sharded=True)
        loader = loader_for(parts.model, world, examples=spoiled)
        parts.model.train()
        outcomes = []
        for (_, batches, _), _ in zip(loader.steps(0, 0, lambda: False), range(4), strict=False):
            own = {i for batch in batches for i in batch.ids}
            kept = digests(parts.model.state_dict())
            finite, *_ = train_step(parts, batches, 1.0, lambda: None).outcome.wait()
            same = digests(parts.model.state_dict()) == kept
            parts.scheduler.step()
            outcomes.append([bool(finite), same, "u004" in own])
        return outcomes

    by_ranks = in_ranks(2, work, tmp_path)
    verdicts = [[outcome[:2] for outcome in of_rank] for of_rank in by_ranks]
    assert verdicts[0] == verdicts[1]
    held = [by_ranks[0][k][2] or by_ranks[1][k][2] for k in range(4)]
    assert any(held)
    assert [finite for finite, _ in verdicts[0]] == [not h for h in held]
    assert all(same for (finite, same), h in zip(verdicts[0], held, strict=True) if h)
    assert not by_ranks[0][held.index(True)][2] or not by_ranks[1][held.index(True)][2]  # one rank alone had it


def test_evaluation_of_unequal_shares_scores_every_utterance_once(tmp_path: Path, one_thread: None) -> None:
    """Nine utterances in five batches for two, three and eight processes, the last of which have nothing."""
    model = make_talkative(small_model())
    expected = evaluate(model, eval_set(model, EXAMPLES, batch_size=2), CPU, nullcontext)

    def work(world: World) -> Any:
        spread = make_talkative(small_model())
        shard(spread, CPU)
        scores = evaluate(spread, eval_set(spread, EXAMPLES, batch_size=2), CPU, nullcontext, world=world)
        again = evaluate(spread_again(spread, CPU), eval_set(spread, EXAMPLES), CPU, nullcontext, world=world)
        return [[h.id, h.hypothesis, h.words.num_errors] for s in (scores, again) for h in s.hypotheses]

    transcripts = [[h.id, h.hypothesis, h.words.num_errors] for h in expected.hypotheses] * 2
    assert any(hypothesis for _, hypothesis, _ in transcripts)
    for size in (2, 8):
        assert in_ranks(size, work, tmp_path) == [transcripts] * size


def test_lockstep_gives_each_its_items_and_makes_the_others_idle(tmp_path: Path) -> None:
    def work(world: World) -> Any:
        idle: list[int] = []
        mine = list(range(world.rank))
        got = list(in_lockstep(iter(mine), world, lambda: False, lambda: idle.append(1)))
        return got == mine, len(idle)

    assert in_ranks(3, work, tmp_path) == [[True, 2], [True, 1], [True, 0]]


def test_lockstep_ends_in_all_once_one_must_stop_or_fails(tmp_path: Path) -> None:
    def failing() -> Any:
        yield 1
        raise LoaderError("a worker died")

    def work(world: World) -> Any:
        with pytest.raises(StopRequested):
            list(in_lockstep(iter([1, 2, 3]), world, lambda: world.rank == 1, lambda: None))
        with pytest.raises(LoaderError, match="a worker died"):
            list(in_lockstep(failing() if world.rank == 1 else iter([1, 2, 3]), world, lambda: False, lambda: None))

    in_ranks(2, work, tmp_path)


def test_memory_that_runs_out_in_one_process_ends_all_with_a_reason(tmp_path: Path, one_thread: None) -> None:
    """The others stand in the middle of a pass, and wait for the weights of the one that failed."""

    def work(launch: Launch) -> Any:
        with joined(launch, lambda local_rank: CPU) as world:
            parts = training_parts(small_model(), world, is_sharded=True)
            if world.rank == 1:

                def fail(*what: Any) -> None:
                    raise torch.OutOfMemoryError("CUDA out of memory")

                parts.model.base.encoder.layers[1].attention.k_proj.register_forward_pre_hook(fail)
            parts.model.train()
            _, batches, _ = next(iter(loader_for(parts.model, world).steps(0, 0, lambda: False)))
            try:
                train_step(parts, batches, 1.0, lambda: None)
            except PeerLost as error:
                world.leave(failed=True)
                return str(error)

    ended = run_ranks(2, work, tmp_path, timeout=60)
    assert "out of memory in a step. With --parallel fsdp" in ended[1].result, ended[1].stderr
    assert "rank 1 on" in ended[0].result, ended[0].stderr
    assert "gone" in ended[0].result


def test_whole_model_writes_what_the_spread_one_writes(tmp_path: Path, one_thread: None) -> None:
    """The copy that rank 0 exports has transformers' own forward pass too."""
    model = small_model("wavlm")
    audio = torch.randn(1, 4000, generator=torch.Generator().manual_seed(0))
    expected = model.read(audio)

    def work(world: World) -> Any:
        spread = small_model("wavlm")
        shard(spread, CPU)
        whole = whole_model(spread, keep=world.is_first)
        spread.eval()
        torch.testing.assert_close(spread.read(audio), expected)
        if whole is None:
            return True
        torch.testing.assert_close(whole.hf(audio).logits, expected, rtol=1e-4, atol=1e-4)
        return bool(torch.equal(whole.read(audio), expected))

    assert in_ranks(2, work, tmp_path) == [True, True]


def test_parts_of_one_process_alone_know_nothing_of_sharding() -> None:
    parts = training_parts(small_model(), ALONE)
    assert not parts.model.is_sharded
    assert not parts.gradients.is_sharded
    assert whole_weights(parts).keys() == parts.model.state_dict().keys()


@pytest.mark.parametrize("size", [1, 2])
def test_training_after_an_evaluation_that_came_first(size: int, tmp_path: Path, one_thread: None) -> None:
    """A resumed run may begin with an evaluation; what that gathers must be of use for gradients."""

    def work(world: World) -> Any:
        parts = training_parts(small_model(), world, is_sharded=True)
        evaluate(parts.model, eval_set(parts.model, EXAMPLES), CPU, nullcontext, world=world)
        parts.model.train()
        _, batches, _ = next(iter(loader_for(parts.model, world).steps(0, 0, lambda: False)))
        return bool(train_step(parts, batches, 1.0, lambda: None).outcome.wait()[0])

    assert in_ranks(size, work, tmp_path) == [True] * size
