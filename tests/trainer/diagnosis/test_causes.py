"""Each cause of bad training in a planted case: it is found, with its numbers and what to change, and no other is.

pytest tests/trainer/diagnosis/test_causes.py
"""

from __future__ import annotations

import dataclasses
import doctest
import json
import math
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import trainer.diagnosis.finding
from tests.helpers.diagnosis import evidence, first_found, flat, found, learning, options, records, written
from tests.helpers.paths import ROOT
from trainer.cli.options import options as options_of
from trainer.config.presets import PRESETS
from trainer.config.schema import Config
from trainer.diagnosis.causes import diagnose
from trainer.diagnosis.evidence import Facts
from trainer.diagnosis.finding import Finding, table
from trainer.diagnosis.folder import NEED_FACTS
from trainer.diagnosis.rate import usual_lr

Records = list[dict[str, Any]]


def overfitted(step: int) -> tuple[float, float]:
    """(Loss, WER) of an evaluation: best at step 800, then the loss doubles and the WER stays."""
    return (learning(step) + 0.2, 0.3 + max(0, 800 - step) / 2000) if step <= 800 else (0.22 + step / 4000, 0.31)


def diverges(step: int) -> float:
    """Down to 1.2 until step 150, at half of the peak's rate, and up to 5."""
    return 8 - 6.8 * step / 150 if step <= 150 else min(5.0, 1.2 + (step - 150) / 40)


