"""Examples of a table are those of a list, one by one and all together.

pytest tests/data/examples/test_table.py
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data.audio.decode import FileAudio
from data.audio.segments import AudioSegment
from data.audio.store import content_digests
from data.chain import Chain
from data.corpora.shards import ShardsConfig
from data.examples.example import Example
from data.examples.leaks import find_leaks
from data.examples.measuring import describe_conversions
from data.examples.prepare import num_reference_words, prepare_evaluation, prepare_training, read_split
from data.examples.table import ExampleTable, ids_of, lengths_of, speakers_in, texts_in, unit_counts
from data.shards.building import build
from data.shards.shard import Packing
from data.text.normalise import plain
from data.text.normalised import ArrowTexts, normalise_all
from data.text.vocab import Vocab
from data.utterance import AudioSource, Utterance
from trainer.errors import ConfigError, CorpusError
from trainer.prepare.identity import corpus_digest

TEXTS = ["Hello there!", "aa bb", "x", "...", "a long text that needs many more frames than there are of audio", "Ö"]
SECONDS = [0.5, 0.6, 0.4, 0.5, 0.3, 1.2]


@pytest.fixture
def utterances(tmp_path: Path) -> list[Utterance]:
    rng, found = np.random.default_rng(0), []
    for i, (text, seconds) in enumerate(zip(TEXTS, SECONDS, strict=True)):
        path, rate = tmp_path / f"{i}.wav", 8000 if i == 1 else 16_000
        soundfile.write(path, rng.uniform(-0.5, 0.5, int(seconds * rate)), rate, subtype="PCM_16")
        found.append(Utterance(f"u{i}", FileAudio(path), text, f"s{i % 2}"))
    return found


@pytest.fixture
def config(utterances: list[Utterance], tmp_path: Path) -> ShardsConfig:
    build(Packing(utterances, tmp_path / "s", 2), 1, lambda items, total: items, lambda line: None)
    return ShardsConfig(train=str(tmp_path / "s"), eval=str(tmp_path / "s"))


@pytest.fixture
def open_table(config: ShardsConfig, tmp_path: Path) -> Callable:
    return lambda split="train": read_split(config.open(tmp_path / "cache", lambda done, total: None), split)


VOCAB = Vocab.build(["abcdefghijklmnopqrstuvwxyz ö"])
SETTINGS = dict(max_seconds=1.0, max_speed=1.1, on_bad="drop", split="train")


def frames(n: int) -> int:
    return max(0, n // 320 - 1)


def test_training_examples_are_those_of_the_list(utterances: list[Utterance], open_table: Callable, tmp_path: Path):
    table = open_table()
    texts = normalise_all(table, plain, "plain", tmp_path / "cache")
    assert isinstance(texts, ArrowTexts)
    expected, dropped = prepare_training(utterances, plain, VOCAB, frames, **SETTINGS)  # type: ignore[arg-type]
    found, also = prepare_training(table, plain, VOCAB, frames, texts=texts, **SETTINGS)  # type: ignore[arg-type]
    assert isinstance(found, ExampleTable)
    assert (
        also.ids
        == dropped.ids
        == {"without text": ["u3"], "too short for their transcript": ["u4"], "over 1 s": ["u5"]}
    )
    for a, b in zip(expected, found, strict=True):
        assert (a.utterance.id, a.text, a.targets, a.num_samples) == (b.utterance.id, b.text, b.targets, b.num_samples)
        assert np.array_equal(a.load(), b.load())
    digests = content_digests([e.utterance.audio for e in expected])
    assert [e.digest for e in found] == digests.to_pylist()  # as a store of decoded audio has them
    assert lengths_of(found).tolist() == lengths_of(expected).tolist()
    assert list(ids_of(found)) == list(ids_of(expected))
    assert speakers_in(found) == speakers_in(expected)
    assert list(texts_in(found)) == list(texts_in(expected))
    assert unit_counts(found) == unit_counts(expected)
    assert lengths_of(Chain([found, expected])).tolist() == 2 * lengths_of(found).tolist()


def test_evaluation_examples_are_those_of_the_list(utterances: list[Utterance], open_table: Callable):
    expected, _, unseen = prepare_evaluation(utterances, plain, VOCAB, split="eval")
    found, drops, also = prepare_evaluation(open_table("eval"), plain, VOCAB, split="eval")
    assert (unseen, drops.num_dropped) == (also, 0)
    assert [(e.text, e.targets) for e in found] == [(e.text, e.targets) for e in expected]
    assert num_reference_words(found) == num_reference_words(expected)
    assert describe_conversions(open_table()) == describe_conversions(utterances) != ""


def test_leaks_are_found_by_the_digests_of_the_index(open_table: Callable):
    train, _ = prepare_training(open_table(), plain, VOCAB, frames, **SETTINGS)  # type: ignore[arg-type]
    scored, _, _ = prepare_evaluation(open_table("eval"), plain, VOCAB, split="eval")
    assert find_leaks(train, {"eval": scored}) == [
        "eval: 2 of 2 speakers are also in training (s0, s1)",
        "eval: 3 of 6 recordings are also in training (u0 = u0, u1 = u1, u2 = u2)",
    ]


def test_channels_of_one_file_are_told_on_both_sides_from_files_and_from_shards(tmp_path: Path):
    """The other side of a call and the mean of both, as another part of the recording; the same side as a copy, and so
    the only channel of a file beside the file itself."""
    for name, count in (("call", 2), ("one", 1)):
        noise = np.random.default_rng(count).uniform(-0.5, 0.5, (9600, count))
        soundfile.write(tmp_path / f"{name}.wav", noise, 16_000)
    call, one = FileAudio(tmp_path / "call.wav"), FileAudio(tmp_path / "one.wav")

    def table(name: str, *sources: AudioSource) -> Sequence[Utterance]:
        every = [Utterance(f"{name}{i}", source, "a") for i, source in enumerate(sources)]
        build(Packing(every, tmp_path / name, 2), 1, lambda items, total: items, lambda line: None)
        config = ShardsConfig(train=str(tmp_path / name))
        return read_split(config.open(tmp_path / "cache", lambda done, total: None), "train")

    sides = [AudioSegment(call, channel=k) for k in (0, 1)]
    training = [sides[0], AudioSegment(one, channel=0)]
    scored = [sides[1], call, AudioSegment(call, 0.1, 0.3, 0), one, AudioSegment(one, 0.1, 0.3)]
    files = [
        [Example(Utterance(f"{name}{i}", source, "a"), "a", (1,), 9600, source.load, digest)
         for i, (source, digest) in enumerate(zip(sources, content_digests(sources).to_pylist(), strict=True))]
        for name, sources in (("t", training), ("e", scored))
    ]  # fmt: skip
    shards = [
        prepare_training(table("t", *training), plain, VOCAB, frames, **SETTINGS)[0],  # type: ignore[arg-type]
        prepare_evaluation(table("e", *scored), plain, VOCAB, split="eval")[0],
    ]
    for train, examples in (files, shards):
        assert find_leaks(train, {"eval": examples}) == [
            "eval: 3 of 5 recordings are also in training (e2 = t0, e3 = t1, e4 = t1)",
            "eval: 2 of 5 utterances are of recordings that training has other parts or channels of (e0, t0, e1, t0)",
        ]


def test_normalised_texts_are_kept_for_the_next_start(open_table: Callable, tmp_path: Path):
    def refuse(text: str) -> str:
        raise AssertionError("normalised again")

    first = normalise_all(open_table(), plain, "plain", tmp_path / "cache")
    assert (
        list(normalise_all(open_table(), refuse, "plain", tmp_path / "cache")) == list(first) == list(map(plain, TEXTS))
    )
    with pytest.raises(AssertionError):
        normalise_all(open_table(), refuse, "plain-upper", tmp_path / "cache")


def test_identity_is_that_of_the_content(open_table: Callable, utterances: list[Utterance], tmp_path: Path):
    """The same shards in another place are the same corpus; other transcripts are not."""

    def digest(folder: str) -> str:
        config = ShardsConfig(train=str(tmp_path / folder), eval="")
        table = read_split(config.open(tmp_path / "cache", lambda done, total: None), "train")
        texts = normalise_all(table, plain, "plain", tmp_path / "cache")
        return corpus_digest(prepare_evaluation(table, plain, VOCAB, split="train", texts=texts)[0])

    open_table()
    for name, chosen in (("copy", utterances), ("other", utterances[1:])):
        build(Packing(chosen, tmp_path / name, 2), 1, lambda items, total: items, lambda line: None)
    assert digest("copy") == digest("s") != digest("other")


def test_parts_make_up_the_whole(config: ShardsConfig, tmp_path: Path):
    found = []
    for k in (1, 2, 3, 4):
        part = ShardsConfig(eval=config.eval, part=f"{k}/4").open(tmp_path / "cache", lambda done, total: None)
        found += [u.id for u in read_split(part, "eval")]
    assert found == [f"u{i}" for i in range(6)]
    with pytest.raises(ConfigError, match="give K/N"):
        ShardsConfig(eval=config.eval, part="5/4").open(tmp_path, lambda done, total: None)
    many = ShardsConfig(eval=config.eval, part="1/100").open(tmp_path, lambda done, total: None)
    with pytest.raises(CorpusError, match="is empty: there are 6 utterances"):
        many.utterances("eval")
