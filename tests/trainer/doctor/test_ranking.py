"""pytest tests/trainer/doctor/test_ranking.py"""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data.corrections.file import read_corrections
from data.utterance import SAMPLE_RATE
from trainer.align.alignment import AlignedWord, Alignment, Unwritten
from trainer.doctor.dynamics import Learning, learning
from trainer.doctor.opening import Weights
from trainer.doctor.other_transcripts import Swap
from trainer.doctor.own_words import OwnWords
from trainer.doctor.ranking import Seen, score_of, weigh, weigh_dynamics, weigh_leftovers, weigh_swap, weigh_words
from trainer.doctor.stretches import Leftovers, read
from trainer.doctor.suspect import Suspect, write_excluded
from trainer.doctor.terminal import WIDTH, tell
from trainer.signs.groups import Standout
from trainer.signs.sign import Sign

N = 300
WRONG = 5
"""The utterance that is wrong."""


@functools.cache
def planted() -> tuple[Seen, list[str], list[str]]:
    """What is seen of a corpus of which one utterance has another transcript, its ids and transcripts."""
    rng = np.random.default_rng(0)
    texts = [f"sentence number {i} of many" for i in range(N)]
    losses = (3 * np.exp(-np.arange(8) / 2)[:, None] * rng.gamma(8, 0.125, (8, N))).astype(np.float32)
    losses[:, WRONG] = 4.0
    rates = rng.exponential(0.02, N).astype(np.float32)
    rates[WRONG] = 0.7
    heard = OwnWords(
        Weights("runs/a/checkpoints/step-00000400", 400), [*texts], rng.exponential(0.05, N).astype(np.float32), rates,
        np.zeros(N, np.int32),
    )  # fmt: skip
    heard.hypotheses[WRONG], heard.losses[WRONG], heard.word_errors[WRONG] = texts[9], 3.5, 5
    return Seen.of(heard, learning(losses, np.full(N, 24))), [f"s1-{i}" for i in range(N)], texts


def weighed(seen: Seen, i: int, swaps: dict[int, Swap] | None = None, left: dict[int, Leftovers] | None = None):
    ids, texts = planted()[1:]
    return score_of(float(seen.out[i]), weigh(seen, ids, texts, swaps or {}, left or {}, i), ())


def test_a_wrong_transcript_has_the_highest_score_and_says_why_with_figures() -> None:
    seen, _, texts = planted()
    scores = [weighed(seen, i)[0] for i in range(N)]
    assert np.argmax(scores) == WRONG
    assert scores[WRONG] > 0.9 > 0.7 > sorted(scores)[-2]
    signs = weighed(seen, WRONG, {WRONG: Swap(9, 1, 0.7, 0.05)})[1]
    assert [sign.name for sign in signs] == ["another transcript", "high loss throughout", "other words"]
    assert signs[0].certainty == signs[1].certainty == "certain"
    assert f"the transcript of s1-9, {texts[9]!r} (5 % of it differs, and 70 % of its own transcript)" in signs[0].what
    assert "in 7 of 7 epochs" in signs[1].what, "before the second nothing was learnt"
    assert "never learnt" in signs[1].what
    assert "the checkpoint of step 400 writes" in signs[2].what


def test_a_sound_corpus_has_nothing_certain() -> None:
    seen, _, _ = planted()
    marked = [i for i in range(N) if any(s.certainty == "certain" for s in weighed(seen, i)[1])]
    assert marked == [WRONG]


@pytest.mark.parametrize(
    ("high", "visits", "learnt", "name", "certainty", "told"),
    [
        (3, 3, 0, "high loss throughout", "certain", "never learnt (half of the corpus: from epoch"),
        (2, 2, 0, "high loss throughout", "likely", "in 2 of 2 epochs"),
        (4, 5, 9, "high loss throughout", "certain", "learnt only from epoch 9 on (half"),
        (3, 4, 9, "learnt late", "likely", "in 3 of 4 epochs"),
        (1, 1, 1, "high loss throughout", "likely", None),
    ],
)
def test_a_high_loss_is_certain_where_it_was_high_four_times_in_five_and_seen_three_times(
    high: int, visits: int, learnt: int, name: str, certainty: str, told: str | None
) -> None:
    seen, _, _ = planted()
    assert seen.learning is not None
    values = {"high": high, "visits": visits, "learnt": learnt}
    trained = replace(seen.learning, **{key: np.full(N, value) for key, value in values.items()})
    (one, *_) = weigh_dynamics(replace(seen, learning=trained), WRONG)
    assert (one.sign.name, one.sign.certainty) == (name, certainty)
    assert told in one.sign.what if told else "epoch" not in one.sign.what


