"""What is to be aligned (trainer.align.inputs): folders, manifests, names below --out, and known times.

pytest tests/trainer/align/test_inputs.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data.shards.tarring import key_of
from data.utterance import Segment
from tests.helpers.corpora import write_jsonl
from tests.helpers.paths import ROOT
from trainer.align.inputs import Item, find_items, read_text, with_known_times
from trainer.errors import CorpusError
from trainer.recognize.recordings import file_names


def item(*segments: Segment, phones: bool = False, origin: str = "") -> Item:
    known = {"phones" if phones else "words": segments}
    return Item("x", Path("x"), lambda: np.zeros(1), "", origin=origin, **known)  # type: ignore[arg-type]


def test_a_manifest_is_one_whatever_the_case_of_its_suffix(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "x.JSONL", [{"audio_filepath": "a.wav", "text": "one"}])
    (found,) = find_items(str(tmp_path / "x.JSONL"), "test", tmp_path)
    assert not isinstance(found, CorpusError)
    assert (found.text, found.name) == ("one", Path("a"))


def test_two_transcripts_of_one_recording_are_an_error_that_names_both(tmp_path: Path) -> None:
    for name in ("a.wav", "a.txt", "a.TXT"):
        (tmp_path / name).write_text("one")
    (found,) = find_items(str(tmp_path), "test", tmp_path)
    assert isinstance(found, CorpusError)
    assert str(found) == f"{tmp_path}/a.TXT: a.txt has the same name. Leave one."


def test_one_recording_is_aligned_with_the_transcript_beside_it(tmp_path: Path) -> None:
    """Reference: what its folder holds, of which there is more. An audio file that is named may have any suffix."""
    (tmp_path / "more").mkdir()
    for name in ("a.wav", "b.wav", "more/a.wav", "c.raw", "d.wav"):
        (tmp_path / name).write_bytes(b"RIFF")
    for name in ("a.txt", "b.LAB", "more/a.txt", "c.txt", "a.lab"):
        (tmp_path / name).write_text(f"text of {name}")
    of_folder = {one.title: one for one in find_items(str(tmp_path), "test", tmp_path) if isinstance(one, Item)}
    for name, text in (("a.wav", "text of a.txt"), ("b.wav", "text of b.LAB"), ("c.raw", "text of c.txt")):
        (found,) = find_items(str(tmp_path / name), "test", tmp_path)
        assert isinstance(found, Item)
        assert (found.name, found.text) == (Path(name).with_suffix(""), text)
        if name.endswith(".wav"):
            same = of_folder[found.title]
            assert (same.name, same.text) == (found.name, found.text)
    for name, said in (("d.wav", "no transcript. Write what is said into d.txt"), ("a.txt", "this is a transcript")):
        with pytest.raises(CorpusError, match=said):
            find_items(str(tmp_path / name), "test", tmp_path)


def test_a_transcripts_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_bytes(b"\xef\xbb\xbfone\n")
    assert read_text(tmp_path / "x.txt") == "one\n"
    (tmp_path / "x.txt").write_bytes(b"\xff")
    with pytest.raises(CorpusError, match=r"x\.txt:1: not UTF-8 \(byte 0xff\)"):
        read_text(tmp_path / "x.txt")
    (tmp_path / "x.txt").write_bytes(b"\xef\xbb\xbfone\nca\xe9")
    with pytest.raises(CorpusError, match=r"x\.txt:2: not UTF-8 \(byte 0xe9\)"):
        read_text(tmp_path / "x.txt")


@pytest.mark.parametrize(
    ("id", "is_name"),
    [("x" * 200, True), ("x" * 201, False), ("ü" * 100, True), ("ü" * 101, False), ("/".join(["x" * 99] * 20), True),
     ("/".join(["x" * 99] * 21), False), ("a\u200bb", False), ("a=b", False), (".a/b", False), ("a//b", False)],
    ids=["200", "201", "200 bytes", "202 bytes", "1999", "2099", "unprintable", "=", "hidden", "empty part"],
)  # fmt: skip
def test_an_id_is_a_name_where_a_file_can_have_it(id: str, is_name: bool) -> None:
    assert file_names([id]) == [Path(id if is_name else key_of(id))]


def test_an_id_that_two_utterances_have_is_refused(tmp_path: Path) -> None:
    """Their files would replace one another."""
    write_jsonl(tmp_path / "x.jsonl", [{"audio_filepath": "a.wav", "text": text} for text in ("one", "two")])
    with pytest.raises(CorpusError, match=r"the id 'a\.wav' stands 2 times"):
        find_items(str(tmp_path / "x.jsonl"), "test", tmp_path)


def test_known_times_may_overlap_and_begin_together() -> None:
    """As some of TIMIT's words do."""
    a, b, c = Segment(0, 900, "a"), Segment(800, 1600, "b"), Segment(800, 1700, "c")
    known = with_known_times(item(a, b, c), phones=False)
    assert (known.text, known.segments) == ("a b c", (a, b, c))


@pytest.mark.parametrize(("phones", "suffix"), [(False, ".wrd"), (True, ".Phn")])
def test_a_time_that_cannot_be_is_named_with_its_own_file_in_any_case(
    phones: bool, suffix: str, tmp_path: Path
) -> None:
    labels = (tmp_path / "SI1.wav").with_suffix(suffix)
    labels.write_text("")
    one = item(Segment(0, 5, "a"), Segment(5, 5, "b"), phones=phones, origin=str(tmp_path / "SI1.wav"))
    with pytest.raises(CorpusError, match="does not end after its beginning") as caught:
        with_known_times(one, phones=phones)
    assert str(caught.value).startswith(f"{labels}:2: '5 5 b' ")
    labels.unlink()
    with pytest.raises(CorpusError, match=rf"^x\.{'PHN' if phones else 'WRD'}:2: "):
        with_known_times(one, phones=phones)
    with pytest.raises(CorpusError, match="no times are known"):
        with_known_times(one, phones=not phones)


def test_a_folder_with_python_files_alone_holds_nothing_to_align(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no audio file in this folder"):
        find_items(str(ROOT / "trainer" / "align"), "test", tmp_path)
