"""10,000 mutated inputs for each reader of foreign files: refused by an error of ours, or read right.

Right is what an independent parser (tests.helpers.reference) reads from the same bytes. Anything but a ValueError
subclass of this project fails, ten seconds for one input too. The inputs are the same every time (derandomize).
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from data.audio.segments import AudioSegment
from data.corpora.manifest import ManifestConfig, ManifestCorpus
from data.corpora.timit.labels import read_segments, read_transcript
from data.examples.prepare import read_split
from tests.helpers.audio import BytesAudio
from tests.helpers.fuzz import EVERY_INPUT, NUM_INPUTS, mutated
from tests.helpers.reference import (
    Utterances,
    reference_checkpoint,
    reference_manifest,
    reference_segments,
    reference_sphere,
    reference_transcript,
)
from trainer.loop.state import TrainState
from trainer.loop.step import TrainingParts
from trainer.rundir.checkpoints.restore import newest_valid, restore
from trainer.rundir.checkpoints.saving import Saver

if TYPE_CHECKING:
    from tests.helpers.refused import Tally

pytestmark = pytest.mark.slow


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder in memory, where there is such a thing: 10,000 files are written to it."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        yield Path(name)


def mutated_of_each(
    originals: dict[str, list[bytes]], values: Sequence[bytes], focus: int
) -> st.SearchStrategy[tuple[str, bytes]]:
    """(kind, a mutation of one of its originals)."""
    return st.one_of(
        *(st.tuples(st.just(kind), mutated(of_kind, values, focus)) for kind, of_kind in originals.items())
    )


# SPHERE


def sphere(data: bytes, **fields: object) -> bytes:
    lines = [f"{k} -i {v}" if isinstance(v, int) else f"{k} -s{len(str(v))} {v}" for k, v in fields.items()]
    return "\n".join(["NIST_1A", "   1024", *lines, "end_head", ""]).encode().ljust(1024) + data


_RNG = np.random.default_rng(0)
SPHERES = [
    sphere(_RNG.integers(-3000, 3000, 48, np.int16).astype("<i2").tobytes(), database_id="TIMIT", channel_count=1,
           sample_count=48, sample_rate=16_000, sample_min=-2191, sample_max=2790, sample_n_bytes=2,
           sample_byte_format="01", sample_sig_bits=16),
    sphere(_RNG.integers(-3000, 3000, 64, np.int16).astype(">i2").tobytes(), channel_count=2, sample_count=32,
           sample_rate=16_000, sample_n_bytes=2, sample_byte_format="10", sample_coding="pcm",
           channels_interleaved="TRUE"),
    sphere(_RNG.bytes(60), channel_count=1, sample_count=60, sample_rate=8000, sample_n_bytes=1, sample_coding="ulaw"),
    sphere(_RNG.bytes(60), channel_count=1, sample_count=60, sample_rate=16_000, sample_n_bytes=1,
           sample_byte_format="1", sample_coding="alaw"),
    sphere(_RNG.bytes(60), channel_count=1, sample_count=20, sample_rate=16_000, sample_n_bytes=3,
           sample_byte_format="210", sample_coding="pcm"),
    sphere(_RNG.bytes(80), channel_count=1, sample_count=20, sample_rate=16_000, sample_n_bytes=4,
           sample_byte_format="0123"),
    sphere(_RNG.bytes(60), channel_count=1, sample_count=60, sample_rate=16_000, sample_n_bytes=1,
           sample_coding="pcm,embedded-shorten-v2.00"),
]  # fmt: skip
SPHERE_VALUES = [
    b"0", b"1", b"2", b"3", b"4", b"24", b"20", b"30", b"32", b"47", b"48", b"49", b"60", b"96", b"8000", b"16000",
    b"44100", b"1024", b"2048", b"-1", b"99999999999", b"01", b"10", b"012", b"210", b"3210", b"pcm", b"ulaw", b"alaw",
    b"pcm,embedded-shorten-v2.00", b"-i", b"-s2", b"-s3", b"-s4", b"-r", b"FALSE", b"end_head", b"sample_count",
    b"sample_coding", b"",
]  # fmt: skip


def test_sphere_files_are_refused_or_read_as_the_reference_reads_them(compare: Callable, tally: Tally) -> None:
    for content in SPHERES[:-1]:
        assert BytesAudio(content, "a", "a").load().tolist() == reference_sphere(content)

    @EVERY_INPUT
    @given(mutated(SPHERES, SPHERE_VALUES, focus=330))
    def fuzz(content: bytes) -> None:
        compare(lambda: BytesAudio(content, "a", "a").load().tolist(), lambda: reference_sphere(content), "a: ")

    fuzz()
    assert tally.tried >= NUM_INPUTS
    assert min(tally.refused, tally.accepted) > NUM_INPUTS / 20, "the mutations are too strong or too weak"


# Manifests


ROWS = [
    {"id": "s1-1", "audio_filepath": "wav/1.flac", "text": "so it goes", "speaker": "s1", "duration": 1.7},
    {"id": "s1-2", "audio_filepath": "wav/2.flac", "text": 'comma, and "quotes"', "speaker": "s1", "duration": 2},
    {"id": "s2-1", "audio_filepath": "/abs/ä ö.flac", "text": "über élan", "speaker": "", "duration": None},
]
JSON_LINES = [
    "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode(),
    b"\xef\xbb\xbf" + "".join(json.dumps(row) + "\r\n" for row in ROWS[::-1]).encode(),
    json.dumps(ROWS, indent=1).encode("utf-16"),
    b'{"path": "a.wav", "sentence": "one", "start": 0, "end": 0.7}\n'
    b'{"path": "a.wav", "sentence": "b", "start": 0.7, "end": 1}',
    b'{"audio_filepath": "a.wav", "text": "one\\ttwo \\u00e9 \\ud83d\\ude00", "offset": 0, "x": [1, {"y": true}]}\n\n',
]
TABLES = [
    b'id,audio_filepath,text,speaker\ns1-1,wav/1.flac,so it goes,s1\ns1-2,wav/2.flac,"comma, and ""quotes""",s1\n',
    b'\xef\xbb\xbfid,audio_filepath,text\r\n1,a.wav,"two ""words"""\r\n\r\n2,b.wav,\xc3\xa9lan\r\n',
    b"audio_filepath,text\n\na.wav,one\nb.wav,two",
    'path,sentence,client_id,offset,duration\na.wav,he said "é",x,0,0.5\na.wav,"é" too,x,0.5,0.5\n'.encode("utf-16-le"),
]
MANIFESTS = {
    ".jsonl": JSON_LINES,
    ".csv": TABLES,
    ".tsv": [table.replace(b"comma, and", b"comma and").replace(b",", b"\t") for table in TABLES],
}
MANIFEST_VALUES = [
    b"", b"null", b"true", b"1.5", b"-0", b"1e999", b"NaN", b'"a"', b'"', b'""', b"'", b"[1]", b"{}", b"{", b"\\ud83d",
    b'\\"', b"\\u0000", b"\\u0007", b"id", b"text", b"audio_filepath", b"speaker", b"offset", b"s1-1", b"\n", b"\r\n",
    b"\r", b",", b"\t", b";", b"|", b"path", b"start", b"end", b"-1", b":", b"\xc2\x92",
    b"\xe2\x80\xa8", b"\xef\xbb\xbf", b"\xff", b"\0",
]  # fmt: skip


