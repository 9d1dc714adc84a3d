"""Both beam searches, of a batch and of one utterance, against all paths of tiny cases, against the best path, and on
odd inputs.

pytest tests/trainer/decoding/test_beam.py
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from trainer.decoding import hotwords
from trainer.decoding.beam import EXACT, BeamOptions, BeamSearch
from trainer.decoding.estimate import estimate
from trainer.decoding.frames import Row, Run, read_frames, read_rows
from trainer.decoding.fusion import Fusion, Weights
from trainer.decoding.hashing import BITS, HashTable, hash_all, inverse, unit_maps
from trainer.decoding.hypotheses import Found
from trainer.decoding.ngram import NgramModel, build
from trainer.decoding.paths import best_path
from trainer.decoding.single import SingleSearch, log_add
from trainer.errors import ConfigError
from trainer.scoring.decode import collapse, written_units

UNITS = "|ab-"
BLANK, DELIMITER = 3, 0
WEIGHTS = Weights(lm=0.7, word=0.4, unknown=-0.3)
CPU = torch.device("cpu")
TEXT = "ab a\nab b a\nb a\na\nab ab b\nb\na b ab a\nba".splitlines()


Search = Callable[..., list[list[Found]]]
SearchOf = Callable[[Fusion, BeamOptions], Search]


def one_by_one(fusion: Fusion, options: BeamOptions) -> Search:
    """BeamSearch by SingleSearch."""
    search = SingleSearch(fusion, options)

    def decode(log_probs: torch.Tensor, lengths: torch.Tensor, num_best: int = 1) -> list[list[Found]]:
        return [search(one[:length], num_best) for one, length in zip(log_probs, lengths, strict=True)]

    return decode


both_searches = pytest.mark.parametrize("search_of", [BeamSearch, one_by_one], ids=["batch", "single"])


def model_of(text: Sequence[str]) -> NgramModel:
    found = estimate([line.split() for line in text], 3)
    return build(found.words, found.levels)


MODEL = model_of(TEXT)
KNOWN = {word for line in TEXT for word in line.split()}


def spelled(word: str) -> list[int]:
    return [UNITS.index("|" if c == " " else c) for c in word]


def fusion_of(hot: Mapping[str, float] = {}, lexicon: Sequence[str] = (), num_units: int = 4) -> Fusion:
    known = sorted(KNOWN)
    hashes = hash_all([spelled(w) for w in known], num_units)[:, -1]
    words = HashTable.of(hashes, torch.tensor([MODEL.ids[w] for w in known]))
    fusion = Fusion(num_units, BLANK, torch.arange(num_units) == DELIMITER, WEIGHTS, CPU, MODEL, words)
    if lexicon:
        hashes = hash_all([spelled(w) for w in lexicon], 4)
        fusion = replace(fusion, lexicon=HashTable.of(hashes[:, -1]), beginnings=HashTable.of(hashes[:, 1:].flatten()))
    if hot:
        phrases = {tuple(spelled(phrase)): weight for phrase, weight in hot.items()}
        fusion = replace(fusion, hot_words=hotwords.build(phrases, 4, DELIMITER))
    return fusion


def words_of(units: Sequence[int]) -> tuple[str, ...]:
    return tuple(word for word in "".join(UNITS[u] for u in units).split("|") if word)


def every_text(
    log_probs: torch.Tensor, hot: Mapping[str, float], lexicon: Sequence[str]
) -> dict[tuple[str, ...], tuple[float, float]]:
    """(Score, acoustic part) of each text that any path writes, by going through all paths."""
    paths: dict[tuple[str, ...], list[float]] = {}
    possible = [[unit for unit in range(4) if frame[unit] > -math.inf] for frame in log_probs]
    for path in itertools.product(*possible):
        units = [unit for unit, _ in itertools.groupby(path) if unit != BLANK]
        paths.setdefault(words_of(units), []).append(sum(float(log_probs[t, u]) for t, u in enumerate(path)))
    found = {}
    for words, scores in paths.items():
        if lexicon and not set(words) <= set(lexicon):
            continue
        acoustic = math.log(sum(map(math.exp, scores)))
        bonus = sum(
            weight * sum(list(words[i : i + len(p.split())]) == p.split() for i in range(len(words)))
            for p, weight in hot.items()
        )
        unknown = WEIGHTS.unknown * sum(word not in KNOWN for word in words)
        extra = WEIGHTS.lm * MODEL.sentence(words) + WEIGHTS.word * len(words) + unknown + bonus
        found[words] = acoustic + extra, acoustic
    return found


@both_searches
@pytest.mark.parametrize(
    ("hot", "lexicon"),
    [({}, ()), ({"ab": 1.5, "b a": -1.0, "ab a": 2.0}, ()), ({}, ("ab", "b", "aab")), ({"a": 3.0}, ("b", "a"))],
    ids=["model", "hot words", "lexicon", "both"],
)
def test_a_large_beam_finds_every_text_with_its_exact_score(
    search_of: SearchOf, hot: dict[str, float], lexicon: Sequence[str]
) -> None:
    """Of ragged utterances down to none of a frame. Float32 sums of some ten terms: 1e-5."""
    log_probs = torch.randn(5, 5, 4, generator=torch.Generator().manual_seed(3)).mul(1.5).log_softmax(-1)
    lengths = torch.tensor([5, 4, 3, 1, 0])
    found = search_of(fusion_of(hot, lexicon), replace(EXACT, width=800))(log_probs, lengths, 1000)
    for hypotheses, frames, length in zip(found, log_probs, lengths, strict=True):
        expected = every_text(frames[:length], hot, lexicon)
        by_words = {words_of(h.units): (h.score, h.acoustic) for h in hypotheses}
        assert len(by_words) == len(hypotheses)
        assert by_words.keys() == expected.keys()
        for words, scores in expected.items():
            assert by_words[words] == pytest.approx(scores, abs=1e-5)
        assert [h.score for h in hypotheses] == sorted((h.score for h in hypotheses), reverse=True)


@both_searches
@pytest.mark.parametrize("options", [replace(EXACT, width=1), BeamOptions(width=1)], ids=["exact", "pruned"])
def test_a_beam_of_width_1_without_a_model_is_the_best_path(search_of: SearchOf, options: BeamOptions) -> None:
    """The same units and the best path's own probability, over lengths at which float32 sums alone would not hold."""
    log_probs = torch.randn(6, 200, 30, generator=torch.Generator().manual_seed(0)).mul(2).log_softmax(-1)
    lengths = torch.tensor([200, 199, 100, 3, 1, 0])
    fusion = Fusion(30, 29, torch.arange(30) == 0, Weights(), CPU)
    found = search_of(fusion, options)(log_probs, lengths)
    best, ids = log_probs.max(-1)
    for one, written, of_frames, length in zip(found, collapse(ids, lengths, 29), best, lengths, strict=True):
        assert one[0].units == written_units(written)
        assert one[0].acoustic == pytest.approx(float(of_frames[:length].double().sum()), abs=1e-4)


