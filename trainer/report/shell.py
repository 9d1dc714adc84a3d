"""What every page has: one HTML file that fetches nothing, with the styles and scripts of its rooms inside.

A page is a template of its room, `assets/NAME.html`, which begins with `$head`. Its policy forbids to fetch anything.
"""

from __future__ import annotations

import importlib.resources
from collections.abc import Sequence
from html import escape
from string import Template

Files = Sequence[tuple[str, Sequence[str]]]
"""(A room, names of its files in assets/) in the order in which they build on one another."""


def head(title: str, styles: Files, *, more: str = "") -> str:
    """A page up to its body. `title` is plain text; `more` is HTML."""
    style = "".join(read_assets(styles, "css"))
    return template("trainer.report", "head").substitute(title=escape(title), style=style, more=more)


def scripts(files: Files) -> str:
    """Elements that hold the scripts."""
    return "\n".join(f"<script>{script}</script>" for script in read_assets(files, "js"))


BYTES_AROUND_MEDIA = 70
"""At most, for each of the contents of `media`: its markup."""


def media(contents: Sequence[str]) -> str:
    """Elements media-0, media-1, ... that hold JSON."""
    return "\n".join(
        f'<script type="application/json" id="media-{i}">{content}</script>' for i, content in enumerate(contents)
    )


def template(room: str, name: str) -> Template:
    """The template `name` of a room."""
    (text,) = read_assets([(room, [name])], "html")
    return Template(text)


def read_assets(files: Files, suffix: str) -> list[str]:
    """The text of each file."""
    return [
        (importlib.resources.files(room) / f"assets/{name}.{suffix}").read_text(encoding="utf-8")
        for room, names in files
        for name in names
    ]
