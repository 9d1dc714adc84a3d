"""The results of the parts of a corpus, put together again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data.shards.parts import read_part
from trainer.config.as_json import flatten, read_config
from trainer.errors import ResultsError
from trainer.rundir.results import read_hypotheses, read_results
from trainer.scoring.scores import Hypothesis, Scores

OF_ONE_PART = {"name", "corpus.part", "device", "batching.num_workers", "eval.batch_size", "cache_dir", "runs_dir"}
"""Options that parts of one corpus may have differently."""


def merge_parts(folders: Sequence[Path]) -> tuple[list[Scores], dict[str, Any], dict[str, str]]:
    """(Scores of each split over all parts, in the corpus' order; results.json of the first part; what the parts note
    of a split).

    ResultsError unless every part is there once, all of one model and one corpus.
    """
    by_number: dict[int, tuple[Path, dict[str, Any]]] = {}
    for folder in folders:
        results, config = read_results(folder), read_config(folder / "config.json")
        part = getattr(config.corpus, "part", "")
        if not part:
            raise ResultsError(f"{folder}: is no part of a corpus: it was scored without --corpus.part.")
        number, of = read_part(part)
        options = {k: v for k, v in flatten(config).items() if k not in OF_ONE_PART}
        about = {"of": of, "options": options, "num_parameters": results["num_parameters"]}
        if number in by_number:
            raise ResultsError(f"{folder}: is part {part}, and so is {by_number[number][0]}. Give each part once.")
        if by_number and about != (first := next(iter(by_number.values())))[1]:
            differing = [k for k, v in options.items() if first[1]["options"].get(k) != v]
            what = f"--{differing[0].replace('_', '-')}" if differing else "the number of parts, or the model"
            raise ResultsError(f"{folder}: was scored otherwise than {first[0]} ({what}). Score all parts in one way.")
        by_number[number] = folder, about
    of = next(iter(by_number.values()))[1]["of"]
    if missing := sorted(set(range(1, of + 1)) - by_number.keys()):
        raise ResultsError(f"part {missing[0]}/{of} is missing. Score it: --corpus.part {missing[0]}/{of}.")
    ordered = [by_number[number][0] for number in sorted(by_number)]
    results = read_results(ordered[0])
    results.pop("corrections", None)  # they count the first part's; the notes have those of all
    return _add_up(ordered), results, _notes(ordered)


def _notes(folders: Sequence[Path]) -> dict[str, str]:
    """Split -> what all parts say of it once, and what only some say with the part's number."""
    said: dict[str, dict[str, list[int]]] = {}
    for number, folder in enumerate(folders, 1):
        for split, record in read_results(folder)["splits"].items():
            if note := record.get("note"):
                said.setdefault(split, {}).setdefault(note, []).append(number)
    return {
        split: "; ".join(
            note if len(parts) == len(folders) else f"part {', '.join(map(str, parts))} of {len(folders)}: {note}"
            for note, parts in notes.items()
        )
        for split, notes in said.items()
    }


def _add_up(folders: Sequence[Path]) -> list[Scores]:
    splits: dict[str, list[Hypothesis]] = {}
    seconds: dict[str, float] = {}
    for folder in folders:
        of_part = read_results(folder)["splits"]
        for split, hypotheses in read_hypotheses(folder / "hypotheses.jsonl").items():
            splits.setdefault(split, []).extend(hypotheses)
            seconds[split] = seconds.get(split, 0.0) + of_part[split]["eval_seconds"]
    merged = []
    for split, hypotheses in splits.items():
        ids = {h.id for h in hypotheses}
        if len(ids) != len(hypotheses):
            raise ResultsError(f"split {split}: {len(hypotheses) - len(ids)} utterances stand in several parts.")
        audio = sum(h.seconds or 0.0 for h in hypotheses)
        failures = {h.id: h.failure for h in hypotheses if h.failure}
        merged.append(Scores(split, tuple(hypotheses), seconds[split], audio, failures))
    return merged
