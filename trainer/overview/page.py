"""All runs as one HTML file that fetches nothing: a table, curves over one another, links to what lies beside it.

The table is in the file as HTML. Scripts sort it, draw the curves of ticked runs, and load the file again while it is
being renewed.
"""

from __future__ import annotations

import os
import re
import shlex
import time
import urllib.parse
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from data.plural import counted
from trainer.cli.streams import one_line
from trainer.overview.figures import (
    DASH,
    ago,
    audio_text,
    duration_text,
    moment_text,
    notes_on_rates,
    rate_hint,
    rate_text,
    speed_text,
    step_text,
    units_of,
)
from trainer.overview.find import options_that_differ, short_names
from trainer.overview.run import MAIN_RATES, MEANING, Run
from trainer.overview.terminal import summary
from trainer.report import shell
from trainer.report.html import to_script_json
from trainer.rundir.disk import write_text

MOST_POINTS = 200
"""Points of one curve at most: more than a chart has room for."""
NUM_TICKED = 5
"""How many curves are drawn at first."""
CHARTS = (("rate", "", False), ("eval/loss", "Evaluation loss (nats per unit)", True),
          ("train/loss", "Training loss (nats per unit)", True))  # fmt: skip
"""(Figure of metrics.jsonl, title, logarithmic); `rate` stands for the main error rate."""
SCRIPTS = (("trainer.report", ("elements",)), ("trainer.overview", ("runs",)))
STYLES = (("trainer.report", ("report",)), ("trainer.overview", ("runs",)))
STATUSES = {"damaged": "del", "running": "ins", "resumable": "sub", "stopped": "sub"}
"""Status -> the colour that it is shown in."""


def write_page(
    path: Path,
    runs: list[Run],
    others: Sequence[Path],
    folders: Sequence[Path],
    seconds_to_next: float | None = None,
) -> str:
    """Write the page and return the line that says where it is. With `seconds_to_next` it loads itself again."""
    heading = ", ".join(one_line(str(folder)) for folder in folders)
    now = time.time()
    live = f", renewed every {seconds_to_next:g} s while --watch goes on" if seconds_to_next else ""
    notes = [*notes_on_rates(runs), *([f"No run in {', '.join(one_line(str(o)) for o in others)}."] if others else [])]
    ticked = _ticked(runs)
    refresh = ""
    if seconds_to_next:
        refresh = f'<noscript><meta http-equiv="refresh" content="{max(1, round(seconds_to_next))}"></noscript>\n'
    content = {
        "runs": [_curve_data(run, i in ticked) for i, run in enumerate(runs)],
        "charts": [{"key": key, "title": title or f"{units_of(runs)} during training (%)", "log": log}
                   for key, title, log in CHARTS],
        "next": seconds_to_next,
    }  # fmt: skip
    write_text(
        path,
        shell.template("trainer.overview", "runs").substitute(
            head=shell.head(f"Runs in {heading}", STYLES, more=refresh),
            heading=escape(heading),
            state="" if runs else "empty",
            summary=escape(summary(runs) if runs else "no runs"),
            when=escape(f"as of {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(now))}{live}"),
            notes="".join(f'<p class="note">{escape(note)}</p>' for note in notes),
            table=_table(runs, path, ticked, now) if runs else '<p class="note">No run is here yet.</p>',
            meanings="".join(f"<dt>{status}</dt><dd>{escape(meaning)}</dd>" for status, meaning in MEANING.items()),
            scripts=shell.scripts(SCRIPTS),
            data=to_script_json(content),
        ),
    )
    return f"{path}: {counted(len(runs), 'run')}, {path.stat().st_size / 1e6:.1f} MB"


def _ticked(runs: Sequence[Run]) -> set[int]:
    """The runs whose curves are drawn at first: those that run, then the best."""
    drawn = [i for i, run in enumerate(runs) if run.records]
    return set(sorted(drawn, key=lambda i: (runs[i].status != "running", _rate_of(runs[i])))[:NUM_TICKED])


def _rate_of(run: Run) -> float:
    return run.rate.value if run.rate else float("inf")


