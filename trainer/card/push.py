"""Upload a finished model to the Hugging Face hub, if the user asks. The card is checked first, without a network."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any, Protocol

from huggingface_hub import HfApi, ModelCard
from huggingface_hub.utils import HFValidationError, validate_repo_id

from trainer.cli.console import Console
from trainer.errors import PushError

NEEDED_FILES = ("config.json", "model.safetensors", "preprocessor_config.json", "tokenizer_config.json", "README.md")


class HubClient(Protocol):
    """The methods of huggingface_hub.HfApi that are used here."""

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> Any: ...

    def upload_folder(self, *, repo_id: str, folder_path: str, commit_message: str) -> Any: ...


def push(folder: Path, repo: str, client: HubClient | None = None) -> str:
    """Upload an exported folder to `repo` and return its address. A new repository is private.

    PushError when the hub would not accept name, files or card; nothing is sent then.
    """
    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise PushError(f"--push-to-hub {repo}: {error}") from None
    if missing := [name for name in NEEDED_FILES if not (folder / name).is_file()]:
        raise PushError(f"{folder}: lacks {', '.join(missing)}: not a model that a run exported.")
    if problems := find_card_problems((folder / "README.md").read_text(encoding="utf-8")):
        raise PushError(f"{folder / 'README.md'}: {'; '.join(problems)}.")
    api: HubClient = HfApi() if client is None else client
    api.create_repo(repo, private=True, exist_ok=True)
    api.upload_folder(repo_id=repo, folder_path=str(folder), commit_message=f"Upload {folder.parent.name}")
    return f"https://huggingface.co/{repo}"


def push_or_warn(folder: Path, repo: str, console: Console, client: HubClient | None = None) -> bool:
    """As `push`, but an error is only a warning, since the run is finished. True if the model was uploaded."""
    try:
        console.say(f"uploaded to {push(folder, repo, client)}")
        return True
    except Exception as error:  # any error of the client: no login, no network, no room
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        remedy = f"Later: the same command with --resume, or hf upload {repo} {folder}"
        console.warn(f"not uploaded ({reason.rstrip('.')}). {remedy}")
        return False


def find_card_problems(text: str) -> list[str]:
    """What the hub would refuse or misread in a card's metadata; an empty list if nothing."""
    if not re.match(r"---\n.*?\n---\n", text, re.DOTALL):
        return ["it does not begin with metadata between two lines of ---"]
    try:
        data: Any = ModelCard(text).data
    except Exception as error:  # the reader has no error class of its own
        return [f"its metadata cannot be read ({str(error).splitlines()[0].rstrip('.')})"]
    problems = []
    if data.pipeline_tag != "automatic-speech-recognition":
        problems.append(f"pipeline_tag is {data.pipeline_tag!r}, not automatic-speech-recognition")
    if data.language is not None and not re.fullmatch(r"[a-z]{2,3}", str(data.language)):
        problems.append(f"language {data.language!r} is no ISO 639 code")
    if data.base_model is not None and not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", str(data.base_model)):
        problems.append(f"base_model {data.base_model!r} is no hub id")
    for result in data.eval_results or []:
        value = result.metric_value
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            problems.append(f"{result.metric_type} of {result.dataset_split} is {value!r}, not a number")
    return problems
