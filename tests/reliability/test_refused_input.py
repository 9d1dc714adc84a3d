"""Input that is refused, rows R2, R5 to R8 and R12 of the reliability matrix: transcripts, manifests, paths, options.

Each case is a test, a handful go through the command line; an alarm ends one that hangs. Rows R1, R3 and R4 are in
test_refused_audio.py, R9 to R11 in test_refused_model.py, R13 and R14 in test_refused_tables.py. What is odd but has a
meaning is accepted with that meaning, and checked against it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from data.audio.decode import FileAudio
from data.batches.plan import BatchPlan
from data.config import BatchingConfig
from data.corpora.manifest import ManifestConfig, ManifestCorpus
from data.corpora.timit import read_segments, read_transcript
from data.examples import Example, read_split, refuse_endless
from data.leaks import describe_leaks, find_leaks
from data.text.normalise import plain
from data.utterance import Utterance
from tests.helpers.audio import MODEL, BytesAudio, encoded, prepare, put_audio, sound, sphere_file, utterance
from tests.helpers.corpora import ManifestFolder
from trainer.cli.parse import parse
from trainer.config.as_json import from_json, to_json
from trainer.config.presets import PRESETS
from trainer.config.schema import Config, validate
from trainer.errors import AudioError, ConfigError, CorpusError
from trainer.run import main

if TYPE_CHECKING:
    from tests.helpers.refused import Tally

pytestmark = pytest.mark.usefixtures("no_hang", "own_folder")

# R2: transcripts that cannot be trained on


@pytest.mark.parametrize("text", ["", " \t ", "...!", "\u200b"])
def test_transcript_without_text_is_refused_for_training(tally: Tally, text: str) -> None:
    with tally.refuses(CorpusError, r"utterance u1: its transcript .* is empty once normalised.*--corpus\.on-bad drop"):
        prepare(utterance(encoded(sound(16_000)), text))


def test_evaluation_references_that_all_normalise_to_nothing_are_refused(
    refused: Callable[..., str], tone_corpus: ManifestFolder
) -> None:
    """Else the WER would be 0 % of 0 words, or infinite. One reference with a word is enough."""
    for row in tone_corpus.rows["eval"]:
        row["text"] = "?! ..."
    tone_corpus.write()
    message = refused("manifest", *tone_corpus.options, "--model.size", "tiny")
    assert "eval.jsonl:1: split 'eval' has no reference word, hence no error rate: its 3 transcripts" in message
    assert "--corpus.text-field" in message


def test_transcript_that_needs_more_frames_than_there_are_is_refused(tally: Tally) -> None:
    """400 + 4 * 320 samples are 5 frames; "aaaa" takes 4 labels and 3 blanks."""
    content = encoded(sound(400 + 4 * 320))
    with tally.refuses(CorpusError, "its 5 frames are too few: CTC needs 7 for 4 units"):
        prepare(utterance(content, "aaaa"))
    assert len(prepare(utterance(content, "abab"))[0]) == 1


# R5: the encoding of transcripts


def manifest(tmp_path: Path, content: bytes, name: str = "m.jsonl") -> list[Utterance]:
    (tmp_path / name).write_bytes(content)
    return read_split(ManifestCorpus(ManifestConfig(train=str(tmp_path / name))), "train")


def row(text: str) -> bytes:
    return json.dumps({"audio_filepath": "a.wav", "text": text}, ensure_ascii=False).encode(errors="surrogatepass")


@pytest.mark.parametrize(
    "encode",
    [
        lambda text: row(text).decode().encode("latin-1"),
        lambda text: row(text)[:-5] + b"\xff\xfe" + row(text)[-5:],
    ],
    ids=["latin-1", "stray bytes"],
)
@pytest.mark.parametrize("name", ["m.jsonl", "m.csv", "m.tsv"])
def test_undecodable_manifest_is_refused_by_name(
    tally: Tally, tmp_path: Path, name: str, encode: Callable[[str], bytes]
) -> None:
    with tally.refuses(CorpusError, rf"{name}:1: byte \d+ is not UTF-8\. Save the manifest as UTF-8"):
        manifest(tmp_path, encode("café"), name)


@pytest.mark.parametrize("name", ["A.TXT", "A.WRD", "A.PHN"])
def test_undecodable_label_file_is_refused_by_name(tally: Tally, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes("0 100 café\n".encode("latin-1"))
    with tally.refuses(CorpusError, rf"{name}: byte 9 is not UTF-8"):
        (read_transcript if name == "A.TXT" else read_segments)(tmp_path / name)


@pytest.mark.parametrize("prefix", [b"", b"\xef\xbb\xbf"], ids=["plain", "BOM"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_byte_order_mark_line_ends_and_composition_change_no_transcript(
    tally: Tally, tmp_path: Path, prefix: bytes, end: bytes, form: str
) -> None:
    """Reference: the composed text in lower case; the same for the manifest and for a label file."""
    text = unicodedata.normalize(form, "Café élan")
    with tally.accepts():
        (utterance,) = manifest(tmp_path, prefix + row(text) + end)
        (tmp_path / "A.TXT").write_bytes(prefix + b"0 100 " + text.encode() + end)
        for read in (utterance.text, read_transcript(tmp_path / "A.TXT")):
            assert plain(read) == "caf\u00e9 \u00e9lan"


@pytest.mark.parametrize(
    ("text", "character"),
    [("so\0it", "U\\+0000"), ("don\x92t", "U\\+0092"), ("so\x1b[31m", "U\\+001B"), ("bell\x07", "U\\+0007"),
     ("so \x7f", "U\\+007F"), ("caf\ufffd", "U\\+FFFD"), ("so \uf0b7 it", "U\\+F0B7"), ("so\ufffeit", "U\\+FFFE")],
)  # fmt: skip
def test_characters_that_no_text_has_are_refused_by_code_point(tally: Tally, text: str, character: str) -> None:
    """`plain` would drop them without a word: Windows-1252's apostrophe read as Latin-1, UTF-16's zero bytes, bytes
    that another tool could not decode, a bullet of a symbol font."""
    corpus = SimpleCorpus([Utterance("u1", FileAudio(Path("a.wav")), text, origin="train.jsonl:1")])
    with tally.refuses(CorpusError, rf"^train\.jsonl:1: utterance u1: its transcript holds {character}, .*UTF-8"):
        read_split(corpus, "train")


def test_an_id_may_hold_what_a_file_system_puts_into_a_name(tally: Tally) -> None:
    """SMB shares write U+F022 for a colon; an id is no text to be learned."""
    corpus = SimpleCorpus([Utterance("10\uf02230.wav", FileAudio(Path("a.wav")), "so it goes")])
    with tally.accepts():
        assert len(read_split(corpus, "train")) == 1


@dataclasses.dataclass
class SimpleCorpus:
    """As much of a Corpus as read_split asks for."""

    rows: list[Utterance]
    title: str = "the corpus"

    def utterances(self, split: str, faults: object = None) -> list[Utterance]:
        return self.rows


@pytest.mark.parametrize("field", ["text", "id"])
def test_lone_surrogate_of_an_escape_is_refused(tally: Tally, tmp_path: Path, field: str) -> None:
    """JSON may escape half a character; no file of ours could hold it."""
    values = {"audio_filepath": "a.wav", "text": "so it goes", "id": "u1", field: "so \ud83d goes"}
    with tally.refuses(CorpusError, r"m\.jsonl:1: utterance .*holds U\+D83D"):
        manifest(tmp_path, json.dumps(values).encode())


def test_white_space_controls_are_white_space(tally: Tally, tmp_path: Path) -> None:
    with tally.accepts():
        (utterance,) = manifest(tmp_path, json.dumps({"audio_filepath": "a", "text": "so\tit\x0b\u2028goes"}).encode())
        assert plain(utterance.text) == "so it goes"


def test_error_about_an_unprintable_id_is_one_clean_line(tone_corpus: ManifestFolder, refused: Callable) -> None:
    """A terminal code in an id must not reach the terminal."""
    tone_corpus.rows["train"][1]["id"] = "a\x1b[2Jb"
    tone_corpus.write()
    message = refused("manifest", *tone_corpus.options, *MODEL)
    assert message.startswith(f"{tone_corpus.train}:2: utterance a\\x1b[2Jb: its id holds U+001B")


def test_label_file_of_two_sentences_is_refused(tally: Tally, tmp_path: Path) -> None:
    (tmp_path / "A.TXT").write_text("0 100 She had.\n0 100 She had.\n")
    with tally.refuses(CorpusError, r"A\.TXT: expected one line, found 2"):
        read_transcript(tmp_path / "A.TXT")


def test_number_of_five_thousand_digits_in_a_label_file_is_refused(tally: Tally, tmp_path: Path) -> None:
    """Python's int refuses it with an error of its own."""
    (tmp_path / "A.PHN").write_text(f"0 {'9' * 5000} h#\n")
    with tally.refuses(CorpusError, r"A\.PHN:1: expected 'START END LABEL'"):
        read_segments(tmp_path / "A.PHN")


