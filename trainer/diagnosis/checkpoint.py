"""Causes in what was taken from a checkpoint: its units, how it wants its audio, and which parts are trained."""

from __future__ import annotations

from trainer.diagnosis.evidence import Evidence
from trainer.diagnosis.finding import Finding
from trainer.diagnosis.symptoms import is_stuck

MANY_UNKNOWN = 0.02
LOST = 1.5
"""A loss before training of this many times the units' entropy: the checkpoint's units say nothing of this audio."""
NO_BETTER = 0.95
FEW_TRAINED = 0.02
"""Share of the parameters: a head alone has less."""


def vocabulary(e: Evidence) -> Finding | None:
    """Units that the checkpoint does not have; a head that was given up although the run does not learn a new one."""
    f = e.facts
    if f.has_own_head and f.unknown_share > MANY_UNKNOWN:
        return Finding(
            "vocabulary at odds with the checkpoint", "certain",
            "The transcripts hold characters that the checkpoint cannot write.",
            f"{100 * f.unknown_share:.1f} % of the training transcripts' characters have no unit in its vocabulary.",
            "--corpus.vocabulary new, or --corpus.normalizer plain, which takes marks and case out.",
        )  # fmt: skip
    other = min(f.other_losses.values(), default=None)
    is_lost = False
    if f.own_loss is not None and other is not None:
        is_lost = f.own_loss > LOST * f.unigram_entropy and f.own_loss > NO_BETTER * other
    if f.has_own_head and is_lost and (stuck := is_stuck(e)):
        return Finding(
            "vocabulary at odds with the checkpoint", "likely",
            "The checkpoint's own units do not say what is heard: another language, spelling, or order of units.",
            f"Before training its loss was {f.own_loss:.2f} nats per unit against the own transcripts and {other:.2f} "
            f"against those of other utterances; the units' frequencies alone give {f.unigram_entropy:.2f}. {stuck}",
            "--corpus.vocabulary new, or a checkpoint of this language.",
        )  # fmt: skip
    if f.dropped_head and (stuck := is_stuck(e)):
        return Finding(
            "vocabulary at odds with the checkpoint", "possible",
            "The checkpoint can write already, and its head is not used.",
            f"{f.dropped_head} {stuck}",
            "--corpus.vocabulary own keeps its head; --corpus.spelling and --corpus.normalizer bring the text to its "
            "units.",
        )  # fmt: skip
    return None


def normalisation(e: Evidence) -> Finding | None:
    """A stuck run whose waveforms are not as encoders of this kind had them in pre-training."""
    f = e.facts
    if not f.is_pretrained or f.wants_normalized is None or f.normalizes == f.wants_normalized:
        return None
    if (stuck := is_stuck(e)) is None:
        return None
    return Finding(
        "normalisation at odds with the checkpoint", "likely",
        "The encoder gets waveforms of another scale than in its pre-training.",
        "Its feature encoder has layer norm, and such encoders were pre-trained on waveforms of mean 0 and variance 1; "
        f'its preprocessor_config.json says "do_normalize": false. {stuck}',
        'set "do_normalize": true in the checkpoint\'s preprocessor_config.json.',
    )  # fmt: skip


def frozen_parts(e: Evidence) -> Finding | None:
    """Random weights that stay as they are; a part without a gradient; a stuck run that trains hardly anything."""
    f = e.facts
    if f.frozen_random:
        return Finding(
            "frozen parts", "certain", "Weights that were drawn at random are frozen, so they never become useful.",
            f"{f.frozen_random / 1e6:.3g} M parameters come from no checkpoint and are not trained.",
            "--model.no-freeze-feature-encoder for random weights; a checkpoint that has these weights otherwise.",
        )  # fmt: skip
    recent = [r for r in e.records[-200:] if "train/loss" in r][-10:]
    dead = [part for part, number in f.trained.items()
            if number and len(recent) == 10 and all(r.get(f"grad_norm/{part}") == 0 for r in recent)]  # fmt: skip
    if dead:
        return Finding(
            "frozen parts", "certain", f"No gradient reaches the {dead[0].replace('_', ' ')}, which should be trained.",
            f"Its norm is 0 in the last {len(recent)} logs, to step {e.step}. It has {f.trained[dead[0]]:,} weights.",
            "look at a change of the model's code that detaches it; --overfit 8 shows the same within a minute.",
        )  # fmt: skip
    trained, frozen = sum(f.trained.values()), sum(f.frozen.values())
    is_asked_for = e.config.model.lora_rank is not None or e.config.model.adapter_only
    few = 0 < trained < FEW_TRAINED * (trained + frozen) and not is_asked_for
    if few and (stuck := is_stuck(e)):
        return Finding(
            "frozen parts", "likely", "Too little of the model is trained.",
            f"{trained:,} of {trained + frozen:,} parameters are trained, "
            f"{100 * trained / (trained + frozen):.2g} %. {stuck}",
            f"--model.freeze-layers 0 (now {e.config.model.freeze_layers}), or --model.lora-rank 8.",
        )  # fmt: skip
    return None