def _table(runs: list[Run], page: Path, ticked: set[int], now: float) -> str:
    short = short_names(options_that_differ(runs))
    heads = [("Run", ""), ("Status", ""), ("Step", "number"), (f"{units_of(runs)} % (95 %)", "number"),
             ("Training", "number"), ("Audio", "number"), ("s/s", "number"), ("Began", ""), ("Last sign", ""),
             ("Open", "links"), *((label, "option") for label in short.values())]  # fmt: skip
    head = "".join(
        f'<th scope="col" class="{kind}"><button type="button">{escape(text)}</button></th>' for text, kind in heads
    )
    body = "".join(_row(i, run, short, page, i in ticked, now) for i, run in enumerate(runs))
    return f'<div class="scroll"><table id="runs"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _row(number: int, run: Run, short: Mapping[str, str], page: Path, is_ticked: bool, now: float) -> str:
    name = escape(one_line(run.name))
    box = f'<input type="checkbox" data-run="{number}"{" checked" if is_ticked else ""} aria-label="Choose {name}">'
    label = f'<label>{box} <span class="swatch" aria-hidden="true"></span> <bdi>{name}</bdi></label>'
    note = f'<small class="note">{escape(one_line(run.note))}</small>' if run.note else ""
    colour = STATUSES.get(run.status, "")
    cells = [
        _cell(label, run.name, "run"),
        _cell(f'<span class="status {colour}">{run.status}</span>{note}', run.status, "", "Status"),
        _cell(escape(step_text(run)), run.step, "number", "Step"),
        _cell(escape(rate_text(run)), run.rate and run.rate.value, "number", "Rate", escape(rate_hint(run))),
        _cell(escape(duration_text(run)), run.train_seconds, "number", "Training"),
        _cell(escape(audio_text(run)), run.audio_seconds, "number", "Audio"),
        _cell(escape(speed_text(run)), run.audio_seconds_per_second, "number", "s/s"),
        _cell(escape(moment_text(run.begun)), run.begun, "", "Began"),
        _cell(escape(ago(run.changed, now)), run.changed, "", "Last sign", escape(moment_text(run.changed))),
        _cell(links := _links(run, page), links.count("<a"), "links"),
        *(_option(run.options, name, label) for name, label in short.items()),
    ]  # fmt: skip
    return f"<tr>{''.join(cells)}</tr>"


def _cell(html: str, key: Any, kind: str, title: str = "", hint: str = "") -> str:
    sort = "" if key is None else escape(one_line(str(key)))
    named, hinted = f' data-name="{title}"' if title else "", f' title="{hint}"' if hint else ""
    return f'<td class="{kind}" data-key="{sort}"{named}{hinted}>{html}</td>'


def _option(options: Mapping[str, str] | None, name: str, label: str) -> str:
    """The cell of an option; what is open, or no option of this run, is sorted last."""
    value = (options or {}).get(name)
    if value is None:
        return _cell(DASH, None, "option missing", escape(label), "not known" if options is None else "no option of it")
    shown = "none" if value == "None" else escape(one_line(value))
    return _cell(f"<span>{shown}</span>", None if value == "None" else value, "option", escape(label), shown)


def _links(run: Run, page: Path) -> str:
    """Links to the report, the doctor's page, the model card and the comparisons of a run, as seen from the page."""
    named = {"report.html": "report", "doctor.html": "doctor", "model/README.md": "card"}
    found = [(text, run.path / file) for file, text in named.items() if (run.path / file).is_file()]
    for path in sorted(run.path.glob("compare-*.html")):
        found.append((f"against {re.sub('^compare-|[.]html$', '', path.name)}", path))
    return "".join(
        f'<a href="{escape(_relative(path, page))}" title="{(shown := escape(one_line(text)))}"><bdi>{shown}</bdi></a>'
        for text, path in found
    )


def _relative(path: Path, page: Path) -> str:
    return urllib.parse.quote(os.fsencode(os.path.relpath(path.resolve(), page.resolve().parent)))


def _curve_data(run: Run, is_ticked: bool) -> dict[str, Any]:
    """What the script needs of a run: name, whether it can be compared, and the points of its curves."""
    main = next((name for name in MAIN_RATES if any(f"eval/{name}" in record for record in run.records)), "wer")
    curves = dict[str, list[list[Any]]]()
    for key, _, _ in CHARTS:
        figure, factor = (f"eval/{main}", 100) if key == "rate" else (key, 1)
        points = [(r["step"], r.get("epoch"), factor * r[figure]) for r in run.records if _is_number(r.get(figure))]
        curves[key] = _thinned(points)
    return {
        "name": one_line(run.name),
        "path": one_line(shlex.quote(str(run.path))),
        "compares": run.has_transcripts,
        "ticked": is_ticked,
        "curves": curves,
    }


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < float("inf")


def _thinned(points: Sequence[tuple[int, Any, float]]) -> list[list[Any]]:
    """[step, epoch or None, value] of MOST_POINTS points at most, evenly spread; first and last are among them."""
    if len(points) > MOST_POINTS:
        points = [points[round(i * (len(points) - 1) / (MOST_POINTS - 1))] for i in range(MOST_POINTS)]
    return [[step, epoch if _is_number(epoch) else None, float(f"{value:.5g}")] for step, epoch, value in points]
