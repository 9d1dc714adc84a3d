"""doctor.html in a headless Chromium: tick, correct, download, reload, filter, keys; wide and narrow, light and dark.

make test-browser, or pytest -m browser
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.corrections.file import read_corrections
from tests.helpers.browser import NEEDS_CHROMIUM
from tests.helpers.corpora import make_tone
from trainer.doctor.page import write_page
from trainer.doctor.suspect import Suspect
from trainer.signs.sign import Sign

pytestmark = [pytest.mark.browser, pytest.mark.slow, NEEDS_CHROMIUM]

SWAPPED, CLIPPED = Sign("swapped", "it says more", "certain", 1.0, 1.4), Sign("clipped", "4 peaks", "likely")
SECONDS = 4.0


def suspect(
    id: str, score: float, sign: Sign, text: str, hypothesis: str | None, speaker: str | None = "s1"
) -> Suspect:
    return Suspect(id, score, (sign,), text, hypothesis, "train", speaker, id, "train.csv:1", SECONDS, (3.0, None, 2.0))


SUSPECTS = [
    suspect("a/0.wav", 0.9, SWAPPED, "So it goes.", "so goes"),
    suspect('a/"1" ü.wav', 0.8, CLIPPED, "مرحبا بكم", "مرحبا", "s2"),
    suspect("b/<b>2</b>", 0.7, SWAPPED, "two & three", None, None),
    *(suspect(f"b/{i}.wav", 0.6 - i / 1000, CLIPPED, f"word {i}", f"ward {i}") for i in range(3, 210)),
]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three of its suspects have audio."""

    def load(of: Suspect) -> np.ndarray:
        return make_tone(of.seconds)

    path = tmp_path_factory.mktemp("run") / "doctor.html"
    write_page(path, "my run", SUSPECTS, load, normalize=lambda text: text.lower().rstrip("."), num_audio=3)
    return path


@pytest.fixture(params=[(1280, "light"), (400, "dark")], ids=["wide-light", "narrow-dark"])
def page(request: pytest.FixtureRequest, browser: Any, file: Path) -> Iterator[Any]:
    """The page as opened from disk; whatever the console says, or the page fetches, fails the test."""
    width, scheme = request.param
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    opened = context.new_page()
    said: list[str] = []
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on("request", lambda r: said.append(r.url) if r.url.split(":")[0] not in ("file", "data", "blob") else None)
    opened.goto(file.as_uri())
    yield opened
    context.close()
    assert said == []


def until(holds: Callable[[], bool]) -> None:
    """Wait; the page's policy forbids playwright's own way, which evaluates a string in it."""
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def line(page: Any, number: int) -> Any:
    return page.locator("#list > li").nth(number)


def pressed(page: Any, number: int) -> list[str]:
    return line(page, number).locator(".choices [aria-pressed=true]").all_inner_texts()


def counts(page: Any) -> str:
    return page.locator("#counts").inner_text()


def saved(page: Any, folder: Path) -> list[tuple[str, str | None, str | None]]:
    """(Id, text, was) of each line of the file that the button saves, as --corpus.patch reads it."""
    with page.expect_download() as download:
        page.get_by_role("button", name="save corrections").click()
    assert download.value.suggested_filename == "my-run-corrections.jsonl"
    download.value.save_as(folder / "fix.jsonl")
    found = read_corrections("", str(folder / "fix.jsonl"))
    assert found is not None
    return [(entry.id, entry.text, entry.was) for entry in found.entries]


def load(page: Any, path: Path) -> None:
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="load corrections").click()
    page.locator("#loaded").evaluate("line => { line.textContent = ''; }")
    chooser.value.set_files(path)
    until(lambda: page.locator("#loaded").inner_text() != "")


def test_suspects_are_listed_worst_first_and_more_on_demand(page: Any) -> None:
    assert page.locator("#list .score").first.inner_text() == "0.90"
    assert page.locator("#list > li").count() == 100
    page.get_by_role("button", name="Show 100 more of 110").click()
    page.get_by_role("button", name="Show 10 more of 10").click()
    assert page.locator("#list > li").count() == 210
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]


