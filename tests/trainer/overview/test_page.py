"""The page of all runs, read as HTML: rows, links, escaping, curves, what is live.

pytest tests/trainer/overview/test_page.py
"""

from __future__ import annotations

import itertools
import json
import re
import urllib.parse
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from tests.helpers.overview import records, write_config, write_finished, write_metrics
from trainer.overview.find import find_runs
from trainer.overview.page import MOST_POINTS, NUM_TICKED, write_page
from trainer.rundir.lock import lock_run


class Parsed(HTMLParser):
    """The tags of a page in order, the text of each row of its table, and the page's data."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = [("", {})]
        self.rows: list[str] = []
        self.data: Any = None
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        self.rows += [""] if tag == "tr" else []

    def handle_data(self, data: str) -> None:
        tag, attributes = self.tags[-1]
        if tag == "script" and attributes.get("id") == "data" and self.data is None:
            self.data = json.loads(data)
        elif self.rows and tag not in ("script", "style"):
            self.rows[-1] += f" {data}"

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for found, attributes in self.tags if found == tag]


def draw(folder: Path, page: Path, seconds: float | None = None) -> Parsed:
    runs, others = find_runs([folder])
    line = write_page(page, runs, others, [folder], seconds)
    assert line.startswith(f"{page}: {len(runs)} run")
    return Parsed(page)


def test_table_shows_each_run_with_options_figures_and_notes(tmp_path: Path) -> None:
    write_finished(tmp_path / "a", lr=1e-3)
    write_config(tmp_path / "b", lr=5e-4)
    write_metrics(tmp_path / "b", records(40))
    page = draw(tmp_path, tmp_path / "index.html")
    head, a, b = page.rows[:3]
    assert re.sub(r"\s+", " ", head).split()[-1] == "lr"
    assert "12.50 (10.50–15.50)" in a
    assert "0.001" in a
    assert "1 h 02 min" in a
    assert "103.5 h" in a
    assert "stopped" in b
    assert "52.50 at step 40" in b
    assert "0.0005" in b


def test_links_lead_to_what_is_there_from_where_the_page_lies(tmp_path: Path) -> None:
    run = write_finished(tmp_path / "runs" / "ä b%#?")
    for name in ("report.html", "doctor.html", "compare-x&y.html"):
        (run / name).touch()
    (tmp_path / "pages").mkdir()
    page = draw(tmp_path / "runs", tmp_path / "pages" / "all.html")
    links = [str(a["href"]) for a in page.all("a")]
    assert len(links) == 3
    for link in links:
        assert (tmp_path / "pages" / urllib.parse.unquote(link)).resolve().is_file()
        assert not set("#?& ") & set(link)


def test_names_and_values_of_users_are_text_and_never_markup(tmp_path: Path) -> None:
    evil = "<img src=x onerror=alert(1)>&amp;\"'<"
    for name in (evil, "b"):
        write_finished(tmp_path / name)
    for i, name in enumerate((evil, "b")):
        config = json.loads((tmp_path / name / "config.json").read_text())
        config["model"]["pretrained"] = f"</script><script>alert({i})</script>"
        (tmp_path / name / "config.json").write_text(json.dumps(config))
    page = draw(tmp_path, tmp_path / "index.html")
    assert page.all("img") == []
    assert len(page.all("script")) == 3  # data, what the report shares, and the page's own
    assert any(evil in row for row in page.rows)
    assert evil in [run["name"] for run in page.data["runs"]]


def test_running_and_best_runs_are_drawn_at_first(tmp_path: Path) -> None:
    for i in range(NUM_TICKED + 2):
        write_finished(tmp_path / f"run-{i}", wer=0.1 + 0.01 * i)
    with lock_run(tmp_path / f"run-{NUM_TICKED + 1}", print):
        page = draw(tmp_path, tmp_path / "index.html")
    ticked = [run["name"] for run in page.data["runs"] if run["ticked"]]
    assert ticked == [*(f"run-{i}" for i in range(NUM_TICKED - 1)), f"run-{NUM_TICKED + 1}"]


def test_curves_keep_their_ends_and_leave_out_what_is_no_number(tmp_path: Path) -> None:
    write_config(tmp_path / "a")
    logged = [{"step": step, "epoch": step / 10, "train/loss": float(step)} for step in range(1, 1001)]
    logged[499]["train/loss"] = None  # type: ignore[typeddict-item]
    write_metrics(tmp_path / "a", [*logged, {"step": 1000, "eval/wer": 0.25}, {"step": 1000, "eval/loss": "much"}])
    curves = draw(tmp_path, tmp_path / "index.html").data["runs"][0]["curves"]
    assert curves["rate"] == [[1000, None, 25.0]]
    assert curves["eval/loss"] == []
    points = curves["train/loss"]
    assert len(points) == MOST_POINTS
    assert points[0] == [1, 0.1, 1.0]
    assert points[-1] == [1000, 100.0, 1000.0]
    assert all(a[0] < b[0] for a, b in itertools.pairwise(points))


def test_page_loads_itself_again_only_while_it_is_renewed(tmp_path: Path) -> None:
    write_finished(tmp_path / "a")
    live = draw(tmp_path, tmp_path / "index.html", 7.0)
    assert live.data["next"] == 7.0
    assert [meta["content"] for meta in live.all("meta") if meta.get("http-equiv") == "refresh"] == ["7"]
    still = draw(tmp_path, tmp_path / "index.html")
    assert still.data["next"] is None
    assert not [meta for meta in still.all("meta") if meta.get("http-equiv") == "refresh"]


def test_page_fetches_nothing(tmp_path: Path) -> None:
    write_finished(tmp_path / "a")
    page = draw(tmp_path, tmp_path / "index.html")
    policy = next(meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert not [attributes for _, attributes in page.tags if "src" in attributes]
    assert page.all("link") == []


def test_no_run_is_a_page_that_says_so(tmp_path: Path) -> None:
    page = tmp_path / "index.html"
    assert draw(tmp_path, page).rows == []
    assert "No run is here yet." in page.read_text()
