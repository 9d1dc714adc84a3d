"""The first screen of a run: what is trained, on which data, and about how long it takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from data.examples.example import Example
from data.examples.table import lengths_of, speakers_in
from data.plural import counted
from data.utterance import SAMPLE_RATE
from trainer.cli.console import Console
from trainer.device import HALF, describe_threads, why_no_gpu
from trainer.loop.gradients import PARTS, part_of
from trainer.prepare.build import PreparedRun
from trainer.prepare.ranks import describe_waiting
from trainer.prepare.shapes import describe_padding
from trainer.prepare.timing import estimate_training
from trainer.rundir.logs.log import clock


def introduce(run: PreparedRun, steps_left: int, console: Console) -> None:
    """Print what is about to be trained, on which data, and about how long it takes."""
    for name, what in describe(run, steps_left, console):
        console.item(name, what)
    if run.load_report is not None:
        console.say(f"{run.config.model.pretrained}: {run.load_report.describe()}")


def describe(run: PreparedRun, steps_left: int, console: Console) -> Iterator[tuple[str, str]]:
    """(Name, text) of each line of the first screen."""
    config, model, plan = run.config, run.parts.model, run.plan
    yield "corpus", f"{run.data.corpus.title}: {_amount(run.data.train)}, {_speakers(run.data.train)}"
    protocol = run.data.corpus.splits.protocol(run.monitor.split, len(run.monitor.examples))
    name = run.monitor.split + f" ({protocol})" * bool(protocol)
    yield "scored", f"{name}: {_amount(run.monitor.examples)}, {_speakers(run.monitor.examples)}"
    vocab = run.data.vocab
    units = "".join(t for t in vocab.tokens if len(t) == 1 and t.isprintable())
    if vocab.phonemes:
        units = " ".join(t for t in vocab.tokens if t in vocab.writable)
    yield "units", f"{len(vocab)}, blank {vocab.blank}: {units if len(units) <= 48 else units[:45] + '...'}"
    origin = config.model.pretrained or f"{config.model.size}, random weights"
    num_parameters = _millions(p.numel() for p in model.parameters())
    yield "model", f"{model.hf.config.model_type} {origin}: {num_parameters} parameters"
    trained: dict[str, int] = dict.fromkeys((*PARTS, "head"), 0)
    for name, parameter in model.named_parameters():
        trained[part_of(name)] += parameter.numel() if parameter.requires_grad else 0
    parts = ", ".join(f"{part.replace('_', ' ')} {_millions([n]) if n else 'frozen'}" for part, n in trained.items())
    yield "trained", f"{_millions(trained.values())}: {parts}"
    batches, accumulated = plan.batches(0), config.train.grad_accum_steps
    per_step = f", {accumulated} a step" if accumulated > 1 else ""
    yield (
        "batches",
        (
            f"{len(batches)} an epoch of {size_range([len(b) for b in batches])} utterances{per_step}, "
            f"{describe_padding(plan, batches)}"
        ),
    )
    world = run.parts.world
    if world.size > 1:
        graphs = "with CUDA graphs" if run.parts.graphs is not None else "without CUDA graphs"
        yield (
            "processes",
            (
                f"{world.size}, gradients summed by {world.backend}, {graphs}; each trains on a share of every batch: "
                f"{describe_waiting(plan, run.loader.shares)}"
            ),
        )
    if not world.is_alone:
        yield "parallel", describe_sharing(run)
    epochs = run.total_steps / plan.num_steps(0)
    yield (
        "schedule",
        (
            f"{counted(run.total_steps, 'step')}, {counted(float(f'{epochs:.3g}'), 'epoch', f'{epochs:.3g}')}; "
            f"lr {config.optim.lr:g} after {counted(config.optim.warmup_steps or 0, 'step')}, then linearly to 0"
        ),
    )
    every = f"every {config.train.eval_every} steps" if config.train.eval_every else "at the end"
    saves = f"every {config.train.save_every}" if config.train.save_every else "at the end"
    threads = describe_threads() if run.parts.device.type == "cpu" else ""
    yield "arithmetic", f"{run.precision} on {run.parts.device}{threads}; evaluation {every}, checkpoint {saves}"
    if config.device == "auto" and run.parts.device.type == "cpu" and (reason := why_no_gpu()) is not None:
        yield "no GPU", reason
    if run.attention is not None:
        yield "attention", run.attention
    with console.phase("estimate"):
        about = _time(run, steps_left)
    yield "time", about


def describe_sharing(run: PreparedRun) -> str:
    """What each process holds, why, and what is not possible with it."""
    if not run.sharing.is_sharded:
        return f"ddp, each process has the whole model: {run.sharing.reason}"
    text = f"fsdp, each process has its share of the model: {run.sharing.reason}"
    if run.precision in HALF:
        text += f"; layers' weights are gathered in {run.precision}, so no copies of them are kept"
    if run.parts.device.type == "cuda":
        text += "; no CUDA graphs, since weights come and go in every pass"
    return text


def _time(run: PreparedRun, steps_left: int) -> str:
    if steps_left <= 0:
        return "no step is left, only the closing evaluation"
    if run.parts.device.type == "cuda" or run.sharing.is_sharded:  # one rank alone cannot pass a spread model
        # The first gradients of a process choose kernels for seconds: they would cost much and tell little
        return f"{steps_left} steps; how long they take is told after the second log (--check times some beforehand)"
    seconds = estimate_training(run, steps_left)
    about = "unknown (out of memory)" if seconds is None else f"about {clock(seconds)}"
    return f"{about} for {steps_left} steps, evaluations not counted; more exactly after a few logs"


def _amount(examples: Sequence[Example]) -> str:
    return f"{counted(len(examples), 'utterance')}, {int(lengths_of(examples).sum()) / SAMPLE_RATE / 3600:.2f} h"


def _speakers(examples: Sequence[Example]) -> str:
    speakers = speakers_in(examples)
    return counted(len(speakers), "speaker") if speakers else "speakers unknown"


def _millions(numbers: Iterable[int]) -> str:
    """
    >>> _millions([315_470_495]), _millions([900_000, 34_000])
    ('315.47 M', '0.934 M')
    """
    millions = sum(numbers) / 1e6
    return f"{millions:.2f} M" if millions >= 1 else f"{millions:.3f} M"


def size_range(numbers: Sequence[int]) -> str:
    """The smallest and the largest of `numbers`, or the one that all are.

    >>> size_range([24, 32, 30]), size_range([32, 32])
    ('24 to 32', '32')
    """
    return f"{min(numbers)} to {max(numbers)}" if min(numbers) < max(numbers) else str(numbers[0])
