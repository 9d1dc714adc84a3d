"""scripts.evaluate --lm and scripts.transcribe --lm, --hot-word and --nbest on a tiny model, from option to file.

pytest tests/trainer/decoding/test_commands.py
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts.evaluate import main as evaluate
from scripts.transcribe import main as transcribe
from scripts.transcribe import parse
from tests.helpers.runs import write_noise_corpus
from trainer.decoding import tuning
from trainer.decoding.arpa import write_arpa
from trainer.decoding.emptied import describe_emptied
from trainer.decoding.estimate import estimate
from trainer.decoding.fusion import Weights
from trainer.decoding.options import is_asked
from trainer.decoding.settings import Decoding
from trainer.scoring.metrics import count_word_errors


def write_model(folder: Path, *sentences: str) -> Path:
    found = estimate([s.split() for s in sentences], 2)
    write_arpa(folder / "x.arpa.gz", found.words, found.levels)
    return folder / "x.arpa.gz"


def of_lines(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("option", [["--lm-weight", "1"], ["--unknown-score", "1"], ["--units"]])
def test_an_option_of_a_language_model_without_one_is_refused(
    option: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """`--word-score` is one of every beam."""
    assert transcribe(["m", str(Path(__file__)), *option]) == 2
    assert f"{option[0]} is of a language model, and there is none: give --lm FILE" in capsys.readouterr().err
    assert is_asked(parse(["m", "a.wav", "--word-score", "1"]))


def test_evaluation_tunes_weights_and_transcription_takes_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model writes noise, so weights are chosen among many errors; that they go through all files is the claim."""
    monkeypatch.setattr(tuning, "LM_WEIGHTS", (0.0, 1.0))
    monkeypatch.setattr(tuning, "WORD_SCORES", (0.0, 1.0))
    monkeypatch.setattr(tuning, "FINER", ((0.0,), (0.0,)))
    inputs = write_noise_corpus(tmp_path, num_train=1, num_eval=3)
    checkpoint, lm = str(tmp_path / "checkpoint"), write_model(tmp_path, "abba cab fed", "a bee fed a cab")
    recordings = [str(tmp_path / f"eval-{i}.wav") for i in range(3)]
    corpus = [
        "manifest", *inputs[2:4], "--corpus.test", str(tmp_path / "train.jsonl"),
        "--runs-dir", str(tmp_path), "--cache-dir", str(tmp_path / "cache"), "--device", "cpu", "--beam", "4",
    ]  # fmt: skip
    assert evaluate([checkpoint, *corpus, "--lm", str(lm)]) == 0
    run_dir = tmp_path / "evaluate-checkpoint"
    beam = json.loads((run_dir / "results.json").read_text())["beam"]
    weights = json.loads((run_dir / "decoding.json").read_text())
    assert beam["tuned_on"] == weights["tuned_on"] == "eval"
    assert beam["splits"].keys() == {"eval", "test"}
    for split, record in beam["splits"].items():
        rows = [r for r in of_lines((run_dir / "hypotheses-beam.jsonl").read_text()) if r["split"] == split]
        counted = [count_word_errors(r["reference"], r["hypothesis"]).num_errors for r in rows]
        assert sum(counted) == record["num_errors"]
    assert "x.arpa.gz" in (run_dir / "report.html").read_text()
    capsys.readouterr()

    assert (
        transcribe([checkpoint, *recordings, "--lm", str(lm), "--beam", "4", "--device", "cpu", "--format", "json"])
        == 0
    )
    said = capsys.readouterr()
    assert f"weight {weights['lm_weight']:g}" in said.err
    assert f"tuned on eval ({run_dir})" in said.err
    texts = [row["text"] for row in of_lines(said.out)]
    scored = of_lines((run_dir / "hypotheses-beam.jsonl").read_text())
    assert texts == [row["hypothesis"] for row in scored if row["split"] == "eval"]


