"""Breakdowns, and hypotheses.jsonl read back (trainer.rundir.results), against counts by hand.

pytest tests/trainer/scoring/test_breakdown.py
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from trainer.errors import ResultsError
from trainer.rundir.results import read_hypotheses, write_hypotheses
from trainer.scoring.breakdown import breakdowns, by_dialect, by_length, by_sex, by_speaker, drawn_units, wer_interval
from trainer.scoring.metrics import EditCounts, count_character_errors, count_word_errors
from trainer.scoring.scores import Hypothesis, Scores


def written(reference: str, hypothesis: str, number: int = 0, **known: object) -> Hypothesis:
    words, characters = count_word_errors(reference, hypothesis), count_character_errors(reference, hypothesis)
    return Hypothesis(f"u{number}", reference, hypothesis, words, characters, 0.5, **known)  # type: ignore[arg-type]


HYPOTHESES = [
    written("a b c d", "a b c d", 0, seconds=1.0, speaker="s1", sex="F", dialect="DR1"),
    written("a b", "x b", 1, seconds=2.0, speaker="s1", sex="F", dialect="DR1"),
    written("a b c", "a", 2, seconds=3.0, speaker="s2", sex="M", dialect="DR2"),
    written("a", "a e e", 3, seconds=4.0, speaker="s3", sex="M", dialect="DR2"),
]


def test_groups_pool_their_counts() -> None:
    women, men = sorted(by_sex(HYPOTHESES), key=lambda g: g.name, reverse=True)
    assert (women.name, women.num_utterances, women.num_speakers, women.words) == (
        "women",
        2,
        1,
        EditCounts(5, 1, 0, 0),
    )
    assert (men.name, men.num_utterances, men.num_speakers, men.words) == ("men", 2, 2, EditCounts(2, 0, 2, 2))
    assert men.words.rate == 1.0
    assert [g.name for g in by_dialect(HYPOTHESES)] == ["DR1", "DR2"]


def test_speakers_stand_worst_first() -> None:
    """2 errors of 1 word, 2 of 3, 1 of 6."""
    assert [(g.name, g.words.num_errors) for g in by_speaker(HYPOTHESES)] == [("s3", 2), ("s2", 2), ("s1", 1)]


def test_length_groups_are_quarters() -> None:
    many = [written("a", "a", i, seconds=float(i % 8 + 1)) for i in range(40)]
    groups = by_length(many)
    assert [g.num_utterances for g in groups] == [10, 10, 10, 10]
    assert [g.name for g in groups] == ["1.0 to 2.0 s", "3.0 to 4.0 s", "5.0 to 6.0 s", "7.0 to 8.0 s"]


def test_equal_lengths_share_a_group() -> None:
    """Thirty of 2.0 s and ten longer ones: quarters alone would name "2.0 s" three times."""
    many = [written("a", "a", i, seconds=2.0 if i < 30 else 2.0 + i / 10) for i in range(40)]
    groups = by_length(many)
    assert [(g.name, g.num_utterances) for g in groups] == [("2.0 s", 30), ("5.0 to 5.9 s", 10)]
    assert groups[1].where == ("seconds", (5.0, 5.9))
    assert by_length([written("a", "a", i, seconds=2.0) for i in range(9)])[0].num_utterances == 9


def test_a_group_of_few_speakers_is_marked() -> None:
    """Two speakers are few, ten are not; where speakers are not known, or there is one, utterances are counted."""
    for number, speakers, few in (
        (40, 2, "2 speakers"),
        (40, 10, ""),
        (8, None, "8 utterances"),
        (12, None, ""),
        (8, 1, "8 utterances"),
    ):
        some = [written("a", "a", i, sex="F", speaker=speakers and f"s{i % speakers}") for i in range(number)]
        assert [g.few for g in by_sex(some)] == [few]


def test_what_the_corpus_does_not_know_makes_no_group() -> None:
    unknown = [written("a", "b", 0, seconds=1.0), written("a", "a", 1, seconds=2.0)]
    assert by_sex(unknown) == by_dialect(unknown) == by_speaker(unknown) == []
    assert list(breakdowns(unknown)) == ["length"]


@pytest.mark.parametrize(
    ("speakers", "over"),
    [(["x", "x", "y"], "2 speakers"), (["x", None, "y"], "3 utterances"), (["x", "x", "x"], "3 utterances")],
)
def test_speakers_are_drawn_where_all_are_known_and_there_are_two(speakers: list[str | None], over: str) -> None:
    hypotheses = [written("a b", "a c" if i else "a b", i, speaker=s) for i, s in enumerate(speakers)]
    assert drawn_units(hypotheses)[1] == over
    interval, said = wer_interval(hypotheses)
    assert said == over
    assert interval is not None


def test_a_group_of_one_speaker_has_no_interval_where_speakers_are_drawn() -> None:
    """s1 alone is the women; of s2 and s3, two units, by hand: rates of (2, 3), (2, 1) or both pooled."""
    men, women = by_sex(HYPOTHESES)
    assert women.interval is None
    assert men.interval == pytest.approx((2 / 3, 2.0))
    one_voice = [replace(h, speaker="s1") for h in HYPOTHESES]
    assert [g.interval is None for g in by_sex(one_voice)] == [False, False], "then the split draws utterances"


def test_hypotheses_read_back_as_they_were_scored(tmp_path: Path) -> None:
    """Line separators that JSON does not escape included: a transcript may hold them."""
    odd = written("a\u2028b", "a\x85b \u2029", 4, seconds=None)
    lost = Hypothesis(
        "u5", "a", "", EditCounts(deletions=1), EditCounts(deletions=1), math.inf, 0.0, failure="no audio"
    )
    scores = [Scores("dev", (*HYPOTHESES, odd), 1.0, 1.0, {}), Scores("test", (lost,), 1.0, 1.0, {"u5": "no audio"})]
    write_hypotheses(tmp_path / "h.jsonl", scores)
    assert read_hypotheses(tmp_path / "h.jsonl") == {"dev": [*HYPOTHESES, odd], "test": [lost]}


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "Has the run come to its end"), ("{}\n", "1: not an utterance"), ("[\n", "1: not an utterance")],
)
def test_unreadable_hypotheses_name_file_and_line(content: str | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "hypotheses.jsonl"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ResultsError, match=rf"hypotheses\.jsonl.*{message}"):
        read_hypotheses(path)
