"""The report in a headless Chromium: sort, filter, open, play, keyboard, both colour schemes, wide and narrow.

make test-browser, or pytest -m browser
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts.compare import main as compare
from scripts.report import main as report
from tests.helpers.browser import NEEDS_CHROMIUM
from trainer.run import main as train

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    NEEDS_CHROMIUM,
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, synthetic_cache: Path) -> Path:
    """A few steps on the tiny TIMIT-shaped corpus: speakers, regions, words and phones are known."""
    folder = tmp_path_factory.mktemp("runs")
    options = ["demo", "--corpus.size", "tiny", "--corpus.protocol", "hf", "--train.max-steps", "6", "--name", "run",
               "--optim.warmup-steps", "1", "--cache-dir", str(synthetic_cache), "--runs-dir", str(folder)]  # fmt: skip
    assert train(options) == 0
    # Six steps write next to nothing: some transcripts with errors of every kind instead
    lines = [json.loads(line) for line in (folder / "run" / "hypotheses.jsonl").read_text().splitlines()]
    for i, line in enumerate(lines):
        words = line["reference"].split()
        missing = i % 3
        written = [*words[: len(words) - missing], *(["<b>new</b>"] if i % 5 == 0 else [])]
        inserted = max(0, len(written) - len(words))
        substituted = min(len(written) - inserted, int(i % 5 == 0)) if missing else 0
        line |= {
            "hypothesis": " ".join(written), "hits": len(words) - missing, "insertions": inserted,
            "substitutions": substituted, "deletions": missing - substituted,
        }  # fmt: skip
    (folder / "run" / "hypotheses.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert report([str(folder / "run")]) == 0
    return folder / "run"


@pytest.fixture(params=[(1280, "light"), (400, "dark")], ids=["wide-light", "narrow-dark"])
def page(request: pytest.FixtureRequest, browser: Any, run: Path) -> Iterator[Any]:
    """The report as opened from disk; whatever the console says, or the page fetches, fails the test."""
    width, scheme = request.param
    opened = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    said: list[str] = []
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on("request", lambda r: said.append(r.url) if r.url.split(":")[0] not in ("file", "data") else None)
    opened.goto((run / "report.html").as_uri())
    yield opened
    opened.close()
    assert said == []


def ids(page: Any) -> list[str]:
    return page.locator("#table tr.row .id button").all_inner_texts()


def rows_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "hypotheses.jsonl").read_text().splitlines()]


def natural(name: str) -> list[str | int]:
    """SX8 before SX10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def with_counts_of_its_rows(run: Path) -> Path:
    """The run, whose results.json tells what its invented transcripts count up to."""
    results = json.loads((run / "results.json").read_text())
    for split, record in results["splits"].items():
        record["num_errors"] = sum(num_errors(r) for r in rows_of(run) if split in (r["split"], *r.get("also", ())))
    (run / "results.json").write_text(json.dumps(results))
    return run


def num_errors(row: dict[str, Any]) -> int:
    return row["substitutions"] + row["insertions"] + row["deletions"]


def test_every_utterance_is_listed_worst_first(page: Any, run: Path) -> None:
    expected = {row["id"]: num_errors(row) for row in rows_of(run)}
    shown = [expected[name] for name in ids(page)]
    assert len(shown) == 40
    assert shown == sorted(shown, reverse=True)
    assert f"40 of 40 utterances, {sum(shown)} errors of" in page.locator("#count").inner_text()


def test_a_column_sorts_both_ways(page: Any) -> None:
    if page.viewport_size["width"] < 900:  # no room for column heads
        page.get_by_label("Sort by").select_option("Utterance")
        assert ids(page) == sorted(ids(page), key=natural)
        return
    head = page.get_by_role("button", name="Utterance", exact=True)
    head.click()
    up = ids(page)
    assert up == sorted(up, key=natural)
    assert page.locator("th[aria-sort=ascending]").inner_text().startswith("Utterance")
    head.click()
    assert ids(page) == up[::-1]
    page.get_by_role("button", name="Seconds").click()
    seconds = [float(text) for text in page.locator("td[data-name=Seconds]").all_inner_texts()]
    assert seconds == sorted(seconds, reverse=True)


def test_filters_narrow_the_table_and_its_count(page: Any, run: Path) -> None:
    rows = rows_of(run)
    speaker = rows[0]["speaker"]
    page.get_by_label("Speaker", exact=True).select_option(speaker)
    assert sorted(ids(page)) == sorted(row["id"] for row in rows if row["speaker"] == speaker)
    page.get_by_label("with errors only").check()
    expected = [row for row in rows if row["speaker"] == speaker and num_errors(row)]
    assert sorted(ids(page)) == sorted(row["id"] for row in expected)
    page.get_by_label("with errors only").uncheck()
    page.get_by_label("Speaker", exact=True).select_option("")
    word = rows[3]["reference"].split()[1]
    page.get_by_label("Find").fill(word.upper())
    assert sorted(ids(page)) == sorted(r["id"] for r in rows if word in " ".join([r["reference"], r["hypothesis"]]))
    page.get_by_label("Find").fill("no such thing")
    assert ids(page) == []
    assert "0 of 40" in page.locator("#count").inner_text()


