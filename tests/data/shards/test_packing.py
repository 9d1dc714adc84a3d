"""What lies in a shard decodes to the very samples of its source, whatever that is.

pytest tests/data/shards/test_packing.py
"""

from __future__ import annotations

import doctest
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

import data.shards.parts
import data.shards.tarring
from data.audio.decode import FileAudio
from data.audio.sampled import SampledAudio, digest_of
from data.audio.segments import AudioSegment
from data.audio.store import content_digests
from data.shards.index import Seal
from data.shards.packing import encode, pack
from data.shards.table import Shards, ShardTable
from data.shards.tarring import id_of, key_of
from data.utterance import AudioSource, Utterance
from trainer.errors import AudioError

KINDS = {
    "8 bits": ("wav", 8000, 1, "PCM_U8", "flac"),
    "16 bits": ("wav", 16_000, 1, "PCM_16", "flac"),
    "16 bits, stereo": ("wav", 48_000, 2, "PCM_16", "flac"),
    "24 bits": ("wav", 44_100, 1, "PCM_24", "flac"),
    "24 bits, stereo": ("wav", 44_100, 2, "PCM_24", "wav"),  # half a unit more than FLAC's 24 bits
    "32 bits": ("wav", 16_000, 1, "PCM_32", "wav"),
    "float": ("wav", 16_000, 1, "FLOAT", "wav"),
    "double": ("wav", 16_000, 1, "DOUBLE", "wav"),
    "mu-law": ("wav", 8000, 1, "ULAW", "flac"),
    "aiff": ("aiff", 11_025, 1, "PCM_S8", "flac"),
    "flac": ("flac", 22_050, 2, "PCM_16", "flac"),
    "vorbis": ("ogg", 16_000, 1, "VORBIS", "ogg"),
    "mp3": ("mp3", 44_100, 1, None, "mp3"),
}


def write(folder: Path, kind: str, seconds: float = 0.2) -> AudioSource:
    suffix, rate, channels, subtype, _ = KINDS[kind]
    samples = np.random.default_rng(1).uniform(-0.5, 0.5, (int(rate * seconds), channels))
    path = folder / f"{kind}.{suffix}"
    soundfile.write(path, samples, rate, subtype=subtype)
    return FileAudio(path)


def read_back(content: bytes, folder: Path) -> np.ndarray:
    path = folder / "packed"
    path.write_bytes(content)
    return FileAudio(path).load()


@pytest.mark.parametrize("kind", KINDS)
def test_packed_audio_decodes_to_the_bits_of_its_source(kind: str, tmp_path: Path):
    source = write(tmp_path, kind)
    packed = pack(source)
    assert packed.suffix == KINDS[kind][-1]
    assert read_back(packed.content, tmp_path).tobytes() == source.load().tobytes()
    assert packed.header.num_frames == source.header.num_frames
    if packed.suffix in ("mp3", "ogg") or kind == "flac":
        assert packed.content == source.raw()


@pytest.mark.parametrize("kind", ["16 bits, stereo", "float", "mp3", "flac", "vorbis"])
def test_part_of_a_file_becomes_a_file_with_its_bits(kind: str, tmp_path: Path):
    part = AudioSegment(write(tmp_path, kind, 1.0), 0.25, 0.7)  # type: ignore[arg-type]
    packed = pack(part)
    assert read_back(packed.content, tmp_path).tobytes() == part.load().tobytes()
    assert packed.part == part.frames


@pytest.mark.parametrize("kind", ["16 bits, stereo", "24 bits, stereo", "flac"])
@pytest.mark.parametrize("channel", [0, 1])
def test_a_channel_becomes_a_file_of_one_with_its_bits(kind: str, channel: int, tmp_path: Path):
    """Whole numbers stay whole: nothing is averaged. Its digest is the one that a store of decoded audio has of it."""
    source = AudioSegment(write(tmp_path, kind), channel=channel)  # type: ignore[arg-type]
    packed = pack(source)
    assert (packed.suffix, packed.header.num_channels) == ("flac", 1)
    assert read_back(packed.content, tmp_path).tobytes() == source.load().tobytes()
    assert packed.part is not None
    known = f"{packed.source.hex()}:{packed.part[0]}-{packed.part[1]}"
    assert content_digests([source]).to_pylist() == [known]
    assert packed.source != pack(AudioSegment(source.whole, channel=1 - channel)).source


