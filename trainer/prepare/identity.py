"""The identity of a run: everything that can shape its weights. Files count by their content, not by their path."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from types import MappingProxyType
from typing import Any

import torch
import transformers
from torch import nn

from data.config import CorpusConfig, options_marked
from data.corpora import KINDS
from data.examples.example import Example
from data.examples.table import ExampleTable, digests_of, ids_of, lengths_of, texts_in
from models.encoder import DIGEST, weights_digest
from trainer.config.as_json import GONE, flatten
from trainer.config.schema import Config
from trainer.errors import CheckpointError, ConfigError
from trainer.parallel.world import World
from trainer.prepare.corpus import PreparedCorpus

FREE = {
    "preset", "name", "seeds", "runs_dir", "cache_dir", "device", "precision", "auto_precision", "resume", "overwrite",
    "check", "lr_finder", "overfit",
    "card_memory", "profile", "processes", "backend", "parallel",
    "strict", "allow_changes", "batching.num_workers", "batching.worker_timeout", "train.log_every", "train.save_every",
    "train.save_total_limit", "train.max_skips", "train.export", "model.pretrained", "model.revision",
    "model.activation_checkpointing", "model.cache_features", "report", "push_to_hub",
    "eval.batch_size", "eval.max_batch_seconds",
}  # fmt: skip
"""Options that a resumed run may change. Some cannot shape the weights (cached features and batches of evaluation: only
by rounding). The effect of the others is compared by content: corpus, initial weights, precision. A corpus marks its
own as free (data.config.option)."""

OWN = {"runs_dir", "cache_dir", "device", "model.pretrained", "batching.num_workers", "batching.worker_timeout"}
"""Options that may differ between the processes of a run, as where files lie on a host. What is in them is compared."""

PLAIN = ("torch", "transformers", "bitsandbytes", "device", "precision")
"""Content that is told as it is, and not as a digest."""


def identity(
    config: Config, data: PreparedCorpus, model: nn.Module, device: torch.device, precision: str
) -> dict[str, Any]:
    """What every checkpoint stores about its run. It is taken before the first step."""
    free = FREE | _free_options_of(type(config.corpus))
    return {
        "options": {k: v for k, v in flatten(config).items() if k not in free},
        "content": {
            f"corpus {data.corpus.splits.train}": corpus_digest(data.train),
            **{f"corpus {split}": corpus_digest(examples) for split, examples in data.evaluation.items()},
            "initial weights": weights_digest(model),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "device": device.type,
            "precision": precision,
            **({"bitsandbytes": version("bitsandbytes")} if config.optim.moments == "8bit" else {}),
        },
        "tokens": list(data.vocab.tokens),
    }


def compare(
    where: str, theirs: Mapping[str, Any], ours: Mapping[str, Any], allowed: Sequence[str],
    defaults: Mapping[str, Any] = MappingProxyType({}),
) -> list[str]:  # fmt: skip
    """The differences that `allowed` names, one line each. CheckpointError lists all others.

    An option that only we have, since an older version wrote the checkpoint, had the value in `defaults` there. What
    such a version did not note of the content cannot be compared: see `unknown_to`.

    Another vocabulary cannot be allowed, since the head's columns would change their meaning.
    """
    _compare_vocabularies(where, theirs["tokens"], ours["tokens"])
    free = FREE.union(*map(_free_options_of, KINDS.values()))
    not_noted = unknown_to(theirs, ours)
    changes = {}
    for part in ("options", "content"):
        for key in sorted({**theirs[part], **ours[part]}):
            if key in not_noted[part] and (part == "content" or key in defaults):
                before = _as_json(defaults[key]) if part == "options" else _as_json(ours[part][key])
            else:
                before = theirs[part].get(key)
            now = _as_json(ours[part].get(key))
            # an older version may have stored what is free now, or what does not exist any more
            is_past = part == "options" and key not in ours[part]
            if before != now and not (is_past and (key in free or (key in GONE and before == GONE[key]))):
                hidden = part == "content" and key not in PLAIN
                what = "content differs" if hidden else f"{before} before, {now} now"
                if key == "initial weights" and not str(before).startswith(DIGEST):
                    what = "not comparable, since an older version of this program hashed them in another way"
                changes[key.replace(" ", "-")] = what
    refused = {key: what for key, what in changes.items() if key not in allowed}
    if refused:
        listed = "; ".join(f"{key}: {what}" for key, what in refused.items())
        raise CheckpointError(
            f"{where} belongs to a run with other settings ({listed}). Start another run with --name, or go on with "
            f"the change: --allow-changes {' '.join(refused)}"
        )
    return [f"{key}: {what}" for key, what in changes.items()]


def unknown_to(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> dict[str, list[str]]:
    """What a version that had not all of our options noted neither of "options" nor of "content"; else nothing."""
    options, content = ([key for key in ours[part] if key not in theirs[part]] for part in ("options", "content"))
    return {"options": options, "content": content if options else []}


def refuse_other_commands(world: World, config: Config) -> None:
    """ConfigError when ranks were given other options: a process that saves, scores or resumes when others do not would
    wait for them for ever."""
    own = OWN.union(options_marked("place", type(config.corpus)))
    own |= {f"corpus.{name}" for name in own}
    refuse_mixed(world, {"options": {key: value for key, value in flatten(config).items() if key not in own}})


def refuse_mixed(world: World, ours: Mapping[str, Any]) -> None:
    """ConfigError when ranks have read other corpora, weights or options: it names the first difference from rank 0."""
    if world.is_alone:
        return
    digest = hashlib.blake2b(json.dumps(ours, sort_keys=True).encode(), digest_size=16).hexdigest()
    if len(set(world.gather(digest))) == 1:
        return
    of_ranks = world.gather({"host": world.host, **ours})
    for rank, theirs in enumerate(of_ranks):
        for part in ("content", "options", "tokens", "model"):
            if theirs.get(part) != of_ranks[0].get(part):
                remedy = "All processes of a run read the same: give each host the same files."
                if part == "options":
                    remedy = "Start all processes with the same command."
                raise world.told(
                    ConfigError(
                        f"rank {rank} on {theirs['host']} differs from rank 0 on {of_ranks[0]['host']} in "
                        f"{_first_difference(part, theirs[part], of_ranks[0][part])}. {remedy}"
                    )
                )


def _first_difference(part: str, theirs: Any, first: Any) -> str:
    if not isinstance(theirs, Mapping):
        return part
    key = next(key for key in sorted({**theirs, **first}) if theirs.get(key) != first.get(key))
    if part == "content" and key not in ("torch", "transformers", "device", "precision"):
        return f"the content of {key}"
    name = f"--{key.replace('_', '-')}" if part == "options" else key
    return f"{name} is {theirs.get(key)}, not {first.get(key)}"


def corpus_digest(examples: Sequence[Example]) -> str:
    """A hash of ids, transcripts, lengths and, where audio is stored, every encoded byte. Paths are not part of it."""
    if isinstance(examples, ExampleTable) and examples.digest:
        return examples.digest
    digest = hashlib.blake2b(digest_size=16)
    lengths = lengths_of(examples).tolist()
    for said in zip(ids_of(examples), texts_in(examples), lengths, digests_of(examples), strict=True):
        digest.update(json.dumps(said).encode())
    return digest.hexdigest()


def _free_options_of(kind: type[CorpusConfig]) -> set[str]:
    return {f"corpus.{name}" for name in options_marked("free", kind)}


def _as_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _compare_vocabularies(where: str, theirs: Sequence[str], ours: Sequence[str]) -> None:
    if list(theirs) != list(ours):
        i = next((i for i, (a, b) in enumerate(zip(theirs, ours, strict=False)) if a != b), None)
        i = min(len(theirs), len(ours)) if i is None else i
        a, b = (repr(t[i]) if i < len(t) else "none" for t in (theirs, ours))
        raise CheckpointError(
            f"{where}: its vocabulary has {len(theirs)} units, this run's has {len(ours)}; first difference at id {i} "
            f"({a} / {b}). Start another run with --name."
        )
