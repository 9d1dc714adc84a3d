"""The same utterance, speaker or recording twice, row R7 of the reliability matrix: refused, or said."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from data.audio.decode import FileAudio
from data.examples.leaks import describe_leaks, find_leaks
from data.examples.prepare import Example
from data.utterance import Utterance
from tests.helpers.audio import MODEL, encoded, put_audio, sound
from tests.helpers.corpora import ManifestFolder
from trainer.run import main

if TYPE_CHECKING:
    from tests.helpers.refused import Tally

pytestmark = pytest.mark.usefixtures("no_hang", "own_folder")


@pytest.mark.parametrize("split", ["train", "eval"])
def test_duplicate_id_is_refused_by_both_places(tone_corpus: ManifestFolder, refused: Callable, split: str) -> None:
    tone_corpus.rows[split][2]["id"] = f"{split}-0"
    tone_corpus.write()
    path = tone_corpus.folder / f"{split}.jsonl"
    message = refused("manifest", *tone_corpus.options, *MODEL)
    assert message.startswith(f"{path}:3: id '{split}-0' stands already at {path}:1.")


def example(name: str, speaker: str | None, digest: str) -> Example:
    return Example(Utterance(name, FileAudio(Path(name)), "a", speaker=speaker), "a", (1,), 400, sound, digest)


def test_leaks_are_found_by_speaker_and_by_recording() -> None:
    """Two of three speakers and one of four recordings; None is no speaker, an empty digest no recording."""
    train = [example("t1", "s1", "x"), example("t2", "s2", "y"), example("t3", None, "")]
    dev = [example("d1", "s2", "y"), example("d2", "s1", "z"), example("d3", "s9", "w"), example("d4", None, "")]
    assert find_leaks(train, {"dev": dev, "test": [example("e1", "s8", "v")]}) == [
        "dev: 2 of 3 speakers are also in training (s1, s2)",
        "dev: 1 of 4 recordings is also in training (d1 = t2)",
    ]


def test_parts_of_a_recording_are_leaks_where_they_overlap_and_told_where_they_do_not() -> None:
    """A whole file overlaps all of its parts; digests as content_digests writes them, frames behind the colon."""
    train = [example("t1", None, "x:0-100"), example("t2", None, "x:100-900"), example("t3", None, "x:50-60"),
             example("t4", None, "y"), example("t5", None, "z:5-9")]  # fmt: skip
    dev = [example("d1", None, "x:899-1000"), example("d2", None, "x:900-1000"), example("d3", None, "y:0-7"),
           example("d4", None, "z"), example("d5", None, "w:0-100"), example("d6", None, "z:0-5"),
           example("d7", None, "x:70-90")]  # fmt: skip
    assert find_leaks(train, {"dev": dev}) == [
        "dev: 4 of 7 recordings are also in training (d1 = t2, d3 = t4, d4 = t5, ...)",
        "dev: 2 of 7 utterances are of recordings that training has other parts or channels of (d2, t1, d6, t5)",
    ]


def test_recordings_are_claimed_only_where_all_were_compared() -> None:
    train, nothing = [example("t1", "s1", "x")], "was found in both training and evaluation"
    both = describe_leaks([], train, {"dev": [example("d1", "s2", "y")]})
    assert both == [f"no speaker and no recording {nothing}"]
    unstored = describe_leaks([], train, {"dev": [example("d1", "s2", "")]})
    assert unstored == [f"no speaker {nothing}", "recordings were not compared (--corpus.no-store)"]
    undecodable = dataclasses.replace(example("d1", None, ""), num_samples=0)
    assert describe_leaks(["dev: a leak"], train, {"dev": [undecodable]}) == [
        "dev: a leak", "the corpus does not name every speaker",
    ]  # fmt: skip


def test_what_was_not_compared_is_not_claimed_by_check_or_card(
    tone_corpus: ManifestFolder, trained: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    for i, row in enumerate(tone_corpus.rows["eval"]):
        row["speaker"] = f"other{i}"
        put_audio(tone_corpus, "eval", i, encoded(sound(9000, seed=i)))
    tone_corpus.write()
    for options, claim in (
        ([], "o speaker and no recording was found in both training and evaluation"),
        (["--corpus.no-store"], "o speaker was found in both training and evaluation"),
    ):
        assert main(["manifest", *tone_corpus.options, *MODEL, *options, "--check"]) == 0
        checked = capsys.readouterr().err
        trained("manifest", *tone_corpus.options, *MODEL, *options, "--overwrite")
        card = Path("runs/run/model/README.md").read_text()
        assert f"N{claim}." in card
        assert f"leaks:     n{claim}" in checked
        for text in (checked, card):
            assert ("ecordings were not compared (--corpus.no-store)" in text) == bool(options)


def test_strict_without_a_store_is_refused(tone_corpus: ManifestFolder, refused: Callable) -> None:
    message = refused("manifest", *tone_corpus.options, *MODEL, "--strict", "--corpus.no-store")
    assert message == "--strict compares recordings as they are stored: leave out --corpus.no-store."


@pytest.fixture
def leaky(tone_corpus: ManifestFolder) -> ManifestFolder:
    """Speakers s0 and s1 on both sides, and one recording under two names."""
    for i in (0, 2):
        put_audio(tone_corpus, "eval", i, encoded(sound(9000, seed=i)))
    put_audio(tone_corpus, "eval", 1, (tone_corpus.folder / "wav" / "train-4.wav").read_bytes())
    return tone_corpus


LEAKS = (
    "eval: 2 of 2 speakers are also in training (s0, s1)",
    "eval: 1 of 3 recordings is also in training (eval-1 = train-4)",
)


def test_same_speaker_and_same_recording_on_both_sides_are_refused_under_strict(
    leaky: ManifestFolder, refused: Callable
) -> None:
    assert refused("manifest", *leaky.options, *MODEL, "--strict").startswith(f"{LEAKS[0]}; {LEAKS[1]}. Mend")


def test_same_speaker_and_same_recording_on_both_sides_are_a_warning(
    leaky: ManifestFolder, tally: Tally, trained: Callable
) -> None:
    with tally.accepts():
        err, _ = trained("manifest", *leaky.options, *MODEL)
        assert [line for line in err.splitlines() if "also in training" in line] == [
            f"warning: {line}" for line in LEAKS
        ]
