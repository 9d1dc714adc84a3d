"""The comparison of runs (trainer.report.compare): verdicts, tables and what the page holds, on made-up transcripts.

pytest tests/trainer/report/test_compare.py
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scripts.compare import main
from scripts.report import main as report_main
from tests.helpers.reports import Spoken, hypothesis, write_run
from trainer.errors import ConfigError, ResultsError
from trainer.report.comparable import pair, read_runs, remarks
from trainer.report.compare import write_comparison
from trainer.report.differences import gained_and_lost, groups_table
from trainer.report.run import write_report
from trainer.report.seeds import compare_summaries
from trainer.report.trn import write_trn
from trainer.report.verdict import compare_systems, many_systems, verdict
from trainer.rundir.results import write_hypotheses
from trainer.scoring.scores import Hypothesis, Scores
from trainer.scoring.statistics import holm

REFERENCE = "the cat sat on the mat"
SILENCE = np.zeros(32_000, np.float32)


def system(wrong: int, *, speakers: int = 12) -> list[Spoken]:
    """24 utterances of which `wrong` lack their second word."""
    lacking = "the sat on the mat"
    return [
        Spoken(f"u{i:02d}", SILENCE, REFERENCE, lacking if i < wrong else REFERENCE, f"s{i % speakers:02d}")
        for i in range(24)
    ]


def rows(*systems: list[Spoken]) -> list[tuple[Hypothesis, ...]]:
    return list(zip(*(map(hypothesis, spoken) for spoken in systems), strict=True))


def said(*systems: list[Spoken]) -> str:
    of = rows(*systems)
    c, over = compare_systems(of)
    return verdict("eval", of, c, over)


def page_of(path: Path) -> dict[str, Any]:
    text = re.search(r'<script type="application/json" id="data">(.*?)</script>', path.read_text(), re.DOTALL)
    assert text
    return json.loads(text[1])


def test_verdict_names_the_better_one_and_by_how_much() -> None:
    """20 errors of 144 words become 5: 75 % fewer."""
    assert said(system(20), system(5)).startswith(
        "eval: B is better than A, 75 % fewer errors. The word error rate is 13.9 % with A and 3.5 % with B; "
    )
    assert said(system(5), system(20)).startswith("eval: A is better than B, 75 % fewer errors.")


def test_verdict_claims_nothing_where_the_interval_holds_0() -> None:
    text = said(system(6), system(6))
    assert text.startswith("eval: no difference is shown.")
    assert "over 12 speakers, and holds 0." in text


def test_verdict_warns_of_few_speakers_and_of_one_unit() -> None:
    text = said(system(20, speakers=3), system(0, speakers=3))
    assert "B seems better than A" in text
    assert text.endswith("the interval is too narrow, so do not rely on it.")
    alone = rows(system(1)[:1], system(0)[:1])
    c, over = compare_systems(alone)
    assert verdict("eval", alone, c, over).startswith("eval: nothing can be said.")


def test_three_systems_are_ranked_and_tested_pair_by_pair() -> None:
    text, lines, html = many_systems("eval", ["x", "y & z", "w"], rows(system(20), system(2), system(3)))
    assert text == (
        "eval: B has the lowest word error rate, 1.4 %. It is better than A. "
        "No difference is shown between it and C."
    )  # fmt: skip
    assert [line[:5] for line in lines if not line.startswith(" ")] == ["B − A", "C − A", "C − B"]
    assert sum("Holm over 3 pairs" in line for line in lines) == 3
    assert re.findall(r"<tr><td>(\w(?: − \w)?)</td>", html) == ["B", "C", "A", "B − A", "C − A", "C − B"]
    assert "y &amp; z" in html


def test_holm_multiplies_the_smallest_most() -> None:
    """By hand: 0.01 x 3, then 0.03 x 2, then 0.04, which may not fall below its forerunner; NaN is no test."""
    assert holm([0.01, 0.04, float("nan"), 0.03]) == [
        pytest.approx(0.03), pytest.approx(0.06), pytest.approx(float("nan"), nan_ok=True), pytest.approx(0.06)
    ]  # fmt: skip
    assert holm([0.6, 0.9]) == [1.0, 1.0]


def test_gained_and_lost_words_are_counted_where_one_system_alone_is_right() -> None:
    """B has "cat" right where A left it out; A has "mat" right where B wrote "hat"."""
    a = Spoken("u", SILENCE, REFERENCE, "the sat on the mat", "s")
    b = Spoken("u", SILENCE, REFERENCE, "oh the cat sat on the hat", "s")
    html = gained_and_lost("eval", rows([a, a], [b, b]))
    gained, lost = html.split("Lost: right with A alone")
    for part, word in ((gained, "cat"), (lost, "mat")):
        assert [json.loads(unescape(t)) for t in re.findall(r'data-filter="([^"]*)"', part)] == [
            {"split": "eval", "find": word, "whole": "1"}
        ]
        assert '<td class="number">2</td>' in part
    assert gained_and_lost("eval", rows([a], [a])) == ""


def test_groups_stand_side_by_side() -> None:
    """Speakers s00 to s11 have two utterances of six words each; with A, s00 to s07 lack two words, the rest one."""
    html = groups_table("eval", rows(system(20), system(0)))
    cells = [re.sub("<[^>]*>", "|", row).strip("|") for row in re.findall("<tr><td>.*?</tr>", html)]
    assert [c.split("|")[0] for c in cells if c] == [f"s{i:02d}" for i in range(8)]
    assert all("16.7 %" in c and "0.0 %" in c and "−16.67" in c for c in cells)


def test_utterances_that_one_run_lacks_or_spells_otherwise_are_left_out_of_all() -> None:
    first, second, third = ({"eval": list(map(hypothesis, system(n)))} for n in (1, 2, 3))
    first["eval"] = first["eval"][1:]
    third["eval"][5] = hypothesis(Spoken("u05", SILENCE, "other words", "other", "s"))
    found, left_out = pair([first, second, third])
    assert [row[0].id for row in found["eval"]] == [f"u{i:02d}" for i in range(24) if i not in (0, 5)]
    assert (left_out.missing, left_out.respelt) == (2, 3)  # u00 is in two runs, u05 in three
    assert left_out.example == f"eval, u05: {REFERENCE!r} and 'other words'"


@pytest.mark.parametrize("number", [2, 3])
def test_page_holds_all_systems_and_sorts_by_what_changed(number: int, tmp_path: Path) -> None:
    runs = [tmp_path / name for name in ("first", "second", "third")][:number]
    for i, run in enumerate(runs):
        write_run(run, system(5 * i))
    lines = write_comparison(runs, tmp_path / "c.html", None)
    page = page_of(tmp_path / "c.html")
    assert page["systems"] == [run.name for run in runs]
    assert page["sort"] == {2: "-change", 3: "-spread"}[number]
    assert page["rows"][0]["errors"] == [0, 1, 1][:number]
    assert lines[-1].startswith(f"{tmp_path / 'c.html'}: 24 utterances")
    assert "is better than" in (tmp_path / "c.html").read_text()


def test_options_that_differ_are_named_and_no_others(tmp_path: Path, finished_run: Path) -> None:
    for name, lr in (("a", 1e-6), ("b", 2e-3)):
        write_run(tmp_path / name, system(2))
        config = json.loads((finished_run / "config.json").read_text())
        config["optim"]["lr"] = lr
        config["name"] = name
        (tmp_path / name / "config.json").write_text(json.dumps(config))
    write_comparison([tmp_path / "a", tmp_path / "b"], tmp_path / "c.html", None)
    section = re.search(r'<section id="options">.*?</section>', (tmp_path / "c.html").read_text())
    assert section
    assert re.findall(r'<th scope="row">(.*?)</th><td>(.*?)</td><td>(.*?)</td>', section[0]) == [
        ("optim.lr", "1e-06", "0.002")
    ]


def test_curves_of_both_runs_share_their_charts(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_run(tmp_path / name, system(2))
        records = [{"step": s, "train/loss": 2.0 / s, "eval/wer": 0.5} for s in (1, 2, 3)]
        (tmp_path / name / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    write_comparison([tmp_path / "a", tmp_path / "b"], tmp_path / "c.html", None)
    text = (tmp_path / "c.html").read_text()
    charts = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(charts) == 2
    assert all(">A<" in chart and ">B<" in chart and "--series-2" in chart for chart in charts)


def test_nothing_in_common_is_refused(tmp_path: Path) -> None:
    write_run(tmp_path / "a", system(1)[:3])
    write_run(tmp_path / "b", system(1)[3:])
    with pytest.raises(ResultsError, match="have no utterance with the same reference in common"):
        write_comparison([tmp_path / "a", tmp_path / "b"], tmp_path / "c.html", None)


def test_one_set_under_two_names_is_compared_and_that_is_said(tmp_path: Path) -> None:
    """Reference: the same hypotheses under one name. A run with a development set calls its test set `test`; an
    evaluation on that manifest calls it `eval`, as the run calls the other set."""
    for name, wrong in (("a", 9), ("same", 9), ("b", 2)):
        write_run(tmp_path / name, system(wrong))
    of_eval = [hypothesis(spoken) for spoken in system(9)]
    of_dev = [replace(h, id=f"dev-{h.id}") for h in of_eval]
    scores = [Scores("test", tuple(of_eval), 1.0, 48.0, {}), Scores("eval", tuple(of_dev), 1.0, 48.0, {})]
    write_hypotheses(tmp_path / "a" / "hypotheses.jsonl", scores)
    first, second = (
        write_comparison([tmp_path / name, tmp_path / "b"], tmp_path / "page.html", None) for name in ("a", "same")
    )
    said = "note: eval is what A calls test: the same utterances with the same references (its own eval is left out)"
    assert said in first
    assert said not in second
    figures = [[line for line in lines if re.match(r"\s+[AB] +\d", line)] for lines in (first, second)]
    assert len(figures[0]) == 2
    assert figures[0] == figures[1]


def test_rates_of_selected_weights_are_called_optimistic_once(tmp_path: Path) -> None:
    """In the report beside the rate, and in a comparison with the letter of the run whose weights were selected."""
    note = "optimistic: the weights were selected on it"
    figures = {"wer": 0.1, "num_utterances": 24, "num_errors": 1, "num_reference_words": 144, "weights": "best"}
    selected = {"splits": {"eval": figures | {"note": note}, "more": figures | {"note": "contains eval"}}}
    for name, results in (("a", {}), ("b", selected)):
        write_run(tmp_path / name, system(1), **results)
    write_report(tmp_path / "b", "b", None)
    report = (tmp_path / "b" / "report.html").read_text()
    assert report.count(note) == 2  # beside the figure, and in the table of test sets
    assert "<td>contains eval</td>" in report
    write_comparison([tmp_path / "a", tmp_path / "b"], tmp_path / "page.html", None)
    assert (tmp_path / "page.html").read_text().count(f"B on eval: {note}.") == 1


def comparison_lines(tmp_path: Path, *runs: list[Spoken], **results: Any) -> list[str]:
    folders = [tmp_path / chr(ord("a") + i) for i in range(len(runs))]
    for folder, spoken in zip(folders, runs, strict=True):
        write_run(folder, spoken, **results)
    return write_comparison(folders, tmp_path / "c.html", None)


def test_terminal_shows_rates_both_tests_and_the_effect(tmp_path: Path) -> None:
    """20 errors of 144 words become 5. Each stands alone in its utterance: 20 segments, of which 15 lose an error;
    z is -0.75 over the error of 15 ones and 5 zeros, sqrt(0.75 * 0.25 * 20 / 19 / 20)."""
    lines = comparison_lines(tmp_path, system(20), system(5))
    table = [line.split() for line in lines]
    assert ["A", "13.89", "%"] in [row[:3] for row in table]
    assert ["B", "3.47", "%"] in [row[:3] for row in table]
    differs = next(line for line in lines if "B − A: −10.42 points" in line)
    assert "−75.0 % errors" in differs
    z = -0.75 / (0.75 * 0.25 * 20 / 19 / 20) ** 0.5
    tests = next(line for line in lines if "MAPSSWE" in line)
    assert f"MAPSSWE p < 0.001 (20 segments, z {z:+.3f})".replace("-", "−") in tests
    assert any("CER" in line and "SER" in line and "bootstrap p" in line for line in lines)


def test_a_run_that_is_named_twice_is_refused(tmp_path: Path) -> None:
    write_run(tmp_path / "a", system(1))
    with pytest.raises(ConfigError, match="is given twice"):
        read_runs([tmp_path / "a", tmp_path / "x" / ".." / "a"])


def test_a_run_that_is_not_over_is_refused_with_what_to_do(tmp_path: Path) -> None:
    write_run(tmp_path / "a", system(1))
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "config.json").write_text("{}")
    with pytest.raises(ResultsError, match=r"b: the run has not come to its end.*--resume"):
        read_runs([tmp_path / "a", tmp_path / "b"])


def test_a_run_without_transcripts_is_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_run(tmp_path / name, system(1))
    (tmp_path / "b" / "hypotheses.jsonl").unlink()
    with pytest.raises(ResultsError, match=r"b/hypotheses.jsonl: not readable"):
        read_runs([tmp_path / "a", tmp_path / "b"])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda text: "".join(text.splitlines(keepends=True)[:-3]),
            "21 utterances of eval, but results.json tells of",
        ),
        (lambda text: text.replace("the cat sat on the mat", "the cat sat", 1), "the counts are not those"),
        (lambda text: text[: len(text) // 2], "not an utterance as a run writes it"),
    ],
    ids=["lines gone", "another reference", "cut"],
)
def test_a_damaged_file_is_refused(damage: Any, message: str, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_run(tmp_path / name, system(1), splits={"eval": {"num_utterances": 24, "num_errors": 1}})
    path = tmp_path / "b" / "hypotheses.jsonl"
    path.write_text(damage(path.read_text()))
    with pytest.raises(ResultsError, match=message):
        read_runs([tmp_path / "a", tmp_path / "b"])


def test_rates_under_two_rules_are_not_compared_and_one_rule_is_told(tmp_path: Path) -> None:
    """On sentences without neighbouring silences, both rules have the same references: nothing else tells them."""
    rules = {"a": "silences kept", "b": "silences merged", "c": "silences kept"}
    for name, rule in rules.items():
        write_run(tmp_path / name, system(1), scoring=rule)
    with pytest.raises(ResultsError, match=r"different rules \(.*a: silences kept; .*b: silences merged\)"):
        read_runs([tmp_path / "a", tmp_path / "b"])
    page = tmp_path / "x.html"
    lines = write_comparison([tmp_path / "a", tmp_path / "c"], page, None)
    assert lines[2] == "note: WER [silences kept]"
    assert "WER [silences kept]" in page.read_text()


def test_two_sets_of_one_name_without_a_common_utterance_are_told(tmp_path: Path) -> None:
    """It was said that A and B alone have the set."""
    write_run(tmp_path / "a", system(1))
    write_run(tmp_path / "b", system(5))
    runs = read_runs([tmp_path / "a", tmp_path / "b"])
    other = [replace(h, id=f"other-{h.id}") for h in runs[0].splits["eval"]]
    both = [
        replace(run, splits=run.splits | {"dev": dev})
        for run, dev in zip(runs, (other, runs[1].splits["eval"]), strict=True)
    ]
    told = list(remarks(both, *pair([run.splits for run in both])))
    assert "dev is not compared: all runs have a set of this name, but no utterance that is the same in all" in told
    assert not any("alone" in line for line in told)


def test_a_folder_within_a_run_is_told_to_be_one(tmp_path: Path) -> None:
    write_run(tmp_path / "a", system(1))
    write_run(tmp_path / "b", system(1))
    (tmp_path / "b" / "model").mkdir()
    (tmp_path / "b" / "model" / "config.json").write_text("{}")
    with pytest.raises(ResultsError, match=r"b/model: is a part of a run. Give the run: .*/b\."):
        read_runs([tmp_path / "a", tmp_path / "b" / "model"])


def test_words_and_phones_are_not_compared(tmp_path: Path) -> None:
    write_run(tmp_path / "a", system(1))
    write_run(tmp_path / "b", system(1))
    path = tmp_path / "b" / "hypotheses.jsonl"
    path.write_text(path.read_text().replace('"split"', '"units": "phones", "split"'))
    with pytest.raises(ResultsError, match="write different units"):
        read_runs([tmp_path / "a", tmp_path / "b"])


def test_phones_are_compared_by_their_own_rate(tmp_path: Path) -> None:
    for name, number in (("a", 20), ("b", 5)):
        write_run(tmp_path / name, system(number))
        path = tmp_path / name / "hypotheses.jsonl"
        path.write_text(path.read_text().replace('"split"', '"units": "phones", "split"'))
    lines = write_comparison([tmp_path / "a", tmp_path / "b"], tmp_path / "c.html", None)
    assert any("PER" in line and "of phones" in line for line in lines)
    assert any("The phone error rate is 13.9 % with A and 3.5 % with B" in line for line in lines)
    assert not any("WER" in line for line in lines)


def test_runs_on_different_data_are_called_that(tmp_path: Path) -> None:
    write_run(tmp_path / "a", system(1), training_data="1")
    write_run(tmp_path / "b", system(2), training_data="2")
    lines = write_comparison([tmp_path / "a", tmp_path / "b"], tmp_path / "c.html", None)
    assert any("trained on different data (A / B)" in line for line in lines)
    assert "trained on different data" in (tmp_path / "c.html").read_text()


def test_the_same_data_is_no_remark_and_unknown_data_is(tmp_path: Path) -> None:
    write_run(tmp_path / "a", system(1), training_data="1")
    write_run(tmp_path / "b", system(2), training_data="1")
    write_run(tmp_path / "c", system(2))
    known = write_comparison([tmp_path / "a", tmp_path / "b"], tmp_path / "c.html", None)
    assert not any("trained" in line for line in known)
    unknown = write_comparison([tmp_path / "a", tmp_path / "c"], tmp_path / "c.html", None)
    assert any("What B was trained on is not known" in line for line in unknown)


def test_a_set_within_another_is_compared_too_and_its_utterances_stand_in_the_table_once(tmp_path: Path) -> None:
    """The first eight utterances are the core; the page's table has each utterance once, all under the headline."""
    for name, number in (("a", 20), ("b", 5)):
        source = [hypothesis(s) for s in system(number)]
        scores = Scores("eval", tuple(source), 1.0, 1.0, {})
        write_run(tmp_path / name, system(number))
        write_hypotheses(
            tmp_path / name / "hypotheses.jsonl", [scores, replace(scores, split="core", hypotheses=tuple(source[:8]))]
        )
    lines = write_comparison([tmp_path / "a", tmp_path / "b"], tmp_path / "c.html", None)
    assert [line.split(":")[0] for line in lines if "utterances of" in line] == ["eval", "core"]
    assert any("The test sets overlap" in line for line in lines)
    page = page_of(tmp_path / "c.html")
    assert len(page["rows"]) == 24
    assert {row["split"] for row in page["rows"]} == {"eval"}


