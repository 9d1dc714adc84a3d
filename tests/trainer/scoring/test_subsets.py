"""Scores of splits within one another (trainer.scoring.subsets), against scoring each split by itself."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch

from data.utterance import SELECTED, Splits
from tests.helpers.models import eval_set, example, make_talkative, small_model
from trainer.rundir.results import describe, split_record
from trainer.scoring.evaluate import EvalSet, evaluate
from trainer.scoring.scores import Scores
from trainer.scoring.subsets import score_splits

SPLITS = Splits(
    train="train", monitor="dev", headline="core", closing=("core", "rest", "dev"), unselected={"all": "contains dev"},
    within={"rest": "all", "dev": "all", "core": "rest"}, protocols={"core": "core-{}", "rest": "all-minus-dev"},
)  # fmt: skip
MEMBERS = {"all": range(6), "rest": range(4), "dev": range(4, 6), "core": range(2)}


def test_a_split_within_another_is_not_decoded_again_and_has_its_own_scores() -> None:
    """Reference: `evaluate` on the smaller split alone. Losses differ by what another batch rounds."""
    model = make_talkative(small_model())
    examples = [example(5000 + 400 * i, "abba cab", seed=i) for i in range(6)]
    sets = {split: replace(eval_set(model, [examples[i] for i in of]), split=split) for split, of in MEMBERS.items()}
    decoded: list[str] = []

    def score(one: EvalSet) -> Scores:
        decoded.append(one.split)
        return evaluate(model, one, torch.device("cpu"), nullcontext)

    found = score_splits(SPLITS, ["core", "rest", "dev"], sets, score)
    assert decoded == ["rest", "dev"]
    decoded.clear()
    score_splits(SPLITS, ["core", "rest", "dev", "all"], sets, score)
    assert decoded == ["all"]
    assert [s.split for s in found] == ["core", "rest", "dev"]
    alone = evaluate(model, sets["core"], torch.device("cpu"), nullcontext)
    core = found[0]
    assert [(h.id, h.hypothesis, h.words) for h in core.hypotheses] == [
        (h.id, h.hypothesis, h.words) for h in alone.hypotheses
    ]
    assert core.loss == pytest.approx(alone.loss, rel=1e-5)
    assert core.num_audio_seconds == pytest.approx(alone.num_audio_seconds)
    assert (core.protocol, found[1].protocol, found[2].protocol) == ("core-2", "all-minus-dev", "")
    assert split_record(core, "last")["protocol"] == "core-2"
    assert describe(core).startswith("core (core-2): WER ")
    assert "protocol" not in split_record(found[2], "last")


def test_every_split_that_shares_utterances_with_the_selecting_one_says_so() -> None:
    notes = {split: SPLITS.note(split, selected=True) for split in MEMBERS}
    assert notes == {
        "all": "optimistic: contains dev, on which the weights were selected",
        "dev": SELECTED,
        "rest": "",
        "core": "",
    }
    by_all = replace(SPLITS, monitor="all")
    assert by_all.note("core", selected=True) == "optimistic: part of all, on which the weights were selected"
    assert SPLITS.note("all", selected=False) == "contains dev"
    assert SPLITS.note("dev", selected=False) == ""
