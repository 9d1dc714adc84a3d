"""The n-gram model: look-ups against a plain reading of the ARPA format, estimation against the published formulas (and
lmplz where it is installed), and malformed files.

pytest tests/trainer/decoding/test_ngram.py
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import math
import random
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trainer.decoding.arpa import read_arpa, write_arpa
from trainer.decoding.estimate import estimate
from trainer.errors import CorpusError, ModelError

SMALL = """\
a comment before the data
\\data\\
ngram 1=5
ngram 2=3
ngram 3=2

\\1-grams:
-1.0\t<unk>
-99\t<s>\t-0.4
-0.9\t</s>
-0.6\tmy\t-0.3
-0.7\tdög\t-0.2

\\2-grams:
-0.5\t<s> my\t-0.1
-0.4\tmy dög\t-0.25
-0.2\tdög </s>

\\3-grams:
-0.05\t<s> my dög
-0.15\tdög my my

\\end\\
"""


def write(folder: Path, text: str, name: str = "x.arpa") -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    return path


def table_of(path: Path) -> dict[str, tuple[float, float]]:
    """n-gram -> (log10 probability, log10 back-off) of an ARPA file, read in the plainest way."""
    text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    rows = [line.split("\t") for line in text.decode().splitlines() if "\t" in line]
    return {row[1]: (float(row[0]), float(row[2]) if len(row) > 2 else 0.0) for row in rows}


def backed_off(table: dict[str, tuple[float, float]], context: Sequence[str], word: str) -> float:
    """log10 p(word | context) as the format defines it (Katz 1987)."""
    if (key := " ".join([*context, word])) in table:
        return table[key][0]
    if not context:
        return table["<unk>"][0]
    return table.get(" ".join(context), (0.0, 0.0))[1] + backed_off(table, context[1:], word)


def random_text(seed: int, num_sentences: int, num_words: int) -> list[list[str]]:
    rng = random.Random(seed)
    words = [f"w{i}" for i in range(num_words)]
    return [
        [words[min(num_words - 1, int(rng.expovariate(0.2)))] for _ in range(rng.randint(1, 8))]
        for _ in range(num_sentences)
    ]


@pytest.mark.parametrize("form", ["plain", "gzip", "crlf", "spaces", "byte order mark"])
def test_look_ups_equal_a_plain_reading_of_the_file(tmp_path: Path, form: str) -> None:
    """Of every context of up to two words; one 3-gram lacks the 2-gram that begins it, as pruning leaves it."""
    table = table_of(write(tmp_path, SMALL))
    text = {
        "crlf": SMALL.replace("\n", "\r\n"),
        "spaces": SMALL.replace("\t", "  "),
        "byte order mark": "\ufeff" + SMALL[SMALL.index("\\data\\") :],
    }
    model = read_arpa(write(tmp_path, text.get(form, SMALL), "y.arpa.gz" if form == "gzip" else "y.arpa"))
    words = ["<s>", "my", "dög", "</s>", "<unk>"]
    for context in [(), *((a,) for a in words), *((a, b) for a in words for b in words)]:
        state = torch.tensor([model.root])
        for word in context:
            state = model.score(state, torch.tensor([model.ids[word]]))[1]
        for word in words[1:]:
            found, _ = model.score(state, torch.tensor([model.ids[word]]))
            assert float(found) / math.log(10) == pytest.approx(backed_off(table, context, word), abs=1e-6)


def test_a_batch_of_look_ups_equals_one_at_a_time(tmp_path: Path) -> None:
    found = estimate(random_text(0, 200, 12), 4)
    write_arpa(tmp_path / "x.arpa.gz", found.words, found.levels)
    model, table = read_arpa(tmp_path / "x.arpa.gz"), table_of(tmp_path / "x.arpa.gz")
    for sentence in random_text(1, 20, 12):
        words = ["<s>", *sentence, "</s>"]
        expected = sum(backed_off(table, words[max(0, i - 3) : i], words[i]) for i in range(1, len(words)))
        assert model.sentence(sentence) / math.log(10) == pytest.approx(expected, abs=1e-5)
    assert model.num_bytes < 25 * model.num_ngrams


def test_an_unknown_word_without_unk_is_all_but_impossible(tmp_path: Path) -> None:
    text = SMALL.replace("-1.0\t<unk>\n", "").replace("ngram 1=5", "ngram 1=4")
    model = read_arpa(write(tmp_path, text))
    assert not model.has_unknown
    assert model.sentence(["other"]) / math.log(10) == pytest.approx(-100 - 0.4 - 0.9, abs=1e-4)


@pytest.mark.parametrize("marks", [["<unk>"], ["<s>", "</s>", "<unk>"]], ids=["unknown", "all"])
def test_marks_in_capitals_are_the_marks(tmp_path: Path, marks: list[str]) -> None:
    """The unknown word as KenLM reads it; all three where somebody made capitals of a whole model."""
    text = SMALL
    for mark in marks:
        text = text.replace(mark, mark.upper())
    model = read_arpa(write(tmp_path, text))
    assert model.has_unknown
    same = read_arpa(write(tmp_path, SMALL, "y.arpa"))
    assert model.words == same.words
    assert model.sentence(["my", "other"]) == same.sentence(["my", "other"])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("ngram 2=3", "ngram 2=4", r"x\.arpa:14: 3 2-grams stand here, but the head announces 4"),
        ("\\end\\\n", "", r"x\.arpa:22: the file ends without \\end\\"),
        ("-0.05\t<s> my dög", "-0.05\t<s> my dög\t-0.3", r"x\.arpa:20: a back-off weight on the highest level, 3"),
        ("-0.6\tmy", "0.6\tmy", r"x\.arpa:11: .*at most 0"),
        ("-0.6\tmy", "nan\tmy", r"x\.arpa:11: .*at most 0"),
        ("my\t-0.3", "my\tinf", r"x\.arpa:11: .*a weight is a number"),
        ("my\t-0.3", "my\tnan", r"x\.arpa:11: .*a weight is a number"),
        ("\\end\\", "\\4-grams:", r"x\.arpa:23: '\\\\4-grams:' stands where \\end\\ belongs\. .* announces 3-grams"),
        ("ngram 1=5\nngram 2=3\nngram 3=2\n", "", r"x\.arpa:4: \\data\\ announces no n-grams"),
        (SMALL[SMALL.index("\\1-grams") :], "", r"x\.arpa:6: the file ends before any n-gram"),
        ("-0.4\tmy dög\t-0.25", "-0.4\tmy dög\t-0.25\t1", r"x\.arpa:16: 4 fields behind the probability"),
        ("ngram 2=3", "ngram 2=2", r"x\.arpa:14: 3 2-grams stand here, but the head announces 2"),
        ("-0.6\tmy", "x\tmy", r"x\.arpa:11: .*is not log10"),
        ("-0.4\tmy dög", "-0.4\tmy cat", r"x\.arpa:16: the word 'cat' is not among the 1-grams"),
        ("-0.4\tmy dög\t-0.25", "-0.4\tmy", r"x\.arpa:16: 1 fields behind the probability"),
        ("-0.7\tdög", "-0.7\tmy", r"x\.arpa:12: the word 'my' stands twice"),
        ("-0.4\tmy dög\t-0.25", "-0.4\t<s> my\t-0.25", r"x\.arpa:16: the n-gram '<s> my' stands twice"),
        ("\\2-grams:", "\\3-grams:", r"x\.arpa:14: .* stands where \\2-grams: belongs"),
        ("\\data\\", "data", r"x\.arpa:23: the file ends without a line \\data\\"),
        ("ngram 1=5", "ngram 2=5", r"x\.arpa:3: .* stands where ngram 1=COUNT belongs"),
        ("\\data\\", "iARPA\n\n\\data\\", r"x\.arpa:\d: iARPA is not ARPA\. Convert the file: compile-lm"),
        (
            "\\data\\",
            "mmap lm http://kheafield.com/code format version 5\n\0",
            r"x\.arpa:\d: this is a binary file of K",
        ),
    ],
)
def test_a_malformed_file_is_refused_with_its_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in SMALL
    with pytest.raises(ModelError, match=message):
        read_arpa(write(tmp_path, SMALL.replace(old, new, 1)))


def test_a_level_that_pruning_has_left_empty_is_read(tmp_path: Path) -> None:
    """SRILM announces it all the same."""
    lines = SMALL.replace("ngram 3=2", "ngram 3=0").splitlines(keepends=True)
    empty = write(tmp_path, "".join(line for line in lines if not line.startswith(("-0.05", "-0.15"))), "empty.arpa")
    model, table = read_arpa(empty), table_of(empty)
    expected = sum(
        backed_off(table, context, word)
        for context, word in ((["<s>"], "my"), (["<s>", "my"], "dög"), (["my", "dög"], "</s>"))
    )
    assert model.order == 3
    assert model.sentence(["my", "dög"]) / math.log(10) == pytest.approx(expected, abs=1e-5)


def test_what_is_not_utf_8_or_cut_off_is_refused(tmp_path: Path) -> None:
    (tmp_path / "latin.arpa").write_bytes(SMALL.encode("latin-1"))
    with pytest.raises(ModelError, match=r"latin\.arpa:12: the word b'd\\xf6g' is not UTF-8"):
        read_arpa(tmp_path / "latin.arpa")
    text = SMALL.replace("\\data\\", "".join(f"{i * 7919 % 10007}\n" for i in range(5000)) + "\\data\\")
    whole = write(tmp_path, text, "x.arpa.gz").read_bytes()
    (tmp_path / "cut.arpa.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match=r"cut\.arpa\.gz:\d+: the gzip file is cut off") as caught:
        read_arpa(tmp_path / "cut.arpa.gz")
    (tmp_path / "bad.arpa.gz").write_bytes(whole[:2000] + b"\xff" * 50 + whole[2050:])
    with pytest.raises(ModelError, match=r"bad\.arpa\.gz:\d+: the gzip file is cut off or damaged"):
        read_arpa(tmp_path / "bad.arpa.gz")
    assert 1000 < int(str(caught.value).split(":")[1]) < 4900
    with pytest.raises(ModelError, match=r"cannot be read"):
        read_arpa(tmp_path / "none.arpa")


@pytest.mark.parametrize(
    ("first", "tool"), [(b"mmap lm http://kheafield.com/code format version 5\n\0", "KenLM"), (b"blmt 3 9\n", "IRSTLM")]
)
def test_a_binary_file_is_named_as_one(tmp_path: Path, first: bytes, tool: str) -> None:
    """The first lines that KenLM's build_binary and IRSTLM's compile-lm write."""
    (tmp_path / "x.bin").write_bytes(first + bytes(range(256)) * 9)
    with pytest.raises(ModelError, match=rf"x\.bin:1: this is a binary file of {tool}\. Give the ARPA file"):
        read_arpa(tmp_path / "x.bin")


@pytest.mark.parametrize("module", [bz2, lzma], ids=["bzip2", "xz"])
def test_a_packed_file_that_is_not_read_is_named_as_one(tmp_path: Path, module: Any) -> None:
    (tmp_path / "x.arpa.x").write_bytes(module.compress(SMALL.encode()))
    with pytest.raises(ModelError, match=r"x\.arpa\.x:1: packed with \w+\. Unpack the file"):
        read_arpa(tmp_path / "x.arpa.x")


def test_a_word_in_capitals_beside_the_unknown_word_is_a_word(tmp_path: Path) -> None:
    model = read_arpa(write(tmp_path, SMALL.replace("dög", "<UNK>")))
    assert sorted(model.words) == ["</s>", "<UNK>", "<s>", "<unk>", "my"]


def test_what_rounding_left_above_0_and_what_is_never_are_read_as_such(tmp_path: Path) -> None:
    """SRILM writes -99 for log10 of 0, others -inf; a weight on the highest level may be 0."""
    read = {}
    for name, log_prob in {"zero": "0", "above": "0.00009", "inf": "-inf", "never": "-100"}.items():
        path = write(tmp_path, SMALL.replace("-0.6\tmy", f"{log_prob}\tmy"), f"{name}.arpa")
        model = read_arpa(path)
        read[name] = float(model.log_probs[model.ids["my"]])
    assert read["above"] == read["zero"] == 0
    assert read["inf"] == read["never"] == pytest.approx(-100 * math.log(10))
    for log_prob in ("0.00011", "inf"):
        with pytest.raises(ModelError, match=r":11: .*at most 0"):
            read_arpa(write(tmp_path, SMALL.replace("-0.6\tmy", f"{log_prob}\tmy")))
    assert read_arpa(write(tmp_path, SMALL.replace("dög my my\n", "dög my my\t0\n"))).order == 3


def test_a_written_file_has_seven_digits_and_weights_but_on_the_highest_level(tmp_path: Path) -> None:
    found = estimate(random_text(4, 30, 9), 3)
    write_arpa(tmp_path / "x.arpa", found.words, found.levels)
    sections = (tmp_path / "x.arpa").read_text().split("-grams:\n")[1:]
    for level, section in zip(found.levels, sections, strict=True):
        rows = [line.split("\t") for line in section.splitlines() if "\t" in line]
        assert {len(row) for row in rows} == {2 if level is found.levels[-1] else 3}
        assert [float(row[0]) for row in rows] == pytest.approx(level.log_probs.tolist(), rel=1e-6)


def test_a_name_that_ends_in_gz_is_a_gzip_file_without_a_date(tmp_path: Path) -> None:
    found = estimate(random_text(4, 30, 9), 2)
    for name in ("x.arpa", "x.arpa.gz"):
        write_arpa(tmp_path / name, found.words, found.levels)
    packed = (tmp_path / "x.arpa.gz").read_bytes()
    assert packed[4:8] == bytes(4)  # when it was made, RFC 1952
    assert gzip.decompress(packed) == (tmp_path / "x.arpa").read_bytes()


def kneser_ney(sentences: Sequence[Sequence[str]], order: int) -> dict[str, float]:
    """log10 p of every n-gram of the text by the formulas of Chen and Goodman (1999, equations 26 and 27), n-gram by
    n-gram with dictionaries."""
    raw = [Counter[tuple[str, ...]]() for _ in range(order + 1)]
    for sentence in sentences:
        words = ["<s>", *sentence, "</s>"]
        for n in range(1, order + 1):
            raw[n].update(tuple(words[i : i + n]) for i in range(len(words) - n + 1))
    counts: list[dict[tuple[str, ...], int]] = [{} for _ in range(order + 1)]
    for n in range(1, order + 1):
        for gram in raw[n]:
            before = {longer[0] for longer in raw[n + 1] if longer[1:] == gram} if n < order else set()
            counts[n][gram] = raw[n][gram] if n == order or gram[0] == "<s>" else len(before)
    counts[1].pop(("<s>",))
    discounts = []
    for n in range(1, order + 1):
        how_many = Counter(counts[n].values())
        y = how_many[1] / (how_many[1] + 2 * how_many[2])
        discounts.append([0.0, *(k - (k + 1) * y * how_many[k + 1] / how_many[k] for k in (1, 2, 3))])
    vocabulary = len(counts[1]) + 1  # <unk> too

    def p(gram: tuple[str, ...]) -> float:
        if not gram:
            return 1 / vocabulary
        n, context = len(gram), gram[:-1]
        same = {g: c for g, c in counts[n].items() if g[:-1] == context}
        total = sum(same.values())
        if total == 0:
            return p(gram[1:])
        cut = discounts[n - 1]
        left = sum(cut[min(3, c)] for c in same.values()) / total
        mine = same.get(gram, 0)
        return (mine - cut[min(3, mine)]) / total + left * p(gram[1:])

    return {" ".join(g): math.log10(p(g)) for n in range(1, order + 1) for g in counts[n]}


def test_estimates_equal_the_published_formulas(tmp_path: Path) -> None:
    text = random_text(2, 60, 25)
    found = estimate(text, 3)
    assert found.fallbacks == []
    write_arpa(tmp_path / "x.arpa", found.words, found.levels)
    table = table_of(tmp_path / "x.arpa")
    expected = kneser_ney(text, 3)
    assert table.keys() == {*expected, "<s>", "<unk>"}
    for gram, log_prob in expected.items():
        assert table[gram][0] == pytest.approx(log_prob, abs=1e-5)


def test_estimates_equal_those_of_lmplz(tmp_path: Path) -> None:
    """To 1e-4 in log10, back-off weights included; where KenLM's program is installed."""
    if (lmplz := shutil.which("lmplz")) is None:
        pytest.skip("lmplz is not installed")
    text = random_text(3, 2000, 40)
    lines = "\n".join(map(" ".join, text)) + "\n"
    arpa = subprocess.run(
        [lmplz, "-o", "4", "--discount_fallback"], input=lines.encode(), capture_output=True, check=True
    ).stdout
    (tmp_path / "theirs.arpa").write_bytes(arpa)
    found = estimate(text, 4)
    write_arpa(tmp_path / "ours.arpa", found.words, found.levels)
    ours, theirs = table_of(tmp_path / "ours.arpa"), table_of(tmp_path / "theirs.arpa")
    assert ours.keys() == theirs.keys()
    ours.pop("<s>"), theirs.pop("<s>")  # whose probability nobody asks for
    for gram, values in theirs.items():
        assert ours[gram] == pytest.approx(values, abs=1e-4)


