"""What doctor.html holds: the worst suspects, safely, and no more than a browser opens.

pytest tests/trainer/doctor/test_page.py
"""

from __future__ import annotations

import base64
import html.parser
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.helpers.corpora import make_tone
from trainer.doctor.page import MOST_ROWS, edits_of, folder_of, load_file, write_page
from trainer.doctor.suspect import Suspect
from trainer.errors import AudioError
from trainer.signs.sign import Sign

CERTAIN, LIKELY = Sign("swapped", "it says more", "certain", 0.2, 0.4), Sign("clipped", "4 peaks", "likely")
EVIL = "</script><script>alert(1)</script><!-- & \u2028 \udcff"


def suspect(name: str, score: float = 0.5, signs: tuple[Sign, ...] = (CERTAIN,), **fields: Any) -> Suspect:
    return Suspect(name, score, signs, **({"text": "so it goes", "hypothesis": "so goes", "seconds": 0.5} | fields))


def tone(of: Suspect) -> np.ndarray:
    return make_tone(of.seconds)


def element(page: str, name: str) -> Any:
    found = re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', page, re.S)
    return None if found is None else json.loads(found[1])


def write(folder: Path, suspects: list[Suspect], load: Any = tone, **options: Any) -> tuple[str, Any, str]:
    """(The page, its data, the line that tells of it)."""
    told = write_page(folder / "doctor.html", "run", suspects, load, **options)
    page = (folder / "doctor.html").read_text(encoding="utf-8")
    return page, element(page, "data"), told


def test_suspects_stand_in_their_order_and_sound_utterances_are_not_listed(tmp_path: Path) -> None:
    page, data, told = write(tmp_path, [suspect("b", 0.9), suspect("a", 0.4, (LIKELY,)), suspect("c", 0.1, ())])
    assert [(row["id"], row["score"], row["certain"]) for row in data["rows"]] == [("b", 0.9, True), ("a", 0.4, False)]
    assert data["rows"][0]["signs"] == [["swapped", "it says more", "certain", 0.2, 0.4]]
    assert data["rows"][0]["edits"] == ["so", ["d", "it", ""], "goes"]
    assert "2 of the 3 utterances of train show a sign that something may be wrong. All can be heard" in page
    assert re.fullmatch(r".*/doctor\.html: 2 suspects, 2 to hear and see, 0\.\d MB", told)


def test_audio_and_picture_are_those_of_the_utterance(tmp_path: Path) -> None:
    """Reference: libsndfile decodes what stands in the page."""
    page, data, _ = write(tmp_path, [suspect("a", seconds=0.5), suspect("b", seconds=0.7)])
    for row, seconds in zip(data["rows"], (0.5, 0.7), strict=True):
        media = element(page, f"media-{row['media']}")
        samples, rate = soundfile.read(io.BytesIO(base64.b64decode(media["audio"])))
        assert (len(samples) / rate, media["seconds"]) == (pytest.approx(seconds, abs=0.01), seconds)
        assert base64.b64decode(media["spectrogram"])[:4] == b"RIFF"


def test_as_many_of_the_first_have_audio_as_fit_or_as_are_asked_for(tmp_path: Path) -> None:
    many = [suspect(str(i), 1 - i / 100) for i in range(30)]
    _, data, told = write(tmp_path, many, most_bytes=150_000)
    heard = [row["media"] for row in data["rows"] if row["media"] is not None]
    assert 0 < len(heard) < 30
    assert [row["media"] for row in data["rows"]] == [*heard, *[None] * (30 - len(heard))]
    assert (tmp_path / "doctor.html").stat().st_size < 150_000
    assert f"{len(heard)} to hear and see" in told
    asked = []
    _, data, _ = write(tmp_path, many, num_audio=2, progress=lambda items, total: asked.append(total) or items)
    assert [row["media"] for row in data["rows"]] == [0, 1, *[None] * 28]
    assert asked == [2]
    _, data, _ = write(tmp_path, many, load=None)
    assert {row["media"] for row in data["rows"]} == {None}


def test_audio_that_cannot_be_read_and_long_audio_are_left_out_and_said(tmp_path: Path) -> None:
    def load(of: Suspect) -> np.ndarray:
        if of.id == "broken":
            raise AudioError("broken: no.")
        return tone(of)[: 0 if of.id == "empty" else None]

    suspects = [suspect("long", seconds=61.0), suspect("broken"), suspect("empty"), suspect("a")]
    page, data, _ = write(tmp_path, suspects, load)
    assert [row["media"] for row in data["rows"]] == [None, None, None, 0]
    assert "1 can be heard and seen here; 1 could not be read." in page
    with pytest.raises(AudioError):
        load_file(suspect("a", audio=str(tmp_path / "missing.wav")))