CHOICES = {
    "a unit again, with and without a blank between": "a- a a - a - ab b",
    "a unit that fades into the blank, and comes back": "a a- - a a- a b",
    "a unit that fades at once, and twice": "- a a- a- - b b-",
    "words that end between frames with a choice": "ab a | b - | a",
    "a word that ends where a choice was": "ab |b | | - a a",
    "a string that makes one beam of two": "a- a b - a ab",
    "strings from the first frame to the last": "b b a - a",
    "strings that are no words of a lexicon": "ab - a b - ab",
    "a string that ends in a part of a word": "ab - a",
    "a frame in which nothing may be": "ab a . a",
    "no choice of one symbol": "ab ab a- b-",
}
"""What may be in each frame, by the cases that a run of frames must tell apart; `.`: nothing."""


def log_probs_of(choices: str, seed: int) -> torch.Tensor:
    frames = choices.split()
    found = torch.full((len(frames), 4), -torch.inf)
    for frame, likely in zip(found, frames, strict=True):
        units = [UNITS.index(c) for c in likely if c != "."]
        frame[units] = torch.randn(len(units), generator=torch.Generator().manual_seed(seed + len(units)))
    return found


@both_searches
@pytest.mark.parametrize(
    ("hot", "lexicon"),
    [({}, ()), ({"ab": 1.5, "b a": -1.0}, ()), ({}, ("ab", "b", "aab")), ({"a": 3.0}, ("b", "a"))],
    ids=["model", "hot words", "lexicon", "both"],
)
def test_frames_without_a_choice_are_folded_without_a_trace(
    search_of: SearchOf, hot: dict[str, float], lexicon: Sequence[str]
) -> None:
    """Runs of such frames between others: every text that is a path has the sum over all its paths. Float32: 1e-5."""
    cases = [log_probs_of(choices, seed) for seed, choices in enumerate(CHOICES.values())]
    lengths = torch.tensor([len(one) for one in cases])
    padded = torch.nn.utils.rnn.pad_sequence(cases, batch_first=True)
    found = search_of(fusion_of(hot, lexicon), replace(EXACT, width=800))(padded, lengths, 1000)
    for name, frames, hypotheses in zip(CHOICES, cases, found, strict=True):
        expected = every_text(frames, hot, lexicon)
        by_words = {words_of(h.units): h for h in hypotheses}
        assert len(by_words) == len(hypotheses), name
        if expected:
            assert by_words.keys() == expected.keys(), name
        elif lexicon:  # what there is begins words of the lexicon all the same
            assert all(any(one.startswith(word) for one in lexicon) for words in by_words for word in words), name
        for words, (score, acoustic) in expected.items():
            assert by_words[words].score == pytest.approx(score, abs=1e-5), name
            assert by_words[words].acoustic == pytest.approx(acoustic, abs=1e-5), name