def test_key_that_stands_twice_in_a_row_is_refused(tally: Tally, tmp_path: Path) -> None:
    with tally.refuses(CorpusError, r'm\.jsonl:1: "text" stands twice'):
        manifest(tmp_path, b'{"audio_filepath": "a.wav", "text": "one", "text": "two"}\n')


def test_column_that_stands_twice_in_a_table_is_refused(tally: Tally, tmp_path: Path) -> None:
    with tally.refuses(CorpusError, r'm\.csv:1: two columns are named "text"'):
        manifest(tmp_path, b"audio_filepath,text,text\na.wav,one,two\n", "m.csv")


# R6: characters that training never saw


def test_unseen_characters_are_counted_and_scored_as_errors(
    tone_corpus: ManifestFolder, tally: Tally, trained: Callable
) -> None:
    tone_corpus.rows["eval"][1]["text"] = "ñandú ñ"
    tone_corpus.write()
    with tally.accepts():
        err, results = trained("manifest", *tone_corpus.options, *MODEL)
        assert "eval: " in err
        assert "characters were never seen in training" in err
        assert "'ñ' 2" in err
        assert results["num_reference_words"] == 6
        hypothesis = json.loads(Path("runs/run/hypotheses.jsonl").read_text().splitlines()[1])
        assert hypothesis["reference"] == "ñandú ñ"


