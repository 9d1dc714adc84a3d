"""The report (trainer.report.run, scripts.report): what stands in the file, of a real run in miniature.

pytest tests/trainer/report/test_report.py        (in a browser: tests/trainer/report/test_report_browser.py)
"""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from collections import Counter
from configparser import ConfigParser
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import soundfile

from scripts.compare import main as compare
from scripts.report import main, read_source
from tests.helpers.models import edit_json
from tests.helpers.paths import ROOT
from tests.helpers.runs import train_on_noise
from trainer.cli.console import Console
from trainer.report.curves import draw_curves, to_svg
from trainer.report.html import (
    confusion_lists,
    confusion_matrix,
    figure,
    group_table,
    speaker_table,
    to_script_json,
)
from trainer.report.media_choice import collect_media
from trainer.report.page import SCRIPTS
from trainer.report.run import report_or_warn, write_report
from trainer.rundir.results import read_hypotheses
from trainer.scoring.alignment import Edit
from trainer.scoring.breakdown import Group
from trainer.scoring.metrics import EditCounts

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"


class Page(HTMLParser):
    """The elements and the JSON of a report, as a browser's parser would find them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.json: dict[str, Any] = {}
        self.inside: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        is_json = tag == "script" and dict(attrs).get("type") == "application/json"
        self.inside = dict(attrs)["id"] if is_json else None

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.json[self.inside] = json.loads(data)
            self.inside = None


def read(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    """A copy without checkpoints, whose files a test may change; its corpus stays where it is."""
    return shutil.copytree(finished_run, tmp_path / "tiny", ignore=shutil.ignore_patterns("checkpoints"))


def rewrite(run: Path, **changes: Any) -> None:
    """Change fields of the first utterance of hypotheses.jsonl."""
    lines = (run / "hypotheses.jsonl").read_text().splitlines()
    lines[0] = json.dumps({**json.loads(lines[0]), **changes})
    (run / "hypotheses.jsonl").write_text("\n".join(lines) + "\n")


def test_a_training_run_leaves_its_report(finished_run: Path) -> None:
    page = read(finished_run / "report.html")
    rows = page.json["data"]["rows"]
    written = [h for found in read_hypotheses(finished_run / "hypotheses.jsonl").values() for h in found]
    assert [(r["id"], r["errors"], r["words"]) for r in rows] == [
        (h.id, [h.words.num_errors], h.words.num_reference) for h in written
    ]
    assert sorted(row["media"] for row in rows) == list(range(len(rows)))


def test_no_report_is_written_where_none_is_wanted(tmp_path: Path) -> None:
    left = train_on_noise(tmp_path, "--no-report", "--train.max-steps", "2", "--train.eval-every", "0")
    assert (left / "results.json").exists()
    assert not (left / "report.html").exists()


def test_alignment_in_the_page_spells_reference_and_hypothesis(finished_run: Path) -> None:
    written = {h.id: h for h in read_hypotheses(finished_run / "hypotheses.jsonl")["eval"]}
    for row in read(finished_run / "report.html").json["data"]["rows"]:
        pairs = [(e, e) if isinstance(e, str) else (e[1], e[2]) for e in row["edits"][0]]
        assert " ".join(a for a, _ in pairs if a) == written[row["id"]].reference
        assert " ".join(b for _, b in pairs if b) == written[row["id"]].hypothesis


def test_audio_in_the_page_is_the_utterances(finished_run: Path) -> None:
    """Reference: the corpus' own file, by its length."""
    page = read(finished_run / "report.html")
    for row in page.json["data"]["rows"]:
        audio = base64.b64decode(page.json[f"media-{row['media']}"]["audio"])
        expected = soundfile.info(finished_run.parent.parent / row["id"]).frames
        assert soundfile.info(io.BytesIO(audio)).frames == expected


