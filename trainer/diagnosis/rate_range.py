"""`--lr-finder`: the loss while the rate rises from very low to very high, and the rate that it suggests.

The range test of Smith 2017 (arXiv 1506.01186) with an exponential rise. It tells which rates are too low to move the
weights and from which on training diverges. CTC falls at any sound rate from its first loss to that of the units'
frequencies, so the test cannot tell which rate learns best in the end: it names an order of magnitude.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from data.randomness import derive_seed
from data.utterance import Corpus
from trainer.cli.console import Console
from trainer.config.schema import Config
from trainer.diagnosis.rate import usual_lr
from trainer.diagnosis.trial import prepare_trial, refuse_several_processes, take_step
from trainer.rundir.disk import write_text

STEPS = 100
BELOW, ABOVE = 1e-3, 1e2
"""The range: from this multiple of the usual rate to that."""
NEIGHBOURS = 4
"""Losses on each side that a loss is averaged with."""
DIVERGED = 2.0
"""A smoothed loss of this many times the lowest ends the test."""
LEAST_STEPS = 20
"""Steps before the test may end: the first losses of random weights are wild."""
FALLEN = 0.9
"""The smoothed loss must come below this multiple of the first for a rate to be suggested."""
REACHED, MARGIN = 0.9, 10.0
"""The suggestion is the rate at which so much of the loss' whole fall is made: lower ones hardly move the weights, and
higher ones gain nothing here. It stays MARGIN below a rate that diverges."""


@dataclass(frozen=True)
class Sweep:
    """One test. Lists have one value a step."""

    rates: list[float]
    losses: list[float]
    smooth: list[float]
    diverged_at: float | None
    """The rate at which the loss rose for good or was no number; None if none of the range did that."""

    @property
    def lowest(self) -> int:
        """The step of the lowest smoothed loss."""
        return min(range(len(self.smooth)), key=self.smooth.__getitem__)

    @property
    def has_fallen(self) -> bool:
        """Whether the loss fell at any rate."""
        return bool(self.smooth) and self.smooth[self.lowest] < FALLEN * self.smooth[0]

    @property
    def suggestion(self) -> float | None:
        """A peak rate, to one digit; None where the loss fell at none."""
        if not self.has_fallen:
            return None
        first, least = self.smooth[0], self.smooth[self.lowest]
        reached = next(k for k, loss in enumerate(self.smooth) if loss <= first - REACHED * (first - least))
        rate = min(self.rates[reached], (self.diverged_at or math.inf) / MARGIN)
        return float(f"{rate:.0e}")


def rates(usual: float, steps: int = STEPS) -> list[float]:
    """The rate of each step, rising by the same factor from step to step.

    >>> [f"{rate:.0e}" for rate in rates(1e-3, 6)]
    ['1e-06', '1e-05', '1e-04', '1e-03', '1e-02', '1e-01']
    """
    low, high = BELOW * usual, ABOVE * usual
    return [low * (high / low) ** (k / (steps - 1)) for k in range(steps)]


def smoothed(losses: Sequence[float]) -> list[float]:
    """Each loss averaged with its neighbours on both sides, so that a fall stands at the rate that made it.

    >>> smoothed([4.0, 2.0])
    [3.0, 3.0]
    """
    spans = [losses[max(0, k - NEIGHBOURS) : k + NEIGHBOURS + 1] for k in range(len(losses))]
    return [sum(span) / len(span) for span in spans]


def has_diverged(losses: Sequence[float]) -> bool:
    """Whether the test may end: the last loss is no number, or the smoothed loss has risen for good."""
    if not math.isfinite(losses[-1]):
        return True
    smooth = smoothed(losses)
    return len(losses) >= LEAST_STEPS and min(smooth[-1], losses[-1]) > DIVERGED * min(smooth)


def find_rate(config: Config, console: Console, corpus: Corpus | None = None) -> int:
    """Run the test for `config` and say what it suggests; 0, or 1 where the loss fell at no rate.

    Writes RUNS_DIR/NAME-lr-finder.html and nothing else.
    """
    refuse_several_processes("--lr-finder")
    path = Path(config.runs_dir) / f"{config.run_dir.name}-lr-finder.html"
    console.say(f"rate range test of {config.run_dir}: {STEPS} steps, whose weights are thrown away; no run is begun")
    run = prepare_trial(config, STEPS, console, corpus)
    usual = usual_lr(config) or config.optim.lr or 1e-4
    planned, taken, losses = rates(usual), list[float](), list[float]()
    diverged_at = None
    run.parts.model.train()
    steps = console.progress(run.loader.steps(0, 0), STEPS, desc="testing rates", unit="step")
    for k, ((_, batches, _), rate) in enumerate(zip(steps, planned, strict=False)):
        seed = derive_seed(config.seed, "step", k)
        losses.append(take_step(run.parts, batches, rate, config.optim.max_grad_norm, seed).loss)
        taken.append(rate)
        if has_diverged(losses):
            diverged_at = rate
            break
    if not math.isfinite(losses[-1]):
        del losses[-1], taken[-1]
    sweep = Sweep(taken, losses, smoothed(losses), diverged_at)
    for line in describe(sweep, config):
        console.say(line)
    for line in chart(sweep):
        console.say(line, wrap=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, page(sweep, config))
    console.say(f"{path} holds the curve")
    return 0 if sweep.has_fallen else 1


def describe(sweep: Sweep, config: Config) -> list[str]:
    """Sentences for the terminal and the page."""
    lr = config.optim.lr or 0.0
    if not sweep.smooth:
        return ["The first loss was no number: look at the corpus with --check."]
    end = f"it diverged at {sweep.diverged_at:.1e}" if sweep.diverged_at else "it did not diverge"
    told = (
        f"The smoothed loss began at {sweep.smooth[0]:.2f} and was lowest, {sweep.smooth[sweep.lowest]:.2f}, at a rate "
        f"of {sweep.rates[sweep.lowest]:.1e}; {end}."
    )
    if sweep.suggestion is None:
        return [told, "It fell at no rate, so none is suggested: --overfit 8 looks for what stands in the way."]
    return [
        told,
        f"Suggestion: --optim.lr {sweep.suggestion:g}. There {100 * REACHED:.0f} % of the fall is made; higher rates "
        f"gained little, and risk more. This command's is {lr:g}.",
    ]


def chart(sweep: Sweep, height: int = 10, width: int = 50) -> list[str]:
    """The smoothed loss over the rate as lines of text."""
    if len(sweep.smooth) < 2:
        return []
    low, high = min(sweep.smooth), max(sweep.smooth)
    n = min(width, len(sweep.smooth))
    at = [round(i * (len(sweep.smooth) - 1) / (n - 1)) for i in range(n)]
    rows = [[" "] * n for _ in range(height)]
    for column, k in enumerate(at):
        share = (sweep.smooth[k] - low) / (high - low) if high > low else 0.0
        rows[height - 1 - round(share * (height - 1))][column] = "*"
    labels = {0: f"{high:.2f}", height - 1: f"{low:.2f}"}
    lines = [f"{labels.get(i, ''):>8} |{''.join(row)}".rstrip() for i, row in enumerate(rows)]
    first, last = f"{sweep.rates[0]:.0e}", f"{sweep.rates[-1]:.0e}"
    return [*lines, f"{'loss':>8} +{'-' * n}", f"{'rate':>8}  {first}{last.rjust(n - len(first))}"]


WIDTH, HEIGHT, LEFT, BOTTOM = 720, 370, 66, 56
"""Of the picture, in pixels, and the room for its labels."""


def page(sweep: Sweep, config: Config) -> str:
    """The curve as one HTML file that needs nothing else."""
    told = "".join(f"<p>{escape(line)}</p>" for line in describe(sweep, config))
    rows = "".join(
        f"<tr><td>{rate:.2e}</td><td>{loss:.4f}</td><td>{smooth:.4f}</td></tr>"
        for rate, loss, smooth in zip(sweep.rates, sweep.losses, sweep.smooth, strict=True)
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(config.run_dir.name)}: rate range test</title><style>{STYLE}</style></head><body>"
        f"<h1>{escape(config.run_dir.name)}: rate range test</h1>{told}{picture(sweep)}"
        "<details><summary>All steps</summary><table><thead><tr><th>Rate</th><th>Loss</th><th>Smoothed</th></tr>"
        f"</thead><tbody>{rows}</tbody></table></details></body></html>\n"
    )


STYLE = (
    ":root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:48rem;margin:2rem auto;"
    "padding:0 1rem}h1{font-size:1.6rem;line-height:1.25;overflow-wrap:anywhere}svg{width:100%;height:auto}"
    "text{fill:currentColor;font-size:13px}@media(max-width:36rem){text{font-size:22px}}.axis{stroke:currentColor}"
    ".raw{fill:none;stroke:#8a93a0;stroke-width:1}.smooth{fill:none;stroke:#2f6fb3;stroke-width:2.5}"
    ".mark{stroke:#b3542f;stroke-width:1.5;stroke-dasharray:5 4}td,th{padding:0 1rem 0 0;text-align:right}"
    "@media(prefers-color-scheme:dark){.smooth{stroke:#6cacf0}.mark{stroke:#e8926b}}"
)


def picture(sweep: Sweep) -> str:
    """The losses and their running mean over the rate, both logarithmic, as SVG."""
    if len(sweep.smooth) < 2:
        return ""
    kept = [loss for loss in [*sweep.losses, *sweep.smooth] if loss > 0]
    bottom, top = math.log(min(kept)), math.log(min(max(kept), 3 * max(sweep.smooth)))
    first, last = math.log(sweep.rates[0]), math.log(sweep.rates[-1])

    def x(rate: float) -> float:
        return LEFT + (math.log(rate) - first) / (last - first) * (WIDTH - LEFT - 20)

    def y(loss: float) -> float:
        share = (math.log(max(loss, math.exp(bottom))) - bottom) / max(1e-9, top - bottom)
        return 15 + (1 - min(1.0, share)) * (HEIGHT - BOTTOM - 15)

    def line(losses: Sequence[float], kind: str) -> str:
        points = " ".join(f"{x(r):.1f},{y(v):.1f}" for r, v in zip(sweep.rates, losses, strict=True))
        return f'<polyline class="{kind}" points="{points}"/>'

    decades = range(math.ceil(math.log10(sweep.rates[0]) - 1e-9), math.floor(math.log10(sweep.rates[-1]) + 1e-9) + 1)
    ticks = "".join(f'<text x="{x(10.0**d):.0f}" y="{HEIGHT - 33}" text-anchor="middle">1e{d}</text>' for d in decades)
    levels = "".join(
        f'<text x="{LEFT - 8}" y="{y(level) + 4:.0f}" text-anchor="end">{level:.2f}</text>'
        for level in (math.exp(bottom), math.exp((bottom + top) / 2), math.exp(top))
    )
    mark = ""
    if sweep.suggestion is not None and sweep.rates[0] <= sweep.suggestion <= sweep.rates[-1]:
        at = x(sweep.suggestion)
        mark = (
            f'<line class="mark" x1="{at:.1f}" x2="{at:.1f}" y1="15" y2="{HEIGHT - BOTTOM}"/>'
            f'<text x="{at + 6:.1f}" y="28">{sweep.suggestion:g}</text>'
        )
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="Loss over the learning rate">'
        f'<line class="axis" x1="{LEFT}" x2="{WIDTH - 20}" y1="{HEIGHT - BOTTOM}" y2="{HEIGHT - BOTTOM}"/>'
        f"{line(sweep.losses, 'raw')}{line(sweep.smooth, 'smooth')}{mark}{ticks}{levels}"
        f'<text x="{(LEFT + WIDTH) / 2:.0f}" y="{HEIGHT - 9}" text-anchor="middle">learning rate</text></svg>'
        "<p>Loss in nats per unit, both axes logarithmic. Grey: the loss of each step. Blue: smoothed."
        + (" Dashed: the suggested rate.</p>" if mark else "</p>")
    )
