"""A run that trains low-rank updates: its checkpoints, its export, its adapter, and how it goes on.

pytest tests/trainer/test_lora.py
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCTC

from models.checkpoints.training_checkpoint import read_weights
from scripts.export import main as export
from scripts.verify_run import verify_run
from tests.helpers.models import noise
from tests.helpers.runs import train_on_noise
from trainer.cli.parse import parse
from trainer.config.validate import resolve, validate
from trainer.errors import ConfigError
from trainer.run import main

LORA = ("--model.lora-rank", "4", "--model.lora-targets", "q_proj", "v_proj", "output_dense", "--optim.lr", "1e-2")


@pytest.fixture(scope="module")
def lora_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_on_noise(tmp_path_factory.mktemp("lora"), *LORA, "--train.save-every", "2")


def logits_of(model: torch.nn.Module) -> torch.Tensor:
    """In fp64, so that what differs is the weights."""
    waveform = torch.from_numpy(noise(9000, seed=3))[None].double()
    with torch.inference_mode():
        return model.double().eval()(waveform).logits


def test_the_adapter_on_the_checkpoint_has_the_logits_of_the_merged_export(lora_run: Path) -> None:
    """Reference: peft's and transformers' own loading; relative 1e-6."""
    base = AutoModelForCTC.from_pretrained(lora_run.parents[1] / "checkpoint")
    before = logits_of(base)
    tuned = PeftModel.from_pretrained(base, lora_run / "model-adapter")
    merged = logits_of(AutoModelForCTC.from_pretrained(lora_run / "model"))
    with_adapter = logits_of(tuned)
    assert float((with_adapter - before).abs().max()) > 0.1
    torch.testing.assert_close(with_adapter, merged, rtol=0, atol=1e-6 * float(merged.abs().max()))
    torch.testing.assert_close(
        logits_of(tuned.merge_and_unload()), merged, rtol=0, atol=1e-6 * float(merged.abs().max())
    )


def test_the_adapter_is_small_and_holds_what_was_trained(lora_run: Path) -> None:
    folder = lora_run / "model-adapter"
    tensors = load_file(folder / "adapter_model.safetensors")
    assert len(tensors) == 2 * 3 * 2 + 2  # layers, targets, matrices; the head
    config = json.loads((folder / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["modules_to_save"]) == (4, 8.0, ["lm_head"])
    assert config["base_model_name_or_path"] == str(lora_run.parents[1] / "checkpoint")
    assert set(config["target_modules"]) == {"q_proj", "v_proj", "output_dense"}


def test_the_base_is_as_it_was_and_the_export_has_no_trace_of_updates(lora_run: Path) -> None:
    base = load_file(lora_run.parents[1] / "checkpoint" / "model.safetensors")
    exported = load_file(lora_run / "model" / "model.safetensors")
    assert base.keys() == exported.keys()
    changed = {name.rpartition(".layers.")[2] for name in base if not torch.equal(base[name], exported[name])}
    places = ("attention.q_proj", "attention.v_proj", "feed_forward.output_dense")
    assert changed == {f"{i}.{place}.weight" for i in (0, 1) for place in places} | {"lm_head.weight", "lm_head.bias"}


def test_the_run_is_sound_and_a_changed_export_is_found(lora_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The exported weights are, byte for byte, the merged ones of the checkpoint."""
    assert verify_run(lora_run) == 0
    assert "model                        sound: the weights of step" in capsys.readouterr().out


def test_the_card_says_what_was_trained(lora_run: Path) -> None:
    card = (lora_run / "model" / "README.md").read_text()
    assert "Low-rank updates (LoRA) of rank 4 and alpha 8 were trained on `q_proj`, `v_proj`, `output_dense`" in card
    assert "- lora_rank: 4" in card