def test_an_utterance_opens_plays_and_closes(page: Any) -> None:
    page.locator("#table tr.row .id button").first.click()
    detail = page.locator("tr.detail")
    assert detail.locator(".aligned li").count() > 2
    assert detail.locator(".picture svg image.spectrogram").count() == 1
    assert detail.locator(".picture svg path").count() > 2
    assert "h#" in detail.locator(".picture svg text").all_text_contents(), "the corpus' phones stand under the picture"
    duration = page.evaluate(
        "() => new Promise(r => { const a = document.querySelector('audio');"
        " if (a.duration) r(a.duration); a.onloadedmetadata = () => r(a.duration); a.onerror = () => r(-1); })"
    )
    assert duration > 0.5
    page.evaluate("() => document.querySelector('audio').play()")
    page.wait_for_function("() => document.querySelector('audio').currentTime > 0.05", timeout=10_000)
    assert not detail.locator(".readout").inner_text().startswith("0.00 s")
    page.evaluate("() => document.querySelector('audio').pause()")
    page.evaluate(
        "() => { const a = document.querySelector('audio');"
        " a.addEventListener('seeking', () => { window.sought ??= a.currentTime; }); }"
    )
    page.locator(".picture svg").click(position={"x": 200, "y": 30})
    page.wait_for_function("() => window.sought !== undefined")
    width = int(page.locator(".picture svg").get_attribute("width"))
    sought = page.evaluate("() => window.sought")
    assert sought == pytest.approx(200 / width * duration, abs=0.02), "a click plays from there"
    page.keyboard.press("Escape")
    assert detail.count() == 0
    assert page.locator("[aria-expanded=true]").count() == 0


def test_everything_works_by_keyboard(page: Any) -> None:
    page.keyboard.press("j")
    names = ids(page)
    assert page.locator("tr.row.open .id button").inner_text() == names[0]
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    assert page.locator("tr.row.open .id button").inner_text() == names[1]
    assert page.evaluate("() => document.activeElement.textContent") == names[1]
    picture = page.locator(".picture svg")
    picture.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    assert page.locator(".readout").inner_text().startswith("0.06 s")
    page.keyboard.press("p")
    page.wait_for_function("() => !document.querySelector('audio').paused")
    page.keyboard.press("/")
    page.keyboard.type("zzz")
    assert ids(page) == []


def test_a_confusion_leads_to_its_utterances(page: Any, run: Path) -> None:
    button = page.locator("#confusions [data-filter*=edit]").first
    wanted = json.loads(json.loads(button.get_attribute("data-filter"))["edit"])
    number = int(button.locator("xpath=../../td[2]").inner_text())
    button.click()
    assert 0 < len(ids(page)) <= number
    assert wanted[1] in page.locator("#chips .chip").inner_text()
    page.locator("#chips .chip").click()
    assert len(ids(page)) == 40


def test_words_with_markup_stay_words(page: Any) -> None:
    page.get_by_label("Find").fill("<b>new</b>")
    assert len(ids(page)) == 8
    assert page.locator("#table b").count() == 0
    assert "<b>new</b>" in page.locator("#table").inner_text()


def test_errors_are_told_without_colour(page: Any) -> None:
    """A deletion is struck through, an insertion has a plus, and both are named for those who listen to the page."""
    for kind, mark in (("deletion", "s"), ("insertion", "u")):
        word = page.locator(f".word[title={kind}]").first
        assert word.locator(mark).count() == 1
        assert kind in word.locator(".hidden").text_content()
    assert page.locator(".word[title=insertion] u").first.inner_text().startswith("+")


def test_page_is_as_wide_as_the_window(page: Any) -> None:
    page.keyboard.press("j")
    assert page.evaluate("() => document.documentElement.scrollWidth") <= page.viewport_size["width"]


def test_scheme_of_the_reader_is_followed(page: Any) -> None:
    """Text against background: at least 7 to 1 by WCAG's formula, whichever is the lighter."""
    colors = page.evaluate(
        "() => { const s = getComputedStyle(document.documentElement); return [s.color, s.backgroundColor]; }"
    )

    def luminance(color: str) -> float:
        parts = [int(v) / 255 for v in color[4:-1].split(",")]
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    text, ground = map(luminance, colors)
    assert (max(text, ground) + 0.05) / (min(text, ground) + 0.05) > 7
    assert (text < ground) == (page.viewport_size["width"] == 1280)


