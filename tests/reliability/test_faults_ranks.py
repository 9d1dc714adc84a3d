"""Kills at random under torch's own agent, which starts the processes again. tests/distributed has the others.

The reference is the run of as many processes that nothing happens to. Row P6 of the matrix in docs/reliability.md.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.helpers.faults.harness import Corpus, Count, differences, fingerprint
from tests.helpers.faults.ranks import corpus_of_ranks, read_as_planned, run_ranks, start_torchrun, steps_read
from tests.helpers.faults.starts import Killer

pytestmark = [pytest.mark.slow, pytest.mark.reliability]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return corpus_of_ranks(tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize(
    ("parallel", "num_ranks", "num_kills"), [("ddp", 2, 7), ("ddp", 3, 7), ("ddp", 4, 6), ("fsdp", 2, 4)]
)
def test_a_run_survives_random_kills(
    parallel: str, num_ranks: int, num_kills: int, corpus: Corpus, tmp_path: Path, count: Count
) -> None:
    """24 kills on 2, 3 and 4 processes, of a random rank at a random time: some before the first step of a start."""
    count(injected=num_kills, resumes=num_kills)
    steps, rng = ("--train.max-steps", "30", "--parallel", parallel), random.Random(num_ranks)
    run_ranks(corpus, tmp_path / "whole", num_ranks, more=steps)
    runs = tmp_path / "killed"
    torchrun = start_torchrun(corpus, runs, more=steps, max_restarts=num_kills, nproc_per_node=num_ranks)
    killer = Killer(runs, torchrun, num_ranks)
    for _ in range(num_kills):
        steps_later = rng.choice([None, 1, 2, 3])
        killer.kill(rng.randrange(num_ranks), steps_later, rng.uniform(0.0, 2.0 if steps_later is None else 0.2))
    assert torchrun.wait() == 0, torchrun.said
    assert read_as_planned(steps_read(runs), steps_read(tmp_path / "whole"))
    assert differences(runs / "run", fingerprint(tmp_path / "whole" / "run")) == []
    count(survived=num_kills, bit_exact=num_kills)
