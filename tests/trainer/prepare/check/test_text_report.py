"""trainer.prepare.check.text_report: what `--check` tells of normalising, against counts made by hand."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from data.audio.decode import FileAudio
from data.examples.prepare import Example
from data.text.normalise import NORMALIZERS, normalizer
from data.text.vocab import Vocab
from data.utterance import Utterance
from trainer.prepare.check.text_report import Change, describe_text, find_changes


def examples_of(texts: list[str], name: str = "plain") -> tuple[list[Example], Vocab]:
    normalize = normalizer(name)
    vocab = Vocab.build(map(normalize, texts))
    encode = vocab.encoder()
    return [
        Example(
            Utterance(id=f"u{i}", audio=FileAudio(Path("a.wav")), text=text, origin="t.jsonl:1"),
            normalize(text), tuple(encode(normalize(text))), 1, lambda: np.zeros(1, np.float32),
        )
        for i, text in enumerate(texts)
    ], vocab  # fmt: skip


def report(texts: list[str], name: str = "plain") -> list[str]:
    examples, vocab = examples_of(texts, name)
    return describe_text(examples, normalizer(name), vocab)


def lines_of(lines: list[str], *labels: str) -> list[str]:
    return [line for line in lines if line.split(":")[0] in labels]


def line(lines: list[str], label: str) -> str:
    return lines_of(lines, label)[0]


@pytest.mark.parametrize(
    ("text", "change", "count", "word"),
    [
        ("Yes, yes, no.", Change("dropped", ","), 2, ("Yes,", "yes")),
        ("(so) it", Change("dropped", "("), 1, ("(so)", "so")),
        ("10:30 well-known", Change("split", "-"), 1, ("well-known", "well known")),
        ("wait...what", Change("split", "."), 3, ("wait...what", "wait what")),
        ("co\u00adop co\u00adop", Change("joined", "\u00ad"), 2, ("co\u00adop", "coop")),
        ("صـه صـه صـه", Change("joined", "ـ"), 3, ("صـه", "صه")),
        ("don’t ain’t", Change("mapped", "’", "'"), 2, ("don’t", "don't")),
        ("ﬁnd", Change("mapped", "ﬁ", "fi"), 1, ("ﬁnd", "find")),
        ("İyi", Change("mapped", "İ", "i"), 1, ("İyi", "iyi")),
        ("... -- so", Change("dropped", "."), 3, ("...", "")),
        ("a\u200bb", Change("split", "\u200b"), 1, ("a\u200bb", "a b")),
    ],
)
def test_a_change_is_counted_with_a_word_in_which_it_happened(
    text: str, change: Change, count: int, word: tuple[str, str]
):
    changes = find_changes([text], normalizer("plain"))
    assert changes.counts[change] == count
    assert changes.words[change] == word


def test_case_is_counted_apart_and_composing_too():
    changes = find_changes(["Don’t SHOUT, CAFE\u0301", "so"], normalizer("plain"))
    assert changes.num_case == 1 + 5 + 4
    assert changes.num_composed == 1
    assert changes.counts == Counter({Change("mapped", "’", "'"): 1, Change("dropped", ","): 1})


def test_language_shows_as_a_mapping():
    changes = find_changes(["ISI"], normalizer("plain", "tr"))
    assert changes.counts == Counter({Change("mapped", "I", "ı"): 2})
    assert changes.num_case == 1


def test_what_hf_timit_joins_is_told():
    counts = find_changes(["a well-known, 'tis don't"], normalizer("hf-timit")).counts
    assert counts == Counter({Change("joined", "-"): 1, Change("dropped", ","): 1, Change("dropped", "'"): 1,
                              Change("joined", "'"): 1})  # fmt: skip


@pytest.mark.parametrize("name", NORMALIZERS)
def test_changes_add_up_to_what_was_written(name: str):
    """Reference: lengths. What was written less what went is what is learned, for every mixture of signs."""
    rng, normalize = random.Random(0), normalizer(name)
    for _ in range(300):
        text = "".join(rng.choices("abcAB12.,'’-…\u00ad éÉ", k=12))
        counts = find_changes([text], normalize).counts
        gone = sum(n for change, n in counts.items() if not change.after)
        written, learned = (len("".join(t.split())) for t in (text, normalize(text)))
        assert written - gone == learned, text


def test_report_names_kinds_counts_and_an_example():
    lines = report(["Yes, “ask”", "10:30 Don’t, no", "co\u00adop, plain"])
    assert lines[0] == "text:      of 37 characters 5 dropped, 1 split, 1 joined, 1 mapped, 2 changed in case"
    assert line(lines, "dropped") == (
        "dropped:   gone from the edge of a word: ',' 3 (Yes, -> yes), '“' 1 (“ask” -> ask), '”' 1 (“ask” -> ask)"
    )
    assert line(lines, "split") == "split:     a space inside a word: ':' 1 (10:30 -> 10 30)"
    assert line(lines, "joined") == "joined:    gone from inside a word: <U+00AD> 1 (co<U+00AD>op, -> coop)"
    assert line(lines, "mapped") == "mapped:    another character: '’' to \"'\" 1 (Don’t, -> don't)"


def test_text_that_normalising_leaves_alone_has_no_line_for_a_change():
    lines = report(["so it goes", "it goes so"])
    assert lines[0] == "text:      of 20 characters 0 dropped, 0 split, 0 joined, 0 mapped, 0 changed in case"
    assert not lines_of(lines, "dropped", "split", "joined", "mapped", "markup")


def test_many_kinds_are_counted_on():
    lines = report(['a! b? c, d. e; f: (g) h“ i” "j'])
    assert line(lines, "dropped").endswith(", 3 more kinds")


def test_units_seen_fewer_than_five_times_are_named_with_count_and_place():
    lines = report(["aaaaa b", "aaaaa bé", "cccc bb b"])
    assert line(lines, "units") == "units:     2 of 4 are seen fewer than 5 times in training: 'é' 1 (u1), 'c' 4 (u2)"
    assert line(report(["aaaaa b", "bbbb"]), "units") == "units:     each of 2 is seen at least 5 times in training"


def test_apostrophes_that_are_learned_apart_are_named():
    lines = report(["п'ять п’ять пʼять"])
    assert "units:     several apostrophes are learned apart: \"'\" (U+0027) 2, 'ʼ' (U+02BC) 1. Write one" in "\n".join(
        lines
    )
    assert "apostrophes" not in "\n".join(report(["п'ять п’ять"]))


def test_markup_that_would_be_learned_as_speech_is_named():
    lines = report(["so [noise] it <unk> goes [noise] &amp; on", "[...] a < b"])
    assert line(lines, "markup").startswith(
        "markup:    4 tags or entities are learned as if they were spoken: [noise] 2, <unk> 1, &amp; 1."
    )


def test_three_transcripts_are_shown_as_written_and_as_learned():
    """The first, the middle one, and that in which most changed."""
    lines = report(["First one.", "So", "In the middle!", "Well—it “goes”…", "last"])
    shown = lines_of(lines, "written", "learned")
    assert shown == [
        "written:   u0: First one.", "learned:   first one",
        "written:   u2: In the middle!", "learned:   in the middle",
        "written:   u3: Well—it “goes”…", "learned:   well it goes",
    ]  # fmt: skip
    assert len(lines_of(report(["One."]), "written")) == 1


def test_what_is_learned_is_what_the_units_spell():
    """A character without a unit shows as the unknown unit, not as it was written."""
    examples, _ = examples_of(["so é"])
    vocab = Vocab.build(["so"])
    examples = [Example(e.utterance, e.text, tuple(vocab.encoder()(e.text)), 1, e.load) for e in examples]
    assert describe_text(examples, normalizer("plain"), vocab)[-1] == "learned:   so [UNK]"


def test_long_transcripts_are_cut():
    assert all(len(line) < 230 for line in lines_of(report(["so it goes " * 100]), "written", "learned"))


def test_a_transcript_that_stays_as_it_is_stands_there_once():
    assert lines_of(report(["so it goes"]), "written", "learned") == [
        "written:   u0: so it goes",
        "learned:   as written",
    ]


@pytest.mark.parametrize("texts", [["四七六", "四八二四零七"], ["今天天气很好，我们去公园散步吧。"] * 2, ["สวัสดีครับ"]])
def test_a_script_without_spaces_is_told_what_its_word_error_rate_counts(texts: list[str]) -> None:
    assert lines_of(report(texts), "words")


@pytest.mark.parametrize(
    "texts", [["四 七 六", "四 八"], ["yes", "no"], ["안녕하세요", "네"], ["你好 世界", "今天 天气 好"]]
)
def test_words_with_spaces_between_them_are_words(texts: list[str]) -> None:
    """Korean puts spaces between words, and a command of one word is a word in English."""
    assert not lines_of(report(texts), "words")
