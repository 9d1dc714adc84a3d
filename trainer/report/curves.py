"""The curves of a run as pictures: PNG files for the model card, SVG that follows the page's colours for the report."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trainer.scoring.metrics import METRICS

if TYPE_CHECKING:  # matplotlib is imported by whoever draws: a run need not wait for it before its first step
    from matplotlib.figure import Figure

logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it reports on its font cache

# (name, title, [(tag, label)], logarithmic)
CURVES: tuple[tuple[str, str, list[tuple[str, str]], bool], ...] = (
    ("loss", "Loss (nats per unit)", [("train/loss", "training"), ("eval/loss", "evaluation")], True),
    (
        "wer",
        "Error rate (%)",
        [("eval/wer", "words"), ("eval/per", "phones"), ("eval/uer", "units"), ("eval/cer", "characters")],
        False,
    ),
    ("lr", "Learning rate", [("train/lr", "")], False),
)
COMPARED = (
    ("loss", "Training loss (nats per unit)", "train/loss", True),
    ("eval", "Evaluation loss (nats per unit)", "eval/loss", True),
    ("wer", "Word error rate (%)", "eval/wer", False),
    ("per", "Phone error rate (%)", "eval/per", False),
    ("uer", "Unit error rate (%)", "eval/uer", False),
)
"""The same of the pictures that compare runs, with one tag each."""
INK, SERIES = "#5c6470", ("#2f6fb3", "#b3542f", "#3d7d4a", "#7a55a3")
STYLES = ("-", "--", "-.", ":")
"""Colours: INK of text and axes, SERIES of the lines; and the lines' styles, for those who see no colours."""
PAGE_COLORS = {INK: "var(--muted)", **{color: f"var(--series-{i})" for i, color in enumerate(SERIES, 1)}}
PLAIN_BELOW = 4
"""Powers of ten below this are plain on an axis of logarithms: 0.01 and 3, not 10⁻² and 3 × 10⁰."""


def draw_curves(records: Sequence[dict[str, Any]]) -> dict[str, Figure]:
    """Name -> picture, for each of CURVES that `records` (of metrics.jsonl) have figures for."""
    figures = {}
    for name, title, tags, logarithmic in CURVES:
        lines = [(label, _points(records, tag, name), tag) for tag, label in tags]
        if any(points for _, points, _ in lines):
            figures[name] = _draw(title, lines, logarithmic)
    return figures


def compare_curves(runs: Mapping[str, Sequence[dict[str, Any]]]) -> dict[str, Figure]:
    """Name -> picture with one line for each of `runs` (label -> records), for each of COMPARED that has figures."""
    figures = {}
    for name, title, tag, logarithmic in COMPARED:
        lines = [(label, _points(records, tag, name), tag) for label, records in runs.items()]
        if any(points for _, points, _ in lines):
            figures[name] = _draw(title, lines, logarithmic)
    return figures


def _points(records: Sequence[dict[str, Any]], tag: str, name: str) -> list[tuple[int, float]]:
    factor = 100.0 if name in METRICS else 1.0
    return [(r["step"], factor * r[tag]) for r in records if r.get(tag) is not None]


def empty_figure(width: float, height: float) -> Figure:
    """A picture to draw in, its size in inches of 72 points."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _draw(title: str, lines: Sequence[tuple[str, list[tuple[int, float]], str]], logarithmic: bool) -> Figure:
    """A picture of `lines`, each (label, points (step, value), tag). Lines differ in colour and in style."""
    figure = empty_figure(4.0, 2.5)
    axes = figure.add_subplot()
    for i, (label, points, tag) in enumerate(lines):
        if points:
            is_eval = tag.startswith("eval") and len(points) < 50
            marker = "." if is_eval or len(points) == 1 else ""  # a line of one point would not be seen
            color, style = SERIES[i % len(SERIES)], STYLES[i % len(STYLES)]
            axes.plot(
                *zip(*points, strict=True), color=color, linestyle=style, label=label, linewidth=1.5, marker=marker
            )
    if logarithmic and min(value for _, points, _ in lines for _, value in points) > 0:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.set_title(title, color=INK, fontsize=9, loc="left")
    axes.locator_params(axis="x", integer=True, min_n_ticks=1)  # there is no step 22.5
    axes.set_xlabel("step", color=INK, fontsize=8)
    axes.tick_params(colors=INK, labelsize=8, which="both", length=3)
    axes.grid(alpha=0.2, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)
    if any(label for label, _, _ in lines):
        axes.legend(frameon=False, fontsize=8, labelcolor="linecolor")
    return figure


def to_png(figure: Figure) -> bytes:
    """The picture as a small PNG file on a white background."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    with matplotlib.rc_context({"axes.formatter.min_exponent": PLAIN_BELOW}):
        figure.savefig(buffer, format="png", dpi=110, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def to_svg(figure: Figure, label: str) -> str:
    """An <svg> element for a page that defines the variables of PAGE_COLORS. The same figure gives the same bytes.

    `label` describes the picture to those who cannot see it. It must be free of markup.
    """
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    FigureCanvasSVG(figure)
    buffer = io.StringIO()
    with matplotlib.rc_context({
        "svg.fonttype": "none", "svg.hashsalt": label, "font.family": "sans-serif",
        "axes.formatter.min_exponent": PLAIN_BELOW,
    }):  # fmt: skip
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*">', "<g>", svg)  # names such as axes_1 are not unique in a page
    for color, variable in PAGE_COLORS.items():
        svg = svg.replace(color, variable)
    return svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)