# R7: the same utterance, speaker or recording twice


@pytest.mark.parametrize("split", ["train", "eval"])
def test_duplicate_id_is_refused_by_both_places(tone_corpus: ManifestFolder, refused: Callable, split: str) -> None:
    tone_corpus.rows[split][2]["id"] = f"{split}-0"
    tone_corpus.write()
    path = tone_corpus.folder / f"{split}.jsonl"
    message = refused("manifest", *tone_corpus.options, *MODEL)
    assert message.startswith(f"{path}:3: id '{split}-0' stands already at {path}:1.")


def example(name: str, speaker: str | None, digest: str) -> Example:
    return Example(Utterance(name, FileAudio(Path(name)), "a", speaker=speaker), "a", (1,), 400, sound, digest)


def test_leaks_are_found_by_speaker_and_by_recording() -> None:
    """Two of three speakers and one of four recordings; None is no speaker, an empty digest no recording."""
    train = [example("t1", "s1", "x"), example("t2", "s2", "y"), example("t3", None, "")]
    dev = [example("d1", "s2", "y"), example("d2", "s1", "z"), example("d3", "s9", "w"), example("d4", None, "")]
    assert find_leaks(train, {"dev": dev, "test": [example("e1", "s8", "v")]}) == [
        "dev: 2 of 3 speakers are also in training (s1, s2)",
        "dev: 1 of 4 recordings are also in training (d1 = t2)",
    ]


