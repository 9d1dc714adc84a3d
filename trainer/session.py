"""One training run from its Config to the model card. `trainer.run` parses the command line and calls `train`."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

import torch
from safetensors import SafetensorError

from data.examples.table import ids_of
from data.utterance import Corpus
from models.checkpoints.lora import lora_of
from models.checkpoints.training_checkpoint import describe_model
from trainer.cli.clock import Clock
from trainer.cli.console import Console, RankConsole
from trainer.cli.signals import StopFlag, stop_on_signals
from trainer.closing import close_run, is_closed, score_with_first
from trainer.config.as_json import to_json
from trainer.config.given import with_given
from trainer.config.schema import Config
from trainer.config.validate import resolve, validate
from trainer.device import choose_device
from trainer.diagnosis.folder import keep_facts
from trainer.diagnosis.gather import facts_of
from trainer.diagnosis.overfit import overfit
from trainer.diagnosis.rate_range import find_rate
from trainer.diagnosis.watch import Watch
from trainer.errors import (
    SAVE_FAILED,
    AudioError,
    CheckpointError,
    ConfigError,
    LoaderError,
    SaveError,
    TrainingStopped,
)
from trainer.loop.fit import fit, is_done
from trainer.loop.state import TrainState
from trainer.parallel.agent import find_agent
from trainer.parallel.joining import joined
from trainer.parallel.launch import launched, told_once
from trainer.parallel.world import World
from trainer.prepare.build import PreparedRun, prepare, use_features
from trainer.prepare.check.preflight import check
from trainer.prepare.features.table import training_share
from trainer.prepare.identity import identity, refuse_mixed, refuse_other_commands
from trainer.prepare.intro import introduce
from trainer.prepare.resume import resume
from trainer.prepare.utilisation import flops_share
from trainer.publishing import is_published, publish_late
from trainer.rundir.checkpoints.saving import Saver
from trainer.rundir.disk import write_text
from trainer.rundir.dynamics.recorder import LossFiles, LossRecorder
from trainer.rundir.folder import check_run_dir, clear
from trainer.rundir.lock import lock_run, note_agents, was_begun_by
from trainer.rundir.logs.log import RunLog
from trainer.rundir.logs.profile import StepProfiler
from trainer.rundir.silent import SilentLog, SilentSaver, make_saver
from trainer.scoring.evaluate import evaluate
from trainer.scoring.followed import followed_positions
from trainer.scoring.scores import Scores


def train(
    config: Config,
    argv: Sequence[str] | None = None,
    flag: StopFlag | None = None,
    clock: Clock | None = None,
    *,
    corpus: Corpus | None = None,
) -> int:
    """Run `config` and return the exit code: 0, or that of the signal that stopped the run (see docs/run-folder.md).

    UserError, OSError and Stopped tell the user what is wrong. From Python, `config` and `corpus` are enough: any
    object with the attributes of data.utterance.Corpus, such as data.corpora.given.DatasetCorpus. config.corpus is then
    a data.corpora.given.GivenConfig. `argv`, `flag` and `clock` are those of a command line.
    """
    if flag is None:
        with stop_on_signals() as own:
            return train(config, argv, own, clock, corpus=corpus)
    launch = launched()
    with told_once(launch):
        config = resolve(validate(with_given(config, corpus)))
    if config.seeds:
        raise ConfigError("--seeds asks for several runs: trainer.seeds.train_seeds trains them.")
    if config.check:
        return check(config, Console(clock=clock), corpus, World(launch)) if launch.is_first else 0
    for is_asked, trial in ((config.lr_finder, find_rate), (config.overfit is not None, overfit)):
        if is_asked:
            with told_once(launch):
                return trial(config, Console(clock=clock), corpus)
    always = config.parallel == "fsdp"
    with joined(launch, partial(choose_device, config.device), always=always) as world, ExitStack() as held:
        console = Console(clock=clock) if world.is_first else RankConsole(world.name, clock)
        refuse_other_commands(world, config)
        agents = world.gather(find_agent())
        if world.broadcast(world.is_first and was_begun_by(config.run_dir, agents)):
            console.say("torchrun has started this run again: it goes on as with --resume")
            config = replace(config, resume=True, overwrite=False)
        with world.together("the run's folder"):
            if world.is_first:
                check_run_dir(config)
        with world.together("the preparation of the run"):
            run = prepare(config, console, corpus=corpus, world=world)
        with world.together("the run's folder"):
            if world.is_first:
                held.enter_context(lock_run(config.run_dir, console.warn))
                check_run_dir(config)  # again, since another process may have begun a run here in between
                if config.overwrite:
                    clear(config.run_dir)
                note_agents(config.run_dir, agents)
        return _train(run, argv, console, flag)


def _train(run: PreparedRun, argv: Sequence[str] | None, console: Console, flag: StopFlag) -> int:
    config, parts, run_dir, world = run.config, run.parts, run.config.run_dir, run.parts.world
    with console.phase("model"):
        fingerprint = identity(config, run.data, parts.model, parts.device, run.precision)
    vocab = run.data.vocab
    fingerprint["model"] = describe_model(
        parts.model.hf, vocab.special, run.do_normalize, vocab.reading, run.data.language, lora_of(config.model)
    )
    refuse_mixed(world, fingerprint)
    state = resume(run, fingerprint, console) if config.resume else TrainState()
    is_over = state.step > 0 and is_done(state, config.train, run.total_steps)
    if is_over and world.broadcast(is_closed(run_dir, state.step)):
        if not world.is_first:
            return 0
        if is_published(config):
            console.say(f"{run_dir}: complete after {state.step} steps; nothing to do")
        else:
            publish_late(config, parts, run.eval_sets, state, console)
            console.tell_time()
        return 0
    if world.is_first:
        introduce(run, 0 if is_over else run.total_steps - state.step, console)
    if config.model.cache_features and (state.eval_pending or not is_over):
        begin = time.perf_counter()
        with console.phase("table"), world.together("the feature encoder's output"):
            use_features(run, console)
        seconds, share = time.perf_counter() - begin, training_share(parts.model, run.data)
        state.train_seconds += share * seconds
        state.eval_seconds += (1 - share) * seconds
        config = run.config
    console.release(world.broadcast(console.warned))
    with world.together("the run's folder"):
        runlog, files, watch = _open_logs(run, state, console) if world.is_first else (SilentLog(state), None, None)
    dynamics = LossRecorder(world, files, len(run.data.train), config.train.eval_every, console.warn)
    saver = make_saver(parts, run_dir, config.train.save_total_limit, fingerprint, console.warn)
    profiler = StepProfiler(run_dir, config.profile if world.is_first else 0, parts.device, console.say)

    def finish() -> bool:
        with console.phase("table"):
            run.finish_sealing()
        with console.phase("saves"):
            return saver.finish()

    gc.collect()
    gc.freeze()  # what was prepared lives to the end: later collections need not look at a whole corpus' objects
    with flag.waiting_for_the_step():
        try:
            with console.phase("training"):
                complete = _fit(run, state, saver, runlog, dynamics, console, flag, profiler)
        except BaseException as error:
            if not finish() and isinstance(error, TrainingStopped | LoaderError | AudioError):
                raise SaveError(f"{error} Step {state.step} is not saved: --resume starts before it.") from None
            raise
        finally:
            runlog.close_bar()
            profiler.finish()
            gc.unfreeze()
    if flag() or not complete:
        saved = finish()
        runlog.close()
        console.tell_time(runlog.first_step)
        console.say(f"stopped at step {state.step} of {run.total_steps}; go on with the same command and --resume")
        return flag.exit_code if saved else SAVE_FAILED
    saved = _close(run, state, runlog, watch, argv, console, finish)
    return 0 if saved else SAVE_FAILED


def _open_logs(run: PreparedRun, state: TrainState, console: Console) -> tuple[RunLog, LossFiles, Watch]:
    """The log, the files of losses and the watch over the log, in the run's folder. For the first rank."""
    run_dir, is_new = run.config.run_dir, state.step == 0
    write_text(run_dir / "config.json", to_json(run.config))  # from here on the folder holds a run
    with console.phase("estimate"):
        facts = keep_facts(run_dir, lambda: facts_of(run, probes=is_new), is_new=is_new)
    watch = Watch(run.config, facts)
    runlog = RunLog(
        run_dir, console, state, run.data.vocab, total_steps=run.total_steps, steps_per_epoch=run.plan.num_steps(0),
        device=run.parts.device, watch=watch, flops_share=flops_share(run),
    )  # fmt: skip
    if is_new:
        runlog.board.begin(run.plan, run.monitor)
    ids = {"train": ids_of(run.data.train), "evaluations": ids_of(run.monitor.examples)}
    return runlog, LossFiles(run_dir, ids, state.step, console.warn), watch


