"""A manifest whose transcripts are units with blanks between them, from training to everything that uses the model.

pytest tests/trainer/test_spaced_units.py
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import soundfile
import torch
from transformers import AutoModelForCTC, AutoProcessor

from scripts.align import main as align
from scripts.compare import main as compare
from scripts.evaluate import main as evaluate
from scripts.export_onnx import main as export_onnx
from scripts.transcribe import main as transcribe
from tests.helpers.corpora import write_jsonl
from trainer.recognizer import Recognizer
from trainer.run import main as train
from trainer.rundir.results import read_hypotheses
from trainer.scoring.metrics import units_written

UNITS = ("@", "{", "r\\", "S", "s", "ma3", "ɔ̃", "?", ".", "'", "n't", "<sp>")
"""Two that differ in case, a tone's digit, marks, and what tokenizers join or normalisers strip."""
BLANKS = (" ", "   ", "\t", " \u3000")


def write_corpus(folder: Path, split: str, number: int) -> Path:
    """A manifest of tones, one frequency for each unit; between units any blanks, and some at both ends."""
    rng, noise = random.Random(split), np.random.default_rng(len(split))
    frequencies, time = np.geomspace(200, 6000, len(UNITS)), np.arange(1920) / 16_000
    rows = []
    for i in range(number):
        units = rng.choices(UNITS, k=rng.randint(3, 7))
        tones = [np.sin(2 * np.pi * frequencies[UNITS.index(unit)] * time) * np.hanning(1920) for unit in units]
        samples = np.concatenate([np.zeros(1600), *(part for tone in tones for part in (0.3 * tone, np.zeros(640)))])
        name = f"{split}-{i}.wav"
        soundfile.write(folder / name, samples + 0.003 * noise.standard_normal(len(samples)), 16_000)
        text = " " + rng.choice(BLANKS).join(units) + "  "
        rows.append({"id": f"{split}-{i}", "audio_filepath": name, "text": text, "speaker": f"{split}-{i % 3}"})
    return write_jsonl(folder / f"{split}.jsonl", rows)


def options_of(folder: Path, *options: str) -> list[str]:
    return [
        "manifest", *(part for split in ("train", "eval", "test") for part in (f"--corpus.{split}",
        str(folder / f"{split}.jsonl"))), "--model.family", "unispeech", "--model.size", "tiny",
        "--batching.batch-size", "16", "--optim.lr", "2e-3", "--device", "cpu", "--cache-dir", str(folder / "cache"),
        "--runs-dir", str(folder), *options,
    ]  # fmt: skip


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.slow
def test_a_run_on_spaced_units_says_unit_error_rate_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for split, number in (("train", 16), ("eval", 3), ("test", 3)):
        write_corpus(tmp_path, split, number)
    rows = lines_of(tmp_path / "eval.jsonl")
    rows[1]["text"] += " never"
    write_jsonl(tmp_path / "eval.jsonl", rows)
    monkeypatch.setattr("trainer.card.card.draw_curves", lambda records: {})
    monkeypatch.setattr("trainer.report.run.draw_curves", lambda records: {})
    options = options_of(tmp_path, "--corpus.units", "spaced", "--train.max-steps", "1", "--name", "run")
    assert train(options) == 0
    said = "".join(capsys.readouterr())
    assert f"eval: 1 units were never seen in training ('never' 1 from {tmp_path}/eval.jsonl:2 on)" in said
    run = tmp_path / "run"
    results = json.loads((run / "results.json").read_text(encoding="utf-8"))
    rows = lines_of(tmp_path / "test.jsonl")
    assert results["num_reference_units"] == sum(len(row["text"].split()) for row in rows)
    assert results["scoring"] == "units as they are written"
    assert "uer" in results
    assert not {"wer", "per", "cer"} & results.keys()
    assert all("eval/uer" in r and "eval/wer" not in r for r in lines_of(run / "metrics.jsonl") if "eval/loss" in r)
    card = (run / "model" / "README.md").read_text(encoding="utf-8")
    assert "- uer" in card  # the metadata that the hub reads
    assert "It writes units with spaces between them, no words" in card
    assert "normaliser" not in card.partition("## Training procedure")[0]
    assert "Unit error rate" in (run / "report.html").read_text(encoding="utf-8")
    assert {h.units.name for h in read_hypotheses(run / "hypotheses.jsonl")["test"]} == {"units"}
    tokens = json.loads((run / "model" / "vocab.json").read_text(encoding="utf-8"))
    assert set(tokens) == {*UNITS, "[UNK]", "[PAD]"}
    # what uses the model is not told again what its units are
    assert units_written(Recognizer(str(run / "model")).vocab).main == "uer"
    assert units_written(Recognizer(str(run / "checkpoints" / "step-00000001")).vocab).main == "uer"
    AutoProcessor.from_pretrained(run / "model").save_pretrained(tmp_path / "resaved")
    assert json.loads((tmp_path / "resaved" / "tokenizer_config.json").read_text())["units_are"] == "spaced"
    scored = [str(run), *options_of(tmp_path)[:7], "--cache-dir", str(tmp_path / "cache"), "--runs-dir", str(tmp_path)]
    assert evaluate([*scored, "--no-report", "--name", "by-itself"]) == 0
    assert json.loads((tmp_path / "by-itself" / "results.json").read_text())["uer"] == results["uer"]
    assert evaluate([*scored, "--no-report", "--name", "as-phones", "--corpus.units", "phones"]) == 0
    assert json.loads((tmp_path / "as-phones" / "results.json").read_text())["per"] == results["uer"]


