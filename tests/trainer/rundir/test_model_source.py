"""What people give in the place of a model: paths of many kinds, addresses of the hub, names with a revision.

pytest tests/trainer/rundir/test_model_source.py
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.models import small_config
from trainer.errors import ModelError
from trainer.rundir.model_source import find_model


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model folder; no weights are needed."""
    small_config("wav2vec2").save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_tilde_is_the_home_folder(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No shell expands it behind an equals sign, as in --model.pretrained=~/model."""
    monkeypatch.setenv("HOME", str(model.parent))
    assert find_model("~/model") == str(model)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "pytorch_model.bin"])
def test_file_of_a_model_folder_means_the_folder(name: str, model: Path) -> None:
    (model / name).touch()
    assert find_model(str(model / name)) == str(model)


def test_file_in_no_model_folder_is_not_taken_for_one(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    assert find_model(str(tmp_path / "model.safetensors")) == str(tmp_path / "model.safetensors")  # refused later


@pytest.mark.parametrize("given", ["", "snapshots", "snapshots/abc"])
def test_folder_of_the_hubs_cache_means_the_snapshot_of_main(given: str, tmp_path: Path) -> None:
    """Reference: the layout that huggingface_hub documents."""
    cached = tmp_path / "models--owner--name"
    for commit in ("abc", "def"):
        small_config("wav2vec2").save_pretrained(cached / "snapshots" / commit)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("abc")
    assert find_model(str(cached / given)) == str(cached / "snapshots" / "abc")
    assert find_model(str(cached / "snapshots" / "def")) == str(cached / "snapshots" / "def")


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("https://huggingface.co/facebook/wav2vec2-base", "facebook/wav2vec2-base"),
        ("huggingface.co/facebook/wav2vec2-base/tree/main", "facebook/wav2vec2-base"),
        ("https://hf.co/facebook/wav2vec2-base/tree/v2", "facebook/wav2vec2-base and the option for the revision, v2"),
        ("facebook/wav2vec2-base@v2", "facebook/wav2vec2-base and the option for the revision, v2"),
        ("hf://facebook/wav2vec2-base", "facebook/wav2vec2-base"),
        ("facebook/wav2vec2-base/", "facebook/wav2vec2-base"),
        (" facebook/wav2vec2-base", "facebook/wav2vec2-base"),
        ("models--facebook--wav2vec2-base", "facebook/wav2vec2-base"),
    ],
)
def test_address_that_holds_a_hub_id_is_refused_with_the_id(
    given: str, meant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError) as caught:
        find_model(given)
    assert str(caught.value) == f"{given}: no such folder, and a hub id is OWNER/NAME. Give {meant}."


@pytest.mark.parametrize("given", ["runs/a/b/c", "s3://bucket/model", "wav2vec2-base", "./model", "/no/where"])
def test_what_holds_no_hub_id_is_not_made_one(given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=r"Give a model's folder, a run"):
        find_model(given)


def test_link_whose_folder_is_gone_is_told_with_where_it_leads(model: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(model)
    assert find_model(str(tmp_path / "link")) == str(tmp_path / "link")
    (tmp_path / "dead").symlink_to(tmp_path / "gone")
    with pytest.raises(ModelError, match=r"dead is a link to .*gone, which is not there"):
        find_model(str(tmp_path / "dead"))


def test_empty_name_is_not_the_current_folder(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(model)
    with pytest.raises(ModelError, match="An empty name"):
        find_model("")
