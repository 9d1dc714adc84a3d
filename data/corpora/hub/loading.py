"""Load a split of a `datasets` data set: from `save_to_disk`, a local clone of a hub repository, or the hub.

Nothing here waits long for a network that is not there, and no code of a data set is run.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub

from data.corpora.hub import HubConfig
from trainer.errors import CorpusError
from trainer.hub_reach import hub_answers

HUB_SECONDS = 8.0
"""How long the hub may take to answer a first question. The client itself tries for more than three minutes."""
_SAVED = ("dataset_dict.json", "state.json")
"""What save_to_disk writes beside the data of a DatasetDict, and of a Dataset."""
_SPLIT = r"[\w-]+(?:\.[\w-]+)*"
"""A split's name, such as train.clean.100, or a folder's."""
_HUB_ID = r"\w[\w.-]*(?:/\w[\w.-]*)?"
_LFS = b"version https://git-lfs"


def load_split(config: HubConfig, split: str) -> tuple[datasets.Dataset, list[str]]:
    """(The rows of `split`, what there is to say of how it was loaded); CorpusError when it does not load."""
    folder, note = Path(config.dataset), ""
    _refuse_file(folder)
    _refuse_missing(config.dataset)
    try:
        if folder.is_dir():
            return (_from_disk if _is_saved(folder) else _from_clone)(config, split), []
        with _no_waiting(config) as note, no_torchcodec():
            loaded = datasets.load_dataset(config.dataset, config.subset, split=split, revision=config.revision)
            return loaded, [f"{config.dataset}: {note}, so the copy in the cache is used"] if note else []
    except CorpusError:
        raise
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        # a RuntimeError is what datasets says to a data set with a script of its own: it is not run
        reason = f"{note}, and the cache holds no copy: {_first_line(error)}" if note else _first_line(error)
        raise CorpusError(
            f"{config.dataset}, split {split}: does not load ({reason}). "
            "--corpus.dataset is a hub id, a local clone of one, or a folder written by save_to_disk."
        ) from None


def open_stream(config: HubConfig, split: str) -> tuple[Any, str]:
    """(The rows of `split` as a stream, which content of the data set it is); CorpusError when it does not load."""
    folder = Path(config.dataset)
    _refuse_file(folder)
    _refuse_missing(config.dataset)
    if folder.is_dir() and _is_saved(folder):
        raise CorpusError(f"{config.dataset}: lies on this disk already. Leave out --corpus.streaming.")
    if not re.fullmatch(_SPLIT, split):
        raise CorpusError(
            f"split {split!r}: a stream has no slices or sums. Name a split, or leave out --corpus.streaming."
        )
    try:
        if folder.is_dir():
            commit = str(max((path.stat().st_mtime_ns for path in folder.rglob("*")), default=0))
        elif answers(config):
            commit = str(huggingface_hub.HfApi().dataset_info(config.dataset, revision=config.revision).sha)
        else:
            raise CorpusError(f"{config.dataset}: the hub does not answer, and a stream needs it. Try again later.")
        with no_torchcodec():
            stream = datasets.load_dataset(
                config.dataset, config.subset, split=split, revision=config.revision, streaming=True
            )
        return stream, commit
    except CorpusError:
        raise
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise CorpusError(
            f"{config.dataset}, split {split}: does not load as a stream ({_first_line(error)}). "
            "--corpus.dataset is a hub id, or a local clone of one."
        ) from None


def _refuse_missing(dataset: str) -> None:
    """CorpusError for a folder that is not there: the hub need not be asked for what can be no id of its."""
    if not Path(dataset).is_dir() and not re.fullmatch(_HUB_ID, dataset):
        raise CorpusError(
            f"{dataset}: no such folder. --corpus.dataset is a hub id, a local clone of one, or a folder written by "
            "save_to_disk."
        )


def _refuse_file(path: Path) -> None:
    if not path.is_file():
        return
    if path.suffix == ".py":
        raise CorpusError(
            f"{path}: is a program that makes a data set, and none is run. Of many on the hub there is a copy in "
            "Parquet: give the hub id and --corpus.revision refs/convert/parquet. Or write a manifest "
            "(docs/howto-own-data.md)."
        )
    other = "the folder that it lies in"
    if path.suffix.lower() in (".jsonl", ".json", ".csv", ".tsv"):
        other = "its folder, or train from it as a manifest (docs/howto-own-data.md)"
    raise CorpusError(f"{path}: is a file. --corpus.dataset names a folder or a hub id: name {other}.")


def _first_line(error: BaseException) -> str:
    while isinstance(error, datasets.exceptions.DatasetGenerationError) and error.__cause__ is not None:
        error = error.__cause__  # it says no more than that an error occurred
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


# On this machine


def _is_saved(folder: Path) -> bool:
    return any((folder / name).exists() for name in _SAVED) or bool(_saved_parts(folder))


def _saved_parts(folder: Path) -> dict[str, Path]:
    """Data sets that were saved one by one below `folder`, by name: its splits."""
    return {part.name: part for part in sorted(folder.iterdir()) if (part / "state.json").exists()}


def _from_disk(config: HubConfig, split: str) -> datasets.Dataset:
    """A split that save_to_disk wrote, or a slice or sum of such: train[:90%], train+validation."""
    loaded: Any = _load_from_disk(config.dataset)
    is_single = isinstance(loaded, datasets.Dataset)
    if is_single:
        name = re.match(_SPLIT, str(loaded.split or ""))
        loaded = {(name[0] if name else "train"): loaded}
    if split in loaded:
        return loaded[split]
    wanted = re.findall(rf"(?:^|\+)\s*({_SPLIT})", split)
    if unknown := [name for name in wanted if name not in loaded]:
        if is_single:
            (name,) = loaded
            raise CorpusError(
                f"{config.dataset}: holds one data set without splits, called {name!r} here; there is no "
                f"{unknown[0]!r}. Name two parts of it: --corpus.train-split '{name}[:90%]' "
                f"--corpus.eval-split '{name}[90%:]'."
            )
        raise CorpusError(
            f"{config.dataset}: no split {unknown[0]!r} (splits: {', '.join(loaded)}). "
            "Name them with --corpus.train-split and --corpus.eval-split."
        )
    plain = {f"part{i}": loaded[name] for i, name in enumerate(wanted)}  # datasets knows no hyphen in a name
    numbers = itertools.count()
    spec = re.sub(rf"(^|\+)\s*{_SPLIT}", lambda match: f"{match[1]}part{next(numbers)}", split)
    sizes = {name: len(part) for name, part in plain.items()}
    parts = [
        plain[part.splitname].select(range(part.from_, part.to) if part.from_ < part.to else [])
        for part in datasets.ReadInstruction.from_spec(spec).to_absolute(sizes)
    ]
    return parts[0] if len(parts) == 1 else datasets.concatenate_datasets(parts)


@functools.cache
def _load_from_disk(folder: str) -> Any:
    """A data set, or one for each split by name."""
    if any((Path(folder) / name).exists() for name in _SAVED):
        return datasets.load_from_disk(folder)
    return {name: datasets.load_from_disk(str(part)) for name, part in _saved_parts(Path(folder)).items()}


def _from_clone(config: HubConfig, split: str) -> datasets.Dataset:
    """A split of a folder as the hub holds it: parquet, JSON or CSV files, or audio with metadata beside it."""
    folder = Path(config.dataset)
    if pointer := _lfs_pointer(folder):
        raise CorpusError(
            f"{pointer}: a pointer of git-lfs, not the file itself. Run: git -C {config.dataset} lfs pull"
        )
    with no_torchcodec():
        return datasets.load_dataset(str(folder), config.subset, split=split)


def _lfs_pointer(folder: Path) -> Path | None:
    """A file that was cloned without its content."""
    for path in folder.rglob("*"):
        if ".git" not in path.parts and path.is_file() and path.stat().st_size < 200 and path.suffix:
            with path.open("rb") as file:
                if file.read(len(_LFS)) == _LFS:
                    return path
    return None


@contextlib.contextmanager
def no_torchcodec() -> Iterator[None]:
    """Inside, `datasets` notes paths and bytes of audio without torchcodec, which it imports even for that."""
    before = datasets.Audio.encode_example

    def encode_example(self: datasets.Audio, value: Any) -> dict[str, Any]:
        if isinstance(value, str | Path):
            return {"bytes": None, "path": str(value)}
        if isinstance(value, dict) and "array" not in value and (value.get("bytes") or value.get("path")):
            return {"bytes": value.get("bytes"), "path": value.get("path")}
        return before(self, value)

    datasets.Audio.encode_example = encode_example
    try:
        yield
    finally:
        datasets.Audio.encode_example = before


# On the hub


@contextlib.contextmanager
def _no_waiting(config: HubConfig) -> Iterator[str]:
    """Inside, the hub's clients use their cache alone if the hub does not answer; yields the line that says so, or "".

    CorpusError for a name that cannot be a hub id: a folder that is not there.
    """
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", config.dataset) or Path(config.dataset).is_file():
        yield ""  # nothing to wait for: datasets says what is wrong
        return
    if answers(config):
        yield ""
        return
    modules = [datasets.config, huggingface_hub.constants]
    before = [module.HF_HUB_OFFLINE for module in modules]
    for module in modules:
        module.HF_HUB_OFFLINE = True
    try:
        yield "the hub does not answer"
    finally:
        for module, was in zip(modules, before, strict=True):
            module.HF_HUB_OFFLINE = was


def answers(config: HubConfig) -> bool:
    """Whether the hub says anything of the data set in HUB_SECONDS, be it no."""
    if huggingface_hub.is_offline_mode():
        return False
    api = huggingface_hub.HfApi()
    return hub_answers(
        lambda limit: api.dataset_info(config.dataset, revision=config.revision, timeout=limit), HUB_SECONDS
    )
