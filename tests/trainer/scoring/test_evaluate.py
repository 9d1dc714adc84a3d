"""Evaluation (trainer.scoring.evaluate) against one utterance at a time, transformers' forward and jiwer.

pytest tests/trainer/scoring/test_evaluate.py
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from contextlib import nullcontext

import jiwer
import numpy as np
import pytest
import torch

from data.audio.decode import normalize
from data.examples.prepare import Example
from data.text.normalise import collapse_spaces
from models.ctc import CTCModel
from models.feature_table import FeatureTable
from tests.helpers.models import EVERY_FAMILY, EVERY_VARIANT, VOCAB, eval_set, example, make_talkative, small_model
from trainer.errors import AudioError
from trainer.scoring.evaluate import evaluate
from trainer.scoring.scores import Hypothesis, Scores

TEXTS = ["abba cab", "head of a hag", "a", "bed bad", "each", "deaf cafe", "gab", "fed a bee", "hhh", "beg"]
# Mixed lengths, some shared by several utterances, some with hardly a frame
LENGTHS = [9000, 11_200, 7333, 9000, 400, 5600, 11_200, 4800, 9000, 11_201]
EXAMPLES = [example(n, text, seed=i) for i, (n, text) in enumerate(zip(LENGTHS, TEXTS, strict=True))]


def scores_of(model: CTCModel, examples: list[Example] = EXAMPLES, **config: float) -> Scores:
    return evaluate(model, eval_set(model, examples, **config), torch.device("cpu"), nullcontext)


@torch.no_grad()
def alone(model: CTCModel, one: Example) -> tuple[str, float]:
    """(Transcript, nats per unit) of one utterance by transformers' forward, its loss and a naive decoder."""
    samples = one.load()
    normalized = (samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)
    out = model.hf(torch.from_numpy(normalized)[None], labels=torch.tensor([one.targets]))
    merged = [unit for unit, _ in itertools.groupby(out.logits[0].argmax(-1).tolist()) if unit != VOCAB.blank_id]
    return collapse_spaces("".join(VOCAB.tokens[u] for u in merged).replace("|", " ")), float(out.loss)


@EVERY_VARIANT
def test_scores_equal_one_utterance_at_a_time(family: str, norm: str) -> None:
    """Reference: transformers' forward on each utterance alone. Transcripts equal; losses within 1e-3 relative, since
    the large head turns fp32 rounding of other shapes (1e-6) into more."""
    model = make_talkative(small_model(family, norm))
    expected = [alone(model, e) for e in EXAMPLES]
    assert len({text for text, _ in expected}) > 7, "transcripts that are alike show nothing"
    assert sum(len(text) for text, _ in expected) > 60
    scores = scores_of(model, batch_size=16)
    assert [h.hypothesis for h in scores.hypotheses] == [text for text, _ in expected]
    assert [h.loss for h in scores.hypotheses] == pytest.approx([loss for _, loss in expected], rel=1e-3)


@pytest.mark.parametrize("batch_size", [1, 4, 16])
@EVERY_FAMILY
def test_layer_norm_transcripts_do_not_depend_on_the_batch_size(family: str, batch_size: int) -> None:
    """Reference: batches limited by their padded seconds instead, which cuts them elsewhere."""
    model = make_talkative(small_model(family, "layer"))
    other = scores_of(model, batch_size=100, max_batch_seconds=1.5)
    scores = scores_of(model, batch_size=batch_size)
    assert [h.hypothesis for h in scores.hypotheses] == [h.hypothesis for h in other.hypotheses]


def test_padding_would_change_group_norm_transcripts() -> None:
    """A control on the test above: scored as if they were batch-invariant, such models write something else."""
    model = make_talkative(small_model("wav2vec2", "group"))
    right = scores_of(model)

    class Careless(CTCModel):
        is_batch_invariant = True  # type: ignore[assignment]

    model.__class__ = Careless
    careless = scores_of(model)
    assert [h.hypothesis for h in careless.hypotheses] != [h.hypothesis for h in right.hypotheses]


@torch.inference_mode()
def features_alone(model: CTCModel, examples: list[Example]) -> FeatureTable:
    rows, first_rows = [torch.zeros(1, model.hf.config.conv_dim[-1])], []
    for one in examples:
        first_rows.append(sum(map(len, rows)))
        if model.num_frames(one.num_samples) > 0:
            waveform = torch.from_numpy(normalize(one.load()))[None]
            rows.append(model.base.feature_extractor(waveform)[0].T)
    return FeatureTable(torch.cat(rows), tuple(first_rows))


