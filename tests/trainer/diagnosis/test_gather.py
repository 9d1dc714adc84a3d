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

import trainer.diagnosis.data
import trainer.diagnosis.gather
import trainer.diagnosis.learnt
from data.examples.example import Example
from tests.helpers.audio import encoded, utterance
from tests.helpers.diagnosis import facts, found, learning, options, records
from tests.helpers.tones import VOCAB, ToneModel, sentence, speak
from trainer.config.as_json import to_json
from trainer.config.schema import Config
from trainer.diagnosis.folder import facts_of_records, keep_facts, read_facts, write_facts
from trainer.diagnosis.gather import band_of, compare_lengths, facts_of, hear_neighbours, unigram_entropy
from trainer.diagnosis.learnt import in_words, learnt_line, learnt_of
from trainer.diagnosis.rate import usual_lr
from trainer.diagnosis.written import written_of
from trainer.errors import AudioError, ConfigError
from trainer.rundir.dynamics.files import VISIT, Dynamics
from trainer.rundir.results import write_hypotheses
from trainer.scoring.metrics import EditCounts
from trainer.scoring.scores import Hypothesis, Scores

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


@pytest.mark.parametrize(
    "part", [{"lora_rank": 8}, {"adapter_only": True}, {"freeze_layers": 3}], ids=lambda part: next(iter(part))
)
def test_a_small_part_that_is_trained_has_no_usual_rate(part: dict[str, Any]) -> None:
    assert usual_lr(options(size=None, pretrained="x", **part)) is None


def test_equal_lengths_share_a_rank_and_the_smaller_spread_is_told() -> None:
    """Reference: ranks with ties at their mean, 0.5 0.5 2 3.5 3.5 ..., by hand, and numpy's correlation of them."""
    seconds = np.array([1.0, 1, 2, 3, 3, 4, 5, 5, 5, 6])
    units = np.array([10.0, 12, 12, 30, 31, 31, 50, 51, 52, 52])
    of_seconds, of_units = [0.5, 0.5, 2, 3.5, 3.5, 5, 7, 7, 7, 9], [0, 1.5, 1.5, 3, 4.5, 4.5, 6, 7, 8.5, 8.5]
    correlation, spread, _ = compare_lengths(seconds, units)
    assert correlation[0] == pytest.approx(np.corrcoef(of_seconds, of_units)[0, 1], abs=1e-4)
    assert spread == pytest.approx(min(np.log(seconds).std(), np.log(units).std()))


def test_empty_transcripts_have_no_part_in_the_comparison_of_lengths(bands: None) -> None:
    """Twelve of them among ten others."""
    u = utterance(encoded(np.zeros(16_000)))
    train = [
        Example(u, "", (1,) * k if k else (), 16_000 * (1 + (k or 30)), np.zeros) for k in [0] * 12 + list(range(1, 11))
    ]
    run = prepared(None)
    run.data.train = train
    told = facts_of(run, probes=False)
    assert told.length_correlation[0] == pytest.approx(1.0)
    assert told.length_spread > 0.3


def test_a_band_is_that_of_six_readable_recordings_at_least() -> None:
    rng = np.random.default_rng(1)
    examples = _examples([0.1 * rng.standard_normal(16_000) for _ in range(12)], 16_000)
    broken = dataclasses.replace(examples[0], load=_unreadable)
    assert band_of([broken] * 6 + examples[:6]) == pytest.approx(8000, abs=100)
    assert band_of([broken] * 7 + examples[:5]) is None


def _unreadable() -> np.ndarray:
    raise AudioError("no audio")


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


def test_neighbours_are_tried_from_half_of_the_characters_wrong_on_and_must_be_better() -> None:
    """By hand: of "ab" and "cd" one of two letters is wrong, or both are."""
    half = written_of(1, [("abcd", "cdcd"), ("cdcd", "abcd")])
    assert (half.own_rate, half.shift, half.shifted_rate) == (0.5, 1, 0.0)
    less = written_of(1, [("abcde", "cdcde"), ("cdcde", "abcde")])
    assert (less.own_rate, less.shift, less.shifted_rate) == (0.4, 0, 0.4)
    worse = written_of(1, [("ab", "ax"), ("cd", "cx")])
    assert (worse.own_rate, worse.shift, worse.shifted_rate) == (0.5, 0, 0.5)


