"""Shards behind a real S3 server (moto, over HTTP), read as training and scoring read them.

pytest -m slow tests/data/shards/test_s3.py
"""

from __future__ import annotations

import os
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import numpy as np
import pytest
import soundfile

from data.audio.decode import FileAudio
from data.batches.collate import BatchDataset, Frontend
from data.batches.loading import load_batches
from data.batches.plan import BatchPlan
from data.config import BatchingConfig
from data.corpora.shards import ShardsConfig
from data.examples.prepare import prepare_training, read_split
from data.examples.table import ExampleTable, lengths_of
from data.shards.index import Seal
from data.shards.storage import RemoteFolder
from data.shards.table import Shards
from data.text.normalise import plain
from data.text.vocab import Vocab
from data.utterance import Utterance
from tests.helpers.object_store import s3_server, upload
from trainer.errors import CorpusError, StorageError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_server() as url:
        yield url


@pytest.fixture
def utterances(tmp_path: Path) -> list[Utterance]:
    rng, found = np.random.default_rng(0), []
    for i in range(10):
        path = tmp_path / f"{i}.wav"
        soundfile.write(path, rng.uniform(-0.5, 0.5, 4000 + 500 * i), 16_000, subtype="PCM_16")
        found.append(Utterance(f"u/{i}", FileAudio(path), f"word {i}", f"s{i % 2}"))
    return found


def frames(n: int) -> int:
    return n // 320


def test_training_batches_of_a_bucket_are_those_of_the_files(
    server: str, utterances: list[Utterance], packed: Callable[..., Seal], tmp_path: Path
):
    """Reference: the same plan over the files themselves. Two workers, so that connections are made after forks."""
    packed(utterances)
    url = upload(server, tmp_path / "shards", "corpus", "a/b")
    config = ShardsConfig(train=url, eval=url)
    table = read_split(config.open(tmp_path / "cache", lambda done, total: None), "train")
    vocab = Vocab.build([plain(u.text) for u in utterances])
    settings = dict(max_seconds=30.0, max_speed=1.0, on_bad="error", split="train")
    remote, _ = prepare_training(table, plain, vocab, frames, **settings)  # type: ignore[arg-type]
    local, _ = prepare_training(utterances, plain, vocab, frames, **settings)  # type: ignore[arg-type]
    assert isinstance(remote, ExampleTable)
    plan = BatchPlan(lengths_of(remote), [u.id for u in utterances], BatchingConfig(batch_size=4), seed=3, epochs=1)
    for num_workers in (2, 0):
        found = load_batches(
            BatchDataset(remote, Frontend(frames), plan),
            lambda: ((0, list(batch)) for batch in plan.batches(0)),
            num_workers=num_workers,
            pin_memory=False,
            timeout_seconds=60,
        )
        expected = BatchDataset(local, Frontend(frames), plan)
        num_batches = 0
        for batch, positions in zip(found, plan.batches(0), strict=True):
            wanted = expected[0, list(positions)]
            assert (batch.ids, batch.waveforms.tolist()) == (wanted.ids, wanted.waveforms.tolist())
            assert batch.targets.tolist() == wanted.targets.tolist()
            num_batches += 1
        assert num_batches == 3
    # everything is on this machine now: without the bucket the next epoch is read all the same
    client = boto3.client("s3", endpoint_url=server)
    for shard in ("shard-000000.tar", "shard-000001.tar", "shard-000002.tar", "shard-000003.tar"):
        client.delete_object(Bucket="corpus", Key=f"a/b/{shard}")
    assert all(np.array_equal(remote[i].load(), local[i].load()) for i in range(10))


