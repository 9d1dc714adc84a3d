"""The table of all runs in the terminal, and the same as JSON.

pytest tests/trainer/overview/test_terminal.py
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from tests.helpers.overview import records, write_checkpoint, write_config, write_finished, write_metrics
from trainer.config.as_json import to_json
from trainer.config.presets import PRESETS
from trainer.overview.figures import ago, audio_text, duration_text, notes_on_rates, rate_hint, rate_text, step_text
from trainer.overview.find import find_runs
from trainer.overview.run import Run, read_run
from trainer.overview.terminal import as_json, cells, table


def test_figures_are_written_as_a_person_reads_them(tmp_path: Path) -> None:
    run = read_run(write_finished(tmp_path / "a"), "a")
    assert rate_text(run) == "12.50 (10.50–15.50)"
    assert rate_hint(run) == ("WER of test, 95 % interval over 24 speakers; best during training 15.00 % at step 40")
    assert (step_text(run), duration_text(run), audio_text(run)) == ("40", "1 h 02 min", "103.5 h")
    going = dataclasses.replace(run, train_seconds=59.7, audio_seconds=90.0, is_estimated=True, total_steps=120)
    assert (step_text(going), duration_text(going), audio_text(going)) == ("40/120 (33 %)", "~1 min 00 s", "~1.5 min")
    nothing = Run(tmp_path, "b", "stopped")
    assert (rate_text(nothing), duration_text(nothing), audio_text(nothing), ago(None)) == ("–", "–", "–", "–")


def test_table_has_a_line_for_each_run_with_what_differs(tmp_path: Path) -> None:
    write_finished(tmp_path / "a", lr=1e-3)
    write_config(tmp_path / "b", lr=5e-4)
    write_metrics(tmp_path / "b", records(60))
    write_checkpoint(tmp_path / "b", 40)
    (tmp_path / "notes").mkdir()
    runs, others = find_runs([tmp_path])
    lines = table(runs, others, None)
    assert lines[0].split() == ["run", "status", "step", "WER", "%", "(95", "%)", "training", "audio", "s/s", "last",
                                "sign", "differs", "in"]  # fmt: skip
    assert lines[1].split()[:4] == ["a", "finished", "40", "12.50"]
    assert lines[1].endswith("lr=0.001")
    assert lines[2].split()[:4] == ["b", "resumable", "60/200", "(30"]
    assert "51.67 at step 60" in lines[2]
    assert lines[2].endswith("lr=0.0005")
    assert lines[3:] == [
        "",
        "2 runs: 1 finished, 1 resumable",
        "b: saved at step 40",
        f"no run in {tmp_path / 'notes'}",
    ]


def test_rates_of_different_splits_are_not_offered_for_comparison(tmp_path: Path) -> None:
    write_finished(tmp_path / "a", split="dev")
    write_finished(tmp_path / "b", split="test")
    runs, others = find_runs([tmp_path])
    assert "Rates are of different splits (dev, test) and do not compare as they stand." in table(runs, others, None)


def test_rates_of_splits_of_one_name_in_two_manifests_are_not_offered_either(tmp_path: Path) -> None:
    for name, manifest in (("a", "north.jsonl"), ("b", "south.jsonl"), ("c", "south.jsonl")):
        write_finished(tmp_path / name, split="eval")
        config = PRESETS["manifest"]()
        config = dataclasses.replace(
            config, name=name, corpus=dataclasses.replace(config.corpus, train="all.jsonl", eval=manifest)
        )
        (tmp_path / name / "config.json").write_text(to_json(config))
    runs, others = find_runs([tmp_path])
    note = "--corpus.eval differs (north.jsonl, south.jsonl): rates on different utterances do not compare."
    assert note in table(runs, others, None)
    assert max(map(len, table(runs, others, 60))) <= 60
    assert notes_on_rates([run for run in runs if run.name != "a"]) == []


def test_names_cannot_break_the_table(tmp_path: Path) -> None:
    """A name may hold anything but a slash: escape sequences and line breaks are shown, wide characters counted."""
    for name in ("evil\x1b[2J\nname", "日本語", "x" * 200):
        write_finished(tmp_path / name)
    runs, others = find_runs([tmp_path])
    lines = table(runs, others, 100)
    assert len(lines) == 6
    assert all(line.isprintable() and cells(line) <= 100 for line in lines)
    assert "evil\\x1b[2J\\nname" in lines[1]
    japanese = next(line for line in lines if line.startswith("日本語"))
    evil = next(line for line in lines if line.startswith("evil"))
    assert japanese.index("finished") + 3 == evil.index("finished"), "each of its three letters takes two columns"


def test_no_run_is_told_in_words(tmp_path: Path) -> None:
    assert table([], [tmp_path], 80) == ["no runs", f"no run in {tmp_path}"]


def test_json_holds_what_the_table_shows(tmp_path: Path) -> None:
    record = json.loads(as_json(read_run(write_finished(tmp_path / "a"), "a")))
    assert record["rate"] == {"name": "wer", "value": 0.125, "split": "test", "interval": [0.105, 0.155], "step": 40}
    assert (record["name"], record["status"], record["audio_seconds"]) == ("a", "finished", 372_500)
    assert record["options"]["optim.lr"] == "0.001"