def test_any_checkpoint_exports_with_its_adapter(lora_run: Path, tmp_path: Path) -> None:
    assert export([str(lora_run), "--step", "2", "--out", str(tmp_path / "two")]) == 0
    base = AutoModelForCTC.from_pretrained(lora_run.parents[1] / "checkpoint")
    with_adapter = logits_of(PeftModel.from_pretrained(base, tmp_path / "two-adapter"))
    merged = logits_of(AutoModelForCTC.from_pretrained(tmp_path / "two"))
    torch.testing.assert_close(with_adapter, merged, rtol=0, atol=1e-6 * float(merged.abs().max()))
    last = logits_of(AutoModelForCTC.from_pretrained(lora_run / "model"))
    assert float((merged - last).abs().max()) > 1e-3


def test_a_resumed_run_ends_in_the_same_bits(lora_run: Path, tmp_path: Path) -> None:
    """Reference: the run that was not stopped: weights, updates, moments, export."""
    half = train_on_noise(tmp_path, *LORA, "--train.save-every", "1", "--no-report")
    for path in (half / "results.json", *(half / "checkpoints").glob("step-0000000[34]")):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    command = json.loads((lora_run / "results.json").read_text())["command"]
    words = [word.replace(str(lora_run.parents[1]), str(tmp_path)) for word in command]
    assert main([*words, "--resume", "--no-report"]) == 0
    for name in ("checkpoints/step-00000004/model.safetensors", "checkpoints/step-00000004/optimizer.safetensors",
                 "model/model.safetensors", "model-adapter/adapter_model.safetensors"):  # fmt: skip
        a, b = load_file(lora_run / name), load_file(half / name)
        assert a.keys() == b.keys()
        assert all(torch.equal(a[key], b[key]) for key in a), name


def test_a_checkpoint_is_read_merged(lora_run: Path) -> None:
    """Whatever takes a model takes a checkpoint of such a run."""
    state = read_weights(lora_run / "checkpoints" / "step-00000004")
    assert state.keys() == load_file(lora_run / "model" / "model.safetensors").keys()


def test_the_optimizer_holds_moments_of_what_is_trained_alone(lora_run: Path) -> None:
    moments = load_file(lora_run / "checkpoints" / "step-00000004" / "optimizer.safetensors")
    assert {key.rpartition(".")[2] for key in moments} == {"weight", "bias"}
    assert all(".lora_" in key or "lm_head" in key for key in moments)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--model.lora-rank 4 --model.size tiny", "leave out --model.size"),
        ("--model.lora-rank 4 --model.no-freeze-feature-encoder", "--model.no-freeze-feature-encoder"),
        ("--model.freeze-layers 1 --model.size tiny", "--model.freeze-layers leaves most of a checkpoint"),
        ("--model.lora-rank 4 --model.adapter-only", "leave out --model.lora-rank"),
        ("--model.lora-rank 0", "--model.lora-rank 0 must be a number from 1"),
        ("--model.lora-alpha 8", "--model.lora-alpha needs --model.lora-rank"),
        ("--model.lora-rank 4 --model.lora-targets lm_head", "--model.lora-targets lm_head: choose from q_proj"),
    ],
)
def test_options_that_cannot_be_are_refused(options: str, words: str) -> None:
    command = ["manifest", "--corpus.train", "a", "--corpus.eval", "b"]
    size = [] if "--model.size" in options else ["--model.pretrained", "some/checkpoint"]
    with pytest.raises(ConfigError, match=words):
        resolve(validate(parse([*command, *size, *options.split()])))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--model.freeze-layers 3", "this encoder has 2 layers."),
        ("--model.freeze-layers 2 --model.lora-rank 2", "one must be left"),
    ],
)
def test_more_layers_than_there_are_cannot_be_frozen(
    options: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train_on_noise(tmp_path, *options.split(), code=2)
    assert words in capsys.readouterr().err


def test_without_peft_one_line_says_what_to_install(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    train_on_noise(tmp_path, "--model.lora-rank", "2", code=2)
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: --model.lora-rank needs the package peft")
    assert last.endswith("pip install peft")