@both_searches
@pytest.mark.parametrize("width", [1, 2, 5])
def test_pruning_between_runs_is_that_of_frame_by_frame(search_of: SearchOf, width: int) -> None:
    """The same beams where no frame is folded: a unit that may stand in every frame, with a probability of e**-60,
    makes a step of each, and is in no hypothesis."""
    generator = torch.Generator().manual_seed(4)
    logits = torch.randn(20, 25, 4, generator=generator)
    logits += 7 * torch.nn.functional.one_hot(torch.randint(0, 4, (20, 25), generator=generator), 4)
    log_probs = torch.where((one := logits.log_softmax(-1)) < -4.0, -torch.inf, one)
    lengths = torch.arange(25, 5, -1)
    options = BeamOptions(width=width, min_log_prob=None, max_behind=6.0)
    folded = search_of(fusion_of(), options)(log_probs, lengths, 3)
    in_all = torch.cat([log_probs, torch.full((20, 25, 1), -60.0)], 2)
    stepped = search_of(fusion_of(num_units=5), options)(in_all, lengths, 3)
    assert len(read_rows(in_all[0], BLANK, None, None, {DELIMITER}, log_add, is_blank=True)) == 25
    assert len(read_rows(log_probs[0], BLANK, None, None, {DELIMITER}, log_add, is_blank=True)) < 20
    for ours, theirs in zip(folded, stepped, strict=True):
        assert [h.units for h in ours] == [h.units for h in theirs]
        assert [h.score for h in ours] == pytest.approx([h.score for h in theirs], abs=1e-4)


def test_utterances_that_take_no_step_are_decoded_beside_one_that_does() -> None:
    cases = [log_probs_of(choices, 1) for choices in ("a - a b", "b", "-", "a a - a", "ab a- b")]
    padded = torch.nn.utils.rnn.pad_sequence(cases, batch_first=True)
    found = BeamSearch(fusion_of(), EXACT)(padded, torch.tensor([len(one) for one in cases]))
    written = ["".join(UNITS[u] for u in best.units) for best, *_ in found[:-1]]
    assert written == ["aab", "b", "", "aa"]
    assert found[-1][0].units == SingleSearch(fusion_of(), EXACT)(cases[-1])[0].units


@pytest.mark.parametrize("lexicon", [(), ("ab", "b", "aab")], ids=["", "lexicon"])
def test_a_recording_may_be_cut_in_any_frame(lexicon: Sequence[str]) -> None:
    """In one-symbol frames, between, and behind frames with a choice: the same hypotheses as in one piece."""
    for seed, (name, choices) in enumerate(CHOICES.items()):
        log_probs, search = log_probs_of(choices, seed), SingleSearch(fusion_of({}, lexicon), replace(EXACT, width=50))
        whole = search(log_probs, 9)
        for cut in range(len(log_probs) + 1):
            beams = search.search(search.search(search.begin(), log_probs[:cut]), log_probs[cut:])
            found = search.finish(beams, 9)
            assert [h.units for h in found] == [h.units for h in whole], (name, cut)
            assert [h.score for h in found] == pytest.approx([h.score for h in whole], abs=1e-9), (name, cut)