def test_parts_of_a_recording_are_leaks_where_they_overlap_and_told_where_they_do_not() -> None:
    """A whole file overlaps all of its parts; digests as content_digests writes them, frames behind the colon."""
    train = [example("t1", None, "x:0-100"), example("t2", None, "x:100-900"), example("t3", None, "x:50-60"),
             example("t4", None, "y"), example("t5", None, "z:5-9")]  # fmt: skip
    dev = [example("d1", None, "x:899-1000"), example("d2", None, "x:900-1000"), example("d3", None, "y:0-7"),
           example("d4", None, "z"), example("d5", None, "w:0-100"), example("d6", None, "z:0-5"),
           example("d7", None, "x:70-90")]  # fmt: skip
    assert find_leaks(train, {"dev": dev}) == [
        "dev: 4 of 7 recordings are also in training (d1 = t2, d3 = t4, d4 = t5, ...)",
        "dev: 2 of 7 utterances are cut from recordings that training has other parts of (d2, t1, d6, t5)",
    ]


def test_recordings_are_claimed_only_where_all_were_compared() -> None:
    train, nothing = [example("t1", "s1", "x")], "was found in both training and evaluation"
    both = describe_leaks([], train, {"dev": [example("d1", "s2", "y")]})
    assert both == [f"no speaker and no recording {nothing}"]
    unstored = describe_leaks([], train, {"dev": [example("d1", "s2", "")]})
    assert unstored == [f"no speaker {nothing}", "recordings were not compared (--corpus.no-store)"]
    undecodable = dataclasses.replace(example("d1", None, ""), num_samples=0)
    assert describe_leaks(["dev: a leak"], train, {"dev": [undecodable]}) == [
        "dev: a leak", "the corpus does not name every speaker",
    ]  # fmt: skip


def test_what_was_not_compared_is_not_claimed_by_check_or_card(
    tone_corpus: ManifestFolder, trained: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    for i, row in enumerate(tone_corpus.rows["eval"]):
        row["speaker"] = f"other{i}"
        put_audio(tone_corpus, "eval", i, encoded(sound(9000, seed=i)))
    tone_corpus.write()
    for options, claim in (
        ([], "o speaker and no recording was found in both training and evaluation"),
        (["--corpus.no-store"], "o speaker was found in both training and evaluation"),
    ):
        assert main(["manifest", *tone_corpus.options, *MODEL, *options, "--check"]) == 0
        checked = capsys.readouterr().err
        trained("manifest", *tone_corpus.options, *MODEL, *options, "--overwrite")
        card = Path("runs/run/model/README.md").read_text()
        assert f"N{claim}." in card
        assert f"leaks:     n{claim}" in checked
        for text in (checked, card):
            assert ("ecordings were not compared (--corpus.no-store)" in text) == bool(options)


def test_strict_without_a_store_is_refused(tone_corpus: ManifestFolder, refused: Callable) -> None:
    message = refused("manifest", *tone_corpus.options, *MODEL, "--strict", "--corpus.no-store")
    assert message == "--strict compares recordings as they are stored: leave out --corpus.no-store."


@pytest.fixture
def leaky(tone_corpus: ManifestFolder) -> ManifestFolder:
    """Speakers s0 and s1 on both sides, and one recording under two names."""
    for i in (0, 2):
        put_audio(tone_corpus, "eval", i, encoded(sound(9000, seed=i)))
    put_audio(tone_corpus, "eval", 1, (tone_corpus.folder / "wav" / "train-4.wav").read_bytes())
    return tone_corpus


LEAKS = (
    "eval: 2 of 2 speakers are also in training (s0, s1)",
    "eval: 1 of 3 recordings are also in training (eval-1 = train-4)",
)


def test_same_speaker_and_same_recording_on_both_sides_are_refused_under_strict(
    leaky: ManifestFolder, refused: Callable
) -> None:
    assert refused("manifest", *leaky.options, *MODEL, "--strict").startswith(f"{LEAKS[0]}; {LEAKS[1]}. Mend")


def test_same_speaker_and_same_recording_on_both_sides_are_a_warning(
    leaky: ManifestFolder, tally: Tally, trained: Callable
) -> None:
    with tally.accepts():
        err, _ = trained("manifest", *leaky.options, *MODEL)
        assert [line for line in err.splitlines() if "also in training" in line] == [
            f"warning: {line}" for line in LEAKS
        ]


# R8: what is no file, and paths that are the user's own business


def make_fifo(path: Path) -> Path:
    os.mkfifo(path)
    return path


def make_socket(path: Path) -> Path:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(path))  # a socket's path must be short
    return path


