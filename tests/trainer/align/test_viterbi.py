"""The best path (trainer.align.viterbi) against every labelling of a few frames, and against torchaudio's.

pytest tests/trainer/align/test_viterbi.py
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch

from trainer.align.lattice import AFTER, BLANK, DELIMITER, FORCED, SPEECH, Costs, Lattice, Words
from trainer.align.viterbi import best_paths

COSTS = Costs(words=0.7, unit=0.4, speech=0.6, heard=0.0, delimiter=0.5)
Grammar = tuple[tuple[tuple[int, ...], ...], int | None, frozenset[int]]
BLANK_COLUMN, SPEECH_COLUMN = 0, -1


def random_case(seed: int, num_frames: int, *, delimiter: int | None = 1) -> tuple[torch.Tensor, Words]:
    """Emissions (T, 5) of blank, delimiter, a, b and speech, and one to three words of one or two units."""
    rng = np.random.default_rng(seed)
    log_probs = torch.from_numpy(2 * rng.standard_normal((num_frames, 4))).log_softmax(-1).float()
    relative = log_probs - log_probs.max(-1, keepdim=True).values
    speech = -torch.from_numpy(rng.random((num_frames, 1))).float()
    words = tuple(tuple(rng.integers(2, 4, rng.integers(1, 3)).tolist()) for _ in range(rng.integers(1, 4)))
    free = frozenset([int(rng.integers(0, len(words) + 1))]) if seed % 3 == 0 else frozenset[int]()
    return torch.cat([relative, speech], 1), Words(words, delimiter, 0, free)


def labellings(emissions: torch.Tensor, symbols: Sequence[int]) -> Iterator[tuple[list[int], float]]:
    """(Runs of equal symbols, sum of emissions) of every way to label the frames."""
    values = emissions.tolist()
    for labels in itertools.product(symbols, repeat=len(values)):
        yield (
            [symbol for symbol, _ in itertools.groupby(labels)],
            sum(row[symbol] for row, symbol in zip(values, labels, strict=True)),
        )


def forced_score(emissions: torch.Tensor, words: Words) -> float:
    """CTC's own definition: the best labelling that collapses to the units with delimiters between words."""
    target: list[int] = []
    for word in words.units:
        target += [words.delimiter] * (bool(target) and words.delimiter is not None) + list(word)  # type: ignore[list-item]
    found = [
        score
        for runs, score in labellings(emissions, range(4))
        if [run for run in runs if run != BLANK_COLUMN] == target
    ]
    return max(found, default=-math.inf)


def cost_of(runs: Sequence[int], words: Words) -> float:
    """The least cost of reading `runs` as the words, some left out, with speech between: a recursive descent."""
    last = len(words.units)
    between = [
        gap for n in range(4) for gap in itertools.product((BLANK_COLUMN, words.delimiter, SPEECH_COLUMN), repeat=n)
    ]

    def gap_cost(gap: tuple[int | None, ...], at: int) -> float:
        kinds = "".join({BLANK_COLUMN: "b", words.delimiter: "d", SPEECH_COLUMN: "s"}[symbol] for symbol in gap)
        if kinds not in ("", "b", "d", "bd", "db", "bdb", "s", "bs", "ds", "bds", "dbs"):
            return math.inf
        if "d" in kinds and words.delimiter is None:
            return math.inf
        opening = COSTS.speech * ("s" in kinds and at not in words.free)
        if at in (0, last) or words.delimiter is None or "d" in kinds or "s" in kinds:
            return opening
        return COSTS.delimiter if kinds == "b" else math.inf

    def rest(at: int, word: int, *, skipped: bool) -> float:
        """Ready to say `word` with runs[at:] left."""
        found = [math.inf]
        if word == last and at == len(runs):
            found.append(0.0)
        if not skipped:
            for later in range(word + 1, last + 1):
                left_out = COSTS.unit * sum(len(units) for units in words.units[word:later])
                found.append(COSTS.words + left_out + rest(at, later, skipped=True))
                if at < len(runs) and runs[at] == SPEECH_COLUMN:  # speech may stand on either side of them
                    opening = COSTS.speech * (later not in words.free)
                    found.append(COSTS.words + left_out + opening + rest(at + 1, later, skipped=True))
        if word < last:
            for end in said(at, words.units[word]):
                for gap in between:
                    if tuple(runs[end : end + len(gap)]) == gap:
                        # words are left out only in a gap that has a frame
                        found.append(gap_cost(gap, word + 1) + rest(end + len(gap), word + 1, skipped=not gap))
                if end == len(runs):  # at the end, words may be left out behind a word without a gap
                    found.append(rest(end, word + 1, skipped=False) if word + 1 < last else 0.0)
        return min(found)

    def said(at: int, units: Sequence[int]) -> list[int]:
        for i, unit in enumerate(units):
            if i and at < len(runs) and runs[at] == BLANK_COLUMN:
                at += 1
            if at >= len(runs) or runs[at] != unit:
                return []
            at += 1
        return [at]

    starts = [gap for gap in between if tuple(runs[: len(gap)]) == gap]
    return min(gap_cost(gap, 0) + rest(len(gap), 0, skipped=False) for gap in starts)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("delimiter", [1, None])
