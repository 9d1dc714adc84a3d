"""From a Config to the parts that are trained: corpus, vocabulary, examples, model. Shared by training and scoring."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch.amp import GradScaler
from tqdm import tqdm
from transformers import PreTrainedConfig

from data.batching import BatchPlan
from data.collate import BatchDataset, Frontend, TrainLoader
from data.corpora import open_corpus
from data.prepare import Drops, Example, describe_conversions, num_reference_words, prepare_evaluation
from data.prepare import prepare_training, read_split, refuse_or_report
from data.randomness import derive_seed
from data.specaugment import SpecAugment
from data.store import open_store
from data.text import NORMALIZERS
from data.utterance import AudioSource, Corpus, CorpusError, Utterance
from data.vocab import Vocab
from models.config import ModelConfig
from models.ctc import CTCModel
from models.encoder import LoadReport, Pretrained, build_random, configure, load_pretrained, num_frames_function
from models.encoder import random_config, read_pretrained
from trainer.config import Config, ConfigError
from trainer.evaluate import EvalSet
from trainer.loop import Parts
from trainer.optim import build_optimizer, build_schedule
from trainer.runlog import Console


@dataclass(frozen=True)
class Encoder:
    """An encoder before its weights: enough to know frames and units."""

    config: PreTrainedConfig
    pretrained: Pretrained | None

    @property
    def do_normalize(self) -> bool:
        return self.pretrained.do_normalize if self.pretrained else True

    def num_frames(self) -> Callable[[int], int]:
        return num_frames_function(self.config.conv_kernel, self.config.conv_stride)


@dataclass
class Data:
    """What is read of a corpus: everything that training and scoring need, and what the card tells of it."""

    corpus: Corpus
    vocab: Vocab
    own_tokenizer: bool
    """The vocabulary is the checkpoint's, head included."""
    train: list[Example]
    evaluation: dict[str, list[Example]]
    drops: Drops
    unseen: dict[str, Counter[str]]


def read_encoder(model: ModelConfig) -> Encoder:
    """The configuration of random weights or of the checkpoint."""
    if model.pretrained is None:
        return Encoder(random_config(model), None)
    pretrained = read_pretrained(model.pretrained, model.revision)
    return Encoder(pretrained.config, pretrained)


def read_data(config: Config, encoder: Encoder, console: Console, *, training: bool = True) -> Data:
    """Read, check and (unless --corpus.no-store) decode a corpus; one line on the console for each thing to know.

    Without `training` only the evaluation splits are read and the vocabulary must be the checkpoint's.
    """
    c, cache_dir = config.corpus, Path(config.cache_dir)
    with _synthesis_bar(console) as progress:
        corpus = open_corpus(c, cache_dir, progress)
    splits, normalize = corpus.splits, NORMALIZERS[c.normalizer]
    utterances: list[Utterance] = read_split(corpus, splits.train) if training else []
    eval_splits = dict.fromkeys([splits.monitor, *splits.closing, *splits.unselected])
    eval_utterances = {split: read_split(corpus, split) for split in eval_splits}
    vocab, own = choose_vocabulary(c.vocabulary, [normalize(u.text) for u in utterances], encoder, c.bos_eos, training)

    train: list[Example] = []
    drops = Drops(splits.train, len(utterances))
    if training:
        train, drops = prepare_training(
            utterances, normalize, vocab, encoder.num_frames(),
            max_seconds=c.max_seconds, max_speed=max((1.0, *config.augment.speeds)),
            on_bad=c.on_bad, split=splits.train,
        )  # fmt: skip
    evaluation: dict[str, list[Example]] = {}
    unseen: dict[str, Counter[str]] = {}
    for split, of_split in eval_utterances.items():
        evaluation[split], unreadable, unseen[split] = prepare_evaluation(of_split, normalize, vocab, split=split)
        if unreadable.num_dropped:
            console.warn(f"{unreadable.describe('scored as deletions')}")
        if unseen[split]:
            shown = ", ".join(f"{char!r} {count}" for char, count in unseen[split].most_common(5))
            console.warn(f"{split}: {unseen[split].total()} characters were never seen in training ({shown})")
    everything = {id(u): u for u in [*utterances, *(u for s in eval_utterances.values() for u in s)]}
    if conversions := describe_conversions(list(everything.values())):
        console.say(conversions)
    if c.store:
        train, evaluation = _use_store(train, evaluation, drops, c.on_bad, cache_dir, console)
    if drops.num_dropped:
        console.warn(drops.describe())
    words = {split: num_reference_words(examples) for split, examples in evaluation.items()}
    if (checksum := corpus.checksum(words)) is not None:
        line, is_suspicious = checksum
        (console.warn if is_suspicious else console.say)(line)
    return Data(corpus, vocab, own, train, evaluation, drops, unseen)


