"""From a Config to a run that can take its first step, or to a model that can be scored. `pieces` builds the parts."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from data.batches.loading import TrainLoader
from data.batches.plan import BatchPlan
from data.examples.table import lengths_of, waits_for_network
from data.faults import Faults
from data.utterance import SAMPLE_RATE, Corpus, Splits
from models.checkpoints.pretrained import EncoderSource, read_encoder
from models.checkpoints.trust import refuse_what_is_no_checkpoint
from models.checkpoints.weights import LoadReport, refuse_new_head
from models.config import AttentionKernel
from models.ctc import CTCModel
from models.feature_table import FeatureTable
from models.lengths import UtteranceLengths, write_lengths
from trainer.cli.console import Console
from trainer.config.schema import Config
from trainer.device import choose_device, choose_precision, out_of_memory_by_name
from trainer.errors import ConfigError
from trainer.loop.step import TrainingParts
from trainer.parallel.world import ALONE, World
from trainer.prepare.attention import choose_attention
from trainer.prepare.corpus import PreparedCorpus, prepare_corpus, read_corpus
from trainer.prepare.features.table import num_table_bytes, open_table, table_examples, wants_cache
from trainer.prepare.pieces import build_eval_sets, build_model, build_parts, build_train_loader, plan_batches
from trainer.prepare.ranks import shares_of
from trainer.prepare.shapes import with_shapes
from trainer.prepare.sharing import Sharing, choose_sharing, place
from trainer.prepare.steps import planned_steps
from trainer.rundir.model_source import find_model
from trainer.scoring.evaluate import EvalSet


@dataclass
class PreparedRun:
    """A run that is ready for its first step."""

    config: Config
    data: PreparedCorpus
    parts: TrainingParts
    plan: BatchPlan
    total_steps: int
    loader: TrainLoader
    eval_sets: dict[str, EvalSet]
    load_report: LoadReport | None
    precision: str
    table_was_asked_for: bool
    """Whether the user gave --model.cache-features; otherwise it was chosen here."""
    sharing: Sharing
    """What each of several processes holds of the model."""
    encoder: EncoderSource | None = None
    """What the checkpoint said of itself."""
    attention: str | None = None
    """Which kernel of attention was chosen, and why; None where torch chooses."""
    asked: Config | None = None
    """The options as they came, before data and device decided what was left open; None: as in `config`."""

    _sealing: threading.Thread | None = None

    def start_sealing(self, seal: Callable[[], None]) -> None:
        """Let a thread write the table of features, or hash it. The interpreter waits for it too."""
        self._sealing = threading.Thread(target=seal, name="seal-features")
        self._sealing.start()

    def finish_sealing(self) -> None:
        """Wait until the table of features is on the disk, or a warning has said why it is not."""
        if self._sealing is not None:
            self._sealing.join()

    @property
    def do_normalize(self) -> bool:
        """Whether waveforms are normalised to mean 0 and variance 1."""
        return self.loader.dataset.frontend.do_normalize

    @property
    def monitor(self) -> EvalSet:
        """The split that is scored during training."""
        return self.eval_sets[self.data.corpus.splits.monitor]


@dataclass(frozen=True)
class ScoredModel:
    """A trained model, with the splits to score it on."""

    model: CTCModel
    data: PreparedCorpus
    eval_sets: dict[str, EvalSet]
    load_report: LoadReport | None
    device: torch.device


def read_inputs(
    config: Config,
    console: Console,
    *,
    training: bool = True,
    faults: Faults | None = None,
    corpus: Corpus | None = None,
) -> tuple[Config, EncoderSource, PreparedCorpus]:
    """`config` with the resolved hub commit, and the encoder and the corpus that it names.

    A folder that is not a model is refused first. Then the corpus is read, so that an error in it need not wait for the
    download of an encoder. Without `training`, only the utterances to score are prepared. The first fault of the corpus
    is an error; where `faults` collects, the preparation goes on with what is sound. `corpus` is one that a program
    hands over.
    """
    with console.phase("model"):
        if config.model.pretrained is not None:
            source = find_model(config.model.pretrained, console.say)
            refuse_what_is_no_checkpoint(source)
            config = replace(config, model=replace(config.model, pretrained=source))
    with console.phase("corpus"):
        utterances = read_corpus(config, console, training=training, faults=faults, corpus=corpus)
    with console.phase("model"):
        encoder = read_encoder(config.model)
        if encoder.pretrained is not None and encoder.pretrained.commit:
            config = replace(config, model=replace(config.model, revision=encoder.pretrained.commit))
        for note in () if encoder.pretrained is None else encoder.pretrained.notes:
            console.warn(note)
    with console.phase("corpus"):
        return config, encoder, prepare_corpus(config, utterances, encoder, console, training=training)


def prepare_scoring(
    config: Config, device: torch.device, num_workers: int, console: Console, corpus: Corpus | None = None
) -> ScoredModel:
    """The checkpoint that `config` names, which must have a CTC head, and its corpus, ready to be scored."""
    config, encoder, data = read_inputs(config, console, training=False, corpus=corpus)
    with console.phase("model"):
        model, load_report = build_model(config, encoder, data, device)
    if load_report is not None:
        refuse_new_head(str(config.model.pretrained), load_report)
    eval_sets = build_eval_sets(config, data, model, num_workers, encoder.do_normalize)
    return ScoredModel(model, data, eval_sets, load_report, device)


def prepare(
    config: Config, console: Console, faults: Faults | None = None, corpus: Corpus | None = None, world: World = ALONE
) -> PreparedRun:
    """Prepare a run up to its first step: corpus, vocabulary, model, plan, optimizer.

    `faults` and `corpus`: see read_inputs. Of several ranks, one on each host fills the cache for the others.
    """
    given = config
    if config.deterministic:
        # cuBLAS reads this when CUDA starts, which has not happened yet
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False
    device = choose_device(config.device, None if world.size == 1 else world.launch.local_rank)
    precision = choose_precision(config.precision, config.auto_precision, device)
    if config.model.cuda_graphs and device.type != "cuda":
        raise ConfigError("--model.cuda-graphs needs CUDA, which is not here: leave it out.")
    if config.model.attention and device.type != "cuda":
        raise ConfigError(f"--model.attention {config.model.attention} needs CUDA, which is not here: leave it out.")
    # What fails on one host alone has to be known to all before they talk in any other way: they would wait for it
    with world.together("the corpus and the weights, which each host reads"):
        with world.local_first("the corpus, which one process of each host prepares"):
            config, encoder, data = read_inputs(config, console, faults=faults, corpus=corpus)
        config = replace(config, processes=world.size, backend=world.backend)
        config = with_export(config, data.corpus.splits)
        with console.phase("model"):
            model, load_report = build_model(config, encoder, data, torch.device("cpu"))
    with console.phase("model"):
        sharing = choose_sharing(config, model, precision, device, world)
        with world.together("the model, which each process brings to its device"):
            place(model, sharing, precision, device, world)
    write_lengths(model.hf.config, UtteranceLengths.of((lengths_of(data.train) / SAMPLE_RATE).tolist()))
    with console.phase("plan"):
        config = with_shapes(config, model, device)
        plan = plan_batches(config, data, model, world.size)
        shares = shares_of(plan, model, world)
        total_steps = planned_steps(plan, config.train.max_steps, Path(config.cache_dir))
        kernel, attention = world.broadcast(choose_attention(config, model, plan, device, precision))
        config, model.attention_kernel = with_attention(config, kernel), kernel
    cached = wants_cache(config, model, num_table_bytes(model, table_examples(data)), total_steps / plan.num_steps(0))
    cached = world.broadcast(cached)  # a resumed run's choice is read from its folder, which other hosts may not have
    asked, config = bool(config.model.cache_features), with_cache(config, cached)
    with console.phase("model"), world.together("the optimizer"):
        config, parts = build_parts(config, model, device, precision, total_steps, console.warn, world)
    on_cuda, num_workers = device.type == "cuda", config.batching.num_workers
    if num_workers is None:
        num_workers = 2 if on_cuda or waits_for_network(data.train) else 0
    loader = build_train_loader(config, data, model, plan, num_workers, on_cuda, encoder.do_normalize, shares)
    eval_sets = build_eval_sets(config, data, model, num_workers, encoder.do_normalize)
    return PreparedRun(
        config,
        data,
        parts,
        plan,
        total_steps,
        loader,
        eval_sets,
        load_report,
        precision,
        asked,
        sharing,
        encoder,
        attention,
        given,
    )


def use_features(run: PreparedRun, console: Console) -> None:
    """Let training and its evaluations read the frozen feature encoder's output from a table, which is computed now
    unless it is on the disk.

    When the disk or the device has no room: ConfigError if the user asked for the table, else a warning, and the run
    goes on without.
    """
    parts, frontend, world = run.parts, run.loader.dataset.frontend, run.parts.world
    table: FeatureTable | None = None
    try:
        first = world.local_first("the feature encoder's output, which one process of each host computes")
        with first, out_of_memory_by_name():
            table = open_table(
                parts.model, table_examples(run.data), Path(run.config.cache_dir), do_normalize=frontend.do_normalize,
                precision=run.precision, device=parts.device, autocast=parts.autocast, log=console.say,
                progress=partial(console.progress, desc="features", unit="call"), warn=console.warn,
                later=run.start_sealing,
            )  # fmt: skip
    except (OSError, torch.OutOfMemoryError) as error:
        reason = str(getattr(error, "strerror", None) or error).splitlines()[0]
        verb = "written" if isinstance(error, OSError) else "computed"
        what = f"{run.config.cache_dir}: the feature encoder's output cannot be {verb} ({reason})"
        if run.table_was_asked_for:
            raise ConfigError(
                f"{what}. Give another --cache-dir, or --model.no-cache-features to compute it in every step."
            ) from None
        console.warn(f"{what}; it is computed in every step, which takes longer. Another --cache-dir would spare that.")
    if not all(world.gather(table is not None)):  # in all ranks or in none, since the two round differently
        run.config = with_cache(run.config, False)
        return
    assert table is not None
    parts.features, monitored = table.split(len(run.data.train))
    run.loader.dataset.frontend = replace(
        frontend, first_rows=parts.features.first_rows, host_rows=table.host_rows(parts.device)
    )
    run.eval_sets[run.monitor.split] = replace(run.monitor, features=monitored)


def with_cache(config: Config, cached: bool) -> Config:
    """`config`, saying whether training uses a table of features."""
    return replace(config, model=replace(config.model, cache_features=cached))


def with_attention(config: Config, kernel: AttentionKernel | None) -> Config:
    """`config`, saying on which kernel attention runs."""
    return replace(config, model=replace(config.model, attention=kernel))


def with_export(config: Config, splits: Splits) -> Config:
    """`config` with --train.export chosen: the best weights where some split selects them or patience ends training."""
    best = splits.selects or config.train.patience is not None
    return replace(config, train=replace(config.train, export=config.train.export or ("best" if best else "last")))