def test_probabilities_of_every_context_sum_to_one(tmp_path: Path) -> None:
    found = estimate([["a"], ["a", "b"], ["b", "c", "a"]], 4)
    assert found.fallbacks  # so few sentences have no counts to take discounts from
    write_arpa(tmp_path / "x.arpa", found.words, found.levels)
    model = read_arpa(tmp_path / "x.arpa")
    every = torch.tensor([i for i, word in enumerate(model.words) if word != "<s>"])
    for context in range(model.root + 1):
        if context < model.root and int(model.contexts[context]) != context:
            continue  # an n-gram of the highest order, or the end of a sentence
        found_here, _ = model.score(torch.full_like(every, context), every)
        assert float(found_here.exp().sum()) == pytest.approx(1.0, abs=1e-5)


def test_text_that_makes_no_model_is_refused() -> None:
    with pytest.raises(CorpusError, match="no word"):
        estimate([[], []], 3)
    with pytest.raises(CorpusError, match=re.escape("sentence 2 has the word </s>")):
        estimate([["a"], ["b", "</s>"]], 3)


def test_a_file_is_the_same_bytes_every_time(tmp_path: Path) -> None:
    found = estimate(random_text(4, 30, 9), 3)
    for name in ("a.arpa.gz", "b.arpa.gz"):
        write_arpa(tmp_path / name, found.words, found.levels)
    assert (tmp_path / "a.arpa.gz").read_bytes() == (tmp_path / "b.arpa.gz").read_bytes()
    assert np.isfinite(found.levels[-1].log_probs).all()