def test_trn_files_hold_what_sclite_reads(tmp_path: Path) -> None:
    for name, number in (("a", 2), ("b", 1)):
        write_run(tmp_path / name, system(number))
    write_trn([tmp_path / "a", tmp_path / "b"], tmp_path / "trn")
    first = {name: (tmp_path / "trn" / f"eval.{name}.trn").read_text().splitlines()[1] for name in ("ref", "A", "B")}
    assert first == {
        "ref": "the cat sat on the mat (s0001-000001)",
        "A": "the sat on the mat (s0001-000001)",
        "B": "the cat sat on the mat (s0001-000001)",
    }


def summary(path: Path, values: list[float]) -> Path:
    runs = [{"seed": i} for i in range(len(values))]
    path.write_text(json.dumps({"metric": "wer", "runs": runs, "splits": {"eval": {"wer": {"values": values}}}}))
    return path


def test_two_groups_of_seeds_are_compared_by_welch(tmp_path: Path) -> None:
    """Reference: tests/trainer/scoring/test_statistics.py has the same numbers, ten times as large."""
    lines = compare_summaries(
        summary(tmp_path / "a.json", [0.1, 0.2, 0.3]), summary(tmp_path / "b.json", [0.2, 0.4, 0.7, 0.9])
    )
    row = next(line.split() for line in lines if line.startswith("eval"))
    assert row == ["eval", "3,", "4", "20.00", "%", "55.00", "%", "+35.00", "−12.13", "to", "+82.13", "0.107"]
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(ResultsError, match=r"x.json: not a summary"):
        compare_summaries(tmp_path / "a.json", tmp_path / "x.json")


