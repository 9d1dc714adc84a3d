"""How far word confidences can be believed, in pictures and sentences: for the report and the model card."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from trainer.report.curves import INK, SERIES, empty_figure, to_svg
from trainer.scoring.reliability import NUM_BINS

if TYPE_CHECKING:  # as in trainer.report.curves
    from matplotlib.figure import Figure

HEAD = ("Split", "ECE", "ECE by chance", "NLL", "AUC", "Words", "Wrong", "Utterance ECE", "Utterance AUC")
EXPLAINED = (
    "A calibrated confidence is the probability that a word is right. ECE is the expected calibration error over words "
    f"in {NUM_BINS} bins of equal width, and by chance what exact probabilities would have on as many words. NLL is in "
    "nats a word. AUC is the probability that a right word has a higher confidence than a wrong one. An utterance's "
    "confidence is the mean of its words', the share of them to expect to be right; its AUC sets utterances without an "
    "error against the others. Where the model writes phones, each of them counts as a word here."
)


def draw_reliability(record: dict[str, Any]) -> Figure:
    """The diagram of a split's record `confidence`: the share of right words in each bin, and of all words in it."""
    bins, total = record["bins"], sum(b["number"] for b in record["bins"])
    confidences, right = [100 * b["confidence"] for b in bins], [100 * b["right"] for b in bins]
    # of each bin one standard deviation of the share, as if its probabilities were exact
    spread = [100 * (b["confidence"] * (1 - b["confidence"]) / b["number"]) ** 0.5 for b in bins]
    figure = empty_figure(4.0, 3.0)
    axes = figure.add_subplot()
    axes.bar(
        [50 * (b["from"] + b["to"]) for b in bins], [100 * b["number"] / total for b in bins], 88 / NUM_BINS,
        color=SERIES[0], alpha=0.22, label="share of all words",
    )  # fmt: skip
    axes.plot([0, 100], [0, 100], color=INK, linestyle="--", linewidth=1, label="exact")
    axes.errorbar(
        confidences, right, yerr=spread, color=SERIES[1], marker="o", markersize=4, linewidth=1.5, elinewidth=0.8,
        capsize=2, label="right words",
    )  # fmt: skip
    axes.set(xlim=(0, 100), ylim=(0, 102))
    axes.set_title("Right words (%)", color=INK, fontsize=9, loc="left")
    axes.set_xlabel("confidence (%)", color=INK, fontsize=8)
    axes.tick_params(colors=INK, labelsize=8, length=3)
    axes.grid(alpha=0.2, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)
    axes.legend(frameon=False, fontsize=8, labelcolor=INK, loc="upper left")
    return figure


def describe_confidences(results: dict[str, Any]) -> str:
    """How the confidences of results.json were made, in a sentence."""
    made = results.get("calibration") or {}
    if "method" not in made:
        why = f": {made['why_none']}" if made.get("why_none") else ""
        return f"Not calibrated{why}. A word's confidence is the geometric mean of its units' posteriors."
    measure, _, aggregate = made["method"].rpartition("-")
    return (
        f"Calibrated on {made['split']} ({made['num_words']:,} words, {made['num_wrong']:,} of them wrong): "
        f"{measure.replace('-', ', ')} measure of each unit, {aggregate} over a word's units, temperature "
        f"{made['temperature']:.3g}."
    )


def reliability_rows(results: dict[str, Any]) -> list[list[str]]:
    """The cells under HEAD, a row for each split that has confidences."""
    rows = []
    for split, record in results.get("splits", {}).items():
        if (found := record.get("confidence")) is not None:
            rows.append([
                split, *(_figure(found[key]) for key in ("ece", "ece_by_chance", "nll", "auc")),
                f"{found['num_words']:,}", f"{found['num_wrong']:,}",
                *(_figure(found[key]) for key in ("utterance_ece", "utterance_auc")),
            ])  # fmt: skip
    return rows


def reliability_section(results: dict[str, Any], headline: str) -> list[tuple[str, str, str]]:
    """The report's section on confidences, (anchor, title, HTML) of trainer.report.page.Page; none without a word."""
    record = results.get("splits", {}).get(headline, {}).get("confidence")
    if record is None or not record["bins"]:
        return []
    svg = to_svg(draw_reliability(record), "right words over confidence")
    note = (
        f"{describe_confidences(results)} The diagram is of {headline}; bars around a point are one standard deviation."
    )
    return [(
        "confidence", "Confidence",
        f'<p class="note">{escape(note)}</p><div class="curves reliability">{svg}</div>'
        f'<div class="scroll">{_table(reliability_rows(results))}</div><p class="note">{escape(EXPLAINED)}</p>',
    )]  # fmt: skip


def _table(rows: Sequence[Sequence[str]]) -> str:
    def line(tag: str, cells: Sequence[str]) -> str:
        first, *others = map(escape, cells)
        numbers = "".join(f'<{tag} class="number">{cell}</{tag}>' for cell in others)
        return f"<tr><{tag}>{first}</{tag}>{numbers}</tr>"

    return f"<table><thead>{line('th', HEAD)}</thead><tbody>{''.join(line('td', row) for row in rows)}</tbody></table>"


def _figure(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"
