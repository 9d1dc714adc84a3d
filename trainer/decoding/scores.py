"""Score splits with the beam beside the best path: the same model, the same utterances, other hypotheses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data.text.normalise import collapse_spaces
from data.text.vocab import Vocab
from data.utterance import Splits
from models.ctc import CTCModel
from trainer.cli.console import Console
from trainer.decoding.decoder import Decoder
from trainer.decoding.emptied import describe_emptied
from trainer.decoding.settings import as_record, write_decoding
from trainer.decoding.tuning import tune
from trainer.errors import ConfigError
from trainer.rundir.results import describe, split_record, write_hypotheses
from trainer.scoring.evaluate import EvalSet, evaluate
from trainer.scoring.metrics import EditCounts, count_character_errors, count_word_errors
from trainer.scoring.scores import Hypothesis, Scores
from trainer.scoring.subsets import score_splits

AT_ONCE = 512
"""Utterances whose log posteriors are in memory at once."""
TUNED = "optimistic: the weights of the language model were tuned on it"
HYPOTHESES = "hypotheses-beam.jsonl"


def development_split(splits: Splits) -> str:
    """The split that weights are tuned on: the one that is scored during training. ConfigError where it is the test
    split, which weights must never see."""
    if splits.monitor == splits.headline:
        raise ConfigError(
            f"--lm-weight auto: {splits.monitor} is the only split, and weights that are tuned on it would make its "
            "figures optimistic. Give a development split (--corpus.eval DEV --corpus.test TEST; for TIMIT "
            "--corpus.protocol kaldi), or the weights: --lm-weight 0.5 --word-score 0."
        )
    return splits.monitor


@torch.inference_mode()
def posteriors(
    model: CTCModel, eval_set: EvalSet, device: torch.device, progress: Callable
) -> Iterator[tuple[Scores, list[np.ndarray]]]:
    """The scores of the best path and the log posteriors (T, V) of some hundred utterances at a time; of one without a
    frame, (0, V)."""
    examples = eval_set.examples
    for begin in range(0, len(examples), AT_ONCE):
        some = [examples[i] for i in range(begin, min(len(examples), begin + AT_ONCE))]
        part = replace(eval_set, examples=some, features=None)
        scores = evaluate(model, part, device, nullcontext, progress, followed=range(len(some)))
        found = {followed.id: followed.posteriors for followed in scores.followed}
        nothing = np.zeros((0, len(eval_set.vocab)), np.float32)
        with np.errstate(divide="ignore"):
            yield scores, [np.log(found.get(h.id, nothing)) for h in scores.hypotheses]


def beam_scores(
    model: CTCModel, eval_set: EvalSet, device: torch.device, decoder: Decoder,
    progress: Callable = lambda batches, total: batches,
) -> Scores:  # fmt: skip
    """Scores of the beam's hypotheses on every utterance of `eval_set`."""
    hypotheses: list[Hypothesis] = []
    failures: dict[str, str] = {}
    seconds = audio = 0.0
    rule = ""
    for scores, log_probs in posteriors(model, eval_set, device, progress):
        found = decoder.decode(log_probs)
        hypotheses += [rescored(h, f[0].units, eval_set.vocab) for h, f in zip(scores.hypotheses, found, strict=True)]
        failures |= scores.failures
        seconds, audio, rule = seconds + scores.seconds, audio + scores.num_audio_seconds, scores.rule
    return Scores(eval_set.split, tuple(hypotheses), seconds, audio, failures, units=eval_set.units, rule=rule)


def rescored(hypothesis: Hypothesis, units: Sequence[int], vocab: Vocab) -> Hypothesis:
    """`hypothesis` with what the beam wrote, `units`, in place of the best path."""
    reference, text = hypothesis.reference, collapse_spaces(vocab.decode_to_compare(units))
    return replace(
        hypothesis,
        hypothesis=text,
        words=count_word_errors(reference, text),
        characters=EditCounts() if vocab.phonemes else count_character_errors(reference, text),
        evidence=None,
        confidences=None,
    )


def score_decoding(
    decoder: Decoder, *, is_tuned: bool, model: CTCModel, eval_sets: dict[str, EvalSet], splits: Splits,
    greedy: Sequence[Scores], device: torch.device, run_dir: Path, console: Console,
) -> dict[str, Any]:  # fmt: skip
    """Score every split of `greedy` with the beam, and tune the weights before that if `is_tuned`.

    Returns the key `beam` of results.json; writes decoding.json and the beam's hypotheses into `run_dir`.
    """
    bar = partial(console.progress, unit="batch")
    if is_tuned:
        split = development_split(splits)
        decoder = _tuned(decoder, model, eval_sets[split], device, console)
    decoding = decoder.decoding
    console.say(decoding.describe)
    found = score_splits(
        splits,
        [best_path.split for best_path in greedy],
        eval_sets,
        lambda one: beam_scores(model, one, device, decoder, partial(bar, desc=one.split)),
    )
    for scores, best_path in zip(found, greedy, strict=True):
        console.say(f"beam {describe(scores)}; best path: {best_path.words.num_errors:,} errors")
    by_best_path = {h.id: h.hypothesis for scores in greedy for h in scores.hypotheses}  # splits may overlap
    by_beam = {h.id: h.hypothesis for scores in found for h in scores.hypotheses}
    written = [by_beam[id] for id, text in by_best_path.items() if text]
    if said := describe_emptied(written.count(""), len(written), decoding):
        console.warn(said)
    records = {s.split: split_record(s, "given", TUNED if s.split == decoding.tuned_on else "") for s in found}
    run_dir.mkdir(parents=True, exist_ok=True)
    write_hypotheses(run_dir / HYPOTHESES, found)
    write_decoding(run_dir, decoding)
    units = eval_sets[splits.headline].units
    wanted = (*units.metrics, "num_errors", f"num_reference_{units.name}")
    top = {key: records[splits.headline][key] for key in wanted}
    return {**top, **as_record(decoding), "splits": records}


def _tuned(decoder: Decoder, model: CTCModel, eval_set: EvalSet, device: torch.device, console: Console) -> Decoder:
    """`decoder` with the weights that are best on `eval_set`."""
    log_probs: list[np.ndarray] = []
    references: list[str] = []
    bar = partial(console.progress, desc=f"reading {eval_set.split}", unit="batch")
    for scores, some in posteriors(model, eval_set, device, bar):
        log_probs += some
        references += [h.reference for h in scores.hypotheses]
    tuning = partial(console.progress, desc=f"tuning on {eval_set.split}", unit="pair")
    trials = tune(decoder, eval_set.vocab, log_probs, references, tuning)
    best, plain = trials[0], next(t for t in trials if t.weights.lm == 0)
    console.say(
        f"tuned on {eval_set.split}: weight {best.weights.lm:g}, word score {best.weights.word:g}: {best.errors:,} "
        f"{eval_set.units.one} errors (without the model {plain.errors:,}; {len(trials)} pairs tried)"
    )
    chosen = decoder.with_weights(best.weights)
    return replace(chosen, decoding=replace(chosen.decoding, tuned_on=eval_set.split))