def plainly_likely(frame: list[float], least: float | None, most: int | None) -> set[int]:
    """The units and the blank that are on a path through this frame, in plain words."""
    known = {unit: p for unit, p in enumerate(frame) if not math.isnan(p) and p > -math.inf}
    if not known:
        return set()
    best = max(known.values())
    units = sorted((u for u in known if u != BLANK), key=lambda u: -known[u])[:most]
    return {u for u in [*units, BLANK] if u in known and (least is None or known[u] >= min(best, least))}


def plain_rows(frames: list[list[float]], sets: list[set[int]]) -> list[Row | Run]:
    """What a search reads of frames, of which each may be in one of its set, in plain words."""
    rows: list[Row | Run] = []
    end: int | None = BLANK  # what all paths end in
    for frame, likely in zip(frames, sets, strict=True):
        one = next(iter(likely)) if likely else BLANK
        if len(likely) < 2 and (one in (end, BLANK) or (end is not None and one != DELIMITER)):
            written = () if one in (end, BLANK) else (one,)
            score = frame[one] if likely else -math.inf
            run = Run(written, *((score, -math.inf) if one == BLANK else (-math.inf, score)), score)
        elif end not in (None, BLANK) and likely == {end, BLANK}:
            run = Run((), frame[BLANK], frame[end], log_add(frame[BLANK], frame[end]))
        else:
            rows.append(Row(frame[BLANK] if BLANK in likely else -math.inf, {u: frame[u] for u in likely - {BLANK}}))
            end = one if len(likely) == 1 else None
            continue
        end = one if len(likely) < 2 else None
        if rows and isinstance(before := rows[-1], Run):
            run = Run(before.written + run.written, *(before.both + score for score in run[1:]))
            rows.pop()
        rows.append(run)
    return rows


@pytest.mark.parametrize("least", [None, -2.0, -1.0, 0.5])
@pytest.mark.parametrize("most", [None, 3, 2, 1])
def test_what_is_read_of_frames_is_what_plain_words_say(least: float | None, most: int | None) -> None:
    """Of both searches: in each frame the likeliest of all, and else the `most` units and the blank from `least` on.
    Frames in which all paths do the same are one run."""
    log_probs = torch.randn(6, 40, 4, generator=torch.Generator().manual_seed(7)).mul(2).log_softmax(-1)
    log_probs[0, 3] = -torch.inf
    log_probs[1, 5, 1] = torch.nan
    log_probs[:3, :, BLANK] += 1
    log_probs[3, 1::2] = log_probs[3, ::2]
    lengths = torch.tensor([40, 23, 40, 40, 1, 0])
    may_add, maps = torch.arange(4) == DELIMITER, unit_maps(4)
    batch = read_frames(log_probs, lengths, BLANK, least, most, may_add, maps, torch.logaddexp)
    for b, length in enumerate(lengths.tolist()):
        frames = log_probs[b, :length].tolist()
        expected = plain_rows(frames, [plainly_likely(frame, least, most) for frame in frames])
        rows = read_rows(log_probs[b, :length], BLANK, least, most, {DELIMITER}, log_add, is_blank=True)
        assert len(rows) == len(expected)
        for row, other in zip(rows, expected, strict=True):
            assert type(row) is type(other)
            assert row[:1] == other[:1] if isinstance(row, Run) else row == other
            if isinstance(row, Run):
                assert row[1:] == pytest.approx(other[1:], abs=1e-5)

        steps = [n for n, row in enumerate(expected) if isinstance(row, Row)]
        assert batch.ends[b] == len(steps)
        for n, k in enumerate([*steps, len(expected)]):
            run = expected[k - 1] if k and k - 1 not in steps else None
            assert bool(batch.runs.is_run[n, b]) == (run is not None)
            factor, addend, last = batch.runs.strings[n, :, b].tolist()
            written = run.written if isinstance(run, Run) else ()
            assert (5 * factor + addend) & BITS == hash_from(5, written) & BITS
            assert last == (written[-1] if written else -1)
            if isinstance(run, Run):
                assert batch.runs.sums[n, :, b].tolist() == pytest.approx(run[1:], abs=1e-5)
            if k < len(expected):
                row = expected[k]
                assert isinstance(row, Row)
                count, begin = batch.entries[n, :, b].tolist()
                units, scores = batch.units[begin : begin + count], batch.scores[begin : begin + count]
                assert dict(zip(units.tolist(), scores.tolist(), strict=True)) == row.units
                assert float(batch.frames[n, b, BLANK]) == row.blank
        assert (batch.entries[len(steps) :, 0, b] == 0).all()
        assert (batch.frames[len(steps) :, b, BLANK] == 0).all()