def _close(
    run: PreparedRun, state: TrainState, runlog: RunLog | SilentLog, watch: Watch | None,
    argv: Sequence[str] | None, console: Console, finish: Callable[[], bool],
) -> bool:  # fmt: skip
    """Score and write what the run leaves. Returns what `finish` does: whether all saves reached the disk."""
    world = run.parts.world
    try:
        try:
            if isinstance(runlog, RunLog) and watch is not None:
                return close_run(run, state, runlog, watch, argv, finish)
            return score_with_first(run, state, console, finish)
        finally:
            no_late_failure = finish()
    except torch.OutOfMemoryError as error:
        reason = str(error).splitlines()[0]
        kept = "All steps are" if no_late_failure else f"Step {state.step} is not"
        raise world.told(
            TrainingStopped(
                f"out of memory in the closing evaluation or the export ({reason}). {kept} saved. Free the device of "
                "other programs, or split the longest utterances; then --resume."
            )
        ) from None
    except (OSError, SafetensorError, CheckpointError) as error:
        raise world.told(
            SaveError(
                f"{run.config.run_dir}: training is over, but its results could not be written ({error}). Free some "
                "space or mend the disk, then --resume."
            )
        ) from None


def _fit(
    run: PreparedRun, state: TrainState, saver: Saver | SilentSaver, runlog: RunLog | SilentLog,
    dynamics: LossRecorder, console: Console, flag: StopFlag, profiler: StepProfiler,
) -> bool:  # fmt: skip
    parts, config, world = run.parts, run.config, run.parts.world
    bar = partial(console.progress, desc="evaluating", unit="batch")

    def is_asked_to_stop() -> bool:
        if flag():
            world.ask_to_stop()
        return flag() or world.is_asked_to_stop()

    def save() -> None:
        with console.phase("saves"):
            runlog.flush()  # the log and the losses must be on the disk before the checkpoint that continues them
            saver.save(parts, state, dynamics.collect())

    def save_best() -> None:
        with console.phase("saves"):
            saver.save_best(parts.model, state)

    def score() -> Scores:
        shown = followed_positions(run.monitor)
        with console.phase("evaluations"):
            return evaluate(
                parts.model,
                run.monitor,
                parts.device,
                parts.autocast,
                bar,
                is_asked_to_stop,
                parts.graphs,
                shown,
                world,
            )

    return fit(
        parts,
        run.loader,
        state,
        config.train,
        max_grad_norm=config.optim.max_grad_norm,
        total_steps=run.total_steps,
        score=score,
        save_best=save_best,
        save=save,
        runlog=runlog,
        dynamics=dynamics,
        must_stop=lambda: profiler.at_step(state.step) or is_asked_to_stop(),
    )
