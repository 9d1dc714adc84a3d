"""The ONNX export (models.checkpoints.onnx_graph, scripts/export_onnx.py) under onnxruntime, against PyTorch.

pytest tests/models/checkpoints/test_onnx.py
"""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

pytest.importorskip("onnxruntime", reason='onnxruntime is not installed: pip install --editable ".[onnx]"')
pytest.importorskip("onnxscript", reason='onnxscript is not installed: pip install --editable ".[onnx]"')

import onnxruntime

from data.audio.decode import normalize
from models.checkpoints.export import save_huggingface
from models.checkpoints.onnx_graph import write_onnx
from models.ctc import CTCModel
from scripts.export_onnx import main
from tests.helpers.corpora import write_jsonl
from tests.helpers.models import VOCAB, noise, small_model
from trainer.recognize.onnx_check import Logits, max_deviation, open_graph

SLOW = pytest.mark.slow  # each export takes seconds
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


Graph = tuple[CTCModel, Path]
"""A model and its graph."""


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    """One of each kind of layer, since an export takes seconds and grows with the layers."""
    model, path = small_model(num_hidden_layers=1), tmp_path_factory.mktemp("graph") / "m.onnx"
    write_onnx(model, True, path, {"blank_id": str(VOCAB.blank_id)})
    return model, path


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


@SLOW
def test_padded_batches_of_50_utterances_give_pytorchs_logits(graph: Graph) -> None:
    lengths = [400, 719, 720, *np.random.default_rng(0).integers(2000, 30_000, 47).tolist()]
    assert compare(*graph, lengths) < TOLERANCE


@SLOW
@pytest.mark.parametrize("lengths", [[400], [100_000], [5000] * 3])
def test_batch_and_length_are_free(lengths: list[int], graph: Graph) -> None:
    assert compare(*graph, lengths) < TOLERANCE


@SLOW
def test_what_lies_behind_an_utterance_changes_nothing(graph: Graph) -> None:
    session = onnxruntime.InferenceSession(graph[1])
    clean = np.zeros((2, 9000), np.float32)
    clean[0], clean[1, :5000] = noise(9000), noise(5000)
    dirty = clean.copy()
    dirty[1, 5000:] = 1e3
    lengths = np.array([9000, 5000])
    (a, frames), (b, _) = (session.run(None, {"waveforms": w, "waveform_lengths": lengths}) for w in (clean, dirty))
    assert frames.tolist() == [graph[0].num_frames(9000), graph[0].num_frames(5000)]
    assert np.array_equal(a[1, : frames[1]], b[1, : frames[1]])


@SLOW
def test_graph_carries_what_it_was_given_to_carry(graph: Graph) -> None:
    found = onnxruntime.InferenceSession(graph[1]).get_modelmeta().custom_metadata_map
    assert found["blank_id"] == str(VOCAB.blank_id)


@SLOW
def test_graph_carries_its_units(exported: tuple[CTCModel, Path, Path]) -> None:
    for path in (exported[2], exported[2].with_suffix(".int8.onnx")):
        found = onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map
        assert json.loads(found["tokens"]) == list(VOCAB.tokens)
        assert (found["blank_id"], found["sample_rate"]) == (str(VOCAB.blank_id), "16000")


@SLOW
def test_int8_is_near_but_not_the_same(exported: tuple[CTCModel, Path, Path]) -> None:
    """A control as well: weights that were not quantised would not differ."""
    model, _, path = exported
    scale = float(abs(open_graph(path, 1)([noise(20_000)])[0]).max())
    assert 1e-3 * scale < compare(model, path.with_suffix(".int8.onnx"), [20_000]) < 0.3 * scale


@SLOW
@pytest.mark.parametrize("norm", ["layer", "group"])
@pytest.mark.parametrize("family", ["unispeech-sat", "wav2vec2", "hubert", "wavlm"])
def test_every_family_exports(family: str, norm: str, tmp_path: Path) -> None:
    """Group norm: one utterance at a time."""
    model = small_model(family, norm)
    write_onnx(model, norm == "layer", tmp_path / "m.onnx", {})
    lengths, batch = [400, 3333, 20_000, 4100], 4 if norm == "layer" else 1
    assert compare(model, tmp_path / "m.onnx", lengths, do_normalize=norm == "layer", batch=batch) < TOLERANCE


@SLOW
def test_export_leaves_the_model_as_it_was(graph: Graph) -> None:
    fresh = small_model(num_hidden_layers=1).state_dict()
    assert all(torch.equal(fresh[name], tensor) for name, tensor in graph[0].state_dict().items())


