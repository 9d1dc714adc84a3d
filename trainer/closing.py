"""What happens after the last step: the closing evaluation in fp32, and the files that it leaves in the run's folder.

trainer.evaluating scores a model that somebody else trained in the same way.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from data import strict_json
from data.audio.segments import channel_of, file_of
from data.batches.collate import Frontend
from data.utterance import Splits
from models.checkpoints.export import save_huggingface
from models.checkpoints.lora import adapter_folder, lora_of, save_updates
from models.ctc import CTCModel
from trainer.card.card import write_card
from trainer.card.text import versions
from trainer.cli.console import Console
from trainer.config.schema import Config
from trainer.device import device_model
from trainer.diagnosis.finding import table
from trainer.diagnosis.watch import Watch
from trainer.loop.state import TrainState
from trainer.loop.step import TrainingParts
from trainer.parallel.sharding import spread_again, whole_model
from trainer.parallel.world import ALONE, World
from trainer.prepare.build import PreparedRun
from trainer.prepare.corpus import PreparedCorpus
from trainer.prepare.identity import corpus_digest
from trainer.publishing import exports_other_weights, publish
from trainer.report.run import MediaSource
from trainer.rundir.calibration import (
    calibration_of,
    calibration_record,
    describe_calibration,
    write_calibration,
)
from trainer.rundir.checkpoints.shared_state import take_best
from trainer.rundir.disk import sync
from trainer.rundir.logs.log import RunLog
from trainer.rundir.next_steps import conclude
from trainer.rundir.results import describe, peak_memory_bytes, split_record, write_hypotheses, write_json
from trainer.scoring.evaluate import EvalSet, evaluate
from trainer.scoring.metrics import units_of
from trainer.scoring.reliability import with_confidences
from trainer.scoring.scores import Scores
from trainer.scoring.subsets import score_splits


def is_closed(run_dir: Path, step: int) -> bool:
    """Whether an earlier process closed this run at `step`. It wrote results.json; only report and upload come later.

    A results.json of another step belongs to a shorter plan of the same run.
    """
    try:
        return json.loads((run_dir / "results.json").read_text(encoding="utf-8"))["steps"] == step
    except (OSError, ValueError, KeyError, TypeError):
        return False


def close_run(
    run: PreparedRun,
    state: TrainState,
    runlog: RunLog,
    watch: Watch,
    argv: Sequence[str] | None,
    finish_saves: Callable[[], bool],
) -> bool:
    """Score the weights that the run exports; write hypotheses.jsonl, model/, its card, results.json and the report.

    The last checkpoint is written meanwhile. Returns what `finish_saves` does: whether all saves reached the disk.
    Other ranks call `score_with_first` meanwhile, which scores their share.
    """
    config, parts, data, eval_sets = run.config, run.parts, run.data, run.eval_sets
    after_training(parts)
    run_dir, splits, console, model = config.run_dir, data.corpus.splits, runlog.console, parts.model
    score = _scorer(parts, eval_sets, splits, console)
    with_last, with_exported = _scored_with(config, splits, state)
    last = score(with_last)
    weights, best_step, best_wer = str(config.train.export), state.best_step, state.best_wer
    all_saved = True
    if exports_other_weights(config, state):
        all_saved = finish_saves()
        with console.phase("export"):
            best_step, best_wer = take_best(run_dir, parts)
        if best_step != state.best_step:  # after a failed save, or when a resumed run took other steps
            console.warn(f"the best weights kept are those of step {best_step}, not of step {state.best_step}")
    with console.phase("export"):
        export_updates(config, model, run_dir / "model")  # what is scored below is what is exported
    with ThreadPoolExecutor(1) as pool:
        # Neither needs the other, and the device is busy with the evaluation alone
        whole = whole_here(parts)
        exporting = pool.submit(_export, whole, data, eval_sets[splits.headline].frontend, run_dir, parts.device)
        closing = score(with_exported)
        all_saved = finish_saves() and all_saved
        parts.world.leave()  # the rest is for this rank alone
        with console.phase("export"):
            exporting.result()
    calibration, why_none = calibration_of(closing, splits, len(data.vocab))
    write_calibration(run_dir / "model", calibration)
    console.say(describe_calibration(calibration, why_none))
    closing = with_confidences(closing, calibration, len(data.vocab))
    records: dict[str, dict[str, Any]] = {}
    for scores, of_step in [*((scores, weights) for scores in closing), *((scores, "last") for scores in last)]:
        note = data.with_corrections(scores.split, splits.note(scores.split, selected=of_step == "best"))
        records[scores.split] = split_record(scores, of_step, note)
        said = "; ".join(filter(None, [note, "last weights" if of_step != weights else ""]))
        console.say(f"{describe(scores)}{f' ({said})' * bool(said)}")
    judged = calibration_record(calibration, why_none)
    scored = next(s for s in closing if s.split == splits.headline)
    findings = watch.findings(runlog.records, is_over=True, closing=scored)
    results = headline_results(records, splits.headline, weights, model, parts.device) | judged | strict_json.finite({
        "command": None if argv is None else list(argv),
        "training_data": corpus_digest(data.train),
        **({"corrections": data.corrections} if data.corrections else {}),
        "steps": state.step,
        "num_skipped": state.num_skipped,
        "num_halved": state.num_halved,
        "epochs": runlog.epoch(state),
        "train_seconds": state.train_seconds,
        "eval_seconds": state.eval_seconds,
        "audio_seconds_per_second": state.audio_seconds / state.train_seconds if state.train_seconds else 0.0,
        "padding_share": 1 - state.audio_seconds / state.padded_seconds if state.padded_seconds else 0.0,
        "best": {"step": best_step, eval_sets[splits.headline].units.main: best_wer},
        "precision": run.precision,
        "processes": parts.world.size,
        "backend": parts.world.backend,
        "peak_memory_bytes": peak_memory_bytes(parts.device),
        "findings": [finding.record() for finding in findings],
    })  # fmt: skip
    write_hypotheses(run_dir / "hypotheses.jsonl", closing)
    with console.phase("card"):
        write_card(run_dir, config, data, results, run.load_report, argv)
    with console.phase("export"):
        sync(run_dir / "model")
    runlog.board.end(config, results, state.step)
    runlog.board.findings(table(findings), state.step)
    runlog.flush()
    for of_a_shorter_plan in (run_dir / "report.html", run_dir / "pushed.json"):
        of_a_shorter_plan.unlink(missing_ok=True)
    write_json(run_dir / "results.json", results | clock_record(console, runlog))
    console.say(
        f"done: {state.step} steps in {state.train_seconds:.0f} s, evaluations {state.eval_seconds:.0f} s more; "
        f"{run_dir / 'model'} holds the {weights} weights and the model card"
    )
    publish(config, MediaSource(whole, eval_sets, next(whole.parameters()).device), console)
    tell_time(run_dir, results, runlog, state.step)
    audio = eval_sets[splits.headline].examples[0].utterance.audio
    conclude(config, file_of(audio), [finding.line() for finding in findings], console, channel_of(audio))
    return all_saved


def score_with_first(run: PreparedRun, state: TrainState, console: Console, finish_saves: Callable[[], bool]) -> bool:
    """What other ranks do while rank 0 is in `close_run`, call by call. Returns what `finish_saves` does."""
    config, parts, splits = run.config, run.parts, run.data.corpus.splits
    after_training(parts)
    score = _scorer(parts, run.eval_sets, splits, console)
    with_last, with_exported = _scored_with(config, splits, state)
    score(with_last)
    all_saved = True
    if exports_other_weights(config, state):
        all_saved = finish_saves()
        take_best(config.run_dir, parts)
    whole_here(parts)
    score(with_exported)
    all_saved = finish_saves() and all_saved
    parts.world.leave()
    return all_saved


def _scored_with(config: Config, splits: Splits, state: TrainState) -> tuple[list[str], list[str]]:
    """(Splits scored with the last weights alone, splits scored with the weights that the run exports)."""
    if exports_other_weights(config, state):
        return list(splits.unselected), list(splits.closing)
    return [], [*splits.closing, *splits.unselected]


def _scorer(
    parts: TrainingParts, eval_sets: dict[str, EvalSet], splits: Splits, console: Console
) -> Callable[[Sequence[str]], list[Scores]]:
    """A function that scores the splits it is given with the weights that `parts` has then."""
    return lambda wanted: score_splits(
        splits, wanted, eval_sets, lambda one: score_closing(parts.model, one, parts.device, console, parts.world)
    )


def after_training(parts: TrainingParts) -> None:
    """Give back captured graphs, which keep a step's memory: closing scores are in fp32 and need more than others. Let
    a spread model gather its weights as they are from now on."""
    parts.graphs = None
    torch.cuda.empty_cache()
    if parts.model.is_sharded:
        parts.optimizer.state.clear()
        parts.model = spread_again(parts.model, parts.device)


def whole_here(parts: TrainingParts) -> CTCModel:
    """The model with all of its weights, for rank 0 to export and to listen with. All ranks call this.

    A spread one is brought together on rank 0's host.
    """
    if not parts.model.is_sharded:
        return parts.model
    whole = whole_model(parts.model, keep=parts.world.is_first)
    return parts.model if whole is None else whole


def _export(model: CTCModel, data: PreparedCorpus, frontend: Frontend, run_dir: Path, device: torch.device) -> None:
    """Write model/ without its card. On CUDA the weights are copied on a stream of their own: they do not change, and
    each copy would otherwise wait for the batch that another thread evaluates."""
    vocab = data.vocab
    stream: AbstractContextManager[Any] = nullcontext()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        stream = torch.cuda.stream(torch.cuda.Stream(device))
    with stream:
        save_huggingface(
            model.hf, vocab.tokens, vocab.special, frontend.do_normalize, run_dir / "model", vocab.reading,
            language=data.language,
        )  # fmt: skip


def export_updates(config: Config, model: CTCModel, folder: Path) -> None:
    """Write the low-rank updates beside the exported model's `folder`, and merge them into `model`; nothing happens
    without updates."""
    lora = lora_of(config.model)
    if lora is not None:
        beside = adapter_folder(folder)
        save_updates(model.hf.state_dict(), lora, model.hf.config.num_hidden_layers, beside)
        sync(beside)
        model.merge_updates()


def clock_record(console: Console, runlog: RunLog) -> dict[str, Any]:
    """The clock's keys of results.json, up to now. They are of this process alone, which began at `clock_from_step`."""
    seconds = {phase: round(seconds, 4) for phase, seconds in console.clock.seconds().items()}
    return {"clock": seconds, "clock_from_step": runlog.first_step}


