"""`--overfit N`: whether N utterances can be learnt by heart. What cannot learn eight will not learn eight thousand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from data.batches.collate import Frontend
from data.examples.example import Example
from data.examples.prepare import frames_needed
from data.examples.table import unit_counts
from data.plural import counted
from data.randomness import derive_seed
from data.utterance import SAMPLE_RATE, Corpus
from trainer.cli.console import Console
from trainer.config.schema import Config
from trainer.diagnosis.causes import diagnose
from trainer.diagnosis.evidence import Evidence, Record
from trainer.diagnosis.gather import facts_of, unigram_entropy
from trainer.diagnosis.trial import prepare_trial, refuse_several_processes, take_step
from trainer.diagnosis.written import written_of
from trainer.errors import ConfigError
from trainer.prepare.build import PreparedRun
from trainer.prepare.pieces import build_train_loader, plan_batches
from trainer.scoring.evaluate import EvalSet, evaluate
from trainer.scoring.scores import Hypothesis, Scores

MOST_STEPS = 1000
"""Without --train.max-steps: the demo's model needs 100 to 300 for eight utterances."""
EVAL_EVERY = 20
WARM_UP = 20
"""Steps in which the rate rises to --optim.lr, where it stays."""
SHOWN = 8


def overfit(config: Config, console: Console, corpus: Corpus | None = None) -> int:
    """Train on config.overfit utterances until their error rate is 0, and give a verdict; 0, or 1 where that fails.

    Nothing is written. ConfigError when the corpus has fewer utterances.
    """
    refuse_several_processes("--overfit")
    most = config.train.max_steps or MOST_STEPS
    console.say(f"{config.overfit} utterances to learn by heart, in {most} steps at most; no run is begun")
    run = prepare_trial(without_noise(config), most, console, corpus)
    examples = some_of(run.data.train, config.overfit or 0)
    for example in examples:
        console.say(f"  {example.utterance.id} ({example.num_samples / SAMPLE_RATE:.1f} s): {example.text}")
    records, scores = learn(run, examples, most, console)
    for line in verdict(run, examples, records, scores, most):
        console.say(line)
    return 0 if scores.words.num_errors == 0 else 1


def without_noise(config: Config) -> Config:
    """`config` without dropout, LayerDrop, SpecAugment and changes of speed, and without weight decay."""
    model = replace(
        config.model, hidden_dropout=0.0, attention_dropout=0.0, activation_dropout=0.0, feat_proj_dropout=0.0,
        final_dropout=0.0, layerdrop=0.0, lora_dropout=0.0, mask_time_prob=0.0, mask_time_min_masks=0,
        mask_feature_prob=0.0, mask_feature_min_masks=0,
    )  # fmt: skip
    return replace(
        config,
        model=model,
        augment=replace(config.augment, speeds=()),
        optim=replace(config.optim, weight_decay=0.0),
        train=replace(config.train, grad_accum_steps=1),
    )


