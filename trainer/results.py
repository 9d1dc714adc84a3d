"""What a closing evaluation leaves: results.json and hypotheses.jsonl, and its line on the terminal."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from trainer.disk import write_text
from trainer.evaluate import Scores


def split_record(scores: Scores, weights: str, note: str = "") -> dict[str, Any]:
    """One split's figures; rates are fractions, None where there is no number."""
    words, characters = scores.words, scores.characters
    record = {
        "wer": words.rate,
        "cer": characters.rate,
        "loss": scores.loss,
        "num_errors": words.num_errors,
        "num_reference_words": words.num_reference,
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
    return finite({**record, "note": note} if note else record)


def finite(record: dict[str, Any]) -> dict[str, Any]:
    """`record` with NaN and infinity as None: JSON has neither."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in record.items()}


def describe(scores: Scores) -> str:
    """`test: WER 12.34 % (123 errors of 997 words: 80 sub, 20 ins, 23 del), CER 4.56 %`."""
    w = scores.words
    return (
        f"{scores.split}: WER {100 * w.rate:.2f} % ({w.num_errors:,} errors of {w.num_reference:,} words: "
        f"{w.substitutions} sub, {w.insertions} ins, {w.deletions} del), CER {100 * scores.characters.rate:.2f} %"
    )


def write_hypotheses(path: Path, all_scores: Iterable[Scores]) -> None:
    """One utterance a line: what was said, what was written, and the edits between them."""
    lines = []
    for scores in all_scores:
        for h in scores.hypotheses:
            record = {
                "id": h.id,
                "split": scores.split,
                "reference": h.reference,
                "hypothesis": h.hypothesis,
                **dataclasses.asdict(h.words),
                "num_character_errors": h.characters.num_errors,
                "num_reference_characters": h.characters.num_reference,
                "loss": h.loss,
            }
            if h.id in scores.failures:
                record["failure"] = scores.failures[h.id]
            lines.append(json.dumps(finite(record), ensure_ascii=False) + "\n")
    write_text(path, "".join(lines))


def write_json(path: Path, record: dict[str, Any]) -> None:
    write_text(path, json.dumps(record, indent=2, ensure_ascii=False) + "\n")