def tell_time(run_dir: Path, results: dict[str, Any], runlog: RunLog, step: int) -> None:
    """Say where this process' time went, on the terminal and in TensorBoard, and write results.json again with it.

    Without these last seconds the run is complete: if the disk refuses them, results.json keeps the earlier ones.
    """
    console = runlog.console
    runlog.board.clock(console.clock.seconds(), step)
    runlog.close()
    record = results | clock_record(console, runlog)
    try:
        write_json(run_dir / "results.json", record)
    except OSError as error:
        console.warn(f"{run_dir / 'results.json'}: its clock stops before the report ({error.strerror or error})")
    console.tell_time(runlog.first_step)


def score_closing(
    model: CTCModel, eval_set: EvalSet, device: torch.device, console: Console, world: World = ALONE
) -> Scores:
    """Scores in fp32 without TF32 and from the audio, even if training used a table of features or half precision."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    bar = partial(console.progress, desc=f"scoring {eval_set.split}", unit="batch")
    with console.phase("closing_evaluation"):
        return evaluate(model, replace(eval_set, features=None), device, nullcontext, bar, world=world, confidence=True)


def headline_results(
    records: dict[str, dict[str, Any]], headline: str, weights: str, model: CTCModel, device: torch.device
) -> dict[str, Any]:
    """The keys that every results.json has: the headline split's figures on top, then all splits."""
    top, units = records[headline], units_of(records[headline])
    shown = (*units.metrics, "scoring", "loss", "num_errors", f"num_reference_{units.name}", "num_undecodable")
    return {
        **{key: top[key] for key in shown if key in top},
        "headline": headline,
        **{key: records[headline][key] for key in ("protocol",) if key in records[headline]},
        "weights": weights,
        "splits": records,
        "device": device_model(device),
        "num_parameters": sum(p.numel() for p in model.parameters()),
        "versions": versions(),
    }