def some_of(examples: Sequence[Example], number: int) -> list[Example]:
    """`number` of them, from all places of the corpus alike. ConfigError when there are fewer."""
    if number > len(examples):
        raise ConfigError(f"--overfit {number}: the training split has {len(examples)} utterances. Give fewer.")
    return [examples[i] for i in (np.arange(number) * len(examples) // number).tolist()]


def learn(run: PreparedRun, examples: list[Example], most: int, console: Console) -> tuple[list[Record], Scores]:
    """Records as metrics.jsonl has them, and the scores of the last evaluation, which ends it without an error."""
    config, parts, data = run.config, run.parts, replace(run.data, train=examples)
    config = replace(config, train=replace(config.train, epochs=most))
    plan = plan_batches(config, data, parts.model)
    on_cuda = parts.device.type == "cuda"
    loader = build_train_loader(config, data, parts.model, plan, 0, on_cuda, run.do_normalize)
    frontend = Frontend(parts.model.num_frames, run.do_normalize)
    scored = EvalSet(data.corpus.splits.train, examples, frontend, data.vocab, config.eval, 0)
    records: list[Record] = []
    scores: Scores | None = None
    lr = config.optim.lr or 1e-4
    parts.model.train()
    for k, (_, batches, _) in zip(range(1, most + 1), loader.steps(0, 0), strict=False):
        rate = lr * min(1.0, k / WARM_UP)
        taken = take_step(parts, batches, rate, config.optim.max_grad_norm, derive_seed(config.seed, "step", k))
        records.append({
            "step": k, "epoch": k / plan.num_steps(0), "train/loss": taken.loss, "train/lr": rate,
            "train/grad_norm": taken.grad_norm, "train/blank_share": taken.blank_share,
        })  # fmt: skip
        if k % EVAL_EVERY == 0 or k == most:
            scores = evaluate(parts.model, scored, parts.device, parts.autocast)
            records.append({"step": k, f"eval/{scores.units.main}": scores.words.rate, "eval/loss": scores.loss,
                            "eval/blank_share": scores.blank_share})  # fmt: skip
            console.say(f"step {k}: loss {taken.loss:.3f}, {scores.units.label} {100 * scores.words.rate:.1f} %")
            if scores.words.num_errors == 0:
                break
    assert scores is not None
    return records, scores


def verdict(
    run: PreparedRun, examples: Sequence[Example], records: Sequence[Record], scores: Scores, most: int
) -> list[str]:
    """What the trial shows, and where it failed what stands in the way."""
    label, step, n = scores.units.label, records[-1]["step"], len(examples)
    if scores.words.num_errors == 0:
        return [
            f"Verdict: learnt. The {label} of {n} utterances is 0 after {step} steps: data, units, model and "
            "arithmetic work together. What a whole run lacks then is data, steps, or another rate (--lr-finder)."
        ]
    wrong = [h for h in scores.hypotheses if h.words.num_errors]
    told = [
        f"Verdict: not learnt. After {step} steps {len(wrong)} of {counted(n, 'utterance')} "
        f"{'has' if len(wrong) == 1 else 'have'} errors "
        f"({label} {100 * scores.words.rate:.1f} %, loss {scores.loss:.3f})."
    ]
    facts = replace(
        facts_of(run, probes=False), total_steps=most, steps_per_epoch=1, num_utterances=n,
        unigram_entropy=unigram_entropy(unit_counts(list(examples))),
    )  # fmt: skip
    written = written_of(int(step), [(h.reference, h.hypothesis) for h in scores.hypotheses])
    found = diagnose(Evidence(records, facts, run.config, written, is_over=True))
    told += [finding.line() for finding in found if finding.name not in ("overfitting", "too few steps")]
    learnt = n - len(wrong)
    if learnt >= n / 2:
        told.append("Most were learnt, so model and arithmetic work: listen to the others, and read their transcripts.")
    elif not found:
        told.append(
            f"The loss still falls: give it more steps (--train.max-steps {2 * most})."
            if _still_falls(records)
            else f"Try --lr-finder, and --optim.lr {(run.config.optim.lr or 1e-4) / 3:.1g}."
        )
    told += [_shown(run, h, examples) for h in wrong[:SHOWN]]
    return told


def _still_falls(records: Sequence[Record]) -> bool:
    losses = [r["train/loss"] for r in records if "train/loss" in r]
    quarter = max(1, len(losses) // 4)
    return float(np.mean(losses[-quarter:])) < 0.9 * float(np.mean(losses[-2 * quarter : -quarter]))


def _shown(run: PreparedRun, h: Hypothesis, examples: Sequence[Example]) -> str:
    """One utterance that was not learnt."""
    (example,) = (e for e in examples if e.utterance.id == h.id)
    frames, needed = run.parts.model.num_frames(example.num_samples), frames_needed(example.targets)
    tight = f"; {frames} frames for {needed} that its units need" if frames < 1.5 * needed else ""
    common = Counter(h.hypothesis).most_common(1)
    wrote = repr(h.hypothesis) if common else "nothing"
    return f"  {h.id}: {h.reference!r} is written as {wrote}, loss {h.loss:.2f}{tight}"
