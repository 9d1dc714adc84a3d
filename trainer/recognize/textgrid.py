"""Praat's TextGrid in its long text format: tiers over one recording. All times are given in samples at SAMPLE_RATE."""

from __future__ import annotations

from collections.abc import Sequence

from data.utterance import SAMPLE_RATE


def textgrid(tiers: Sequence[list[str]], length: int) -> str:
    """The file of a recording of `length` samples; `tiers` are what the functions below return."""
    head = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", f"xmax = {_exact(length)}",
            "tiers? <exists>", f"size = {len(tiers)}", "item []:"]  # fmt: skip
    body = [line for i, tier in enumerate(tiers, 1) for line in [f"    item [{i}]:", *tier]]
    return "\n".join([*head, *body]) + "\n"


def interval_tier(name: str, intervals: Sequence[tuple[int, int, str]], length: int) -> list[str]:
    """Intervals (start, end, label) without gaps between: silence has an empty label. Those without a length are left
    out."""
    tiled, at = list[tuple[int, int, str]](), 0
    for start, end, text in intervals:
        if start >= end:
            continue
        if start > at:
            tiled.append((at, start, ""))
        tiled.append((start, end, text))
        at = end
    if at < length:
        tiled.append((at, length, ""))
    lines = [*_tier_head("IntervalTier", name, length), f"        intervals: size = {len(tiled)}"]
    indent = " " * 12
    for i, (start, end, text) in enumerate(tiled, 1):
        lines += [f"        intervals [{i}]:", f"{indent}xmin = {_exact(start)}", f"{indent}xmax = {_exact(end)}",
                  f"{indent}text = {_quoted(text)}"]  # fmt: skip
    return lines


def point_tier(name: str, points: Sequence[tuple[int, str]], length: int) -> list[str]:
    """Points (at, label); no two of them at one time."""
    lines = [*_tier_head("TextTier", name, length), f"        points: size = {len(points)}"]
    for i, (at, text) in enumerate(points, 1):
        lines += [f"        points [{i}]:", f"            number = {_exact(at)}", f"            mark = {_quoted(text)}"]
    return lines


def _tier_head(kind: str, name: str, length: int) -> list[str]:
    return [f'        class = "{kind}"', f'        name = "{name}"', "        xmin = 0",
            f"        xmax = {_exact(length)}"]  # fmt: skip


def _quoted(text: str) -> str:
    doubled = text.replace('"', '""')
    return f'"{doubled}"'


def _exact(num_samples: int) -> str:
    """Seconds with every digit that a sample has: neighbouring intervals must meet to the last one."""
    return f"{num_samples / SAMPLE_RATE:.7f}".rstrip("0").rstrip(".") or "0"
