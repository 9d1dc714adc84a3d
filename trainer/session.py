"""One training run from Config to model card. `trainer.run` parses the command line, then comes here."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import FrameType

from data.batching import padding_share
from data.utterance import SAMPLE_RATE
from trainer.assemble import build_eval_sets, build_model, build_parts, build_train_loader, choose_device
from trainer.assemble import choose_precision, plan_batches, read_data, read_encoder
from trainer.closing import close_run
from trainer.checkpoint import checkpoints, load_checkpoint, save_best, save_checkpoint
from trainer.config import Config, ConfigError, resolve, validate
from trainer.config_json import from_json, to_json
from trainer.evaluate import evaluate
from trainer.loop import Parts, fit, is_done
from trainer.results import write_text
from trainer.runlog import Console, RunLog, read_records
from trainer.state import TrainState

STOPPED_BY_SIGNAL = 130


def train(config: Config, preset: Config, argv: Sequence[str]) -> int:
    """Run `config`; the exit code. ValueErrors of this project's own are for the user."""
    chosen, default = config.model.pretrained, preset.model.pretrained
    if config.model.size is not None and chosen is not None and chosen != default:
        raise ConfigError("--model.pretrained and --model.size exclude each other: a checkpoint has its size.")
    config = resolve(validate(config))
    device = choose_device(config.device)
    precision = choose_precision(config, device)
    console, run_dir = Console(), config.run_dir
    open_run_dir(config)

    encoder = read_encoder(config.model)
    if encoder.pretrained is not None and encoder.pretrained.commit:
        config = replace(config, model=replace(config.model, revision=encoder.pretrained.commit))
    data = read_data(config, encoder, console)
    model, load_report = build_model(config, encoder, data, device)
    plan = plan_batches(config, data)
    total_steps = min(plan.total_steps(), config.train.max_steps or plan.total_steps())
    config, parts = build_parts(config, model, device, precision, total_steps)
    num_workers = (
        config.batching.num_workers if config.batching.num_workers is not None else 2 * (device.type == "cuda")
    )
    loader = build_train_loader(config, data, model, plan, num_workers, device.type == "cuda", encoder.do_normalize)
    eval_sets = build_eval_sets(config, data, model, num_workers, encoder.do_normalize)

    run_dir.mkdir(parents=True, exist_ok=True)
    write_text(run_dir / "config.json", to_json(config))
    state = resume(run_dir, parts, data.vocab.tokens, console) if config.resume else TrainState()
    if state.step > 0 and is_done(state, config.train, total_steps) and (run_dir / "results.json").exists():
        console.say(f"{run_dir}: complete after {state.step} steps; nothing to do")
        return 0
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    seconds, padding = sum(plan.lengths) / SAMPLE_RATE, padding_share(plan.batches(0), plan.epoch_lengths(0))
    console.say(
        f"{config.preset}: {len(data.train)} utterances ({seconds / 3600:.2f} h), {len(data.vocab)} units; "
        f"{model.hf.config.model_type}, {sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters, "
        f"{trainable / 1e6:.2f} M trained; {total_steps} steps, {100 * padding:.1f} % padding, "
        f"{precision} on {device}; into {run_dir}"
    )
    if load_report is not None:
        console.say(f"{config.model.pretrained}: {load_report.describe()}")

    runlog = RunLog(run_dir, console, total_steps=total_steps, steps_per_epoch=plan.num_steps(0), start_step=state.step)
    runlog.start(state)
    if state.step == 0:
        runlog.audio(eval_sets[data.corpus.splits.monitor].examples)
    monitor = eval_sets[data.corpus.splits.monitor]
    evaluating = partial(console.progress, desc="evaluating", unit="batch")
    with interrupt_flag(console) as must_stop:
        complete = fit(
            parts,
            loader,
            state,
            config.train,
            max_grad_norm=config.optim.max_grad_norm,
            total_steps=total_steps,
            score=partial(evaluate, model, monitor, device, parts.autocast, evaluating),
            save_best=lambda: save_best(run_dir, model, state),
            save=lambda: save_checkpoint(run_dir, parts, state, data.vocab.tokens, config.train.save_total_limit),
            runlog=runlog,
            must_stop=must_stop,
        )
    runlog.close_bar()
    if not complete:
        runlog.close()
        console.say(
            f"stopped and saved at step {state.step} of {total_steps}; go on with the same command and --resume"
        )
        return STOPPED_BY_SIGNAL
    close_run(config, parts, data, eval_sets, state, runlog, load_report, argv, precision)
    runlog.close()
    return 0


def open_run_dir(config: Config) -> None:
    """Refuse a folder that holds a run, or make room for this one."""
    run_dir = config.run_dir
    if not run_dir.exists() or not any(run_dir.iterdir()):
        if run_dir.is_file():
            raise ConfigError(f"{run_dir} is a file. Choose another --name.")
        return
    if not (run_dir / "config.json").exists():
        raise ConfigError(f"{run_dir} exists and holds no run. Choose another --name, or clear it by hand.")
    if config.overwrite:
        shutil.rmtree(run_dir)
    elif config.resume:
        from_json((run_dir / "config.json").read_text(encoding="utf-8"), str(run_dir / "config.json"))
    else:
        metrics = run_dir / "metrics.jsonl"
        steps = max((r["step"] for r in read_records(metrics)), default=0) if metrics.exists() else 0
        raise ConfigError(
            f"{run_dir} holds a run of {steps} steps: --resume continues it, --name starts another, "
            "--overwrite replaces it."
        )


def resume(run_dir: Path, parts: Parts, tokens: tuple[str, ...], console: Console) -> TrainState:
    """The state of the newest checkpoint, put into `parts`; a new one when there is none."""
    found = checkpoints(run_dir)
    if not found:
        console.say(f"{run_dir}: no checkpoint yet; starting at step 0")
        return TrainState()
    state = load_checkpoint(found[-1][1], parts, tokens)
    console.say(f"resuming from {found[-1][1]}")
    return state


@contextmanager
def interrupt_flag(console: Console) -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C was pressed: the first one asks the loop to save and stop, the second ends at once."""
    pressed: list[bool] = []

    def handler(signum: int, frame: FrameType | None) -> None:
        if pressed:
            raise KeyboardInterrupt
        pressed.append(True)
        console.say("stopping after this step; Ctrl-C again ends at once, without saving")

    previous = signal.signal(signal.SIGINT, handler)
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, previous)