def test_page_asks_nothing_of_any_network(finished_run: Path) -> None:
    """No element names an address outside, and the policy would forbid it. Links lead to files of the run's folder."""
    text = (finished_run / "report.html").read_text()
    page = Page(text)
    for tag, attributes in page.elements:
        for name in ("src", "href", "xlink:href", "data", "action", "srcset"):
            address = attributes.get(name) or "#"
            beside = tag == "a" and (finished_run / address).is_file()
            assert address.startswith("#") or beside, (tag, attributes)
    assert not re.search(r"@import|url\((?!#)", text)
    addresses = set(re.findall(r"https?://[^\"'\s<)]+", text))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    policy = next(a["content"] for _, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none';")


def test_a_transcript_with_markup_is_text(run: Path) -> None:
    """In ids, speakers, transcripts and the run's own name; every one comes back from the JSON as it was."""
    rewrite(run, id=EVIL, reference=f"a {EVIL}", hypothesis=f"{EVIL} 'b' & \u2028", speaker=EVIL)
    for change in ({}, {"sex": EVIL, "dialect": EVIL}):
        rewrite(run, **change)
        write_report(run, EVIL, None, why_none=EVIL)
        page = read(run / "report.html")
        scripts = [attributes for tag, attributes in page.elements if tag == "script"]
        assert [attributes.get("id") for attributes in scripts] == [
            "data",
            *[None] * sum(len(names) for _, names in SCRIPTS),
        ]
        assert not any("onerror" in attributes for _, attributes in page.elements)
        assert not any(tag == "img" for tag, _ in page.elements)
        assert page.json["data"]["rows"][0]["speaker"] == EVIL
        assert page.json["data"]["rows"][0]["id"] == EVIL


HOSTILE = [EVIL, '" onmouseover="alert(1)', "' onfocus='alert(1)", "&quot;&lt;b&gt;", "<b>bold</b>", "a & b"]


class Texts(HTMLParser):
    """The attributes and the text of each element, references resolved, as a browser would."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None], str]] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs), ""))

    def handle_data(self, data: str) -> None:
        tag, attrs, text = self.found[-1]
        self.found[-1] = (tag, attrs, text + data)

    def of(self, tag: str) -> list[tuple[dict[str, str | None], str]]:
        return [(attrs, text) for name, attrs, text in self.found if name == tag]


def group(name: str) -> Group:
    return Group(name, 1, 1, EditCounts(hits=1), EditCounts(hits=1), None, where=("speaker", name))


@pytest.mark.parametrize("text", HOSTILE)
def test_a_speaker_a_word_and_a_character_are_text_wherever_they_stand(text: str) -> None:
    """Reference: what Python's own parser finds, attribute by attribute and text by text."""
    speakers = Texts(speaker_table([group(text), group("s2")], "eval"))
    button = {"type": "button", "class": "link"}
    assert [name for _, name in speakers.of("bdi")] == [text, "s2"]
    filters = [json.loads(attributes.pop("data-filter") or "") for attributes, _ in speakers.of("button")]
    assert filters == [{"split": "eval", "speaker": name} for name in (text, "s2")]
    assert [attributes for attributes, _ in speakers.of("button")] == [button] * 2
    groups = Texts(group_table(text, [group(text)], text))
    assert (groups.of("h3"), groups.of("bdi")) == ([({}, f"By {text}")], [({}, text)])
    assert json.loads(groups.of("button")[0][0]["data-filter"] or "") == {"split": text, "speaker": text}
    edits = Counter([Edit("substitution", text, "b"), Edit("deletion", text, ""), Edit("insertion", "", text)])
    lists = Texts(confusion_lists(edits, "eval"))
    assert [shown.removesuffix(" → ") for _, shown in lists.of("bdi")] == [text, "b", text, text]
    found = [json.loads(attributes.pop("data-filter") or "") for attributes, _ in lists.of("button")]
    assert [json.loads(wanted.pop("edit")) for wanted in found] == [["s", text, "b"], ["d", text, ""], ["i", "", text]]
    assert found == [{"split": "eval"}] * 3
    assert [attributes for attributes, _ in lists.of("button")] == [button] * 3
    cells = Texts(confusion_matrix([Edit("substitution", text, "b")], "eval"))
    assert [attributes["title"] for attributes, _ in cells.of("td") if "title" in attributes] == [f"{text} → b: 1 of 1"]
    assert text in [shown for _, shown in cells.of("th")]
    assert Texts(figure(text, text, text)).found[1:] == [("dt", {}, text), ("dd", {}, text), ("small", {}, text)]


def test_script_json_cannot_end_its_element() -> None:
    text = to_script_json({"a": "</script><!--\u2028&"})
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {"a": "</script><!--\u2028&"}


def test_without_its_corpus_the_report_is_text_and_says_so(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = json.loads((run / "config.json").read_text())
    edit_json(run / "config.json", corpus={**config["corpus"], "eval": "/gone/eval.jsonl"})
    assert main([str(run)]) == 0
    out = capsys.readouterr()
    assert out.err.startswith("warning: text only: /gone/eval.jsonl")
    assert out.out == f"{run / 'report.html'}: 6 utterances, 0 to hear and see, 0.1 MB\n"
    text = (run / "report.html").read_text()
    assert "Text only, without audio and pictures: /gone/eval.jsonl" in text
    assert [row["media"] for row in Page(text).json["data"]["rows"]] == [None] * 6


@pytest.mark.usefixtures("pictures")
def test_rebuilt_from_disk_the_report_is_that_of_the_training_run(run: Path, finished_run: Path) -> None:
    """The exported model and the corpus through config.json: byte for byte but for the heading, the command, and
    the audio, whose Ogg streams get a random serial number."""
    assert main([str(run), "--out", str(run / "again.html")]) == 0
    before, after = (
        re.sub(r'"audio":"[^"]*"|<code>.*?</code>', "", path.read_text())
        for path in (finished_run / "report.html", run / "again.html")
    )
    assert after == before.replace("tiny noise", "tiny")


def test_a_run_of_an_older_version_can_still_be_reported(run: Path) -> None:
    """Its config.json lacks an option of today, its hypotheses.jsonl says nothing of speakers."""
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(
        json.dumps({k: v for k, v in config.items() if k not in ("report", "push_to_hub")})
    )
    lines = [json.loads(line) for line in (run / "hypotheses.jsonl").read_text().splitlines()]
    kept = [{k: v for k, v in line.items() if k not in ("speaker", "seconds")} for line in lines]
    (run / "hypotheses.jsonl").write_text("".join(json.dumps(line) + "\n" for line in kept))
    assert main([str(run)]) == 0
    data = read(run / "report.html").json["data"]
    place = [column["key"] for column in data["columns"]].index("seconds")
    shown = [(row["speaker"], row["cells"][place]) for row in data["rows"]]
    assert shown == [("s1", round(line["seconds"], 2)) for line in lines]


def test_worst_utterances_come_first_then_a_sample_by_seed(run: Path) -> None:
    """With room for five of them: three quarters of it go to the worst, in order; the sample follows the seed."""
    source = read_source(run, None)
    scored = [("eval", h) for h in read_hypotheses(run / "hypotheses.jsonl")["eval"]]
    everything = collect_media(source, scored, None)
    assert len(everything.elements) == 6
    assert "Every one of the 6 utterances" in everything.note
    room = int(0.85 * everything.num_bytes)
    some = collect_media(source, scored, room)
    worst = sorted(scored, key=lambda item: (-item[1].words.num_errors, -item[1].words.rate, -item[1].loss))
    num_worst = int(re.findall(r"the (\d) worst", some.note)[0])
    chosen = list(some.numbers)
    assert 1 <= num_worst < len(chosen) < 6
    assert chosen[:num_worst] == [(split, h.id) for split, h in worst[:num_worst]]
    assert some.num_bytes <= room
    assert some.numbers == collect_media(source, scored, room).numbers
    assert f"{len(chosen)} of 6 utterances have audio" in some.note


def test_run_of_another_machines_device_is_read_on_this_ones(run: Path) -> None:
    """Trained with --device cuda:63, which is not here: audio and posteriors are shown all the same."""
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "device": "cuda:63"}))
    assert main([str(run)]) == 0
    assert all(row["media"] is not None for row in read(run / "report.html").json["data"]["rows"])


