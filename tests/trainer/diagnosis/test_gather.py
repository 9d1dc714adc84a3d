"""The facts that a diagnosis is made from (trainer.diagnosis.gather, written, learnt, folder), on made-up material.

pytest tests/trainer/diagnosis/test_gather.py
"""

from __future__ import annotations

import contextlib
import dataclasses
import doctest
import json
import math
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import trainer.diagnosis.gather
from data.example import Example
from tests.helpers.audio import encoded, utterance
from tests.helpers.diagnosis import facts, found, learning, options, records
from tests.helpers.tones import VOCAB, ToneModel, sentence, speak
from trainer.config.as_json import to_json
from trainer.diagnosis.folder import keep_facts, read_facts, write_facts
from trainer.diagnosis.gather import band_of, compare_lengths, hear_neighbours, unigram_entropy, usual_lr
from trainer.diagnosis.learnt import in_words, learnt_line, learnt_of
from trainer.diagnosis.written import written_of
from trainer.errors import ConfigError
from trainer.rundir.dynamics.files import VISIT, Dynamics

SPOKEN = [
    "four seven two", "one", "nine eight eight seven", "zero two", "six five four three two", "eight", "two two",
    "nine nine one zero", "seven", "three four five", "one two three four five six", "zero",
]  # fmt: skip


@pytest.mark.parametrize("shift", [0, 1, -2])
def test_lengths_go_together_at_the_shift_at_which_they_belong_together(shift: int) -> None:
    """Reference: Spearman's formula for values that all differ, 1 - 6 sum(d^2) / (n (n^2 - 1))."""
    rng = np.random.default_rng(0)
    seconds = rng.uniform(1, 12, 200)
    units = np.roll(seconds, shift) * 14 + rng.uniform(0, 20, 200)
    correlation, spread, rate = compare_lengths(seconds, units)
    assert max(correlation, key=correlation.__getitem__) == shift
    apart = seconds.argsort().argsort() - units.argsort().argsort()
    assert correlation[0] == pytest.approx(1 - 6 * float((apart**2).sum()) / (200 * (200**2 - 1)), abs=1e-4)
    assert 0.3 < spread < 1
    assert rate == pytest.approx(np.median(units / seconds))


def test_lengths_that_are_all_the_same_have_no_correlation() -> None:
    assert compare_lengths(np.ones(50), np.arange(50.0))[0] == {}
    assert compare_lengths(np.ones(5), np.ones(5)) == ({}, 0.0, None)


