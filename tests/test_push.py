"""--push-to-hub (trainer.hub) against a stand-in of the hub's client: nothing here reaches a network.

pytest tests/test_push.py
"""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi

from trainer.cli import parse
from trainer.config import ConfigError, validate
from trainer.console import Console
from trainer.hub import PushError, find_card_problems, push, push_or_warn


class StandIn:
    """Takes the calls that HfApi would."""

    def __init__(self, refuses: Exception | None = None) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.refuses = refuses

    def create_repo(self, repo_id: str, **options: Any) -> None:
        self.calls.append(("create_repo", {"repo_id": repo_id, **options}))
        if self.refuses:
            raise self.refuses

    def upload_folder(self, **options: Any) -> None:
        self.calls.append(("upload_folder", options))


@pytest.fixture
def model(finished_run: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished_run / "model", tmp_path / "tiny" / "model")


def test_model_goes_into_a_repository_that_is_private_when_new(model: Path) -> None:
    client = StandIn()
    assert push(model, "lab/tiny", client) == "https://huggingface.co/lab/tiny"
    assert client.calls == [
        ("create_repo", {"repo_id": "lab/tiny", "private": True, "exist_ok": True}),
        ("upload_folder", {"repo_id": "lab/tiny", "folder_path": str(model), "commit_message": "Upload tiny"}),
    ]


def test_the_stand_in_takes_what_the_real_client_takes() -> None:
    """Reference: huggingface_hub's own signatures."""
    import inspect

    assert {"repo_id", "private", "exist_ok"} <= set(inspect.signature(HfApi.create_repo).parameters)
    assert {"repo_id", "folder_path", "commit_message"} <= set(inspect.signature(HfApi.upload_folder).parameters)


@pytest.mark.parametrize("repo", ["a/b/c", "lab/ti ny", "lab/..", "-/x"])
def test_a_name_that_the_hub_refuses_is_refused_before_anything_is_sent(repo: str, model: Path) -> None:
    client = StandIn()
    with pytest.raises(PushError, match="--push-to-hub"):
        push(model, repo, client)
    assert client.calls == []


def test_an_incomplete_folder_or_card_is_refused_before_anything_is_sent(model: Path) -> None:
    client, card = StandIn(), model / "README.md"
    card.write_text(card.read_text().replace("pipeline_tag: automatic-speech-recognition", "pipeline_tag: chat"))
    with pytest.raises(PushError, match="pipeline_tag is 'chat'"):
        push(model, "lab/tiny", client)
    (model / "vocab.json").unlink()
    (model / "config.json").unlink()
    with pytest.raises(PushError, match=r"lacks config\.json"):
        push(model, "lab/tiny", client)
    assert client.calls == []


@pytest.mark.parametrize(
    ("metadata", "problem"),
    [
        ("", "does not begin with metadata"),
        ("---\na: [\n---\n", "cannot be read"),
        ("---\nmodel-index:\n- name: a\n  results: 3\n---\n", "cannot be read"),
        ("---\nlanguage: American English\n---\n", "no ISO 639 code"),
        ("---\nbase_model: /home/me/model\n---\n", "no hub id"),
    ],
)
def test_metadata_that_the_hub_would_misread_is_named(metadata: str, problem: str) -> None:
    assert any(problem in found for found in find_card_problems(metadata + "# card\n"))


def test_a_run_that_is_over_survives_a_hub_that_refuses(model: Path) -> None:
    stream = io.StringIO()
    push_or_warn(model, "lab/tiny", Console(stream), StandIn(ConnectionError("no route")))
    assert stream.getvalue() == f"warning: not uploaded (no route). Later: hf upload lab/tiny {model}\n"


def test_nothing_is_uploaded_unless_it_is_asked_for() -> None:
    assert parse(["demo"]).push_to_hub is None
    assert parse(["demo", "--push-to-hub", "lab/x"]).push_to_hub == "lab/x"
    with pytest.raises(ConfigError, match="must be OWNER/NAME"):
        validate(parse(["demo", "--push-to-hub", "just-a-name"]))
