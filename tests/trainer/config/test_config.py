"""Configuration (trainer.config, trainer.cli.parse): JSON in and out, validation, the command line.

pytest tests/trainer/config/test_config.py
"""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys
import typing
from pathlib import Path
from typing import Any

import pytest
import torch

from data.config import AugmentConfig, BatchingConfig, CorpusConfig
from data.corpora.hub import HubConfig
from data.corpora.manifest import ManifestConfig
from data.corpora.shards import ShardsConfig
from data.corpora.synthetic import SyntheticConfig
from data.corpora.timit import TimitConfig
from models.config import Family, ModelConfig, Size
from models.encoder import DROPOUTS, MASKING
from models.families import FAMILIES as SUPPORTED
from models.families import SIZES
from tests.helpers.models import FAMILIES, small_model
from tests.helpers.paths import ROOT
from trainer.cli.parse import parse
from trainer.config.as_json import defaults_of, from_json, to_json
from trainer.config.presets import PRESETS
from trainer.config.schema import Config, EvalConfig, OptimConfig, TrainConfig
from trainer.config.validate import resolve, validate
from trainer.device import choose_precision
from trainer.errors import ConfigError
from trainer.prepare.pieces import build_parts
from trainer.run import main

EVERY_PRESET = pytest.mark.parametrize("preset", PRESETS)
CPU = torch.device("cpu")


def with_inputs(config: Config) -> Config:
    """`config` with the paths that its preset asks for."""
    match config.corpus:
        case TimitConfig():
            corpus: CorpusConfig = dataclasses.replace(config.corpus, root="TIMIT")
        case ManifestConfig():
            corpus = dataclasses.replace(config.corpus, train="a.jsonl", eval="b.jsonl")
        case ShardsConfig():
            corpus = dataclasses.replace(config.corpus, train="a", eval="b")
        case HubConfig():
            corpus = dataclasses.replace(config.corpus, dataset="someone/speech")
        case SyntheticConfig():
            corpus = config.corpus
    model = config.model if config.model.pretrained or config.model.size else ModelConfig(size="tiny")
    return dataclasses.replace(config, corpus=corpus, model=model)


def change(config: Config, path: str, value: Any) -> Config:
    """`config` with the option of a dotted path replaced."""
    if "." not in path:
        return dataclasses.replace(config, **{path: value})
    group, name = path.split(".")
    return dataclasses.replace(config, **{group: dataclasses.replace(getattr(config, group), **{name: value})})


# --- JSON


@EVERY_PRESET
def test_json_round_trip_is_the_same_config(preset: str) -> None:
    for config in (PRESETS[preset](), resolve(with_inputs(PRESETS[preset]()))):
        assert from_json(to_json(config), "config.json") == config


def test_json_round_trip_keeps_every_kind_of_value() -> None:
    """Tuples, None, numbers given as integers, another member of a union, text beyond ASCII."""
    config = Config(
        preset="manifest",
        corpus=ManifestConfig(train="dáta/t.jsonl", eval="e.tsv", max_seconds=12, store=False),
        model=ModelConfig(size="base", family="wavlm", freeze_feature_encoder=False, layerdrop=0),
        batching=BatchingConfig(batch_size=None, max_batch_seconds=80.5),
        augment=AugmentConfig(speeds=(0.9, 1.0, 1.1)),
        optim=OptimConfig(lr=1e-5, warmup_steps=0),
        train=TrainConfig(max_steps=7, patience=3),
        eval=EvalConfig(batch_size=1),
        precision="bf16",
        seed=-1,
        name="x",
    )
    back = from_json(to_json(config), "config.json")
    assert back == config
    assert isinstance(back.augment.speeds, tuple)


def stored(**changes: Any) -> dict[str, Any]:
    return json.loads(to_json(PRESETS["demo"]())) | changes


