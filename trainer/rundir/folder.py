"""Whether a run may begin in its folder, and how the folder is emptied for one that replaces another."""

from __future__ import annotations

import shutil
from pathlib import Path

from trainer.config.as_json import read_config
from trainer.config.schema import Config
from trainer.errors import ConfigError
from trainer.rundir.reading import checkpoints, read_records


def check_run_dir(config: Config) -> None:
    """ConfigError when the folder holds other files, or a run and neither --resume nor --overwrite is given."""
    run_dir = config.run_dir
    if run_dir.is_file():
        raise ConfigError(f"{run_dir} is a file. Choose another --name.")
    # a run that died before it had begun leaves no more than these
    if not run_dir.exists() or not {p.name for p in run_dir.iterdir()} - {"lock", ".config.json.part", "check.jsonl"}:
        return
    if not (run_dir / "config.json").exists():
        raise ConfigError(f"{run_dir} exists and holds no run. Choose another --name, or clear it by hand.")
    if config.resume:
        read_config(run_dir / "config.json")
    elif not config.overwrite:
        metrics = run_dir / "metrics.jsonl"
        logged = [r["step"] for r in read_records(metrics)] if metrics.exists() else []
        steps = max([*logged, *(step for step, _ in checkpoints(run_dir))], default=0)
        raise ConfigError(
            f"{run_dir} holds a run of {steps} steps: --resume continues it, --name starts another, "
            "--overwrite replaces it."
        )


def clear(run_dir: Path) -> None:
    """Remove everything but the lock. config.json goes last, so that an interrupted removal still leaves a run."""
    for path in sorted(run_dir.iterdir(), key=lambda p: p.name == "config.json"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != "lock":
            path.unlink()