def test_manifests_are_refused_or_read_as_the_reference_reads_them(
    compare: Callable, tally: Tally, folder: Path
) -> None:
    def check(suffix: str, content: bytes) -> None:
        path = folder / f"m{suffix}"
        path.write_bytes(content)
        compare(lambda: _read_manifest(path), lambda: reference_manifest(content, suffix), str(path), both_ways=True)

    for suffix, contents in MANIFESTS.items():
        for content in contents:
            check(suffix, content)
    assert tally.refused == 0

    @EVERY_INPUT
    @given(mutated_of_each(MANIFESTS, MANIFEST_VALUES, focus=60))
    def fuzz(file: tuple[str, bytes]) -> None:
        check(*file)

    fuzz()
    assert tally.tried >= NUM_INPUTS
    assert min(tally.refused, tally.accepted) > NUM_INPUTS / 20


def _read_manifest(path: Path) -> Utterances:
    """What our reader finds; relative paths as if the manifest lay in /m."""
    found = []
    for u in read_split(ManifestCorpus(ManifestConfig(train=str(path))), "train"):
        part = u.audio if isinstance(u.audio, AudioSegment) else None
        name = part.whole.name if part else u.audio.name
        inside = name.startswith(f"{path.parent}/") or name == str(path.parent)
        name = "/m" + name.removeprefix(str(path.parent)) if inside else name
        bounds = (part.start, part.end) if part else (0.0, None)
        found.append((u.id, name, u.text, u.speaker, *bounds, u.stated_duration))
    return found


# Label files


LABELS = {
    ".TXT": [
        b"0 46797 She had your dark suit in greasy wash water all year.\n",
        b"\xef\xbb\xbf0 38912   Don't ask me to carry an oily rag like that.  \r\n",
        "0 1 Über élan, 'n' 3 more\n\n".encode(),
    ],
    ".WRD": [b"3050 5723 she\n5723 10337 had\n9190 11517 your\n", b"0 100 a\r\n100 200 b's\r\n"],
    ".PHN": [b"0 3050 h#\n3050 4559 sh\n4559 5723 ix\n5723 6642 hv\n", b"\n0 5 q\n5 9 ax-h"],
}
LABEL_VALUES = [
    b"", b"0", b"-1", b"1.5", b"1e5", b"9" * 10, b"9" * 11, b"9" * 5000, b"h#", b"sh", b" ", b"\n", b"\r\n", b"\r",
    b"\t", b"\x0b", b"\x1c", b"\xc2\x85", b"\xc2\xa0", b"\xe2\x80\xa8", b"\xd9\xa3", b"\xff", b"\xef\xbb\xbf", b"\0",
]  # fmt: skip