def test_a_special_token_in_a_manifest_stops_the_run_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in ("train", "eval", "test"):
        write_corpus(tmp_path, split, 3)
    rows = lines_of(tmp_path / "test.jsonl")
    rows[2]["text"] += " | "
    write_jsonl(tmp_path / "test.jsonl", rows)
    assert train(options_of(tmp_path, "--corpus.units", "phones", "--train.max-steps", "1")) == 2
    said = "".join(capsys.readouterr())
    assert f"{tmp_path}/test.jsonl:3: utterance test-2: its transcript holds the unit '|'" in said


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has learned which tone is which unit."""
    folder = tmp_path_factory.mktemp("tones")
    for split, number in (("train", 300), ("eval", 20), ("test", 20)):
        write_corpus(folder, split, number)
    options = options_of(folder, "--corpus.units", "phones", "--train.max-steps", "110", "--train.eval-every", "110")
    assert train([*options, "--name", "run"]) == 0
    return folder / "run"


def truth(run: Path) -> dict[str, list[str]]:
    return {row["audio_filepath"]: row["text"].split() for row in lines_of(run.parent / "test.jsonl")}


@pytest.mark.slow  # trains for a quarter of a minute
def test_trained_units_are_read_alike_by_run_evaluate_recognizer_and_transformers(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Reference: the transcripts that the tones were made of, and transformers' own decoding."""
    assert json.loads((trained / "results.json").read_text())["per"] == 0
    scored = ["--corpus.test", str(trained.parent / "test.jsonl"), "--cache-dir", str(trained.parent / "cache")]
    assert evaluate([str(trained), "manifest", *scored, "--runs-dir", str(trained.parent), "--name", "again"]) == 0
    again = trained.parent / "again"
    assert json.loads((again / "results.json").read_text())["num_errors"] == 0
    assert compare([str(trained), str(again), "--media", "none"]) == 0
    assert "PER" in capsys.readouterr().out
    recognizer = Recognizer(str(trained / "model"))
    processor, model = (k.from_pretrained(trained / "model") for k in (AutoProcessor, AutoModelForCTC))
    for name, units in truth(trained).items():
        speech, rate = soundfile.read(trained.parent / name)
        with torch.inference_mode():
            ids = model(**processor(speech, sampling_rate=rate, return_tensors="pt")).logits.argmax(-1)
        assert processor.batch_decode(ids)[0].split(" ") == units
        assert [word.text for word in recognizer.transcribe(trained.parent / name).words] == units


@pytest.mark.slow  # as above
def test_trained_units_are_transcribed_aligned_and_exported(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = trained.parent
    assert transcribe([str(trained), str(folder / "test-0.wav")]) == 0
    units = truth(trained)["test-0.wav"]
    assert capsys.readouterr().out.rstrip("\n").split("\t")[-1].split(" ") == units
    assert align([str(trained), str(folder / "test.jsonl"), "--format", "ctm", "--out", str(tmp_path)]) == 0
    rows = [line.split() for line in (tmp_path / "test-0.ctm").read_text(encoding="utf-8").splitlines()]
    assert [row[4] for row in rows] == units
    tones = [(1600 + 960 + i * 2560) / 16_000 for i in range(len(units))]  # the middle of each
    assert all(abs(float(row[2]) + float(row[3]) / 2 - t) < 0.06 for row, t in zip(rows, tones, strict=True))
    assert export_onnx([str(trained), "--out", str(tmp_path / "m.onnx")]) == 0
    assert "ONNX     PER [units as they are written] 0.00 % (0 errors" in capsys.readouterr().out
    about = onnxruntime.InferenceSession(tmp_path / "m.onnx").get_modelmeta().custom_metadata_map
    assert set(UNITS) < set(json.loads(about["tokens"]))
    assert json.loads(about["reading"])["between_units"] == " "