def test_the_commonest_character_is_counted_in_what_is_written_and_in_what_was_said() -> None:
    found = written_of(1, [("abca", "bbbc"), ("cccc", "b")])
    assert (found.num_characters, found.top_unit) == (5, "b")
    assert (found.top_share, found.top_reference_share) == (0.8, 1 / 8)


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


def test_facts_that_are_no_numbers_do_not_spoil_the_file(tmp_path: Path) -> None:
    """JSON has no infinity."""
    write_facts(tmp_path, facts(units_per_second=math.inf))
    assert read_facts(tmp_path) == facts(units_per_second=None)


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
    assert "neither facts.json nor records" in capsys.readouterr().err
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


def ended(run_dir: Path, config: Config, logged: list[dict[str, Any]], texts: list[tuple[str, str]]) -> None:
    """The files of a run that is over: options, records, results and (reference, hypothesis) pairs."""
    run_dir.mkdir()
    (run_dir / "config.json").write_text(to_json(config))
    (run_dir / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in logged))
    (run_dir / "results.json").write_text(
        '{"headline": "dev", "num_parameters": 1, "device": "cpu", "steps": 2900, "precision": "fp32"}'
    )
    edits = EditCounts()
    hypotheses = tuple(Hypothesis(str(i), *pair, edits, edits, 1.0) for i, pair in enumerate(texts))
    write_hypotheses(run_dir / "hypotheses.jsonl", [Scores("dev", hypotheses, 1.0, 1.0, {})])