PLANTED: dict[str, tuple[str, Records, Config, dict[str, Any], str, str]] = {
    "diverged": ("learning rate too high", records(diverges, norm=lambda step: 1.0 if step < 2800 else 900.0),
                 options(), {}, r"1\.65 at a rate of 1\.1e-03 \(step 160\) and rose to 5\.00",
                 r"--optim\.lr 0\.0006"),
    "rate far up": ("learning rate too high", flat(), options(lr=0.05), {}, r"peak rate is 0\.05; presets take 0\.002",
                    r"--optim\.lr 0\.002"),
    "rate far down": ("learning rate too low", records(lambda step: 6 - step / 2000, lr=lambda step: 1e-6,
                                                       blank=lambda step: 0.3), options(lr=1e-6), {},
                      r"never exceeded 1\.0e-06; presets take 0\.002", r"--optim\.lr 0\.002"),
    "no warm-up": ("warm-up too short", records(lambda step: 3.0 if step <= 20 else 9.0), options(warmup=0), {},
                   r"has 0 of 2900 steps", r"--optim\.warmup-steps 290"),
    "all warm-up": ("warm-up too long", records(lambda step: 4.0, steps=1500, lr=lambda step: 2e-3 * step / 2800,
                                                blank=lambda step: 0.2), options(warmup=2800), {},
                    r"peak at step 2800 of 2900", r"--optim\.warmup-steps 290"),
    "few steps": ("too few steps", flat(60), options(epochs=2), {"total_steps": 60, "steps_per_epoch": 30,
                                                                 "is_over": True},
                  r"took 60 steps, 2 epochs of 2320", r"--train\.epochs 34"),
    "characters unknown": ("vocabulary at odds with the checkpoint", records(), options(),
                           {"has_own_head": True, "unknown_share": 0.11}, r"11\.0 %", r"--corpus\.vocabulary new"),
    "units of another language": ("vocabulary at odds with the checkpoint", flat(), options(),
                                  {"has_own_head": True, "own_loss": 9.1, "other_losses": {1: 9.0, -1: 9.3}},
                                  r"9\.10 nats per unit against the own transcripts and 9\.00",
                                  r"--corpus\.vocabulary new"),
    "head given up": ("vocabulary at odds with the checkpoint", flat(), options(),
                      {"dropped_head": "x has a head of 32 units, and the run trains a new one of 61."},
                      r"head of 32 units", r"--corpus\.vocabulary own"),
    "not normalised": ("normalisation at odds with the checkpoint", flat(), options(),
                       {"is_pretrained": True, "normalizes": False, "wants_normalized": True},
                       r'"do_normalize": false', r'"do_normalize": true'),
    "narrow training": ("audio at the wrong rate", records(), options(),
                        {"bands": {"train": 3969.0, "dev": 7800.0}}, r"ends in train at 3969 Hz.*in dev at 7800 Hz",
                        r"ffmpeg"),
    "narrow all": ("audio at the wrong rate", flat(), options(),
                   {"bands": {"train": 3969.0, "dev": 4000.0}, "is_pretrained": True}, r"3969 Hz and dev at 4000 Hz",
                   r"--model\.no-freeze-feature-encoder"),
    "played too fast": ("audio at the wrong rate", flat(), options(), {"units_per_second": 33.0},
                        r"33 units a second", r"header"),
    "one row off": ("transcripts beside their audio", records(), options(),
                    {"length_correlation": {0: 0.03, 1: 0.85, -1: -0.02}},
                    r"rank correlation of 0\.03; with the transcripts 1 row further on it is 0\.85", r"pair each line"),
    "shuffled": ("transcripts beside their audio", flat(), options(),
                 {"length_correlation": {0: 0.02, 1: -0.01, -1: 0.05}}, r"correlation of their lengths is 0\.02",
                 r"pair each line"),
    "one row off for a checkpoint": ("transcripts beside their audio", records(steps=0), options(),
                                     {"has_own_head": True, "own_loss": 8.0, "other_losses": {1: 8.4, -1: 0.4}},
                                     r"loss is 8\.00.*and 0\.40 against those 1 row before", r"pair each line"),
    "evaluation off by two": ("transcripts beside their audio", records(), options(),
                              {"written": written(own_rate=0.93, shifted_rate=0.1, shift=2)},
                              r"93 % character errors.*10 % against those 2 rows further on", r"pair each line"),
    "random and frozen": ("frozen parts", records(), options(), {"frozen_random": 4_200_000}, r"4\.2 M",
                          r"--model\.no-freeze-feature-encoder"),
    "no gradient": ("frozen parts", records(part__transformer=lambda step: 0.0, part__head=lambda step: 1.0),
                    options(), {}, r"norm is 0 in the last 10 logs", r"--overfit 8"),
    "head alone": ("frozen parts", flat(), options(freeze_layers=12),
                   {"trained": {"head": 25_000}, "frozen": {"transformer": 94_000_000}},
                   r"25,000 of 94,025,000", r"--model\.freeze-layers 0 \(now 12\)"),
    "fp16": ("fp16 overflow", records(train__num_skipped=lambda step: max(0, step - 2000) / 2,
                                      train__grad_scale=lambda step: 65536 * 0.5 ** max(0, (step - 2000) / 50)),
             options(), {"precision": "fp16"}, r"100 of the last 200 steps were skipped", r"--precision bf16"),
    "no numbers": ("no finite loss", records(train__num_skipped=lambda step: max(0, step - 2000) / 4), options(),
                   {"precision": "bf16"}, r"50 of the last 200", r"--optim\.lr 0\.0007"),
    "one letter": ("one unit eats all", records(), options(),
                   {"written": written(top_unit="e", top_share=0.97, own_rate=0.9, shifted_rate=0.9)},
                   r"'e' makes 97 % of the 900 characters.*11 % of the references", r"--optim\.lr 0\.0007"),
    "by heart": ("overfitting", records(evaluation=overfitted), options(), {},
                 r"rose from 0\.2\d+ to 0\.9\d+ at step 2900, while training's fell .* WER rose: 30\.0 % then, 31\.0 %",
                 r"--train\.epochs 6"),
}  # fmt: skip


def known_options() -> set[str]:
    """All options of trainer.run, as they may be typed."""
    return {name for preset in PRESETS.values() for option in options_of(preset()) for name in option.names}


@pytest.mark.parametrize("case", PLANTED)
def test_a_planted_cause_is_found_with_its_numbers_and_nothing_else_is(case: str) -> None:
    name, logged, config, known, numbers, change = PLANTED[case]
    told = found(logged, config, **known)
    assert list(told) == [name]
    assert re.search(numbers, told[name].evidence)
    assert re.search(change, told[name].change)


@pytest.mark.parametrize("case", PLANTED)
def test_without_facts_a_cause_is_found_or_named_as_one_that_needs_them(case: str) -> None:
    """And no other is, whatever is not known."""
    name, logged, config, known, _, _ = PLANTED[case]
    seen = {key: known[key] for key in ("written", "is_over", "precision", "total_steps", "steps_per_epoch")
            if key in known}  # fmt: skip
    plan = Facts(total_steps=2900, steps_per_epoch=145, unigram_entropy=math.nan, usual_lr=usual_lr(config))
    told = set(found(logged, config, **dataclasses.asdict(plan) | seen))
    assert told <= {name, "only blanks"}
    assert name in told or name in NEED_FACTS or (name == "transcripts beside their audio" and "written" not in seen)