@pytest.mark.parametrize("gathered", ["by the step", "by the loader"])
@pytest.mark.parametrize("lengths", [LENGTHS, [*LENGTHS[:-1], 300]], ids=["all with frames", "one without a frame"])
def test_scores_from_a_table_of_features_are_those_from_audio_and_load_none(
    lengths: list[int], gathered: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reference: the same evaluation from waveforms. The loader gathers where a table does not fit onto a GPU."""
    if gathered == "by the loader":
        monkeypatch.setattr(FeatureTable, "host_rows", lambda table, device: table.rows)
        monkeypatch.setattr(FeatureTable, "gather", pytest.fail)
    examples = [example(n, text, seed=i) for i, (n, text) in enumerate(zip(lengths, TEXTS, strict=True))]
    model = make_talkative(small_model())
    silent = [dataclasses.replace(one, load=None) for one in examples]  # type: ignore[arg-type]
    cached = dataclasses.replace(eval_set(model, silent), features=features_alone(model, examples))
    from_table = evaluate(model, cached, torch.device("cpu"), nullcontext)
    from_audio = scores_of(model, examples)
    assert [h.hypothesis for h in from_table.hypotheses] == [h.hypothesis for h in from_audio.hypotheses]
    assert any(h.hypothesis for h in from_table.hypotheses)
    losses = [h.loss for h in from_table.hypotheses]
    assert losses == pytest.approx([h.loss for h in from_audio.hypotheses], rel=1e-5)


def test_hypotheses_stand_in_corpus_order() -> None:
    """Whatever order the batches take."""
    scores = scores_of(small_model(), batch_size=3)
    assert [(h.id, h.reference) for h in scores.hypotheses] == [(e.utterance.id, e.text) for e in EXAMPLES]
    assert scores.split == "test"
    assert scores.num_audio_seconds == pytest.approx(sum(LENGTHS) / 16_000)


def test_pooled_rates_equal_jiwer_on_the_lists() -> None:
    """Reference: jiwer.wer and jiwer.cer of all references and hypotheses at once; integer counts, so equal."""
    scores = scores_of(make_talkative(small_model()))
    references, hypotheses = [h.reference for h in scores.hypotheses], [h.hypothesis for h in scores.hypotheses]
    assert scores.words.rate == jiwer.wer(references, hypotheses)
    assert scores.characters.rate == jiwer.cer(references, hypotheses)


@pytest.mark.parametrize("num_samples", [0, 1, 399])
def test_utterance_without_a_frame_is_scored_as_deletions(num_samples: int) -> None:
    """Reference: the scores of its neighbours without it."""
    model = make_talkative(small_model())
    scores = scores_of(model, [EXAMPLES[0], example(num_samples, "abba cab", seed=50), EXAMPLES[1]])
    others = scores_of(model, EXAMPLES[:2])
    before, silent, after = scores.hypotheses
    assert (silent.hypothesis, silent.loss) == ("", math.inf)
    assert (silent.words.deletions, silent.words.num_errors, silent.words.num_reference) == (2, 2, 2)
    assert (before, after) == others.hypotheses
    assert scores.words == others.words + silent.words
    assert scores.num_infinite == 1


def test_frames_of_blank_are_counted_utterance_by_utterance_without_the_padding() -> None:
    """Of a model that writes nothing every frame is blank, and so is all padding. Reference: the numbers of frames."""
    model = small_model()
    with torch.no_grad():
        model.hf.lm_head.bias[VOCAB.blank_id] = 1e3
    scores = scores_of(model, batch_size=10)
    frames = [model.num_frames(n) for n in LENGTHS]
    assert [(h.num_blank_frames, h.num_frames) for h in scores.hypotheses] == list(zip(frames, frames, strict=True))
    assert scores.blank_share == 1


def test_split_without_a_single_frame_is_all_deletions() -> None:
    scores = scores_of(small_model(), [example(0, "abba cab"), example(100, "bed", seed=1)])
    assert (scores.words.rate, scores.words.deletions, scores.num_infinite) == (1.0, 3, 2)
    assert math.isnan(scores.loss)


def undecodable(one: Example) -> Example:
    def load() -> np.ndarray:
        raise AudioError("cut off")

    return dataclasses.replace(one, load=load)


def test_undecodable_audio_is_scored_as_deletions_and_named() -> None:
    """Its neighbours in the batch keep their transcripts."""
    model = make_talkative(small_model())
    examples = [EXAMPLES[0], undecodable(EXAMPLES[3]), EXAMPLES[8]]
    scores, others = scores_of(model, examples), scores_of(model, [EXAMPLES[0], EXAMPLES[8]])
    assert scores.failures == {EXAMPLES[3].utterance.id: "cut off"}
    assert scores.hypotheses[1].hypothesis == ""
    assert scores.hypotheses[1].words.deletions == len(EXAMPLES[3].text.split())
    assert [scores.hypotheses[i].hypothesis for i in (0, 2)] == [h.hypothesis for h in others.hypotheses]
    assert scores.num_infinite == 1


def test_infinite_losses_are_counted_beside_the_mean_of_the_others() -> None:
    """400 samples are one frame: two units cannot be written there, yet the utterance is decoded and scored."""
    model = make_talkative(small_model())
    examples = [EXAMPLES[0], example(400, "ab", seed=60), EXAMPLES[1]]
    scores = scores_of(model, examples)
    losses = [h.loss for h in scores.hypotheses]
    assert [math.isinf(loss) for loss in losses] == [False, True, False]
    assert scores.num_infinite == 1
    assert scores.loss == pytest.approx((losses[0] + losses[2]) / 2)
    assert scores.hypotheses[1].hypothesis == alone(model, examples[1])[0]


def test_loss_is_not_hidden_where_it_is_not_a_number() -> None:
    """A model that has diverged must show as NaN, not as "no utterance had a finite loss"."""
    model = small_model()
    with torch.no_grad():
        model.hf.lm_head.bias.fill_(math.nan)
    scores = scores_of(model, EXAMPLES[:3])
    assert math.isnan(scores.loss)
    assert scores.num_infinite == 0


@pytest.mark.parametrize("training", [True, False])
def test_mode_of_the_model_is_restored_and_it_can_train_on(training: bool) -> None:
    """Dropout must be off meanwhile: with it, two evaluations would differ."""
    model = small_model(hidden_dropout=0.5, layerdrop=0.5).train(training)
    first, second = scores_of(model), scores_of(model)
    assert model.training is training
    assert all(module.training is training for module in model.modules())
    assert [h.loss for h in first.hypotheses] == [h.loss for h in second.hypotheses]
    model(torch.randn(1, 1000), torch.tensor([2])).sum().backward()


@pytest.mark.parametrize("do_normalize", [True, False])
def test_waveforms_are_normalised_only_if_the_encoder_wants_it(do_normalize: bool) -> None:
    """Reference: the encoder's answer to the same utterances ten times as loud."""
    model = make_talkative(small_model("wav2vec2", "layer"))
    loud = [dataclasses.replace(e, load=lambda e=e: 10 * e.load()) for e in EXAMPLES]

    def losses(examples: list[Example]) -> list[float]:
        prepared = eval_set(model, examples, do_normalize=do_normalize)
        return [h.loss for h in evaluate(model, prepared, torch.device("cpu"), nullcontext).hypotheses]

    assert (losses(loud) == pytest.approx(losses(EXAMPLES), rel=1e-2)) is do_normalize


def test_references_are_scored_with_single_spaces() -> None:
    """hf-timit's references end with a space, and may hold doubled ones."""
    one = dataclasses.replace(EXAMPLES[0], text="abba  cab ")
    (hypothesis,) = scores_of(small_model(), [one]).hypotheses
    assert isinstance(hypothesis, Hypothesis)
    assert hypothesis.reference == "abba cab"
    assert hypothesis.words.num_reference == 2


def test_empty_reference_has_a_finite_loss_and_only_insertions() -> None:
    model = make_talkative(small_model())
    (hypothesis,) = scores_of(model, [example(4000, "", seed=4)]).hypotheses
    assert math.isfinite(hypothesis.loss)
    assert hypothesis.words.insertions == len(hypothesis.hypothesis.split()) > 0
    assert hypothesis.words.num_reference == 0


def test_a_loader_gathers_for_a_gpu_alone() -> None:
    table = FeatureTable(torch.zeros(3, 2), (1,))
    assert table.host_rows(torch.device("cpu")) is None
    assert table.host_rows(torch.device("cuda:0")) is table.rows
