"""The documentation against the code: diffs apply; options, commands, paths, keys and exit codes exist.

pytest tests/test_docs.py
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import io
import json
import re
import subprocess
from pathlib import Path

import pytest

import trainer.errors
from scripts.bench.gpu_check import PARTS
from tests.helpers.paths import ROOT
from trainer.cli.options import options
from trainer.config.presets import PRESETS

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
EVERY_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
RUN_FOLDER = (ROOT / "docs" / "run-folder.md").read_text(encoding="utf-8")
DIFFS = re.findall(r"^## (.+?)$.+?```diff\n(.+?)```", (ROOT / "docs" / "change-the-loop.md").read_text(), re.M | re.S)


@functools.cache
def known_options() -> set[str]:
    """Every option of every preset, as it may be typed."""
    return {name for make in PRESETS.values() for option in options(make()) for name in option.names}


def test_there_are_five_changes_to_the_loop() -> None:
    assert len(DIFFS) == 5


@pytest.mark.parametrize(("title", "diff"), DIFFS, ids=[title for title, _ in DIFFS])
def test_each_change_to_the_loop_applies_to_the_code_as_it_is(title: str, diff: str) -> None:
    done = subprocess.run(["git", "apply", "--check"], input=diff, text=True, cwd=ROOT, capture_output=True)
    assert done.returncode == 0, f"{title}: {done.stderr}"


@EVERY_PAGE
def test_options_that_a_page_names_exist(page: Path) -> None:
    named = set(re.findall(r"--[a-z]+\.[a-z-]+[a-z]", page.read_text()))
    assert named <= known_options()


def test_options_beside_the_hugging_face_examples_flags_exist() -> None:
    """In the table's second column, those without a group too."""
    rows = re.findall(r"^\| `--[^|]*\|([^|]*)\|", (ROOT / "docs" / "from-hf-example.md").read_text(), re.M)
    assert len(rows) > 25
    assert {name for row in rows for name in re.findall(r"--[a-z][a-z.-]*", row)} <= known_options()


@EVERY_PAGE
def test_links_to_files_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target


@EVERY_PAGE
def test_table_rows_have_as_many_cells_as_their_heading(page: Path) -> None:
    heading = 0
    for line in page.read_text().splitlines():
        cells = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0
        assert not (heading and cells) or cells == heading, line
        heading = cells


@EVERY_PAGE
def test_commands_that_a_page_names_are_modules(page: Path) -> None:
    named = set(re.findall(r"python -m ((?:scripts|trainer)[\w.]*\w)", page.read_text()))
    assert {name for name in named if importlib.util.find_spec(name) is None} == set()


TAKE_OPTIONS_OF_TRAINING = {"trainer.run", "scripts.evaluate", "scripts.shards", "scripts.plant", "scripts.ngram",
                            "scripts.doctor"}  # fmt: skip


@functools.cache
def help_of(command: str) -> str:
    """What `--help` of a command prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        importlib.import_module(command).main(["--help"])
    return printed.getvalue()


@EVERY_PAGE
def test_options_of_commands_that_a_page_shows_are_theirs(page: Path) -> None:
    text = page.read_text().replace("\\\n", " ")
    shown = re.findall(r"python -m ((?:scripts|trainer)[\w.]*\w)([^\n`#]*)", text)
    for command, words in shown:
        for option in re.findall(r"(?<!\S)(--[a-z][\w.-]*)", words):
            is_of_training = command in TAKE_OPTIONS_OF_TRAINING and option in {*known_options(), "--help-all"}
            assert is_of_training or option == "--help" or re.search(rf"{option}(?![\w-])", help_of(command)), (
                f"{command} has no {option}"
            )


@EVERY_PAGE
def test_make_targets_that_a_page_names_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    named = re.findall(r"^    make ([a-z-]+)|`make ([a-z-]+)`", page.read_text(), re.M)
    assert {a or b for a, b in named} <= targets


@EVERY_PAGE
def test_paths_in_backticks_exist(page: Path) -> None:
    """A path begins with one of our folders and may end in a slash; what a run or a user makes is not ours."""
    named = re.findall(r"`((?:trainer|data|models|scripts|tests|docs)/[\w./-]+)`", page.read_text())
    assert [path for path in named if not (ROOT / path).exists()] == []


@EVERY_PAGE
def test_anchors_of_links_are_headings(page: Path) -> None:
    """GitHub's rule: lower case, punctuation dropped, spaces to hyphens."""
    for target, anchor in re.findall(r"\]\(([\w./-]*)#([\w-]+)\)", page.read_text()):
        headings = re.findall(r"^#+ (.+)$", ((page.parent / target) if target else page).read_text(), re.M)
        assert anchor in {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}, anchor


def test_every_command_of_a_user_is_in_the_table_of_commands() -> None:
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    commands = {f"scripts.{path.stem}" for path in (ROOT / "scripts").glob("*.py") if path.stem != "__init__"}
    assert set(re.findall(r"^\| `([\w.]+)", page, re.M)) == {"trainer.run", *commands}


