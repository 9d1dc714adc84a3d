"""Runs of several processes that are made to fail, under torchrun and without it (see harness).

    group = start_ranks(corpus, runs, 4, ("on_rank", {"rank": 1, "name": "kill_in_step", "step": 5}))
    codes = group.wait()
    victim = start_torchrun(corpus, runs, nproc_per_node=3, max_restarts=20)

No dropout here: it differs with the number of ranks. Everything else that is drawn does not, LayerDrop included.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from tests.helpers.faults.harness import Corpus, Fault, Victim, make_corpus, server
from tests.helpers.ranks import free_port

# 10 utterances in batches of 4, 4 and 2, two batches a step: epochs of 2 steps, the last of them with one batch
OPTIONS = [
    "manifest", "--model.size", "demo", "--model.hidden-dropout", "0", "--model.attention-dropout", "0",
    "--model.activation-dropout", "0", "--model.feat-proj-dropout", "0", "--model.layerdrop", "0.2",
    "--model.mask-time-prob", "0.3", "--model.mask-time-length", "3", "--augment.speeds", "0.9", "1.1",
    "--batching.batch-size", "4", "--train.grad-accum-steps", "2", "--train.epochs", "50",
    "--eval.batch-size", "2", "--train.log-every", "2", "--train.eval-every", "3", "--train.save-every", "4",
    "--train.save-total-limit", "2", "--optim.warmup-steps", "2", "--optim.lr", "1e-3", "--device", "cpu",
    "--name", "run", "--no-report",
]  # fmt: skip


def corpus_of_ranks(folder: Path) -> Corpus:
    """Tones under `folder`, decoded."""
    corpus = make_corpus(folder / "corpus")
    run_ranks(corpus, corpus.folder / "warm-up", 1, more=("--train.max-steps", "3"))  # fills the cache of audio
    return corpus


def options(corpus: Corpus, runs: Path, *more: str) -> list[str]:
    """The command line of a run in `runs`; what comes later counts."""
    places = ["--corpus.train", str(corpus.folder / "train.jsonl"), "--corpus.eval", str(corpus.folder / "eval.jsonl"),
              "--runs-dir", str(runs), "--cache-dir", str(corpus.cache)]  # fmt: skip
    return [*OPTIONS, *places, *more]


@dataclass
class Group:
    """The ranks of one start."""

    ranks: list[Victim]

    def wait(self) -> list[int]:
        """Exit codes, or minus the signals that ended them."""
        return [victim.wait() for victim in self.ranks]

    @property
    def said(self) -> str:
        return self.ranks[0].said


def start_ranks(
    corpus: Corpus, runs: Path, size: int, *faults: Fault, more: Sequence[str] = (), log: str = "log"
) -> Group:
    """`size` ranks of one host, without a torchrun: nobody starts them again. One rank is a process alone."""
    runs.mkdir(parents=True, exist_ok=True)
    port, noted = free_port(), ("note_batches", {"folder": str(runs)})
    ranks = []
    for rank in range(size):
        names = {"RANK": rank, "WORLD_SIZE": size, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": size,
                 "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}  # fmt: skip
        environment = {name: str(value) for name, value in names.items()} if size > 1 else {"RANK": "0"}
        argv = options(corpus, runs, *more)
        ranks.append(server().start(argv, noted, *faults, log=runs / log, environment=environment))
    return Group(ranks)


def run_ranks(
    corpus: Corpus, runs: Path, size: int, *faults: Fault, more: Sequence[str] = (), codes: Sequence[int] | int = 0
) -> str:
    """A start to its end, which must be `codes`; what the ranks said."""
    group = start_ranks(corpus, runs, size, *faults, more=more)
    found = group.wait()
    expected = [codes] * size if isinstance(codes, int) else list(codes)
    assert found == expected, f"exit codes {found}, not {expected}:\n{group.said}"
    return group.said


def start_torchrun(
    corpus: Corpus, runs: Path, *faults: Fault, more: Sequence[str] = (), log: str = "log", endpoint: str = "",
    node: int | None = None, **launch: Any,
) -> Victim:  # fmt: skip
    """A torchrun that starts its ranks again. `launch`: fields of torch's LaunchConfig.

    `endpoint` is that of all nodes, of which `node` 0 holds the store.
    """
    runs.mkdir(parents=True, exist_ok=True)
    config = {"min_nodes": 1, "max_nodes": 1, "nproc_per_node": 2, "run_id": "none", "rdzv_backend": "c10d",
              "rdzv_endpoint": endpoint or f"127.0.0.1:{free_port()}", "local_addr": "127.0.0.1"} | launch  # fmt: skip
    if node is not None:
        config["rdzv_configs"] = {"is_host": str(node == 0).lower(), **config.get("rdzv_configs", {})}
    noted = ("note_batches", {"folder": str(runs)})
    # with torch 2.13's own default a node that joins later never hears where the others' store is
    environment = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"} if config["max_nodes"] > 1 else {}
    argv = options(corpus, runs, *more)
    return server().start(argv, noted, *faults, log=runs / log, environment=environment, torchrun=config)


def steps_read(runs: Path) -> dict[int, list[list[list[str]]]]:
    """step -> what was read for it, by attempt: the ids of each of its batches, all ranks together, sorted.

    An attempt is of ranks that started together, and counts when all of them came to it. Each rank notes a step before
    it takes it.
    """
    attempts: dict[int, dict[float, dict[int, dict]]] = {}
    notes = [json.loads(line) for path in runs.glob("rank*.jsonl") for line in path.read_text().splitlines()]
    for note in sorted(notes, key=lambda note: note["start"]):
        attempts.setdefault(note["step"], {}).setdefault(note["start"], {})[note["rank"]] = note
    found: dict[int, list[list[list[str]]]] = {}
    for step, of_step in attempts.items():
        for by_rank in of_step.values():
            if len(by_rank) == next(iter(by_rank.values()))["ranks"]:
                batches = zip(*(note["ids"] for note in by_rank.values()), strict=True)
                found.setdefault(step, []).append([sorted(i for ids in batch for i in ids) for batch in batches])
    return dict(sorted(found.items()))


def read_as_planned(attempts: dict[int, list], plan: dict[int, list]) -> bool:
    """Whether every step was read, and every attempt at it read what the plan says, in its order."""
    return attempts.keys() == plan.keys() and all(
        a == plan[step][0] for step, of_step in attempts.items() for a in of_step
    )


def weights_of(run_dir: Path) -> dict[str, torch.Tensor]:
    """The weights of the newest checkpoint."""
    return load_file(max((run_dir / "checkpoints").glob("step-????????")) / "model.safetensors")


def largest_difference(run_dir: Path, expected: dict[str, torch.Tensor]) -> float:
    """The largest absolute difference between two sets of weights."""
    found = weights_of(run_dir)
    assert found.keys() == expected.keys()
    return max(float((found[name].double() - expected[name].double()).abs().max()) for name in expected)
