"""data.audio.store: what it keeps is what decoding gives, and it decodes once."""

from __future__ import annotations

import errno
import io
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile

import data.audio.store
from data.audio.decode import FileAudio
from data.audio.segments import AudioSegment
from data.audio.store import AudioStore, content_digests, open_store
from tests.helpers.audio import BytesAudio, flac_damaged_inside


class Opening:
    """open_store with its lines and its progress kept."""

    def __init__(self, cache_dir: Path) -> None:
        self.cache_dir = cache_dir
        self.lines: list[str] = []
        self.num_decoded = 0

    def __call__(self, sources: Sequence) -> AudioStore:
        self.lines, self.num_decoded = [], 0
        return open_store(sources, self.cache_dir, log=self.lines.append, progress=self._count)

    def _count(self, items: Iterator[None], total: int) -> Iterator[None]:
        for item in items:
            self.num_decoded += 1
            yield item
        assert self.num_decoded == total

    @property
    def folders(self) -> list[Path]:
        return sorted(p for p in (self.cache_dir / "audio").iterdir() if p.name != "listings")


@pytest.fixture
def opening(tmp_path: Path) -> Opening:
    return Opening(tmp_path / "cache")


@pytest.fixture
def mixed(write_tone: Callable) -> list[FileAudio]:
    """Lengths odd and even, 16-bit and not, so that every alignment occurs."""
    return [
        FileAudio(write_tone("m/0.wav", 0.1001, subtype="PCM_16")),
        FileAudio(write_tone("m/1.wav", 0.1, subtype="FLOAT")),
        FileAudio(write_tone("m/2.wav", 0.15, format="NIST", subtype="PCM_16")),
        FileAudio(write_tone("m/3.flac", 0.10007, subtype="PCM_16")),
        FileAudio(write_tone("m/4.wav", 0.2, subtype="PCM_24")),
        FileAudio(write_tone("m/5.ogg", 0.2)),
        FileAudio(write_tone("m/6.mp3", 0.2)),
        FileAudio(write_tone("m/7.wav", 0.10001, rate=8000, subtype="PCM_16")),
        FileAudio(write_tone("m/8.wav", 0.1, channels=2, subtype="PCM_16")),
    ]


def test_store_gives_bit_for_bit_what_decoding_gives(opening: Opening, mixed: list[FileAudio]):
    """Reference: load() of each source, in their order; no tolerance."""
    store = opening(mixed)
    assert opening.num_decoded == len(mixed)
    for i, source in enumerate(mixed):
        assert store.load(i).dtype == np.float32
        np.testing.assert_array_equal(store.load(i), source.load())


@pytest.mark.parametrize("container", [dict(), dict(format="NIST")], ids=["wav", "sphere"])
def test_every_16_bit_value_is_kept_as_soundfile_reads_it(opening: Opening, tmp_path: Path, container: dict):
    """Reference: soundfile.read as float32 over all 65,536 values, bit for bit; and two bytes a sample on disk."""
    every = np.arange(-32_768, 32_768).astype(np.int16)
    path = tmp_path / "every.wav"
    soundfile.write(path, every, 16_000, subtype="PCM_16", **container)
    store = opening([FileAudio(path)])
    np.testing.assert_array_equal(store.load(0), soundfile.read(path, dtype="float32")[0])
    assert (store.folder / "samples.bin").stat().st_size == 2 * 65_536


def test_only_16_bit_mono_at_16_khz_is_kept_as_integers(opening: Opening, mixed: list[FileAudio]):
    assert opening(mixed).is_int16.tolist() == [True, False, True, True, False, False, False, False, False]


def test_second_opening_reads_no_file(opening: Opening, mixed: list[FileAudio], monkeypatch: pytest.MonkeyPatch):
    opening(mixed)
    expected = [source.load() for source in mixed]
    again = [FileAudio(source.path) for source in mixed]
    monkeypatch.setattr(FileAudio, "open", lambda self: pytest.fail(f"{self.path} was opened"))
    store = opening(again)
    assert (opening.lines, opening.num_decoded) == ([], 0)
    for i, samples in enumerate(expected):
        np.testing.assert_array_equal(store.load(i), samples)