def choose_vocabulary(
    rule: str, texts: Sequence[str], encoder: Encoder, bos_eos: bool, training: bool
) -> tuple[Vocab, bool]:
    """The vocabulary, and whether it is the checkpoint's own (then its head is kept too)."""
    pretrained = encoder.pretrained
    if pretrained is not None and pretrained.tokens is not None and (rule == "auto" or not training):
        with contextlib.suppress(CorpusError):
            num_units = pretrained.config.vocab_size
            # transformers adds <s> and </s> (and misread entries of old files) behind the head's last unit
            own = Vocab(pretrained.tokens[:num_units], **pretrained.special)
            if len(own) == num_units and own.fits(texts):
                return own, True
    if not training:
        raise CorpusError(
            f"{pretrained.source if pretrained else 'the model'}: has no tokenizer that matches its CTC head, so its "
            "output cannot be read. Give a folder that a training run exported, or a fine-tuned hub model."
        )
    return Vocab.build(texts, bos_eos=bos_eos), False


def build_model(
    config: Config, encoder: Encoder, data: Data, device: torch.device
) -> tuple[CTCModel, LoadReport | None]:
    """The model on its device, and what a checkpoint gave to it."""
    vocab, seed = data.vocab, derive_seed(config.seed, "weights")
    hf_config = configure(encoder.config, config.model, vocab_size=len(vocab), blank_id=vocab.blank_id)
    report = None
    if encoder.pretrained is None:
        hf_model = build_random(hf_config, seed)
    else:
        hf_model, report = load_pretrained(encoder.pretrained, hf_config, seed, keep_head=data.own_tokenizer)
    model = CTCModel(hf_model, freeze_feature_encoder=bool(config.model.freeze_feature_encoder))
    return model.to(device), report