def test_what_is_decided_is_counted_saved_and_there_after_a_reload(page: Any, tmp_path: Path) -> None:
    assert page.get_by_role("button", name="save corrections").is_disabled()
    line(page, 0).get_by_role("button", name="keep").click()
    line(page, 1).get_by_role("button", name="drop").click()
    line(page, 2).get_by_role("button", name="correct").click()
    assert "1 kept · 1 dropped · 0 corrected · 207 undecided · 1 to correct" in counts(page)
    page.get_by_label("corrected transcript").fill('two "&" three\\ ü')
    assert counts(page) == "1 kept · 1 dropped · 1 corrected · 207 undecided"
    page.reload()
    assert counts(page) == "1 kept · 1 dropped · 1 corrected · 207 undecided"
    assert [pressed(page, i) for i in range(4)] == [["keep"], ["drop"], ["correct"], []]
    assert page.get_by_label("corrected transcript").input_value() == 'two "&" three\\ ü', "it is still open"
    expected = [('a/"1" ü.wav', None, "مرحبا بكم"), ("b/<b>2</b>", 'two "&" three\\ ü', "two & three")]
    assert saved(page, tmp_path) == expected
    assert json.loads((tmp_path / "fix.jsonl").read_text().splitlines()[0])["note"] == "clipped"
    line(page, 1).get_by_role("button", name="drop").click()
    assert pressed(page, 1) == [], "pressed again, it is taken back"


def test_saved_corrections_are_loaded_back_and_what_does_not_fit_is_named(page: Any, tmp_path: Path) -> None:
    line(page, 1).get_by_role("button", name="drop").click()
    line(page, 2).get_by_role("button", name="correct").click()
    page.get_by_label("corrected transcript").fill("two and three")
    before = saved(page, tmp_path)
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="forget all").click()
    line(page, 0).get_by_role("button", name="keep").click()
    load(page, tmp_path / "fix.jsonl")
    assert counts(page) == "1 kept · 1 dropped · 1 corrected · 207 undecided", "other decisions stay"
    assert page.locator("#loaded").inner_text() == "fix.jsonl: 2 decisions loaded."
    page.reload()
    assert saved(page, tmp_path) == before
    lines = ['{"id": "b/3.wav", "text": "word", "was": "another"}', '{"id": "elsewhere", "drop": true}', "{",
             '{"id": "b/4.wav", "drop": true, "split": "dev"}', '{"id": "b/5.wav"}', "",
             '{"id": "b/6.wav", "drop": true}',
             '{"id": "b/7.wav", "text": "one", "was": "word 7"}',
             '{"id": "b/7.wav", "text": "two", "was": "one"}']  # fmt: skip
    (tmp_path / "other.jsonl").write_text("\n".join(lines), encoding="utf-8")
    load(page, tmp_path / "other.jsonl")
    assert page.locator("#loaded").inner_text() == (
        "other.jsonl: 2 decisions loaded. Not loaded: 1 whose transcript is another now (b/3.wav). "
        "Not loaded: 1 whose utterance is not in this page (elsewhere). "
        "Not loaded: 2 that cannot be read as a correction (line 3, line 5). Not loaded: 1 of another split (b/4.wav)."
    )
    assert saved(page, tmp_path) == [*before, ("b/6.wav", None, "word 6"), ("b/7.wav", "two", "word 7")]


def test_forgetting_asks_first(page: Any) -> None:
    line(page, 0).get_by_role("button", name="drop").click()
    page.once("dialog", lambda dialog: dialog.dismiss())
    page.get_by_role("button", name="forget all").click()
    assert "1 dropped" in counts(page)
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="forget all").click()
    page.reload()
    assert counts(page) == "0 kept · 0 dropped · 0 corrected · 210 undecided"


