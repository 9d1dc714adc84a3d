"""The lines that scripts.hf.compare_hf_trainer prints: each compares our training step with transformers' Trainer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from data.examples.prepare import Example
from scripts.hf.equality import Curve, Recipe, plan, save_weights, tone_examples, train_hf, train_ours
from scripts.hf.faults import compare_accumulation, hf_overflow, our_overflow
from scripts.hf.masks import CASES, compare_masks
from scripts.hf.transcripts import transcribe_hf, transcribe_ours

NUM_FIRST = 20
FIRST_TOLERANCE, LAST_TOLERANCE, DOUBLE_TOLERANCE = 1e-6, 1e-4, 1e-9


@dataclass(frozen=True)
class Deviation:
    """Largest relative differences of two curves."""

    first_loss: float
    first_norm: float
    loss: float
    norm: float
    num_same_bits: int
    same_lrs: bool


def deviation(ours: Curve, theirs: Curve) -> Deviation:
    """How far `ours` lies from `theirs`; the curves have the same number of steps."""
    losses, norms = (relative(getattr(ours, k), getattr(theirs, k)) for k in ("losses", "grad_norms"))
    same = sum(a == b == 0 for a, b in zip(losses, norms, strict=True))
    first = slice(0, NUM_FIRST)
    return Deviation(max(losses[first]), max(norms[first]), max(losses), max(norms), same, ours.lrs == theirs.lrs)


def relative(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """|ours - theirs| / |theirs| of each pair.

    >>> relative([1.0, 3.0], [1.0, 2.0])
    [0.0, 0.5]
    """
    return [abs(a - b) / abs(b) for a, b in zip(ours, theirs, strict=True)]


def compare_steps(
    family: str, norm: str, folder: Path, examples: Sequence[Example], steps: int, *, thorough: bool
) -> list[bool]:
    """Train on both sides under every recipe. If `thorough`, the last fp32 weights stay in `folder`."""
    recipe = Recipe(steps=steps, equal_lengths=norm == "group")
    batches = plan(examples, recipe)
    theirs, ours = train_hf(folder, batches, recipe), train_ours(folder, batches, recipe)
    in_double = replace(recipe, double=True)
    theirs_in_double, ours_in_double = train_hf(folder, batches, in_double), train_ours(folder, batches, in_double)
    own = deviation(theirs, theirs_in_double)
    name = f"{family}, {norm} norm"
    results = [
        report(f"{name}, fp32", deviation(ours, theirs), steps, own),
        report(f"{name}, fp64", deviation(ours_in_double, theirs_in_double), steps, None),
    ]
    if not thorough:
        return results
    plain = train_ours(folder, batches, replace(recipe, hf_modules=True))
    same = deviation(plain, train_hf(folder, batches, replace(recipe, same_norm_order=True)))
    results.append(report("  its modules in our step, norm in our order", same, steps, own, bitwise=True))
    for label, change in (
        ("  SpecAugment, same masks", dict(specaugment=True)),
        ("  no clipping, no decay, no warm-up", dict(max_grad_norm=1e9, weight_decay=0.0, warmup_steps=0)),
    ):
        other = replace(recipe, steps=min(steps, NUM_FIRST), **change)
        doubled, few = replace(other, double=True), plan(examples, other)
        reference = train_hf(folder, few, other)
        own = deviation(reference, train_hf(folder, few, doubled))
        results.append(report(f"{label}, fp32", deviation(train_ours(folder, few, other), reference), other.steps, own))
    save_weights(folder, ours, recipe)
    return results


def report(name: str, d: Deviation, steps: int, own: Deviation | None, *, bitwise: bool = False) -> bool:
    """Print a line. True if it is close enough. `own` is the error of fp32 itself; None if both sides are fp64."""
    if bitwise:
        ok = d.num_same_bits == steps and d.same_lrs
    elif own is None:
        ok = max(d.loss, d.norm) <= DOUBLE_TOLERANCE and d.same_lrs
    else:
        first_norm = max(FIRST_TOLERANCE, 2 * own.first_norm)  # each of the two sides is that far from the truth
        last_norm = max(LAST_TOLERANCE, 2 * own.norm)
        last_loss = max(LAST_TOLERANCE, 2 * own.loss)
        ok = d.first_loss <= FIRST_TOLERANCE and d.first_norm <= first_norm and d.same_lrs
        ok = ok and d.loss <= last_loss and d.norm <= last_norm
    itself = "" if own is None else f"{own.first_norm:.1e}"
    print(f"{name:44} {d.first_loss:9.1e} {d.first_norm:9.1e} {d.loss:9.1e} {d.norm:9.1e} "
          f"{d.num_same_bits:6}/{steps:<3} {itself:>12}  {verdict(ok)}", flush=True)  # fmt: skip
    return ok


def compare_mask_statistics(num_draws: int) -> list[bool]:
    """Print a line for each kind of utterance."""
    columns = ["share", "mean run", "most", "limit", "distance"]
    print(f"\n{f'masks, {num_draws} draws':52} "
          + " ".join(f"{c:>{w}}" for c, w in zip(columns, (15, 15, 9, 6, 14), strict=True)))  # fmt: skip
    results = []
    for case in CASES:
        f = compare_masks(case, num_draws)
        where = f" in a batch of {case.padded_to}" if case.padded_to else ""
        name = f"{case.num_frames} frames{where}, p {case.prob}, span {case.span}, >= {case.min_spans}"
        sides = f"{f.share[0]:7.4f} {f.share[1]:7.4f} {f.run[0]:7.2f} {f.run[1]:7.2f} {f.most[0]:4} {f.most[1]:4}"
        distance = f"{f.distance:7.4f}/{f.critical:.4f}"
        print(f"{name:52} {sides} {f.limit:6} {distance}  {verdict(f.agrees)}", flush=True)
        results.append(f.agrees)
    return results


def compare_transcripts(folder: Path, examples: Sequence[Example]) -> list[bool]:
    """Compare our transcripts (batches of 8) with the Trainer's (batches of 1, as in the reference run, and of 8).

    The checkpoint is first trained until it writes words with some mistakes.
    """
    recipe = Recipe(steps=60, batch_size=8, lr=2e-3, warmup_steps=10)
    save_weights(folder, train_ours(folder, plan(tone_examples(480, seed=5), recipe), recipe), recipe)
    ours = transcribe_ours(folder, examples, 8)
    theirs, batched = transcribe_hf(folder, examples, 1), transcribe_hf(folder, examples, 8)
    same = sum(a == b for a, b in zip(ours.texts, theirs.texts, strict=True))
    written = sum(map(bool, ours.texts))
    ok = ours.texts == theirs.texts and ours.wer == theirs.wer and relative([ours.loss], [theirs.loss])[0] < 1e-5
    ok = ok and written > len(examples) // 2
    print(f"\ntranscripts: {same} of {len(examples)} the same, {written} not empty; WER {ours.wer:.4f} and "
          f"{theirs.wer:.4f}, loss {ours.loss:.6f} and {theirs.loss:.6f}  {verdict(ok)}")  # fmt: skip
    differ = sum(a != b for a, b in zip(batched.texts, theirs.texts, strict=True))
    print(f"  (the Trainer in batches of 8 decodes padded frames too: {differ} differ, WER {batched.wer:.4f})")
    return [ok]


def show_faults(folder: Path, examples: Sequence[Example]) -> list[bool]:
    """Show where the Trainer is wrong: accumulated gradients, and the schedule after an overflow."""
    a = compare_accumulation(folder, examples, microbatches=4, size=2)
    averaged = abs(a.ours_accumulated / a.ours_large - 1) < 1e-4 and abs(a.hf_large / a.ours_large - 1) < 1e-4
    print("\ngradient norm of 8 utterances")
    print(f"  at once           ours {a.ours_large:.5f}, Trainer {a.hf_large:.5f}")
    print(f"  in 4 microbatches ours {a.ours_accumulated:.5f}, Trainer {a.hf_accumulated:.5f} "
          f"({a.hf_accumulated / a.hf_large:.2f} times too large)  {verdict(averaged)}")  # fmt: skip
    ours, fused, unfused = our_overflow(folder, examples), hf_overflow(fused=True), hf_overflow(fused=False)
    in_step = ours.updates == ours.schedule_steps == 3
    print("4 steps, the second one overflows: updates / steps of the schedule")
    shown = [f"{o.updates}/{o.schedule_steps}" for o in (ours, fused, unfused)]
    print(f"  ours {shown[0]}, accelerate with fused AdamW {shown[1]}, with plain AdamW {shown[2]}  {verdict(in_step)}")
    return [averaged, in_step]


def show_scored_padding(folder: Path, examples: Sequence[Example]) -> bool:
    """Group norm with padded batches: the Trainer's loss includes the padding. Ours does so only if told to."""
    recipe = Recipe(steps=1)
    batches = plan(examples, recipe)
    theirs, ours = train_hf(folder, batches, recipe).losses[0], train_ours(folder, batches, recipe).losses[0]
    told = train_ours(folder, batches, replace(recipe, score_padding=True)).losses[0]
    ok = abs(told / theirs - 1) < FIRST_TOLERANCE
    print(f"wav2vec2, group norm, padded batch: Trainer's loss {theirs:.6f}, ours with the padding scored {told:.6f}, "
          f"ours as it is {ours:.6f}  {verdict(ok)}")  # fmt: skip
    return ok


def verdict(ok: bool) -> str:
    return "ok" if ok else "DIFFERS"
