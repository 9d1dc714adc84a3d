"""Which model a command is given: a hub id, a model folder, a run, or one checkpoint of a run.

runs/NAME                         what the run exported; before its end the best weights so far, else the newest
runs/NAME/checkpoints/best        the weights with the lowest WER so far
runs/NAME/checkpoints/step-400    the weights of that step
"""

from __future__ import annotations

import difflib
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from models.checkpoints.training_checkpoint import is_training_checkpoint
from trainer.errors import DamagedError, ModelError
from trainer.rundir.disk import verify
from trainer.rundir.reading import checkpoints


def say(line: str) -> None:
    """A line about the choice of a model, where it does not mix with transcripts."""
    print(f"note: {line}", file=sys.stderr)


def find_model(source: str, say: Callable[[str], None] = say) -> str:
    """The hub id or folder that `source` means. ModelError when it is a path and no model is there.

    `~` is the home folder. A file of a model folder means the folder, and a model's folder in the hub's cache means the
    snapshot that its `main` names. A checkpoint is returned only if its files are as they were written.
    """
    source = _folder_of(source)
    path = Path(source)
    if not source.strip():
        _refuse_unknown(source)
    if not path.exists():
        path = _with_zeros(path)
    if not path.is_dir():
        if not path.exists():
            _refuse_unknown(source)
        return source
    if (path / "model" / "config.json").exists():
        return str(path / "model")
    if is_run(path):
        path = _newest(path)
        say(f"{source} has no model/ yet: using {path}")
    if is_training_checkpoint(path):
        try:
            verify(path)
        except DamagedError as error:
            raise ModelError(f"{error}. Give another checkpoint of this run, or its model.") from None
        return str(path)
    return source


def is_run(folder: Path) -> bool:
    """Whether `folder` is a run's, of training or of an evaluation, at its end or before."""
    try:
        return "corpus" in json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError, RecursionError):
        return False  # no such file, or another program's


def run_of(model: Path) -> Path | None:
    """The run that a model folder or a checkpoint lies in; None when it lies in none."""
    parents = model.resolve().parents
    return next((folder for folder in parents[:2] if is_run(folder)), None)


def is_hub_id(source: str) -> bool:
    """Whether `source` can only be a hub id, OWNER/NAME: no path leads there. A moved folder's old path is none."""
    is_path = source.startswith((".", "/", "~")) or Path(source).exists()
    return not is_path and re.fullmatch(r"[\w.-]+/[\w.-]+", source) is not None


def find_moved_model(source: str, run_dir: Path) -> str:
    """`source`, or where the model lies now if it was moved together with `run_dir`, the run that tells of it.

    runs/evaluate-a tells of runs/a/model. If runs/ has become old/, that is beside old/evaluate-a.
    """
    path = Path(source)
    if path.exists() or is_hub_id(source):
        return source
    for number in range(2, len(path.parts) + 1):
        beside = run_dir.absolute().parent.joinpath(*path.parts[-number:])
        if beside.is_dir():
            return str(beside)
    return source


def model_name(source: str) -> str:
    """The run's name for what it exported, RUN-best or RUN-step-400 for a checkpoint, else the last part of `source`.

    >>> model_name("OWNER/NAME")
    'NAME'
    """
    path = Path(source).resolve()
    run_dir = run_of(path)
    if run_dir is None or path.parent not in (run_dir, run_dir / "checkpoints"):
        return path.parent.name if path.name == "model" and path.exists() else path.name
    return run_dir.name if path.name == "model" else f"{run_dir.name}-{short_name(path)}"


def short_name(checkpoint: Path) -> str:
    """`best`, or `step-400` without zeros in front.

    >>> short_name(Path("runs/a/checkpoints/step-00000400"))
    'step-400'
    """
    return re.sub(r"^step-0*(?=\d)", "step-", checkpoint.name)


def step_of(checkpoint: Path) -> int:
    """The step of `best` or of step-N."""
    if checkpoint.name == "best":
        return int(json.loads((checkpoint / "state.json").read_text(encoding="utf-8"))["step"])
    return int(checkpoint.name.removeprefix("step-"))