def refusal(plain: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        from_json(plain if isinstance(plain, str) else json.dumps(plain), "runs/a/config.json")
    message = str(caught.value)
    assert message.startswith("runs/a/config.json: ")
    return message


@pytest.mark.parametrize("group", ["", "corpus", "model", "optim", "train", "eval", "batching", "augment"])
def test_unknown_field_is_refused_by_name(group: str) -> None:
    plain = stored()
    (plain[group] if group else plain)["frobnicate"] = 1
    message = refusal(plain)
    assert "unknown field 'frobnicate'" in message
    assert group in message


@pytest.mark.parametrize("group", ["", "corpus", "model"])
def test_a_run_with_an_option_that_is_gone_can_still_be_read(group: str) -> None:
    plain = stored()
    expected = from_json(json.dumps(plain), "a")
    (plain[group] if group else plain)["frobnicate"] = 1
    assert from_json(json.dumps(plain), "a", lenient=True) == expected


def fields_of(cls: type, prefix: str = "") -> list[str]:
    hints = typing.get_type_hints(cls)
    names = []
    for field in dataclasses.fields(cls):
        inner = SyntheticConfig if hints[field.name] == CorpusConfig else hints[field.name]
        names += [prefix + field.name, *(fields_of(inner, f"{field.name}.") if dataclasses.is_dataclass(inner) else [])]
    return names


@pytest.mark.parametrize("path", [name for name in fields_of(Config) if name != "corpus"])
def test_an_option_that_an_older_version_did_not_have_has_its_default(path: str) -> None:
    """Reference: the defaults that the dataclasses themselves take. A whole group may be new, too."""
    plain, rest = stored(), stored()
    *groups, name = path.split(".")
    del (plain[groups[0]] if groups else plain)[name]
    found = dataclasses.asdict(from_json(json.dumps(plain), "a"))
    defaults = dataclasses.asdict(Config(corpus=SyntheticConfig()))
    inner, of_group, of_rest = (d[groups[0]] if groups else d for d in (found, defaults, rest))
    assert inner.pop(name) == of_group[name]
    del of_rest[name], rest["corpus"]["kind"]
    assert json.loads(json.dumps(found)) == rest


def test_an_option_that_is_gone_is_passed_over_only_where_it_asked_for_nothing() -> None:
    plain = stored()
    plain["model"]["compile_layers"] = False
    assert from_json(json.dumps(plain), "a") == from_json(json.dumps(stored()), "a")
    plain["model"]["compile_layers"] = True
    assert "unknown field 'compile_layers': a run of another version" in refusal(plain)


def test_defaults_of_some_options_leave_the_others() -> None:
    config = dataclasses.replace(PRESETS["demo"](), seed=7, optim=OptimConfig(lr=0.5, weight_decay=0.25))
    assert defaults_of(config, ["optim.lr", "seed"]) == dataclasses.replace(
        config, seed=42, optim=OptimConfig(lr=None, weight_decay=0.25)
    )


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("optim.lr", "fast"), ("optim.lr", True), ("optim.weight_decay", None), ("optim.warmup_steps", 1.5),
        ("train.epochs", 2.0), ("train.epochs", True), ("train.epochs", None), ("train.max_steps", "7"),
        ("corpus.store", 1), ("corpus.normalizer", "shouting"), ("corpus.seed", "0"), ("model.size", "huge"),
        ("model.family", "whisper"), ("model.pretrained", 3), ("model.freeze_feature_encoder", "no"),
        ("augment.speeds", 0.9), ("augment.speeds", ["fast"]), ("augment.speeds", None),
        ("batching.batch_size", [16]), ("eval.batch_size", {}), ("seed", None), ("seed", "42"), ("name", None),
        ("precision", "fp8"), ("resume", 0), ("optim", None), ("optim", 3), ("model", []),
    ],
)  # fmt: skip
def test_mistyped_field_is_refused_by_name(path: str, value: Any) -> None:
    plain = stored()
    *groups, name = path.split(".")
    (plain[groups[0]] if groups else plain)[name] = value
    message = refusal(plain)
    assert f"{name}: " in message
    assert all(f"{group}: " in message for group in groups)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", "null", "{}", '{"corpus": 3}', '{"corpus": {}}',
             '{"corpus": {"kind": "SecretConfig"}}', '{"corpus": {"kind": ["TimitConfig"]}}'],
)  # fmt: skip
def test_text_that_is_no_configuration_is_refused(text: str) -> None:
    refusal(text)


