"""The named recipes: Python functions that return a Config. `python -m trainer.run NAME --group.option value`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from data.config import AugmentConfig, BatchingConfig, CorpusConfig
from data.corpora import KINDS
from data.corpora.manifest import ManifestConfig
from data.corpora.synthetic import SyntheticConfig
from data.corpora.timit import TimitConfig
from models.config import ModelConfig
from trainer.config.schema import Config, EvalConfig, OptimConfig, TrainConfig


def demo() -> Config:
    """random weights on a synthesised TIMIT-shaped corpus: CPU, minutes"""
    return Config(
        preset="demo",
        corpus=SyntheticConfig(size="demo"),
        model=ModelConfig(size="demo"),
        batching=BatchingConfig(batch_size=16),
        augment=AugmentConfig(speeds=(0.85, 0.925, 1.0, 1.075, 1.15)),
        train=TrainConfig(epochs=20, eval_every=100, save_every=400),
    )


def timit_hf() -> Config:
    """the reference run (unispeech-large-1500h-cv-timit, WER 0.2196), faithful: all 4620/1680 utterances"""
    return Config(
        preset="timit-hf",
        corpus=TimitConfig(protocol="hf", normalizer="hf-timit", vocabulary="new", bos_eos=True),
        model=ModelConfig(
            pretrained="microsoft/unispeech-large-1500h-cv",  # so lr is 1e-4 and the feature encoder is frozen
            hidden_dropout=0.0,
            attention_dropout=0.0,
            activation_dropout=0.0,
            feat_proj_dropout=0.0,
            final_dropout=0.0,
            layerdrop=0.0,
            mask_time_prob=0.05,
            mask_time_length=10,
            mask_time_min_masks=2,
            mask_feature_prob=0.0,
            mask_feature_length=10,
            mask_feature_min_masks=0,
        ),
        batching=BatchingConfig(batch_size=32),
        optim=OptimConfig(warmup_steps=1000, weight_decay=0.005, max_grad_norm=1.0),
        train=TrainConfig(epochs=20, log_every=10, eval_every=100, save_every=400, save_total_limit=3),
        eval=EvalConfig(batch_size=128, max_batch_seconds=640.0),
        auto_precision="fp16",
    )


def timit() -> Config:
    """the honest TIMIT protocol: no SA sentences, dev selects the weights, core-192 is the headline"""
    return Config(
        preset="timit",
        corpus=TimitConfig(protocol="kaldi", normalizer="plain"),
        model=ModelConfig(pretrained="microsoft/unispeech-large-1500h-cv"),
        batching=BatchingConfig(batch_size=32),
        train=TrainConfig(epochs=20, export="best"),
        eval=EvalConfig(batch_size=128, max_batch_seconds=640.0),
    )


def demo_phones() -> Config:
    """the demo's phones in place of its words: phone error rate"""
    config = demo()
    return replace(config, preset="demo-phones", corpus=SyntheticConfig(size="demo", units="phones39"))


def timit_phones() -> Config:
    """as timit, with phones in 39 classes: TIMIT's own benchmark"""
    config = timit()
    return replace(config, preset="timit-phones", corpus=TimitConfig(protocol="kaldi", units="phones39"))


def _of_corpus(kind: type[CorpusConfig]) -> Callable[[], Config]:
    """The preset that a kind of corpus has without a function of its own here."""

    def preset() -> Config:
        return Config(preset=kind.preset, corpus=kind())

    preset.__doc__ = (kind.__doc__ or "").partition("\n\n")[0]
    return preset


def _all_presets() -> dict[str, Callable[[], Config]]:
    presets: dict[str, Callable[[], Config]] = {
        "demo": demo,
        "demo-phones": demo_phones,
        "timit-hf": timit_hf,
        "timit": timit,
        "timit-phones": timit_phones,
    }
    for kind in sorted(KINDS.values(), key=lambda kind: kind is not ManifestConfig):  # first what most people need
        if kind.preset in presets:
            raise ImportError(
                f"{kind.__module__}.{kind.__name__}: {kind.preset!r} is a preset already. Give it another.",
                name=kind.__module__,
            )
        if kind.preset:
            presets[kind.preset] = _of_corpus(kind)
    return presets


PRESETS = _all_presets()
"""Name -> function that makes its Config, in the order of `--help`."""