def build_parts(
    config: Config, model: CTCModel, device: torch.device, precision: str, total_steps: int
) -> tuple[Config, Parts]:
    """Optimizer, schedule and scaler around `model`; and the Config with its warm-up resolved."""
    warmup = config.optim.warmup_steps
    if warmup is None:
        warmup = min(1000, total_steps // 10)
    if warmup >= total_steps:
        raise ConfigError(
            f"--optim.warmup-steps {warmup} is not below the {total_steps} planned steps. "
            "Lower the warm-up or train longer (--train.epochs, --train.max-steps)."
        )
    config = replace(config, optim=replace(config.optim, warmup_steps=warmup))
    optimizer = build_optimizer(model, config.optim)
    scheduler = build_schedule(optimizer, warmup, total_steps)
    scaler = GradScaler(device.type, enabled=precision == "fp16")
    return config, Parts(model, optimizer, scheduler, scaler, device, autocast_for(precision, device))


def plan_batches(config: Config, data: Data) -> BatchPlan:
    """Every batch of the run to come."""
    return BatchPlan(
        lengths=[e.num_samples for e in data.train],
        ids=[e.utterance.id for e in data.train],
        batching=config.batching,
        seed=config.seed,
        epochs=config.train.epochs,
        grad_accum_steps=config.train.grad_accum_steps,
        speeds=config.augment.speeds,
    )


def build_train_loader(config: Config, data: Data, model: CTCModel, plan: BatchPlan, num_workers: int, pin: bool,
                       do_normalize: bool) -> TrainLoader:  # fmt: skip
    """Batches with SpecAugment as the model's configuration has it."""
    hf = model.hf.config
    spec = SpecAugment(
        hidden_size=hf.hidden_size,
        time_prob=hf.mask_time_prob,
        time_length=hf.mask_time_length,
        time_min_masks=hf.mask_time_min_masks,
        feature_prob=hf.mask_feature_prob,
        feature_length=hf.mask_feature_length,
        feature_min_masks=getattr(hf, "mask_feature_min_masks", 0),  # WavLM's configuration has no such field
    )
    frontend = Frontend(model.num_frames, do_normalize, spec if getattr(hf, "apply_spec_augment", True) else None)
    return TrainLoader(BatchDataset(data.train, frontend, plan), plan, num_workers=num_workers, pin_memory=pin)


def build_eval_sets(
    config: Config, data: Data, model: CTCModel, num_workers: int, do_normalize: bool
) -> dict[str, EvalSet]:
    """Every evaluation split, ready to be scored."""
    frontend = Frontend(model.num_frames, do_normalize)
    return {
        split: EvalSet(split, examples, frontend, data.vocab, config.eval, num_workers)
        for split, examples in data.evaluation.items()
    }


def choose_device(name: str) -> torch.device:
    """The device that --device names; ConfigError when it is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise ConfigError(f"--device {name}: not usable here ({reason}).") from None
    return device


def choose_precision(config: Config, device: torch.device) -> str:
    """What --precision auto means on `device`."""
    if config.precision != "auto":
        if config.precision == "fp16" and device.type == "cpu":
            raise ConfigError("--precision fp16 needs CUDA: on a CPU use fp32.")
        return config.precision
    return config.auto_precision if device.type == "cuda" else "fp32"


def autocast_for(precision: str, device: torch.device) -> Callable[[], AbstractContextManager]:
    """A factory of autocast contexts; for fp32 one that does nothing."""
    if precision == "fp32":
        return contextlib.nullcontext
    dtype = torch.bfloat16 if precision == "bf16" else torch.float16
    return partial(torch.autocast, device.type, dtype=dtype)


def _use_store(
    train: list[Example],
    evaluation: dict[str, list[Example]],
    drops: Drops,
    on_bad: str,
    cache_dir: Path,
    console: Console,
) -> tuple[list[Example], dict[str, list[Example]]]:
    """The same examples, read from a store of decoded audio; what fails to decode is dropped or left at 0 samples."""
    sources: dict[str, AudioSource] = {}
    for example in [*train, *(e for examples in evaluation.values() for e in examples)]:
        if example.num_samples > 0:
            sources.setdefault(example.utterance.audio.identity, example.utterance.audio)
    position = {identity: i for i, identity in enumerate(sources)}
    try:
        store = open_store(
            list(sources.values()),
            cache_dir,
            log=console.say,
            progress=lambda items, total: console.progress(items, total, "decoding", "file"),
        )
    except OSError as error:
        raise CorpusError(
            f"{cache_dir}: the decoded audio cannot be written ({error.strerror or error}). "
            "Give another --cache-dir, or --corpus.no-store to decode on the fly."
        ) from None

    def stored(example: Example) -> Example:
        if example.num_samples == 0:
            return example
        i = position[example.utterance.audio.identity]
        if i in store.failures:
            return replace(example, num_samples=0)
        return replace(example, load=partial(store.load, i))

    kept, first_bad = [], ""
    for example in map(stored, train):
        if example.num_samples > 0:
            kept.append(example)
            continue
        message = store.failures[position[example.utterance.audio.identity]]
        drops.add("undecodable", example.utterance.id)
        first_bad = first_bad or f"{example.utterance.origin}: utterance {example.utterance.id}: {message}"
    if first_bad:
        refuse_or_report(drops, first_bad, on_bad)
    if train and not kept:
        raise CorpusError(f"{drops.describe()}. Nothing is left to train on.")
    scored = {split: list(map(stored, examples)) for split, examples in evaluation.items()}
    for split, examples in scored.items():
        failed = [e.utterance.id for e in examples if e.num_samples == 0 and e.utterance.audio.identity in position]
        if failed:
            names = ", ".join(failed[:3]) + (", ..." if len(failed) > 3 else "")
            console.warn(f"{split}: {len(failed)} of {len(examples)} fail to decode, scored as deletions ({names})")
    return kept, scored


@contextlib.contextmanager
def _synthesis_bar(console: Console) -> Iterator[Callable[[int, int], None]]:
    with tqdm(
        desc="synthesising", unit="speaker", file=console.stream, leave=False, disable=not console.is_terminal
    ) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield progress