def test_a_batch_decodes_as_its_utterances_alone() -> None:
    log_probs = torch.randn(4, 20, 4, generator=torch.Generator().manual_seed(5)).log_softmax(-1)
    lengths, search = torch.tensor([20, 7, 13, 2]), BeamSearch(fusion_of(), BeamOptions(width=20))
    together = search(log_probs, lengths, 3)
    for frames, length, found in zip(log_probs, lengths, together, strict=True):
        alone = search(frames[None, :length], length[None], 3)[0]
        assert [h.units for h in alone] == [h.units for h in found]
        assert [h.score for h in alone] == pytest.approx([h.score for h in found], abs=1e-4)


@pytest.mark.parametrize("model", ["words", "units", "none"])
@pytest.mark.parametrize(
    ("hot", "lexicon"), [({}, ()), ({"ab": 1.5, "b a": -1.0}, ("ab", "b", "aab"))], ids=["", "hot"]
)
def test_one_by_one_finds_what_a_batch_finds(model: str, hot: dict[str, float], lexicon: Sequence[str]) -> None:
    """With all that prunes: the same texts and scores, in the same order. Float32 in the batch: 1e-4."""
    fusion = fusion_of(hot, lexicon)
    if model == "none":
        fusion = replace(fusion, model=None, words=None)
    elif model == "units":
        of_units = model_of([" ".join(word) for line in TEXT for word in line.split()])
        numbers = torch.tensor([-1, of_units.ids["a"], of_units.ids["b"], of_units.unknown])
        fusion = replace(fusion, model=of_units, words=None, unit_words=numbers, lexicon=None, beginnings=None)
    options = BeamOptions(width=12, min_log_prob=-4.0, max_units=2, max_behind=6.0)
    log_probs = torch.randn(12, 30, 4, generator=torch.Generator().manual_seed(8)).mul(2).log_softmax(-1)
    lengths = torch.arange(30, 18, -1)
    batch = BeamSearch(fusion, options)(log_probs, lengths, 5)
    for one, other in zip(batch, one_by_one(fusion, options)(log_probs, lengths, 5), strict=True):
        assert [h.units for h in one] == [h.units for h in other]
        assert [h.score for h in one] == pytest.approx([h.score for h in other], abs=1e-4)
        assert [h.acoustic for h in one] == pytest.approx([h.acoustic for h in other], abs=1e-4)


def hash_from(start: int, units: Sequence[int], num_units: int = 4) -> int:
    """The hash of `start` with `units`, in plain numbers."""
    factors, addends = unit_maps(num_units).tolist()
    for unit in units:
        start = start * factors[unit] + addends[unit]
    return start


def test_a_hash_is_that_of_plain_numbers_and_no_two_short_strings_share_one() -> None:
    """All 5,461 strings of up to 6 of 4 units, the 5,040 orders of 7 units, and strings of Thue and Morse, which are
    the same parts in another order at every level, up to 128 units."""
    strings = [one for n in range(7) for one in itertools.product(range(4), repeat=n)]
    swapped = [(0,), (1,)]
    for _ in range(7):
        swapped = [swapped[0] + swapped[1], swapped[1] + swapped[0]]
        strings += [one for one in swapped if len(one) > 6]
    hashes = hash_all(strings, 4)[:, -1]
    assert [one & BITS for one in hashes.tolist()] == [hash_from(0, one) & BITS for one in strings]
    assert len(hashes.unique()) == len(strings)
    orders = list(itertools.permutations(range(7)))
    assert len(hash_all(orders, 26)[:, -1].unique()) == len(orders)


def test_a_factor_and_its_inverse_give_one() -> None:
    factors = unit_maps(5000)[0]
    assert (factors * inverse(factors) == 1).all()


