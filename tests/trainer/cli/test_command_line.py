"""Training's command line (trainer.cli.command_line, trainer.cli.options): what each word does, and what is refused.

pytest tests/trainer/cli/test_command_line.py
"""

from __future__ import annotations

import dataclasses
import io
import types
from typing import Any

import pytest

from trainer.cli.options import Option, options
from trainer.cli.parse import parse
from trainer.config.presets import PRESETS
from trainer.config.schema import Config
from trainer.config.validate import resolve, validate
from trainer.errors import ConfigError

OUTSIDE = "must be a folder in runs: give a plain name. --runs-dir says where runs lie."
NUMBERS = {int: (7, "7"), float: (0.25, "0.25"), str: ("a b", "a b")}


def value_of(config: Config, option: Option) -> Any:
    return getattr(getattr(config, option.group) if option.group else config, option.field)


def changed(option: Option) -> tuple[Any, list[str]]:
    """Another value than the default, and the words that give it."""
    if option.is_switch:
        return not option.default, [option.off if option.default else option.name]
    if option.choices:
        choice = next(choice for choice in option.choices if choice != option.default)
        return choice, [option.name, choice]
    value, word = NUMBERS[option.type]
    if option.takes_several:
        return (value, value), [option.name, word, word]
    return value, [option.name, word]


@pytest.mark.parametrize("preset", PRESETS)
def test_every_option_sets_its_field_and_no_other(preset: str) -> None:
    """Reference: the dataclasses. All words together give all values; each option is compared with its own."""
    given = [(option, *changed(option)) for option in options(PRESETS[preset]())]
    config = parse([preset, *(word for option, _, words in given for word in words if option.name != "--model.size")])
    for option, value, _ in given:
        if option.name not in ("--model.size", "--model.pretrained"):  # each takes the other's place
            assert value_of(config, option) == value, option.name
    one = parse([preset, "--optim.weight-decay", "0.5"])
    base = PRESETS[preset]()
    assert one == dataclasses.replace(base, optim=dataclasses.replace(base.optim, weight_decay=0.5))


@pytest.mark.parametrize("preset", PRESETS)
def test_every_default_that_help_shows_can_be_typed(preset: str) -> None:
    """What stands in brackets, given to its option, changes nothing."""
    config = PRESETS[preset]()
    for option in options(config):
        if option.default_text == "required":
            continue
        words = option.default_text.split() if option.takes_several else [option.default_text]
        assert option.read(words) == option.default, option.name


@pytest.mark.parametrize("word", ["none", "None", "NONE", "null"])
def test_every_option_that_can_be_left_open_takes_none(word: str) -> None:
    """As a config.json (null) and Python (None) write it."""
    tried = 0
    for make in PRESETS.values():
        for option in options(make()):
            if types.NoneType in getattr(option.hint, "__args__", ()):
                assert option.read([word]) is None, option.name
                tried += 1
    assert tried > 50


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ("--resume", True), ("--no-resume", False), ("--resume true", True), ("--resume=True", True),
        ("--resume false", False), ("--resume=no", False), ("--resume 0", False), ("--resume on", True),
        ("--no-resume=true", False), ("--resume --seed 3", True),
    ],
)  # fmt: skip
def test_switch_may_have_a_value(argv: str, expected: bool) -> None:
    assert parse(["demo", *argv.split()]).resume is expected


@pytest.mark.parametrize("argv", ["--optim.lr=3e-4", "--optim.lr 3e-4", "--optim.lr=0.0003"])
def test_value_follows_its_option_or_an_equals_sign(argv: str) -> None:
    assert parse(["demo", *argv.split()]).optim.lr == 3e-4


def test_underscores_are_hyphens() -> None:
    assert parse(["demo", "--train.max_steps=20"]).train.max_steps == 20


def test_equals_sign_may_stand_within_a_value() -> None:
    assert parse(["demo", "--name=a=b"]).name == "a=b"
    assert parse(["demo", "--name", "a=b"]).name == "a=b"