def test_moved_copy_of_the_corpus_shares_the_store(opening: Opening, mixed: list[FileAudio], tmp_path: Path):
    first = opening(mixed)
    shutil.copytree(tmp_path / "m", tmp_path / "elsewhere")
    moved = [FileAudio(tmp_path / "elsewhere" / source.path.name) for source in mixed]
    assert content_digests(moved) == content_digests(mixed)
    assert opening(moved).folder == first.folder
    assert opening.num_decoded == 0


def test_touched_file_is_hashed_again_but_not_decoded(opening: Opening, mixed: list[FileAudio]):
    first = opening(mixed)
    os.utime(mixed[0].path, ns=(1, 1))
    assert opening([FileAudio(source.path) for source in mixed]).folder == first.folder
    assert opening.num_decoded == 0


def test_changed_byte_gives_another_store(opening: Opening, mixed: list[FileAudio]):
    first = opening(mixed)
    path, before = mixed[0].path, mixed[0].load()
    content = bytearray(path.read_bytes())
    content[-1] ^= 0x40  # the high byte of the last sample
    path.write_bytes(content)
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1_000_000))
    second = opening([FileAudio(source.path) for source in mixed])
    assert second.folder != first.folder
    assert second.load(0)[-1] != before[-1]
    np.testing.assert_array_equal(second.load(0)[:-1], before[:-1])


@pytest.mark.parametrize("change", ["order", "fewer", "cut elsewhere"])
def test_other_list_of_sources_gives_another_key(change: str):
    sources = [BytesAudio(data, "x", data.hex()) for data in (b"ab", b"c", b"d")]
    others = {
        "order": [sources[1], sources[0], sources[2]],
        "fewer": sources[:2],
        "cut elsewhere": [BytesAudio(data, "x", data.hex()) for data in (b"a", b"bc", b"d")],
    }
    assert content_digests(others[change]) != content_digests(sources)


def test_order_of_sources_is_the_order_of_the_store(opening: Opening, mixed: list[FileAudio]):
    opening(mixed)
    turned = mixed[::-1]
    store = opening(turned)
    for i, source in enumerate(turned):
        np.testing.assert_array_equal(store.load(i), source.load())


@pytest.mark.parametrize("damage", ["cut samples", "no samples", "broken index", "empty index", "index of others"])
def test_damaged_store_is_made_again(opening: Opening, mixed: list[FileAudio], damage: str, tmp_path: Path):
    folder = opening(mixed).folder
    if damage == "cut samples":
        os.truncate(folder / "samples.bin", 1000)
    elif damage == "no samples":
        (folder / "samples.bin").unlink()
    elif damage == "broken index":
        os.truncate(folder / "index.arrow", 1000)
    elif damage == "empty index":
        os.truncate(folder / "index.arrow", 0)
    else:
        shutil.copy(Opening(tmp_path / "other")(mixed[:-1]).folder / "index.arrow", folder)
    store = opening(mixed)
    assert opening.num_decoded == len(mixed)
    np.testing.assert_array_equal(store.load(8), mixed[8].load())


