"""What a check has found wrong: by reason, twenty on the screen, all of them in check.jsonl."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from data import strict_json
from data.faults import Fault
from data.plural import counted
from trainer.cli.console import Console
from trainer.rundir.disk import write_text

MOST_SHOWN = 20
"""Single faults on the screen; every reason has its line and its count whatever happens."""


def tell_faults(faults: Sequence[Fault], path: Path, console: Console) -> bool:
    """Print them, and write each as a line of JSON to `path` (removed when there is none); whether a run would stop."""
    by_reason: dict[tuple[str, ...], list[Fault]] = {}
    for fault in sorted(faults, key=lambda f: (not f.stops, f.reason)):
        # the remedy of a warning names the file: one of a reason stands for all
        key = ("error", fault.reason, fault.remedy) if fault.stops else ("warning", fault.reason)
        by_reason.setdefault(key, []).append(fault)
    if not faults:
        path.unlink(missing_ok=True)
        console.say("faults:    none")
        return False
    num_errors = sum(fault.stops for fault in faults)
    where = f"all of them are in {path}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, "".join(strict_json.dumps(f.record()) + "\n" for of in by_reason.values() for f in of))
    except OSError as error:
        where = f"{path} could not be written ({error.strerror or error})"
    warnings = counted(len(faults) - num_errors, "warning")
    console.say(f"faults:    {num_errors} that stop a run, {warnings}; {where}")
    shares = share_out(MOST_SHOWN, [len(of_reason) for of_reason in by_reason.values()])
    for ((kind, reason, *_), of_reason), share in zip(by_reason.items(), shares, strict=True):
        kind = console.paint(f"{kind}:", "bad")
        console.say(f"{kind} {len(of_reason)} x {reason}. {of_reason[0].remedy}".rstrip(), wrap=False)
        for fault in of_reason[:share]:
            console.say(f"    {fault.message}")
        if share < len(of_reason):
            console.say(f"    ... {len(of_reason) - share} more", wrap=False)
    return num_errors > 0


def share_out(most: int, sizes: Sequence[int]) -> list[int]:
    """How many to show of groups of these sizes, `most` together: as equal as can be, the first ones favoured.

    >>> share_out(20, [3, 100, 9]), share_out(2, [5, 5, 5])
    ([3, 9, 8], [1, 1, 0])
    """
    shares = [0] * len(sizes)
    while most > 0 and any(share < size for share, size in zip(shares, sizes, strict=True)):
        for i, size in enumerate(sizes):
            if most > 0 and shares[i] < size:
                shares[i], most = shares[i] + 1, most - 1
    return shares
