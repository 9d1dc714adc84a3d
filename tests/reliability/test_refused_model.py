"""Checkpoints that are refused, rows R9, R10 and R11 of the reliability matrix: pickles, code, others' weights.

Every payload is run once at the end, or would leave a trace, so that a test cannot pass for a harmless one.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import PreTrainedModel

from data.corpora.hub import HubConfig
from data.corpora.hub.corpus import HubCorpus
from models.checkpoints.pretrained import read_pretrained
from models.checkpoints.weights import load_pretrained
from models.config import ModelConfig
from models.encoder import configure
from tests.helpers.corpora import ManifestFolder
from tests.helpers.models import VOCAB, edit_json, small_hf_model
from trainer.errors import CorpusError, ModelError

if TYPE_CHECKING:
    from tests.helpers.refused import Tally

pytestmark = pytest.mark.usefixtures("no_hang", "own_folder")


# R9: pickles, and headers of giants


class Payload:
    """Makes a folder when it is unpickled by plain pickle."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.fixture
def model() -> PreTrainedModel:
    return small_hf_model(seed=1)


def checkpoint(folder: Path, model: PreTrainedModel, state: dict | None = None) -> Path:
    """A Hugging Face folder in safetensors."""
    folder.mkdir(exist_ok=True)
    model.config.save_pretrained(folder)
    save_file(model.state_dict() if state is None else state, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def load_checkpoint(folder: Path) -> PreTrainedModel:
    """What a run does with --model.pretrained FOLDER."""
    pretrained = read_pretrained(str(folder), None)
    options = ModelConfig(pretrained=str(folder))
    config = configure(pretrained.config, options, vocab_size=len(VOCAB), blank_id=VOCAB.blank_id)
    return load_pretrained(pretrained, config, 0, keep_head=True)[0]


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_pickle_with_a_payload_in_place_of_weights_is_refused_and_not_run(
    tally: Tally, tmp_path: Path, model: PreTrainedModel, legacy: bool
) -> None:
    """The control at the end: unpickled, it would have run."""
    trace = tmp_path / "payload-was-run"
    folder = checkpoint(tmp_path / "evil", model)
    (folder / "model.safetensors").unlink()
    state = {**model.state_dict(), "x": Payload(trace)}
    torch.save(state, folder / "pytorch_model.bin", _use_new_zipfile_serialization=not legacy)
    with tally.refuses(ModelError, "more than tensors, which could run code: it is not read"):
        load_checkpoint(folder)
    assert not trace.exists()
    torch.load(folder / "pytorch_model.bin", weights_only=False)
    assert trace.exists()


def test_pickle_named_safetensors_is_refused_and_not_run(tally: Tally, tmp_path: Path, model: PreTrainedModel) -> None:
    trace = tmp_path / "payload-was-run"
    folder = checkpoint(tmp_path / "evil", model)
    torch.save({**model.state_dict(), "x": Payload(trace)}, folder / "model.safetensors")
    with tally.refuses(ModelError, "its weights do not load"):
        load_checkpoint(folder)
    assert not trace.exists()


def test_pickles_beside_the_weights_are_not_touched(tally: Tally, tmp_path: Path, model: PreTrainedModel) -> None:
    """As a Trainer's folder has them: optimizer.pt, rng_state.pth, training_args.bin."""
    trace = tmp_path / "payload-was-run"
    folder = checkpoint(tmp_path / "trainer", model)
    with tally.accepts():
        for name in ("optimizer.pt", "rng_state.pth", "training_args.bin", "pytorch_model.bin", "vocab.pkl"):
            torch.save({"x": Payload(trace)}, folder / name)
        loaded = load_checkpoint(folder).state_dict()
        assert not trace.exists()
        assert all(torch.equal(loaded[name], tensor) for name, tensor in model.state_dict().items())


def test_pt_file_in_place_of_a_folder_is_refused_and_not_run(tone_corpus: ManifestFolder, refused: Callable) -> None:
    """Through the command line."""
    trace, path = Path("payload-was-run"), Path("weights.pt")
    torch.save(Payload(trace), path)
    message = refused("manifest", *tone_corpus.options, "--model.pretrained", str(path))
    assert message.startswith("weights.pt is a file: a checkpoint of fairseq or of another trainer (.pt).")
    assert message.endswith("Give a folder with config.json and weights.")
    assert not trace.exists()


@pytest.mark.parametrize("size", [2**63, 2**40, 10**8, 2**27])
def test_safetensors_with_a_giant_header_is_refused(
    tally: Tally, tmp_path: Path, model: PreTrainedModel, size: int
) -> None:
    folder = checkpoint(tmp_path / "giant", model)
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", size) + content[8:])
    with tally.refuses(ModelError, "its weights do not load"):
        load_checkpoint(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_fifo_in_a_model_folder_is_refused_without_hanging(
    tally: Tally, tmp_path: Path, model: PreTrainedModel, name: str
) -> None:
    folder = checkpoint(tmp_path / "fifo", model)
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with tally.refuses(ModelError, f"{name} is a device or a FIFO, not a file"):
        read_pretrained(str(folder), None)


# R10: code that comes with a checkpoint or a data set


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "tokenizer_config.json"])
def test_checkpoint_with_code_of_its_own_is_refused_and_the_code_not_run(
    tone_corpus: ManifestFolder, refused: Callable, model: PreTrainedModel, name: str
) -> None:
    """Through the command line; the module that auto_map names would leave a trace when imported."""
    folder = checkpoint(Path("remote"), model)
    trace = Path("code-was-run").absolute()
    (folder / "evil.py").write_text(f"import pathlib\npathlib.Path({str(trace)!r}).touch()\nclass Evil: pass\n")
    if not (folder / name).exists():
        (folder / name).write_text('{"feature_extractor_type": "Wav2Vec2FeatureExtractor"}')
    classes = ("AutoConfig", "AutoModelForCTC", "AutoFeatureExtractor", "AutoTokenizer")
    edit_json(folder / name, auto_map=dict.fromkeys(classes, "evil.Evil"))
    message = refused("manifest", *tone_corpus.options, "--model.pretrained", "./remote")
    assert message.startswith(f"./remote: its {name} wants code of its own to be run (auto_map), which is refused.")
    assert not trace.exists()


