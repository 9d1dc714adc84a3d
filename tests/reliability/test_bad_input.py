"""Bad input on the command line, in this process: exit code 2, one line that says what, where and what to do.

Option errors are tyro's. What can be dropped is dropped on request, counted and named; evaluation loses nothing.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.helpers.audio import flac_damaged_inside
from trainer.run import main

pytestmark = pytest.mark.slow  # whole runs

MODEL = ["--model.family", "unispeech", "--model.size", "tiny"]
ONE_STEP = ["--train.epochs", "1", "--train.max-steps", "1", "--optim.warmup-steps", "0"]


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """runs/ and cache/ go to the test's folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """refused(argv) -> the one error line; asserts exit code 2 and that nothing but announcements stands before it."""

    def refused(*argv: str, announced: tuple[str, ...] = ()) -> str:
        assert main([*argv, *MODEL]) == 2
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        *before, last = err.splitlines()
        assert [line for line in before if not line.startswith(announced or "nothing")] == []
        assert last.startswith("error: ")
        assert len(last) < 700
        assert last.endswith((".", "?"))
        assert not Path("runs").exists(), "a run that never began leaves no folder"
        return last.removeprefix("error: ")

    return refused


def set_text(row: int, text: str) -> Callable:
    def change(corpus: Any) -> None:
        corpus.rows["train"][row]["text"] = text
        corpus.write()

    return change


def set_audio(split: str, row: int, content: bytes | np.ndarray | None, name: str = "") -> Callable:
    """Replace the audio of a row by bytes, samples or nothing at all."""

    def change(corpus: Any) -> None:
        path = corpus.folder / "wav" / (name or f"{split}-{row}.wav")
        corpus.rows[split][row]["audio_filepath"] = f"wav/{path.name}"
        corpus.write()
        if content is None:
            path.unlink()
        elif isinstance(content, bytes):
            path.write_bytes(content)
        else:
            soundfile.write(path, content, 16_000)

    return change


def set_line(file: str, line: str) -> Callable:
    """Replace the third line of a manifest."""

    def change(corpus: Any) -> None:
        path = corpus.folder / file
        lines = path.read_text().splitlines()
        lines[2] = line
        path.write_text("\n".join(lines) + "\n")

    return change


def same_id(split: str) -> Callable:
    def change(corpus: Any) -> None:
        corpus.rows[split][2]["id"] = f"{split}-1"
        corpus.write()

    return change


def no_rows(split: str) -> Callable:
    def change(corpus: Any) -> None:
        corpus.rows[split].clear()
        corpus.write()

    return change


def no_file(split: str) -> Callable:
    return lambda corpus: (corpus.folder / f"{split}.jsonl").unlink()


TEXT_AS_AUDIO = b"This is a sentence and no audio at all.\n"
SILENCE = np.zeros(0, np.float32)