def make_folder(path: Path) -> Path:
    path.mkdir()
    return path


def make_link(target: str) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        path.symlink_to(target)
        return path

    return make


NO_FILES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "FIFO": (make_fifo, "a FIFO, not a file"),
    "socket": (make_socket, "a socket, not a file"),
    "folder": (make_folder, "Is a directory"),
    "/dev/zero": (lambda path: Path("/dev/zero"), "a character device, not a file"),
    "link to /dev/zero": (make_link("/dev/zero"), "a character device, not a file"),
    "dangling link": (make_link("nowhere"), "No such file or directory"),
}


@pytest.mark.parametrize("kind", NO_FILES)
def test_what_is_no_file_is_refused_as_audio(tally: Tally, tmp_path: Path, kind: str) -> None:
    make, reason = NO_FILES[kind]
    path = make(tmp_path / "a.wav")
    for attribute in ("header", "identity"):
        with tally.refuses(AudioError, f"^{path}: {reason}"):
            getattr(FileAudio(path), attribute)
    with tally.refuses(AudioError, f"^{path}: {reason}"):
        FileAudio(path).raw()


def read_manifest(path: Path) -> list[Utterance]:
    return list(ManifestCorpus(ManifestConfig(train=str(path))).utterances("train"))


LIST_READERS = {
    "m.jsonl": read_manifest,
    "m.csv": read_manifest,
    "A.TXT": read_transcript,
    "A.WRD": read_segments,
}


@pytest.mark.parametrize("kind", [kind for kind in NO_FILES if kind != "/dev/zero"])
@pytest.mark.parametrize("name", LIST_READERS)
def test_what_is_no_file_is_refused_as_manifest_and_as_labels(
    tally: Tally, tmp_path: Path, kind: str, name: str
) -> None:
    make, reason = NO_FILES[kind]
    path = make(tmp_path / name)
    with tally.refuses(CorpusError, f"^{path}: {reason}"):
        LIST_READERS[name](path)


@pytest.mark.parametrize("split", ["train", "eval"])
@pytest.mark.parametrize("target", ["fifo", "/dev/zero"])
def test_manifest_that_names_a_device_is_refused_without_hanging(
    tone_corpus: ManifestFolder, refused: Callable, split: str, target: str
) -> None:
    """In evaluation too: that is no recording that fails to decode, the corpus is wrong."""
    if target == "fifo":
        os.mkfifo(tone_corpus.folder / "fifo")
    tone_corpus.rows[split][1]["audio_filepath"] = target
    tone_corpus.write()
    message = refused("manifest", *tone_corpus.options, *MODEL)
    assert f"{target}: a " in message
    assert "not a file" in message


def test_absolute_paths_parent_folders_and_links_are_the_users_own_business(
    tone_corpus: ManifestFolder, tally: Tally, trained: Callable
) -> None:
    folder = tone_corpus.folder
    (folder / "link.wav").symlink_to(folder / "wav" / "train-2.wav")
    for i, path in enumerate([str(folder / "wav" / "train-0.wav"), f"../{folder.name}/wav/train-1.wav", "link.wav"]):
        tone_corpus.rows["train"][i]["audio_filepath"] = path
    tone_corpus.write()
    with tally.accepts():
        err, _ = trained("manifest", *tone_corpus.options, *MODEL)
        assert ": 6 utterances" in err


# R12: options that cannot be, and an utterance of ten hours