def test_corpus_of_another_kind_does_not_pass_for_this_one() -> None:
    plain = stored()
    plain["corpus"]["kind"] = "TimitConfig"
    refusal(plain)


# --- validation


@EVERY_PRESET
def test_presets_are_valid_once_their_inputs_are_given(preset: str) -> None:
    config = with_inputs(PRESETS[preset]())
    assert validate(config) is config
    assert config.preset == preset


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("train.epochs", 0), ("train.max_steps", 0), ("train.grad_accum_steps", 0), ("train.log_every", 0),
        ("train.eval_every", -1), ("train.save_every", -1), ("train.save_total_limit", 0), ("train.patience", 0),
        ("batching.batch_size", 0), ("batching.batch_size", -4), ("batching.num_workers", -1),
        ("batching.max_batch_seconds", 0.0), ("eval.batch_size", 0), ("eval.max_batch_seconds", -1.0),
        ("optim.lr", -1e-4), ("optim.lr", 0.0), ("optim.lr", math.nan), ("optim.lr", math.inf),
        ("optim.warmup_steps", -1), ("optim.weight_decay", -0.1), ("optim.weight_decay", math.nan),
        ("optim.weight_decay", math.inf), ("optim.max_grad_norm", 0.0), ("optim.max_grad_norm", math.nan),
        ("corpus.max_seconds", 0.0), ("augment.speeds", (0.9, 0.0)), ("augment.speeds", (math.nan,)),
        ("model.hidden_dropout", 1.0), ("model.layerdrop", -0.1), ("model.mask_time_prob", 1.5),
        ("model.mask_feature_prob", math.nan), ("model.mask_time_length", 0), ("model.mask_feature_length", -3),
        ("model.mask_time_min_masks", -1), ("corpus.language", "turkish"), ("corpus.language", "t"),
        ("corpus.language", "tr TR"),
    ],
)  # fmt: skip
def test_value_that_cannot_be_is_refused_by_option(path: str, value: Any) -> None:
    """Each is the only change to a valid configuration."""
    with pytest.raises(ConfigError, match=f"--{path.replace('_', '-')} "):
        validate(change(PRESETS["demo"](), path, value))


@pytest.mark.parametrize("language", ["", "tr", "tr-TR", "aze", "lt", "yue", "az_Latn_AZ", "de"])
def test_language_is_a_code(language: str) -> None:
    validate(change(PRESETS["demo"](), "corpus.language", language))


def test_a_language_with_its_own_case_needs_a_normalizer_that_knows_it() -> None:
    config = change(PRESETS["demo"](), "corpus.normalizer", "hf-timit")
    validate(change(config, "corpus.language", "de"))
    with pytest.raises(ConfigError, match=r"--corpus\.language tr .*: choose plain or plain-upper"):
        validate(change(config, "corpus.language", "tr"))


