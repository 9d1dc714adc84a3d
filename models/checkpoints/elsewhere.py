"""What lies in the place of a model folder: which other program's format, and what makes a model folder of it.

Only names and first bytes are looked at; nothing of another format is read.
"""

from __future__ import annotations

from pathlib import Path

LFS = b"version https://git-lfs"
"""The first bytes of what git leaves in the place of a large file that it did not fetch."""
WEIGHTS = ("model.safetensors", "pytorch_model.bin", "model.safetensors.index.json", "pytorch_model.bin.index.json")
"""The names under which transformers looks for weights."""

OF_A_TRAINER = ("optimizer.pt", "scheduler.pt", "scaler.pt", "training_args.bin", "rng_state.pth", "optimizer.bin")
"""What transformers' Trainer leaves beside the weights, which are none of it."""

_SAVE = "Its save_pretrained writes a model folder"
_FORMATS = {
    "adapter_config.json": "a PEFT adapter (adapter_config.json), not the model that it changes. Put it on that model "
    "(peft.PeftModel.from_pretrained) and merge it (merge_and_unload). " + _SAVE,
    "*.nemo": "a model of NeMo, whose encoders are none of the families here",
    "*.gguf": "a model of llama.cpp, whose weights are quantised. Give the model that it was made of",
    "*.onnx": "an ONNX graph, which cannot be trained. Give the model that it was exported from",
    "tf_model.h5": "weights of TensorFlow. Load them with from_tf=True in transformers 4. " + _SAVE,
    "flax_model.msgpack": "weights of Flax. Load them with from_flax=True in transformers 4. " + _SAVE,
    "hyperparams.yaml": "a model of SpeechBrain. Give the encoder that it was fine-tuned from",
    "*.ckpt": "a checkpoint of another trainer (.ckpt). Load its weights into transformers' model. " + _SAVE,
    "*.pt": "a checkpoint of fairseq or of another trainer (.pt). transformers 4 has a script for fairseq's: "
    "convert_wav2vec2_original_pytorch_checkpoint_to_pytorch.py (HuBERT, WavLM and UniSpeech have one each)",
    "*.pth": "a checkpoint of another trainer (.pth). Load its weights into transformers' model. " + _SAVE,
}  # fmt: skip
"""A file by which another format is known, and what it is and what to do. The first that fits is said."""


def format_of_file(file: Path) -> str:
    """What a file is that was given in the place of a folder; "" where its name does not say."""
    return next((what for pattern, what in _FORMATS.items() if file.match(pattern)), "")


def other_format(folder: Path) -> str:
    """The first file of `folder` that tells of another program's format, what it is and what to do; "" without one."""
    names = sorted(file.name for file in folder.iterdir() if file.name not in OF_A_TRAINER)
    for pattern, what in _FORMATS.items():
        if found := [name for name in names if Path(name).match(pattern)]:
            return f"{found[0]}: {what}"
    return ""


def in_place_of_weights(folder: Path) -> str:
    """One sentence, without its full stop, on why `folder` has no weights that can be read; "" where that is not known.

    It names the file that was found, and what to do.
    """
    if not folder.is_dir():
        return ""
    names = sorted(file.name for file in folder.iterdir() if file.name not in OF_A_TRAINER)
    for name in names:
        if name.endswith((".safetensors", ".bin")) and _is_lfs_pointer(folder / name):
            return f"{name} is a pointer of git-lfs and not the file itself. Fetch it: git lfs pull"
    if any(name in WEIGHTS for name in names):
        return ""
    if shards := [name for name in names if name.startswith(("model-0", "pytorch_model-0"))]:
        index = "model.safetensors.index.json" if shards[0].endswith(".safetensors") else "pytorch_model.bin.index.json"
        return (
            f"its weights are spread over {len(shards)} files, and {index}, which says where each tensor is, is missing"
        )
    if other := other_format(folder):
        return f"it holds {other}"
    if others := [name for name in names if name.endswith((".safetensors", ".bin"))]:
        return f"it has no model.safetensors and no pytorch_model.bin, but {others[0]}: rename it if it holds them"
    return "it has no model.safetensors and no pytorch_model.bin"


def models_below(folder: Path) -> list[str]:
    """The model folders that lie right in `folder`, as a trainer's checkpoint-500 in its output folder."""
    return [str(path.parent) for path in sorted(folder.glob("*/config.json"))]


def _is_lfs_pointer(file: Path) -> bool:
    try:
        with file.open("rb") as opened:
            return opened.read(len(LFS)) == LFS
    except OSError:
        return False