IMPOSSIBLE = [
    "--batching.batch-size 0", "--batching.batch-size -3", "--eval.batch-size 0", "--optim.lr -1e-4", "--optim.lr 0",
    "--optim.lr nan", "--optim.lr inf", "--optim.weight-decay -1", "--optim.warmup-steps -1", "--optim.max-grad-norm 0",
    "--train.epochs 0", "--train.epochs 1000000000000", "--train.max-steps 0", "--train.max-steps 9223372036854775808",
    "--train.grad-accum-steps 0", "--train.log-every 0", "--batching.num-workers 100000", "--seed -1",
    "--seed 9223372036854775808", "--batching.worker-timeout -1", "--batching.worker-timeout nan",
    "--batching.max-batch-seconds -1", "--corpus.max-seconds 0", "--corpus.max-eval-seconds nan",
    "--augment.speeds 0", "--augment.speeds 0.9 -1.1", "--augment.speeds nan", "--model.mask-time-length 0",
    "--model.layerdrop 1.0",
]  # fmt: skip


@pytest.mark.parametrize("option", IMPOSSIBLE)
def test_option_that_cannot_be_is_refused_by_name(tally: Tally, option: str) -> None:
    config = parse(["demo", *option.split()])
    with tally.refuses(ConfigError, f"^{option.split()[0]} "):
        validate(config)


@pytest.mark.parametrize(
    "options",
    [["--batching.batch-size", "0"], ["--optim.lr", "-1.0"], ["--train.epochs", "1000000000000"], ["--seed", "-1"],
     ["--train.max-steps", "5", "--optim.warmup-steps", "5"], ["--train.max-steps", "5", "--optim.warmup-steps", "99"]],
    ids=lambda options: " ".join(options),
)  # fmt: skip
def test_command_with_an_impossible_option_is_refused(
    tone_corpus: ManifestFolder, refused: Callable, options: list[str]
) -> None:
    message = refused("manifest", *tone_corpus.options, *MODEL, *options)
    assert message.startswith(f"{options[-2]} {options[-1]} ")


