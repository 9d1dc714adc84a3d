"""The comparison of runs (trainer.report.compare): verdicts, tables and what the page holds, on made-up transcripts.

pytest tests/trainer/report/test_compare.py
"""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.reports import Spoken, hypothesis, write_run
from trainer.errors import ResultsError
from trainer.report.compare import match, write_comparison
from trainer.report.differences import gained_and_lost, groups_table
from trainer.report.run import write_report
from trainer.report.verdict import compare_systems, many_systems, verdict
from trainer.scoring.scores import Hypothesis
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
    text, line, html = many_systems("eval", ["x", "y & z", "w"], rows(system(20), system(2), system(3)))
    assert text == (
        "eval: B has the lowest word error rate, 1.4 %. It is better than A. "
        "No difference is shown between it and C."
    )  # fmt: skip
    assert line.startswith("eval: A 13.9 %, B 1.4 %, C 2.1 %; B has the lowest")
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
    found, lost = match([first, second, third])
    assert [row[0].id for _, row in found] == [f"u{i:02d}" for i in range(24) if i not in (0, 5)]
    assert lost == 23 + 24 + 24 - 3 * 22


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


def test_rates_of_selected_weights_are_called_optimistic_once(tmp_path: Path) -> None:
    """In the report beside the rate, and in a comparison with the letter of the run whose weights were selected."""
    note = "optimistic: the weights were selected on it"
    selected = {"splits": {"eval": {"note": note}, "more": {"note": "contains eval"}}}
    for name, results in (("a", {}), ("b", selected)):
        write_run(tmp_path / name, system(1), **results)
    write_report(tmp_path / "b", "b", None)
    assert (tmp_path / "b" / "report.html").read_text().count(note) == 1
    write_comparison([tmp_path / "a", tmp_path / "b"], tmp_path / "page.html", None)
    assert (tmp_path / "page.html").read_text().count(f"B on eval: {note}.") == 1