def test_a_forced_path_is_the_best_labelling_that_collapses_to_the_text(seed: int, delimiter: int | None) -> None:
    """Reference: all 4**6 labellings of 6 frames, to 1e-4 (float32 sums)."""
    emissions, words = random_case(seed, 6, delimiter=delimiter)
    _, [path] = best_paths([emissions], [words], FORCED)
    assert path.score == pytest.approx(forced_score(emissions, words), abs=1e-4)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("delimiter", [1, None])
def test_words_and_speech_are_left_out_exactly_where_that_costs_least(seed: int, delimiter: int | None) -> None:
    """Reference: all 5**5 labellings, each read by a recursive descent that knows nothing of lattices, to 1e-4."""
    emissions, words = random_case(seed, 5, delimiter=delimiter)
    symbols = (BLANK_COLUMN, 2, 3, SPEECH_COLUMN) if delimiter is None else (BLANK_COLUMN, 1, 2, 3, SPEECH_COLUMN)
    costs: dict[tuple[int, ...], float] = {}
    best = -math.inf
    for runs, score in labellings(emissions, symbols):
        key = tuple(runs)
        if key not in costs:
            costs[key] = cost_of(runs, words)
        best = max(best, score - costs[key])
    _, [path] = best_paths([emissions], [words], COSTS)
    assert path.score == pytest.approx(best, abs=1e-4)


def score_of(lattice: Lattice, row: int, states: np.ndarray, emissions: torch.Tensor) -> float:
    """Sum of the emissions of the states that a path names."""
    columns = lattice.columns[row].numpy()[states]
    wide = np.concatenate([emissions.numpy(), np.full((len(emissions), 1), -np.inf)], 1)
    return float(wide[np.arange(len(states)), columns].sum())


def test_the_states_of_a_path_have_its_score() -> None:
    """Forced, so that nothing but emissions counts; in a batch of recordings of other lengths, units and words."""
    cases = [random_case(seed, 6 + seed) for seed in range(5)]
    lattice, paths = best_paths([emissions for emissions, _ in cases], [words for _, words in cases], FORCED)
    for row, (path, (emissions, words)) in enumerate(zip(paths, cases, strict=True)):
        alone = best_paths([emissions], [words], FORCED)[1][0]
        assert path.score == pytest.approx(alone.score, abs=1e-5)
        if path.score > -math.inf:
            assert score_of(lattice, row, path.states, emissions) == pytest.approx(path.score, abs=1e-4)


@pytest.mark.parametrize("max_bytes", [1, 4000])
def test_little_memory_gives_the_same_path(max_bytes: int) -> None:
    """1 byte keeps two frames at a time, in six levels; reference: all frames kept."""
    rng = np.random.default_rng(5)
    emissions, _ = random_case(1, 50)
    words = Words(tuple(tuple(rng.integers(2, 4, 3).tolist()) for _ in range(9)), 1, 0)
    expected = best_paths([emissions], [words], COSTS)[1][0]
    found = best_paths([emissions], [words], COSTS, max_bytes)[1][0]
    assert np.array_equal(found.states, expected.states)
    assert found.score == expected.score


def test_a_path_that_is_impossible_has_no_score() -> None:
    emissions, _ = random_case(0, 3)
    _, [path] = best_paths([emissions], [Words(((2, 2),), 1, 0)], FORCED)
    assert path.score > -math.inf
    _, [path] = best_paths([emissions], [Words(((2, 2), (3,)), 1, 0)], FORCED)
    assert path.score == -math.inf


def test_speech_that_no_unit_can_write_costs_nothing() -> None:
    emissions = torch.tensor(
        [[-9.0, -9.0, 0.0, -9.0, -0.1], [-9.0, 0.0, -9.0, -9.0, 0.0], [-9.0, -9.0, -9.0, 0.0, -0.1]]
    )
    for free, expected in ((frozenset([1]), -0.1), (frozenset[int](), -0.1 - COSTS.speech)):
        _, [path] = best_paths([emissions], [Words(((2,),), 1, 0, free)], COSTS)
        assert path.score == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_forced_paths_are_torchaudios(seed: int) -> None:
    """Reference: torchaudio.functional.forced_align on 40 frames, the units of every frame; scores to 1e-3."""
    functional = pytest.importorskip("torchaudio.functional")
    generator = torch.Generator().manual_seed(seed)
    log_probs = torch.randn(40, 6, generator=generator).mul(2).log_softmax(-1)
    rng = np.random.default_rng(seed)
    units = tuple(tuple(rng.integers(2, 6, rng.integers(1, 5)).tolist()) for _ in range(4))
    target = [unit for i, word in enumerate(units) for unit in ((1,) if i else ()) + word]
    expected, scores = functional.forced_align(log_probs[None], torch.tensor([target]), blank=0)
    emissions = torch.cat([log_probs, torch.full((40, 1), -math.inf)], 1)
    lattice, [path] = best_paths([emissions], [Words(units, 1, 0)], FORCED)
    assert path.score == pytest.approx(float(scores.sum()), abs=1e-3)
    assert lattice.columns[0].numpy()[path.states].tolist() == expected[0].tolist()


def test_states_of_a_gap_are_numbered_as_said() -> None:
    """trainer.align.search reads them by these numbers."""
    assert (BLANK, DELIMITER, AFTER, SPEECH) == (0, 1, 2, 3)
