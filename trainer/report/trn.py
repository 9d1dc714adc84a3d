"""Reference and transcripts in NIST's trn format, so that sclite and sc_stats can be asked too.

DIR/SPLIT.ref.trn, DIR/SPLIT.A.trn, ...: one utterance a line, `words (SPEAKER-NUMBER)`
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trainer.errors import ResultsError
from trainer.report.columns import letter
from trainer.report.comparable import pair, read_runs
from trainer.rundir.disk import write_text

SPECIAL = "(){}/*@"
"""What sclite reads as alternatives, optional words or identifiers."""


def write_trn(folders: Sequence[Path], out: Path) -> str:
    """Write the utterances that all runs share. Returns a line that says what to do with them.

    Utterances are numbered, since an identifier may hold what the format has another meaning for. ResultsError for a
    word that has.
    """
    splits, _ = pair([run.splits for run in read_runs(folders)])
    out.mkdir(parents=True, exist_ok=True)
    for split, rows in splits.items():
        speakers = {name: f"s{i:04d}" for i, name in enumerate(dict.fromkeys(row[-1].speaker for row in rows))}
        texts = {"ref": [row[-1].reference for row in rows]}
        texts |= {letter(i): [row[i].hypothesis for row in rows] for i in range(len(folders))}
        for name, of in texts.items():
            lines = []
            for number, (text, row) in enumerate(zip(of, rows, strict=True)):
                if found := next((c for c in text if c in SPECIAL), None):
                    raise ResultsError(f"{row[-1].id}: {found!r} means something else in NIST's trn format: no --trn.")
                lines.append(f"{text} ({speakers[row[-1].speaker]}-{number:06d})\n")
            write_text(out / f"{split}.{name}.trn", "".join(lines))
    return f"{out}: {', '.join(splits)} for sclite -i rm -r SPLIT.ref.trn trn -h SPLIT.A.trn trn -o sgml"
