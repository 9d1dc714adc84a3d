"""The ONNX export (models.onnx_graph, scripts/export_onnx.py) under onnxruntime, against PyTorch.

pytest tests/test_onnx.py
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

pytest.importorskip("onnxruntime", reason='onnxruntime is not installed: pip install ".[onnx]"')
pytest.importorskip("onnxscript", reason='onnxscript is not installed: pip install ".[onnx]"')

import onnxruntime

from conftest import write_jsonl
from data.audio import normalize
from helpers_models import VOCAB, noise, small_model
from models.ctc import CTCModel
from models.export import save_huggingface
from models.onnx_graph import write_onnx
from scripts.export_onnx import main
from trainer.onnx_check import open_graph

TOLERANCE = 1e-4
"""Logits of these models reach 10; both sides add in float32, in their own order."""


def compare(model: CTCModel, path: Path, lengths: list[int], *, do_normalize: bool = True, batch: int = 8) -> float:
    """Largest difference of a logit, over noise with an offset, the graph reading padded batches of raw samples.

    Reference: PyTorch, each utterance by itself, normalised by data.audio.
    """
    graph, waveforms = open_graph(path, 1), [noise(n, seed=i) + 0.1 for i, n in enumerate(lengths)]
    worst = 0.0
    for i in range(0, len(waveforms), batch):
        for waveform, found in zip(waveforms[i : i + batch], graph(waveforms[i : i + batch]), strict=True):
            frames = model.num_frames(len(waveform))
            row = torch.from_numpy(normalize(waveform) if do_normalize else waveform)[None]
            with torch.inference_mode():
                expected = model(row, torch.tensor([frames]), is_padded=False)[0].numpy()
            assert found.shape == expected.shape
            worst = max(worst, float(abs(found - expected).max()))
    return worst


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[CTCModel, Path, Path]:
    """(Model, its folder, its graph) as the command leaves them, int8 beside it."""
    root = tmp_path_factory.mktemp("onnx")
    model = small_model()
    save_huggingface(model.hf, VOCAB.tokens, VOCAB.special, True, root / "model")
    rows = []
    for i, n in enumerate((399, 9000, 17_000)):
        soundfile.write(root / f"{i}.wav", noise(n, seed=i), 16_000)
        rows.append({"audio_filepath": f"{i}.wav", "text": "a b"})
    write_jsonl(root / "test.jsonl", rows)
    assert main([str(root / "model"), "--int8", "--manifest", str(root / "test.jsonl")]) == 0
    return model, root / "model", root / "model" / "model.onnx"


def test_padded_batches_of_50_utterances_give_pytorchs_logits(exported: tuple[CTCModel, Path, Path]) -> None:
    lengths = [400, 719, 720, *np.random.default_rng(0).integers(2000, 60_000, 47).tolist()]
    assert compare(exported[0], exported[2], lengths) < TOLERANCE


@pytest.mark.parametrize("lengths", [[400], [100_000], [5000] * 3])
def test_batch_and_length_are_free(lengths: list[int], exported: tuple[CTCModel, Path, Path]) -> None:
    assert compare(exported[0], exported[2], lengths) < TOLERANCE


def test_what_lies_behind_an_utterance_changes_nothing(exported: tuple[CTCModel, Path, Path]) -> None:
    session = onnxruntime.InferenceSession(exported[2])
    clean = np.zeros((2, 9000), np.float32)
    clean[0], clean[1, :5000] = noise(9000), noise(5000)
    dirty = clean.copy()
    dirty[1, 5000:] = 1e3
    lengths = np.array([9000, 5000])
    (a, frames), (b, _) = (session.run(None, {"waveforms": w, "waveform_lengths": lengths}) for w in (clean, dirty))
    assert frames.tolist() == [exported[0].num_frames(9000), exported[0].num_frames(5000)]
    assert np.array_equal(a[1, : frames[1]], b[1, : frames[1]])


def test_graph_carries_its_units(exported: tuple[CTCModel, Path, Path]) -> None:
    for path in (exported[2], exported[2].with_suffix(".int8.onnx")):
        found = onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map
        assert json.loads(found["tokens"]) == list(VOCAB.tokens)
        assert (found["blank_id"], found["sample_rate"]) == (str(VOCAB.blank_id), "16000")


def test_int8_is_near_but_not_the_same(exported: tuple[CTCModel, Path, Path]) -> None:
    """A control as well: weights that were not quantised would not differ."""
    model, _, path = exported
    scale = float(abs(open_graph(path, 1)([noise(20_000)])[0]).max())
    assert 1e-3 * scale < compare(model, path.with_suffix(".int8.onnx"), [20_000]) < 0.3 * scale


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["layer", "group"])
@pytest.mark.parametrize("family", ["unispeech-sat", "wav2vec2", "hubert", "wavlm"])
def test_every_family_exports(family: str, norm: str, tmp_path: Path) -> None:
    """Group norm: one utterance at a time."""
    model = small_model(family, norm)
    write_onnx(model, norm == "layer", tmp_path / "m.onnx", {})
    lengths, batch = [400, 3333, 20_000, 4100], 4 if norm == "layer" else 1
    assert compare(model, tmp_path / "m.onnx", lengths, do_normalize=norm == "layer", batch=batch) < TOLERANCE


def test_export_leaves_the_model_as_it_was(exported: tuple[CTCModel, Path, Path]) -> None:
    fresh = small_model().state_dict()
    assert all(torch.equal(fresh[name], tensor) for name, tensor in exported[0].state_dict().items())


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "required: MODEL"),
        (["{empty}"], "not a Hugging Face model folder"),
        (["{empty}", "--in8"], "Did you mean --int8?"),
        (["{empty}", "--manifest", "{empty}/none.jsonl"], "none.jsonl"),
        (["{model}", "--out", "{empty}"], "ends in .onnx"),
    ],
)
def test_wrong_argument_is_one_line_and_exit_code_2(
    argv: list[str],
    message: str,
    exported: tuple[CTCModel, Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    argv = [w.replace("{empty}", str(tmp_path)).replace("{model}", str(exported[1])) for w in argv]
    assert main(argv) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert message in err
