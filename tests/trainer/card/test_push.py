"""--push-to-hub (trainer.card.push) against a stand-in of the hub's client: nothing here reaches a network.

pytest tests/trainer/card/test_push.py
"""

from __future__ import annotations

import io
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi

import trainer.card.push
import trainer.publishing
from tests.helpers.runs import train_on_noise
from trainer.card.push import find_card_problems, push, push_or_warn
from trainer.cli.console import Console
from trainer.cli.parse import parse
from trainer.config.validate import validate
from trainer.errors import ConfigError, PushError


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
    assert stream.getvalue() == (
        f"warning: not uploaded (no route). Later: the same command with --resume, or hf upload lab/tiny {model}\n"
    )


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """What a run takes for the hub."""
    client = StandIn()
    monkeypatch.setattr(trainer.card.push, "HfApi", lambda: client)
    return client


@pytest.mark.parametrize("during", ["report_or_warn", "push_or_warn"])
def test_a_run_ended_in_its_report_or_upload_makes_up_for_both_when_resumed(
    during: str, tmp_path: Path, hub: StandIn, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    push_to_hub = ("--push-to-hub", "lab/tiny")
    with monkeypatch.context() as patch:
        patch.setattr(trainer.publishing, during, lambda *args: os.kill(os.getpid(), signal.SIGTERM))
        run_dir = train_on_noise(tmp_path, *push_to_hub, code=75)
    assert (run_dir / "results.json").exists()
    assert hub.calls == []
    for _ in range(2):  # what is done is not done again
        train_on_noise(tmp_path, "--resume", *push_to_hub)
        assert (run_dir / "report.html").exists()
        assert [name for name, _ in hub.calls] == ["create_repo", "upload_folder"]
    assert "complete after 4 steps; nothing to do" in capsys.readouterr().err


def test_a_finished_run_is_uploaded_when_that_is_asked_for_later_and_again_once_it_failed(
    tmp_path: Path, hub: StandIn
) -> None:
    train_on_noise(tmp_path, "--no-report")
    hub.refuses = ConnectionError("no route")
    run_dir = train_on_noise(tmp_path, "--resume", "--no-report", "--push-to-hub", "lab/tiny")
    assert not (run_dir / "pushed.json").exists()
    hub.refuses = None
    train_on_noise(tmp_path, "--resume", "--no-report", "--push-to-hub", "lab/tiny")
    assert [name for name, _ in hub.calls] == ["create_repo", "create_repo", "upload_folder"]
    assert not (run_dir / "report.html").exists()


def test_a_longer_plan_is_uploaded_again(tmp_path: Path, hub: StandIn) -> None:
    push_to_hub = ("--no-report", "--push-to-hub", "lab/tiny")
    train_on_noise(tmp_path, *push_to_hub, "--train.max-steps", "2", "--optim.warmup-steps", "0")
    train_on_noise(tmp_path, *push_to_hub, "--resume", "--optim.warmup-steps", "0",
                   "--allow-changes", "train.max_steps")  # fmt: skip
    assert [name for name, _ in hub.calls] == ["create_repo", "upload_folder"] * 2


def test_nothing_is_uploaded_unless_it_is_asked_for() -> None:
    assert parse(["demo"]).push_to_hub is None
    assert parse(["demo", "--push-to-hub", "lab/x"]).push_to_hub == "lab/x"
    with pytest.raises(ConfigError, match="must be OWNER/NAME"):
        validate(parse(["demo", "--push-to-hub", "just-a-name"]))