def test_an_address_leads_to_its_utterance(browser: Any, run: Path) -> None:
    row = rows_of(run)[7]
    opened = browser.new_page()
    opened.goto((run / "report.html").as_uri() + f"#u={row['split']}%2F{row['id']}")
    assert opened.locator("tr.row.open .id button").inner_text() == row["id"]
    opened.close()


def test_an_utterance_too_long_for_pictures_is_heard(
    browser: Any, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.report.media_choice.MOST_SECONDS", 0.01)
    assert report([str(run), "--media", "all", "--out", str(tmp_path / "all.html")]) == 0
    opened = browser.new_page()
    said: list[str] = []
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.goto((tmp_path / "all.html").as_uri())
    opened.keyboard.press("j")
    assert opened.locator("tr.detail audio").count() == 1
    assert opened.locator("tr.detail svg").count() == 0
    assert "Too long for pictures." in opened.locator("tr.detail").inner_text()
    opened.close()
    assert said == []


def test_every_cell_of_the_table_is_drawn_as_a_cell(browser: Any, run: Path, tmp_path: Path) -> None:
    """A column's name is a class of its cells, which other parts of the page must not style. Two splits are shown."""
    two = shutil.copytree(run, tmp_path / "two", ignore=shutil.ignore_patterns("checkpoints"))
    lines = [{**row, "split": f"part-{i % 2}"} for i, row in enumerate(rows_of(run))]
    for line in lines:
        line.pop("also", None)
    (two / "hypotheses.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert report([str(two), "--media", "none"]) == 0
    opened = browser.new_page()
    opened.goto((two / "report.html").as_uri())
    shown = "cells => cells.map(cell => getComputedStyle(cell).display)"
    cells = opened.locator("#table tr.row").first.locator("td").evaluate_all(shown)
    opened.close()
    assert len(cells) > 8
    assert set(cells) == {"table-cell"}


def test_an_address_leads_beyond_the_rows_that_are_shown_first(browser: Any, run: Path, tmp_path: Path) -> None:
    """Of 280 utterances 200 are shown; an address that no page wrote opens nothing and breaks nothing."""
    many = shutil.copytree(run, tmp_path / "many", ignore=shutil.ignore_patterns("checkpoints"))
    lines = [{**row, "id": f"{row['id']}-{i}"} for i in range(7) for row in rows_of(run)]
    (many / "hypotheses.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert report([str(many), "--media", "none"]) == 0
    last = [line for line in lines if num_errors(line) == 0][-1]
    opened = browser.new_page()
    said: list[str] = []
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.goto((many / "report.html").as_uri() + "#u=%E0%A4%A")
    assert len(ids(opened)) == 200
    assert opened.locator("tr.row.open").count() == 0
    assert said == []
    assert last["id"] not in ids(opened)
    opened.goto((many / "report.html").as_uri() + f"#u={last['split']}%2F{last['id']}")
    assert opened.locator("tr.row.open .id button").inner_text() == last["id"]
    opened.reload()
    assert opened.locator("tr.row.open .id button").inner_text() == last["id"]
    opened.close()


def test_two_runs_stand_side_by_side(browser: Any, run: Path, tmp_path: Path) -> None:
    other = shutil.copytree(run, tmp_path / "other", ignore=shutil.ignore_patterns("checkpoints"))
    lines = rows_of(other)
    lines[0] |= {"hypothesis": "", "hits": 0, "substitutions": 0, "insertions": 0,
                 "deletions": len(lines[0]["reference"].split())}  # fmt: skip
    (other / "hypotheses.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    mine = shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints"))
    assert compare([str(with_counts_of_its_rows(folder)) for folder in (mine, other)]) == 0
    opened = browser.new_page()
    said: list[str] = []
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.goto((other / "compare-run.html").as_uri())
    assert ids(opened)[0] == lines[0]["id"]
    opened.get_by_label("B is").select_option("worse")
    assert ids(opened) == [lines[0]["id"]]
    opened.keyboard.press("j")
    assert opened.locator("tr.detail .aligned").count() == 1
    assert opened.locator(".aligned .names div").all_inner_texts()[:3] == ["reference", "A wrote", "B wrote"]
    words = lines[0]["reference"].split()
    assert len(opened.locator(".aligned li").all()) >= len(words)
    assert opened.locator(".aligned li .del").count() >= len(words), "all are deletions of B"
    row = opened.locator("#table tr.row").first
    assert row.locator(".of b").all_inner_texts() == ["A", "B"]
    assert opened.locator("tr.detail audio").count() == 1
    opened.get_by_label("B is").select_option("better")
    assert ids(opened) == []
    opened.close()
    assert said == []
