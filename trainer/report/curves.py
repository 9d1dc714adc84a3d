"""The curves of a run as pictures: PNG files for the model card, SVG that follows the page's colours for the report."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it reports on its font cache

# (name, title, [(tag, label)], logarithmic)
CURVES: tuple[tuple[str, str, list[tuple[str, str]], bool], ...] = (
    ("loss", "Loss (nats per unit)", [("train/loss", "training"), ("eval/loss", "evaluation")], True),
    ("wer", "Error rate (%)", [("eval/wer", "words"), ("eval/cer", "characters")], False),
    ("lr", "Learning rate", [("train/lr", "")], False),
)
INK, SERIES = "#5c6470", ("#2f6fb3", "#b3542f")
"""Colours: INK of text and axes, SERIES of the lines."""
PAGE_COLORS = {INK: "var(--muted)", SERIES[0]: "var(--series-1)", SERIES[1]: "var(--series-2)"}


def draw_curves(records: Sequence[dict[str, Any]]) -> dict[str, Figure]:
    """Name -> picture, for each of CURVES that `records` (of metrics.jsonl) have figures for."""
    figures = {}
    for name, title, lines, logarithmic in CURVES:
        figure = Figure(figsize=(4.0, 2.5), layout="constrained")
        axes = figure.add_subplot()
        shown: list[float] = []
        for (tag, label), color in zip(lines, SERIES, strict=False):
            factor = 100.0 if name == "wer" else 1.0
            points = [(r["step"], factor * r[tag]) for r in records if r.get(tag) is not None]
            if points:
                marker = "." if tag.startswith("eval") and len(points) < 50 else ""
                axes.plot(*zip(*points, strict=True), color=color, label=label, linewidth=1.5, marker=marker)
                shown += [value for _, value in points]
        if not shown:
            continue
        if logarithmic and min(shown) > 0:
            axes.set_yscale("log")
        else:
            axes.set_ylim(bottom=0)
        axes.set_title(title, color=INK, fontsize=9, loc="left")
        axes.set_xlabel("step", color=INK, fontsize=8)
        axes.tick_params(colors=INK, labelsize=8, which="both", length=3)
        axes.grid(alpha=0.2, color=INK)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(INK)
        if any(label for _, label in lines):
            axes.legend(frameon=False, fontsize=8, labelcolor="linecolor")
        figures[name] = figure
    return figures


def to_png(figure: Figure) -> bytes:
    """The picture as a small PNG file on a white background."""
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def to_svg(figure: Figure, label: str) -> str:
    """An <svg> element for a page that defines the variables of PAGE_COLORS. The same figure gives the same bytes.

    `label` describes the picture to those who cannot see it. It must be free of markup.
    """
    FigureCanvasSVG(figure)
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": label, "font.family": "sans-serif"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*">', "<g>", svg)  # names such as axes_1 are not unique in a page
    for color, variable in PAGE_COLORS.items():
        svg = svg.replace(color, variable)
    return svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)