def test_a_swapped_pair_and_shifted_rows_are_told_as_such() -> None:
    seen, _, _ = planted()
    (swapped, *_) = weighed(seen, WRONG, {WRONG: Swap(9, 1, 0.7, 0.3, is_mutual=True)})[1]
    assert swapped.name == "swapped with another"
    assert swapped.certainty == "certain"
    (shifted, *_) = weighed(seen, WRONG, {WRONG: Swap(4, 1, 0.7, 0.3, shift=-1)})[1]
    assert shifted.name == "rows are shifted"
    assert "stand 1 row earlier" in shifted.what
    (unsure, *_) = [
        s for s in weighed(seen, WRONG, {WRONG: Swap(9, 2, 0.7, 0.35)})[1] if s.name == "another transcript"
    ]
    assert unsure.certainty == "likely"
    assert "of s1-9 and 1 more" in unsure.what


def test_a_swap_of_what_hardly_stands_out_or_has_few_other_words_is_no_more_than_likely() -> None:
    seen, ids, texts = planted()
    for out, errors, certainty in ((3.1, 3, "certain"), (2.9, 3, "likely"), (3.1, 2, "likely")):
        other = replace(seen, out=np.full(N, out), words=replace(seen.words, word_errors=np.full(N, errors)))
        (one,) = weigh_swap(other, WRONG, Swap(9, 1, 0.7, 0.3, is_mutual=True), ids, texts)
        assert one.sign.certainty == certainty


def test_what_stands_out_by_more_than_one_unit_is_looked_into_the_most_suspect_first() -> None:
    seen, _, _ = planted()
    found = seen.suspects(N)
    assert found[0] == WRONG
    assert sorted(found) == np.flatnonzero(seen.out > 1).tolist()
    assert np.all(np.diff(seen.out[found]) <= 0)
    assert seen.suspects(2) == found[:2]


def test_a_model_that_writes_nothing_is_said_to() -> None:
    seen, _, _ = planted()
    deaf = replace(seen, words=replace(seen.words, hypotheses=[""] * N))
    (one,) = weigh_words(deaf, WRONG)
    assert one.sign.what == "the checkpoint of step 400 writes nothing: 70 % of the text differs"


def test_without_losses_of_training_the_model_alone_ranks() -> None:
    seen, _, _ = planted()
    alone = Seen.of(seen.words, None)
    scores = [weighed(alone, i)[0] for i in range(N)]
    assert np.argmax(scores) == WRONG
    assert "high loss throughout" not in {s.name for s in weighed(alone, WRONG)[1]}
    own = replace(seen.words, weights=Weights("runs/a/model", None))
    assert weighed(Seen.of(own, None), WRONG)[1][0].what.startswith("the run's model writes ")


def test_an_utterance_that_was_never_visited_is_ranked_by_the_model() -> None:
    seen, _, _ = planted()
    assert isinstance(seen.learning, Learning)
    losses = seen.learning.losses.copy()
    losses[:, WRONG] = np.nan
    unvisited = Seen.of(seen.words, learning(losses, np.full(N, 24)))
    assert weighed(unvisited, WRONG)[0] > 0.9
    assert np.isfinite(unvisited.out).all()


