"""data.shards.storage: what a folder is that was given for shards and is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from data.shards.index import SEAL
from data.shards.storage import LocalFolder
from trainer.errors import CorpusError


@pytest.mark.parametrize(
    ("files", "name", "message"),
    [
        (
            ["train-000.tar", "train-001.tar"],
            ".",
            "holds no shards.json. It holds train-000.tar, which another program",
        ),
        (["shard-000000.tar"], ".", "holds no shards.json. It holds shard-000000.tar, which another program packed"),
        (["a.tar.gz"], ".", "holds no shards.json. It holds a.tar.gz, which another program packed"),
        (
            ["train/shards.json", "dev/shards.json"],
            ".",
            "holds no shards.json. Those below it do: dev, train. Name one",
        ),
        (
            ["shard-000000.tar", ".lock"],
            ".",
            "shards.json: No such file or directory. Give a folder that scripts.shards",
        ),
        (["shard-000000.tar"], "shard-000000.tar", "shard-000000.tar: is a file. Give the folder that scripts.shards"),
        ([], "*.tar", "*.tar: no such folder. Give the folder that scripts.shards wrote"),
    ],
)
def test_what_is_no_folder_of_shards_is_told(tmp_path: Path, files: list[str], name: str, message: str):
    for file in files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    with pytest.raises(CorpusError) as caught:
        LocalFolder(str(tmp_path / name)).read_whole(SEAL)
    assert message in str(caught.value)
