"""What makes two runs the same run (trainer.prepare.identity), each part of it changed alone."""

from __future__ import annotations

import copy
import dataclasses
import json
from dataclasses import replace
from typing import Any

import pytest
import torch

from data.audio.decode import FileAudio
from data.examples.drops import Drops
from data.examples.prepare import Example
from data.text.vocab import Vocab
from data.utterance import Utterance
from tests.helpers.models import VOCAB, example, small_model
from trainer.config.presets import PRESETS
from trainer.config.schema import Config
from trainer.errors import CheckpointError
from trainer.prepare.corpus import PreparedCorpus
from trainer.prepare.identity import FREE, compare, identity

CPU = torch.device("cpu")


class Splits:
    train, monitor = "train", "dev"


class Corpus:
    splits = Splits()


def saved(record: dict[str, Any]) -> dict[str, Any]:
    """As a checkpoint's state.json gives it back."""
    return json.loads(json.dumps(record))


def stored(name: str, digest: str, text: str = "abba") -> Example:
    return replace(example(4000, text, utterance_id=name), digest=digest)


def data_of(train: list[Example], dev: list[Example], vocab: Vocab = VOCAB) -> PreparedCorpus:
    return PreparedCorpus(Corpus(), vocab, True, train, {"dev": dev}, Drops("train", len(train)), {})  # type: ignore[arg-type]


CONFIG = PRESETS["manifest"]()
TRAIN, DEV = [stored("t1", "x"), stored("t2", "y")], [stored("d1", "z")]
OURS: dict[str, Any] = dict(config=CONFIG, data=data_of(TRAIN, DEV), model=small_model(), device=CPU, precision="fp32")


def moved(model: torch.nn.Module) -> torch.nn.Module:
    """The same model but for one weight."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        next(other.parameters()).view(-1)[0] += 1e-3
    return other


def with_lr(config: Config, lr: float) -> Config:
    return replace(config, optim=replace(config.optim, lr=lr))


CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "one initial weight": ({"model": moved(OURS["model"])}, "initial-weights: content differs"),
    "a recording of training": ({"data": data_of([TRAIN[0], stored("t2", "!")], DEV)}, "corpus-train: content differs"),
    "a transcript of training": (
        {"data": data_of([TRAIN[0], stored("t2", "y", "bad")], DEV)}, "corpus-train: content differs"),
    "the order of training": ({"data": data_of(TRAIN[::-1], DEV)}, "corpus-train: content differs"),
    "a recording of evaluation": ({"data": data_of(TRAIN, [stored("d1", "!")])}, "corpus-dev: content differs"),
    "the precision": ({"precision": "bf16"}, "precision: fp32 before, bf16 now"),
    "the device": ({"device": torch.device("cuda")}, "device: cpu before, cuda now"),
    "the learning rate": ({"config": with_lr(CONFIG, 0.5)}, "optim.lr: "),
    "the seed": ({"config": replace(CONFIG, seed=7)}, "seed: 42 before, 7 now"),
}  # fmt: skip


def test_two_runs_of_the_same_parts_are_the_same() -> None:
    """However the model came to be: a copy of it has the same weights."""
    same = OURS | {"model": copy.deepcopy(OURS["model"]), "data": data_of(list(TRAIN), list(DEV))}
    assert compare("runs/x", saved(identity(**OURS)), identity(**same), ()) == []


@pytest.mark.parametrize(("change", "line"), CHANGES.values(), ids=CHANGES)
def test_whatever_shapes_the_weights_is_part_of_the_identity(change: dict[str, Any], line: str) -> None:
    """And --allow-changes lets it pass by the name in the message."""
    before, now = saved(identity(**OURS)), identity(**(OURS | change))
    with pytest.raises(CheckpointError, match="belongs to a run with other settings") as refused:
        compare("runs/x", before, now, ())
    assert line in str(refused.value)
    name = line.partition(":")[0]
    assert str(refused.value).endswith(f"--allow-changes {name}")
    assert len(compare("runs/x", before, now, (name,))) == 1


def test_weights_hashed_by_an_older_version_are_said_to_be_no_more_than_that() -> None:
    before = saved(identity(**OURS))
    before["content"]["initial weights"] = "0123456789abcdef" * 2
    with pytest.raises(CheckpointError, match="initial-weights: not comparable, since an older version"):
        compare("runs/x", before, identity(**OURS), ())
    assert len(compare("runs/x", before, identity(**OURS), ("initial-weights",))) == 1


def test_another_vocabulary_is_no_other_setting_and_cannot_be_allowed() -> None:
    other = identity(**(OURS | {"data": data_of(TRAIN, DEV, Vocab((*VOCAB.tokens[:-1], "x", "[PAD]")))}))
    with pytest.raises(CheckpointError, match="its vocabulary has 11 units, this run's has 12"):
        compare("runs/x", saved(identity(**OURS)), other, ("tokens",))


def test_where_a_recording_lies_does_not_matter() -> None:
    elsewhere = [replace(e, utterance=Utterance(e.utterance.id, FileAudio(__file__), e.text)) for e in TRAIN]  # type: ignore[arg-type]
    assert identity(**OURS) == identity(**(OURS | {"data": data_of(elsewhere, DEV)}))


def test_every_free_option_exists() -> None:
    """A name that is misspelt, or whose option is gone, would free nothing."""
    names = {field.name for field in dataclasses.fields(Config)}
    for preset in PRESETS.values():
        for group, value in vars(preset()).items():
            if dataclasses.is_dataclass(value):
                names |= {f"{group}.{field.name}" for field in dataclasses.fields(value)}
    assert names >= FREE