def test_option_given_twice_has_its_last_value_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert parse(["demo", "--seed", "1", "--seed=2"]).seed == 2
    assert capsys.readouterr().err == "note: --seed is given twice; the last value holds: 2\n"
    assert parse(["demo", "--resume", "--seed", "1", "--resume", "--seed", "1"]).seed == 1
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ("--optim.lr 1e-3x", "--optim.lr 1e-3x: give a number, or auto."),
        ("--optim.lr 1,5", "--optim.lr 1,5: give a number (1.5), or auto."),
        ("--train.patience auto", "--train.patience auto: give a whole number, or none."),
        ("--train.epochs 1.5", "--train.epochs 1.5: give a whole number."),
        ("--train.epochs 1e3", "--train.epochs 1e3: give a whole number (1000)."),
        ("--train.epochs none", "--train.epochs none: give a whole number."),
        ("--train.epochs = 3", "--train.epochs =: write --train.epochs VALUE, or --train.epochs=VALUE without spaces."),
        ("--train.epochs", "--train.epochs INT: its value is missing. --help lists the options."),
        ("--train.epochs --resume", "--train.epochs INT: --resume stands where its value belongs. --help lists the "
         "options."),
        ("--name -x", "--name TEXT: -x stands where its value belongs. If -x is the value: --name=-x. --help lists the "
         "options."),
        ("--precision FP32", "--precision FP32: choose auto, fp32, bf16 or fp16. Did you mean fp32?"),
        ("--model.size huge", "--model.size huge: choose tiny, demo, base, large or none."),
        ("--train.export Best", "--train.export Best: choose best, last or auto. Did you mean best?"),
        ("--augment.speeds 0.9,1.1", "--augment.speeds 0.9,1.1: give numbers with spaces between them, or none."),
        ("--resume maybe", "maybe stands where an option belongs. A value follows its option: --group.option VALUE."),
        ("--resume=maybe", "--resume maybe: give true or false."),
        ("--no-resume=false", "--no-resume takes no value. Give --no-resume alone, or --resume false."),
        ("--seed=", "--seed is empty (is a variable of the shell not set?): give a whole number."),
        ("--optim.lr=", "--optim.lr is empty (is a variable of the shell not set?): give a number, or auto."),
        ("--model.pretrained=", "--model.pretrained is empty (is a variable of the shell not set?): give a value, or "
         "none."),
    ],
)  # fmt: skip
def test_value_that_cannot_be_is_refused_with_what_can(argv: str, said: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        parse(["demo", *argv.split()])
    assert str(refusal.value) == said


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("Demo", "Did you mean demo?"),
        ("timit_hf", "Did you mean timit-hf?"),
        ("TIMIT-HF", "Did you mean timit-hf?"),
        ("hubb", "Did you mean hub?"),
        ("my train.jsonl", "A manifest: manifest --corpus.train 'my train.jsonl' --corpus.eval ..."),
        ("train.epochs=3", "If it is an option, it begins with two dashes: --train.epochs=3"),
    ],
)
def test_word_that_is_no_preset_is_answered_with_the_right_one(word: str, said: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        parse([word])
    assert str(refusal.value).startswith(f"no preset {word!r}; there are {', '.join(PRESETS)}.")
    assert str(refusal.value).endswith(said)


def test_checkpoint_takes_the_place_of_a_presets_size_and_a_size_that_of_its_checkpoint() -> None:
    tuned = resolve(validate(parse(["demo", "--model.pretrained", "OWNER/NAME"])))
    assert (tuned.model.pretrained, tuned.model.size, tuned.optim.lr) == ("OWNER/NAME", None, 1e-4)
    assert tuned.model.freeze_feature_encoder
    small = resolve(validate(parse(["timit", "--corpus.root", "T", "--model.size", "tiny"])))
    assert (small.model.pretrained, small.model.size, small.optim.lr) == (None, "tiny", 2e-3)
    assert not small.model.freeze_feature_encoder


@pytest.mark.parametrize("preset", ["demo", "timit-hf", "manifest"])
def test_checkpoint_and_size_together_are_refused(preset: str) -> None:
    config = parse([preset, "--model.pretrained", "OWNER/NAME", "--model.size", "tiny"])
    with pytest.raises(ConfigError, match=r"^--model\.pretrained and --model\.size exclude each other"):
        validate(config)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ("manifest", "Preset manifest needs --corpus.train MANIFEST; --corpus.eval MANIFEST; an encoder: "
         "--model.pretrained HUB_ID_OR_FOLDER, or random weights by --model.size {tiny,base,large} with "
         "--model.family."),
        ("manifest --model.size tiny --corpus.train a", "Preset manifest needs --corpus.eval MANIFEST."),
        ("demo --name ../x", f"--name ../x {OUTSIDE}"),
        ("demo --name /x", f"--name /x {OUTSIDE}"),
        ("demo --name .", f"--name . {OUTSIDE}"),
        ("demo --device gpu", "--device gpu: give cpu, cuda, cuda:1, ... or auto. Did you mean cuda?"),
        ("demo --device cuda:x", "--device cuda:x: give cpu, cuda, cuda:1, ... or auto. Did you mean cuda?"),
        ("demo --device tpu", "--device tpu: give cpu, cuda, cuda:1, ... or auto."),
    ],
)  # fmt: skip
def test_what_cannot_be_together_is_refused_before_anything_is_read(argv: str, said: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        validate(parse(argv.split()))
    assert str(refusal.value) == said


@pytest.mark.parametrize("name", ["a/b", "a b", "-x", "a..b"])
def test_name_may_be_anything_below_the_folder_of_runs(name: str) -> None:
    assert str(validate(parse(["demo", f"--name={name}"])).run_dir) == f"runs/{name}"


@pytest.mark.parametrize("folder", ["runs_dir", "cache_dir"])
def test_folder_without_a_name_is_refused(folder: str) -> None:
    """A Config made in Python; the command line refuses every empty value."""
    with pytest.raises(ConfigError, match=f"--{folder.replace('_', '-')} is empty"):
        validate(dataclasses.replace(PRESETS["demo"](), **{folder: " "}))


def test_the_note_on_a_repeated_option_needs_no_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    """`2>&1 | head` may have gone already: the run goes on."""

    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr("sys.stderr", Gone())
    assert parse(["demo", "--seed", "1", "--seed", "2"]).seed == 2
