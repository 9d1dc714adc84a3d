"""trainer.doctor.examine, opening and own_words, with a model's answers written by hand.

How they work on a run as it is: tests/scripts/test_doctor.py. pytest tests/trainer/doctor/test_examine.py
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from data.corpora.given import GivenConfig
from data.examples.example import Example
from tests.helpers.voices import example
from trainer.cli.console import Console
from trainer.config.schema import Config
from trainer.doctor.examine import Examined, examine
from trainer.doctor.opening import OpenedRun, Weights, choose_weights
from trainer.doctor.own_words import OwnWords, hear
from trainer.doctor.stretches import Leftovers
from trainer.errors import ConfigError
from trainer.rundir.dynamics.files import SCORE, VISIT, Dynamics
from trainer.scoring.metrics import count_character_errors, count_word_errors
from trainer.scoring.scores import Hypothesis
from trainer.signs.sign import Sign

N = 300
WORDS = ["aber", "bitte", "danke", "genau", "heute", "immer", "jetzt", "morgen", "nicht", "oder"]
TEXTS = [" ".join(WORDS[i // 10**k % 10] for k in range(3)) + f" {WORDS[i % 7]} {WORDS[i % 9]}" for i in range(N)]
OWN, EARLY = Weights("runs/a/model", None), Weights("runs/a/checkpoints/step-00000010", 10)


class Asked(list[str]):
    """Ids of the utterances that were aligned."""


def examined(
    monkeypatch: pytest.MonkeyPatch, *weights: Weights, losses: Dynamics | None = None
) -> tuple[Examined, Asked]:
    """A corpus in which 5 and 109 are swapped, 20 has a word too many, and the speaker loud is often clipped."""
    examples = [example(np.zeros(1, np.float32), text, f"u{i}", f"s{i % 5}") for i, text in enumerate(TEXTS)]
    examples = [
        replace(e, utterance=replace(e.utterance, speaker="loud")) if 200 <= i < 220 else e
        for i, e in enumerate(examples)
    ]
    heard = OwnWords(weights[0], [*TEXTS], np.full(N, 0.01, np.float32), np.zeros(N, np.float32), np.zeros(N, np.int32))
    for i, text in ((5, TEXTS[109]), (109, TEXTS[5]), (20, TEXTS[20].rpartition(" ")[0])):
        heard.hypotheses[i], heard.losses[i], heard.character_rates[i] = text, 3.0, 0.7 if i != 20 else 0.3
        heard.word_errors[i] = 5 if i != 20 else 1
    asked = Asked()

    def leftovers(model: Any, some: Sequence[Example]) -> Iterator[Leftovers]:
        for e in some:
            asked.append(e.utterance.id)
            yield Leftovers(5, ((4, "more", 2.0),), (), 0.5, 2.0, 3.0)

    def signs_of(some: Sequence[Example], progress: Any) -> Iterator[tuple[Example, list[Sign]]]:
        return ((e, [Sign("clipped", "9 peaks", "likely")] * (200 <= i < 212)) for i, e in enumerate(some))

    def read_dynamics(run_dir: Path) -> Dynamics:
        if losses is None:
            raise ConfigError("it has no dynamics/.")
        return losses

    for name, fake in (("hear", lambda *_: heard), ("leftovers", leftovers), ("signs_of", signs_of),
                       ("read_dynamics", read_dynamics)):  # fmt: skip
        monkeypatch.setattr(f"trainer.doctor.examine.{name}", fake)
    run: Any = SimpleNamespace(
        examples=examples, notes=("The run is not over.",), weights=weights, run_dir=Path("runs/a"), split="train",
        is_training=True, data=SimpleNamespace(vocab=SimpleNamespace(phonemes=False)), load=lambda w: (None, None),
    )  # fmt: skip
    return examine(run, Console()), asked


def test_what_fits_another_transcript_is_swapped_and_what_else_stands_out_is_aligned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found, asked = examined(monkeypatch, EARLY, OWN)
    assert asked == ["u20"]
    first = {s.id: [sign.name for sign in s.signs] for s in found.suspects[:3]}
    assert list(first)[:2] == ["u5", "u109"]
    assert "swapped with another" in first["u5"]
    assert "words added at the end" in first["u20"]
    assert [s.score for s in found.suspects] == sorted((s.score for s in found.suspects), reverse=True)
    assert len({s.id for s in found.suspects}) == N
    assert [(g.kind, g.group, g.count, g.of) for g in found.groups] == [("speaker", "loud", 12, 20)]
    of = next(s for s in found.suspects if s.id == "u205")
    assert (of.text, of.hypothesis, of.split, of.speaker, of.origin) == (
        TEXTS[205], TEXTS[205], "train", "loud", "c.jsonl:u205",
    )  # fmt: skip


def test_the_user_is_told_what_the_judgement_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    found, _ = examined(monkeypatch, EARLY, OWN)
    assert found.notes == (
        "The run is not over.", "Without losses of training, from the model alone: it has no dynamics/.",
    )  # fmt: skip
    found, _ = examined(monkeypatch, OWN)
    assert found.notes[2].startswith("There are neither losses of training nor earlier weights.")
    visits = np.array([(epoch, 1, row, 1.0) for epoch in range(3) for row in range(N - 1)], VISIT)
    kept = Dynamics(visits, [f"u{i}" for i in range(N - 1)], np.empty(0, SCORE), [])
    found, _ = examined(monkeypatch, OWN, losses=kept)
    assert found.notes[1:] == ("1 of 300 utterances were never visited by the run: is the corpus still the same?",)
    unvisited = next(s for s in found.suspects if s.id == "u299")
    assert unvisited.losses == (None, None, None)
    other = replace(kept, ids=[f"v{i}" for i in range(N - 1)])
    found, _ = examined(monkeypatch, EARLY, OWN, losses=other)
    assert found.notes[1] == "Without losses of training, from the model alone: the run kept none of these utterances."


@pytest.mark.parametrize(
    ("rates", "best", "step"),
    [
        ({100: 0.9, 200: 0.5, 300: 0.2, 400: 0.1}, None, 200), ({100: 0.9, 200: 0.51, 300: 0.5, 400: 0.1}, None, 300),
        ({100: 0.9, 200: 0.9, 300: 0.6, 400: 0.1}, None, None), ({350: 0.1}, None, None), ({}, None, None),
        ({100: 0.9, 120: 0.4, 190: 0.8}, 150, 150), ({100: 0.4, 120: 0.8}, 150, 100),
    ],
    ids=str,
)  # fmt: skip
def test_the_earliest_weights_that_were_good_are_asked_if_they_are_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rates: dict[int, float], best: int | None, step: int | None
) -> None:
    """Of four checkpoints, and perhaps the best one; the last of an evaluation counts for those behind it."""
    monkeypatch.setattr("trainer.doctor.opening.find_model", lambda source, say: source)
    for name in ("step-00000100", "step-00000200", "step-00000300", "step-00000400", *["best"] * bool(best)):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    if best:
        (tmp_path / "checkpoints" / "best" / "state.json").write_text(json.dumps({"step": best}))
    for measure in ("wer", "per", "uer"):
        records = [{"step": at, "eval/loss": 1.0, f"eval/{measure}": rate} for at, rate in rates.items()]
        lines = [json.dumps(record) + "\n" for record in [*records, {"step": 401, "loss": 1.0}]]
        (tmp_path / "metrics.jsonl").write_text("".join(lines))
        *early, own = choose_weights(tmp_path, Console())
        folder = "best" if step == best else f"step-{step:08d}" if step else ""
        assert early == ([Weights(str(tmp_path / "checkpoints" / folder), step)] if step else [])
        assert own == Weights(str(tmp_path), None)


def test_weights_of_other_units_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = SimpleNamespace(pretrained=SimpleNamespace(tokens=("a", "b")))
    monkeypatch.setattr("trainer.doctor.opening.read_encoder", lambda model: encoder)
    data: Any = SimpleNamespace(vocab=SimpleNamespace(tokens=["a", "c"]))
    run = OpenedRun(Path("runs/a"), Config(corpus=GivenConfig()), data, (EARLY, OWN), torch.device("cpu"), "train", ())
    with pytest.raises(ConfigError, match="step-00000010: its units are not those of the run's model"):
        run.load(EARLY)


@pytest.mark.parametrize("units", ["words", "phones"])
def test_what_is_heard_stands_in_the_order_of_the_corpus(monkeypatch: pytest.MonkeyPatch, units: str) -> None:
    """In parts of three; the rate is of the longer text."""
    said = [("so it goes", "so goes"), ("a", "a b"), ("b", ""), ("", "x"), ("c d", "c d")]
    examples = [example(np.zeros(1, np.float32), text, f"u{i}") for i, (text, _) in enumerate(said)]

    def evaluate(model: Any, part: Any, *rest: Any) -> Any:
        found = [said[int(e.utterance.id[1:])] for e in part.examples]
        return SimpleNamespace(units=SimpleNamespace(name=units), hypotheses=tuple(
            Hypothesis("", a, b, count_word_errors(a, b), count_character_errors(a, b), float(len(a))) for a, b in found
        ))  # fmt: skip

    monkeypatch.setattr("trainer.doctor.own_words.evaluate", evaluate)
    monkeypatch.setattr("trainer.doctor.own_words.AT_ONCE", 3)
    monkeypatch.setattr("trainer.doctor.own_words.replace", lambda part, examples: SimpleNamespace(examples=examples))
    run: Any = SimpleNamespace(
        load=lambda w: (SimpleNamespace(model=None), SimpleNamespace(examples=examples)), split="train", device=None
    )
    heard = hear(run, OWN, Console())
    assert heard.hypotheses == [hypothesis for _, hypothesis in said]
    assert heard.losses.tolist() == [len(text) for text, _ in said]
    assert heard.word_errors.tolist() == [1, 1, 1, 1, 0]
    expected = [3 / 10, 2 / 3, 1, 1, 0] if units == "words" else [1 / 3, 1 / 2, 1, 1, 0]
    assert heard.character_rates == pytest.approx(expected)