def test_a_finding_names_only_options_that_exist() -> None:
    known = known_options()
    for name, logged, config, more, _, _ in PLANTED.values():
        told = found(logged, config, **more)[name]
        for option in re.findall(r"--[a-z][a-z0-9.-]*[a-z0-9]", f"{told.evidence} {told.change}"):
            assert option in known, option


def test_every_cause_has_a_planted_case_and_stands_in_the_page() -> None:
    page = (ROOT / "docs" / "why.md").read_text(encoding="utf-8")
    names = {name for name, *_ in PLANTED.values()} | {"flat loss", "only blanks"}
    named = {name for path in (ROOT / "trainer" / "diagnosis").glob("*.py")
             for name in re.findall(r'Finding\(\s*"([a-z0-9 -]+)"', path.read_text(encoding="utf-8"))}  # fmt: skip
    assert named <= names
    for name in names:
        assert f"| {name} |" in page, name


@pytest.mark.parametrize(
    ("known", "why"),
    [
        ({"length_correlation": {0: 0.02, 1: 0.03}}, "lengths that tell nothing, in a run that learns"),
        ({"length_correlation": {0: 0.02, 1: 0.9}, "length_spread": 0.05}, "all recordings are about as long"),
        ({"length_correlation": {0: 0.02, 1: 0.9}, "num_utterances": 20}, "few utterances"),
        ({"length_correlation": {0: 0.9, 1: 0.88}}, "a corpus that is sorted by length"),
        ({"length_correlation": {0: 0.45, 1: 0.6}}, "neighbours that are alike, by speaker perhaps"),
        ({"bands": {"train": 3969.0, "dev": 4000.0}, "is_pretrained": True}, "telephone speech that is learnt"),
        ({"normalizes": False, "wants_normalized": True, "is_pretrained": True}, "it learns all the same"),
        ({"dropped_head": "x has a head, and the run trains a new one."}, "it learns its new head"),
        ({"has_own_head": True, "own_loss": 5.0, "other_losses": {1: 9.0}}, "a checkpoint in need of training"),
        ({"has_own_head": True, "own_loss": 0.5, "other_losses": {1: 0.4}}, "the same sentence said twice"),
        ({"trained": {"head": 25_000}, "frozen": {"transformer": 94_000_000}}, "the head alone is enough"),
        ({"precision": "fp16"}, "fp16 that skips nothing"),
        ({"units_per_second": 33.0}, "phones or a fast script, learnt"),
        ({"written": written(top_unit="a", top_share=0.97, top_reference_share=0.95)}, "a corpus of one letter"),
        ({"written": written(own_rate=0.8, shifted_rate=0.75, shift=1)}, "errors that are as many anywhere"),
    ],
)  # fmt: skip
def test_what_does_no_harm_is_not_found(known: dict[str, Any], why: str) -> None:
    assert found(records(), **known) == {}, why


@pytest.mark.parametrize(
    ("evaluation", "why"),
    [
        (lambda step: (overfitted(step)[0], 0.9 - step / 5000), "the error rate still falls"),
        (lambda step: (0.3 + 0.02 * (step % 200 > 0), 0.3), "a loss that is rough"),
        (lambda step: (0.3 if step < 2800 else 0.5, 0.3), "two evaluations are not three"),
        (lambda step: (learning(step) + 0.2, 0.3), "a loss that has come to rest"),
    ],
)
def test_what_looks_like_overfitting_is_not_told(evaluation: Callable[[int], tuple[float, float]], why: str) -> None:
    assert found(records(evaluation=evaluation)) == {}, why


def test_an_evaluation_loss_that_rises_with_training_is_no_overfitting() -> None:
    """Both diverge: that is the rate."""
    assert "overfitting" not in found(records(diverges, evaluation=lambda step: (diverges(step), 0.9)))


def test_overfitting_is_told_while_the_run_goes_on_and_once_it_shows() -> None:
    told = first_found(records(evaluation=overfitted))
    assert told == {"overfitting": 1100}  # three evaluations after the best, at 800


