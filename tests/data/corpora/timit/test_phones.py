"""Phones of .PHN files as transcripts (data.corpora.timit.phones), and files that cannot be trusted."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from data.corpora.synthetic import SyntheticConfig
from data.corpora.timit import TimitCorpus
from data.corpora.timit.phones import check_phones, describe_odd
from data.faults import Faults
from data.text.phones import PHONE_SETS, TO_39, TO_48
from data.utterance import Segment
from trainer.errors import CorpusError

Lines = list[str]


@pytest.mark.parametrize("units", ["phones61", "phones48", "phones39"])
def test_a_transcript_is_the_phones_of_the_file_in_the_classes_asked_for(tiny_timit: Path, units: str) -> None:
    """Reference: the label files read here by hand, and the published table."""
    table = {"phones61": {label: label for label in PHONE_SETS["phones61"]}, "phones48": TO_48, "phones39": TO_39}[
        units
    ]
    corpus = TimitCorpus(tiny_timit, "no-sa", "plain", units=units)
    utterances = list(corpus.utterances("train-no-sa"))
    assert len(utterances) == 32
    for u in utterances:
        labels = [line.split()[2] for line in Path(u.origin).with_suffix(".PHN").read_text().splitlines()]
        assert u.text.split() == [table[label] for label in labels if label in table]
        assert [phone.label for phone in u.phones] == labels  # times and labels stay as they are


def test_only_phones_are_scored_as_phones() -> None:
    assert SyntheticConfig().phone_scoring() is None
    scoring = SyntheticConfig(units="phones48", silences="merged").phone_scoring()
    assert scoring is not None
    assert scoring.describe() == "39 classes, q removed, silences merged"


def edited(edit: Callable[[Lines], Lines]) -> Callable[[Path], None]:
    return lambda path: path.write_text("".join(f"{line}\n" for line in edit(path.read_text().splitlines())))


def with_line(i: int, change: Callable[[int, int, str], str]) -> Callable[[Path], None]:
    def edit(lines: Lines) -> Lines:
        start, end, label = lines[i].split()
        return [*lines[:i], change(int(start), int(end), label), *lines[len(lines[:i]) + 1 :]]

    return edited(edit)


CONTRADICTIONS = [
    pytest.param(lambda path: path.write_text(""), 1, "the file has no phone", id="empty"),
    pytest.param(with_line(2, lambda s, e, p: f"{s} {s} {p}"), 3, "does not end after its beginning", id="no length"),
    pytest.param(with_line(2, lambda s, e, p: f"{e} {s} {p}"), 3, "does not end after its beginning", id="backwards"),
    pytest.param(edited(lambda lines: [lines[0], lines[0], *lines[1:]]), 2, "begins no later than the", id="twice"),
    pytest.param(edited(lambda lines: [lines[0], *lines[:0:-1]]), 3, "begins no later than the", id="order"),
    pytest.param(with_line(2, lambda s, e, p: f"{s} {e} xx"), 3, "the label 'xx', which is", id="label"),
    pytest.param(with_line(2, lambda s, e, p: f"{s} {e} SIL"), 3, "none of TIMIT's 61", id="class of another set"),
    pytest.param(with_line(-1, lambda s, e, p: f"9{e} 99{e} {p}"), -1, "lies behind the audio", id="behind"),
    pytest.param(with_line(2, lambda s, e, p: f"{s} {e}"), 3, "expected 'START END LABEL'", id="two fields"),
    pytest.param(edited(lambda lines: ["", *lines[:2], "", "5 4 s"]), 5, "does not end", id="blank lines"),
]  # fmt: skip


ODDITIES = [
    pytest.param(with_line(2, lambda s, e, p: f"{s - 1} {e} {p}"), 3, "overlaps the phone before it", id="overlap"),
    pytest.param(with_line(2, lambda s, e, p: f"{s + 1} {e} {p}"), 3, "leaves a gap behind the phone", id="gap"),
    pytest.param(with_line(0, lambda s, e, p: f"{s + 9} {e} {p}"), 1, "does not begin at 0", id="first"),
    pytest.param(with_line(-1, lambda s, e, p: f"{s} {e + 900} {p}"), -1, "ends behind the audio", id="too long"),
]  # fmt: skip
"""Times that contradict each other a little, and leave no doubt about what was said."""


@pytest.fixture(scope="module")
def tree(tiny_timit: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(tiny_timit, tmp_path_factory.mktemp("phones") / "TIMIT"))


@pytest.fixture
def file(tree: Path) -> Path:
    """A label file that the test may change; it is as it was afterwards."""
    return next(tree.glob("TRAIN/*/*/SX*.PHN"))


@pytest.mark.parametrize(("spoil", "line", "what"), CONTRADICTIONS)
def test_a_contradictory_file_is_named_with_its_line(
    tree: Path, file: Path, spoil: Callable[[Path], None], line: int, what: str
) -> None:
    sound = file.read_text()
    try:
        spoil(file)
        with pytest.raises(CorpusError) as error:
            list(TimitCorpus(tree, "no-sa", "plain", units="phones39").utterances("train-no-sa"))
        faults = Faults(collects=True)
        list(TimitCorpus(tree, "no-sa", "plain", units="phones39").utterances("train-no-sa", faults))
        assert any(what in fault.message for fault in faults.found), "a check goes on and lists it"
        if "START" not in what:
            list(TimitCorpus(tree, "no-sa", "plain").utterances("train-no-sa"))  # words do not need it
    finally:
        file.write_text(sound)
    line = len(sound.splitlines()) if line == -1 else line
    assert str(error.value).startswith(f"{file}:{line}: ")
    assert what in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("spoil", "line", "what"), ODDITIES)
def test_odd_times_are_read_and_named_with_their_line(
    tree: Path, file: Path, spoil: Callable[[Path], None], line: int, what: str
) -> None:
    """Reference: the labels of the file as it was."""
    sound = file.read_text()
    try:
        spoil(file)
        corpus = TimitCorpus(tree, "no-sa", "plain", units="phones61")
        texts = {u.origin: u.text for u in corpus.utterances("train-no-sa")}
    finally:
        file.write_text(sound)
    assert texts[str(file.with_suffix(".WAV"))].split() == [row.split()[2] for row in sound.splitlines()]
    line = len(sound.splitlines()) if line == -1 else line
    (note,) = corpus.notes
    assert f"{file}:{line}: " in note
    assert what in note


def phones_of(tmp_path: Path, text: str) -> tuple[Path, list[Segment]]:
    """A label file and what it says."""
    path = tmp_path / "x.PHN"
    path.write_text(text, encoding="utf-8")
    rows = [row.split() for row in text.removeprefix("\ufeff").splitlines() if row]
    return path, [Segment(int(start), int(end), label) for start, end, label in rows]


def test_the_last_phone_must_begin_within_the_audio_and_should_end_there(tmp_path: Path) -> None:
    path, phones = phones_of(tmp_path, "0 50 h#\n50 90 aa\n")
    assert check_phones(path, phones, 90) == check_phones(path, phones, None) == ""
    assert check_phones(path, phones, 89) == f"{path}:2: '50 90 aa' ends behind the audio, which has 89 samples"
    assert check_phones(path, phones, 51)
    with pytest.raises(CorpusError, match=r"x\.PHN:2: '50 90 aa' lies behind the audio, which has 50 samples"):
        check_phones(path, phones, 50)


def test_the_first_odd_phone_is_named_and_a_contradiction_behind_it_still_raises(tmp_path: Path) -> None:
    path, phones = phones_of(tmp_path, "\ufeff\n0 50 h#\n60 90 aa\n\n99 120 s\n")
    assert check_phones(
        path, phones, None
    ) == f"{path}:3: '60 90 aa' leaves a gap behind the phone before it, which " + ("ends at 50")
    with pytest.raises(CorpusError, match=f"x.PHN:6: '120 130 {'x' * 40}' has the label {'x' * 20!r}, which is none"):
        check_phones(*phones_of(tmp_path, f"\ufeff\n0 50 h#\n60 90 aa\n\n99 120 s\n120 130 {'x' * 40}\n"), None)


def test_files_with_odd_times_are_counted_and_the_first_is_named() -> None:
    assert describe_odd([]) == ""
    assert "the audio in 1 .PHN file, whose phones are read all the same; the first: a" in describe_odd(["a"])
    assert "the audio in 2 .PHN files, whose phones are read all the same; the first: a" in describe_odd(["a", "b"])


def test_a_file_that_ends_before_the_audio_is_the_rule_and_goes_without_a_word(tree: Path, file: Path) -> None:
    sound = file.read_text()
    start, end, label = sound.splitlines()[-1].split()
    try:
        with_line(-1, lambda s, e, p: f"{s} {e - 77} {p}")(file)
        assert int(start) < int(end) - 77
        corpus = TimitCorpus(tree, "no-sa", "plain", units="phones61")
        texts = {u.origin: u.text for u in corpus.utterances("train-no-sa")}
    finally:
        file.write_text(sound)
    assert texts[str(file.with_suffix(".WAV"))].endswith(label)
    assert not corpus.notes