def test_every_room_is_in_the_tables_of_the_architecture() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rooms = {str(path.parent.relative_to(ROOT)) for top in ("trainer", "data", "models", "scripts")
             for path in (ROOT / top).glob("*/__init__.py")}  # fmt: skip
    assert rooms
    assert {room for room in rooms if f"`{room}/`" not in page} == set()


def test_parts_of_the_lab_are_those_of_the_table() -> None:
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    found = re.search(r"^\| part \|.+?\n\n", page, re.M | re.S)
    assert found is not None
    assert set(re.findall(r"^\| `(\w+)` \|", found[0], re.M)) == set(PARTS)


def test_nothing_refers_to_what_is_no_part_of_the_repository() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    words = re.compile("|".join(("design" + r"\.md", "timit-" + "facts", r"\.\./" + "shared")))
    texts = (ROOT / path for path in tracked if path.endswith((".py", ".md", ".cfg", ".toml", "Makefile", "run")))
    assert [path.name for path in texts if words.search(path.read_text(encoding="utf-8"))] == []


def table(heading: str) -> str:
    """What stands in docs/run-folder.md between a heading and the next one."""
    found = re.search(rf"^## {re.escape(heading)}$(.+?)(?=^## |\Z)", RUN_FOLDER, re.M | re.S)
    assert found is not None, heading
    return found[1]


def first_cells(text: str) -> set[str]:
    """The names in backticks in the first cell of each row of each table."""
    return {name for cell in re.findall(r"^\| (`[^|]*?) \|", text, re.M) for name in re.findall(r"`([^`]+)`", cell)}


def test_exit_codes_are_those_of_trainer_errors() -> None:
    """Besides 0, and 1 for a check that found something."""
    codes = {int(code) for code in re.findall(r"^\| (\d+) \|", table("Exit codes"), re.M)}
    defined = {value for value in vars(trainer.errors).values() if type(value) is int}
    assert codes == {0, 1} | defined


# What only some runs leave: by a corpus that knows more, audio that fails, a note, a resume, an upload, a comparison
SOMETIMES = {
    "files": {
        "checkpoints/step-00000400.damaged/",
        "profile.json",
        "pushed.json",
        "compare-A.html",
        "model-adapter/",
        "doctor.jsonl",
        "doctor.html",
        "doctor-exclude.jsonl",
    },
    "metrics": {"grad_norm/feature_encoder", "train/mfu"},
    "results": {"note", "protocol", "corrections"},
    "hypotheses": {"speaker", "sex", "dialect", "failure", "also"},
}


def test_files_of_a_run_are_those_of_the_table(finished_run: Path) -> None:
    """Those of its folder; a checkpoint stands for all."""
    found = {path.name + "/" * path.is_dir() for path in finished_run.iterdir() if path.name != "checkpoints"}
    found = {re.sub(r"^events\.out\.tfevents\..*", "events.out.tfevents.*", name) for name in found}
    steps = sorted(path.name for path in (finished_run / "checkpoints").iterdir())
    assert steps[0] == "best"
    assert re.fullmatch(r"step-\d{8}", steps[1])
    named = set(re.findall(r"^\| `([^`]+)` \|", table("Files"), re.M))
    assert named - SOMETIMES["files"] == {*found, "checkpoints/best/", "checkpoints/step-00000400/"}


@pytest.mark.parametrize(
    ("name", "heading"),
    [("metrics", "Records of `metrics.jsonl`"), ("hypotheses", "Records of `hypotheses.jsonl`")],
)
def test_keys_of_records_are_those_that_a_run_writes(name: str, heading: str, finished_run: Path) -> None:
    lines = (finished_run / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    keys = {key for line in lines for key in json.loads(line)}
    assert keys <= first_cells(table(heading)) <= keys | SOMETIMES[name]


def test_keys_of_results_are_those_that_a_run_writes(finished_run: Path) -> None:
    """Those at the top, and those of a split."""
    results = json.loads((finished_run / "results.json").read_text(encoding="utf-8"))
    top, of_split = table("Records of `results.json`").split("The record of one split:")
    assert results.keys() <= first_cells(top) <= results.keys() | SOMETIMES["results"]
    keys = set().union(*results["splits"].values())
    assert keys <= first_cells(of_split) <= keys | SOMETIMES["results"]


def test_options_that_others_rely_on_are_all_options_of_the_tables() -> None:
    """Every option of docs/run-folder.md, with a group or without one, is an option of some preset."""
    assert set(re.findall(r"`(--[a-z][a-z.-]*[a-z])`", table("Options that other programs rely on"))) <= {
        *known_options(), "--help", "--help-all"
    }  # fmt: skip


def test_presets_that_others_rely_on_are_all_presets() -> None:
    listed = re.search(r"The presets are (.+?)\.", table("Options that other programs rely on"), re.S)
    assert listed is not None
    assert re.findall(r"`([^`]+)`", listed[1]) == list(PRESETS)
