"""Looks at a run while it goes on (trainer.diagnosis.watch): what a log is told, when, and what of the evaluations.

pytest tests/trainer/diagnosis/test_watch.py
"""

from __future__ import annotations

from tests.helpers.diagnosis import facts, learning, options, records
from trainer.diagnosis.watch import Watch
from trainer.scoring.metrics import EditCounts
from trainer.scoring.scores import Hypothesis, Scores


def watch() -> Watch:
    return Watch(options(), facts())


def scores(hypothesis: str, number: int = 200) -> Scores:
    """This is written for every utterance."""
    edits = EditCounts()
    return Scores("dev", tuple(Hypothesis(str(i), "a b c", hypothesis, edits, edits, 1.0) for i in range(number)), 1.0,
                  1.0, {})  # fmt: skip


def test_a_look_is_taken_again_when_there_is_one_percent_more() -> None:
    """1000 records, then 1009 and 1010."""
    looking, logged = watch(), records(lambda step: 2.87, steps=20_000)
    assert "flat loss" in looking.look(logged[:1000])
    assert looking.look(logged[:1009]) == {}
    assert "flat loss" in looking.look(logged[:1010])


def test_a_log_gets_the_whole_line_of_each_finding() -> None:
    looking, logged = watch(), records(lambda step: 2.87)
    (found,) = looking.findings(logged)
    assert watch().look(logged) == {"flat loss": found.line()}


def test_what_an_evaluation_wrote_is_judged_from_then_on() -> None:
    looking, logged = watch(), records(learning)
    assert looking.findings(logged) == []
    looking.evaluated(600, scores("eeeeeeee"))
    (found,) = looking.findings(logged)
    assert found.name == "one unit eats all"
    assert "At step 600, 'e' makes 100 % of the 384 characters written for 48 utterances" in found.evidence


def test_closing_scores_are_judged_in_place_of_the_last_evaluation() -> None:
    looking, logged = watch(), records(learning)
    looking.evaluated(2900, scores("a b c"))
    (found,) = looking.findings(logged, is_over=True, closing=scores("eeeeeeee"))
    assert "At step 2900" in found.evidence
    assert looking.findings([], closing=scores("eeeeeeee")) == []  # at step 0 nothing need be written
