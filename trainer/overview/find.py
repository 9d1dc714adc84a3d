"""Find the runs below a folder, and say in which options they differ."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from trainer.config.as_json import PLACE
from trainer.config.presets import PRESETS
from trainer.errors import ConfigError
from trainer.overview.files import options_of
from trainer.overview.run import Run, read_run

OF_A_RUN = ("lock", "metrics.jsonl", "checkpoints", "results.json", "hypotheses.jsonl")
"""What lies in the folder of a run; config.json alone may be a model's."""
MOST_DEPTH = 6
"""How many folders lie between the given one and a run, at most."""

OF_NO_CONSEQUENCE = ("corpus.store", "batching.worker_timeout", "batching.num_workers", "train.log_every",
                     "train.eval_every", "train.save_every", "train.save_total_limit", "profile")  # fmt: skip
"""Options that change what is logged, kept or waited for, and nothing that is learnt. They stand last."""


def find_runs(folders: Sequence[Path], *, is_verified: bool = False) -> tuple[list[Run], list[Path]]:
    """The runs in and below `folders`, by name, and the folders directly within these that hold none.

    A name is the path below the given folder; several folders stand before it where there are several. ConfigError when
    one of them is no folder.
    """
    runs, others, seen = list[Run](), list[Path](), set[str]()
    for folder in folders:
        if not folder.is_dir():
            what = "is a file" if folder.exists() else "is not there"
            raise ConfigError(f"{folder} {what}. Name a folder of runs, such as runs/.")
        if is_run(folder):
            found = list(_runs_below(folder, seen, 0))
        else:
            found = []
            seen.add(os.path.realpath(folder))
            for child in _children(folder):
                known = len(seen)
                below = list(_runs_below(child, seen, MOST_DEPTH))
                found += below
                others += [] if below or len(seen) == known else [child]  # one that was seen before is listed there
        for path in found:
            if path == folder:
                name = str(folder) if len(folders) > 1 else folder.resolve().name
            else:
                name = str(path if len(folders) > 1 else path.relative_to(folder))
            runs.append(read_run(path, name, is_verified=is_verified))
    return sorted(runs, key=lambda run: run.name), others


def is_run(folder: Path) -> bool:
    """Whether `folder` holds a run, of however short a life."""
    return any((folder / name).exists() for name in OF_A_RUN)


def _runs_below(folder: Path, seen: set[str], depth: int) -> Iterator[Path]:
    real = os.path.realpath(folder)  # links may lead in a circle, or to a run that is listed already
    if real in seen:
        return
    seen.add(real)
    if is_run(folder):
        yield folder
    elif depth:
        for child in _children(folder):
            yield from _runs_below(child, seen, depth - 1)


def _children(folder: Path) -> list[Path]:
    try:
        inside = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    except OSError:  # a folder that may not be read holds no run that could be shown
        return []
    return sorted(inside, key=lambda path: (path.is_symlink(), path))  # a run is listed where it lies, not by a link


def options_that_differ(runs: Sequence[Run]) -> list[str]:
    """The options in which the runs differ, those that say how a run was done. Runs without a config.json say nothing.

    An option that only follows the preset is left out: where every run has its preset's own value, the preset tells it.
    """
    known = [run.options for run in runs if run.options is not None]
    names = [name for name in dict.fromkeys(name for options in known for name in options) if name not in PLACE]
    differing = [name for name in names if len({options.get(name) for options in known}) > 1]
    defaults = {preset: options_of(PRESETS[preset]()) for o in known if (preset := o["preset"]) in PRESETS}
    told = [name for name in differing if name == "preset" or not _follows_preset(name, known, defaults)]
    return sorted(told, key=lambda name: name in OF_NO_CONSEQUENCE)


def _follows_preset(name: str, known: Sequence[Mapping[str, str]], defaults: Mapping[str, Mapping[str, str]]) -> bool:
    """Whether each preset's runs agree on the option, and have the value that the preset gives or leaves open."""
    for preset in {options["preset"] for options in known}:
        values = {options.get(name) for options in known if options["preset"] == preset}
        if preset not in defaults or len(values) > 1:
            return False
        if not values <= {defaults[preset].get(name)} and defaults[preset].get(name) != "None":
            return False
    return True


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Name -> the same without its group, where no other option has that name.

    >>> short_names(["optim.lr", "batching.batch_size", "eval.batch_size"])
    {'optim.lr': 'lr', 'batching.batch_size': 'batching.batch_size', 'eval.batch_size': 'eval.batch_size'}
    """
    last = [name.rpartition(".")[2] for name in names]
    return {name: short if last.count(short) == 1 else name for name, short in zip(names, last, strict=True)}
