"""What one rank meets in a step, all do: no memory, a loss that is no number, a signal, an error of its loader.

pytest tests/trainer/parallel/test_steps.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import trainer.loop.step
from tests.helpers.equal import EXAMPLES, Figures, loader_of, model_of, parts_of
from tests.helpers.ranks import in_worlds
from tests.helpers.steps import poisoned, run_fit
from trainer.config.schema import TrainConfig
from trainer.errors import AudioError, ConfigError, TrainingStopped
from trainer.loop.state import TrainState
from trainer.loop.step import backward
from trainer.parallel.world import World
from trainer.prepare.identity import refuse_mixed

pytestmark = pytest.mark.usefixtures("one_thread")
CONFIG = TrainConfig(log_every=1, eval_every=0, save_every=0, max_skips=3)


def weights(parts: Any) -> list[float]:
    return [p.double().sum().item() for p in parts.model.parameters()]


def test_a_step_without_memory_on_one_rank_is_redone_in_halves_by_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gradient is the same up to rounding; LayerDrop skips the same layers in both halves."""

    def run(world: World, fails: bool) -> dict[str, Any]:
        model = model_of("layer")
        parts, log, state, calls = parts_of(model, world), Figures(), TrainState(), 0

        def sometimes(*arguments: Any) -> Any:
            nonlocal calls
            calls += 1
            if fails and world.rank == 1 and calls == 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return backward(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(trainer.loop.step, "backward", sometimes)
            run_fit(parts, loader_of(model, world), CONFIG, 3, state=state, runlog=log)
        return {"norms": log.norms, "halved": state.num_halved, "weights": weights(parts)}

    whole = in_worlds(2, lambda world: run(world, False), tmp_path / "whole")
    redone = in_worlds(2, lambda world: run(world, True), tmp_path / "redone")
    assert redone[0] == redone[1]
    assert (whole[0]["halved"], redone[0]["halved"]) == (0, 1)
    assert redone[0]["norms"] == pytest.approx(whole[0]["norms"], rel=1e-4)


def test_a_loss_that_is_no_number_on_one_rank_skips_the_step_on_all_who_name_it(tmp_path: Path) -> None:
    def run(world: World) -> dict[str, Any]:
        model = model_of("layer")
        examples = [poisoned(EXAMPLES[0]), *EXAMPLES[1:]]
        parts, log, state = parts_of(model, world), Figures(), TrainState()
        loader = loader_of(model, world, examples)
        run_fit(parts, loader, CONFIG, 2, state=state, runlog=log)  # one epoch: every utterance once
        return {"skipped": state.num_skipped, "culprits": log.skips[0].culprits(), "weights": weights(parts)}

    first, second = in_worlds(2, run, tmp_path)
    assert first == second
    assert first["skipped"] == 1
    assert first["culprits"] == ["u0"]


@pytest.mark.parametrize("asked", [0, 1])
def test_a_signal_to_one_rank_stops_all_after_the_same_step_with_a_save(asked: int, tmp_path: Path) -> None:
    def run(world: World) -> list[Any]:
        model, state, saved = model_of("layer"), TrainState(), []
        parts = parts_of(model, world)
        run_fit(parts, loader_of(model, world), CONFIG, 20, state=state, save=lambda: saved.append(state.step),
                must_stop=lambda: world.rank == asked and state.step >= 2)  # fmt: skip
        return [state.step, saved, weights(parts)]

    first, second = in_worlds(2, run, tmp_path)
    assert first == second
    assert first[:2] == [2, [2]] or first[:2] == [3, [3]]


def test_an_error_of_one_ranks_loader_is_raised_in_all_after_a_save(tmp_path: Path) -> None:
    def run(world: World) -> list[Any]:
        model, state, saved = model_of("layer"), TrainState(), []
        loader = loader_of(model, world)
        steps = loader.steps

        def broken(*arguments: Any) -> Any:
            for number, step in enumerate(steps(*arguments)):
                if number == 2 and world.rank == 1:
                    raise AudioError("u3.wav: no audio.")
                yield step

        loader.steps = broken  # type: ignore[method-assign]
        with pytest.raises(AudioError) as caught:
            run_fit(parts_of(model, world), loader, CONFIG, 20, state=state, save=lambda: saved.append(state.step))
        return [str(caught.value), saved, caught.value.is_told]

    first, second = in_worlds(2, run, tmp_path)
    assert first[0] == second[0]
    assert first[0].startswith("rank 1 on ")
    assert first[0].endswith(": u3.wav: no audio.")
    assert first[1] == second[1] == [2]
    assert (first[2], second[2]) == (False, True)


def test_a_single_utterance_without_memory_stops_all_and_is_named(tmp_path: Path) -> None:
    def run(world: World) -> str:
        def never(*arguments: Any) -> Any:
            if world.rank == 1:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return backward(*arguments)

        model = model_of("layer")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(trainer.loop.step, "backward", never)
            with pytest.raises(TrainingStopped) as caught:
                run_fit(parts_of(model, world), loader_of(model, world), CONFIG, 3)
        return str(caught.value)

    first, second = in_worlds(2, run, tmp_path)
    assert first == second
    assert "out of memory on single utterances, the longest u" in first


def test_ranks_that_have_read_other_corpora_are_refused_by_what_differs(tmp_path: Path) -> None:
    def run(world: World) -> str:
        record = {"content": {"corpus train": f"hash {world.rank}", "torch": "2"}, "options": {}, "tokens": []}
        with pytest.raises(ConfigError) as caught:
            refuse_mixed(world, record)
        refuse_mixed(world, record | {"content": {}})
        return str(caught.value)

    first, second = in_worlds(2, run, tmp_path)
    assert first == second
    assert "the content of corpus train" in first
    assert first.startswith("rank 1 on ")