def test_data_set_with_a_script_of_its_own_is_refused_and_the_script_not_run(tally: Tally, tmp_path: Path) -> None:
    trace = tmp_path / "script-was-run"
    (tmp_path / "speech").mkdir()
    script = tmp_path / "speech" / "speech.py"
    script.write_text(f"import pathlib\npathlib.Path({str(trace)!r}).touch()\n")
    with tally.refuses(CorpusError, r"speech\.py: is a program that makes a data set, and none is run"):
        list(HubCorpus(HubConfig(dataset=str(script))).utterances("train"))
    assert not trace.exists()


def test_bin_weights_of_2021_stay_welcome(tally: Tally, tmp_path: Path, model: PreTrainedModel) -> None:
    """Reference: the tensors that were written, bit for bit."""
    folder = checkpoint(tmp_path / "old", model)
    with tally.accepts():
        (folder / "model.safetensors").unlink()
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
        loaded = load_checkpoint(folder).state_dict()
        assert all(torch.equal(loaded[name], tensor) for name, tensor in model.state_dict().items())


# R11: weights that are not those of the model

KEY = "unispeech.encoder.layers.0.attention.k_proj.weight"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("written", ["safetensors", "bin"])
def test_weights_that_are_no_numbers_are_refused_by_the_tensors_name(
    tally: Tally, tmp_path: Path, model: PreTrainedModel, value: float, written: str
) -> None:
    name = "unispeech.encoder.layers.1.attention.v_proj.weight"
    state = {k: v.clone() for k, v in model.state_dict().items()}
    state[name][3, 2] = value
    folder = checkpoint(tmp_path / "nan", model, state)
    if written == "bin":
        (folder / "model.safetensors").unlink()
        torch.save(state, folder / "pytorch_model.bin")
    with tally.refuses(ModelError, rf"1 of its {len(state)} tensors hold NaN or infinity, the first is {name}\."):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop(KEY), "tensors are missing: .*layers"),
        (lambda state: state.update({KEY.replace("0", "7"): torch.ones(2)}), "have no place in this model"),
        (lambda state: state.update({KEY: torch.ones(24, 25)}), r"of the wrong shape: .*\(24, 25\) for \(24, 24\)"),
        (lambda state: state.clear(), "tensors are missing"),
    ],
    ids=["missing", "unexpected", "wrong shape", "none at all"],
)  # fmt: skip
def test_weights_of_another_model_are_refused_with_a_list(
    tally: Tally, tmp_path: Path, model: PreTrainedModel, change: Callable, message: str
) -> None:
    state = dict(model.state_dict())
    change(state)
    with tally.refuses(ModelError, message):
        load_checkpoint(checkpoint(tmp_path / "other", model, state))


def test_training_from_weights_that_are_no_numbers_is_refused(
    tone_corpus: ManifestFolder, refused: Callable, model: PreTrainedModel
) -> None:
    """Through the command line."""
    state = {k: v.clone() for k, v in model.state_dict().items()}
    state["unispeech.feature_projection.projection.bias"][0] = float("nan")
    checkpoint(Path("nan"), model, state)
    message = refused("manifest", *tone_corpus.options, "--model.pretrained", "./nan")
    assert message.startswith("./nan: 1 of its ")
    assert "unispeech.feature_projection.projection.bias" in message


# Folders that hold no model of ours


def write_config(folder: Path, content: str | None) -> str:
    folder.mkdir()
    if content is not None:
        (folder / "config.json").write_text(content)
    return str(folder)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ('{"model_type": "bert"}', " is of the family 'bert'; this trains unispeech, unispeech-sat, wav2vec2, "),
        ('{"model_type": "whisper"}', " is of the family 'whisper'; this trains "),
        ('{"model_type": "no-such-model"}', " is of the family 'no-such-model'; this trains "),
        ("{}", ": no usable model configuration ("),
        ("[]", ": no usable model configuration ("),
        ('{"model_type": ', ": no usable model configuration ("),
        (None, ": no config.json here; this is not a Hugging Face model folder"),
    ],
    ids=["bert", "whisper", "unknown", "empty", "list", "cut", "none"],
)
def test_checkpoint_of_another_family_or_of_none_is_refused(
    tone_corpus: ManifestFolder, refused: Callable, tmp_path: Path, content: str | None, what: str
) -> None:
    """Through the command line."""
    folder = write_config(tmp_path / "checkpoint", content)
    assert refused("manifest", *tone_corpus.options, "--model.pretrained", folder).startswith(f"{folder}{what}")


@pytest.mark.parametrize("name", ["/no/such/checkpoint", "./checkpoint"])
def test_missing_checkpoint_folder_is_refused(tone_corpus: ManifestFolder, refused: Callable, name: str) -> None:
    message = refused("manifest", *tone_corpus.options, "--model.pretrained", name)
    assert message.startswith(f"{name}: no such folder, and a hub id is OWNER/NAME. ")