@pytest.mark.parametrize(("rate", "expected"), [(16_000, 8000), (8000, None)])
def test_the_band_of_upsampled_telephone_speech_ends_at_4_khz(rate: int, expected: float | None) -> None:
    """Files of 8 kHz say so themselves: there is nothing to find."""
    rng = np.random.default_rng(1)
    wide = [0.1 * rng.standard_normal(rate) for _ in range(8)]
    band = band_of(_examples(wide, rate))
    assert band is None if expected is None else band == pytest.approx(expected, abs=100)
    if rate == 16_000:
        spectra = [np.fft.rfft(w) for w in wide]
        narrow = [np.fft.irfft(np.where(np.arange(len(s)) < len(s) // 2, s, 0), len(w))
                  for s, w in zip(spectra, wide, strict=True)]  # fmt: skip
        assert band_of(_examples(narrow, rate)) == pytest.approx(4000, abs=100)


def _examples(sounds: list[np.ndarray], rate: int) -> list:
    found = []
    for sound in sounds:
        u = utterance(encoded(sound, rate=rate))
        found.append(Example(u, "a", (1,), u.audio.num_samples, u.audio.load))
    return found


def test_the_usual_rate_is_that_of_the_weights_and_none_where_a_small_part_is_trained() -> None:
    assert usual_lr(options()) == 2e-3
    assert usual_lr(options(size=None, pretrained="x")) == 1e-4
    assert usual_lr(options(size=None, pretrained="x", lora_rank=8)) is None


def test_unigram_entropy_is_that_of_the_counts() -> None:
    """Reference: -sum p log p by hand, for counts 3 and 1."""
    expected = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert unigram_entropy(Counter([5, 5, 5, 7])) == pytest.approx(expected, rel=1e-12)
    assert doctest.testmod(trainer.diagnosis.gather).failed == 0


@pytest.mark.parametrize("shift", [1, -1, 3])
def test_what_is_written_is_found_in_the_rows_that_it_belongs_to(shift: int) -> None:
    n = len(SPOKEN)
    heard = [SPOKEN[i + shift] if 0 <= i + shift < n else "" for i in range(n)]
    found = written_of(100, list(zip(SPOKEN, heard, strict=True)))
    assert found.shift == shift
    assert found.shifted_rate == 0
    assert found.own_rate > 0.5
    assert found.num_utterances == n


def test_what_is_written_well_is_not_looked_for_elsewhere() -> None:
    found = written_of(100, [(text, text.replace("o", "a")) for text in SPOKEN])
    assert (found.shift, found.shifted_rate) == (0, found.own_rate)
    assert found.top_unit == Counter("".join(SPOKEN).replace("o", "a")).most_common(1)[0][0]
    assert written_of(100, [("abc", ""), ("b", "")]).num_characters == 0
    assert written_of(0, []).num_utterances == 0


def test_an_utterance_is_never_learnt_when_no_visit_was_low() -> None:
    """Four of five were once below half of 2 nats; one was never visited."""
    losses = [(0, 3.0), (1, 3.0), (2, 2.5), (4, 3.0), (0, 0.2), (1, 0.4), (2, 2.2), (4, 0.1), (2, 2.4), (1, math.inf)]
    visits = np.zeros(len(losses), VISIT)
    visits["row"], visits["loss"] = zip(*losses, strict=True)
    found = learnt_of(Dynamics(visits, list("abcde"), np.zeros(0), []), 2.0)
    assert found is not None
    assert found.worst == [("c", pytest.approx(2.2))]
    assert (found.num_visited, found.num_never, found.threshold) == (4, 1, 1.0)
    assert found.num_visits == 2.5
    assert found.median_lowest == pytest.approx(0.3)
    assert learnt_of(Dynamics(visits[:4], list("abcde"), np.zeros(0), []), 2.0) is None  # nothing is learnt yet
    assert learnt_of(Dynamics(visits[:0], list("abcde"), np.zeros(0), []), 2.0) is None


@pytest.mark.parametrize(
    ("never", "said"),
    [
        (0, "5 training utterances were visited 2 times on average. None was left unlearnt: each had a loss of at most "
            "1.00 nats per unit, half of what the units' frequencies give, at one visit or more. The median of the "
            "utterances' lowest losses is 0.200."),
        (1, "1 was never learnt: its loss was above 1.00 nats per unit, half of what the units' frequencies give, at "
            "every visit. The median of the utterances' lowest losses is 0.200. Highest of these: a (3.00)."),
        (2, "2 were never learnt: their losses were above 1.00 nats per unit, half of what the units' frequencies "
            "give, at every visit. The median of the utterances' lowest losses is 0.200. Highest of these: b (4.00), a "
            "(3.00)."),
    ],
)  # fmt: skip
def test_none_one_and_several_that_were_never_learnt_are_clear_sentences(never: int, said: str) -> None:
    visits = np.zeros(10, VISIT)
    visits["row"] = [0, 1, 2, 3, 4] * 2
    visits["loss"] = [5.0] * 5 + [3.0 + row if row < never else 0.2 for row in range(5)]
    found = learnt_of(Dynamics(visits, list("abcde"), np.zeros(0), []), 2.0)
    assert found is not None
    assert in_words(found).endswith(said)
    assert in_words(dataclasses.replace(found, num_visited=1, num_visits=1.0)).startswith(
        "1 training utterance was visited 1 time on average. "
    )


def test_the_worst_five_of_those_never_learnt_are_named() -> None:
    visits = np.zeros(20, VISIT)
    visits["row"], visits["loss"] = range(20), [2.0 + row / 10 if row < 7 else 0.1 for row in range(20)]
    found = learnt_of(Dynamics(visits, [f"u{i}" for i in range(20)], np.zeros(0), []), 2.0)
    assert found is not None
    assert [name for name, _ in found.worst] == ["u6", "u5", "u4", "u3", "u2"]
    assert found.num_never == 7


@pytest.mark.parametrize("level", [0.9, 1.1])
def test_single_utterances_are_told_of_once_half_of_all_are_learnt(level: float) -> None:
    """Half of the units' entropy of 2 nats is 1."""
    visits = np.zeros(3, VISIT)
    visits["row"], visits["loss"] = range(3), level
    dynamics = Dynamics(visits, list("abc"), np.zeros(0), [])
    assert (learnt_of(dynamics, 2.0) is None) == (level > 1)
    assert learnt_of(dynamics, math.nan) is None  # the entropy is not known


def test_a_run_that_kept_no_losses_is_told_nothing_of(tmp_path: Path) -> None:
    assert learnt_line(tmp_path, 2.0) == ""
    assert learnt_line(tmp_path / "none", 2.0) == ""


def test_facts_come_back_as_they_were_written(tmp_path: Path) -> None:
    given = facts(own_loss=0.5, other_losses={-1: 4.0, 2: 5.5})
    write_facts(tmp_path, given)
    assert read_facts(tmp_path) == given


def test_a_run_that_goes_on_keeps_what_its_checkpoint_heard_before_training(tmp_path: Path) -> None:
    write_facts(tmp_path, facts(own_loss=0.5, other_losses={1: 4.0}, total_steps=10))
    kept = keep_facts(tmp_path, lambda: facts(total_steps=20), is_new=False)
    assert (kept.own_loss, kept.other_losses, kept.total_steps) == (0.5, {1: 4.0}, 20)
    assert keep_facts(tmp_path, facts, is_new=True) == facts() == read_facts(tmp_path)


@pytest.mark.parametrize("content", [None, "{", "[]", '{"total_steps": 3}', '{"length_correlation": {"a": 1}}'])
def test_facts_that_are_missing_or_damaged_are_said(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "facts.json").write_text(content)
    with pytest.raises(ConfigError, match=r"has no facts\.json" if content is None else r"facts\.json: not"):
        read_facts(tmp_path)


def test_the_command_judges_a_run_that_goes_on_from_its_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from scripts.diagnose import main

    config = dataclasses.replace(options(), runs_dir=str(tmp_path), name="r")
    run_dir = tmp_path / "r"
    run_dir.mkdir()
    (run_dir / "config.json").write_text(to_json(config))
    assert main([str(run_dir)]) == 2
    write_facts(run_dir, facts())
    for logged, code, said in (
        (records(learning), 0, "no cause of bad training was found"),
        (records(lambda step: 2.87), 1, "flat loss (certain): Nothing is learnt"),
    ):
        (run_dir / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in logged))
        capsys.readouterr()
        assert main([str(run_dir)]) == code
        out = capsys.readouterr().out
        assert said in out
        assert "2900 of 2900 steps, not over" in out
        assert main([str(run_dir), "--json"]) == code
        assert [f["name"] for f in json.loads(capsys.readouterr().out)] == ["flat loss"] * code


class Hearing:
    """A checkpoint that hears tones, as `hear_neighbours` uses a model."""

    num_frames = staticmethod(ToneModel().num_frames)
    blank_id, training = VOCAB.blank_id, True

    def __call__(self, inputs: Any, frame_lengths: Any, **masks: Any) -> Any:
        return ToneModel().read(inputs)[:, : int(frame_lengths.max())]

    def eval(self) -> None: ...

    def train(self, mode: bool) -> None: ...


@pytest.mark.parametrize("shift", [0, 1, -2])
def test_a_checkpoint_hears_whose_transcripts_they_are(shift: int) -> None:
    """Row i has the words of recording i - shift; those of recording i stand `shift` rows further on."""
    rng = np.random.default_rng(2)
    texts = [sentence(rng, 2) for _ in range(10)]
    sounds = [speak(text, rng) for text in texts]
    train = []
    for i, sound in enumerate(sounds):
        u = utterance(encoded(sound))
        targets = tuple(VOCAB.encoder()(texts[(i - shift) % len(texts)]))
        train.append(Example(u, "", targets, u.audio.num_samples, u.audio.load))
    parts = SimpleNamespace(
        model=Hearing(), device=torch.device("cpu"), autocast=contextlib.nullcontext, features=None, graphs=None
    )
    run: Any = SimpleNamespace(parts=parts, data=SimpleNamespace(train=train), do_normalize=False)
    own, others = hear_neighbours(run)
    assert own is not None
    losses = {0: own, **others}
    assert min(losses, key=losses.__getitem__) == shift
    told = found([], has_own_head=True, own_loss=own, other_losses=others)
    assert list(told) == (["transcripts beside their audio"] if shift else [])


def test_few_utterances_are_no_trial_for_a_checkpoint() -> None:
    run: Any = SimpleNamespace(parts=SimpleNamespace(model=None), data=SimpleNamespace(train=[]), do_normalize=False)
    assert hear_neighbours(run) == (None, {})
