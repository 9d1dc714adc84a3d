"""Write and read what a closing evaluation leaves: results.json, hypotheses.jsonl, and its line on the terminal."""

from __future__ import annotations

import dataclasses
import json
import math
import resource
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from data import strict_json
from trainer.errors import ResultsError
from trainer.rundir.disk import write_text
from trainer.scoring.breakdown import wer_interval
from trainer.scoring.metrics import UNITS, WORDS, EditCounts, count_character_errors
from trainer.scoring.reliability import reliability
from trainer.scoring.scores import Hypothesis, Scores


def split_record(scores: Scores, weights: str, note: str = "") -> dict[str, Any]:
    """One split's figures; rates are fractions, None where there is no number."""
    words, units = scores.words, scores.units
    interval, over = wer_interval(scores.hypotheses)
    record: dict[str, Any] = {
        **scores.rates,
        **({"scoring": scores.rule} if scores.rule else {}),
        f"{units.main}_interval": interval,
        f"{units.main}_interval_over": over,
        "loss": scores.loss,
        "num_errors": words.num_errors,
        f"num_reference_{units.name}": words.num_reference,
        "substitutions": words.substitutions,
        "insertions": words.insertions,
        "deletions": words.deletions,
        "num_utterances": len(scores.hypotheses),
        "num_infinite": scores.num_infinite,
        "num_undecodable": len(scores.failures),
        "audio_seconds": scores.num_audio_seconds,
        "eval_seconds": scores.seconds,
        "weights": weights,
    }
    if (of_words := reliability(scores.hypotheses)) is not None:
        record["confidence"] = of_words
    said = {"protocol": scores.protocol, "note": note}
    return strict_json.finite({**record, **{key: text for key, text in said.items() if text}})


def describe(scores: Scores) -> str:
    """`test: WER 12.34 % (123 errors of 997 words: 80 sub, 20 ins, 23 del), CER 4.56 %, SER 40.00 %`."""
    w, units = scores.words, scores.units
    others = ", ".join(
        f"{metric.upper()} {100 * rate:.2f} %" for metric, rate in scores.rates.items() if metric != units.main
    )
    rule = f" [{scores.rule}]" if scores.rule else ""
    unread = f"; no audio of {len(scores.failures)} utterances: all deletions" if scores.failures else ""
    name = scores.split + f" ({scores.protocol})" * bool(scores.protocol)
    return (
        f"{name}: {units.label}{rule} {100 * w.rate:.2f} % ({w.num_errors:,} errors of {w.num_reference:,} "
        f"{units.name}: "
        f"{w.substitutions} sub, {w.insertions} ins, {w.deletions} del), {others}{unread}"
    )


def peak_memory_bytes(device: torch.device) -> int:
    """The most memory that this process has held: of tensors on a CUDA device, else its resident memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def write_hypotheses(path: Path, all_scores: Sequence[Scores]) -> None:
    """Write one utterance a line: the reference, what the model wrote, and the edits between them.

    What one evaluation found for several splits stands there once: under the first of them, with "also" naming the
    others.
    """
    records: dict[int, dict[str, Any]] = {}
    for scores in all_scores:
        for h in scores.hypotheses:
            if id(h) in records:
                records[id(h)].setdefault("also", []).append(scores.split)
                continue
            record = {
                "id": h.id,
                "split": scores.split,
                "reference": h.reference,
                "hypothesis": h.hypothesis,
                **dataclasses.asdict(h.words),
                **_of_characters(h),
                "loss": h.loss,
                "seconds": h.seconds,
            }
            known = {"speaker": h.speaker, "sex": h.sex, "dialect": h.dialect, "failure": h.failure or None}
            if h.confidences is not None:
                record["confidences"] = [round(c, 6) for c in h.confidences]
            records[id(h)] = record | {key: value for key, value in known.items() if value is not None}
    write_text(path, "".join(strict_json.dumps(record) + "\n" for record in records.values()))


def _of_characters(h: Hypothesis) -> dict[str, Any]:
    """What a line says of characters; of phones it says that they are phones."""
    if h.units != WORDS:
        return {"units": h.units.name}
    return {
        "num_character_errors": h.characters.num_errors,
        "num_reference_characters": h.characters.num_reference,
    }


def read_hypotheses(path: Path) -> dict[str, list[Hypothesis]]:
    """Split -> its utterances in hypotheses.jsonl, in order; ResultsError when the file is not readable.

    An utterance of several splits is the same object in each of them.
    """
    splits: dict[str, list[Hypothesis]] = {}
    number = 0
    try:
        for line in path.read_text(encoding="utf-8").rstrip("\n").split("\n"):  # a transcript may hold U+2028
            number += 1
            r = json.loads(line)
            reference, hypothesis = str(r["reference"]), str(r["hypothesis"])
            units = UNITS[r.get("units", WORDS.name)]
            found = Hypothesis(
                id=str(r["id"]),
                reference=reference,
                hypothesis=hypothesis,
                words=EditCounts(*(int(r[key]) for key in ("hits", "substitutions", "insertions", "deletions"))),
                characters=count_character_errors(reference, hypothesis) if units == WORDS else EditCounts(),
                loss=math.inf if r["loss"] is None else float(r["loss"]),
                failure=str(r.get("failure", "")),
                units=units,
                confidences=None if r.get("confidences") is None else tuple(map(float, r["confidences"])),
                **{key: r.get(key) for key in ("seconds", "speaker", "sex", "dialect")},
            )
            for split in (r["split"], *r.get("also", ())):
                splits.setdefault(str(split), []).append(found)
    except OSError as error:
        raise ResultsError(f"{path}: not readable ({error.strerror}). Has the run come to its end?") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ResultsError(f"{path}:{number}: not an utterance as a run writes it ({error}).") from None
    if not splits:
        raise ResultsError(f"{path}: holds no utterance.")
    return splits


def once_each(splits: Mapping[str, Sequence[Hypothesis]], first: str = "") -> list[tuple[str, Hypothesis]]:
    """(Split, utterance) of all, each utterance once: under the split `first` if that has it, else under the first one
    that has it."""
    seen: set[int] = set()
    found = []
    for split in dict.fromkeys([*([first] if first in splits else []), *splits]):
        found += [(split, h) for h in splits[split] if id(h) not in seen]
        seen |= set(map(id, splits[split]))
    return found


def write_json(path: Path, record: dict[str, Any]) -> None:
    write_text(path, strict_json.dumps(record, indent=2) + "\n")


def read_results(run_dir: Path) -> dict[str, Any]:
    """The content of results.json; ResultsError when it is missing or holds no results."""
    path = run_dir / "results.json"
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
        results["headline"], results["num_parameters"], results["device"]
    except OSError as error:
        raise ResultsError(f"{path}: not readable ({error.strerror}). Has the run come to its end?") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ResultsError(f"{path}: not the results of a run ({error}).") from None
    return results