def test_file_stays_under_its_limit(run: Path) -> None:
    """The page and the text of all utterances count too."""
    source = read_source(run, None)
    write_report(run, "tiny", source, most_bytes=180_000)
    assert 130_000 < (run / "report.html").stat().st_size <= 180_000
    rows = read(run / "report.html").json["data"]["rows"]
    assert len(rows) == 6
    assert 0 < sum(row["media"] is not None for row in rows) < 6


def test_without_a_limit_a_long_utterance_is_heard(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With MOST_SECONDS between the third and the fourth length: 0.5625 to 0.78125 s in steps of 0.04375."""
    monkeypatch.setattr("trainer.report.media_choice.MOST_SECONDS", 0.67)
    source = read_source(run, None)
    scored = [("eval", h) for h in read_hypotheses(run / "hypotheses.jsonl")["eval"]]
    everything = collect_media(source, scored, None)
    assert len(everything.numbers) == 6
    parts = [json.loads(text) for text in everything.elements]
    assert all("audio" in part for part in parts)
    assert sorted(part["seconds"] > 0.67 for part in parts) == sorted("wave" not in part for part in parts)
    assert "3 of more than 1 s have audio without pictures" in everything.note
    assert "--media all" not in everything.note
    limited = collect_media(source, scored, 15_000_000)
    assert len(limited.numbers) == 3
    assert limited.note.endswith("3 of more than 1 s are left out. Text and alignment are there for all; "
                                 "--media all lifts the limit.")  # fmt: skip


def test_text_over_the_limit_is_said_in_the_page_and_by_the_command(run: Path) -> None:
    line = write_report(run, "tiny", read_source(run, None), most_bytes=50_000)
    assert line.endswith("over the limit of 0.05 MB by its text alone")
    assert re.search(r"Text and alignment alone take 0\.\d MB, more than the 0\.05 MB allowed\.",
                     (run / "report.html").read_text())  # fmt: skip
    assert "MB by its text" not in write_report(run, "tiny", None)


def test_a_report_that_fails_does_not_fail_the_run(run: Path) -> None:
    (run / "hypotheses.jsonl").unlink()
    stream = io.StringIO()
    report_or_warn(run, "tiny", read_source(run, None), Console(stream))
    assert "warning: no report (" in stream.getvalue()
    assert f"-m scripts.report {run}" in stream.getvalue()


@pytest.mark.parametrize("name", ["nowhere", "unfinished"])
def test_what_is_no_finished_run_is_one_line(
    name: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / name
    if name == "unfinished":
        shutil.copytree(run, folder)
        (folder / "results.json").unlink()
    assert main([str(folder), "--media", "none"]) == 2
    assert capsys.readouterr().err == (
        f"error: {folder / 'results.json'}: not readable (No such file or directory). Has the run come to its end?\n"
    )


def test_confusion_matrix_shows_the_counts_of_its_edits() -> None:
    """By hand: e became i twice of three times, n was left out once, a space put in once."""
    edits = [Edit("substitution", "e", "i")] * 2 + [Edit("hit", "e", "e"), Edit("deletion", "n", ""),
             Edit("insertion", "", " "), Edit("hit", "x", "x")]  # fmt: skip
    html = confusion_matrix(edits, "eval")
    assert re.findall(r'<td [^>]*title="([^"]*)">', html) == ["e → i: 2 of 3", "n → ∅: 1 of 1", "∅ → ␣: 1"]
    assert ">x<" not in html
    filters = [json.loads(unescape(text)) for text in re.findall(r'data-filter="([^"]*)"', html)]
    assert [(f["split"], json.loads(f["characters"])) for f in filters] == [
        ("eval", ["e", "i"]), ("eval", ["n", ""]), ("eval", ["", " "])
    ]  # fmt: skip
    assert confusion_matrix([Edit("hit", "x", "x")], "eval") == ""


def test_a_loss_that_hardly_falls_has_plain_figures_on_its_axis() -> None:
    """matplotlib's own are powers of ten: 3 × 10⁰."""
    records = [{"step": step, "train/loss": loss} for step, loss in ((10, 4.1), (20, 3.1), (30, 2.9))]
    svg = to_svg(draw_curves(records)["loss"], "loss")
    written = {"".join(re.findall(r">([^<>]+)<", text)) for text in re.findall(r"<text.*?</text>", svg, re.DOTALL)}
    assert {"3", "4"} <= {text.strip() for text in written}
    assert "×" not in svg


def test_head_tells_model_corpus_command_and_seed(run: Path, tmp_path: Path) -> None:
    """Reference: the options that the run was started with."""
    main([str(run), "--media", "none"])
    head = re.search(r'<dl class="about">.*?</dl>', (run / "report.html").read_text())
    assert head
    facts = dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", head[0]))
    assert facts["Model"].endswith("/checkpoint")
    assert facts["Corpus"].startswith("manifest (train ")
    assert "python -m trainer.run manifest --corpus.train " in re.sub("<.*?>", "", facts["Command"])
    assert facts["Seed"] == "42"
    assert re.fullmatch(r"eval, \d{4}-\d\d-\d\d", facts["Scored"])
    assert re.findall('href="(.*?)"', facts["Beside this file"]) == [
        "model/README.md", "results.json", "hypotheses.jsonl", "metrics.jsonl"
    ]  # fmt: skip
    (run / "config.json").unlink()
    assert "<dt>Model</dt>" not in write_and_read(run)


def write_and_read(run: Path) -> str:
    write_report(run, "tiny", None)
    return (run / "report.html").read_text()


# --- two runs


def settle(run: Path) -> None:
    """Let results.json tell of the errors that hypotheses.jsonl now has: else the two contradict each other."""
    results = json.loads((run / "results.json").read_text())
    errors = [
        sum(json.loads(line)[kind] for kind in ("substitutions", "insertions", "deletions"))
        for line in (run / "hypotheses.jsonl").read_text().splitlines()
    ]
    results["splits"]["eval"]["num_errors"] = sum(errors)
    (run / "results.json").write_text(json.dumps(results))


def test_two_runs_are_compared_utterance_by_utterance(
    run: Path, finished_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """B is A with one utterance put right: its errors are gained, all others stay."""
    first = json.loads((run / "hypotheses.jsonl").read_text().splitlines()[0])
    errors = first["substitutions"] + first["insertions"] + first["deletions"]
    words = len(first["reference"].split())
    assert errors > 0
    rewrite(run, hypothesis=first["reference"], hits=words, substitutions=0, insertions=0, deletions=0)
    settle(run)
    assert compare([str(finished_run), str(run), "--media", "none"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any("1 utterances better, 0 worse, 5 as good" in line for line in lines)
    total = json.loads((run / "results.json").read_text())["num_reference_words"]
    points = f"B − A: {-100 * errors / total:+.2f} points".replace("-", "−")
    assert any(points in line for line in lines)
    page = read(run / "compare-tiny noise.html")
    assert page.json["data"]["systems"] == ["tiny noise", "tiny"]
    assert page.json["data"]["rows"][0]["errors"] == [errors, 0]
    assert lines[-1].startswith(f"{run / 'compare-tiny noise.html'}: 6 utterances")


def test_comparison_says_what_was_drawn(run: Path, finished_run: Path) -> None:
    """The corpus has one speaker: then utterances are drawn."""
    rewrite(run, hypothesis="a")
    settle(run)
    assert compare([str(finished_run), str(run), "--media", "none"]) == 0
    text = (run / "compare-tiny noise.html").read_text()
    assert "6 utterances drawn, both systems together" in text
    assert "speakers drawn" not in text


def test_utterances_that_only_one_run_has_or_spells_otherwise_are_counted_out(
    run: Path, finished_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    same = "something else"
    rewrite(run, reference=same, hypothesis=same, hits=2, substitutions=0, insertions=0, deletions=0)
    settle(run)
    assert compare([str(finished_run), str(run), "--media", "none"]) == 0
    assert "Left out: 2 utterances whose references differ (eval, " in capsys.readouterr().out
    assert len(read(run / "compare-tiny noise.html").json["data"]["rows"]) == 5


def test_runs_without_a_common_utterance_are_refused(
    run: Path, finished_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [json.loads(line) for line in (run / "hypotheses.jsonl").read_text().splitlines()]
    (run / "hypotheses.jsonl").write_text("".join(json.dumps({**r, "id": "x" + r["id"]}) + "\n" for r in lines))
    assert compare([str(finished_run), str(run), "--media", "none"]) == 2
    assert "have no utterance with the same reference in common" in capsys.readouterr().err


def test_an_installed_package_has_the_pages_parts() -> None:
    """setup.cfg names them as package data: an editable install would hide their absence."""
    parser = ConfigParser()
    parser.read(ROOT / "setup.cfg")
    patterns = parser["options.package_data"]["trainer.report"].split()
    for path in (ROOT / "trainer" / "report" / "assets").iterdir():
        assert any(path.relative_to(ROOT / "trainer" / "report").match(pattern) for pattern in patterns), path