@pytest.mark.parametrize(("speeds", "mask", "change"), [
    ((), None, "--augment.speeds 0.9 1.0 1.1"),
    ((0.9, 1.0, 1.1), None, "--model.mask-time-prob 0.05"),
    ((0.9, 1.0, 1.1), 0.1, "--model.mask-time-prob 0.2"),
])  # fmt: skip
def test_overfitting_is_met_with_what_the_run_does_not_use_yet(
    speeds: tuple[float, ...], mask: float | None, change: str
) -> None:
    config = options(mask_time_prob=mask)
    config = dataclasses.replace(config, augment=dataclasses.replace(config.augment, speeds=speeds))
    assert change in found(records(evaluation=overfitted), config)["overfitting"].change


def test_a_mask_is_doubled_up_to_its_most() -> None:
    config = options(mask_time_prob=0.4)
    config = dataclasses.replace(config, augment=dataclasses.replace(config.augment, speeds=(0.9, 1.0, 1.1)))
    assert "--model.mask-time-prob 0.65;" in found(records(evaluation=overfitted), config)["overfitting"].change


def test_overfitting_in_the_last_epoch_is_met_with_patience() -> None:
    """The best evaluation was in the sixth epoch."""
    assert "--train.patience 3" in found(records(evaluation=overfitted), options(epochs=6))["overfitting"].change
    assert "--train.epochs 6," in found(records(evaluation=overfitted), options(epochs=7))["overfitting"].change


@pytest.mark.parametrize(
    ("rate", "sure", "said"),
    [
        (0.29, "possible", "The WER fell little: 30.0 % then, 29.0 % now."),
        (0.299, "likely", "The WER did not fall: 30.0 % then, 29.9 % now."),
        (0.31, "likely", "The WER rose: 30.0 % then, 31.0 % now."),
    ],
)
def test_overfitting_says_what_the_error_rate_does(rate: float, sure: str, said: str) -> None:
    logged = records(evaluation=lambda step: (overfitted(step)[0], 0.3 if step <= 800 else rate))
    told = found(logged)["overfitting"]
    assert told.sure == sure
    assert said in told.evidence


@pytest.mark.parametrize(
    ("epochs", "max_steps", "change"),
    [(2, None, "--train.epochs 34."), (50, None, "--train.epochs 50."),
     (2, 60, "--train.max-steps 1000, with --train.epochs 34 or more.")],
)  # fmt: skip
def test_too_few_steps_are_met_with_a_thousand(epochs: int, max_steps: int | None, change: str) -> None:
    config = options(epochs=epochs)
    config = dataclasses.replace(config, train=dataclasses.replace(config.train, max_steps=max_steps))
    told = found(flat(60), config, total_steps=60, steps_per_epoch=30, is_over=True)
    assert told["too few steps"].change == change


def test_evaluations_overrule_training_about_blanks_at_the_end_of_a_short_run() -> None:
    """Masks and dropout may silence a model, or make it write, in training alone."""
    for in_training, in_evaluation in ((1.0, 0.9), (0.9, 1.0)):
        logged = flat(200)
        for record in logged:
            record |= {key: in_evaluation if key.startswith("eval") else in_training
                       for key in record if key.endswith("blank_share")}  # fmt: skip
        told = found(logged, total_steps=200, is_over=True)
        assert ("too few steps" in told) == (in_evaluation == 1.0)
    assert "too few steps" in found(flat(200, eval_every=0), total_steps=200, is_over=True)


def test_the_rate_to_begin_again_with_is_half_of_the_best_one_and_a_tenth_of_the_peak_at_least() -> None:
    for best, change in ((1e-3, "0.0005"), (1e-5, "0.0002")):
        logged = records(diverges, lr=lambda step, best=best: best if step <= 200 else 2e-3)  # type: ignore[misc]
        assert found(logged)["learning rate too high"].change == f"start again with --optim.lr {change}."


@pytest.mark.parametrize(("norm", "sure"), [(1.0, "likely"), (900.0, "certain")])
def test_a_rise_is_certain_to_be_the_rate_where_the_gradient_exploded_too(norm: float, sure: str) -> None:
    logged = records(diverges, norm=lambda step: 1.0 if step < 2880 else norm)
    told = found(logged)["learning rate too high"]
    assert told.sure == sure
    assert ("The gradient norm has been above 900" in told.evidence) == (sure == "certain")


