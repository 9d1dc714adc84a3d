"""Copy the curves of runs into trackio's store on this machine, as they stand in metrics.jsonl.

trackio (an extra: `[track]`) keeps a project as one SQLite file, without an account or a server, and shows it with
`trackio show`. Its own `init` and `log` run threads in the process that trains, and a step that a resumed run takes
again would be told twice. Here the store follows metrics.jsonl instead: what is new is added, and a run whose records
were taken back (a resume, --overwrite) is written anew. So this can be called at any time and as often as one likes,
and training waits for nothing.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from trackio.sqlite_storage import SQLiteStorage
from trackio.utils import TRACKIO_DIR

from trainer.cli.streams import one_line
from trainer.errors import ConfigError
from trainer.overview.run import Run

OF_A_RECORD = ("step", "timestamp")
"""What trackio adds to a record's figures when it reads them back."""


def track(runs: Sequence[Run], project: str) -> list[str]:
    """Make trackio's `project` hold the curves of `runs`. The lines returned say what was written and how to see it.

    Other runs of the project stay as they are. ConfigError when the store cannot be written, has another run of the
    same name, or would not be local.
    """
    for name in ("TRACKIO_DATASET_ID", "TRACKIO_BUCKET_ID"):
        if os.environ.get(name):  # the store would first be filled from the hub
            raise ConfigError(f"{name} is set, and --track works on this machine alone: env -u {name} python ...")
    num_new, anew = 0, list[str]()
    try:
        SQLiteStorage.validate_project_name(project)
        there = {str(record["name"]) for record in SQLiteStorage.get_run_records(project)}
        for run in runs:
            wanted = [(record["step"], _figures(record)) for record in run.records]
            if not wanted:
                continue
            folder, known = str(run.path.resolve()), []
            if run.name in there:
                copied = (SQLiteStorage.get_run_config(project, run.name) or {}).get("folder")
                if copied != folder:  # another program's run, or that of another folder: it is not ours to replace
                    raise ValueError(f"its project {project} has a run {one_line(run.name)} that is not {folder}")
                known = _known(SQLiteStorage.get_logs(project, run.name))
            if known != wanted[: len(known)]:
                SQLiteStorage.delete_run(project, run.name)
                anew.append(run.name)
                known = []
            if fresh := wanted[len(known) :]:
                steps, figures = zip(*fresh, strict=True)
                options = {**(run.options or {}), "folder": folder}
                SQLiteStorage.bulk_log(project, run.name, list(figures), steps=list(steps), config=options)
                num_new += len(fresh)
        if num_new and not SQLiteStorage.get_project_db_path(project).exists():
            raise OSError(None, "nothing was written")
    except (OSError, ValueError, sqlite3.Error) as error:
        said = getattr(error, "strerror", None) or str(error).rstrip(".")
        remedy = "Name another --project, or another store in TRACKIO_DIR."
        raise ConfigError(f"trackio's store {TRACKIO_DIR} cannot take the runs: {said}. {remedy}") from None
    lines = [f"trackio: {num_new} new records in project {project}, {TRACKIO_DIR}; trackio show --project {project}"]
    return [*lines, *(f"trackio: {one_line(name)} was written anew: its records changed" for name in anew)]


def _figures(record: Mapping[str, Any]) -> dict[str, float]:
    """A record's figures; those that are not finite are null in metrics.jsonl and are left out."""
    return {key: value for key, value in record.items() if key != "step" and type(value) in (int, float)}


def _known(logs: Sequence[Mapping[str, Any]]) -> list[tuple[int, dict[str, Any]]]:
    return [(log["step"], {key: value for key, value in log.items() if key not in OF_A_RECORD}) for log in logs]
