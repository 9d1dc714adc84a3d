"""Whether runs can be compared at all, and what of them cannot: said before any figure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from trainer.config.as_json import flatten, read_config
from trainer.errors import ConfigError, ResultsError
from trainer.report.columns import letter
from trainer.report.verdict import Row
from trainer.rundir.results import read_hypotheses, read_results
from trainer.scoring.scores import Hypothesis


@dataclass(frozen=True)
class Evaluated:
    """A finished run as far as a comparison needs it."""

    folder: Path
    results: dict[str, Any]
    splits: dict[str, list[Hypothesis]]
    own_names: dict[str, str] = field(default_factory=dict)
    """The name that the run itself gives to a split which is called here as the last run calls it."""
    all_names: frozenset[str] = frozenset()
    """Those that the run itself gives to its splits, where `own_names` has some."""


@dataclass(frozen=True)
class LeftOut:
    """Utterances of any run that cannot be paired."""

    missing: int
    """Not in all runs, of splits that all runs have."""
    respelt: int
    """In all runs, with other references."""
    example: str = ""
    """One that has other references, and these."""


def read_runs(folders: Sequence[Path]) -> list[Evaluated]:
    """The runs to compare; ConfigError or ResultsError for one that is there twice, not over or damaged, and for runs
    whose units differ, or the rule under which these are scored."""
    for i, j in combinations(range(len(folders)), 2):
        if folders[i].resolve() == folders[j].resolve():
            raise ConfigError(f"{folders[j]} is given twice. Name each run once.")
    runs = [_read(folder) for folder in folders]
    runs = [_called_as_in(runs[-1], run) for run in runs]
    units = [next(h.units.name for some in run.splits.values() for h in some) for run in runs]
    if len(set(units)) > 1:
        told = ", ".join(f"{run.folder} {of}" for run, of in zip(runs, units, strict=True))
        raise ResultsError(f"the runs write different units ({told}): their error rates cannot be compared.")
    rules = {run.folder: str(run.results["scoring"]) for run in runs if run.results.get("scoring")}
    if len(set(rules.values())) > 1:
        told = "; ".join(f"{folder}: {rule}" for folder, rule in rules.items())
        raise ResultsError(
            f"the runs were scored under different rules ({told}): their error rates cannot be compared. Score one of "
            "them again under the other's rule: python -m scripts.evaluate."
        )
    return runs


def _read(folder: Path) -> Evaluated:
    if not (folder / "results.json").exists() and (folder.parent / "results.json").exists():
        raise ResultsError(f"{folder}: is a part of a run. Give the run: {folder.parent}.")
    if (folder / "config.json").exists() and not (folder / "results.json").exists():
        raise ResultsError(f"{folder}: the run has not come to its end. The same command with --resume continues it.")
    results, path = read_results(folder), folder / "hypotheses.jsonl"
    splits = read_hypotheses(path)
    for split, hypotheses in splits.items():
        for h in hypotheses:
            if h.words.num_reference != len(h.reference.split()):
                raise ResultsError(
                    f"{path}: {split}, {h.id}: the counts are not those of its reference: a damaged file."
                )
        record = results.get("splits", {}).get(split, {})
        found = {"num_utterances": len(hypotheses), "num_errors": sum(h.words.num_errors for h in hypotheses)}
        for key, number in found.items():
            if record.get(key, number) != number:
                raise ResultsError(
                    f"{path}: {number} {key.removeprefix('num_')} of {split}, but results.json tells of "
                    f"{record[key]}: one of the two is damaged or of another evaluation."
                )
    return Evaluated(folder, results, splits)


def _called_as_in(last: Evaluated, run: Evaluated) -> Evaluated:
    """`run`, whose splits have the names that `last` gives to the same utterances with the same references.

    What a run scored as `test` beside its development set is the `eval` of an evaluation on that manifest alone.
    """

    def texts(hypotheses: Sequence[Hypothesis]) -> dict[str, str]:
        return {h.id: h.reference for h in hypotheses}

    taken = {name for name, some in run.splits.items() if texts(some) == texts(last.splits.get(name, ()))}
    own_names = {}
    for name, hypotheses in last.splits.items():
        same = (own for own, some in run.splits.items() if own not in taken and texts(some) == texts(hypotheses))
        if name not in taken and (own := next(same, None)) is not None:
            own_names[name] = own
            taken |= {name, own}
    if not own_names:
        return run
    new_names = {own: name for name, own in own_names.items()}
    hidden = own_names.keys() - new_names.keys()  # another set of the name that is now this one's
    records = run.results.get("splits", {})

    def renamed(of: dict[str, Any]) -> dict[str, Any]:
        return {new_names.get(own, own): found for own, found in of.items() if own not in hidden}

    return replace(run, results=run.results | {"splits": renamed(records)}, splits=renamed(run.splits),
                   own_names=own_names, all_names=frozenset(run.splits))  # fmt: skip


def pair(read: Sequence[dict[str, list[Hypothesis]]]) -> tuple[dict[str, list[Row]], LeftOut]:
    """Split -> the utterances that all runs scored with the same reference, hypotheses of all runs, in the last run's
    order; and what is left out: utterances are counted once for each run that has them."""
    known = [{(split, h.id): h for split, some in splits.items() for h in some} for splits in read]
    rows: dict[str, list[Row]] = {}
    respelt, example = 0, ""
    for split, hypotheses in read[-1].items():
        for h in hypotheses:
            row = [of_run[split, h.id] for of_run in known if (split, h.id) in of_run]
            if len(row) < len(read):
                continue
            if other := next((o for o in row if o.reference != h.reference), None):
                respelt += len(read)
                example = example or f"{split}, {h.id}: {other.reference!r} and {h.reference!r}"
                continue
            rows.setdefault(split, []).append(tuple(row))
    num_all = sum(len(some) for splits in read for split, some in splits.items() if all(split in of for of in read))
    missing = num_all - respelt - len(read) * sum(map(len, rows.values()))
    return rows, LeftOut(missing, respelt, example)


def remarks(runs: Sequence[Evaluated], rows: dict[str, list[Row]], left_out: LeftOut) -> Iterator[str]:
    """What a reader must know before he believes a figure, one sentence each."""
    folders = [run.folder for run in runs]
    if rule := next((run.results["scoring"] for run in runs if run.results.get("scoring")), ""):
        units = next(iter(rows.values()))[0][0].units
        yield f"{units.label} [{rule}]"
    for i, run in enumerate(runs):
        for split, own in run.own_names.items():
            is_other = split not in run.own_names.values() and split in run.all_names
            others = f" (its own {split} is left out)" if is_other else ""
            yield f"{split} is what {letter(i)} calls {own}: the same utterances with the same references{others}"
    if left_out.missing:
        yield f"Left out: {left_out.missing} utterances that not all runs have"
    if left_out.respelt:
        yield (
            f"Left out: {left_out.respelt} utterances whose references differ ({left_out.example})"
            f"{normalizers(folders)}"
        )
    if left_out.missing or left_out.respelt:
        yield "All rates below are over the utterances that are left, so they are not those of results.json"
    for split in dict.fromkeys(split for run in runs for split in run.splits if split not in rows):
        have = [letter(i) for i, run in enumerate(runs) if split in run.splits]
        if len(have) == len(runs):
            yield f"{split} is not compared: all runs have a set of this name, but no utterance that is the same in all"
            continue
        yield f"{split} is not compared: {', '.join(have)} alone {'has' if len(have) == 1 else 'have'} it"
    trained = [run.results.get("training_data") for run in runs]
    known = {digest for digest in trained if digest}
    if len(known) > 1:
        groups = [[letter(i) for i, of in enumerate(trained) if of == digest] for digest in dict.fromkeys(trained)]
        yield (
            "The runs were trained on different data "
            f"({' / '.join(', '.join(group) for group in groups)}): a difference is not that of the options alone"
        )
    if None in trained:
        unknown = ", ".join(letter(i) for i, of in enumerate(trained) if of is None)
        yield f"What {unknown} was trained on is not known: an evaluation or an older version's run does not tell it"
    weights = [str(run.results.get("weights", "unknown")) for run in runs]
    if len(set(weights)) > 1:
        yield "Weights scored: " + ", ".join(f"{letter(i)} {of}" for i, of in enumerate(weights))
    for i, run in enumerate(runs):
        for split in rows:
            if note := run.results.get("splits", {}).get(split, {}).get("note"):
                yield f"{letter(i)} on {split}: {note}"


def normalizers(folders: Sequence[Path]) -> str:
    """`: normaliser plain with A, hf-timit with B`; "" where they are the same or not known."""
    try:
        names = [flatten(read_config(f / "config.json", lenient=True)).get("corpus.normalizer") for f in folders]
    except ConfigError:
        return ""
    if len(set(names)) == 1:
        return ""
    return ": normaliser " + ", ".join(f"{name} with {letter(i)}" for i, name in enumerate(names))
