"""Examples read from a store of decoded audio: a table's are a list's, one by one and all together.

pytest tests/trainer/prepare/test_decoding.py
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import soundfile

from data.audio.decode import FileAudio
from data.audio.segments import AudioSegment
from data.chain import Chain
from data.corpora.manifest_table import to_table
from data.examples.drops import Drops
from data.examples.example import Example
from data.examples.leaks import find_leaks
from data.examples.prepare import prepare_evaluation, prepare_training
from data.examples.table import ExampleTable, digests_of, ids_of, lengths_of
from data.text.normalise import plain
from data.text.vocab import Vocab
from data.utterance import Utterance
from tests.helpers.audio import flac_damaged_inside
from trainer.cli.console import Console
from trainer.errors import CorpusError
from trainer.prepare.decoding import use_store
from trainer.prepare.identity import corpus_digest

VOCAB = Vocab.build(["abcdefg "])


class Prepared(NamedTuple):
    train: Sequence[Example]
    evaluation: dict[str, Sequence[Example]]
    drops: Drops
    unreadable: list[Drops]

    def stored(self, cache_dir: Path, on_bad: str = "drop") -> tuple[Sequence[Example], dict[str, Sequence[Example]]]:
        return use_store(*self, on_bad, cache_dir, Console())


@pytest.fixture
def utterances(tmp_path: Path) -> list[Utterance]:
    """Whole files, one of them twice, one damaged; parts of a file; a file of 8 kHz."""
    rng, paths = np.random.default_rng(0), [tmp_path / f"{i}.wav" for i in range(4)]
    for i, path in enumerate(paths):
        rate = 8000 if i == 1 else 16_000
        soundfile.write(path, rng.uniform(-0.5, 0.5, rate + i), rate, subtype="FLOAT" if i == 2 else "PCM_16")
    damaged = tmp_path / "damaged.flac"
    damaged.write_bytes(flac_damaged_inside())
    files = [FileAudio(path) for path in paths]
    audio = [
        *files, FileAudio(damaged), FileAudio(paths[0]), AudioSegment(files[3], 0.0, 0.4),
        AudioSegment(files[3], 0.4, 0.9),
    ]  # fmt: skip
    return [Utterance(f"u{i}", a, "abc def"[: 1 + i], f"s{i % 3}", origin=f"list:{i}") for i, a in enumerate(audio)]


def prepare(train: Sequence[Utterance], scored: Sequence[Utterance]) -> Prepared:
    examples, drops = prepare_training(
        train, plain, VOCAB, lambda n: n // 320, max_seconds=30.0, max_speed=1.0, on_bad="drop", split="train"
    )
    evaluation, bad, _ = prepare_evaluation(scored, plain, VOCAB, split="eval")
    return Prepared(examples, {"eval": evaluation}, drops, [bad])


def table_of(utterances: Sequence[Utterance]) -> Sequence[Utterance]:
    table = to_table(Path("list"), ((int(u.origin.partition(":")[2]), u) for u in utterances))
    assert table is not None
    return table


def test_a_table_from_the_store_is_the_list_from_the_store(utterances: list[Utterance], tmp_path: Path) -> None:
    """Reference: the same utterances as a list, which hold all that they say themselves."""
    listed = prepare(utterances, utterances[2:])
    tabled = prepare(table_of(utterances), table_of(utterances[2:]))
    expected, scored = listed.stored(tmp_path / "cache")
    found, also = tabled.stored(tmp_path / "cache")
    assert not isinstance(expected, ExampleTable)
    for before, after in ((expected, found), (scored["eval"], also["eval"])):
        assert isinstance(after, ExampleTable)
        for a, b in zip(before, after, strict=True):
            assert (a.utterance.id, a.text, a.targets, a.num_samples, a.digest) == (
                b.utterance.id, b.text, b.targets, b.num_samples, b.digest
            )  # fmt: skip
            if a.num_samples:
                np.testing.assert_array_equal(a.load(), b.load())
                np.testing.assert_array_equal(b.load(), b.utterance.audio.load())
        assert lengths_of(after).tolist() == lengths_of(before).tolist()
        assert list(ids_of(after)) == list(ids_of(before))
        assert [e.utterance.id for e in after[1:3]] == [e.utterance.id for e in before[1:3]]
        assert corpus_digest(after) == corpus_digest(before)
        assert list(digests_of(Chain([after, before]))) == 2 * [e.digest for e in before]
    assert [e.utterance.id for e in found] == ["u0", "u1", "u2", "u3", "u5", "u6", "u7"]
    assert [e.num_samples > 0 for e in also["eval"]] == [True, True, False, True, True, True]
    for ours, theirs in zip((tabled.drops, *tabled.unreadable), (listed.drops, *listed.unreadable), strict=True):
        assert ours == theirs
        assert ours.ids == {"undecodable": ["u4"]}
    assert find_leaks(found, also) == find_leaks(expected, scored)
    assert len(find_leaks(found, also)) == 2


def test_recordings_are_told_to_be_compared_only_where_they_are(utterances: list[Utterance], tmp_path: Path) -> None:
    tabled = prepare(table_of(utterances), table_of(utterances))
    stored, _ = tabled.stored(tmp_path / "cache")
    assert isinstance(tabled.train, ExampleTable)
    assert isinstance(stored, ExampleTable)
    assert (tabled.train.has_digests, stored.has_digests) == (False, True)


def test_nothing_that_decodes_is_refused(utterances: list[Utterance], tmp_path: Path) -> None:
    for kind in (list, table_of):
        with pytest.raises(CorpusError, match=r"4: utterance u4: .*damaged\.flac: decoding failed"):
            prepare(kind(utterances), kind(utterances)).stored(tmp_path / "cache", on_bad="error")
        with pytest.raises(CorpusError, match=r"1 undecodable.*Nothing is left to train on"):
            prepare(kind(utterances[4:5]), kind(utterances)).stored(tmp_path / "cache")