def test_the_highest_rate_that_is_told_is_one_after_the_lowest_loss() -> None:
    logged = records(diverges, lr=lambda step: 1e-2 if step == 10 else 1e-3)
    assert "at rates up to 1.0e-03." in found(logged)["learning rate too high"].evidence


def test_a_long_warm_up_explains_a_rate_that_stays_low() -> None:
    logged = records(lambda step: 4.0 - step / 2000, steps=1500, lr=lambda step: 1e-7 * step, blank=lambda step: 0.2)
    assert list(found(logged, options(lr=2e-4, warmup=2800))) == ["warm-up too long"]
    assert list(found(logged, options(lr=2e-4, warmup=280))) == ["learning rate too low"]


def test_what_is_written_all_the_time_may_be_the_space_and_may_come_at_the_end_of_a_short_plan() -> None:
    told = found(records(steps=100), total_steps=100, written=written(top_unit=" ", top_share=0.97, step=100))
    assert told["one unit eats all"].what == "Whatever is said, the model writes the space."


def test_findings_are_a_table_for_tensorboard() -> None:
    assert table([]) == "No cause of bad training was found."
    finding = Finding("only blanks", "certain", "Silence | noise.", "99 %.", "Train.")
    assert table([finding]).splitlines() == [
        "| cause | sure | what | evidence | to change |",
        "| ---|---|---|---|--- |",
        "| only blanks | certain | Silence \\| noise. | 99 %. | Train. |",
    ]
    assert doctest.testmod(trainer.diagnosis.finding).failed == 0


def test_fp16_may_skip_some_steps_while_it_looks_for_its_scale() -> None:
    """GradScaler begins at 65536 and halves: 16 skips bring it to 1."""
    logged = records(train__num_skipped=lambda step: min(16, step), train__grad_scale=lambda step: 1.0, steps=200)
    assert found(logged, precision="fp16") == {}


def test_a_known_cause_stands_in_place_of_the_symptom_and_an_unknown_one_is_said() -> None:
    assert list(found(flat())) == ["flat loss"]
    assert list(found(flat(), frozen_random=100)) == ["frozen parts"]


def test_a_diagnosis_of_a_long_run_takes_milliseconds() -> None:
    """10,000 logs and 1,000 evaluations: under a tenth of a second here, with a wide margin for a busy machine."""
    logged = records(steps=100_000, lr=lambda step: 1e-3)
    begin = time.process_time()
    diagnose(evidence(logged, total_steps=100_000))
    assert time.process_time() - begin < 1.0


def test_a_finding_is_one_paragraph_of_whole_sentences() -> None:
    for name, logged, config, known, _, _ in PLANTED.values():
        told: Finding = found(logged, config, **known)[name]
        for text in (told.what, told.evidence, told.change):
            assert text.endswith("."), text
            assert "  " not in text, text
            assert ".." not in text, text
        assert told.line().startswith(f"{name} ({told.sure}): ")


@pytest.mark.parametrize(("run", "name", "lr"), [("lr 0.1", "high", 0.1), ("lr 1e-6", "low", 1e-6)])
def test_the_recorded_curves_of_two_runs_at_wrong_rates_name_the_rate(run: str, name: str, lr: float) -> None:
    """`demo --corpus.size tiny --model.size tiny --optim.lr LR --train.epochs 200`: 400 steps."""
    real = json.loads(Path(__file__).with_name("real_runs.json").read_text())[run]
    logged = [
        {"step": s, "train/loss": loss, "train/grad_norm": norm, "train/lr": rate, "train/blank_share": blank}
        for s, loss, norm, rate, blank in real["logs"]
    ]
    logged += [{"step": s, "eval/loss": v, "eval/wer": w, "eval/blank_share": b} for s, v, w, b in real["evals"]]
    logged.sort(key=lambda r: r["step"])
    known = dict(total_steps=400, steps_per_epoch=2, unigram_entropy=2.902)
    told = found(logged, options(lr=lr, warmup=40, epochs=200), **known)
    assert list(told) == [f"learning rate too {name}"]
    assert told[f"learning rate too {name}"].change == "--optim.lr 0.002."