# What is done to the corpus, then: what the line must begin with, what it must say, and the remedy in it
BAD_CORPORA: dict[str, tuple[Callable, str, str, str]] = {
    "training text named .wav": (
        set_audio("train", 2, TEXT_AS_AUDIO), "{train}:3: utterance train-2: ", "train-2.wav: not readable as audio",
        "--corpus.on-bad drop"),
    "empty training file": (
        set_audio("train", 2, b""), "{train}:3: utterance train-2: ", "not readable as audio", "--corpus.on-bad drop"),
    "training audio without samples": (
        set_audio("train", 2, SILENCE), "{train}:3: utterance train-2: ", "no samples", "--corpus.on-bad drop"),
    "missing training audio": (
        set_audio("train", 2, None), "{train}:3: utterance train-2: ", "train-2.wav: No such file", "Mend the corpus"),
    "missing evaluation audio": (
        set_audio("eval", 1, None), "{eval}:2: utterance eval-1: ", "eval-1.wav: No such file", "Mend the corpus"),
    "empty transcript": (
        set_text(3, ""), "{train}:4: utterance train-3: ", "'' is empty", "--corpus.on-bad drop"),
    "transcript of punctuation": (
        set_text(3, "...!"), "{train}:4: utterance train-3: ", "'...!' is empty", "--corpus.on-bad drop"),
    "transcript longer than its frames": (
        set_text(0, "see " * 40), "{train}:1: utterance train-0: ", "its 24 frames are too few: CTC needs 199 ",
        "--corpus.on-bad drop"),
    "duplicate training id": (
        same_id("train"), "{train}:3: id 'train-1' ", "stands already at {train}:2", "must be unique"),
    "duplicate evaluation id": (
        same_id("eval"), "{eval}:3: id 'eval-1' ", "stands already at {eval}:2", "must be unique"),
    "empty training split": (no_rows("train"), "{train}: ", "holds no utterance", "Give each a row"),
    "empty evaluation split": (no_rows("eval"), "{eval}: ", "holds no utterance", "Give each a row"),
    "missing training manifest": (no_file("train"), "{train}: ", "No such file", "--corpus.train"),
    "missing evaluation manifest": (no_file("eval"), "{eval}: ", "No such file", "--corpus.eval"),
    "line that is no JSON": (
        set_line("train.jsonl", "train-2.wav one two"), "{train}:3: ", "not a JSON object", "one line"),
    "line that is cut off": (
        set_line("eval.jsonl", '{"id": "eval-2", "audio_fi'), "{eval}:3: ", "not a JSON object", "one line"),
    "row without text": (
        set_line("train.jsonl", '{"audio_filepath": "a.wav"}'), "{train}:3: ",
        'no "text" field (fields: audio_filepath)', "--corpus.text-field"),
    "row without audio": (
        set_line("train.jsonl", '{"text": "a"}'), "{train}:3: ", 'no "audio_filepath" field (fields: text)',
        "--corpus.audio-field"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "where", "what", "remedy"), BAD_CORPORA.values(), ids=BAD_CORPORA)
def test_bad_corpus_is_refused_in_one_line(tone_corpus, refused: Callable, change, where: str, what: str, remedy: str):
    change(tone_corpus)
    message = refused("manifest", *tone_corpus.options)
    names = {"train": tone_corpus.train, "eval": tone_corpus.eval}
    assert message.startswith(where.format(**names))
    assert what.format(**names) in message
    assert remedy in message


TABLES = {
    "csv with a cell too many": (
        "t.csv", "audio_filepath,text\nwav/train-0.wav,one\nwav/train-1.wav,two, three\n", ":3: ", "cells"),
    "csv with a cell too few": ("t.csv", "audio_filepath,text\nwav/train-0.wav\n", ":2: ", "cells"),
    "csv without its closing quote": (
        "t.csv", 'audio_filepath,text\nwav/train-0.wav,one\nwav/train-1.wav,"two\n', ":3: ", "well-formed"),
    "csv without a header": ("t.csv", "wav/train-0.wav,one\nwav/train-1.wav,two\n", ":2: ", "--corpus.audio-field"),
    "tsv with a cell too few": ("t.tsv", "audio_filepath\ttext\nwav/train-0.wav\tone\nx\n", ":3: ", "cells"),
    "tsv with commas": ("t.tsv", "audio_filepath,text\nwav/train-0.wav,one\n", ":2: ", "--corpus.audio-field"),
    "tsv with a header alone": ("t.tsv", "audio_filepath\ttext\n", ": ", "holds no utterance"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "content", "where", "what"), TABLES.values(), ids=TABLES)
def test_malformed_table_is_refused_by_file_and_line(
    tone_corpus, refused: Callable, name: str, content: str, where: str, what: str
):
    table = tone_corpus.folder / name
    table.write_text(content)
    message = refused("manifest", "--corpus.train", str(table), "--corpus.eval", str(tone_corpus.eval))
    assert message.startswith(f"{table}{where}")
    assert what in message


def test_audio_that_fails_in_decoding_is_refused_before_training(tone_corpus, refused: Callable, tone: Callable):
    add_cut_flac(tone_corpus, "train", 2)
    message = refused("manifest", *tone_corpus.options, announced=("decoding 9 files",))
    assert message.startswith(f"{tone_corpus.train}:3: utterance train-2: ")
    assert "train-2.flac: decoding failed" in message
    assert "--corpus.on-bad drop" in message


