"""One training run from Config to model card. `trainer.run` parses the command line, then comes here."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import FrameType

import torch

from data.batching import padding_share
from data.utterance import SAMPLE_RATE
from models.encoder import LoadReport, save_huggingface
from trainer.assemble import Data, build_eval_sets, build_model, build_parts, build_train_loader, choose_device
from trainer.assemble import choose_precision, plan_batches, read_data, read_encoder
from trainer.card import write_card
from trainer.checkpoint import checkpoints, load_best, load_checkpoint, save_best, save_checkpoint
from trainer.config import Config, ConfigError, resolve, validate
from trainer.config_json import from_json, to_json
from trainer.evaluate import EvalSet, Scores, evaluate
from trainer.loop import Parts, fit
from trainer.results import describe, finite, split_record, write_hypotheses, write_json, write_text
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
    finish(config, parts, data, eval_sets, state, runlog, load_report, argv, precision)
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


def finish(
    config: Config,
    parts: Parts,
    data: Data,
    eval_sets: dict[str, EvalSet],
    state: TrainState,
    runlog: RunLog,
    load_report: LoadReport | None,
    argv: Sequence[str],
    precision: str,
) -> None:
    """The closing evaluation in fp32, and what it leaves: results.json, hypotheses.jsonl, model/ with its card."""
    run_dir, splits, console, model = config.run_dir, data.corpus.splits, runlog.console, parts.model
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False

    def score(split: str) -> Scores:
        bar = partial(console.progress, desc=f"scoring {split}", unit="batch")
        return evaluate(model, eval_sets[split], parts.device, nullcontext, bar)

    records, closing = {}, []
    for split, note in splits.unselected.items():
        scores = score(split)
        records[split] = split_record(scores, "last", note)
        console.say(f"{describe(scores)} ({note}; last weights)")
    weights = "last"
    if splits.selects:
        weights = "best"
        if state.best_step != state.step:
            load_best(run_dir, model)
    for split in splits.closing:
        closing.append(score(split))
        records[split] = split_record(closing[-1], weights)
        console.say(describe(closing[-1]))
    headline = records[splits.headline]
    results = finite({
        **{k: headline[k] for k in ("wer", "cer", "loss", "num_errors", "num_reference_words")},
        "headline": splits.headline,
        "weights": weights,
        "steps": state.step,
        "num_skipped": state.num_skipped,
        "epochs": runlog.epoch(state),
        "train_seconds": state.train_seconds,
        "eval_seconds": state.eval_seconds,
        "audio_seconds_per_second": state.audio_seconds / state.train_seconds if state.train_seconds else 0.0,
        "padding_share": 1 - state.audio_seconds / state.padded_seconds if state.padded_seconds else 0.0,
        "best": {"step": state.best_step, "wer": state.best_wer},
        "splits": records,
        "precision": precision,
        "device": torch.cuda.get_device_name(parts.device) if parts.device.type == "cuda" else "cpu",
        "num_parameters": sum(p.numel() for p in model.parameters()),
    })  # fmt: skip
    write_hypotheses(run_dir / "hypotheses.jsonl", closing)
    vocab = data.vocab
    special = dict(blank=vocab.blank, unknown=vocab.unknown, word_delimiter=vocab.word_delimiter)
    do_normalize = eval_sets[splits.headline].frontend.do_normalize
    save_huggingface(model.hf, vocab.tokens, special, do_normalize, run_dir / "model")
    write_card(run_dir, config, data, results, load_report, argv)
    runlog.hparams(config, headline["wer"])
    write_json(run_dir / "results.json", results)
    console.say(
        f"done: {state.step} steps in {state.train_seconds:.0f} s, evaluations {state.eval_seconds:.0f} s more; "
        f"{run_dir / 'model'} holds the {weights} weights and the model card"
    )


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