def test_what_is_wrong_with_a_bucket_is_one_line(
    server: str,
    utterances: list[Utterance],
    packed: Callable[..., Seal],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    packed(utterances)
    url = upload(server, tmp_path / "shards", "wrong", "c")
    client = boto3.client("s3", endpoint_url=server)
    with pytest.raises(CorpusError, match="there is no bucket nowhere"):
        Shards("s3://nowhere/c", tmp_path / "cache", 10**9)
    with pytest.raises(CorpusError, match=r"wrong/d/shards.json: there is no such file"):
        Shards("s3://wrong/d", tmp_path / "cache", 10**9)
    shards = Shards(url, tmp_path / "cache", 0)
    row = shards.index.slice(0, 1).to_pylist()[0]
    where = (row["shard"], row["offset"], row["bytes"], row["digest"], row["id"])
    assert shards.fetch(*where)
    content = (tmp_path / "shards/shard-000000.tar").read_bytes()
    client.put_object(Bucket="wrong", Key="c/shard-000000.tar", Body=content[:-1024])
    with pytest.raises(
        CorpusError, match=r"shard-000000.tar: has \d+ bytes, and had \d+ when it was indexed: truncated"
    ):
        Shards(url, tmp_path / "cache", 0)
    client.put_object(Bucket="wrong", Key="c/shard-000000.tar", Body=bytes(len(content)))
    with pytest.raises(StorageError, match=r"at byte 512 .utterance u/0.: the bytes are not those that were indexed"):
        shards.fetch(*where)
    client.put_object(Bucket="wrong", Key="c/shard-000000.tar", Body=content[:600])
    with pytest.raises(StorageError, match=r"88 of \d+ bytes are there: truncated"):
        shards.fetch(*where)
    client.delete_object(Bucket="wrong", Key="c/shard-000000.tar")
    with pytest.raises(CorpusError, match=r"shard-000000.tar: is missing"):
        Shards(url, tmp_path / "cache", 0)
    with pytest.raises(StorageError, match=r"shard-000000.tar at byte 512 .utterance u/0.: there is no such file"):
        shards.fetch(*where)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(CorpusError, match="no rights to read it"):
        Shards(url, tmp_path / "cache", 0)


def test_a_user_without_rights_on_the_bucket_is_told_so(monkeypatch: pytest.MonkeyPatch):
    """A signed request that no policy allows: answered by HTTP 403, with a reason in its body or without one."""
    with s3_server() as url:
        client, users = boto3.client("s3", endpoint_url=url), boto3.client("iam", endpoint_url=url)
        client.create_bucket(Bucket="closed")
        client.put_object(Bucket="closed", Key="c/shards.json", Body=b"{}")
        users.create_user(UserName="guest")
        key = users.create_access_key(UserName="guest")["AccessKey"]
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
        enforce = urllib.request.Request(f"{url}/moto-api/reset-auth", b"0", {"Content-Type": "text/plain"})
        urllib.request.urlopen(enforce).close()  # from now on the server asks who may do what
        folder = RemoteFolder("s3://closed/c", pauses=(0.01,))
        with pytest.raises(CorpusError, match=r"s3://closed/c/shards.json: no rights to read it"):
            folder.read_whole("shards.json")
        with pytest.raises(CorpusError, match=r"s3://closed/c: no rights to read it"):
            folder.sizes()
        with pytest.raises(StorageError, match=r"shard-1.tar at byte 5 .utterance x.: no rights to read it"):
            folder.read("shard-1.tar", 5, 10, "utterance x")


def test_a_store_that_is_gone_ends_in_a_named_error(utterances: list[Utterance]):
    os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")
    with s3_server() as url:
        folder = RemoteFolder("s3://bucket/a", pauses=(0.01, 0.02))
        boto3.client("s3", endpoint_url=url).create_bucket(Bucket="bucket")
        with pytest.raises(CorpusError, match="no such file"):
            folder.read_whole("shards.json")
    os.environ.update(AWS_ENDPOINT_URL=url, AWS_ACCESS_KEY_ID="key", AWS_SECRET_ACCESS_KEY="secret")
    try:
        with pytest.raises(StorageError, match=r"shard-1.tar at byte 5 .utterance x.: no answer after 3 tries in"):
            RemoteFolder("s3://bucket/a", pauses=(0.01, 0.02)).read("shard-1.tar", 5, 10, "utterance x")
    finally:
        for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            del os.environ[name]