def test_size_and_hours_are_announced_before_anything_is_decoded(
    opening: Opening, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Reference: 2 bytes a sample of a 16-bit file, 4 of a float file: 2 * 1.6e6 + 4 * 1.6e6 bytes for 2 * 100 s."""
    silence = np.zeros(1_600_000, np.float32)
    for name, subtype in (("a.wav", "PCM_16"), ("b.wav", "FLOAT")):
        soundfile.write(tmp_path / name, silence, 16_000, subtype=subtype)
    known_when_decoding: list[list[str]] = []
    load = FileAudio.load

    def spied(self: FileAudio) -> np.ndarray:
        known_when_decoding.append(list(opening.lines))
        return load(self)

    monkeypatch.setattr(FileAudio, "load", spied)
    opening([FileAudio(tmp_path / "a.wav"), FileAudio(tmp_path / "b.wav")])
    assert known_when_decoding[0] == opening.lines
    assert len(opening.lines) == 1
    assert "2 files (0.06 h)" in opening.lines[0]
    assert "(10 MB)" in opening.lines[0]
    assert str(opening.folders[0]) in opening.lines[0]


def test_what_fails_to_decode_is_kept_as_a_message_and_harms_no_other(opening: Opening, mixed: list[FileAudio]):
    bad = mixed[3]
    bad.path.write_bytes(bad.path.read_bytes()[:1200])
    for _ in range(2):  # made, then read again
        store = opening(mixed)
        assert list(store.failures) == [3]
        assert str(bad.path) in store.failures[3]
        assert store.lengths[3] == 0
        for i in (2, 4):
            np.testing.assert_array_equal(store.load(i), mixed[i].load())
    assert opening.num_decoded == 0


def test_interrupted_decoding_leaves_an_empty_lock_only(opening: Opening, mixed: list[FileAudio], monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(BytesAudio, "load", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            opening([*mixed, BytesAudio(mixed[0].raw(), "x", "x")])
    left = [path for path in (opening.cache_dir / "audio").rglob("*") if path.is_file()]
    assert [(path.suffix, path.stat().st_size) for path in left] == [(".lock", 0)]


def test_cache_that_cannot_be_written_is_an_os_error(opening: Opening, mixed: list[FileAudio]):
    opening.cache_dir.write_text("a file where the folder should be")
    with pytest.raises(OSError, match="cache"):
        opening(mixed)


def test_more_sources_than_one_slice_keep_their_order_types_and_failures(opening: Opening):
    """200 sources are decoded in several slices by two threads; every third is float, number 130 is damaged."""
    subtypes = ["PCM_16", "PCM_16", "FLOAT"]
    encoded = [_wav(np.full(5 + i % 7, (i + 1) / 256, np.float32), subtypes[i % 3]) for i in range(200)]
    sources = [BytesAudio(data, str(i), str(i)) for i, data in enumerate(encoded)]
    sources[130] = BytesAudio(flac_damaged_inside(), "130", "130")
    store = opening(sources)
    assert list(store.failures) == [130]
    assert store.is_int16.tolist() == [i % 3 != 2 or i == 130 for i in range(200)]
    for i in range(200):
        if i != 130:
            np.testing.assert_array_equal(store.load(i), np.full(5 + i % 7, (i + 1) / 256, np.float32))


def test_every_utterance_starts_at_a_multiple_of_four_bytes(opening: Opening, mixed: list[FileAudio]):
    """Odd numbers of 16-bit samples are padded: numpy then views floats in place, aligned."""
    store = opening(mixed)
    assert any(length % 2 for length, is_int16 in zip(store.lengths, store.is_int16, strict=True) if is_int16)
    assert all(offset % 4 == 0 for offset in store.offsets)


def test_identities_that_run_together_are_told_apart(opening: Opening):
    """ "ab", "c" and "a", "bc" are two listings."""
    one, two, three = (_wav(np.full(8, value, np.float32), "PCM_16") for value in (0.25, 0.5, 0.75))
    opening([BytesAudio(one, "x", "ab"), BytesAudio(two, "y", "c")])
    store = opening([BytesAudio(three, "x", "a"), BytesAudio(two, "y", "bc")])
    assert store.load(0)[0] == 0.75


def test_loaded_samples_may_be_changed_without_changing_the_store(opening: Opening, mixed: list[FileAudio]):
    store = opening(mixed)
    for i in (0, 1):
        store.load(i)[:] = 0
        assert np.abs(store.load(i)).max() > 0.1


def _wav(samples: np.ndarray, subtype: str) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, 16_000, format="WAV", subtype=subtype)
    return buffer.getvalue()


def open_at_once(num_processes: int, sources: Sequence, cache_dir: Path) -> list[str]:
    """Open the store of `sources` in that many processes at the same moment; what went wrong in each, or ""."""
    context = multiprocessing.get_context("fork")
    barrier, answers = context.Barrier(num_processes), context.SimpleQueue()

    def open_and_compare() -> None:
        try:
            barrier.wait(30)
            store = Opening(cache_dir)(sources)
            same = all(np.array_equal(store.load(i), source.load()) for i, source in enumerate(sources))
            answers.put("" if same else "other samples")
        except BaseException as error:
            answers.put(repr(error))

    children = [context.Process(target=open_and_compare) for _ in range(num_processes)]
    for child in children:
        child.start()
    found = [answers.get() for _ in children]
    for child in children:
        child.join(30)
    return found


def test_processes_that_open_an_empty_cache_at_once_all_get_the_store(write_tone: Callable, tmp_path: Path) -> None:
    """Without a lock one of them removes what another has just published: more than one opening in ten dies."""
    sources = [FileAudio(write_tone(f"{i}.wav", 0.05 + 0.01 * i, subtype="PCM_16")) for i in range(8)]
    for number in range(6):
        cache_dir = tmp_path / f"cache-{number}"
        assert open_at_once(4, sources, cache_dir) == [""] * 4
        assert len(Opening(cache_dir).folders) == 1


def test_what_a_killed_process_left_is_in_nobodys_way(opening: Opening, mixed: list[FileAudio]) -> None:
    store = opening(mixed)
    shutil.rmtree(opening.cache_dir / "audio" / "listings")
    store.folder.rename(store.folder.with_name(f"{store.folder.name}.part"))
    again = opening(mixed)
    assert opening.folders == [again.folder]
    assert all(np.array_equal(again.load(i), source.load()) for i, source in enumerate(mixed))


def test_several_processes_write_the_store_of_one(
    opening: Opening, mixed: list[FileAudio], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Byte for byte, with a file that fails to decode and with parts of one file."""
    mixed[3].path.write_bytes(mixed[3].path.read_bytes()[:1200])
    parts = [AudioSegment(mixed[6], start, start + 0.05) for start in (0.0, 0.05, 0.1)]  # of an MP3
    sources = [*mixed, *parts]
    alone = opening(sources)
    monkeypatch.setattr(data.audio.store, "SLICE", 2)
    monkeypatch.setattr(data.audio.store, "WORTH_A_PROCESS", 0.01)
    monkeypatch.setattr(data.audio.store, "num_cores", lambda: 3)
    here = os.getpid()
    monkeypatch.setattr(FileAudio, "load", lambda self: elsewhere(self, here))
    together = Opening(tmp_path / "other")
    store = together(sources)
    assert list(store.failures) == [3]
    for name in ("samples.bin", "index.arrow"):
        assert (store.folder / name).read_bytes() == (alone.folder / name).read_bytes()


def elsewhere(source: FileAudio, pid: int) -> np.ndarray:
    """The samples of `source`, if this is not process `pid`."""
    assert os.getpid() != pid, "decoded in the process that waits"
    return super(FileAudio, source).load()


def test_full_disk_is_an_error_of_the_disk_whichever_process_meets_it(
    opening: Opening, mixed: list[FileAudio], monkeypatch: pytest.MonkeyPatch
):
    def no_room(*args: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(data.audio.store.os, "pwrite", no_room)
    for seconds in (1e9, 0.01):
        monkeypatch.setattr(data.audio.store, "WORTH_A_PROCESS", seconds)
        with pytest.raises(OSError, match="No space left") as caught:
            opening(mixed)
        assert caught.value.errno == errno.ENOSPC
        assert not opening.folders


def test_parts_of_one_file_stay_in_one_slice(mixed: list[FileAudio], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(data.audio.store, "SLICE", 2)
    parts = [AudioSegment(mixed[6], start, start + 0.01) for start in (0.0, 0.05, 0.1)]
    assert data.audio.store._slices([mixed[0], *parts, mixed[1], mixed[2]]) == [range(4), range(4, 6)]


def test_a_disk_without_locks_gives_a_store_and_a_warning(
    mixed: list[FileAudio], opening: Opening, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lustre without -o flock answers so."""

    def flock(*_: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr("fcntl.flock", flock)
    store = opening(mixed)
    assert all(np.array_equal(store.load(i), source.load()) for i, source in enumerate(mixed))
    assert [line for line in opening.lines if "has no locks (Function not implemented)" in line]
    opening(mixed)
    assert opening.lines == [], "it is there: nothing is written, no lock is needed"