@both_searches
def test_delimiters_at_the_ends_and_doubled_ones_make_no_word(search_of: SearchOf) -> None:
    """`||ab||b||` is two words, with the score of ab|b."""
    path = [UNITS.index(c) for c in "|-|a-b|-|b|-|"]
    log_probs = torch.full((1, len(path), 4), -9.0)
    log_probs[0, torch.arange(len(path)), torch.tensor(path)] = -0.001
    found = search_of(fusion_of(), BeamOptions(width=8))(log_probs, torch.tensor([len(path)]))[0][0]
    assert words_of(found.units) == ("ab", "b")
    expected = WEIGHTS.lm * MODEL.sentence(["ab", "b"]) + 2 * WEIGHTS.word
    assert found.score - found.acoustic == pytest.approx(expected, abs=1e-4)


@both_searches
def test_an_unlikely_blank_is_on_no_path_but_the_likeliest_of_a_frame_always_is(search_of: SearchOf) -> None:
    log_probs = torch.tensor([[[-9.0, -0.1, -3.0, -8.0], [-9.0, -8.5, -9.0, -8.0]]])
    found = search_of(Fusion(4, BLANK, torch.arange(4) == 0, Weights(), CPU), BeamOptions(max_behind=None))
    by_units = {h.units: h.acoustic for h in found(log_probs, torch.tensor([2]), 9)[0]}
    assert by_units == {(1,): pytest.approx(-8.1), (2,): pytest.approx(-11.0)}


@both_searches
def test_impossible_and_undefined_frames_do_not_stop_the_search(search_of: SearchOf) -> None:
    log_probs = torch.zeros(2, 4, 4).log_softmax(-1)
    log_probs[0, 1] = -torch.inf
    log_probs[1, 2, 1] = torch.nan
    found = search_of(fusion_of(), BeamOptions(width=5))(log_probs, torch.tensor([4, 4]))
    assert found[0][0].score == -math.inf
    assert math.isfinite(found[1][0].score)


def test_beams_of_one_score_are_no_more_than_the_width() -> None:
    """Frames that favour no unit, and a beam for two of their four equal texts."""
    fusion = Fusion(4, BLANK, torch.arange(4) == 0, Weights(), CPU)
    search = SingleSearch(fusion, BeamOptions(width=2))
    assert len(search.search(search.begin(), torch.zeros(3, 4).log_softmax(-1))) == 2


def test_no_beam_goes_on_behind_a_frame_that_is_impossible() -> None:
    search = SingleSearch(fusion_of(), BeamOptions())
    beams = search.search(search.begin(), torch.full((1, 4), -torch.inf))
    assert search.best(beams, 3) == ({}, [])


def test_a_beam_has_room_for_one_at_least() -> None:
    assert BeamOptions(width=1).width == 1
    with pytest.raises(ConfigError, match="a beam of width 0: give 1 or more"):
        BeamOptions(width=0)


@both_searches
def test_thousands_of_units_are_searched(search_of: SearchOf) -> None:
    log_probs = torch.randn(2, 6, 6000, generator=torch.Generator().manual_seed(2)).mul(3).log_softmax(-1)
    fusion = Fusion(6000, 5999, torch.arange(6000) == 0, Weights(), CPU)
    found = search_of(fusion, BeamOptions(width=4))(log_probs, torch.tensor([6, 6]))
    assert all(math.isfinite(hypotheses[0].score) for hypotheses in found)


def test_the_best_path_of_units_is_the_best_of_all_paths() -> None:
    log_probs = torch.randn(6, 4, generator=torch.Generator().manual_seed(4)).log_softmax(-1)
    for units in [(1,), (1, 1), (2, 1, 2), ()]:
        path = best_path(log_probs.numpy(), units, BLANK)
        candidates = [
            p
            for p in itertools.product(range(4), repeat=6)
            if tuple(u for u, _ in itertools.groupby(p) if u != BLANK) == units
        ]
        best = max(candidates, key=lambda p: sum(float(log_probs[t, u]) for t, u in enumerate(p)))
        assert path.tolist() == list(best)
    with pytest.raises(ValueError, match="no path"):
        best_path(np.zeros((2, 4), np.float32), (1, 1), BLANK)
