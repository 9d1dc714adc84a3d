"""What is said of one utterance that may be wrong, and the file that holds it of all: doctor.jsonl.

The ranking makes one score of the signs of an utterance. The command and its page know no more than what stands here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from data import strict_json
from trainer.errors import DamagedError
from trainer.rundir.disk import write_bytes
from trainer.signs.sign import SURER, Certainty, Sign

FILE = "doctor.jsonl"
EXCLUDED = "doctor-exclude.jsonl"
"""Ids for --corpus.exclude."""


@dataclass(frozen=True)
class Suspect:
    """An utterance, how suspect it is, and why. A sound one has no sign."""

    id: str
    score: float
    """From 0, nothing was seen, to 1, as good as certainly wrong. Comparable within one file."""
    signs: tuple[Sign, ...]
    """The weightiest first."""
    text: str
    """The transcript as the corpus wrote it."""
    hypothesis: str | None = None
    """What the model writes; None where no model was run."""
    split: str = "train"
    speaker: str | None = None
    audio: str = ""
    """Where its audio lies: AudioSource.name."""
    origin: str = ""
    """Where the corpus names it, as file:line."""
    seconds: float = 0.0
    losses: tuple[float | None, ...] = ()
    """Nats per unit at each visit in training, oldest first; None where the utterance was not visited or the loss no
    number."""

    @property
    def is_certain(self) -> bool:
        """Whether it is marked as certainly wrong."""
        return self.is_marked("certain")

    def is_marked(self, certainty: Certainty) -> bool:
        """Whether one of its signs is so sure, or surer."""
        return any(SURER[sign.certainty] <= SURER[certainty] for sign in self.signs)


def write_suspects(path: Path, suspects: Iterable[Suspect]) -> None:
    """One JSON object a line, in the order given: the most suspect first. OSError where the disk refuses."""
    write_bytes(path, "".join(f"{strict_json.dumps(_as_json(suspect))}\n" for suspect in suspects).encode())


def write_excluded(path: Path, suspects: Iterable[Suspect], certainty: Certainty) -> int:
    """Write the ids of those that are marked so, or surer, and why, for --corpus.exclude. Returns how many they are."""
    marked = [suspect for suspect in suspects if suspect.is_marked(certainty)]
    lines = [{"id": suspect.id, "note": "; ".join(sign.name for sign in suspect.signs)} for suspect in marked]
    write_bytes(path, "".join(f"{strict_json.dumps(line)}\n" for line in lines).encode())
    return len(marked)


def read_suspects(path: Path) -> Iterator[Suspect]:
    """The suspects of a file, in its order. DamagedError names the line that is none."""
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                yield _from_json(strict_json.loads(line))
            except (ValueError, KeyError, TypeError) as error:
                raise DamagedError(f"{path}: line {number} describes no utterance ({error})") from None


def _as_json(suspect: Suspect) -> Mapping[str, Any]:
    fields = asdict(suspect)
    fields["reasons"] = [
        {key: value for key, value in sign.items() if value is not None} for sign in fields.pop("signs")
    ]
    return fields


def _from_json(fields: Mapping[str, Any]) -> Suspect:
    known = dict(fields)
    signs = tuple(Sign(**reason) for reason in known.pop("reasons"))
    return Suspect(**known | {"signs": signs, "losses": tuple(known.get("losses", ()))})