def test_labels_are_refused_or_read_as_the_reference_reads_them(compare: Callable, tally: Tally, folder: Path) -> None:
    def check(suffix: str, content: bytes) -> None:
        path = folder / f"SA1{suffix}"
        path.write_bytes(content)
        if suffix == ".TXT":
            compare(lambda: read_transcript(path), lambda: reference_transcript(content), str(path), both_ways=True)
        else:
            compare(lambda: _read_segments(path), lambda: reference_segments(content), str(path), both_ways=True)

    for suffix, contents in LABELS.items():
        for content in contents:
            check(suffix, content)
    assert tally.refused == 0

    @EVERY_INPUT
    @given(mutated_of_each(LABELS, LABEL_VALUES, focus=16))
    def fuzz(file: tuple[str, bytes]) -> None:
        check(*file)

    fuzz()
    assert tally.tried >= NUM_INPUTS
    assert min(tally.refused, tally.accepted) > NUM_INPUTS / 20


def _read_segments(path: Path) -> list[tuple[int, int, str]]:
    return [(s.start, s.end, s.label) for s in read_segments(path)]


# Checkpoints


def small_parts() -> TrainingParts:
    """Something to train of 8 parameters, after one step."""
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    scaler = SimpleNamespace(state_dict=dict, load_state_dict=lambda state: None)
    return TrainingParts(model, optimizer, scheduler, scaler, torch.device("cpu"), None)  # type: ignore[arg-type]


def as_bytes(tensors: dict[str, torch.Tensor]) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """The same for tensors in memory, all of them float32."""
    assert all(tensor.dtype is torch.float32 for tensor in tensors.values())
    return {name: ("F32", tuple(t.shape), t.detach().numpy().tobytes()) for name, t in tensors.items()}


CHECKPOINT_FILES = ("model.safetensors", "optimizer.safetensors", "state.json", "manifest.json")
CHECKPOINT_VALUES = [
    b"", b"0", b"1", b"-1", b"null", b"true", b"1e999", b"NaN", b"[]", b"{}", b"[", b"[" * 2000, b'"', b"F64", b"F16",
    b"BF16", b"I64", b"F8_E4M3", b"[2,3]", b"[3,2]", b"[6]", b"weight", b"bias", b"../x", b"state", b"step",
    b"18446744073709551615", b"9" * 400, b"\\u0000", b"manifest.json", b"a" * 300, b"\xff",
]  # fmt: skip


def test_checkpoints_are_refused_or_restored_as_the_reference_reads_them(
    compare: Callable, tally: Tally, folder: Path
) -> None:
    """Half of the changed files get a manifest that matches them: what a stranger, not a faulty disk, would do."""
    parts = small_parts()
    identity = {"options": {"seed": 1}, "content": {"torch": "2"}, "tokens": ["a", "b"]}
    saver = Saver(folder, 3, identity, pytest.fail)
    saver.save(parts, TrainState(step=1))
    assert saver.finish()
    step = folder / "checkpoints" / "step-00000001"
    originals = {name: (step / name).read_bytes() for name in CHECKPOINT_FILES}

    def read() -> dict[str, Any]:
        found = newest_valid(folder, lambda message: None)
        assert found is not None
        fresh = small_parts()
        state = restore(*found, fresh)
        assert isinstance(state, TrainState)
        names = {parameter: name for name, parameter in fresh.model.named_parameters()}
        moments = {f"{k}/{names[p]}": t for p, of_p in fresh.optimizer.state.items() for k, t in of_p.items()}
        return {"state": repr(found[1]), "model": as_bytes(fresh.model.state_dict()), "optimizer": as_bytes(moments),
                "last": fresh.scheduler.last_epoch}  # fmt: skip

    assert read() == reference_checkpoint(step)

    @EVERY_INPUT
    @given(st.data(), st.sampled_from(CHECKPOINT_FILES), st.booleans())
    def fuzz(data: st.DataObject, name: str, is_sealed: bool) -> None:
        content = data.draw(mutated([originals[name]], CHECKPOINT_VALUES, focus=400))
        changed = {**originals, name: content}
        if is_sealed and name != "manifest.json":
            entries = json.loads(originals["manifest.json"])["files"]
            entries[name] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            changed["manifest.json"] = json.dumps({"files": entries}).encode()
        for file, of_file in changed.items():
            (step / file).write_bytes(of_file)
        compare(read, lambda: reference_checkpoint(step), str(folder))

    fuzz()
    assert tally.tried >= NUM_INPUTS
    assert tally.accepted > NUM_INPUTS / 200, "what was changed into itself, or sealed again and still whole"
