"""What a diagnosis finds: a cause, how sure it is, the numbers that show it, and what to change."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Sure = Literal["certain", "likely", "possible"]
"""certain: the numbers allow nothing else; likely: other causes are rare; possible: worth a try."""


@dataclass(frozen=True)
class Finding:
    """One cause. All texts are short sentences, with their full stop."""

    name: str
    """Of the cause, as docs/why.md lists it."""
    sure: Sure
    what: str
    """What is wrong."""
    evidence: str
    """The numbers that show it."""
    change: str
    """What to do: an option and its value wherever there is one."""

    def line(self) -> str:
        """All of it, for one paragraph of the terminal.

        >>> Finding("only blanks", "likely", "It is silent.", "99 % of frames are blank.", "Train longer.").line()
        'only blanks (likely): It is silent. 99 % of frames are blank. To change: Train longer.'
        """
        return f"{self.name} ({self.sure}): {self.what} {self.evidence} To change: {self.change}"

    def record(self) -> dict[str, Any]:
        """For results.json."""
        return asdict(self)


def table(findings: list[Finding]) -> str:
    """The findings as a table in Markdown, for TensorBoard; a sentence where there are none."""
    if not findings:
        return "No cause of bad training was found."
    rows = ["cause | sure | what | evidence | to change", "---|---|---|---|---"]
    rows += [" | ".join(cell.replace("|", "\\|") for cell in asdict(f).values()) for f in findings]
    return "\n".join(f"| {row} |" for row in rows)
