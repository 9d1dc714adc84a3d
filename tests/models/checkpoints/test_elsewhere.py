"""What is said of folders and files that are no model's: other programs' formats, and weights that are not there.

pytest tests/models/checkpoints/test_elsewhere.py
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from models.checkpoints.pretrained import read_pretrained
from models.checkpoints.weights import load_pretrained, refuse_new_head
from tests.helpers.models import edit_json, small_config, small_hf_model
from trainer.errors import ModelError

LFS_POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 377670823\n"


def error_of(folder: Path) -> str:
    def load() -> None:
        pretrained = read_pretrained(str(folder), None)
        load_pretrained(pretrained, pretrained.config, 0, keep_head=True)

    with pytest.raises(ModelError) as caught:
        load()
    assert "\n" not in str(caught.value)
    return str(caught.value)


FOREIGN = {
    "checkpoint_best.pt": "a checkpoint of fairseq",
    "model.nemo": "a model of NeMo",
    "model.gguf": "a model of llama.cpp",
    "model.onnx": "an ONNX graph",
    "tf_model.h5": "weights of TensorFlow",
    "flax_model.msgpack": "weights of Flax",
    "hyperparams.yaml": "a model of SpeechBrain",
    "epoch=3.ckpt": "a checkpoint of another trainer",
}


@pytest.mark.parametrize("has_configuration", [True, False])
@pytest.mark.parametrize("name", FOREIGN)
def test_folder_of_another_programs_format_is_told_by_it(name: str, has_configuration: bool, tmp_path: Path) -> None:
    if has_configuration:
        small_config("wav2vec2").save_pretrained(tmp_path)
    (tmp_path / name).write_bytes(b"x")
    assert f"t holds {name}: {FOREIGN[name]}" in error_of(tmp_path)


@pytest.mark.parametrize("name", ["checkpoint_best.pt", "model.nemo", "model.gguf", "model.onnx"])
def test_file_of_another_programs_format_is_told_by_it(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"x")
    assert f"{name} is a file: {FOREIGN[name]}" in error_of(tmp_path / name)


@pytest.mark.parametrize("what", ["alone", "with config.json", "with weights"])
def test_adapter_of_peft_is_told_and_how_to_merge_it(what: str, tmp_path: Path) -> None:
    """transformers puts an adapter that lies beside weights onto them; here it would be left out in silence."""
    if what == "with weights":
        small_hf_model("wav2vec2").save_pretrained(tmp_path)
    elif what == "with config.json":
        small_config("wav2vec2").save_pretrained(tmp_path)
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "target_modules": ["q_proj"]}))
    said = error_of(tmp_path)
    assert "a PEFT adapter (adapter_config.json), not the model that it changes" in said
    assert "merge_and_unload" in said


def test_folder_of_checkpoints_names_them(tmp_path: Path) -> None:
    for name in ("checkpoint-500", "checkpoint-1000"):
        small_config("wav2vec2").save_pretrained(tmp_path / name)
    listed = f"{tmp_path}/checkpoint-1000, {tmp_path}/checkpoint-500"
    assert error_of(tmp_path).endswith(f"Give a folder in it that has one: {listed}.")


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_pointer_of_git_lfs_is_told_from_damage(name: str, tmp_path: Path) -> None:
    small_config("wav2vec2").save_pretrained(tmp_path)
    (tmp_path / name).write_text(LFS_POINTER)
    assert error_of(tmp_path).endswith(
        f"{name} is a pointer of git-lfs and not the file itself. Fetch it: git lfs pull."
    )


def test_shards_without_their_index_are_told(tmp_path: Path) -> None:
    small_hf_model("wav2vec2").save_pretrained(tmp_path, max_shard_size="20KB")
    (tmp_path / "model.safetensors.index.json").unlink()
    assert "model.safetensors.index.json, which says where each tensor is, is missing" in error_of(tmp_path)


def test_weights_of_another_name_and_no_weights_are_told(tmp_path: Path) -> None:
    small_hf_model("wav2vec2").save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "model.fp16.safetensors")
    assert "no pytorch_model.bin, but model.fp16.safetensors: rename it" in error_of(tmp_path)
    (tmp_path / "model.fp16.safetensors").unlink()
    assert error_of(tmp_path).endswith("it has no model.safetensors and no pytorch_model.bin.")


def test_state_of_transformers_trainer_is_not_taken_for_another_programs_weights(tmp_path: Path) -> None:
    small_config("wav2vec2").save_pretrained(tmp_path)
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"):
        (tmp_path / name).write_bytes(b"x")
    assert error_of(tmp_path).endswith("it has no model.safetensors and no pytorch_model.bin.")


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "base_model.model."])
def test_names_that_a_wrapper_gave_are_shown_beside_those_that_are_missing(prefix: str, tmp_path: Path) -> None:
    """As DataParallel, torch.compile and peft save the tensors of what they wrap."""
    small_hf_model("wav2vec2").save_pretrained(tmp_path)
    tensors = {prefix + name: tensor for name, tensor in load_file(tmp_path / "model.safetensors").items()}
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    said = error_of(tmp_path)
    assert "tensors are missing: wav2vec2.encoder.*" in said
    assert f"What it has instead: {prefix}" in said


def test_training_state_in_the_place_of_weights_is_shown(tmp_path: Path) -> None:
    model = small_hf_model("wav2vec2")
    model.config.save_pretrained(tmp_path)
    torch.save({"state_dict": model.state_dict()}, tmp_path / "pytorch_model.bin")
    assert "What it has instead: state_dict" in error_of(tmp_path)


@pytest.mark.parametrize(
    "family", ["wav2vec2-bert", "data2vec-audio", "whisper", "mctct", "parakeet_ctc", "of-tomorrow"]
)
def test_other_family_is_told_with_those_that_can_be_trained(family: str, tmp_path: Path) -> None:
    """Also one that transformers does not have, or has no more (mctct)."""
    small_config("wav2vec2").save_pretrained(tmp_path)
    edit_json(tmp_path / "config.json", model_type=family)
    said = error_of(tmp_path)
    assert f"is of the family {family!r}; this trains unispeech, unispeech-sat, wav2vec2, hubert, wavlm" in said
    assert "such as facebook/wav2vec2-xls-r-300m" in said


def test_head_of_another_size_than_config_json_says_is_told_with_both(tmp_path: Path) -> None:
    """As after a change of config.json and vocab.json alone."""
    small_hf_model("wav2vec2").save_pretrained(tmp_path)
    edit_json(tmp_path / "config.json", vocab_size=13)
    pretrained = read_pretrained(str(tmp_path), None)
    _, report = load_pretrained(pretrained, pretrained.config, 0, keep_head=True)
    assert report.describe().endswith("(its weights have a CTC head of 11 outputs, its config.json one of 13)")
    with pytest.raises(ModelError, match=r"have a CTC head of 11 outputs, its config\.json one of 13\. Give config"):
        refuse_new_head(str(tmp_path), report)


def test_head_by_another_name_is_shown(tmp_path: Path) -> None:
    small_hf_model("wav2vec2").save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    renamed = {name.replace("lm_head", "classifier"): tensor for name, tensor in tensors.items()}
    save_file(renamed, tmp_path / "model.safetensors", metadata={"format": "pt"})
    pretrained = read_pretrained(str(tmp_path), None)
    _, report = load_pretrained(pretrained, pretrained.config, 0, keep_head=True)
    with pytest.raises(ModelError, match=r"has no lm_head\.bias, so it writes nothing yet\. It has classifier\.bias"):
        refuse_new_head(str(tmp_path), report)
