"""Bad input with which a run goes on: training drops it on request, counted and named; evaluation loses none."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.helpers.audio import MODEL, encoded, sound, sphere_file
from tests.helpers.corpora import ManifestFolder, make_tone
from tests.helpers.refused import ONE_STEP
from tests.helpers.spoiled import SILENCE, TEXT_AS_AUDIO, add_cut_flac, set_audio, set_text
from trainer.run import main

if TYPE_CHECKING:
    from tests.helpers.refused import Tally

pytestmark = pytest.mark.usefixtures("no_hang", "own_folder")


def run(
    capsys: pytest.CaptureFixture[str], corpus: ManifestFolder, *argv: str
) -> tuple[list[str], dict, dict[str, dict]]:
    """(lines on stderr, results.json, hypotheses by id) of one training step that must succeed."""
    assert main(["manifest", *corpus.options, *MODEL, *ONE_STEP, *argv]) == 0
    results = json.loads(Path("runs/manifest/results.json").read_text())
    lines = Path("runs/manifest/hypotheses.jsonl").read_text().splitlines()
    return capsys.readouterr().err.splitlines(), results, {h["id"]: h for h in map(json.loads, lines)}


def add_train_row(corpus: ManifestFolder, name: str, text: str = "one") -> None:
    corpus.rows["train"].append({"id": name, "audio_filepath": f"wav/{name}.wav", "text": text})
    corpus.write()


@pytest.mark.parametrize("store", ["--corpus.store", "--corpus.no-store"])
def test_bad_training_utterances_are_dropped_counted_and_named(
    tone_corpus: ManifestFolder, capsys: pytest.CaptureFixture[str], store: str
) -> None:
    for i, (name, content) in enumerate(
        [("text", TEXT_AS_AUDIO), ("void", b""), ("silent", SILENCE), ("brief", make_tone(0.05))]
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


def test_nothing_left_to_train_on_is_an_error_even_when_dropping(
    tone_corpus: ManifestFolder, refused: Callable
) -> None:
    for row in tone_corpus.rows["train"]:
        row["text"] = "!"
    tone_corpus.write()
    message = refused("manifest", *tone_corpus.options, *MODEL, "--corpus.on-bad", "drop")
    assert message.startswith("train: dropped 6 of 6: 6 without text (train-0, train-1, train-2, ...). Nothing is left")


UNUSABLE: dict[str, bytes | np.ndarray] = {
    "text": TEXT_AS_AUDIO,
    "void": b"",
    "silent": SILENCE,
    "zeros": np.zeros(9000, np.float32),
    "infinite": encoded(np.full(9000, np.inf, np.float32), subtype="FLOAT"),
    "cut": sphere_file(sound(9000))[:-1000],
}


@pytest.mark.parametrize(
    ("on_bad", "store"),
    [
        ("error", "--corpus.store"),
        ("drop", "--corpus.no-store"),
        pytest.param("error", "--corpus.no-store", marks=pytest.mark.slow),
        pytest.param("drop", "--corpus.store", marks=pytest.mark.slow),
    ],
)
def test_unusable_evaluation_audio_is_scored_as_deletions(
    tone_corpus: ManifestFolder, tally: Tally, capsys: pytest.CaptureFixture[str], on_bad: str, store: str
) -> None:
    """Of nine evaluation utterances seven have no audio that can be decoded: all their words are deletions.

    Only where that is asked for: otherwise all seven are named before a step is taken.
    """
    for i, (name, content) in enumerate(UNUSABLE.items()):
        tone_corpus.rows["eval"].append({"id": name, "audio_filepath": "", "text": "one two three"})
        set_audio("eval", 3 + i, content, f"{name}.wav")(tone_corpus)
    add_cut_flac(tone_corpus, "eval", 1)
    bad = [*UNUSABLE, "eval-1"]
    tally.tried += len(bad)
    options = ["--corpus.on-bad", on_bad, store]
    assert main(["manifest", *tone_corpus.options, *MODEL, *ONE_STEP, *options]) == 2
    *_, last = capsys.readouterr().err.splitlines()
    assert last.startswith("error: eval: 7 of 9 utterances have no audio that can be used: ")
    assert all(f"utterance {name}: " in last for name in bad)
    assert "--corpus.on-bad-eval deletions" in last
    lines, results, hypotheses = run(capsys, tone_corpus, *options, "--corpus.on-bad-eval", "deletions")
    assert set(hypotheses) == {"eval-0", "eval-2", *bad}
    for name in bad:
        h = hypotheses[name]
        assert h["hypothesis"] == ""
        assert (h["hits"], h["substitutions"], h["insertions"]) == (0, 0, 0)
        assert h["deletions"] == len(h["reference"].split()) > 0
        assert h["loss"] is None
        assert h["failure"]
    split = results["splits"]["eval"]
    assert results["num_reference_words"] == 3 * 2 + 6 * 3
    assert (split["num_utterances"], split["num_undecodable"], split["num_infinite"]) == (9, 7, 7)
    assert results["num_undecodable"] == 7, "beside the rate"
    assert any(line.endswith("; no audio of 7 utterances: all deletions") for line in lines)
    card = Path("runs/manifest/model/README.md").read_text()
    assert "; 7 utterances without readable audio count as deletions\n" in card
    assert results["loss"] is not None, "the mean of the finite losses"
    warnings = " ".join(line for line in lines if line.startswith("warning: eval:"))
    assert all(name in warnings for name in ("text", "void", "silent"))
    assert store == "--corpus.no-store" or "eval-1" in warnings
    tally.refused += len(bad)


def test_evaluation_transcripts_that_no_frames_can_hold_are_scored_and_counted(
    tone_corpus: ManifestFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    """Longer than its frames, without text, or too short for one frame: scored, with the infinite losses counted."""
    tone_corpus.rows["eval"][0]["text"] = "see " * 40
    tone_corpus.rows["eval"][1]["text"] = "!"
    set_audio("eval", 2, make_tone(0.01))(tone_corpus)
    _, results, hypotheses = run(capsys, tone_corpus)
    assert len(hypotheses) == 3
    assert results["num_reference_words"] == 40 + 0 + 2
    assert (results["splits"]["eval"]["num_infinite"], results["splits"]["eval"]["num_undecodable"]) == (2, 0)
    assert hypotheses["eval-0"]["loss"] is hypotheses["eval-2"]["loss"] is None
    assert hypotheses["eval-1"]["loss"] is not None, "silence can be written"
    assert hypotheses["eval-2"]["hypothesis"] == ""


def test_training_on_the_fly_stops_at_undecodable_audio_by_name(
    tone_corpus: ManifestFolder, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Without a store, and without drop, nobody decodes beforehand."""
    add_cut_flac(tone_corpus, "train", 2)
    options = ["--corpus.no-store", "--runs-dir", str(tmp_path / "runs")]  # its writer outlives this test
    assert main(["manifest", *tone_corpus.options, *MODEL, *ONE_STEP, *options]) == 2
    *_, last = capsys.readouterr().err.splitlines()
    assert last.startswith("error: utterance train-2: ")
    assert "train-2.flac: decoding failed" in last
    assert "--corpus.on-bad drop" in last
