"""The report of a run on phones in a headless Chromium: the tiers under the spectrogram, and confusions by class.

make test-browser, or pytest -m browser
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts.report import main as report
from tests.helpers.browser import NEEDS_CHROMIUM
from trainer.run import main as train

pytestmark = [pytest.mark.browser, pytest.mark.slow, NEEDS_CHROMIUM]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, synthetic_cache: Path) -> Path:
    """Two steps, and transcripts put in their place: the reference without its second phone, and z for every s."""
    folder = tmp_path_factory.mktemp("runs")
    options = ["demo-phones", "--corpus.size", "tiny", "--corpus.units", "phones48", "--train.max-steps", "2",
               "--optim.warmup-steps", "1", "--name", "run", "--cache-dir", str(synthetic_cache),
               "--runs-dir", str(folder)]  # fmt: skip
    assert train(options) == 0
    path = folder / "run" / "hypotheses.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        phones = line["reference"].split()
        wrong = [i for i, phone in enumerate(phones) if phone == "s" and i != 1]
        written = ["z" if i in wrong else phone for i, phone in enumerate(phones) if i != 1]
        line |= {"hypothesis": " ".join(written), "hits": len(written) - len(wrong), "insertions": 0,
                 "substitutions": len(wrong), "deletions": 1}  # fmt: skip
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert report([str(folder / "run")]) == 0
    return folder / "run"


@pytest.fixture(params=[1280, 400], ids=["wide", "narrow"])
def page(request: pytest.FixtureRequest, browser: Any, run: Path) -> Iterator[Any]:
    """The report as opened from disk; whatever the console says fails the test."""
    opened = browser.new_page(viewport={"width": request.param, "height": 900})
    said: list[str] = []
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.goto((run / "report.html").as_uri())
    yield opened
    opened.close()
    assert said == []


def test_figures_and_columns_are_of_phones(page: Any) -> None:
    figures = page.locator("#figures").inner_text()
    assert "Phone error rate" in figures
    assert "39 classes, q removed, silences kept" in figures
    assert "phones, PER" in page.locator("#count").inner_text()
    assert "WER" not in page.locator("body").inner_text()
    assert page.locator("td[data-name='PER %']").count() == 40
    assert page.locator("td[data-name='CER %']").count() == 0


def test_tiers_stand_under_the_spectrogram(page: Any, run: Path) -> None:
    """Reference: the hypotheses' references, and the deleted phone marked among those that were said."""
    page.locator("#table tr.row .id button").first.click()
    detail = page.locator("tr.detail")
    texts = detail.locator(".picture svg text").all_text_contents()
    names = detail.locator(".picture svg text.name").all_text_contents()
    assert [n for n in names if n in ("said", "phones", "words")] == ["said", "phones", "words"]
    assert "h#" in texts, "the corpus' own labels"
    assert "sil" in texts, "the classes that are scored"
    assert any(text.endswith("(D)") for text in texts), "the phone that was left out is marked where it was said"
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth"), "the page itself does not scroll"


def test_confusions_are_told_by_class_and_by_phone(page: Any) -> None:
    table = page.locator("table.classes")
    heads = table.locator("thead th").all_inner_texts()
    assert {"vowels", "stops", "fricatives", "nothing"} <= set(heads)
    row = table.locator("tr", has=page.locator("th[scope=row]", has_text="fricatives"))
    assert "%" in row.locator("td").last.inner_text()
    page.locator("table.matrix:not(.classes) button").first.click()
    assert 0 < page.locator("#table tr.row").count() <= 40