def test_word_delimiter_in_a_transcript_is_refused_with_the_transcript(tone_corpus, refused: Callable):
    set_text(1, "One | two")(tone_corpus)
    message = refused("manifest", *tone_corpus.options, "--corpus.normalizer", "hf-timit")
    assert message.startswith("A training transcript contains '|', which marks word boundaries: 'one | two '. ")
    assert "--corpus.normalizer plain" in message


def add_cut_flac(corpus: Any, split: str, row: int) -> None:
    """A flac file whose header is whole: what is wrong shows in decoding only."""
    path = corpus.folder / "wav" / f"{split}-{row}.flac"
    path.write_bytes(flac_damaged_inside(12_800))
    corpus.rows[split][row]["audio_filepath"] = f"wav/{path.name}"
    corpus.write()


# Folders that are no TIMIT, and what else a corpus can be


@pytest.fixture
def tree(tiny_timit: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_timit, tmp_path / "TIMIT"))


@pytest.mark.parametrize("preset", ["timit", "timit-hf"])
def test_folder_that_is_no_timit_is_refused_with_its_source(tmp_path: Path, refused: Callable, preset: str):
    (tmp_path / "corpus" / "train-clean").mkdir(parents=True)
    message = refused(preset, "--corpus.root", str(tmp_path / "corpus"))
    assert message.startswith(f"{tmp_path / 'corpus'}: not a TIMIT tree: expected TRAIN and TEST")
    assert "found train-clean" in message
    assert "LDC93S1" in message


def test_missing_timit_is_refused_with_its_source(refused: Callable):
    message = refused("timit", "--corpus.root", "/no/such/folder")
    assert message.startswith("/no/such/folder: no such folder. --corpus.root ")
    assert "LDC93S1" in message


def test_incomplete_timit_is_refused_with_what_is_missing(tree: Path, refused: Callable):
    missing = next((tree / "TEST").rglob("SA2.PHN"))
    missing.unlink()
    message = refused("timit", "--corpus.root", str(tree))
    assert message.startswith(f"{tree / 'TEST'}: found 39 whole utterances, expected 40. Missing: {missing}. ")
    assert "--corpus.allow-incomplete" in message


def test_tree_that_claims_to_be_timit_is_refused_when_it_is_small(tree: Path, refused: Callable):
    (tree / "SYNTHETIC.json").unlink()
    assert "found 40 whole utterances, expected 4620" in refused("timit-hf", "--corpus.root", str(tree))


def test_timit_without_audio_where_a_sentence_should_be_is_refused(tree: Path, refused: Callable):
    path = next((tree / "TRAIN").rglob("SX*.WAV"))
    path.write_bytes(TEXT_AS_AUDIO)
    message = refused("timit", "--corpus.root", str(tree))
    assert message.startswith(f"{path}: utterance {path.parent.name}_{path.stem}: {path}: not readable as audio (")


@pytest.mark.parametrize("name", ["/no/such/folder", "no-such/data-set"])
def test_missing_data_set_is_refused_by_name(refused: Callable, name: str):
    message = refused("hub", "--corpus.dataset", name)
    assert message.startswith(f"{name}, split train: does not load (")
    assert "--corpus.dataset" in message


@pytest.mark.parametrize(
    ("preset", "option"),
    [
        ("manifest", "--corpus.train"),
        ("timit", "--corpus.root"),
        ("timit-hf", "--corpus.root"),
        ("hub", "--corpus.dataset"),
    ],
)
def test_preset_without_its_corpus_says_which_option_is_missing(refused: Callable, preset: str, option: str):
    assert refused(preset).startswith(f"Preset {preset} needs {option}")


# Options, presets and checkpoints


def test_unknown_preset_is_refused_with_those_there_are(refused: Callable):
    assert refused("manifes") == (
        "no preset 'manifes'; there are demo, timit-hf, timit, manifest, hub. Did you mean manifest?"
    )


