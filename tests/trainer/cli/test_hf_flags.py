"""The flags of the Hugging Face CTC example (trainer.cli.hf_flags), against docs/from-hf-example.md and transformers.

pytest tests/trainer/cli/test_hf_flags.py
"""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT
from trainer.cli.hf_flags import NONE, OTHERS, OURS, PAGE
from trainer.cli.options import options
from trainer.cli.parse import parse
from trainer.config.presets import PRESETS
from trainer.errors import ConfigError

ROWS = re.findall(r"^\| (`--[^|]*)\|([^|]*)\|", (ROOT / PAGE).read_text(encoding="utf-8"), re.M)
SAME = {"cache_dir", "seed", "push_to_hub"}
"""Flags that are options here too, whatever they mean."""


def named(cell: str) -> set[str]:
    return set(re.findall(r"--[A-Za-z][\w.-]*", cell))


def test_every_suggestion_is_an_option() -> None:
    known = {name for make in PRESETS.values() for option in options(make()) for name in option.names}
    assert {name for ours in OURS.values() for name in named(ours)} <= known


def test_the_three_tables_share_no_flag() -> None:
    assert not OURS.keys() & NONE.keys()
    assert not OTHERS & {*OURS, *NONE}


def test_the_page_has_the_same_flags_and_the_same_options() -> None:
    """Row by row: the flags of its first cell have, in the code, the options of its second cell together."""
    of_page = {flag.removeprefix("--") for flags, _ in ROWS for flag in named(flags)}
    assert of_page - SAME == {*OURS, *NONE}
    for flags, ours in ROWS:
        told = {option for flag in named(flags) for option in named(OURS.get(flag.removeprefix("--"), ""))}
        assert told == named(ours) or named(flags) & {f"--{flag}" for flag in SAME}, flags


def test_every_field_of_training_arguments_is_answered() -> None:
    """Reference: the source of the installed transformers, which is not imported: that takes seconds."""
    package = importlib.util.find_spec("transformers")
    assert package is not None
    assert package.origin is not None
    tree = ast.parse((Path(package.origin).parent / "training_args.py").read_text(encoding="utf-8"))
    fields = [
        field.target.id
        for node in tree.body
        if isinstance(node, ast.ClassDef) and node.name == "TrainingArguments"
        for field in node.body
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
    ]
    assert len(fields) > 100
    assert set(fields) <= {*OURS, *NONE, *OTHERS, *SAME}


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("--learning-rate", "here it is --optim.lr (docs/from-hf-example.md)."),
        ("--learning_rate=1e-4", "here it is --optim.lr (docs/from-hf-example.md)."),
        ("--fp16", "here it is --precision fp16 (docs/from-hf-example.md)."),
        ("--no_freeze_feature_encoder", "here it is --model.freeze-feature-encoder (docs/from-hf-example.md)."),
        ("--dataset_name", "here it is --corpus.dataset of preset hub (docs/from-hf-example.md)."),
        ("--do_train", "leave it out here: training always happens"),
        ("--deepspeed", "nothing here corresponds to it, so leave it out (docs/from-hf-example.md)."),
    ],
)
def test_flag_of_the_example_is_answered_with_ours(word: str, said: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        parse(["demo", word, "1"])
    assert said in str(refusal.value)


def test_every_flag_is_known_with_hyphens_and_with_underscores() -> None:
    for flag in (*OURS, *NONE, *OTHERS):
        for word in (f"--{flag}", f"--{flag.replace('_', '-')}"):
            with pytest.raises(ConfigError, match=r"docs/from-hf-example\.md"):
                parse(["demo", word])