def test_seeds_of_other_test_sets_or_other_rules_are_not_compared(tmp_path: Path) -> None:
    def write(name: str, *splits: tuple[str, int, str]) -> Path:
        of = {split: {"num_utterances": n, "per": {"values": [0.1, 0.2]}} | ({"scoring": rule} if rule else {})
              for split, n, rule in splits}  # fmt: skip
        path = tmp_path / name
        path.write_text(json.dumps({"metric": "per", "runs": [{"seed": 1}, {"seed": 2}], "splits": of}))
        return path

    kept = write("kept.json", ("core", 192, "silences kept"), ("dev", 400, "silences kept"))
    merged = write("merged.json", ("core", 192, "silences merged"))
    other = write("other.json", ("core", 64, "silences kept"), ("dev", 400, "silences kept"))
    strange = write("strange.json", ("core", 64, "silences kept"))
    lines = compare_summaries(kept, other)
    assert "PER [silences kept]" in lines
    assert "Not compared, since A and B scored other utterances: core: 192 utterances and 64 utterances" in lines
    assert [line.split()[0] for line in lines if line.startswith(("core", "dev"))] == ["dev"]
    with pytest.raises(ResultsError, match=r"different rules \(.*kept.json: silences kept; .*: silences merged"):
        compare_summaries(kept, merged)
    with pytest.raises(ResultsError, match=r"scored other test sets \(core: 192 utterances and 64 utterances\)"):
        compare_summaries(kept, strange)


def test_the_report_sends_several_runs_to_the_comparison(capsys: pytest.CaptureFixture[str]) -> None:
    assert report_main(["runs/a", "runs/b c"]) == 2
    assert "python -m scripts.compare runs/a 'runs/b c'" in capsys.readouterr().err


def test_command_compares_and_one_run_is_too_few(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, number in (("a", 20), ("b", 5)):
        write_run(tmp_path / name, system(number))
    assert main([str(tmp_path / "a"), str(tmp_path / "b"), "--media", "none"]) == 0
    assert "B is better than A, 75 % fewer errors" in capsys.readouterr().out
    assert (tmp_path / "b" / "compare-a.html").exists()
    assert main([str(tmp_path / "a")]) == 2
    assert "give 2 to 8" in capsys.readouterr().err
