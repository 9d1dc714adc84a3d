"""The benchmark: its arithmetic, and one round of very few steps on generated speech.

pytest tests/scripts/bench/test_benchmark.py
"""

from __future__ import annotations

import doctest
import json
from pathlib import Path

import pytest
import soundfile

from scripts.bench.against import report as benchmark_report
from scripts.bench.against.report import (
    advantage,
    markdown,
    markdown_of_phases,
    percentile,
    phase_seconds,
    spread,
    step_seconds,
    summarize,
)
from scripts.bench.against.tones import write_tone_corpus
from scripts.bench.benchmark import main
from scripts.hf.equality import write_checkpoint
from trainer.cli.clock import PHASES


def test_docstring_examples_hold() -> None:
    assert doctest.testmod(benchmark_report).failed == 0


def test_spread_is_median_and_range() -> None:
    assert spread([4.0, 1.0, 2.0, 9.0]) == {"median": 3.0, "min": 1.0, "max": 9.0}


def test_advantage_is_taken_round_by_round() -> None:
    """A machine twice as slow in the second round changes no ratio."""
    assert advantage([10.0, 5.0], [5.0, 2.5], "more") == {"median": 2.0, "min": 2.0, "max": 2.0}
    assert advantage([1.0, 2.0], [3.0, 6.0], "less") == {"median": 3.0, "min": 3.0, "max": 3.0}


def test_percentile_is_one_of_the_values() -> None:
    values = [float(i) for i in range(1, 101)]
    assert (percentile(values, 0.5), percentile(values, 0.95), percentile([7.0], 0.95)) == (50.0, 95.0, 7.0)


def test_steps_with_an_evaluation_or_a_save_behind_them_are_not_timed() -> None:
    logged = [(1, 0.0), (2, 1.0), (3, 11.0), (4, 12.0), (5, 32.0)]
    assert step_seconds(logged, (2, 0)) == [1.0, 1.0]
    assert step_seconds(logged, (0, 0)) == [1.0, 10.0, 1.0, 20.0]


def test_summary_has_ratios_of_what_both_sides_have_and_its_table_a_row_each() -> None:
    rounds = {
        "ours": [{"audio_rate": 30.0, "wer": 0.1, "end_to_end": 5.0}, {"audio_rate": 40.0, "wer": 0.1}],
        "hf": [{"audio_rate": 10.0, "wer": 0.2, "end_to_end": 9.0}, {"audio_rate": 10.0, "wer": 0.2}],
    }
    summary = summarize(rounds)  # type: ignore[arg-type]
    assert summary["ratios"] == {"hf": {"audio_rate": {"median": 3.5, "min": 3.0, "max": 4.0}}}
    table = markdown(summary).splitlines()
    assert table[0] == "|  | ours | hf | ours against hf |"
    assert table[2] == ("| audio seconds per second of training | 35.0 (30.0 to 40.0) | 10.0 | 3.50x (3.00 to 4.00) |")
    assert len(table) == 4, "WER has no ratio but a row; what a round lacks has none"


def test_the_second_table_sums_to_the_whole_run_on_every_side() -> None:
    """Each phase of the clock in one row; what comes after the clock's last reading is the exit. Empty rows go."""
    clock = {phase: 2.0**i for i, phase in enumerate(PHASES)}
    figures = phase_seconds(clock, whole=sum(clock.values()) + 0.25)
    assert sum(figures.values()) == sum(clock.values()) + 0.25  # type: ignore[arg-type]
    assert figures["phase/exit"] == 0.25
    assert sum(map(len, benchmark_report.PHASES.values())) == len(PHASES)
    rounds = {
        "ours": [phase_seconds({"imports": 2.0, "training": 5.0}, 7.5), phase_seconds({"training": 6.0}, 7.0)],
        "hf": [phase_seconds({"decoding": 1.5}, 4.5)] * 2,
        "none": [{"wer": 0.1}] * 2,
    }
    assert markdown_of_phases(summarize(rounds)).splitlines() == [
        "| seconds of the whole run | ours | hf | none |",
        "| --- | --- | --- | --- |",
        "| start and imports | 1.00 (0.00 to 2.00) | 0.00 |  |",
        "| reading and decoding | 0.00 | 1.50 |  |",
        "| training | 5.50 (5.00 to 6.00) | 0.00 |  |",
        "| exit | 0.75 (0.50 to 1.00) | 3.00 |  |",
    ]


def test_tones_are_the_same_from_the_same_seed(tmp_path: Path) -> None:
    first, second = (write_tone_corpus(tmp_path / name, 3, 2) for name in ("a", "b"))
    for a, b in zip(first, second, strict=True):
        assert a.read_text() == b.read_text()
    row = json.loads(first[0].read_text().splitlines()[0])
    info = soundfile.info(first[0].parent / row["audio_filepath"])
    assert info.samplerate == 16_000
    assert info.duration == pytest.approx(row["duration"], abs=1e-3)


@pytest.mark.slow
def test_one_round_measures_every_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = write_checkpoint(
        tmp_path / "weights", "unispeech", "layer", warm_up=0, hidden_size=24, intermediate_size=24,
        num_attention_heads=2, num_hidden_layers=1, conv_dim=(8,) * 7,
    )  # fmt: skip
    out = tmp_path / "figures.json"
    options = ["tiny", "--rounds", "1", "--steps", "3", "--batch-size", "4", "--tones", "12", "6", "--threads", "1",
               "--weights", str(weights), "--out", str(out)]  # fmt: skip
    assert main(options) == 0
    record = json.loads(out.read_text())
    for side in ("ours", "hf", "hf-tuned"):
        (figures,) = record["rounds"][side]
        assert figures["num_steps"] == 3, side
        assert 0 < figures["audio_rate"] <= figures["padded_rate"], side
        assert 0 < figures["step_p50"] <= figures["step_p95"], side
        assert 0 < figures["train_seconds"] < figures["end_to_end"], side
        assert figures["eval_seconds"] > 0
        assert figures["peak_memory_mb"] > 100
        phases = {row: seconds for row, seconds in figures.items() if row.startswith("phase/")}
        assert sum(phases.values()) == pytest.approx(figures["end_to_end"])
        assert phases["phase/training"] > 0.9 * figures["train_seconds"]
        assert min(phases["phase/start and imports"], phases["phase/model"], phases["phase/closing evaluation"]) > 0
    assert set(record["ratios"]) == {"hf", "hf-tuned"}
    said = capsys.readouterr().out
    assert "| audio seconds per second of training |" in said
    assert "| seconds of the whole run | ours | hf | hf-tuned |" in said


@pytest.mark.slow
def test_evaluation_alone_finds_the_same_wer_on_every_side(tmp_path: Path) -> None:
    weights = write_checkpoint(
        tmp_path / "weights", "unispeech", "layer", warm_up=0, hidden_size=24, intermediate_size=24,
        num_attention_heads=2, num_hidden_layers=1, conv_dim=(8,) * 7,
    )  # fmt: skip
    out = tmp_path / "figures.json"
    options = ["eval", "--rounds", "1", "--tones", "2", "8", "--weights", str(weights), "--threads", "1",
               "--out", str(out)]  # fmt: skip
    assert main(options) == 0
    rounds = json.loads(out.read_text())["rounds"]
    assert rounds["ours"][0]["wer"] == rounds["hf"][0]["wer"] == rounds["hf-tuned"][0]["wer"]
    assert rounds["ours"][0]["eval_seconds"] > 0
