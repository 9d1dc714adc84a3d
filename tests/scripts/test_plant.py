"""scripts.plant: what it says it did is what the copy holds, and nothing else was touched."""

from __future__ import annotations

import json
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile

from data.audio.quality import measure_quality
from scripts.plant import main
from tests.helpers.corpora import WORDS, ManifestFolder, write_jsonl
from trainer.signs.planting import DEFAULT_KINDS, KINDS, alter, cut

NUM_TRAIN = 60


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> ManifestFolder:
    """Noise that goes up and down as syllables do, 1.2 s each; no two transcripts are the same."""
    folder = tmp_path_factory.mktemp("sound")
    rng = np.random.default_rng(0)
    loudness = 0.03 + 0.07 * np.sin(2 * np.pi * 2 * np.arange(19_200) / 16_000) ** 2
    rows: dict[str, list[dict[str, Any]]] = {"train": [], "eval": []}
    for split, number in (("train", NUM_TRAIN), ("eval", 4)):
        for i in range(number):
            name = f"{split}{i}.wav"
            soundfile.write(folder / name, loudness * rng.standard_normal(19_200), 16_000)
            text = f"{WORDS[i % 10]} {WORDS[i // 10]} a {WORDS[i * 7 % 10]}"
            rows[split].append({"id": f"{split}{i}", "audio_filepath": name, "text": text, "speaker": f"s{i % 3}"})
        write_jsonl(folder / f"{split}.jsonl", rows[split])
    return ManifestFolder(folder, rows)


def planted(corpus: ManifestFolder, out: Path, *options: str) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """(What planted.json says of each altered utterance, the rows of the copy's train.jsonl), by id."""
    assert main(["manifest", *corpus.options, "--out", str(out), *options]) == 0
    record = json.loads((out / "planted.json").read_text())
    rows = [json.loads(line) for line in (out / "train.jsonl").read_text().splitlines()]
    return {fault["id"]: fault for fault in record["planted"]}, {row["id"]: row for row in rows}


def samples(folder: Path, row: dict[str, Any]) -> np.ndarray:
    return soundfile.read(folder / row["audio_filepath"], dtype="float32")[0]