@pytest.mark.parametrize(
    "argv",
    [
        ["--corpus.trian", "x"],
        ["--nonsense"],
        ["--train.epochs", "many"],
        ["--corpus.on-bad", "ignore"],
        ["--model.family", "whisper"],
        ["stray"],
    ],
)
def test_unknown_option_is_one_line_with_exit_code_2(tone_corpus, capsys, argv: list[str]):
    assert main(["manifest", *tone_corpus.options, *MODEL, *argv]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert argv[0] in err


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
        ('{"model_type": "no-such-model"}', ": no usable model configuration ("),
        ("{}", ": no usable model configuration ("),
        ("[]", ": no usable model configuration ("),
        ('{"model_type": ', ": no usable model configuration ("),
        (None, ": no config.json here; this is not a Hugging Face model folder"),
    ],
    ids=["bert", "whisper", "unknown", "empty", "list", "cut", "none"],
)
def test_checkpoint_of_another_family_or_of_none_is_refused(
    tone_corpus, tmp_path: Path, capsys, content: str | None, what: str
):
    folder = write_config(tmp_path / "checkpoint", content)
    assert main(["manifest", *tone_corpus.options, "--model.pretrained", folder]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {folder}{what}")


@pytest.mark.parametrize("name", ["/no/such/checkpoint", "./checkpoint"])
def test_missing_checkpoint_folder_is_refused(tone_corpus, capsys, name: str):
    assert main(["manifest", *tone_corpus.options, "--model.pretrained", name]) == 2
    assert capsys.readouterr().err == f"error: {name}: no such folder.\n"


# What goes on all the same


def run(capsys: pytest.CaptureFixture[str], corpus: Any, *argv: str) -> tuple[list[str], dict, dict[str, dict]]:
    """(lines on stderr, results.json, hypotheses by id) of one training step that must succeed."""
    assert main(["manifest", *corpus.options, *MODEL, *ONE_STEP, *argv]) == 0
    results = json.loads(Path("runs/manifest/results.json").read_text())
    lines = Path("runs/manifest/hypotheses.jsonl").read_text().splitlines()
    return capsys.readouterr().err.splitlines(), results, {h["id"]: h for h in map(json.loads, lines)}


def add_train_row(corpus: Any, name: str, text: str = "one") -> None:
    corpus.rows["train"].append({"id": name, "audio_filepath": f"wav/{name}.wav", "text": text})
    corpus.write()


@pytest.mark.parametrize("store", ["--corpus.store", "--corpus.no-store"])
def test_bad_training_utterances_are_dropped_counted_and_named(tone_corpus, capsys, tone: Callable, store: str):
    for i, (name, content) in enumerate(
        [("text", TEXT_AS_AUDIO), ("void", b""), ("silent", SILENCE), ("brief", tone(0.05))]
    ):
        add_train_row(tone_corpus, name)
        set_audio("train", 6 + i, content, f"{name}.wav")(tone_corpus)
    add_train_row(tone_corpus, "gone")
    set_text(2, "see " * 40)(tone_corpus)
    add_cut_flac(tone_corpus, "train", 3)
    set_text(4, "?")(tone_corpus)
    options = [store, "--corpus.on-bad", "drop", "--corpus.max-seconds", "0.85"]
    lines, results, hypotheses = run(capsys, tone_corpus, *options)
    assert [line for line in lines if "dropped" in line] == [
        "warning: train: dropped 9 of 11: 2 too short for their transcript (train-2, brief), 1 without text (train-4), "
        "1 over 0.85 s (train-5), 3 unreadable (text, void, gone), 1 without audio (silent), 1 undecodable (train-3)"
    ]
    assert any("2 utterances" in line and line.lstrip().startswith("corpus") for line in lines)
    assert (results["steps"], len(hypotheses)) == (1, 3)


def test_nothing_left_to_train_on_is_an_error_even_when_dropping(tone_corpus, refused: Callable):
    for row in tone_corpus.rows["train"]:
        row["text"] = "!"
    tone_corpus.write()
    message = refused("manifest", *tone_corpus.options, "--corpus.on-bad", "drop")
    assert message.startswith("train: dropped 6 of 6: 6 without text (train-0, train-1, train-2, ...). Nothing is left")


@pytest.mark.parametrize("store", ["--corpus.store", "--corpus.no-store"])
@pytest.mark.parametrize("on_bad", ["error", "drop"])
def test_undecodable_evaluation_utterances_are_deletions_and_counted(
    tone_corpus, capsys, tone: Callable, on_bad: str, store: str
):
    """Of six evaluation utterances four have no audio that can be decoded: all their words are deletions."""
    for i, (name, content) in enumerate([("text", TEXT_AS_AUDIO), ("void", b""), ("silent", SILENCE)]):
        tone_corpus.rows["eval"].append({"id": name, "audio_filepath": "", "text": "one two three"})
        set_audio("eval", 3 + i, content, f"{name}.wav")(tone_corpus)
    add_cut_flac(tone_corpus, "eval", 1)
    options = ["--corpus.on-bad", on_bad, store]
    assert main(["manifest", *tone_corpus.options, *MODEL, *ONE_STEP, *options]) == 2
    *_, last = capsys.readouterr().err.splitlines()
    assert last.startswith("error: eval: 4 of 6 utterances have no audio that can be read: ")
    assert all(f"utterance {name}: " in last for name in ("eval-1", "text", "void", "silent"))
    assert "--corpus.on-bad-eval deletions" in last
    lines, results, hypotheses = run(capsys, tone_corpus, *options, "--corpus.on-bad-eval", "deletions")
    assert set(hypotheses) == {"eval-0", "eval-1", "eval-2", "text", "void", "silent"}
    for name in ("text", "void", "silent", "eval-1"):
        h = hypotheses[name]
        assert h["hypothesis"] == ""
        assert (h["hits"], h["substitutions"], h["insertions"]) == (0, 0, 0)
        assert h["deletions"] == len(h["reference"].split()) > 0
        assert h["loss"] is None
        assert h["failure"]
    split = results["splits"]["eval"]
    assert results["num_reference_words"] == 3 * 2 + 3 * 3
    assert (split["num_utterances"], split["num_undecodable"], split["num_infinite"]) == (6, 4, 4)
    assert results["num_undecodable"] == 4, "beside the rate"
    assert any(line.endswith("; no audio of 4 utterances: all deletions") for line in lines)
    card = Path("runs/manifest/model/README.md").read_text()
    assert "; 4 utterances without readable audio count as deletions\n" in card
    assert results["loss"] is not None, "the mean of the finite losses"
    warnings = " ".join(line for line in lines if line.startswith("warning: eval:"))
    assert all(name in warnings for name in ("text", "void", "silent"))
    assert store == "--corpus.no-store" or "eval-1" in warnings


def test_evaluation_transcripts_that_no_frames_can_hold_are_scored_and_counted(tone_corpus, capsys, tone: Callable):
    """Longer than its frames, without text, or too short for one frame: scored, with the infinite losses counted."""
    tone_corpus.rows["eval"][0]["text"] = "see " * 40
    tone_corpus.rows["eval"][1]["text"] = "!"
    set_audio("eval", 2, tone(0.01))(tone_corpus)
    _, results, hypotheses = run(capsys, tone_corpus)
    assert len(hypotheses) == 3
    assert results["num_reference_words"] == 40 + 0 + 2
    assert (results["splits"]["eval"]["num_infinite"], results["splits"]["eval"]["num_undecodable"]) == (2, 0)
    assert hypotheses["eval-0"]["loss"] is hypotheses["eval-2"]["loss"] is None
    assert hypotheses["eval-1"]["loss"] is not None, "silence can be written"
    assert hypotheses["eval-2"]["hypothesis"] == ""


def test_training_on_the_fly_stops_at_undecodable_audio_by_name(tone_corpus, capsys, tone: Callable, tmp_path: Path):
    """Without a store, and without drop, nobody decodes beforehand."""
    add_cut_flac(tone_corpus, "train", 2)
    options = ["--corpus.no-store", "--runs-dir", str(tmp_path / "runs")]  # its writer outlives this test
    assert main(["manifest", *tone_corpus.options, *MODEL, *ONE_STEP, *options]) == 2
    *_, last = capsys.readouterr().err.splitlines()
    assert last.startswith("error: utterance train-2: ")
    assert "train-2.flac: decoding failed" in last
    assert "--corpus.on-bad drop" in last