def test_the_command_judges_a_run_that_is_over_by_what_it_wrote_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its evaluation's transcripts are one row off, and the utterances' losses say which were never learnt."""
    from scripts.diagnose import main

    run_dir = tmp_path / "r"
    texts = list(zip(SPOKEN, [*SPOKEN[1:], ""], strict=True))
    monkeypatch.setattr(trainer.diagnosis.data, "PAIR", "größer")
    ended(run_dir, dataclasses.replace(options(), runs_dir=str(tmp_path), name="r"), records(learning), texts)
    write_facts(run_dir, facts())
    visits = np.zeros(2, VISIT)
    visits["row"], visits["loss"] = [0, 1], [0.1, 0.1]
    dynamics = Dynamics(visits, ["a", "b"], np.zeros(0), [])
    monkeypatch.setattr(trainer.diagnosis.learnt, "read_dynamics", lambda run_dir: dynamics)
    assert main([str(run_dir)]) == 1
    captured = capsys.readouterr()
    assert "2900 of 2900 steps, over" in captured.out
    assert "transcripts beside their audio (certain): The evaluation's transcripts" in captured.out
    assert "1 row further on" in captured.out
    assert "2 training utterances were visited 1 time on average. None was left unlearnt" in captured.out
    assert captured.err == ""
    assert main([str(run_dir), "--json"]) == 1
    assert capsys.readouterr().out.isascii()  # valid JSON whatever the terminal's encoding


@pytest.mark.parametrize("is_over", [False, True])
@pytest.mark.parametrize(
    ("logged", "names"),
    [
        (records(blank=lambda step: 1.0), ["only blanks"]),
        (records(lambda step: 2.0 if step < 2000 else 6.0), ["learning rate too high"]),
        (records(lambda step: 2.87, blank=lambda step: 0.3), []),
        (records(learning), []),
    ],
    ids=["blanks", "diverged", "flat", "sound"],
)
def test_a_run_of_an_older_version_is_judged_by_its_records(
    logged: list[dict[str, Any]], names: list[str], is_over: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from scripts.diagnose import main

    run_dir = tmp_path / "r"
    config = dataclasses.replace(options(), runs_dir=str(tmp_path), name="r")
    ended(run_dir, config, logged, [("a b", "a b")] * 3)
    if not is_over:
        (run_dir / "results.json").unlink()
    assert main([str(run_dir), "--json"]) == bool(names)
    captured = capsys.readouterr()
    assert [finding["name"] for finding in json.loads(captured.out)] == names
    assert "it has no facts.json, as runs of older versions. What cannot be told without: audio at" in captured.err
    assert main([str(run_dir)]) == bool(names)
    assert f"2900 of 2900 steps, {'over' if is_over else 'not over'}" in capsys.readouterr().out


@pytest.mark.parametrize(("max_steps", "planned"), [(None, 2900), (5000, 2900), (1200, 1200)])
def test_the_plan_of_an_older_run_is_that_of_its_options(max_steps: int | None, planned: int) -> None:
    config = options()
    config = dataclasses.replace(config, train=dataclasses.replace(config.train, max_steps=max_steps))
    known = facts_of_records(config, records(steps=210))
    assert (known.total_steps, known.steps_per_epoch, known.usual_lr) == (planned, 145, 2e-3)


class Hearing:
    """A checkpoint that hears tones, as `hear_neighbours` uses a model."""

    num_frames = staticmethod(ToneModel().num_frames)
    blank_id, training = VOCAB.blank_id, True

    def __call__(self, inputs: Any, frame_lengths: Any, **masks: Any) -> Any:
        return ToneModel().read(inputs)[:, : int(frame_lengths.max())]

    def eval(self) -> None:
        self.training = False

    def train(self, mode: bool) -> None:
        self.training = mode


def hearing(train: list[Example]) -> Any:
    """A run of this checkpoint that is about to begin."""
    parts = SimpleNamespace(
        model=Hearing(), device=torch.device("cpu"), autocast=contextlib.nullcontext, features=None, graphs=None
    )
    return SimpleNamespace(parts=parts, data=SimpleNamespace(train=train), do_normalize=False)


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
    own, others = hear_neighbours(hearing(train))
    assert own is not None
    losses = {0: own, **others}
    assert min(losses, key=losses.__getitem__) == shift
    told = found([], has_own_head=True, own_loss=own, other_losses=others)
    assert list(told) == (["transcripts beside their audio"] if shift else [])


def part(*names: str, is_trained: bool) -> dict[str, torch.nn.Parameter]:
    return {name: torch.nn.Parameter(torch.zeros(10), requires_grad=is_trained) for name in names}


def prepared(new: tuple[str, ...] | None, *, own: bool = False, has_head: bool = False, invariant: bool = True) -> Any:
    """A run that is about to begin: `new` weights are in no checkpoint (None: there is no checkpoint)."""
    weights = part("unispeech.encoder.layers.0.k", "lm_head.weight", is_trained=True)
    weights |= part("unispeech.feature_extractor.conv.weight", "masked_spec_embed", is_trained=False)
    train = [
        Example(utterance(encoded(np.zeros(16_000))), "", t, 16_000, np.zeros)
        for t in [(2, 2, 3), (VOCAB.ids["[UNK]"],)]
    ]
    pretrained = SimpleNamespace(has_head=has_head, tokens=("a", "b"), source="x")
    data = SimpleNamespace(
        train=train, own_tokenizer=own, vocab=VOCAB, corpus=SimpleNamespace(splits=SimpleNamespace(train="train"))
    )
    return SimpleNamespace(
        config=options(),
        parts=SimpleNamespace(
            model=SimpleNamespace(
                hf=SimpleNamespace(named_parameters=weights.items), is_sharded=False, is_batch_invariant=invariant
            )
        ),
        data=data,
        load_report=None if new is None else SimpleNamespace(new=new),
        encoder=None if new is None else SimpleNamespace(pretrained=pretrained),
        monitor=SimpleNamespace(split="dev", examples=["dev"]),
        plan=SimpleNamespace(num_steps=lambda epoch: 7),
        total_steps=70,
        precision="bf16",
        do_normalize=False,
    )


@pytest.fixture
def bands(monkeypatch: pytest.MonkeyPatch) -> None:
    """The band of training is 7000 Hz, that of the other split 3900."""
    monkeypatch.setattr(trainer.diagnosis.gather, "band_of", lambda of: 3900.0 if of == ["dev"] else 7000.0)


def test_the_facts_of_random_weights(bands: None) -> None:
    told = facts_of(prepared(None), probes=False)
    assert (told.total_steps, told.steps_per_epoch, told.num_utterances) == (70, 7, 2)
    assert (told.precision, told.usual_lr, told.normalizes) == ("bf16", 2e-3, False)
    assert told.trained == {"transformer": 10, "head": 10}
    assert told.frozen == {"feature_encoder": 10, "projection": 10}
    assert told.frozen_random == 10  # the mask's vector is never needed
    assert told.bands == {"train": 7000.0, "dev": 3900.0}
    assert (told.is_pretrained, told.has_own_head, told.dropped_head, told.wants_normalized) == (False, False, "", None)
    assert told.unknown_share == 0.25
    assert told.unigram_entropy == pytest.approx(-0.5 * math.log(0.5) - 2 * 0.25 * math.log(0.25))


def test_weights_that_are_in_no_checkpoint_and_frozen_are_counted(bands: None) -> None:
    new = ("unispeech.feature_extractor.conv.weight", "masked_spec_embed", "lm_head.weight")
    assert facts_of(prepared(new), probes=False).frozen_random == 10


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("has_head", [True, False])
def test_the_facts_of_a_checkpoint(own: bool, has_head: bool, bands: None) -> None:
    new = () if own else ("lm_head.weight",)
    told = facts_of(prepared(new, own=own, has_head=has_head, invariant=has_head), probes=False)
    assert (told.is_pretrained, told.frozen_random) == (True, 0)
    assert told.has_own_head == own
    assert bool(told.dropped_head) == (has_head and not own)
    assert told.wants_normalized == (True if has_head else None)
    if told.dropped_head:
        assert told.dropped_head == f"x has a head of 2 units, and the run trains a new one of {len(VOCAB)}."


@pytest.mark.parametrize(("num", "seconds", "is_tried"), [(6, 1, True), (5, 1, False), (6, 7, False), (8, 6.5, True)])
def test_a_checkpoint_is_tried_on_six_utterances_of_forty_seconds_at_most(
    num: int, seconds: float, is_tried: bool
) -> None:
    """It is in training again afterwards."""
    rng = np.random.default_rng(2)
    sound = np.zeros(int(16_000 * seconds), np.float32)
    sound[:16_000] += 0.1 * rng.standard_normal(16_000)
    u = utterance(encoded(sound))
    run = hearing([Example(u, "", (2, 3), u.audio.num_samples, u.audio.load)] * num)
    own, others = hear_neighbours(run)
    assert (own is not None) == bool(others) == is_tried
    assert run.parts.model.training


def test_a_transcript_that_does_not_fit_its_recording_is_left_out() -> None:
    """Its loss is infinite. Five of ten have more letters than there are frames."""
    rng = np.random.default_rng(2)
    texts = [sentence(rng, 2) for _ in range(10)]
    train = []
    for i, text in enumerate(texts):
        u = utterance(encoded(speak(text, rng)))
        targets = tuple(VOCAB.encoder()(text)) * (50 if i < 5 else 1)
        train.append(Example(u, "", targets, u.audio.num_samples, u.audio.load))
    own, others = hear_neighbours(hearing(train))
    assert own is not None
    assert own < 1
    assert min(others.values()) > 2 * own


def test_few_utterances_are_no_trial_for_a_checkpoint() -> None:
    run: Any = SimpleNamespace(parts=SimpleNamespace(model=None), data=SimpleNamespace(train=[]), do_normalize=False)
    assert hear_neighbours(run) == (None, {})
