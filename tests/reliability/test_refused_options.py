"""Options, presets and configurations that are refused, row R12 of the reliability matrix: one line, exit code 2."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from data.batches.plan import BatchPlan
from data.config import BatchingConfig
from tests.helpers.audio import MODEL
from tests.helpers.corpora import ManifestFolder
from trainer.cli.parse import parse
from trainer.config.as_json import from_json, to_json
from trainer.config.presets import PRESETS
from trainer.config.schema import Config
from trainer.config.validate import validate
from trainer.errors import ConfigError
from trainer.run import main

if TYPE_CHECKING:
    from tests.helpers.refused import Tally

pytestmark = pytest.mark.usefixtures("no_hang", "own_folder")


IMPOSSIBLE = [
    "--batching.batch-size 0", "--batching.batch-size -3", "--eval.batch-size 0", "--optim.lr -1e-4", "--optim.lr 0",
    "--optim.lr nan", "--optim.lr inf", "--optim.weight-decay -1", "--optim.warmup-steps -1", "--optim.max-grad-norm 0",
    "--train.epochs 0", "--train.epochs 1000000000000", "--train.max-steps 0", "--train.max-steps 9223372036854775808",
    "--train.grad-accum-steps 0", "--train.log-every 0", "--batching.num-workers 100000", "--seed -1",
    "--seed 9223372036854775808", "--batching.worker-timeout -1", "--batching.worker-timeout nan",
    "--batching.max-batch-seconds -1", "--corpus.max-seconds 0", "--corpus.max-eval-seconds nan",
    "--augment.speeds 0", "--augment.speeds 0.9 -1.1", "--augment.speeds nan", "--model.mask-time-length 0",
    "--model.layerdrop 1.0",
]  # fmt: skip


@pytest.mark.parametrize("option", IMPOSSIBLE)
def test_option_that_cannot_be_is_refused_by_name(tally: Tally, option: str) -> None:
    config = parse(["demo", *option.split()])
    with tally.refuses(ConfigError, f"^{option.split()[0]} "):
        validate(config)


@pytest.mark.parametrize(
    "options",
    [["--batching.batch-size", "0"], ["--optim.lr", "-1.0"], ["--train.epochs", "1000000000000"], ["--seed", "-1"],
     ["--train.max-steps", "5", "--optim.warmup-steps", "5"], ["--train.max-steps", "5", "--optim.warmup-steps", "99"]],
    ids=lambda options: " ".join(options),
)  # fmt: skip
def test_command_with_an_impossible_option_is_refused(
    tone_corpus: ManifestFolder, refused: Callable, options: list[str]
) -> None:
    message = refused("manifest", *tone_corpus.options, *MODEL, *options)
    assert message.startswith(f"{options[-2]} {options[-1]} ")


@pytest.mark.parametrize(
    "argv",
    [
        ["--corpus.trian", "x"],
        ["--batching.batch-sise"],
        ["--corpus.speed"],
        ["--lr"],
        ["--nonsense"],
        ["--train.epochs", "many"],
        ["--train.epochs"],
        ["--corpus.on-bad", "ignore"],
        ["--model.family", "whisper"],
        ["stray"],
    ],
    ids=" ".join,
)
def test_unknown_option_and_option_without_its_value_are_refused_in_one_line(
    tone_corpus: ManifestFolder, tally: Tally, capsys: pytest.CaptureFixture[str], argv: list[str]
) -> None:
    tally.tried += 1
    assert main(["manifest", *tone_corpus.options, *MODEL, *argv]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert argv[0] in err
    tally.refused += 1


def test_unknown_preset_is_refused_with_those_there_are(refused: Callable) -> None:
    assert refused("manifes") == (
        "no preset 'manifes'; there are demo, demo-phones, timit-hf, timit, timit-phones, manifest, hub, shards. "
        "Did you mean manifest?"
    )


@pytest.mark.parametrize(
    ("preset", "option"),
    [
        ("manifest", "--corpus.train"),
        ("timit", "--corpus.root"),
        ("timit-hf", "--corpus.root"),
        ("hub", "--corpus.dataset"),
    ],
)
def test_preset_without_its_corpus_says_which_option_is_missing(refused: Callable, preset: str, option: str) -> None:
    assert refused(preset, *MODEL).startswith(f"Preset {preset} needs {option}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda plain: plain.update(learning_rate=1), "unknown field 'learning_rate'"),
        (lambda plain: plain["optim"].update(beta=1), "unknown field 'beta'"),
        (lambda plain: plain["train"].update(epochs="20"), "'20' is not int"),
        (lambda plain: plain.update(corpus=None), "not a run's configuration"),
    ],
    ids=["unknown", "unknown in a group", "mistyped", "no corpus"],
)
def test_config_json_with_an_unknown_or_mistyped_key_is_refused(
    tally: Tally, change: Callable[[dict], Any], message: str
) -> None:
    plain = json.loads(to_json(PRESETS["demo"]()))
    change(plain)
    with tally.refuses(ConfigError, message):
        from_json(json.dumps(plain), "config.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe", "not readable (not UTF-8)"),
        (b"{", "not a run's configuration"),
        (b"[]", "not a run's conf"),
        (b'{"model_type": "wavlm"}', "not a run's configuration but a model's. Name the folder of its run"),
    ],
    ids=["undecodable", "cut", "a list", "a model's"],
)
def test_resuming_a_run_whose_config_json_is_damaged_is_refused(
    tone_corpus: ManifestFolder, refused: Callable, content: bytes, message: str
) -> None:
    """Through the command line."""
    Path("runs/manifest").mkdir(parents=True)
    Path("runs/manifest/config.json").write_bytes(content)
    found = refused("manifest", *tone_corpus.options, *MODEL, "--resume")
    assert found.startswith(f"runs/manifest/config.json: {message}")


def test_config_json_nested_too_deeply_is_refused(tally: Tally) -> None:
    with tally.refuses(ConfigError, r"^config\.json: not a run's configuration"):
        from_json("[" * 100_000, "config.json")


@pytest.mark.parametrize("seed", [0, 2**63 - 1])
def test_smallest_and_largest_seed_are_accepted(
    tally: Tally, tone_corpus: ManifestFolder, trained: Callable, seed: int
) -> None:
    with tally.accepts():
        trained("manifest", *tone_corpus.options, *MODEL, "--seed", str(seed))


def test_no_speeds_at_all_leave_speech_as_it_is(tally: Tally) -> None:
    with tally.accepts():
        config = PRESETS["demo"]()
        config = dataclasses.replace(config, augment=dataclasses.replace(config.augment, speeds=()))
        assert isinstance(validate(config), Config)
        plan = BatchPlan([800, 900], ["a", "b"], BatchingConfig(), 0, 1, speeds=config.augment.speeds)
        assert plan.epoch_lengths(0).tolist() == [800, 900]


@pytest.mark.parametrize("seconds", [None, 1.0])
def test_planning_stops_at_the_cap_whatever_the_epochs(tally: Tally, seconds: float | None) -> None:
    """10^12 epochs counted one by one would take days."""
    with tally.accepts():
        batching = BatchingConfig(batch_size=2, max_batch_seconds=seconds)
        plan = BatchPlan([8000] * 6, list("abcdef"), batching, 0, epochs=10**12)
        assert plan.total_steps(at_most=50) == 50
        assert BatchPlan([8000] * 6, list("abcdef"), batching, 0, epochs=4).total_steps() == 12
        assert BatchPlan([8000] * 6, list("abcdef"), batching, 0, epochs=4).total_steps(at_most=11) == 11