def _folder_of(source: str) -> str:
    """`source` with its home folder, and the model folder in the place of one of its files or of its place in the hub's
    cache (models--OWNER--NAME/snapshots/COMMIT)."""
    path = Path(source).expanduser() if source.startswith("~") else Path(source)
    if path.is_file() and path.suffix in (".json", ".safetensors", ".bin") and (path.parent / "config.json").is_file():
        return str(path.parent)
    cached = path.parent if path.name == "snapshots" else path
    main = cached / "refs" / "main"
    if cached.name.startswith("models--") and main.is_file():
        path = cached / "snapshots" / main.read_text(encoding="utf-8").strip()
    return source if path == Path(source) else str(path)


_ON_THE_HUB = re.compile(
    r"\s*(?:(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/|hf://)?(?:models--)?"  # the address, the cache's name
    r"(\w[\w.-]*?)(?:/|--)([\w.-]+?)/?"  # OWNER/NAME
    r"(?:@([\w./-]+)|/(?:tree|blob|resolve)/([\w.-]+)(?:/.*)?)?\s*"  # the revision
)


def _hub_id_in(source: str) -> str:
    """What to give for an address or a name with a revision, which holds a hub id; "" where it holds none.

    >>> _hub_id_in("https://huggingface.co/facebook/wav2vec2-base/tree/v2"), _hub_id_in("runs/a/b")
    ('facebook/wav2vec2-base and the option for the revision, v2', '')
    """
    match = _ON_THE_HUB.fullmatch(source)
    if match is None:
        return ""
    owner, name, *revisions = match.groups()
    revision = next(filter(None, revisions), None)
    return f"{owner}/{name}" + (
        f" and the option for the revision, {revision}" if revision not in (None, "main") else ""
    )


def _with_zeros(path: Path) -> Path:
    """`step-400` as training writes it."""
    match = re.fullmatch(r"step-(\d+)", path.name)
    return path.with_name(f"step-{int(match[1]):08d}") if match else path


def _newest(run_dir: Path) -> Path:
    """The best weights of a run that is not over, or its newest checkpoint before any evaluation."""
    best = run_dir / "checkpoints" / "best"
    if is_training_checkpoint(best):
        return best
    if found := checkpoints(run_dir):
        return found[-1][1]
    raise ModelError(f"{run_dir}: a run without a model and without a checkpoint. Let it train, or give another model.")


def _refuse_unknown(source: str) -> None:
    """ModelError when `source` does not exist and cannot be a hub id; nothing when it can be one."""
    path = Path(source)
    if path.is_symlink():
        raise ModelError(f"{source} is a link to {path.readlink()}, which is not there. Give the folder itself.")
    if not source.strip():
        raise ModelError("An empty name is given for a model. Give a folder, a run or a hub id.")
    if is_hub_id(source) and not any(_models_in(path.parent)):
        return
    if is_run(Path("runs") / source):
        raise ModelError(f"{source}: no such folder. Did you mean {Path('runs') / source}?")
    near = next((folder for folder in path.parents if folder.is_dir()), Path())
    beside = list(_models_in(near if near != Path() else Path("runs")))
    if hub_id := _hub_id_in(source) if near == Path() else "":
        raise ModelError(f"{source}: no such folder, and a hub id is OWNER/NAME. Give {hub_id}.")
    close = [] if near.name == "checkpoints" else difflib.get_close_matches(source, beside, n=1)
    shown = f"Did you mean {close[0]}? " if close else f"There are {', '.join(beside[:6])}. " if beside else ""
    raise ModelError(
        f"{source}: no such folder, and a hub id is OWNER/NAME. {shown}Give a model's folder, a run (runs/NAME), "
        "one of its checkpoints (runs/NAME/checkpoints/best), or a hub id."
    )


def _models_in(folder: Path) -> Iterator[str]:
    """Runs and checkpoints that lie right in `folder`."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.is_dir() and (is_run(path) or is_training_checkpoint(path)):
            yield str(path)
