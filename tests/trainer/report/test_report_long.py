"""The report of utterances as people have them, in a headless Chromium: of 15 s and 60 s, with ids that are paths, long
words, right-to-left and combining scripts; wide and narrow.

pytest -m browser tests/trainer/report/test_report_long.py
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.browser import NEEDS_CHROMIUM
from tests.helpers.reports import Spoken, write_run
from tests.helpers.tones import sentence, speak
from trainer.report.run import write_report

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    NEEDS_CHROMIUM,
]
PATH_AS_ID = "recordings-of-the-second-campaign/participant-0042/session-2024-11-05T10-33/left.wav"
LONG_WORD = "donaudampfschifffahrtselektrizitaetenhauptbetriebswerkbauunterbeamtengesellschaft"
WIDTHS = pytest.mark.parametrize("page", [1400, 420], indirect=True)


def spoken() -> list[Spoken]:
    """60 s and 15 s of tone words, each with one word left out of the reference; and short ones in other scripts."""
    rng = np.random.default_rng(0)
    utterances = []
    for name, seconds in (("minute", 60), (PATH_AS_ID, 15)):
        text = sentence(rng, 2 * seconds)
        waveform = speak(text, rng)
        assert len(waveform) > seconds * 16_000
        heard = " ".join(text.split())
        utterances.append(Spoken(name, waveform[: seconds * 16_000], heard.partition(" ")[2], heard, "s1"))
    others = {"hebrew": ("שלום עולם", "שלום עולם טוב"), "arabic": ("مرحبا بالعالم", "مرحبا"),
              "devanagari": ("किताबें पढ़ना", "किताब पढ़ना"), "long": (LONG_WORD, LONG_WORD + "en"),
              "combining": ("e\u0301cole cafe", "ecole cafe"), "bad": ("bad cab", "bad cab")}  # fmt: skip
    for name, (reference, written) in others.items():
        utterances.append(Spoken(name, speak("bad cab", rng), reference, written, "s2"))
    return utterances


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("runs") / "long"
    write_report(run_dir, "long", write_run(run_dir, spoken()))
    return run_dir / "report.html"


@pytest.fixture
def page(request: pytest.FixtureRequest, browser: Any, report: Path) -> Iterator[Any]:
    """The report; whatever the console says fails the test."""
    opened = browser.new_page(viewport={"width": getattr(request, "param", 1400), "height": 900}, accept_downloads=True)
    said: list[str] = []
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.goto(report.as_uri())
    yield opened
    opened.close()
    assert said == []


def ids(page: Any) -> list[str]:
    return page.locator("#table tr.row .id button").all_inner_texts()


def show(page: Any, utterance: str) -> None:
    page.evaluate("id => { location.hash = new URLSearchParams({u: 'eval/' + id}); }", utterance)
    page.wait_for_selector("tr.detail")


def scrolled(page: Any) -> float:
    return page.evaluate("() => document.querySelector('.picture').scrollLeft")


def picture_width(page: Any) -> int:
    return int(page.locator(".picture svg").get_attribute("width"))


def overprinted(page: Any) -> list[list[str]]:
    """Pairs of labels in the picture whose boxes overlap, and the number of labels."""
    return page.evaluate(
        """() => {
          const labels = [...document.querySelectorAll('.picture text.label')].map(e => [e.textContent, e.getBBox()]);
          const found = [];
          labels.forEach(([a, p], i) => labels.slice(i + 1, i + 80).forEach(([b, q]) => {
            const across = Math.min(p.x + p.width, q.x + q.width) - Math.max(p.x, q.x);
            if (across > 0.5 && Math.abs(p.y - q.y) < 8) found.push([a, b]);
          }));
          return found;
        }"""
    )


@WIDTHS
@pytest.mark.parametrize("utterance", ["minute", PATH_AS_ID, "hebrew", "arabic", "devanagari", "long", "combining"])
def test_page_is_as_wide_as_the_window_whatever_is_open(page: Any, utterance: str) -> None:
    width = page.viewport_size["width"]
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width
    show(page, utterance)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width
    box = page.locator(".picture").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= width
    assert overprinted(page) == []


@WIDTHS
@pytest.mark.parametrize("utterance", ["minute", PATH_AS_ID])
def test_picture_scrolls_in_its_box_and_follows_what_is_played(page: Any, utterance: str) -> None:
    show(page, utterance)
    assert picture_width(page) > 2 * page.viewport_size["width"]
    assert scrolled(page) == 0
    page.evaluate("() => { const a = document.querySelector('audio'); a.muted = true; a.currentTime = 12; a.play(); }")
    page.wait_for_function("() => document.querySelector('audio').currentTime > 12.1")
    page.evaluate("() => document.querySelector('audio').pause()")
    page.wait_for_timeout(100)
    cursor, box = (page.locator(name).bounding_box() for name in (".picture .cursor", ".picture"))
    assert scrolled(page) > 0
    assert box["x"] <= cursor["x"] <= box["x"] + box["width"], "the cursor can be seen"


@WIDTHS
def test_picture_zooms_by_buttons_keys_and_pinch(page: Any) -> None:
    show(page, PATH_AS_ID)
    box = page.evaluate("() => document.querySelector('.picture').clientWidth")
    first = picture_width(page)
    page.get_by_role("button", name="fit the whole utterance").click()
    assert picture_width(page) == box
    is_crowded = "no room: zoom in" in page.locator(".crowded").inner_text()
    assert is_crowded == (page.viewport_size["width"] == 420)
    assert overprinted(page) == []
    for _ in range(12):
        page.get_by_role("button", name="zoom in").click()
    assert picture_width(page) == 15 * 1500, "and no further"
    assert page.locator(".crowded").inner_text() == ""
    assert overprinted(page) == []
    page.locator(".picture svg").focus()
    page.keyboard.press("-")
    assert picture_width(page) == 15 * 1000
    page.keyboard.press("0")
    assert picture_width(page) == box
    wheel = "delta => document.querySelector('.picture').dispatchEvent(new WheelEvent('wheel', {deltaY: delta, "
    wheel += "ctrlKey: true, clientX: 200, cancelable: true}))"
    page.evaluate(wheel, -200)
    assert picture_width(page) == pytest.approx(min(2.71828 * box, 15 * 1500), abs=2)
    assert first != box


def test_zoom_keeps_the_moment_under_the_pointer(page: Any) -> None:
    """The time below the 300th pixel of the box, before and after."""
    show(page, PATH_AS_ID)
    page.evaluate("() => { document.querySelector('.picture').scrollLeft = 1000; }")
    before = (scrolled(page) + 300) / picture_width(page)
    page.evaluate(
        "() => { const b = document.querySelector('.picture'); b.dispatchEvent(new WheelEvent('wheel', {deltaY: -100,"
        " ctrlKey: true, cancelable: true, clientX: b.getBoundingClientRect().left + 300})); }"
    )
    assert (scrolled(page) + 300) / picture_width(page) == pytest.approx(before, abs=0.001)


def test_a_click_on_a_word_plays_it_and_no_more(page: Any) -> None:
    """ "bad cab" in tones: the second word begins where its first tone does."""
    show(page, "bad")
    words = page.locator(".aligned li")
    assert [w.split("\n") for w in words.all_inner_texts()] == [["bad", "bad", "100 %"], ["cab", "cab", "100 %"]]
    start, end = (float(part.removesuffix(" s")) for part in words.nth(1).get_attribute("title").split(" to "))
    assert 0.3 < start < end
    page.evaluate("() => { document.querySelector('audio').muted = true; }")
    words.nth(1).click()
    page.wait_for_function("() => !document.querySelector('audio').paused")
    page.wait_for_function("() => document.querySelector('audio').paused")
    at = page.evaluate("() => document.querySelector('audio').currentTime")
    assert end - 0.05 <= at <= end + 0.2
    assert words.nth(0).get_attribute("tabindex") == "0"
    words.nth(0).focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("() => document.activeElement.title") == words.nth(1).get_attribute("title")
    page.keyboard.press("Enter")
    page.wait_for_function("() => !document.querySelector('audio').paused")


def test_a_word_is_played_in_a_loop_and_slowly(page: Any) -> None:
    show(page, "bad")
    page.evaluate("() => { document.querySelector('audio').muted = true; }")
    page.get_by_label("speed").select_option("1.5×")
    page.get_by_label("loop").check()
    page.locator(".aligned li").nth(1).click()
    start, end = map(float, page.locator(".aligned li").nth(1).get_attribute("title").removesuffix(" s").split(" to "))
    page.wait_for_function("s => document.querySelector('audio').currentTime > s", arg=(start + end) / 2)
    page.wait_for_function("s => document.querySelector('audio').currentTime < s", arg=(start + end) / 2)
    player = page.evaluate("() => { const a = document.querySelector('audio'); return [a.paused, a.playbackRate]; }")
    assert player == [False, 1.5]


def test_words_stand_below_the_spectrogram(page: Any) -> None:
    show(page, "bad")
    labels = page.locator(".picture text.label").all_text_contents()
    assert labels[-4:] == ["bad", "cab", "bad", "cab"], "what was said, then what was written"
    assert {"said (about where)", "written"} <= set(page.locator(".picture .name").all_text_contents())


def test_text_runs_in_its_own_direction(page: Any) -> None:
    for utterance, direction in (("hebrew", "rtl"), ("arabic", "rtl"), ("bad", "ltr"), ("devanagari", "ltr")):
        show(page, utterance)
        assert page.locator(".aligned ol").get_attribute("dir") == direction
        if direction == "rtl":
            first, second = (page.locator(".aligned li").nth(i).bounding_box() for i in (0, 1))
            assert first["x"] > second["x"]


def test_a_combining_mark_stands_on_something(page: Any) -> None:
    assert "◌\u0301" in page.locator("#confusions .matrix").inner_text()
    page.get_by_label("Find").fill("école")  # one letter, where the transcript has two
    assert ids(page) == ["combining"]


def test_an_id_that_is_a_path_is_shortened_and_told_in_full(page: Any) -> None:
    shown = page.locator(f"#table button[title='{PATH_AS_ID}']")
    assert shown.inner_text() == "…" + PATH_AS_ID[-36:]
    show(page, PATH_AS_ID)
    assert page.locator("tr.detail .name").first.inner_text() == PATH_AS_ID


def test_long_ids_that_begin_and_end_alike_are_told_apart(tmp_path: Path, browser: Any) -> None:
    """Calls with a speaker on each channel, under names that differ in a number in the middle."""
    start, end = "/recordings/of last year/call Nr. ", ", a question on the bill of the third of March (copy).wav"
    names = [f"{start}{i:04d}{end}#channel={channel}" for i in (7, 8, 19) for channel in (1, 2)]
    waveform = speak("bad cab", np.random.default_rng(0))
    spoken = [Spoken(name, waveform, "bad cab", "bad cab", "s1") for name in names]
    write_report(tmp_path, "alike", write_run(tmp_path, spoken))
    page = browser.new_page(viewport={"width": 380, "height": 800})
    page.goto((tmp_path / "report.html").as_uri())
    shown = ids(page)
    page.close()
    assert len(set(shown)) == len(names)
    for name, short in zip(names, shown, strict=True):
        assert len(short) < 45
        assert short.startswith(f"…{name.removeprefix(start)[:4]}")
        assert short.endswith(name[-10:])


# --- filters


def test_whole_words_and_ranges_narrow_the_table_and_stand_in_the_address(page: Any, browser: Any) -> None:
    page.get_by_label("Find").fill("cab")
    part = ids(page)
    page.get_by_label("whole words").check()
    assert "bad" in ids(page)
    assert len(ids(page)) <= len(part)
    page.get_by_label("Find").fill("ca")
    assert ids(page) == []
    page.get_by_role("button", name="clear filters").click()
    assert len(ids(page)) == 8
    page.get_by_label("Seconds from").fill("10")
    page.get_by_label("Seconds from").press("Enter")
    assert len(ids(page)) == 2
    page.get_by_label("Seconds to").fill("20")
    page.get_by_label("Seconds to").press("Enter")
    assert ids(page) == ["…" + PATH_AS_ID[-36:]]
    assert "seconds=10..20" in page.url
    again = browser.new_page()
    again.goto(page.url)
    assert ids(again) == ids(page)
    assert again.get_by_label("Seconds to").input_value() == "20"
    again.close()


def test_a_bar_of_the_histogram_leads_to_its_utterances(page: Any) -> None:
    bars = page.locator("#ranges fieldset").first.locator("g")
    assert sum(int(t.rsplit(" ", 2)[1]) for t in bars.locator("title").all_text_contents() if "none" not in t) == 8
    told = bars.last.locator("title").text_content()
    bars.last.dispatch_event("click")
    assert ids(page) == ["minute"]
    assert told == "60.0 to 60.0: 1 utterances"


def test_groups_and_characters_lead_to_their_utterances(page: Any) -> None:
    page.locator("#groups").get_by_role("button", name="s2").click()
    assert len(ids(page)) == 6
    row = page.locator("#groups tr", has=page.locator("[data-filter*=seconds]")).last
    row.get_by_role("button").click()
    assert len(ids(page)) == int(row.locator("td").nth(1).inner_text())
    cell = page.locator(".matrix [data-filter]").first
    cell.click()
    assert 1 <= len(ids(page)) <= int(cell.inner_text())
    assert page.locator("#chips .chip").count() == 1


def test_few_speakers_are_warned_of(page: Any) -> None:
    warned = page.locator("#groups tr", has=page.locator("[data-filter*=seconds]")).locator(".few").all_inner_texts()
    assert warned
    assert all(text.startswith("⚠ only ") for text in warned)


def test_what_is_shown_can_be_saved_as_csv(page: Any) -> None:
    page.get_by_label("Speaker", exact=True).select_option("s2")
    with page.expect_download() as saved:
        page.get_by_role("button", name="save as CSV").click()
    rows = list(csv.DictReader(io.StringIO(Path(saved.value.path()).read_text(encoding="utf-8"), newline="")))
    expected = {u.id: u for u in spoken() if u.speaker == "s2"}
    assert {row["id"] for row in rows} == set(expected)
    for row in rows:
        assert (row["reference"], row["written"]) == (expected[row["id"]].reference, expected[row["id"]].hypothesis)


def test_question_mark_shows_the_keys(page: Any) -> None:
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()
    page.keyboard.press("j")
    assert page.locator("tr.detail").count() == 0, "keys belong to the dialog while it is open"
    page.keyboard.press("Escape")
    assert not page.locator("#help").is_visible()


def test_an_address_that_no_page_wrote_breaks_nothing(browser: Any, report: Path) -> None:
    opened = browser.new_page()
    said: list[str] = []
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.goto(report.as_uri() + "#u=%E0%A4%A&edit=[1&characters=3&seconds=x..&sort=nothing&speaker=nobody&z=1")
    assert said == []
    assert "0 of 8" in opened.locator("#count").inner_text()
    opened.close()