def constant(value: float) -> Logits:
    return lambda waveforms: [np.full((3, 4), value, np.float32) for _ in waveforms]


def test_a_logit_that_is_no_number_is_a_deviation() -> None:
    """In the first of three utterances, or in the last, whose turn comes in a batch of its own."""
    waveforms, good = [noise(1000), noise(1000), noise(2000)], constant(1.0)

    def lost(at: int) -> Logits:
        return lambda waveforms: [np.full((3, 4), math.nan if len(w) == at else 1.5, np.float32) for w in waveforms]

    assert max_deviation(good, lost(0), waveforms, 2) == 0.5
    for at in (1000, 2000):
        assert math.isnan(max_deviation(good, lost(at), waveforms, 2))
        assert math.isnan(max_deviation(lost(at), good, waveforms, 2))


@SLOW
def test_graph_that_gives_nan_is_exit_code_1(
    exported: tuple[CTCModel, Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("trainer.recognize.onnx_check.open_graph", lambda path: constant(math.nan))
    monkeypatch.setattr("trainer.recognize.onnx_check.pytorch", lambda recognizer: constant(0.0))
    assert main([str(exported[1])]) == 1
    assert "error: the exported graph differs from PyTorch" in capsys.readouterr().err


@SLOW
def test_model_of_no_run_is_compared_on_noise_and_says_so(
    exported: tuple[CTCModel, Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(exported[1])]) == 0
    out, err = capsys.readouterr()
    assert "on 50 of 50 stretches of noise" in out
    assert "no word error rate was measured; --manifest" in out
    assert "it belongs to no run" in err


@SLOW
def test_model_of_a_run_is_measured_on_what_the_run_was_scored_on(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Reference: the run's own errors and words in results.json; then two of its six utterances."""
    monkeypatch.setattr("scripts.export_onnx.TOLERANCE", 1e-2)  # this model's logits reach hundreds
    out = ["--out", str(tmp_path / "m.onnx")]
    assert main([str(finished_run / "model"), "--int8", *out]) == 0
    results = json.loads((finished_run / "results.json").read_text())
    said = capsys.readouterr().out
    for name in ("PyTorch", "ONNX"):
        (line,) = [line for line in said.splitlines() if line.startswith(name)]
        assert f"({results['num_errors']} errors of {results['num_reference_words']} words, 6 of 6 utterances" in line
    assert "int8     WER " in said
    assert "on 6 of 6 utterances of tiny noise's eval" in said
    assert main([str(finished_run / "model"), "--utterances", "2", *out]) == 0
    assert "words, 2 of 6 utterances of tiny noise's eval)" in capsys.readouterr().out


@SLOW
def test_run_whose_corpus_is_gone_is_measured_on_noise(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And the warning says why."""
    monkeypatch.setattr("scripts.export_onnx.TOLERANCE", 1e-2)
    run = Path(shutil.copytree(finished_run, tmp_path / "run"))
    config = json.loads((run / "config.json").read_text())
    config["corpus"]["eval"] = str(tmp_path / "gone.jsonl")
    (run / "config.json").write_text(json.dumps(config))
    assert main([str(run / "model")]) == 0
    out, err = capsys.readouterr()
    assert "stretches of noise" in out
    assert "gone.jsonl" in err


def test_utterances_without_a_frame_are_an_error(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One sample short; and nothing is exported first."""
    soundfile.write(tmp_path / "short.wav", noise(399), 16_000)
    rows = write_jsonl(tmp_path / "short.jsonl", [{"audio_filepath": "short.wav", "text": "a"}])
    assert main([str(finished_run / "model"), "--manifest", str(rows), "--out", str(tmp_path / "m.onnx")]) == 2
    assert not (tmp_path / "m.onnx").exists()
    assert "shorter than a frame of the model" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "required: MODEL"),
        (["{empty}"], "not a Hugging Face model folder"),
        (["{empty}", "--in8"], "Did you mean --int8?"),
        (["{empty}", "--manifest", "{empty}/none.jsonl"], "none.jsonl"),
        (["{model}", "--utterances", "0"], "--utterances: 0: give a whole number of 1 or more"),
        (["{model}", "--out", "{empty}"], "ends in .onnx"),
    ],
)
def test_wrong_argument_is_one_line_and_exit_code_2(
    argv: list[str],
    message: str,
    finished_run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    argv = [w.replace("{empty}", str(tmp_path)).replace("{model}", str(finished_run / "model")) for w in argv]
    assert main(argv) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert message in err