def test_so_many_suspects_are_listed_as_a_browser_opens(tmp_path: Path) -> None:
    many = [suspect(f"utterance {i}", hypothesis=None, losses=(1.0,) * 8) for i in range(MOST_ROWS + 1)]
    page, data, _ = write(tmp_path, many, load=None)
    assert len(data["rows"]) == MOST_ROWS
    assert "5,001 of the 5,001 utterances of train show" in page
    assert "The 5,000 most suspect are listed; doctor.jsonl has all" in page
    assert len(page) < 4_000_000


def test_nothing_of_a_corpus_becomes_markup(tmp_path: Path) -> None:
    evil = suspect(EVIL, text=EVIL, hypothesis=EVIL, speaker=EVIL, audio=EVIL, origin=EVIL,
                   signs=(Sign(EVIL, EVIL, "certain"),))  # fmt: skip
    told = write_page(tmp_path / "doctor.html", EVIL, [evil], None, notes=[EVIL], split="<b>")
    page = (tmp_path / "doctor.html").read_text(encoding="utf-8")
    scripts: list[str] = []

    class Reader(html.parser.HTMLParser):
        def handle_starttag(self, tag: str, attrs: Any) -> None:
            scripts.append(tag)

    Reader().feed(page)
    assert scripts.count("script") == page.count("</script>") == 12
    assert "alert(1)<" not in page.replace("&lt;", "<").split("<main>")[1]
    assert element(page, "data")["rows"][0]["id"] == EVIL
    assert told.encode()


def test_the_page_is_allowed_to_fetch_nothing(tmp_path: Path) -> None:
    page, _, _ = write(tmp_path, [suspect("a")])
    assert "default-src 'none'" in page
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page)


def test_losses_are_seen_against_the_median_of_all(tmp_path: Path) -> None:
    sound = [suspect("b", 0.1, (), losses=(1.0, 2.0)), suspect("c", 0.1, (), losses=(2.0, 4.0))]
    of = [suspect("a", losses=(3.0, None, 1.0)), *sound]
    _, data, _ = write(tmp_path, of)
    assert data["typical"] == [2.0, 3.0, 1.0]
    assert data["rows"][0]["losses"] == [3.0, None, 1.0]


@pytest.mark.parametrize(
    ("text", "written", "pieces", "gap"),
    [
        ("So  it goes", "So goes", ["So", ["d", "it", ""], "goes"], " "),
        (
            "今日はとても良い天気ですね", "今日はとても悪い天気です",
            ["今日はとても", ["s", "良", "悪"], "い天気です", ["d", "ね", ""]], "",
        ),
        ("", "a b", [["i", "", "a"], ["i", "", "b"]], " "),
        ("a", "", [["d", "a", ""]], " "),
        ("", "", [], " "),
    ],
)  # fmt: skip
def test_transcripts_are_compared_by_words_or_by_characters_where_no_spaces_are_written(
    text: str, written: str, pieces: list[Any], gap: str
) -> None:
    assert edits_of(text, written) == (pieces, gap)


def test_the_transcript_is_compared_as_the_model_would_write_it_and_shown_as_it_is(tmp_path: Path) -> None:
    _, data, _ = write(tmp_path, [suspect("a", text="So it GOES.")], normalize=lambda text: text.lower().rstrip("."))
    assert data["rows"][0]["edits"] == ["so", ["d", "it", ""], "goes"]
    assert data["rows"][0]["text"] == "So it GOES."


def test_corrections_name_the_run_and_a_split_that_is_not_trained_on(tmp_path: Path) -> None:
    _, data, _ = write(tmp_path, [suspect("a")], split="train-clean")
    assert (data["file"], data["split"]) == ("run-corrections.jsonl", "")
    page, data, _ = write(tmp_path, [suspect("a")], split="dev", is_training=False)
    assert data["split"] == "dev"
    assert "utterances of dev show" in page
    for name, file in (("my run/2", "my-run-2"), ("../..", "run"), ("\udcff.é", "udcff.é")):
        write_page(tmp_path / "doctor.html", name, [], None)
        assert element((tmp_path / "doctor.html").read_text(), "data")["file"] == f"{file}-corrections.jsonl"


@pytest.mark.parametrize(
    ("audio", "folder"),
    [("/c/s1/a.wav", "/c/s1"), ("a.wav", ""), ("/c/part-0.arrow: row 5", "/c/part-0.arrow"), ("", "")],
)
def test_the_folder_is_that_of_the_file_or_the_shard(audio: str, folder: str) -> None:
    assert folder_of(suspect("a", audio=audio)) == folder


def test_the_same_page_keeps_its_decisions_and_another_one_has_others(tmp_path: Path) -> None:
    stores = [write(tmp_path, [suspect("a")])[1]["store"] for _ in range(2)]
    (tmp_path / "other").mkdir()
    assert len({*stores, write(tmp_path / "other", [suspect("a")])[1]["store"]}) == 2