def test_a_hot_word_that_cannot_be_written_is_refused_before_anything_is_scored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = write_noise_corpus(tmp_path, num_train=1, num_eval=1)
    corpus = ["manifest", *inputs[2:4], "--runs-dir", str(tmp_path), "--cache-dir", str(tmp_path / "cache")]
    assert evaluate([str(tmp_path / "checkpoint"), *corpus, "--device", "cpu", "--hot-word", "1984"]) == 2
    said = capsys.readouterr().err
    assert "--hot-word 1984: cannot be written" in said
    assert "WER" not in said
    assert not (tmp_path / "evaluate-checkpoint").exists()


def test_a_hot_word_and_the_best_texts_reach_the_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_noise_corpus(tmp_path, num_train=1, num_eval=1)
    argv = [str(tmp_path / "checkpoint"), str(tmp_path / "eval-0.wav"), "--device", "cpu", "--format", "json"]
    assert transcribe([*argv, "--nbest", "3"]) == 0
    (record,) = of_lines(capsys.readouterr().out)
    alternatives = record["alternatives"]
    assert alternatives[0]["text"] == record["text"]
    assert len({a["text"] for a in alternatives}) == len(alternatives) > 1
    assert [a["score"] for a in alternatives] == sorted((a["score"] for a in alternatives), reverse=True)
    assert all(a["score"] == a["acoustic"] < 0 for a in alternatives)  # there is no model

    second = alternatives[1]["text"]
    assert transcribe([*argv, "--hot-word", f"{second}=40"]) == 0
    (record,) = of_lines(capsys.readouterr().out)
    assert record["text"] == second
    assert "alternatives" not in record
    assert transcribe([*argv[:-1], "text", "--nbest", "2"]) == 2
    assert "only JSON has room" in capsys.readouterr().err


def test_a_lexicon_without_the_spoken_words_is_told_once_with_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The model writes letters everywhere; of this lexicon it could only write a word that it does not hear."""
    inputs = write_noise_corpus(tmp_path, num_train=1, num_eval=3)
    (tmp_path / "words.txt").write_text("geheaededafecabbaf\n")
    recordings = [str(tmp_path / f"eval-{i}.wav") for i in range(3)]
    decoding = ["--lexicon", str(tmp_path / "words.txt"), "--device", "cpu"]
    assert transcribe([str(tmp_path / "checkpoint"), *recordings, *decoding, "--format", "json"]) == 0
    said = capsys.readouterr()
    assert [row["text"] for row in of_lines(said.out)] == ["", "", ""]
    line = (
        "warning: the beam writes nothing in 3 of 3 recordings, although the best path writes text there; only words "
        f"of {tmp_path}/words.txt may be written, and the model hears others: give the words that are spoken, or leave "
        "out --lexicon"
    )
    assert said.err.splitlines().count(line) == 1
    corpus = ["manifest", *inputs[2:4], "--runs-dir", str(tmp_path), "--cache-dir", str(tmp_path / "cache")]
    assert evaluate([str(tmp_path / "checkpoint"), *corpus, *decoding, "--no-report"]) == 0
    assert capsys.readouterr().err.splitlines().count(line) == 1
    assert transcribe([str(tmp_path / "checkpoint"), *recordings, "--beam", "4", "--device", "cpu"]) == 0
    assert "the beam writes nothing" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lexicon": "lm", "lm": Path("a.arpa")}, "only words of a.arpa (--lexicon lm) may be written"),
        ({"weights": Weights(word=-3.0)}, "each word costs 3: raise --word-score"),
        (
            {"lm": Path("a.arpa"), "weights": Weights(lm=9.0)},
            "the language model outweighs the speech (weight 9): lower",
        ),
    ],
)
def test_what_empties_texts_is_named(options: dict, words: str) -> None:
    """And less than most of the recordings is no sign of it."""
    decoding = Decoding(**options)
    assert words in describe_emptied(3, 5, decoding)
    assert describe_emptied(2, 4, decoding) == describe_emptied(0, 0, decoding) == ""