def alignment(statuses: str, unwritten: tuple[Unwritten, ...] = (), seconds: float = 5.0) -> Alignment:
    """A word a second, from half a second on; statuses: a for aligned, u for unmatched."""
    words = tuple(
        AlignedWord(f"word{i}", "aligned" if s == "a" else "unmatched", at := int((i + 0.5) * SAMPLE_RATE),
                    at + (SAMPLE_RATE // 2 if s == "a" else 0), 0.9 if s == "a" else None)
        for i, s in enumerate(statuses)
    )  # fmt: skip
    return Alignment("a", int(seconds * SAMPLE_RATE), words, unwritten)


def test_words_without_a_sound_of_their_own_are_not_counted() -> None:
    found = alignment("aaa")
    silent = replace(found.words[0], text="--", status="silent", score=None)
    assert read(replace(found, words=(silent, *found.words))) == read(found)


def signs_of(found: Leftovers, i: int = WRONG) -> list[Sign]:
    return [one.sign for one in weigh_leftovers(planted()[0], i, found)]


@pytest.mark.parametrize(
    ("statuses", "name", "words"),
    [("uaaaa", "words added at the start", "'word0'"), ("aaauu", "words added at the end", "'word3 word4'"),
     ("aauaa", "words added in the middle", "'word2'")],
)  # fmt: skip
def test_words_that_are_not_heard_are_told_with_their_place(statuses: str, name: str, words: str) -> None:
    (sign,) = signs_of(read(alignment(statuses)))
    assert (sign.name, sign.what, sign.certainty) == (name, f"{words} is not heard", "likely")


def test_audio_that_ends_right_after_a_word_is_told_with_the_words_that_are_missing() -> None:
    (sign,) = signs_of(read(alignment("aaau", seconds=3.04)))  # the third word ends at 3.0 s
    assert sign.what == "'word3' is not heard: the audio ends 0.04 s after the last word that is"
    (sign,) = signs_of(Leftovers(3, ((0, "so", 0.0),), (), 0.05, 2.0, 3.0))
    assert sign.what == "'so' is not heard: the audio begins 0.05 s before the first word that is"


def test_speech_that_is_not_written_is_told_with_its_times() -> None:
    stretches = (
        Unwritten(0, 4000, "hello"), Unwritten(16_000, 23_000, "there"), Unwritten(64_000, 72_000, "and more"),
        Unwritten(72_000, 73_000, "a"),
    )  # fmt: skip
    found = signs_of(read(alignment("aaa", stretches)))
    assert [(s.name, s.start, s.end) for s in found] == [
        ("words missing at the start", 0.0, 0.25),
        ("words missing in the middle", 1.0, 1.4375),
        ("words missing at the end", 4.0, 4.5),
    ]
    for end, place in ((8160, "at the start"), (8480, "in the middle")):  # a frame of 20 ms beside the first word
        assert [s.name for s in signs_of(read(alignment("a", (Unwritten(0, end, "hello"),))))] == [
            f"words missing {place}"
        ]


def test_where_most_words_are_not_heard_the_transcript_is_doubted_as_a_whole() -> None:
    (sign,) = signs_of(read(alignment("uuau")))
    assert sign.name == "words not heard"
    assert "3 of its 4 words" in sign.what
    assert [s.name for s in signs_of(read(alignment("uuaa")))] == ["words added at the start"]
    assert signs_of(read(alignment("aaaa"))) == []
    assert signs_of(read(alignment("uaaa")), 0)[0].certainty == "possible"  # it does not stand out otherwise


def test_signs_without_a_model_add_to_the_score_and_sort_among_the_others() -> None:
    clipped, silent = Sign("clipped", "412 peaks are cut flat", "likely"), Sign("silence", "no speech", "certain")
    assert score_of(0.0, (), ()) == (0.0, ())
    score, told = score_of(0.0, (), (clipped, silent))
    assert told == (silent, clipped)
    assert score == pytest.approx(1 - 0.05 * 0.4)
    assert score_of(8.0, (), (clipped,))[0] > score_of(8.0, (), ())[0] > score_of(2.0, (), ())[0]


SUSPECTS = [
    Suspect("s1-" + "long" * 10, 0.98, (Sign("clipped", "412 peaks " * 20, "certain"),) * 5, "text " * 40, "heard"),
    Suspect("s2", 0.4, (Sign("too fast", "31 units a second", "likely"),), "fast"),
    Suspect("s3", 0.0, (), "sound"),
]


def test_the_terminal_is_readable_at_eighty_columns() -> None:
    groups = [Standout("speaker", "s17", "clipped", 9, 20, 0.004)]
    lines = list(tell(SUSPECTS, groups, ["The run is not over."], 20))
    assert max(map(len, lines)) <= WIDTH == 80
    text = "\n".join(lines)
    assert lines[0] == "note: The run is not over."
    assert "and 2 more reasons" in text
    assert "       text: fast" in lines
    assert "0.400  s2" in text
    assert "s3" not in text
    assert "speaker s17: 9 of 20 clipped, elsewhere 0.4 %" in text
    assert lines[-1] == "of 3 utterances: 1 certainly wrong, 1 likely, 0 possibly, 1 without a sign"
    assert "s2" not in "\n".join(tell(SUSPECTS, [], [], 1))
    both = replace(SUSPECTS[1], signs=(*SUSPECTS[1].signs, Sign("case", "upper", "possible")))
    assert [*tell([both], [], [], 1)][-1].startswith("of 1 utterance: 0 certainly wrong, 1 likely, 0 possibly")
    four = replace(SUSPECTS[1], signs=SUSPECTS[1].signs * 4)
    assert "       and 1 more reason" in tell([four], [], [], 1)
    quiet = replace(SUSPECTS[2], score=0.5)
    below = "\n".join(tell([SUSPECTS[0], quiet, SUSPECTS[1]], [], [], 2))
    assert "0.400  s2" in below, "one without a sign stands above it"
    assert "s3" not in below
    assert sum("clipped, elsewhere" in line for line in tell([], groups * 11, [], 1)) == 10


def test_what_is_marked_is_a_file_that_the_corpus_leaves_out(tmp_path: Path) -> None:
    path = tmp_path / "doctor-exclude.jsonl"
    assert write_excluded(path, SUSPECTS, "certain") == 1
    assert write_excluded(path, SUSPECTS, "likely") == 2
    found = read_corrections(str(path), "")
    assert found is not None
    assert [entry.id for entry in found.entries] == [SUSPECTS[0].id, "s2"]
    assert '"note": "too fast"' in path.read_text()
