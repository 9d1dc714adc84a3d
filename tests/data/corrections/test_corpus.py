"""Corrections of corpora: lists and tables alike, training by default, evaluation only where a line says so.

pytest tests/data/corrections/test_corpus.py
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from data.corpora.manifest import ManifestConfig, ManifestCorpus
from data.corpora.manifest_table import SCHEMA, ManifestTable
from data.corrections.corpus import CorrectedCorpus, corrected
from data.examples.prepare import read_split
from data.faults import Faults
from data.shards.building import build
from data.shards.shard import Packing
from data.shards.table import Shards, ShardTable
from data.utterance import Corpus, Segment, Splits, Utterance
from trainer.errors import CorpusError


class Listed:
    """A corpus of lists; those of "part" are utterances of "whole"."""

    title = "a list"

    def __init__(self, splits: dict[str, list[Utterance]] | None = None) -> None:
        whole = [utterance(f"e{i}", f"eval {i}") for i in range(4)]
        self.lists = splits or {
            "train-all": [utterance(f"t{i}", f"text {i}") for i in range(5)],
            "whole": whole,
            "part": whole[:2],
        }
        self.splits = Splits("train-all", "part", "whole", ("whole", "part"), within={"part": "whole"})

    def utterances(self, split: str, faults: Faults | None = None) -> Iterable[Utterance]:
        return self.lists[split]

    def checksum(self, words_per_split: dict[str, int]) -> None:
        return None


def utterance(name: str, text: str) -> Utterance:
    times = (Segment(0, 10, "text"),)
    return Utterance(name, audio=None, text=text, words=times, phones=times, origin=f"list:{name}")  # type: ignore[arg-type]


def mend(corpus: Corpus, folder: Path, *patch: dict[str, Any], exclude: str = "", **options: Any) -> CorrectedCorpus:
    """`corpus` with a file of these lines."""
    (folder / "fix.jsonl").write_text("".join(json.dumps(row) + "\n" for row in patch))
    (folder / "bad.txt").write_text(exclude)
    config = ManifestConfig(
        exclude=str(folder / "bad.txt") if exclude else "", patch=str(folder / "fix.jsonl") if patch else "", **options
    )
    found = corrected(corpus, config)
    assert found is not None
    return found


def said(utterances: Iterable[Utterance]) -> dict[str, str]:
    return {u.id: u.text for u in utterances}


def read(corpus: CorrectedCorpus) -> dict[str, dict[str, str]]:
    splits = dict.fromkeys([corpus.splits.train, corpus.splits.monitor, *corpus.splits.closing])
    return {split: said(read_split(corpus, split)) for split in splits}


def test_training_utterances_are_left_out_and_replaced(tmp_path: Path) -> None:
    corpus = mend(Listed(), tmp_path, {"id": "t1", "text": "mended"}, {"id": "t4", "drop": True}, exclude="t0\n")
    assert read(corpus)["train-all"] == {"t1": "mended", "t2": "text 2", "t3": "text 3"}
    assert corpus.describe("train-all").startswith("2 utterances left out and 1 transcript replaced by bad.txt (sha256")
    assert not corpus.describe("whole")
    corpus.refuse_misplaced()
    assert not corpus.describe_unmet(training=True)


def test_times_of_words_and_phones_go_with_the_text_that_they_were_of(tmp_path: Path) -> None:
    corpus = mend(Listed(), tmp_path, {"id": "t1", "text": "mended"}, {"id": "t2", "text": "text 2"})
    found = {u.id: u for u in corpus.utterances("train-all")}
    assert (found["t1"].words, found["t1"].phones) == ((), ())
    assert found["t2"].words == found["t3"].words == (Segment(0, 10, "text"),)
    assert corpus.describe("train-all").startswith("1 transcript replaced"), "that of t2 is the same"


def test_a_line_without_a_split_never_changes_an_evaluation_split(tmp_path: Path) -> None:
    corpus = mend(Listed(), tmp_path, {"id": "t1", "text": "mended"}, {"id": "e1", "text": "mended"})
    assert read(corpus)["part"]["e1"] == "eval 1"
    with pytest.raises(CorpusError, match=r'fix.jsonl:2: utterance e1 is in part, which is scored.*"split": "part"'):
        corpus.refuse_misplaced()


@pytest.mark.parametrize("named", ["part", "whole"])
def test_a_line_of_an_evaluation_split_holds_wherever_that_utterance_is_scored(tmp_path: Path, named: str) -> None:
    corpus = mend(Listed(), tmp_path, {"id": "e1", "text": "mended", "split": named})
    found = read(corpus)
    assert found["part"]["e1"] == found["whole"]["e1"] == "mended"
    replaced = [next(u for u in corpus.utterances(split) if u.id == "e1") for split in ("part", "whole")]
    assert replaced[0] is replaced[1], "one utterance of two splits stays one object"
    assert corpus.describe("part").startswith("1 transcript replaced")


def test_the_same_id_in_two_splits_means_two_utterances(tmp_path: Path) -> None:
    lists = {split: [utterance("1", split)] for split in ("train-all", "part", "whole")}
    lists["whole"] += lists["part"]
    corpus = mend(Listed(lists), tmp_path, {"id": "1", "text": "a"}, {"id": "1", "text": "b", "split": "part"})
    assert [u.text for u in corpus.utterances("train-all")] == ["a"]
    assert [u.text for u in corpus.utterances("part")] == ["b"]
    corpus.refuse_misplaced()


def test_each_split_names_the_files_that_changed_it(tmp_path: Path) -> None:
    corpus = mend(Listed(), tmp_path, {"id": "e1", "text": "mended", "split": "whole"}, exclude="t1\n")
    read(corpus)
    assert re.fullmatch(r"1 utterance left out by bad\.txt \(sha256 \w{12}\)", corpus.describe("train-all"))
    assert re.fullmatch(r"1 transcript replaced by fix\.jsonl \(sha256 \w{12}\)", corpus.describe("part"))


def test_train_is_a_name_of_the_training_split_whatever_it_is_called(tmp_path: Path) -> None:
    patch = [{"id": "t1", "drop": True, "split": "train"}, {"id": "t2", "drop": True, "split": "train-all"}]
    corpus = mend(Listed(), tmp_path, *patch)
    assert list(read(corpus)["train-all"]) == ["t0", "t3", "t4"]


def test_train_is_a_split_that_is_scored_where_the_corpus_calls_one_so(tmp_path: Path) -> None:
    listed = Listed({"train-all": [utterance("1", "a")], "train": [utterance("1", "b")]})
    listed.splits = Splits("train-all", "train", "train", ("train",))
    corpus = mend(listed, tmp_path, {"id": "1", "text": "mended", "split": "train"})
    assert read(corpus) == {"train-all": {"1": "a"}, "train": {"1": "mended"}}


def test_a_transcript_that_is_no_longer_the_one_that_was_corrected_is_not_replaced(tmp_path: Path) -> None:
    corpus = mend(Listed(), tmp_path, {"id": "t1", "text": "mended", "was": "text 9"})
    with pytest.raises(CorpusError, match=r"fix.jsonl:1: the transcript of utterance t1 is 'text 1', and was 'text 9'"):
        read(corpus)
    dropped = mend(Listed(), tmp_path, {"id": "t1", "drop": True, "was": "text 9"})
    with pytest.raises(CorpusError, match="the transcript of utterance t1 is 'text 1'"):
        read(dropped)
    done_already = mend(Listed(), tmp_path, {"id": "t1", "text": "text 1", "was": "text 9"})
    assert read(done_already)["train-all"]["t1"] == "text 1"


def test_ids_that_are_nowhere_are_named_and_a_file_that_meets_nothing_is_refused(tmp_path: Path) -> None:
    corpus = mend(Listed(), tmp_path, exclude="t1\nt9\nT2\n")
    read(corpus)
    corpus.refuse_misplaced()
    unmet = corpus.describe_unmet(training=True)
    where = f"({tmp_path}/bad.txt:2: t9, {tmp_path}/bad.txt:3: T2)"
    assert unmet == f"2 of 3 corrections meet no utterance that is read here {where}"
    assert not corpus.describe_unmet(training=False), "who only scores reads no training split"
    other = mend(Listed(), tmp_path, exclude="wav/t1.flac\nx\n")
    read(other)
    with pytest.raises(CorpusError, match=r"bad.txt:1: utterance wav/t1.flac is not in this corpus.*2.*'t4' is one"):
        other.refuse_misplaced()


def test_phones_are_replaced_by_phones_of_the_corpus_alone(tmp_path: Path) -> None:
    lists = {"train-all": [utterance("t0", "sh iy"), utterance("t1", "hh ae d")]}
    (tmp_path / "fix.jsonl").write_text('{"id": "t0", "text": "sh ae d"}\n')
    config = ManifestConfig(patch=str(tmp_path / "fix.jsonl"))
    found = corrected(Listed(lists), config)
    assert found is not None
    of_phones = CorrectedCorpus(found.corpus, found.corrections, are_phones=True)
    assert said(of_phones.utterances("train-all"))["t0"] == "sh ae d"
    corrections = mend(Listed(lists), tmp_path, {"id": "t0", "text": "she had"}).corrections
    with pytest.raises(CorpusError, match=r"fix\.jsonl:1: utterance t0: 'she' is no phone of train-all"):
        list(CorrectedCorpus(found.corpus, corrections, are_phones=True).utterances("train-all"))


# Tables


def table_of(ids: list[str], rows_a_batch: int) -> ManifestTable:
    n = len(ids)
    columns: dict[str, Any] = {
        "id": ids, "text": [f"text {i}" for i in range(n)], "speaker": [None] * n, "line": list(range(1, n + 1)),
        "path": [f"{i}.wav" for i in range(n)], "is_part": [False] * n, "start": [0.0] * n, "end": [None] * n,
        "channel": [None] * n,
        "stated": [None] * n,
    }  # fmt: skip
    batches = pa.table(columns, schema=SCHEMA).to_batches(max_chunksize=rows_a_batch)
    return ManifestTable(Path("train.jsonl"), pa.Table.from_batches(batches))


class Tabled(Listed):
    def __init__(self, table: ManifestTable) -> None:
        super().__init__()
        self.lists = {**self.lists, "train-all": table}  # type: ignore[dict-item]


@pytest.mark.parametrize("rows_a_batch", [1, 7, 64])
def test_a_table_is_corrected_as_a_list_is(tmp_path: Path, rows_a_batch: int) -> None:
    """Reference: the same utterances in a list. Ids that Arrow cannot hold are in no table."""
    rng = np.random.default_rng(3)
    ids = [f"ü {i}" for i in range(40)]
    table = table_of(ids, rows_a_batch)
    patch = [
        {"id": ids[int(i)], **({"drop": True} if i % 3 else {"text": f"new {i}"})} for i in rng.permutation(40)[:17]
    ]
    patch.append({"id": "\udcff", "drop": True})
    found = mend(Tabled(table), tmp_path, *patch).utterances("train-all")
    expected = list(mend(Listed({"train-all": list(table)}), tmp_path, *patch).utterances("train-all"))
    assert isinstance(found, ManifestTable)
    assert [(u.id, u.text, u.origin, u.audio.name) for u in found] == [
        (u.id, u.text, u.origin, u.audio.name) for u in expected
    ]


def test_a_table_that_is_scored_is_no_more_changed_than_a_list(tmp_path: Path) -> None:
    tables = {"train-all": table_of(["a", "b"], 1), "part": table_of(["c"], 1), "whole": table_of(["c", "d"], 1)}
    listed = Listed(tables)  # type: ignore[arg-type]
    corpus = mend(listed, tmp_path, {"id": "a", "text": "mended"}, {"id": "d", "text": "mended"})
    assert read(corpus)["whole"]["d"] == "text 1"
    with pytest.raises(CorpusError, match=r'fix.jsonl:2: utterance d is in whole, which is scored.*"split": "whole"'):
        corpus.refuse_misplaced()
    nothing = mend(listed, tmp_path, {"id": "x", "drop": True})
    read(nothing)
    with pytest.raises(CorpusError, match="'a' is one"):
        nothing.refuse_misplaced()


def test_batches_of_a_table_that_no_correction_meets_are_not_copied(tmp_path: Path) -> None:
    table = table_of([str(i) for i in range(30)], 10)
    found = mend(Tabled(table), tmp_path, {"id": "12", "drop": True}).utterances("train-all")
    assert isinstance(found, ManifestTable)
    where = [[chunk.buffers()[2].address for chunk in of.rows["text"].chunks] for of in (table, found)]
    assert [a == b for a, b in zip(*where, strict=True)] == [True, False, True]
    assert mend(Tabled(table), tmp_path, {"id": "x", "drop": True}).utterances("train-all") is table


def test_shards_have_another_digest_for_other_corrections_and_the_same_without(tmp_path: Path, tone) -> None:
    """The digest is what an exact resume compares, and the key of normalised texts that are kept."""
    import soundfile

    rows = []
    for i in range(3):
        soundfile.write(tmp_path / f"{i}.wav", tone(0.2), 16_000)
        rows.append({"audio_filepath": f"{i}.wav", "text": f"text {i}"})
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    plain = list(ManifestCorpus(ManifestConfig(train=str(tmp_path / "train.jsonl"))).utterances("train"))
    build(Packing(plain, tmp_path / "shards", 2), 1, lambda items, total: items, lambda line: None)
    shards = Shards(str(tmp_path / "shards"), tmp_path / "cache", 0)

    def digest(*patch: dict[str, Any]) -> str:
        found = mend(Tabled(ShardTable(shards)), tmp_path, *patch).utterances("train-all")  # type: ignore[arg-type]
        assert isinstance(found, ShardTable)
        assert [len(found), *said(found).values()] == [len(found.num_samples()), *(u.text for u in found)]
        return found.digest

    patches = [{"id": "1.wav", "text": "new"}, {"id": "1.wav", "text": "newer"}, {"id": "1.wav", "drop": True}]
    digests = [digest(patch) for patch in [*patches, {"id": "2.wav", "drop": True}]]
    assert len({*digests, shards.digest}) == 5
    assert digest(patches[0]) == digests[0]
    assert digest({"id": "1.wav", "text": "text 1"}) == shards.digest == digest({"id": "x", "drop": True})
