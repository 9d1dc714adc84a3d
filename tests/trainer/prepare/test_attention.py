"""Which kernel of attention a run gets (trainer.prepare.attention). Nothing is timed: the times are given."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from data.batches.grid import Grid
from data.config import BatchingConfig
from models.layers.attention import AttentionShape
from tests.helpers.batches import EXAMPLES, plan_of
from tests.helpers.models import small_model
from trainer.cli.parse import parse
from trainer.config.as_json import to_json
from trainer.config.schema import Config
from trainer.config.validate import resolve, validate
from trainer.errors import ConfigError
from trainer.prepare.attention import choose_attention, largest_batch
from trainer.prepare.build import with_attention

CUDA = torch.device("cuda")
TIMES = {"cudnn": 0.177, "efficient": 0.249}


def config_of(folder: Path, *options: str) -> Config:
    (folder / "train.jsonl").touch()
    paths = ["--corpus.train", str(folder / "train.jsonl"), "--corpus.eval", str(folder / "train.jsonl")]
    command = ["manifest", *paths, "--runs-dir", str(folder), "--name", "run", "--model.size", "tiny", *options]
    return resolve(validate(parse(command)))


def choose(config: Config, device: torch.device = CUDA, times: dict[str, float] = TIMES):
    """(Kernel, line, shapes that were timed)."""
    timed = []

    def measure(shape: AttentionShape, device: torch.device) -> dict[str, float]:
        timed.append(shape)
        return times

    plan = plan_of(EXAMPLES, batching=BatchingConfig(batch_size=2))
    return *choose_attention(config, small_model("unispeech", "layer"), plan, device, "fp16", measure), timed


def test_the_fastest_is_chosen_and_said(tmp_path: Path) -> None:
    kernel, line, timed = choose(config_of(tmp_path))
    assert kernel == "cudnn"
    assert line.startswith("cudnn, 0.18 ms a layer forward and backward at ")
    assert line.endswith("(efficient 0.25)")
    assert [shape.dtype for shape in timed] == [torch.float16]


def test_a_resumed_run_keeps_its_kernel_whatever_is_faster_now(tmp_path: Path) -> None:
    began = with_attention(config_of(tmp_path), "cudnn")
    began.run_dir.mkdir()
    (began.run_dir / "config.json").write_text(to_json(began))
    resumed = replace(config_of(tmp_path), resume=True)
    assert choose(resumed, times={"efficient": 0.1, "cudnn": 0.2}) == ("cudnn", "cudnn, as the run began", [])


def test_a_run_that_began_with_torchs_choice_keeps_that(tmp_path: Path) -> None:
    began = config_of(tmp_path)
    began.run_dir.mkdir()
    (began.run_dir / "config.json").write_text(to_json(began))
    assert choose(replace(began, resume=True)) == (None, None, [])


@pytest.mark.parametrize(("options", "device"), [(["--deterministic"], CUDA), ([], torch.device("cpu"))])
def test_nothing_is_timed_in_a_deterministic_run_or_on_a_cpu(
    tmp_path: Path, options: list[str], device: torch.device
) -> None:
    assert choose(config_of(tmp_path, *options), device) == (None, None, [])


@pytest.mark.parametrize("options", [[], ["--deterministic"]])
def test_the_kernel_that_is_asked_for_is_taken_though_it_is_slower(tmp_path: Path, options: list[str]) -> None:
    kernel, line, _ = choose(config_of(tmp_path, "--model.attention", "efficient", *options))
    assert kernel == "efficient"
    assert line.startswith("efficient, 0.25 ms")


def test_a_kernel_that_cannot_is_refused_with_those_that_can(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--model\.attention flash: it cannot .* a mask .*cudnn or efficient can"):
        choose(config_of(tmp_path, "--model.attention", "flash"))


def test_torch_chooses_where_none_of_its_kernels_can(tmp_path: Path) -> None:
    kernel, line, timed = choose(config_of(tmp_path), times={})
    assert (kernel, line, len(timed)) == (None, None, 1)


def test_a_kernel_is_refused_on_a_cpu(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--model\.attention cudnn needs CUDA: leave it out on a CPU"):
        config_of(tmp_path, "--model.attention", "cudnn", "--device", "cpu")


def test_the_largest_batch_has_the_most_rows_times_frames_squared() -> None:
    """Two long utterances give attention more to do than twelve short ones, though these have more frames together."""
    model = small_model("unispeech", "layer")
    lengths, batches = [16_000] * 12 + [80_000] * 2, [list(range(12)), [12, 13]]
    plan = SimpleNamespace(epoch_lengths=lambda epoch: lengths, batches=lambda epoch: batches, grid=None)
    assert largest_batch(plan, model) == (2, 249)  # type: ignore[arg-type]
    grid = Grid(16, 4, model.num_frames, model.geometry.num_samples)
    gridded = SimpleNamespace(**{**vars(plan), "grid": grid})
    assert largest_batch(gridded, model) == (4, 256)  # type: ignore[arg-type]
