"""Check whether a run's folder is intact: checkpoints against their manifests, logs record by record. Changes nothing.

    python -m scripts.verify_run runs/NAME

The exit code is 0 when a resume finds everything sound, 1 when something is damaged, 2 when the folder holds no run.
"""

from __future__ import annotations

import itertools
import json
import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.cli.arguments import ArgumentParser
from trainer.cli.parse import report_errors
from trainer.errors import ConfigError
from trainer.rundir.disk import verify
from trainer.rundir.lock import is_held

if TYPE_CHECKING:
    from trainer.config.schema import Config


class Damage(ValueError):  # noqa: N818  what is reported, not what goes wrong here
    """A part of the run's folder is damaged; the message says what is wrong."""


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 everything is sound, 1 something is damaged, 2 there is no run."""
    return report_errors(lambda: verify_run(parse(argv).run))


def parse(argv: Sequence[str] | None) -> Namespace:
    """The options of the command line; ConfigError when they are impossible."""
    parser = ArgumentParser(prog="python -m scripts.verify_run", description=__doc__ or "")
    parser.add_argument("run", metavar="runs/NAME", type=Path, help="the run's folder")
    return parser.parse_args(argv)


def verify_run(run_dir: Path) -> int:
    """Print a line for each thing in `run_dir`. Returns the exit code."""
    if not (run_dir / "config.json").is_file() and not (run_dir / "checkpoints").is_dir():
        raise ConfigError(f"{run_dir} holds no run: it has neither config.json nor checkpoints.")
    num_damaged = 0
    for name, look in things(run_dir):
        try:
            verdict = look()
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            num_damaged += 1
            verdict = f"DAMAGED: {error if isinstance(error, OSError | ValueError) else 'not what was written there'}"
        print(f"{name:28} {verdict}")
    state = "in use by another process" if is_held(run_dir) else "not in use"
    verdict = f"{num_damaged} damaged" if num_damaged else "everything is sound"
    print(f"{run_dir}: {verdict}; {state}")
    return 1 if num_damaged else 0


def things(run_dir: Path) -> Iterator[tuple[str, Callable[[], str]]]:
    """(Name, function that describes it or raises an error) for everything that a run leaves."""
    from trainer.rundir.reading import checkpoints

    yield "config.json", lambda: f"sound: preset {read_config(run_dir).preset}"
    folders = [folder for _, folder in checkpoints(run_dir)]
    for folder in folders:
        yield f"checkpoints/{folder.name}", lambda folder=folder: look_at_checkpoint(folder)  # type: ignore[misc]
    if folders or (run_dir / "checkpoints" / "best").exists():
        yield "checkpoints/best", lambda: look_at_best(run_dir, folders)
    for aside in sorted((run_dir / "checkpoints").glob("*.damaged")):
        yield f"checkpoints/{aside.name}", lambda: "put aside by a resumed run; remove it when you like"
    yield "metrics.jsonl", lambda: look_at_metrics(run_dir, folders)
    if (run_dir / "dynamics").exists() or (folders and (folders[-1] / "state.json").exists()):
        yield "dynamics", lambda: look_at_dynamics(run_dir, folders)
    if not (run_dir / "results.json").exists():
        yield "results", lambda: "not there yet: they are written when training is over, results.json last"
        return
    yield "results.json", lambda: look_at_results(run_dir)
    yield "hypotheses.jsonl", lambda: look_at_hypotheses(run_dir)
    yield "model", lambda: look_at_model(run_dir)


def read_config(run_dir: Path) -> Config:
    from trainer.config.as_json import from_json

    return from_json((run_dir / "config.json").read_text(encoding="utf-8"), "config.json", lenient=True)


def read_state(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "state.json").read_text(encoding="utf-8"))["state"]


def look_at_checkpoint(folder: Path) -> str:
    """`sound: 12.3 MB`; DamagedError when it is not as it was written."""
    verify(folder)
    return f"sound: {sum(path.stat().st_size for path in folder.iterdir()) / 1e6:.1f} MB"


def look_at_best(run_dir: Path, folders: Sequence[Path]) -> str:
    """The best weights. They must be there if the newest checkpoint names a best step."""
    folder = run_dir / "checkpoints" / "best"
    expected = read_state(folders[-1])["best_step"] if folders else None
    if not folder.exists() and (old := folder.with_name(".best.old")).exists():
        folder = old  # a save was interrupted between two renames; a resume puts it back
    if not folder.exists() and expected is None:
        return "none yet: no evaluation before the newest checkpoint"
    verdict = look_at_checkpoint(folder)
    record = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    if expected is not None and record["step"] < expected:
        raise Damage(f"of step {record['step']}; the newest checkpoint tells of better ones, of step {expected}")
    return f"{verdict}, step {record['step']}, error rate {100 * record['wer']:.2f} %"


def look_at_metrics(run_dir: Path, folders: Sequence[Path]) -> str:
    """Check training records and evaluations up to the newest checkpoint: each step once, in order, none missing.

    A resume removes what lies behind that checkpoint, even half a line. A step that is missing here and in TensorBoard
    was not due: a resume may have changed the interval.
    """
    from trainer.rundir.reading import read_records

    path, newest, undone = run_dir / "metrics.jsonl", 0, -1
    if not folders and not path.exists():
        return "none yet"
    if folders:
        state = read_state(folders[-1])
        newest, undone = state["step"], state["step"] if state["eval_pending"] else -1
    records, config = read_records(path), read_config(run_dir).train
    shown, notes = list[str](), list[str]()
    for key, what, every in (
        ("train/loss", "steps", config.log_every),
        ("eval/loss", "evaluations", config.eval_every),
    ):
        steps = [record["step"] for record in records if key in record]
        if twice := [b for a, b in itertools.pairwise(steps) if b <= a]:
            raise Damage(f"{what}: step {twice[0]} is told twice, or out of order")
        missing = set(range(every, newest + 1, every)) - set(steps) if every else set()
        missing -= {undone} if key == "eval/loss" else set()
        if lost := missing & told_tensorboard(run_dir, key):
            raise Damage(f"{what}: step {min(lost)} is missing")
        if missing:
            notes.append(f"{what}: the interval was changed on the way")
        shown.append(f"{len(steps)} {what} to {steps[-1] if steps else 0}")
    return f"sound: {'; '.join([', '.join(shown), *notes])}"


def look_at_dynamics(run_dir: Path, folders: Sequence[Path]) -> str:
    """Check the losses of each utterance against the seals of the newest checkpoint. What comes behind them is not
    sealed yet: a resume cuts it off."""
    from trainer.rundir.checkpoints.restore import seals_of
    from trainer.rundir.dynamics.files import TABLES, check_ids, read_dynamics
    from trainer.rundir.dynamics.record_file import check_records

    folder = run_dir / "dynamics"
    seals = seals_of(folders[-1]) if folders else {}
    if not folder.exists() and not seals:
        return "none: an older version of this program kept no losses of each utterance"
    for name, seal in seals.items():
        check_records(folder / f"{name}.npy", TABLES[name], seal)
        check_ids(folder / f"{name}-ids.arrow", seal["ids"])
    kept = read_dynamics(run_dir)
    evaluations = len({int(step) for step in kept.scores["step"]})
    return f"sound: {len(kept.visits)} visits of {len(kept.ids)} utterances, {evaluations} evaluations"


def told_tensorboard(run_dir: Path, tag: str) -> set[int]:
    """The steps for which the event files hold `tag`."""
    from trainer.rundir.logs.eventfiles import read_events

    return {
        event.step
        for path in run_dir.glob("events.out.tfevents.*")
        for _, event in read_events(path.read_bytes())
        if any(value.tag == tag for value in event.summary.value)
    }


def read_results(run_dir: Path) -> dict[str, Any]:
    return json.loads((run_dir / "results.json").read_text(encoding="utf-8"))


def look_at_results(run_dir: Path) -> str:
    from trainer.scoring.metrics import units_of

    results = read_results(run_dir)
    units = units_of(results)
    rate = "none" if results[units.main] is None else f"{100 * results[units.main]:.2f} %"
    return f"sound: {results['steps']} steps, {units.label} {rate} on {results['headline']}"


def look_at_hypotheses(run_dir: Path) -> str:
    """Check that each split that was scored with the exported weights has as many lines as utterances."""
    lines = (run_dir / "hypotheses.jsonl").read_text(encoding="utf-8").split("\n")  # U+2028 in an id ends no line
    records = [json.loads(line) for line in lines if line]
    found = Counter(split for record in records for split in (record["split"], *record.get("also", ())))
    results = read_results(run_dir)
    for split, record in results["splits"].items():
        if record["weights"] == results["weights"] and found[split] != record["num_utterances"]:
            raise Damage(f"{found[split]} utterances of {split}; results.json has {record['num_utterances']}")
    return f"sound: {', '.join(f'{number} of {split}' for split, number in found.items())}"


def look_at_model(run_dir: Path) -> str:
    """Check that the exported tensors are, byte for byte, those of the checkpoint that results.json names."""
    from safetensors import SafetensorError

    from models.checkpoints.shards import is_weight, read_whole
    from models.checkpoints.training_checkpoint import is_training_checkpoint, read_weights

    def contents(folder: Path) -> list[bytes]:
        try:
            # the export has no low-rank updates any more
            weights = read_weights(folder) if is_training_checkpoint(folder) else read_whole(folder, is_weight)
            return sorted(t.numpy().tobytes() for t in weights.values())
        except (SafetensorError, ValueError) as error:
            raise Damage(f"{folder.name}/model.safetensors: {error}") from None

    for name in ("config.json", "preprocessor_config.json", "tokenizer_config.json", "vocab.json"):
        json.loads((run_dir / "model" / name).read_text(encoding="utf-8"))
    results, exported = read_results(run_dir), contents(run_dir / "model")
    step = results["best"]["step"] if results["weights"] == "best" else results["steps"]
    candidates = [run_dir / "checkpoints" / name for name in (f"step-{step:08d}", "best")]
    there = [folder for folder in candidates if any(folder.glob("*.safetensors"))]
    if not any(contents(folder) == exported for folder in there):
        raise Damage(f"model.safetensors is not the weights of step {step}, which results.json tells of")
    return f"sound: the weights of step {step}"


if __name__ == "__main__":
    sys.exit(main())
