"""Two ranks, forked: a step of several processes is that of one; what ranks tell each other; what is refused.

tests/distributed has the same for more ranks and whole runs.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import trainer.parallel.joining
from tests.helpers.equal import train, worst
from tests.helpers.ranks import in_worlds, run_ranks
from trainer.cli.parse import parse
from trainer.errors import ConfigError, CorpusError, PeerLost, UserError
from trainer.parallel.joining import join, joined
from trainer.parallel.launch import Launch, launched
from trainer.parallel.processes import Processes
from trainer.parallel.world import ALONE, World
from trainer.prepare.identity import refuse_other_commands

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")


def test_two_ranks_train_as_one_process(tmp_path: Path) -> None:
    """20 steps in double precision, to 1e-9: only the order of sums differs. Both end in the same bits."""
    one, ranks = train(ALONE, double=True), in_worlds(2, lambda world: train(world, double=True), tmp_path)
    assert ranks[0] == ranks[1]
    assert worst(ranks[0]["losses"], one["losses"]) < 1e-9
    assert worst(ranks[0]["norms"], one["norms"]) < 1e-9
    assert worst(ranks[0]["weights"], one["weights"]) < 1e-9


def talk(world: World) -> dict[str, Any]:
    tensor, several = torch.full((3,), float(world.rank + 1)), torch.arange(6.0).view(2, 3).t() * world.rank
    world.sum_(tensor)
    world.broadcast_tensors([several, torch.tensor(True)])
    return {
        "sum": tensor.tolist(),
        "agreed": world.agree([world.rank, 5 - world.rank, 0]),
        "gathered": world.gather({"rank": world.rank, "text": "é" * world.rank, "nan": None}),
        "broadcast": world.broadcast(["of", world.rank]),
        "tensors": several.tolist(),
        "met": world.meet(world.rank),
        "name": world.name,
    }


def test_ranks_sum_agree_gather_broadcast_and_meet(tmp_path: Path) -> None:
    ranks = in_worlds(2, talk, tmp_path)
    for rank, found in enumerate(ranks):
        assert found["sum"] == [3.0, 3.0, 3.0]
        assert found["agreed"] == [1, 5, 0]
        assert found["gathered"] == [{"rank": r, "text": "é" * r, "nan": None} for r in (0, 1)]
        assert found["broadcast"] == ["of", 0]
        assert found["tensors"] == [[0.0, 0.0]] * 3
        assert found["met"] == [0, 1]
        assert found["name"].startswith(f"rank {rank} on ")


def test_a_process_alone_talks_to_nobody() -> None:
    found = talk(ALONE)
    assert found["sum"] == [1.0, 1.0, 1.0]
    assert (found["agreed"], found["met"], found["broadcast"]) == ([0, 5, 0], [0], ["of", 0])


def test_an_error_of_one_rank_is_raised_in_all_and_told_by_the_first(tmp_path: Path) -> None:
    def fail(world: World) -> list[Any]:
        try:
            with world.together("a test"):
                if world.rank == 1:
                    raise CorpusError("train.jsonl:3: no text.")
        except CorpusError as error:
            return [str(error), error.is_told]
        return []

    first, second = in_worlds(2, fail, tmp_path)
    assert first[0] == second[0]
    assert first[0].endswith("train.jsonl:3: no text.")
    assert first[0].startswith("rank 1 on ")
    assert (first[1], second[1]) == (False, True)


def test_the_same_error_in_all_ranks_has_no_name_before_it(tmp_path: Path) -> None:
    def fail(world: World) -> str:
        with pytest.raises(ConfigError) as caught, world.together("a test"):
            raise ConfigError("--name is taken.")
        return str(caught.value)

    assert in_worlds(2, fail, tmp_path) == ["--name is taken."] * 2


def test_one_rank_of_a_host_goes_first_and_its_error_reaches_the_others(tmp_path: Path) -> None:
    def work(world: World) -> list[Any]:
        order = []
        with world.local_first("a file"):
            if world.rank == 0:
                time.sleep(0.2)
            order.append(time.monotonic())
        try:
            with world.local_first("a file"):
                if world.rank == 0:
                    raise CorpusError("no room.")
        except CorpusError as error:
            return [*order, str(error)]
        return order

    first, second = in_worlds(2, work, tmp_path)
    assert first[0] < second[0]
    assert first[1] == second[1] == "no room."


def test_a_rank_that_dies_is_named_by_the_others_within_seconds(tmp_path: Path) -> None:
    def die(launch: Launch) -> list[Any]:
        with joined(launch, lambda local_rank: CPU) as world:
            world.agree([0])
            if world.rank == 1:
                os._exit(7)
            begin = time.monotonic()
            with pytest.raises(PeerLost) as caught:
                world.agree([0])
            return [str(caught.value), time.monotonic() - begin]

    first, second = run_ranks(2, die, tmp_path)
    assert second.code == 7
    message, seconds = first.result
    assert message.startswith("rank 1 on ")
    assert "is gone" in message
    assert seconds < 10


def test_a_rank_that_only_followed_another_one_is_not_blamed(tmp_path: Path) -> None:
    """Rank 2 dies, rank 1 notices and leaves, and both are gone when rank 0 looks."""

    def die(launch: Launch) -> str:
        with joined(launch, lambda local_rank: CPU) as world:
            world.agree([0])
            if world.rank == 2:
                os._exit(7)
            if world.rank == 0:
                time.sleep(1.0)
            with pytest.raises(PeerLost) as caught:
                world.agree([0])
            if world.rank == 1:
                world.quit()
            return str(caught.value)

    first, *_ = run_ranks(3, die, tmp_path)
    assert first.result.startswith("rank 2 on ")
    assert "rank 1" not in first.result
    assert " is gone; what it printed says why" in first.result


def test_a_rank_that_failed_by_itself_is_blamed_though_it_quits_twice(tmp_path: Path) -> None:
    """It says so at once, and again when it leaves."""

    def fail(launch: Launch) -> str:
        with joined(launch, lambda local_rank: CPU) as world:
            world.agree([0])
            if world.rank == 1:
                world.quit()
                world.quit()
                return ""
            with pytest.raises(PeerLost):
                world.meet()
            assert isinstance(world, Processes)
            return "blamed" if not world.peers._followed(1) else "not blamed"

    assert run_ranks(2, fail, tmp_path)[0].result == "blamed"


def test_a_rank_that_does_not_come_is_named(tmp_path: Path) -> None:
    def wait(launch: Launch) -> list[Any]:
        with pytest.raises(ConfigError) as caught:
            join(launch, CPU, seconds=1.0)
        return [str(caught.value), caught.value.is_told]

    ended = run_ranks(3, wait, tmp_path, absent=[1])
    message, is_told = ended[0].result
    assert message.startswith("rank 1 of 3 did not come within 1 s; 2 are there, the first of them rank 0 on ")
    assert (is_told, ended[2].result[1]) == (False, True)


def test_ranks_of_different_programs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def work(launch: Launch) -> list[Any]:
        own = {"torch": "2.0", "program": f"digest-{launch.rank}"}
        monkeypatch.setattr(trainer.parallel.joining, "fingerprint", lambda: own)
        with pytest.raises(ConfigError) as caught:
            join(launch, CPU)
        return [str(caught.value), caught.value.is_told]

    ended = run_ranks(2, work, tmp_path)
    assert "in program: digest-1 and digest-0." in ended[0].result[0]
    assert ended[0].result[0] == ended[1].result[0]
    assert [e.result[1] for e in ended] == [False, True]


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        (["--train.save-every", "2"], "--train.save-every is 2, not 400"),
        (["--resume"], "--resume is True, not False"),
        (["--parallel", "fsdp"], "--parallel is fsdp, not auto"),
        (["--runs-dir", "x", "--cache-dir", "y", "--corpus.train", "z", "--batching.num-workers", "3"], None),
    ],
)
def test_ranks_with_other_options_are_refused_but_for_where_files_lie(
    options: list[str], difference: str | None, tmp_path: Path
) -> None:
    """A rank that saves or resumes alone would wait for the others for ever."""

    def compare(world: World) -> list[Any]:
        try:
            refuse_other_commands(world, parse(["manifest", *(options if world.rank == 1 else [])]))
        except ConfigError as error:
            return [str(error), error.is_told]
        return []

    first, second = in_worlds(2, compare, tmp_path)
    if difference is None:
        assert first == second == []
        return
    assert first[0] == second[0]
    assert first[0].startswith("rank 1 on ")
    assert first[0].endswith(f" in {difference}. Start all processes with the same command.")
    assert (first[1], second[1]) == (False, True)


def test_a_rank_without_its_device_is_named_by_all(tmp_path: Path) -> None:
    def work(launch: Launch) -> str:
        device: torch.device | UserError = CPU if launch.rank == 0 else ConfigError("no GPU is left.")
        with pytest.raises(ConfigError) as caught:
            join(launch, device)
        return str(caught.value)

    ended = run_ranks(2, work, tmp_path)
    assert ended[0].result == ended[1].result
    assert ended[0].result.startswith("rank 1 on ")
    assert ended[0].result.endswith(": no GPU is left.")


def test_the_environment_of_torchrun_is_read_whole_or_refused() -> None:
    whole = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    assert launched(whole) == Launch(3, 4, 1, 2)
    assert launched({}) == Launch()
    for broken in ({"LOCAL_RANK": ""}, {"RANK": "4"}, {"LOCAL_WORLD_SIZE": "two"}):
        with pytest.raises(ConfigError, match="torchrun"):
            launched(whole | broken)