def test_a_share_is_altered_and_all_else_is_as_it_was(
    corpus: ManifestFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "copy"
    faults, rows = planted(corpus, out, "--share", "0.3")
    assert len(faults) == 18
    assert {fault["kind"] for fault in faults.values()} == set(DEFAULT_KINDS)
    assert list(rows) == [row["id"] for row in corpus.rows["train"]]
    for row in corpus.rows["train"]:
        copy, fault = rows[row["id"]], faults.get(row["id"])
        assert copy["speaker"] == row["speaker"]
        is_sound_fault = fault is not None and fault["kind"] not in ("swapped", "word-lost", "word-added")
        if fault is not None:
            assert (fault["text"], fault["written"]) == (row["text"], copy["text"])
        assert (copy["text"] != row["text"]) == (fault is not None and not is_sound_fault)
        assert np.array_equal(samples(out, copy), samples(corpus.folder, row)) != is_sound_fault
    held_out = [json.loads(line) for line in (out / "eval.jsonl").read_text().splitlines()]
    assert [(r["id"], r["text"]) for r in held_out] == [(r["id"], r["text"]) for r in corpus.rows["eval"]]
    assert all((out / r["audio_filepath"]).resolve().parent == corpus.folder for r in held_out)
    assert len({(out / row["audio_filepath"]).parent for row in rows.values()}) == 1  # none gives the altered ones away
    counts = ", ".join(f"2 {kind}" for kind in DEFAULT_KINDS)
    told = capsys.readouterr().out.splitlines()
    assert sorted(told[0].partition(": ")[2].partition(": ")[2].split(", ")) == sorted(counts.split(", "))
    assert told[0].startswith(f"{out}: 18 training utterances altered: ")
    manifests = f"--corpus.train {out}/train.jsonl --corpus.eval {out}/eval.jsonl"
    assert told[1] == f"train on it: python -m trainer.run manifest {manifests} --model.pretrained HUB_ID_OR_FOLDER"
    assert not (out / "test.jsonl").exists()


def test_the_same_seed_gives_the_same_files_and_another_one_others(corpus: ManifestFolder, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in "abc"]
    for folder, seed in zip(folders, ("0", "0", "1"), strict=True):
        planted(corpus, folder, "--share", "0.4", "--seed", seed, "--kinds", ",".join(KINDS))
    first, again, other = (
        {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()} for folder in folders
    )
    assert first == again
    assert first != other


def test_each_kind_of_sound_fault_is_what_it_says(corpus: ManifestFolder, tmp_path: Path) -> None:
    """By libsndfile's reading of the files, and by the measures that look for such faults."""
    out = tmp_path / "copy"
    kinds = [kind for kind in KINDS if kind not in ("swapped", "word-lost", "word-added")]
    faults, rows = planted(corpus, out, "--share", "0.5", "--kinds", ",".join(kinds))
    by_id = {row["id"]: row for row in corpus.rows["train"]}
    for id, fault in faults.items():
        now, before, details = samples(out, rows[id]), samples(corpus.folder, by_id[id]), fault["details"]
        quality = measure_quality(now)
        match fault["kind"]:
            case "cut":
                kept = before[len(before) - len(now) :] if details["end"] == "start" else before[: len(now)]
                assert np.allclose(now, kept, atol=1e-4)
                assert 0.55 < np.square(now).sum() / np.square(before).sum() < 0.85
                assert details["seconds_lost"] == pytest.approx((len(before) - len(now)) / 16_000, abs=1e-3)
            case "band":
                assert quality.band < 4200
            case "speed":
                assert len(now) == pytest.approx(len(before) / details["factor"], abs=1)
            case "clipped":
                at_limit = np.abs(now) >= np.abs(now).max() - 1e-4
                assert at_limit.mean() == pytest.approx(details["share"], abs=0.005)
            case "silence":
                assert quality.level < -70
            case "noise":
                assert quality.level == pytest.approx(measure_quality(before).level, abs=1)
            case "offset":
                assert quality.offset > 0.5
            case "dropout":
                for start, end in details["zeros"]:
                    assert not now[round(start * 16_000) + 16 : round(end * 16_000) - 16].any()
            case "twice":
                other = samples(corpus.folder, by_id[details["audio_of"]])
                assert np.allclose(now, details["gain"] * other, atol=1e-3)
    assert {fault["kind"] for fault in faults.values()} == set(kinds)


def test_a_word_is_lost_or_added_where_it_says(corpus: ManifestFolder, tmp_path: Path) -> None:
    faults, _ = planted(corpus, tmp_path / "copy", "--share", "0.5", "--kinds", "word-lost,word-added")
    assert {fault["details"]["place"] for fault in faults.values()} == {"start", "middle", "end"}
    for fault in faults.values():
        shorter, longer = sorted((fault["text"].split(), fault["written"].split()), key=len)
        assert len(longer) == len(shorter) + 1
        place, word = fault["details"]["place"], fault["details"]["word"]
        first, last = {"start": (0, 1), "middle": (1, len(longer) - 1), "end": (len(longer) - 1, len(longer))}[place]
        assert any([*longer[:i], *longer[i + 1 :]] == shorter and longer[i] == word for i in range(first, last))


def test_swapped_transcripts_are_the_same_ones_beside_other_audio(corpus: ManifestFolder, tmp_path: Path) -> None:
    faults, _ = planted(corpus, tmp_path / "copy", "--share=0.2", "--kinds=swapped")
    assert sorted(f["text"] for f in faults.values()) == sorted(f["written"] for f in faults.values())
    assert all(f["text"] != f["written"] for f in faults.values())
    alone, _ = planted(corpus, tmp_path / "other", "--share", "0.02", "--kinds", "swapped")
    assert len(alone) == 2, "one alone cannot be swapped"


@pytest.mark.parametrize("kind", ["word-lost", "word-added"])
def test_a_sentence_that_lost_or_gained_a_word_is_written_as_one(kind: str) -> None:
    for seed in range(20):
        of: Any = SimpleNamespace(text="So it goes on, and on.")
        _, written, details = alter(kind, of, "Yes, we did!", None, random.Random(seed))
        assert written != of.text
        assert (written[0].isupper(), written[-1]) == (True, ".")
        assert written.count(".") == 1, details
        of = SimpleNamespace(text="one")  # of one word, a character is lost or added
        _, written, details = alter(kind, of, "two", None, random.Random(seed))
        assert len(written) == 2 if kind == "word-lost" else sorted(written) == sorted(f"one{details['word']}")


def test_cut_audio_keeps_a_tenth_of_a_second_wherever_its_energy_is() -> None:
    for place in (0, 31_000):
        samples = np.full(32_000, 1e-4, np.float32)
        samples[place : place + 1000] = 0.5
        for seed in range(10):
            kept, details = cut(samples, 16_000, random.Random(seed))
            assert 1600 <= len(kept) <= 32_000 - 1600
            assert details["seconds_lost"] == pytest.approx(2 - len(kept) / 16_000, abs=1e-3)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--share", "0.9"], "--share 0.9"), (["--share", "-0.1"], "--share -0.1"),
        (["--kinds", "cut,swaped"], "--kinds swaped"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(
    corpus: ManifestFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], named: str
) -> None:
    assert main(["manifest", *corpus.options, "--out", str(tmp_path / "copy"), *options]) == 2
    assert named in capsys.readouterr().err
    assert not (tmp_path / "copy").exists()


def test_a_folder_with_something_in_it_is_left_alone(
    corpus: ManifestFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.txt").write_text("x")
    assert main(["manifest", *corpus.options, "--out", str(tmp_path)]) == 2
    assert "is there already, and is not empty" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_corpus_and_folder_must_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    for words, named in (
        (["manifest"], "--out DIR is missing"), (["--out", "copy"], "name the corpus first"),
        (["manifest", "--out", "copy"], "Preset manifest needs"),
    ):  # fmt: skip
        assert main(words) == 2
        assert named in capsys.readouterr().err
