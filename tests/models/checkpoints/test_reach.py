"""A checkpoint of the hub without a network, and with a hub that answers. No test needs a network.

The hub's answer to the first question is made by hand; whether the client itself tries is heard at its own function.
"""

from __future__ import annotations

import logging
from pathlib import Path

import httpx
import huggingface_hub
import pytest
from huggingface_hub.errors import HfHubHTTPError

from models.checkpoints import reach
from models.checkpoints.pretrained import read_pretrained
from models.checkpoints.reach import within_reach
from trainer.errors import ModelError

NO = HfHubHTTPError("401", response=httpx.Response(401, request=httpx.Request("GET", "https://hub/")))


@pytest.fixture(autouse=True)
def on_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine that is not set to work without the hub, and that knows nothing of it yet."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(reach, "SECONDS", 0.2)
    monkeypatch.setattr(reach, "_found", {})


def answer_with(error: Exception | None, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let the hub answer so; returns the ids that it is asked for."""
    asked: list[str] = []

    def model_info(api: object, source: str, **others: object) -> None:
        asked.append(source)
        if error is not None:
            raise error

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
    return asked


def test_without_a_network_a_hub_id_is_refused_in_one_line_at_once(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    answer_with(OSError("Name or service not known"), monkeypatch)
    monkeypatch.setattr(
        "huggingface_hub.file_download.get_hf_file_metadata", lambda *a, **k: pytest.fail("the client has tried")
    )
    with caplog.at_level(logging.WARNING), pytest.raises(ModelError) as refused:
        read_pretrained("nobody/no-such-model", None)
    assert "(the hub does not answer, and the cache holds no copy)" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []
    assert not huggingface_hub.is_offline_mode()  # other models may be asked for later


@pytest.mark.parametrize("error", [None, NO])
def test_a_hub_that_answers_is_asked_as_ever(error: Exception | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client keeps its own tries, since a failure is then likely to pass."""
    asked = answer_with(error, monkeypatch)
    for _ in range(2):
        with within_reach("someone/model", None) as why_not:
            assert (why_not, huggingface_hub.is_offline_mode()) == ("", False)
    assert asked == ["someone/model"]  # once


def test_a_lack_of_answer_is_forgotten_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    answer_with(OSError("no route"), monkeypatch)
    with within_reach("someone/model", None) as why_not:
        assert (why_not, huggingface_hub.is_offline_mode()) == ("the hub does not answer", True)
    answer_with(None, monkeypatch)
    monkeypatch.setattr(reach, "FORGOTTEN_AFTER", 0.0)
    with within_reach("someone/model", None) as why_not:
        assert why_not == ""


def test_a_folder_is_not_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("models").mkdir()
    asked = answer_with(None, monkeypatch)
    for source in ("models", str(tmp_path), "/not/there"):
        with within_reach(source, None) as why_not:
            assert why_not == ""
    assert asked == []