def test_the_only_channel_of_a_compressed_file_keeps_its_bytes(tmp_path: Path):
    source = write(tmp_path, "vorbis")
    assert pack(AudioSegment(source, channel=0)).content == source.raw()  # type: ignore[arg-type]


def test_samples_of_a_program_are_packed_with_their_bits(tmp_path: Path):
    samples = np.random.default_rng(0).normal(0, 0.1, 3000).astype(np.float32)
    source = SampledAudio("given", lambda: samples, len(samples), digest_of(samples), 22_050)
    assert read_back(pack(source).content, tmp_path).tobytes() == source.load().tobytes()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(-(2**23), 2**23 - 1), min_size=1, max_size=40),
    st.sampled_from([1, 2, 256, 512]),
    st.sampled_from([16_000, 44_100, 5512, 65_537]),
)
def test_every_value_comes_back(values: list[int], step: int, rate: int):
    """Whole numbers of 24 bits, coarser ones, and a zero with a sign, which no FLAC holds."""
    mono = (np.array(values, np.float64) // step * step / 2**23).astype(np.float32)
    mono[-1] = -0.0
    content, suffix = encode(mono, rate)
    assert soundfile.read(io.BytesIO(content), dtype="float32")[0].tobytes() == mono.tobytes()
    assert suffix == "wav"
    mono[-1] = 0.0
    content, _ = encode(mono, rate)
    assert soundfile.read(io.BytesIO(content), dtype="float32")[0].tobytes() == mono.tobytes()


def test_silence_and_damage_are_refused(tmp_path: Path):
    soundfile.write(tmp_path / "silent.wav", np.zeros(1000), 16_000)
    with pytest.raises(AudioError, match="all its samples are zero"):
        pack(FileAudio(tmp_path / "silent.wav"))


# Ids

ODD_IDS = ["a.b", "../../etc/passwd", "wav/a b.flac", "ü", "名前", "x" * 500, "=", "a=2eb", ".", "A", "a", "n\u0301"]


@settings(max_examples=50)
@given(st.text(min_size=1))
def test_a_key_is_plain_and_gives_the_id_back(id: str):
    key = key_of(id)
    assert key.isascii()
    assert not set(key) & set("./\\ \0")
    assert len(key) <= 88
    assert id_of(key) in (id, None)
    assert id_of(key) == id or len(id.encode("utf-8", "surrogatepass")) > 29


def test_odd_ids_go_through_shards(packed: Callable[..., Seal], tmp_path: Path):
    """Keys are read by Python's tarfile and cut at the first dot, as WebDataset cuts them."""
    source = write(tmp_path, "16 bits")
    seal = packed([Utterance(id, source, f"text {id}", "s") for id in ODD_IDS])
    table = ShardTable(Shards(str(tmp_path / "shards"), tmp_path / "cache", 0))
    assert [(u.id, u.text) for u in table] == [(id, f"text {id}") for id in ODD_IDS]
    assert table[2].audio.load().tobytes() == source.load().tobytes()
    found: dict[str, dict[str, bytes]] = {}
    for shard in seal.shards:
        with tarfile.open(tmp_path / "shards" / shard.name) as tar:
            for info in tar.getmembers():
                assert (info.mtime, info.uid, info.gid, info.uname) == (0, 0, 0, "")
                key, _, suffix = info.name.partition(".")
                file = tar.extractfile(info)
                assert file is not None
                found.setdefault(key, {})[suffix] = file.read()
    assert [json.loads(files["json"])["id"] for files in found.values()] == ODD_IDS
    assert all(files.keys() == {"flac", "json"} for files in found.values())


def test_examples_in_docstrings():
    for module in (data.shards.tarring, data.shards.parts):
        assert doctest.testmod(module).failed == 0
