"""What every corpus promises (data.utterance), whichever it is; opened as a run opens it, by its config."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import pytest
import soundfile

from data.batches.collate import BatchDataset, Frontend
from data.batches.loading import load_batches
from data.config import CorpusConfig
from data.corpora.hub import HubConfig
from data.corpora.manifest import ManifestConfig
from data.corpora.shards import ShardsConfig
from data.corpora.synthetic import SyntheticConfig
from data.corpora.timit import TimitConfig
from data.corrections.corpus import corrected
from data.examples.prepare import Example, read_split
from data.shards.building import build
from data.shards.shard import Packing
from data.utterance import Corpus, Utterance

ENCODINGS = [
    ("wav", 16_000, 1, "PCM_16"),
    ("flac", 8000, 2, "PCM_24"),
    ("mp3", 44_100, 1, None),
    ("ogg", 22_050, 2, None),
    ("wav", 48_000, 1, "FLOAT"),
]


def manifest_config(folder: Path, tone: Callable) -> ManifestConfig:
    """Every encoding, once in each split."""
    for split in ("train", "eval"):
        rows = []
        for i, (kind, rate, channels, subtype) in enumerate(ENCODINGS):
            name = f"{split}-{i}.{kind}"
            samples = tone(0.3 + 0.01 * i, rate=rate, channels=channels)
            soundfile.write(folder / name, samples, rate, subtype=subtype)
            rows.append({"audio_filepath": name, "text": f"Number {i}!", "speaker": "s"})
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return ManifestConfig(train=str(folder / "train.jsonl"), eval=str(folder / "eval.jsonl"))


def shards_config(folder: Path, tone: Callable) -> ShardsConfig:
    """What manifest_config has, packed."""
    manifests = manifest_config(folder, tone)
    corpus = manifests.open(folder, lambda done, total: None)
    for split in ("train", "eval"):
        packing = Packing(list(corpus.utterances(split)), folder / f"shards-{split}", 2)
        build(packing, 1, lambda items, total: items, lambda line: None)
    return ShardsConfig(train=str(folder / "shards-train"), eval=str(folder / "shards-eval"))


def hub_config(folder: Path, tone: Callable) -> HubConfig:
    """Every encoding as bytes, once in each split."""
    audio = []
    for i, (kind, rate, channels, subtype) in enumerate(ENCODINGS):
        buffer = io.BytesIO()
        soundfile.write(buffer, tone(0.3 + 0.01 * i, rate=rate, channels=channels), rate, format=kind, subtype=subtype)
        audio.append({"bytes": buffer.getvalue(), "path": None})
    dataset = datasets.Dataset.from_dict({"audio": audio, "text": [f"Number {i}!" for i in range(len(audio))]})
    dataset = dataset.cast_column("audio", datasets.Audio())
    datasets.disable_progress_bars()
    datasets.DatasetDict(train=dataset, test=dataset).save_to_disk(str(folder / "set"))
    return HubConfig(dataset=str(folder / "set"))


@pytest.fixture(scope="module", params=["timit", "synthetic", "manifest", "hub", "shards"])
def config(request, tmp_path_factory: pytest.TempPathFactory, tiny_timit: Path, tone: Callable) -> CorpusConfig:
    folder = tmp_path_factory.mktemp(request.param)
    match request.param:
        case "timit":
            tree = shutil.copytree(tiny_timit, folder / "TIMIT", ignore=shutil.ignore_patterns("SYNTHETIC.json"))
            return TimitConfig(root=str(tree), protocol="kaldi", allow_incomplete=True)
        case "synthetic":
            return SyntheticConfig(size="tiny", protocol="hf")
        case "manifest":
            return manifest_config(folder, tone)
        case "shards":
            return shards_config(folder, tone)
        case _:
            return hub_config(folder, tone)


@pytest.fixture(scope="module")
def opened(config: CorpusConfig, synthetic_cache: Path) -> Callable[[], Corpus]:
    """Opens the corpus anew."""
    return lambda: config.open(synthetic_cache, lambda done, total: None)


@pytest.fixture(scope="module")
def corpus(opened: Callable[[], Corpus]) -> Corpus:
    return opened()


@pytest.fixture(scope="module")
def splits(corpus: Corpus) -> dict[str, list[Utterance]]:
    """Every split that a run reads."""
    s = corpus.splits
    names = dict.fromkeys([s.train, s.monitor, *s.closing, *s.unselected])
    return {name: list(corpus.utterances(name)) for name in names}


@pytest.fixture(scope="module")
def utterances(splits: dict[str, list[Utterance]]) -> list[Utterance]:
    return [u for split in splits.values() for u in split]


def test_no_split_is_empty(splits: dict[str, list[Utterance]]):
    assert all(splits.values())


def test_ids_are_unique_in_a_split(splits: dict[str, list[Utterance]]):
    for split in splits.values():
        assert len({u.id for u in split}) == len(split)
        assert all(isinstance(u.id, str) and u.id for u in split)


def test_training_and_evaluation_share_no_utterance(corpus: Corpus, splits: dict[str, list[Utterance]]):
    trained_on = {u.origin for u in splits[corpus.splits.train]}
    for name, split in splits.items():
        assert name == corpus.splits.train or not trained_on & {u.origin for u in split}


def test_order_is_the_same_however_often_it_is_opened(
    opened: Callable[[], Corpus], corpus: Corpus, splits: dict[str, list[Utterance]]
):
    for name, split in splits.items():
        expected = [(u.id, u.text) for u in split]
        assert [(u.id, u.text) for u in corpus.utterances(name)] == expected
        assert [(u.id, u.text) for u in opened().utterances(name)] == expected


def test_num_samples_is_the_length_of_what_load_gives(utterances: list[Utterance]):
    for u in utterances:
        assert u.audio.num_samples == len(u.audio.load()) > 0


def test_audio_is_float32_mono_between_minus_one_and_one(utterances: list[Utterance]):
    for u in utterances:
        samples = u.audio.load()
        assert samples.dtype == np.float32
        assert samples.ndim == 1
        assert samples.flags.c_contiguous
        assert 0.01 < np.abs(samples).max() <= 1


def test_audio_is_the_same_at_every_loading(utterances: list[Utterance]):
    for u in utterances[::5]:
        np.testing.assert_array_equal(u.audio.load(), u.audio.load())


def test_raw_bytes_are_the_encoded_file(utterances: list[Utterance]):
    """Reference: soundfile, asked for the header of those bytes."""
    for u in utterances[::5]:
        info = soundfile.info(io.BytesIO(u.audio.raw()))
        header = u.audio.header
        assert (info.samplerate, info.channels, info.frames) == (header.rate, header.num_channels, header.num_frames)


def test_identities_are_distinct_and_stay(splits: dict[str, list[Utterance]], opened: Callable[[], Corpus]):
    for name, split in splits.items():
        identities = [u.audio.identity for u in split]
        assert len(set(identities)) == len(split)
        assert [u.audio.identity for u in opened().utterances(name)] == identities


def test_text_is_a_string_and_optional_fields_are_strings_or_none(utterances: list[Utterance]):
    for u in utterances:
        assert isinstance(u.text, str)
        for value in (u.speaker, u.sex, u.dialect, u.sentence_type):
            assert value is None or (isinstance(value, str) and value)
        assert u.sex in (None, "F", "M")


def test_origin_says_where_it_was_found(utterances: list[Utterance]):
    """Distinct for distinct ids: a message that names it leads to one place."""
    where = {u.origin: u.id for u in utterances}
    assert all(u.origin and "\n" not in u.origin for u in utterances)
    assert all(where[u.origin] == u.id for u in utterances)


def test_segments_lie_inside_the_audio_in_order(utterances: list[Utterance]):
    for u in utterances:
        for segments in (u.words, u.phones):
            assert isinstance(segments, tuple)
            assert all(0 <= s.start <= s.end <= u.audio.num_samples for s in segments)
            assert [s.start for s in segments] == sorted(s.start for s in segments)


def test_utterances_cannot_be_changed(utterances: list[Utterance]):
    with pytest.raises(dataclasses.FrozenInstanceError):
        utterances[0].text = "something else"  # type: ignore[misc]


def test_corrections_leave_out_and_replace(
    config: CorpusConfig, opened: Callable[[], Corpus], splits: dict[str, list[Utterance]], tmp_path: Path
):
    """Reference: the corpus without corrections. No reader knows of them."""
    train = opened().splits.train
    before = splits[train]
    left_out, mended = before[0].id, before[-1].id
    (tmp_path / "bad.txt").write_text(f"{left_out}\n")
    (tmp_path / "fix.jsonl").write_text(json.dumps({"id": mended, "text": "mended"}) + "\n")
    config = dataclasses.replace(config, exclude=str(tmp_path / "bad.txt"), patch=str(tmp_path / "fix.jsonl"))
    corpus = corrected(opened(), config)
    assert corpus is not None
    after = read_split(corpus, train)
    assert [u.id for u in after] == [u.id for u in before[1:]]
    assert [u.text for u in after] == [*(u.text for u in before[1:-1]), "mended"]
    np.testing.assert_array_equal(after[len(after) - 1].audio.load(), before[-1].audio.load())
    scored = corpus.splits.monitor
    assert [u.text for u in read_split(corpus, scored)] == [u.text for u in splits[scored]]


def test_audio_loads_in_a_forked_worker(utterances: list[Utterance]):
    """Reference: the same source in this process; without a store the DataLoader's workers load it."""
    chosen = utterances[::7]
    examples = [Example(u, "", (1,), u.audio.num_samples, u.audio.load) for u in chosen]
    data = BatchDataset(examples, Frontend(lambda n: n // 320, do_normalize=False))
    loader = load_batches(data, lambda: ((0, (i,)) for i in range(len(chosen))), num_workers=1, pin_memory=False)
    for u, batch in zip(chosen, loader, strict=True):
        np.testing.assert_array_equal(batch.waveforms[0], u.audio.load())


def test_headline_is_scored_at_the_end_and_unselected_splits_only_then(corpus: Corpus):
    s = corpus.splits
    assert s.headline in s.closing
    assert not set(s.unselected) & {*s.closing, s.monitor, s.train}
    assert s.train not in (s.monitor, *s.closing)


def test_checksum_is_nothing_or_a_line_and_whether_to_warn(corpus: Corpus, splits: dict[str, list[Utterance]]):
    result = corpus.checksum(dict.fromkeys(splits, 10))
    if result is not None:
        line, is_suspicious = result
        assert "\n" not in line
        assert isinstance(is_suspicious, bool)


def test_title_is_one_line(corpus: Corpus):
    assert corpus.title.strip()
    assert "\n" not in corpus.title
