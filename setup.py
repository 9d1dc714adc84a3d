"""Refuse a plain install. setup.cfg describes the project.

The project is a checkout that one works in. A plain install would put packages called `data`, `models` and `scripts`
into site-packages, where they hide modules of other projects with these names.
"""

from __future__ import annotations

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel

ADVICE = (
    "this project is a checkout that one works in, not a package: an install would put modules called data, models "
    "and scripts into your site-packages. Type `make venv`, or `pip install --editable .` in an environment of its own."
)


class RefusePlainInstall(bdist_wheel):
    """The step that a plain `pip install` takes and an editable one does not."""

    def run(self) -> None:
        raise SystemExit(f"error: {ADVICE}")


setup(cmdclass={"bdist_wheel": RefusePlainInstall})