def test_everything_can_be_done_with_keys(page: Any, tmp_path: Path) -> None:
    page.keyboard.press("j")
    assert page.locator("li.open").locator(".link").inner_text() == "a/0.wav"
    page.keyboard.press("1")
    assert page.locator("li.open").locator(".link").inner_text() == 'a/"1" ü.wav'
    page.keyboard.press("2")
    page.keyboard.press("k")
    page.keyboard.press("k")
    page.keyboard.press("3")
    page.keyboard.type("X")
    page.keyboard.press("Enter")
    assert pressed(page, 0) == ["correct"]
    assert page.locator("li.open").locator(".link").inner_text() == 'a/"1" ü.wav'
    page.keyboard.press("4")
    assert saved(page, tmp_path)[1:] == [('a/"1" ü.wav', "مرحبا", "مرحبا بكم")]
    page.locator("li.open .link").focus()
    page.keyboard.press("0")
    assert pressed(page, 1) == []
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    assert page.locator("li.open").count() == 0


def test_space_plays_and_pauses_and_a_sign_plays_its_stretch(page: Any) -> None:
    page.keyboard.press("j")
    audio = page.locator("audio")
    page.keyboard.press(" ")
    until(lambda: audio.evaluate("a => a.currentTime") > 0)
    page.keyboard.press(" ")
    until(lambda: audio.evaluate("a => a.paused"))
    assert page.locator("li.open").count() == 1, "the space bar closed nothing"
    assert audio.evaluate("a => a.currentTime") < SECONDS
    page.get_by_role("button", name="▶ 1.00 s").click()
    until(lambda: audio.evaluate("a => a.paused && a.currentTime >= 1.38"))
    assert audio.evaluate("a => a.currentTime") < SECONDS - 0.5
    box, width = page.locator(".picture .stretch"), float(page.locator(".picture svg").get_attribute("width"))
    assert float(box.get_attribute("x")) / width == pytest.approx(1.0 / SECONDS, abs=0.01)
    assert float(box.get_attribute("width")) / width == pytest.approx(0.4 / SECONDS, abs=0.01)


def test_the_models_words_can_be_taken_and_given_back(page: Any) -> None:
    page.locator("#list .link").first.click()
    page.get_by_role("button", name="take the model's words").click()
    field = page.get_by_label("corrected transcript")
    assert field.input_value() == "so goes"
    assert "1 corrected" in counts(page)
    page.get_by_role("button", name="the transcript as it was").click()
    assert field.input_value() == "So it goes."
    assert "0 corrected" in counts(page)


def test_filters_narrow_the_list_and_outlive_a_reload(page: Any) -> None:
    def shown() -> str:
        return page.locator("#count").inner_text()

    page.get_by_label("Reason").select_option("swapped")
    assert shown() == "2 of 210 suspects"
    page.get_by_label("Folder").select_option("a")
    assert shown() == "1 of 210 suspects"
    page.reload()
    assert shown() == "1 of 210 suspects"
    page.get_by_role("button", name="clear filters").click()
    page.get_by_label("Speaker").select_option("s2")
    assert shown() == "1 of 210 suspects"
    page.get_by_role("button", name="clear filters").click()
    page.get_by_label("Find").fill("WORD 20")
    assert shown() == "11 of 210 suspects", "20, and 200 to 209"
    page.get_by_role("button", name="clear filters").click()
    line(page, 1).get_by_role("button", name="drop").click()
    page.locator("select[name=decision]").select_option("drop")
    assert shown() == "1 of 210 suspects"


def test_a_browser_that_keeps_nothing_says_so_and_the_page_works(browser: Any, file: Path, tmp_path: Path) -> None:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.add_init_script("Object.defineProperty(window, 'localStorage', { get() { throw new Error('denied'); } })")
    page.goto(file.as_uri())
    assert "keeps nothing for this page" in page.locator("#unkept").inner_text()
    line(page, 0).get_by_role("button", name="drop").click()
    assert [name for name, *_ in saved(page, tmp_path)] == ["a/0.wav"]
    context.close()
