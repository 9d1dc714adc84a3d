"""One recipe trained with several seeds, one run after the other; mean and spread of what they reach.

    runs/NAME-seed1/, runs/NAME-seed2/, ...   runs like any other
    runs/NAME-seeds.json                      what all that are finished reached, and its mean and spread

Every run is what `--seed N --name NAME-seedN` trains. A command that is stopped goes on with --resume: a finished run
is looked at and left alone, a begun one goes on, and the others follow.
"""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from data import strict_json
from data.plural import counted
from data.utterance import Corpus
from trainer.cli.clock import Clock
from trainer.cli.console import Console
from trainer.cli.greeting import greet
from trainer.cli.signals import StopFlag
from trainer.config.schema import Config
from trainer.config.validate import read_seeds, resolve, validate
from trainer.errors import ConfigError
from trainer.parallel.launch import launched
from trainer.report.terminal import aligned
from trainer.rundir.folder import check_run_dir
from trainer.rundir.results import read_results, write_json
from trainer.scoring.metrics import units_of
from trainer.scoring.statistics import spread
from trainer.session import train


def train_seeds(
    config: Config,
    argv: Sequence[str] | None = None,
    flag: StopFlag | None = None,
    clock: Clock | None = None,
    *,
    corpus: Corpus | None = None,
) -> int:
    """Train `config` once with each of config.seeds. Returns 0, or the exit code of the run that did not end well.

    Arguments are those of trainer.session.train. UserError and OSError tell what is wrong; the runs that are finished
    then stay, and --resume goes on.
    """
    config = resolve(validate(config))
    seeds = read_seeds(config.seeds or "")
    if not launched().is_alone:
        raise ConfigError("--seeds is for one process: below torchrun, give each seed its own torchrun with --seed.")
    if config.push_to_hub:
        raise ConfigError("--seeds would upload every run to one repository: leave out --push-to-hub.")
    runs = [replace(config, seeds=None, seed=seed, name=f"{config.name}-seed{seed}") for seed in seeds]
    console, path = Console(), Path(config.runs_dir) / f"{config.name}-seeds.json"
    if config.check:
        console.say(f"one check for {len(runs)} runs, which differ in their seed alone: each takes as long")
        return train(runs[0], None, flag, clock, corpus=corpus)
    for run in runs:
        check_run_dir(run)  # before the first one trains
    allowed = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    for i, run in enumerate(runs):
        console.say(f"seed {run.seed}, run {i + 1} of {len(runs)}")
        greet(run)
        code = train(run, command_of(argv, run), flag, clock if i == 0 else Clock(), corpus=corpus)
        if code:
            left = ", ".join(str(later.seed) for later in runs[i:])
            console.say(
                f"{i} of {len(runs)} runs are finished; the same command with --resume goes on with seed {left}"
            )
            return code
        write_json(path, summarize(config, runs[: i + 1]))
        # the closing evaluation turns them off
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = allowed
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
    for line in describe(summarize(config, runs), path):
        console.say(line, wrap=False)
    return 0


def command_of(argv: Sequence[str] | None, run: Config) -> list[str] | None:
    """The command line that trains this run alone; `argv` is that of all."""
    if argv is None:
        return None
    kept, skip = list[str](), False
    for word in argv:
        name = word.partition("=")[0]
        if not skip and name not in ("--seeds", "--name"):
            kept.append(word)
        skip = not skip and word in ("--seeds", "--name")
    return [*kept, "--seed", str(run.seed), "--name", run.name]


def summarize(config: Config, runs: Sequence[Config]) -> dict[str, Any]:
    """The content of NAME-seeds.json for the finished `runs`: figures are fractions, null where there is no number."""
    results = [read_results(run.run_dir) for run in runs]
    units = units_of(results[0])
    splits: dict[str, dict[str, Any]] = {}
    for split in results[0]["splits"]:
        records = [of["splits"].get(split) for of in results]
        if all(records):
            keys = ("protocol", "note", "scoring", "num_utterances", f"num_reference_{units.name}")
            splits[split] = {key: records[0][key] for key in keys if key in records[0]}
            for metric in units.metrics:
                values = [record.get(metric) for record in records]
                if None not in values:
                    splits[split][metric] = {"values": values, **dataclasses.asdict(spread(values))}
    return strict_json.finite({
        "name": config.name,
        "preset": config.preset,
        "metric": units.main,
        "headline": results[0]["headline"],
        "seeds_asked": list(read_seeds(config.seeds or "")),
        "runs": [
            {"seed": run.seed, "name": run.name, "steps": of.get("steps"), "weights": of["weights"],
             units.main: of[units.main]}
            for run, of in zip(runs, results, strict=True)
        ],
        "splits": splits,
    })  # fmt: skip


def describe(summary: dict[str, Any], path: Path) -> list[str]:
    """Lines for the terminal."""
    n, main = len(summary["runs"]), summary["metric"]
    rules = {record["scoring"] for record in summary["splits"].values() if "scoring" in record}
    table = [["split", "", f"{main.upper()} mean", "st. dev.", "95 % interval of the mean", "lowest", "highest"]]
    for split, record in summary["splits"].items():
        if main in record:
            s = record[main]
            interval = "none" if s["low"] is None else f"{100 * s['low']:.2f} to {100 * s['high']:.2f} %"
            figures = (
                [_percent(s[key]) for key in ("mean", "deviation")],
                [_percent(s[key]) for key in ("least", "most")],
            )
            table.append([split, record.get("protocol", ""), *figures[0], interval, *figures[1]])
    seeds = ", ".join(str(run["seed"]) for run in summary["runs"])
    return [
        f"{summary['name']}: n = {counted(n, 'run')} (seed {seeds}); the interval is Student's t over seeds"
        f"{'' if n > 1 else ', which needs two'}, for the same test speakers",
        *(f"  {main.upper()} [{rule}]" for rule in sorted(rules)),
        *aligned(table, indent="  ", left=2),
        f"{path} holds all figures",
    ]


def _percent(share: float | None) -> str:
    return "none" if share is None else f"{100 * share:.2f} %"
