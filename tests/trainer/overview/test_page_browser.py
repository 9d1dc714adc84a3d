"""The page of all runs in a headless Chromium: choose, sort, find, follow a run, wide and narrow, light and dark.

make test-browser, or pytest -m browser
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts.runs import main
from tests.helpers.browser import NEEDS_CHROMIUM
from tests.helpers.overview import records, write_config, write_finished, write_metrics
from trainer.overview.find import find_runs
from trainer.overview.page import write_page

pytestmark = [pytest.mark.browser, pytest.mark.slow, NEEDS_CHROMIUM]
EVIL = "<b>x&'\""


@pytest.fixture(params=[(1400, "light"), (400, "dark")], ids=["wide-light", "narrow-dark"])
def page(request: pytest.FixtureRequest, browser: Any, tmp_path: Path) -> Iterator[Any]:
    """Seven runs as opened from disk; whatever the console says, or the page fetches, fails the test."""
    for i in range(6):
        write_finished(tmp_path / f"run-{i}", wer=0.1 + 0.01 * i, lr=1e-3 / (i + 1))
    write_finished(tmp_path / EVIL, wer=0.9, lr=0.5)
    assert main([str(tmp_path), "--html", str(tmp_path / "index.html")]) == 0
    width, scheme = request.param
    opened = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    said: list[str] = []
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on("request", lambda r: said.append(r.url) if not r.url.startswith("file:") else None)
    opened.goto((tmp_path / "index.html").as_uri())
    yield opened
    opened.close()
    assert said == []


def box(page: Any, name: str) -> Any:
    return page.get_by_label(f"Choose {name}", exact=True)


def names(page: Any) -> list[str]:
    return page.locator("#runs tbody tr:visible td.run").all_inner_texts()


def test_chosen_runs_are_drawn_over_one_another(page: Any) -> None:
    lines = page.locator("#charts figure:first-child polyline")
    assert page.locator("#charts figure").count() == 3
    assert lines.count() == 5  # the best five at first
    box(page, EVIL).check()
    assert lines.count() == 6
    assert page.locator("#legend li").last.inner_text().strip() == EVIL
    styles = {(line.get_attribute("stroke"), line.get_attribute("stroke-dasharray")) for line in lines.all()}
    assert len(styles) == 6
    page.get_by_role("button", name="choose none").click()
    assert page.locator("#charts").inner_text().startswith("None of the chosen runs")
    assert page.locator("#charts polyline").count() == 0


def test_command_of_the_paired_test_names_the_chosen_runs(page: Any) -> None:
    page.get_by_role("button", name="choose none").click()
    box(page, "run-0").check()
    assert page.locator("#command").inner_text() == "python -m scripts.compare runs/A runs/B"
    box(page, EVIL).check()
    told = page.locator("#command").inner_text()
    assert told.startswith("python -m scripts.compare ")

    assert [Path(word).name for word in shlex.split(told)[3:]] == ["run-0", EVIL]


def test_choice_order_and_axis_outlive_a_reload(page: Any) -> None:
    box(page, "run-1").uncheck()
    page.get_by_label("Over").select_option("epochs")
    page.get_by_label("Find").fill("finished")
    before = page.locator("#charts").inner_html()
    page.reload()
    assert not box(page, "run-1").is_checked()
    assert box(page, "run-0").is_checked()
    assert page.locator("#charts").inner_html() == before
    assert "epoch" in page.locator("#charts text").all_text_contents()
    assert page.get_by_label("Find").input_value() == "finished"


def test_rows_are_sorted_and_found(page: Any) -> None:
    assert [name.strip() for name in names(page)] == [*(f"run-{i}" for i in range(6)), EVIL]
    if page.viewport_size["width"] > 900:
        page.get_by_role("button", name="lr", exact=True).click()
        assert [name.strip() for name in names(page)] == [*(f"run-{i}" for i in reversed(range(6))), EVIL]
        page.get_by_role("button", name="lr", exact=True).click()
        assert names(page)[0].strip() == EVIL
    page.get_by_label("Find").fill("run-3")
    assert [name.strip() for name in names(page)] == ["run-3"]
    assert page.locator("#count").inner_text() == "1 of 7 runs, 5 chosen"


def test_nothing_is_wider_than_the_window(page: Any) -> None:
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_pointing_at_a_chart_tells_the_figures(page: Any) -> None:
    chart = page.locator("#charts svg").first
    chart.scroll_into_view_if_needed()
    chart.hover()
    told = page.locator("#charts .told").first.inner_text()
    assert told.startswith("step ")
    assert "run-0" in told


def test_every_axis_has_figures(browser: Any, tmp_path: Path) -> None:
    """Losses from 2.1 to 3.4 hold no 1, 2 or 5 times a power of ten."""
    write_config(tmp_path / "a")
    write_metrics(tmp_path / "a", [{"step": i, "eval/loss": 2.1 + 0.1 * i} for i in range(1, 14)])
    assert main([str(tmp_path), "--html", str(tmp_path / "index.html")]) == 0
    page = browser.new_page()
    page.goto((tmp_path / "index.html").as_uri())
    figures = page.locator('#charts text[text-anchor="end"]').all_text_contents()
    page.close()
    assert len(figures) >= 3  # two of the axis at least, and the word "step"


def test_open_page_follows_a_run(browser: Any, tmp_path: Path) -> None:
    """The file is renewed, the page comes again by itself, and what was chosen stays."""
    write_config(tmp_path / "a")
    write_finished(tmp_path / "b")

    def renew(steps: int, seconds: float | None) -> None:
        write_metrics(tmp_path / "a", records(steps))
        runs, others = find_runs([tmp_path])
        write_page(tmp_path / "index.html", runs, others, [tmp_path], seconds)

    renew(20, 0.3)
    page = browser.new_page()
    page.goto((tmp_path / "index.html").as_uri())
    box(page, "b").uncheck()
    renew(60, None)
    page.get_by_text("51.67 at step 60").wait_for(timeout=5000)
    assert box(page, "a").is_checked()
    assert not box(page, "b").is_checked()
    page.close()