@pytest.mark.parametrize("option", ["--batching.batch-sise", "--corpus.speed", "--lr", "--train.epochs"])
def test_unknown_option_and_option_without_a_value_are_refused(
    tone_corpus: ManifestFolder, tally: Tally, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    tally.tried += 1
    assert main(["manifest", *tone_corpus.options, *MODEL, option]) == 2
    assert option in capsys.readouterr().err
    tally.refused += 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda plain: plain.update(learning_rate=1), "unknown field 'learning_rate'"),
        (lambda plain: plain["optim"].update(beta=1), "unknown field 'beta'"),
        (lambda plain: plain["corpus"].pop("max_eval_seconds"), "'max_eval_seconds' is missing"),
        (lambda plain: plain["train"].update(epochs="20"), "'20' is not int"),
        (lambda plain: plain.update(corpus=None), "not a run's configuration"),
    ],
    ids=["unknown", "unknown in a group", "missing", "mistyped", "no corpus"],
)
def test_config_json_with_an_unknown_missing_or_mistyped_key_is_refused(
    tally: Tally, change: Callable[[dict], Any], message: str
) -> None:
    plain = json.loads(to_json(PRESETS["demo"]()))
    change(plain)
    with tally.refuses(ConfigError, message):
        from_json(json.dumps(plain), "config.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"\xff\xfe", "not readable (not UTF-8)"), (b"{", "not a run's configuration"), (b"[]", "not a run's conf")],
    ids=["undecodable", "cut", "a list"],
)
def test_resuming_a_run_whose_config_json_is_damaged_is_refused(
    tone_corpus: ManifestFolder, refused: Callable, content: bytes, message: str
) -> None:
    """Through the command line."""
    Path("runs/manifest").mkdir(parents=True)
    Path("runs/manifest/config.json").write_bytes(content)
    found = refused("manifest", *tone_corpus.options, *MODEL, "--resume")
    assert found.startswith(f"runs/manifest/config.json: {message}")


def test_config_json_nested_too_deeply_is_refused(tally: Tally) -> None:
    with tally.refuses(ConfigError, r"^config\.json: not a run's configuration"):
        from_json("[" * 100_000, "config.json")


@pytest.mark.parametrize("seed", [0, 2**63 - 1])
def test_smallest_and_largest_seed_are_accepted(
    tally: Tally, tone_corpus: ManifestFolder, trained: Callable, seed: int
) -> None:
    with tally.accepts():
        trained("manifest", *tone_corpus.options, *MODEL, "--seed", str(seed))


def test_no_speeds_at_all_leave_speech_as_it_is(tally: Tally) -> None:
    with tally.accepts():
        config = PRESETS["demo"]()
        config = dataclasses.replace(config, augment=dataclasses.replace(config.augment, speeds=()))
        assert isinstance(validate(config), Config)
        plan = BatchPlan([800, 900], ["a", "b"], BatchingConfig(), 0, 1, speeds=config.augment.speeds)
        assert plan.epoch_lengths(0) == [800, 900]


@pytest.mark.parametrize("seconds", [None, 1.0])
def test_planning_stops_at_the_cap_whatever_the_epochs(tally: Tally, seconds: float | None) -> None:
    """10^12 epochs counted one by one would take days."""
    with tally.accepts():
        batching = BatchingConfig(batch_size=2, max_batch_seconds=seconds)
        plan = BatchPlan([8000] * 6, list("abcdef"), batching, 0, epochs=10**12)
        assert plan.total_steps(at_most=50) == 50
        assert BatchPlan([8000] * 6, list("abcdef"), batching, 0, epochs=4).total_steps() == 12
        assert BatchPlan([8000] * 6, list("abcdef"), batching, 0, epochs=4).total_steps(at_most=11) == 11


def ten_hours() -> bytes:
    """The first bytes of a SPHERE file of 36,000 seconds; the samples follow as a hole of zeros, taking no space."""
    return sphere_file(np.zeros(0, np.float32), sample_count=36_000 * 16_000)


def write_ten_hours(path: Path) -> None:
    path.write_bytes(ten_hours())
    os.truncate(path, 1024 + 2 * 36_000 * 16_000)


def test_utterance_of_ten_hours_is_refused_for_training_by_its_header_alone(
    tone_corpus: ManifestFolder, refused: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_ten_hours(tone_corpus.folder / "wav" / "train-3.wav")
    monkeypatch.setattr(FileAudio, "load", lambda self: pytest.fail("decoded"))
    monkeypatch.setattr(FileAudio, "raw", lambda self: pytest.fail("read"))
    message = refused("manifest", *tone_corpus.options, *MODEL)
    assert message.startswith(
        f"{tone_corpus.train}:4: utterance train-3: it lasts 36000.0 s, over --corpus.max-seconds 30."
    )


def test_utterance_of_ten_hours_is_refused_for_evaluation_by_its_header_alone(
    tone_corpus: ManifestFolder, refused: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_ten_hours(tone_corpus.folder / "wav" / "eval-1.wav")
    monkeypatch.setattr(FileAudio, "load", lambda self: pytest.fail("decoded"))
    monkeypatch.setattr(FileAudio, "raw", lambda self: pytest.fail("read"))
    message = refused("manifest", *tone_corpus.options, *MODEL)
    assert message == (
        f"{tone_corpus.eval}:2: utterance eval-1: it lasts 36000.0 s, over --corpus.max-eval-seconds 1800. Cut it, or "
        "raise the limit if memory allows: evaluation leaves nothing out."
    )


def test_limit_of_evaluation_includes_itself(tally: Tally) -> None:
    utterance = Utterance("u1", BytesAudio(b"", "a.wav", "a"), "a", origin="eval.jsonl:1")
    at, over = (Example(utterance, "a", (1,), n, lambda: np.zeros(0)) for n in (16_000, 16_001))
    with tally.accepts():
        refuse_endless([at], 1.0)
    with tally.refuses(
        CorpusError, r"^eval\.jsonl:1: utterance u1: it lasts 1\.0 s, over --corpus\.max-eval-seconds 1"
    ):
        refuse_endless([over], 1.0)