@pytest.mark.parametrize("path", ["train.eval_every", "train.save_every", "batching.num_workers", "optim.warmup_steps"])
def test_zero_is_a_value_where_it_means_something(path: str) -> None:
    validate(change(PRESETS["demo"](), path, 0))


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (Config(corpus=SyntheticConfig()), "--model.pretrained .* --model.size"),
        (Config(corpus=SyntheticConfig(), model=ModelConfig(size="tiny"), batching=BatchingConfig(batch_size=None)),
         "--batching.batch-size or --batching.max-batch-seconds"),
        (Config(corpus=SyntheticConfig(), model=ModelConfig(size="tiny"), precision="fp16", device="cpu"),
         "--precision fp16 needs CUDA"),
        (Config(corpus=SyntheticConfig(), model=ModelConfig(size="tiny"), resume=True, overwrite=True),
         "--resume and --overwrite"),
        (Config(corpus=SyntheticConfig(), model=ModelConfig(size="tiny", cuda_graphs=True), parallel="fsdp"),
         "--model.cuda-graphs and --parallel fsdp"),
        (PRESETS["timit-hf"](), "timit-hf needs --corpus.root"),
        (PRESETS["timit"](), "timit needs --corpus.root"),
        (dataclasses.replace(PRESETS["manifest"](), model=ModelConfig(size="tiny")), "--corpus.train"),
        (dataclasses.replace(PRESETS["hub"](), model=ModelConfig(size="tiny")), "--corpus.dataset"),
    ],
)  # fmt: skip
def test_options_that_do_not_go_together_are_refused(config: Config, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        validate(config)


@pytest.mark.parametrize(("warmup_steps", "total_steps"), [(10, 10), (11, 10), (1000, 145)])
def test_warmup_that_is_not_below_the_planned_steps_is_refused(warmup_steps: int, total_steps: int) -> None:
    config = resolve(change(PRESETS["demo"](), "optim.warmup_steps", warmup_steps))
    with pytest.raises(
        ConfigError, match=f"--optim.warmup-steps {warmup_steps} is not below the {total_steps} planned"
    ):
        build_parts(config, small_model(), CPU, "fp32", total_steps, pytest.fail)


@pytest.mark.parametrize(("total_steps", "warmup_steps"), [(2900, 290), (50_000, 1000), (9, 0), (1, 0)])
def test_default_warmup_is_a_tenth_and_at_most_a_thousand(total_steps: int, warmup_steps: int) -> None:
    config, parts = build_parts(resolve(PRESETS["demo"]()), small_model(), CPU, "fp32", total_steps, pytest.fail)
    assert config.optim.warmup_steps == warmup_steps
    assert parts.scheduler.get_last_lr()[0] == (0.0 if warmup_steps else config.optim.lr)


@pytest.mark.parametrize(
    ("preset", "device", "option", "precision"),
    [("timit-hf", "cuda", "auto", "fp16"), ("timit", "cuda", "auto", "bf16"), ("demo", "cuda", "auto", "bf16"),
     ("timit-hf", "cpu", "auto", "fp32"), ("demo", "cpu", "auto", "fp32"), ("demo", "cpu", "bf16", "bf16"),
     ("timit-hf", "cuda", "fp32", "fp32")],
)  # fmt: skip
def test_automatic_precision_follows_preset_and_device(preset: str, device: str, option: str, precision: str) -> None:
    """Reference: the row of --precision in docs/run-folder.md."""
    config = change(PRESETS[preset](), "precision", option)
    assert choose_precision(config.precision, config.auto_precision, torch.device(device)) == precision


def test_fp16_is_refused_where_auto_turns_out_to_be_a_cpu() -> None:
    with pytest.raises(ConfigError, match="--precision fp16 needs CUDA"):
        choose_precision("fp16", "bf16", CPU)


# --- what suits


def test_given_size_wins_over_the_presets_checkpoint() -> None:
    config = resolve(parse(["timit", "--corpus.root", "T", "--model.size", "tiny"]))
    assert (config.model.size, config.model.pretrained) == ("tiny", None)
    assert config.model.freeze_feature_encoder is False
    assert config.optim.lr == 2e-3


def test_checkpoint_gets_fine_tuning_defaults() -> None:
    config = resolve(parse(["manifest", "--model.pretrained", "a/b"]))
    assert (config.model.pretrained, config.model.freeze_feature_encoder, config.optim.lr) == ("a/b", True, 1e-4)


@pytest.mark.parametrize(
    ("model", "flag", "frozen"),
    [(["--model.pretrained", "a/b"], "no-freeze", False), (["--model.size", "tiny"], "freeze", True)],
)
def test_given_options_win_over_what_suits(model: list[str], flag: str, frozen: bool) -> None:
    config = resolve(parse(["manifest", *model, f"--model.{flag}-feature-encoder", "--optim.lr", "3e-5"]))
    assert config.model.freeze_feature_encoder is frozen
    assert config.optim.lr == 3e-5


def test_resolving_twice_changes_nothing() -> None:
    for make in PRESETS.values():
        assert resolve(resolve(make())) == resolve(make())


def test_run_folder_is_named_after_the_preset_unless_told() -> None:
    assert resolve(parse(["timit-hf"])).run_dir == Path("runs/timit-hf")
    assert resolve(parse(["timit-hf", "--name", "x", "--runs-dir", "y"])).run_dir == Path("y/x")


# --- command line


@pytest.mark.parametrize("argv", [[], ["--seed", "1"]])
def test_preset_is_demo_when_the_first_word_is_none(argv: list[str]) -> None:
    assert parse(argv).preset == "demo"


@EVERY_PRESET
def test_preset_without_options_is_the_presets_function(preset: str) -> None:
    assert parse([preset]) == PRESETS[preset]()


# Reference: docs/run-folder.md. Options of one line are given together.
OPTIONS: dict[str, dict[str, tuple[str, Any]]] = {
    "demo": {
        "--corpus.on-bad drop": ("corpus.on_bad", "drop"),
        "--corpus.no-store": ("corpus.store", False),
        "--cache-dir c": ("cache_dir", "c"),
        "--model.mask-time-prob 0.065": ("model.mask_time_prob", 0.065),
        "--train.epochs 3": ("train.epochs", 3),
        "--train.max-steps 9": ("train.max_steps", 9),
        "--train.eval-every 0": ("train.eval_every", 0),
        "--train.save-every 5": ("train.save_every", 5),
        "--train.log-every 1": ("train.log_every", 1),
        "--train.grad-accum-steps 2": ("train.grad_accum_steps", 2),
        "--train.patience 4": ("train.patience", 4),
        "--batching.batch-size None": ("batching.batch_size", None),
        "--batching.max-batch-seconds 60": ("batching.max_batch_seconds", 60.0),
        "--batching.num-workers 0": ("batching.num_workers", 0),
        "--augment.speeds 0.9 1.0 1.1": ("augment.speeds", (0.9, 1.0, 1.1)),
        "--eval.batch-size 1": ("eval.batch_size", 1),
        "--optim.lr 1e-3": ("optim.lr", 1e-3),
        "--optim.warmup-steps 50": ("optim.warmup_steps", 50),
        "--optim.weight-decay 0": ("optim.weight_decay", 0.0),
        "--optim.max-grad-norm 5": ("optim.max_grad_norm", 5.0),
        "--precision bf16": ("precision", "bf16"),
        "--device cuda:1": ("device", "cuda:1"),
        "--seed 7": ("seed", 7),
        "--runs-dir r": ("runs_dir", "r"),
        "--name n": ("name", "n"),
        "--resume": ("resume", True),
        "--overwrite": ("overwrite", True),
    },
    "timit": {"--corpus.root T": ("corpus.root", "T"),
              "--model.freeze-feature-encoder": ("model.freeze_feature_encoder", True)},
    "timit-hf": {"--model.no-freeze-feature-encoder": ("model.freeze_feature_encoder", False)},
    "manifest": {
        "--corpus.train a.jsonl": ("corpus.train", "a.jsonl"),
        "--corpus.eval b.jsonl": ("corpus.eval", "b.jsonl"),
        "--model.family wavlm": ("model.family", "wavlm"),
        "--model.size large": ("model.size", "large"),
        "--batching.batch-size 8": ("batching.batch_size", 8),
    },
    "hub": {
        "--corpus.dataset a/b": ("corpus.dataset", "a/b"),
        "--model.pretrained a/b": ("model.pretrained", "a/b"),
        "--model.revision main": ("model.revision", "main"),
    },
}  # fmt: skip


@pytest.mark.parametrize("preset", OPTIONS)
def test_options_change_their_fields_and_no_others(preset: str) -> None:
    """Reference: the preset's configuration with those fields replaced, one by one."""
    config = PRESETS[preset]()
    for path, value in OPTIONS[preset].values():
        before, config = config, change(config, path, value)
        assert config != before, path
    assert parse([preset, *" ".join(OPTIONS[preset]).split()]) == config


@pytest.mark.parametrize(
    "line",
    ["demo --frobnicate 1", "demo --train.epochs many", "demo --train.epochs 1.5", "demo --precision fp8",
     "demo --model.size huge", "demo --model.family whisper", "demo stray", "demo --corpus.root T",
     "demo --preset timit", "demo --auto-precision fp16"],
)  # fmt: skip
def test_bad_option_exits_with_2_and_names_it(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(line.split()) == 2
    said = capsys.readouterr().err
    assert line.split()[1] in said
    assert said.count("\n") == 1


def test_unknown_preset_is_named_with_its_nearest_neighbour(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["timit-fh"]) == 2
    message = capsys.readouterr().err
    there = "demo, demo-phones, timit-hf, timit, timit-phones, manifest, hub, shards"
    assert f"no preset 'timit-fh'; there are {there}. Did you mean timit-hf?" in message


def test_reference_preset_has_the_reference_runs_values() -> None:
    """Reference: the published command of the reference run and the defaults of its script, option by option."""
    config = resolve(parse(["timit-hf", "--corpus.root", "TIMIT"]))
    assert isinstance(config.corpus, TimitConfig)
    assert config.corpus.protocol == "hf"  # all 4620 and 1680 utterances, SA in
    assert config.corpus.normalizer == "hf-timit"  # --chars_to_ignore , ? . ! - \; \: \" “ % ‘ ” �
    assert (config.corpus.vocabulary, config.corpus.bos_eos) == ("new", True)  # 29 units and the dead <s>, </s>
    model = config.model
    assert model.pretrained == "microsoft/unispeech-large-1500h-cv"
    assert model.freeze_feature_encoder is True  # --freeze_feature_extractor
    assert {name: getattr(model, name) for name in DROPOUTS} == dict.fromkeys(DROPOUTS, 0.0)
    # The script's and the configuration's defaults
    assert {name: getattr(model, name) for name in MASKING} == {
        "mask_time_prob": 0.05, "mask_time_length": 10, "mask_time_min_masks": 2,
        "mask_feature_prob": 0.0, "mask_feature_length": 10, "mask_feature_min_masks": 0,
    }  # fmt: skip
    assert config.batching.batch_size == 32
    assert config.batching.max_batch_seconds is None
    assert config.augment.speeds == ()
    optim, train = config.optim, config.train
    assert (optim.lr, optim.warmup_steps, optim.weight_decay, optim.max_grad_norm) == (1e-4, 1000, 0.005, 1.0)
    assert (train.epochs, train.max_steps, train.grad_accum_steps, train.patience) == (20, None, 1, None)
    assert (train.log_every, train.eval_every, train.save_every, train.save_total_limit) == (10, 100, 400, 3)
    assert config.seed == 42


def test_families_and_sizes_are_the_same_everywhere() -> None:
    """The dataclass offers what the encoder can build, and the tests try all of it."""
    assert typing.get_args(Family) == SUPPORTED == FAMILIES
    assert set(typing.get_args(Size)) == set(SIZES)


def run_python(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *args], cwd=ROOT, capture_output=True, text=True, check=False)


def test_help_lists_the_presets_and_exits_with_0() -> None:
    done = run_python("-m", "trainer.run", "--help")
    assert done.returncode == 0, done.stderr
    for preset in PRESETS:
        assert preset in done.stdout
    for option in ("--model.size", "--optim.lr", "--corpus.on-bad", "--precision", "--resume"):
        assert option in done.stdout


@pytest.mark.parametrize("argv", [["--help"], ["timit-hf", "--help"], ["nonsense"], ["demo", "--optim.lr", "fast"]])
def test_command_line_alone_loads_neither_torch_nor_transformers(argv: list[str]) -> None:
    code = (
        "import sys\nfrom trainer.run import main\n"
        f"try: main({argv!r})\nexcept SystemExit: pass\n"
        "print('loaded:', [m for m in ('torch', 'transformers', 'datasets') if m in sys.modules])"
    )
    assert run_python("-c", code).stdout.splitlines()[-1] == "loaded: []"
