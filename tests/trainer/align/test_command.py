"""python -m scripts.align, with a recogniser of tones: folders, corpora, files, messages and exit codes.

pytest tests/trainer/align/test_command.py
"""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

import trainer.align.inputs
import trainer.recognize.transcribe
from data.corpora.synthetic.sphere import write_sphere
from data.shards.tarring import key_of
from data.text.vocab import Vocab
from data.utterance import Segment
from scripts.align import FORMAT_NAMES, RULE_NAMES, choose_times, main
from tests.helpers.spoken import recognizer, speak_words
from tests.helpers.tones import VOCAB
from trainer.align.formats import FORMATS
from trainer.align.inputs import Item, file_names, with_known_times
from trainer.align.spelled import RULES
from trainer.align.times import EdgeModel, SpikeTimes, save_times

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def tones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer.recognize.transcribe, "load_recognizer", lambda *args: recognizer())


def put(folder: Path, name: str, words: list[str], text: str | bytes | None = None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    soundfile.write(folder / name, speak_words(words)[0], 16_000)
    raw = " ".join(words).encode() if text is None else text.encode() if isinstance(text, str) else text
    (folder / name).with_suffix(".txt").write_bytes(raw)


def test_a_call_that_is_averaged_is_told_once_and_a_manifest_says_the_side(tmp_path: Path, capsys: Capture) -> None:
    """Reference: each side as a recording of its own."""
    sides = [speak_words(words)[0] for words in (["abc", "face", "head"], ["bag", "hehe", "cab", "abc"])]
    length = sum(map(len, sides))
    call = np.stack([np.pad(sides[0], (0, length - len(sides[0]))), np.pad(sides[1], (len(sides[0]), 0))], axis=1)
    for name in ("a", "b"):
        put(tmp_path / "in", f"{name}.wav", ["abc", "face", "head"])
        soundfile.write(tmp_path / "in" / f"{name}.wav", np.concatenate([call, call]), 16_000)
    assert main(["m", str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 0
    told = capsys.readouterr().err
    assert f"warning: {tmp_path}/in/a.wav: each channel has its own sound: a speaker on either side?" in told
    assert told.count("own sound") == 1
    put(tmp_path, "side.wav", ["abc", "face", "head"])
    soundfile.write(tmp_path / "side.wav", np.concatenate([call, call])[:, 0], 16_000)
    row = {"id": "side", "audio_filepath": "in/a.wav", "channel": "A", "text": "abc face head"}
    (tmp_path / "m.jsonl").write_text(json.dumps(row) + "\n")
    for source in ("side.wav", "m.jsonl"):
        assert main(["m", str(tmp_path / source), "--out", str(tmp_path / f"of {source}")]) == 0
        assert "own sound" not in capsys.readouterr().err
    alone, side = (tmp_path / f"of {source}" / "side.ctm" for source in ("side.wav", "m.jsonl"))
    assert "abc" in alone.read_text()
    assert side.read_text() == alone.read_text()


def test_a_folder_becomes_one_file_a_recording_and_format(tmp_path: Path, capsys: Capture) -> None:
    put(tmp_path / "in", "a.wav", ["abc", "face"])
    put(tmp_path / "in" / "deep", "a.flac", ["head", "bag"], "head bag hehe")
    out = tmp_path / "out"
    assert main(["m", str(tmp_path / "in"), "--format", *FORMAT_NAMES, "--out", str(out)]) == 0
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*.*")) == sorted(
        name + suffix for name in ("a", "deep/a") for suffix, _ in FORMATS.values()
    )
    lines = [line.split() for line in (out / "a.ctm").read_text().splitlines()]
    assert [(line[0], line[1], line[4]) for line in lines] == [("a", "1", "abc"), ("a", "1", "face")]
    assert [word["status"] for word in json.loads((out / "deep/a.json").read_text())["words"]][2] == "unmatched"
    said = capsys.readouterr().err
    assert f"warning: {tmp_path}/in/deep/a.flac: 1 of 3 words are not heard: 'hehe'" in said
    assert "2 of 2 recordings" in said


def test_files_that_are_there_already_are_replaced_only_when_asked(tmp_path: Path, capsys: Capture) -> None:
    put(tmp_path / "in", "a.wav", ["ab"])
    put(tmp_path / "in", "b.wav", ["cd"])
    out = tmp_path / "out"
    argv = ["m", str(tmp_path / "in"), "--format", "textgrid", "--out", str(out)]
    assert main(argv) == 0
    (out / "a.TextGrid").write_text("corrected by hand")
    (out / "b.TextGrid").unlink()
    capsys.readouterr()
    assert main(argv) == 2
    assert f"{out}/a.TextGrid exists already. Give another --out, --overwrite to" in capsys.readouterr().err
    assert (out / "a.TextGrid").read_text() == "corrected by hand"
    assert not (out / "b.TextGrid").exists()
    assert main([*argv[:3], "ctm", *argv[4:]]) == 0  # files of another format are others
    assert main([*argv, "--overwrite"]) == 0
    assert (out / "a.TextGrid").read_text() != "corrected by hand"


def test_what_cannot_be_aligned_is_named_and_the_others_go_on(tmp_path: Path, capsys: Capture) -> None:
    folder = tmp_path / "in"
    put(folder, "good.wav", ["abc", "face"])
    put(folder, "latin.wav", ["abc"], "abc\nd\u00e9j\u00e0".encode("latin-1"))
    put(folder, "empty.wav", ["abc"], " \n")
    put(folder, "twice.wav", ["abc"])
    put(folder, "twice.flac", ["abc"])
    put(folder, "noaudio.wav", ["abc"])
    (folder / "noaudio.wav").unlink()
    put(folder, "notext.wav", ["abc"])
    (folder / "notext.txt").unlink()
    put(folder, "broken.wav", ["abc"])
    (folder / "broken.wav").write_bytes(b"RIFF no audio at all")
    put(folder, "dash.wav", ["abc"], "—")
    assert main(["m", str(folder)]) == 2
    captured = capsys.readouterr()
    assert [line.split()[4] for line in captured.out.splitlines()] == ["abc", "face"]
    errors = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    expected = {
        "latin.txt:2: not UTF-8 (byte 0xe9)": "latin",
        "empty.txt: the transcript is empty": "empty",
        "twice.flac: twice.wav has the same name": "twice",
        "noaudio.txt: no audio of this name": "noaudio",
        "notext.wav: no transcript. Write what is said into notext.txt": "notext",
        "broken.wav: ": "broken",
        "dash.wav: the transcript has no word, only '—'": "dash",
    }
    assert len(errors) == len(expected)
    for message in expected:
        assert any(f"{folder}/{message}" in error for error in errors), message
    assert "1 of 8 recordings" in captured.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["missing"], "missing: no such file or folder"),
        (["alone.wav"], "alone.wav: no transcript. Write what is said into alone.txt beside it"),
        (["none"], "none: no audio file in this folder"),
        (["in", "--format", "json", "ctm"], "several formats need a folder to go to"),
        (["in", "--out", "a.wav"], "--out a.wav is a file"),
        (["in", "--format", "srt"], "2 recordings as srt need a folder"),
        (["in", "--learn-times", "t.json", "--evaluate"], "--learn-times writes times and nothing else"),
        (["in", "--times", "t.json"], "t.json: No such file or directory"),
        (["in", "--overlap", "30"], "cannot overlap by 30 s"),
        (["in", "--formt", "srt"], "Did you mean --format?"),
    ],
)
def test_impossible_options_are_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture, words: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    put(tmp_path / "in", "x.wav", ["abc"])
    put(tmp_path / "in", "y.wav", ["abc"])
    put(tmp_path, "a.wav", ["abc"])
    (tmp_path / "alone.wav").write_bytes(b"")
    (tmp_path / "none").mkdir()
    assert main(["m", *words]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert message in line


def test_a_manifest_with_a_bad_row_aligns_the_others(tmp_path: Path, capsys: Capture) -> None:
    put(tmp_path, "a.wav", ["abc"])
    put(tmp_path, "b.wav", ["face", "bag"])
    rows = [
        {"audio_filepath": "a.wav", "text": "abc"},
        {"audio_filepath": "a.wav"},
        {"audio_filepath": "b.wav", "text": "face bag"},
    ]
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["m", str(tmp_path / "c.jsonl"), "--out", str(tmp_path / "out")]) == 2
    assert f"{tmp_path}/c.jsonl:2" in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.ctm", "b.ctm"]


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (["s1-0007", "a b", "Ünü"], ["s1-0007", "a b", "Ünü"]),
        (["/data/c/wav/a.wav", "/data/c/wav/deep/b.flac"], ["a", "deep/b"]),
        (["/data/a.wav", "a.wav"], ["=2fdata=2fa=2ewav", "a=2ewav"]),
        (["x/a.wav", "x/a.flac", "x/a"], ["x=2fa=2ewav", "x=2fa=2eflac", "x=2fa"]),
        (["../../evil", "a/../b", "./c", "d//e", "f/", ".hidden", "", "a=2fb", "g\nh"], None),
        (["x" * 300], None),
        (["v1.5", "/"], ["v1.5", "=2f"]),
    ],
)
def test_files_are_named_after_ids_below_out_and_never_twice(ids: list[str], expected: list[str] | None) -> None:
    """Where nothing is expected by name, each is the key that packed shards use: nothing leaves --out."""
    names = [str(name) for name in file_names(ids)]
    assert names == (expected if expected is not None else [key_of(id) if id else "." for id in ids])


def tree(root: Path, num_words: int = 6, *, word_rows: str | None = None) -> Path:
    """A TIMIT tree of two times twenty sentences, whose words begin 20 ms before their tones and end 30 ms behind."""
    for part in ("TRAIN", "TEST"):
        for i in range(20):
            home = root / part / "DR1" / f"FAA{chr(65 + i)}0"
            home.mkdir(parents=True)
            rng = np.random.default_rng([i, part == "TEST"])
            words = ["".join(rng.choice(list("abcdefgh"), 3)) for _ in range(num_words)]
            waveform, segments = speak_words(words, i, varied=True)
            samples = np.rint(30_000 * waveform).astype(np.int16)
            write_sphere(home / "SI1.WAV", samples, utterance_id="x")
            (home / "SI1.TXT").write_text(f"0 {len(samples)} {' '.join(words)}\n")
            rows = "".join(f"{s.start - 320} {s.end + 480} {s.label}\n" for s in segments)
            (home / "SI1.WRD").write_text(word_rows or rows)
            (home / "SI1.PHN").write_text(f"0 {len(samples)} h#\n")
    (root / "SYNTHETIC.json").write_text(json.dumps({"num_utterances": {"train": 20, "test": 20}}))
    return root


def test_times_are_learned_from_one_split_and_shown_on_another(tmp_path: Path, capsys: Capture) -> None:
    """The tree's words are 50 ms longer than their tones; 200 words teach it."""
    root, times = tree(tmp_path / "TIMIT", 10), tmp_path / "times.json"
    assert main(["m", str(root), "--split", "train", "--learn-times", str(times)]) == 0
    assert "200 words" in capsys.readouterr().err
    assert main(["m", str(root), "--split", "test", "--evaluate", "--times", str(times)]) == 0
    rows = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines()}
    without, learned = float(rows["frames"][3]), float(rows["learned"][3])
    assert rows["frames"][1:3] == rows["learned"][1:3] == ["200", "0"]
    assert without > 15
    assert learned < 0.6 * without


def test_times_beside_the_model_are_used_unless_others_are_asked_for(tmp_path: Path) -> None:
    edge = EdgeModel(1.0, {}, {}, (0.0,) * 7, (0.0,) * 7, (0.0,) * 7, (0.0, 2.0))
    assert choose_times(None, str(tmp_path), "ab") is None
    save_times(SpikeTimes(edge, edge, "beside"), tmp_path / "times.json")
    save_times(SpikeTimes(edge, edge, "other"), tmp_path / "other.json")
    beside, other = (
        choose_times(None, str(tmp_path), "ab"),
        choose_times(str(tmp_path / "other.json"), str(tmp_path), "ab"),
    )
    assert beside is not None
    assert beside.source == "beside"
    assert other is not None
    assert other.source == "other"
    assert choose_times("none", str(tmp_path), "ab") is None


def test_times_of_another_model_are_refused(tmp_path: Path, capsys: Capture) -> None:
    """They were taken: a unit that times do not know gets the common lag."""
    put(tmp_path, "a.wav", ["abc"])
    edge = EdgeModel(1.0, {"a": 0.0, "sh": 3.0}, {}, (0.0,) * 7, (0.0,) * 7, (0.0,) * 7, (0.0, 2.0))
    save_times(SpikeTimes(edge, edge, "phones"), tmp_path / "times.json")
    assert main(["m", str(tmp_path), "--times", str(tmp_path / "times.json")]) == 2
    assert "times.json: learned with another model, which writes 'sh'. Learn times" in capsys.readouterr().err


def test_a_tree_with_bad_and_missing_files_is_aligned_but_for_their_sentences(tmp_path: Path, capsys: Capture) -> None:
    """No option says that a tree may lack files, so none is asked for."""
    root = tree(tmp_path / "TIMIT")
    home = root / "TEST" / "DR1"
    (home / "FAAA0" / "SI1.WRD").write_text("800 1600\n")
    (home / "FAAB0" / "SI1.PHN").unlink()
    (root / "TRAIN" / "DR1" / "FAAA0" / "SI1.WRD").unlink()  # of the other split
    assert main(["m", str(root), "--evaluate"]) == 2
    said = capsys.readouterr()
    assert "error: " + str(home / "FAAA0" / "SI1.WRD") + ":1: expected 'START END LABEL', found '800 1600'" in said.err
    assert "error: " + str(home / "FAAB0" / "SI1.PHN") + ": no such file. Copy it" in said.err
    assert said.err.count("error: ") == 2
    assert "18 of 20 recordings" in said.err
    assert said.out.splitlines()[1].split()[:3] == ["frames", str(18 * 6), "0"]


def test_a_part_of_a_tree_is_read_as_the_tree_is(tmp_path: Path, capsys: Capture) -> None:
    """A .TXT file of TIMIT begins with two numbers, which are no words; .WRD has the times. Reference: the tree."""
    root = tree(tmp_path / "TIMIT")
    assert main(["m", str(root), "--evaluate"]) == 0
    of_tree = capsys.readouterr().out
    for part in ("TEST", "TEST/DR1"):
        assert main(["m", str(root / part), "--evaluate"]) == 0
        assert capsys.readouterr().out == of_tree
    home = root / "TEST" / "DR1" / "FAAA0"
    assert main(["m", str(home), "--out", str(tmp_path / "out")]) == 0
    text = (home / "SI1.TXT").read_text().split()[2:]
    assert [line.split()[4] for line in (tmp_path / "out" / "SI1.ctm").read_text().splitlines()] == text
    put(tmp_path / "own", "a.wav", ["abc", "face"], "1 2 abc face")  # numbers that somebody says
    put(tmp_path / "own", "b.wav", ["abc", "face"])
    (tmp_path / "own" / "b.wrd").write_text("labels of another kind")
    assert main(["m", str(tmp_path / "own"), "--format", "ctm"]) == 0
    assert ";; unspelled at" in capsys.readouterr().out


def test_a_split_of_which_a_tree_has_nothing_is_told(tmp_path: Path, capsys: Capture) -> None:
    assert main(["m", str(tree(tmp_path / "TIMIT")), "--split", "dev"]) == 2
    assert "TIMIT: holds no utterance of dev. Give another --split." in capsys.readouterr().err


def test_a_model_of_phones_aligns_the_phones_of_a_tree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """Its .TXT holds words, which such a model cannot write. The tones of a, b and c are called aa, iy and m here."""
    names = dict(zip("abc", ["aa", "iy", "m"], strict=True))
    hears = recognizer()
    tokens = tuple(names.get(token, f"x{i}" if token in "defgh|" else token) for i, token in enumerate(VOCAB.tokens))
    phones = replace(hears, vocab=Vocab(tokens, word_delimiter=None, phonemes=True))
    monkeypatch.setattr(trainer.recognize.transcribe, "load_recognizer", lambda *args: phones)
    root = tree(tmp_path / "TIMIT")
    for home in (root / "TEST" / "DR1").iterdir():
        waveform, _ = speak_words(["cab"])
        write_sphere(home / "SI1.WAV", np.rint(30_000 * waveform).astype(np.int16), utterance_id="x")
        (home / "SI1.PHN").write_text("900 2600 m\n2600 5100 aa\n5100 7700 iy\n7700 8000 x5\n")
    assert main(["m", str(root), "--out", str(tmp_path / "out")]) == 0
    rows = [line.split() for line in (tmp_path / "out" / "FAAA0_SI1.ctm").read_text().splitlines()]
    assert [row[4] for row in rows if row[0] != ";;"] == ["m", "aa", "iy"]
    assert "FAAA0_SI1: 1 of 4 units are not heard: 'x5'" in capsys.readouterr().err


def test_a_transcript_of_which_nothing_can_be_written_is_an_error(tmp_path: Path, capsys: Capture) -> None:
    """It used to become one word that lasts as long as all that is said, with exit code 0."""
    put(tmp_path / "in", "a.wav", ["abc", "face"], "17 42")
    put(tmp_path / "in", "b.wav", ["abc", "face"], "abc 42")
    assert main(["m", str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert (
        "a.wav: no word of the transcript can be written with the model's units: there is none for '1', '7', '4'"
        in said
    )
    assert "1 of 2 recordings" in said


@pytest.mark.parametrize(
    ("rows", "message"),
    [("800 400 abc\n", "SI1.WRD:1: '800 400 abc' does not end after its beginning"),
     ("800 1600 abc\n100 900 face\n", "SI1.WRD:2: '100 900 face' begins before the line above"),
     ("800 1600 abc\n1600 999999 face\n", "SI1.WRD:2: '1600 999999 face' ends behind the audio, which has ")],
)  # fmt: skip
def test_contradictory_times_name_file_and_line(tmp_path: Path, capsys: Capture, rows: str, message: str) -> None:
    root = tree(tmp_path / "TIMIT", word_rows=rows)
    assert main(["m", str(root), "--evaluate"]) == 2
    assert message in capsys.readouterr().err


def test_a_corpus_without_times_cannot_be_compared(tmp_path: Path, capsys: Capture) -> None:
    put(tmp_path, "a.wav", ["abc"])
    assert main(["m", str(tmp_path), "--evaluate"]) == 2
    assert "a.wav: no times are known. They are in the .WRD and .PHN files" in capsys.readouterr().err


def test_forced_a_recording_that_is_too_short_says_why(tmp_path: Path, capsys: Capture) -> None:
    put(tmp_path, "a.wav", ["abc"], "aabbccddee aabbccddee aabbccddee aabbccddee")
    assert main(["m", str(tmp_path), "--force"]) == 2
    assert "cannot hold the transcript's 43 units and a blank between 20 repeated ones" in capsys.readouterr().err


def test_the_options_name_what_there_is() -> None:
    """The command lists them before anything heavy is imported."""
    assert tuple(FORMATS) == FORMAT_NAMES
    assert sorted(RULE_NAMES) == sorted(RULES)


@pytest.mark.parametrize(
    ("units", "expected"),
    [
        (["sil", "aa", "l", "b"], "sil aa l sil b"),
        (["sil", "vcl", "ao", "l", "b"], "sil ao l vcl b"),
        (["h#", "q", "ao", "l", "bcl", "b"], "h# q ao l bcl b"),
        (["ɔ", "l"], "h# q ao l bcl b"),
    ],
    ids=["39", "48", "61", "others"],
)
def test_known_phones_are_folded_as_the_models_units_are(units: list[str], expected: str) -> None:
    """Reference: the rows of Lee and Hon's table, by hand. A vocabulary lacks the phones that training never had."""
    phones = tuple(Segment(i, i + 1, label) for i, label in enumerate(["h#", "q", "ao", "l", "bcl", "b"]))
    item = Item("x", Path("x"), lambda: np.zeros(1), "", phones=phones)
    known = with_known_times(item, phones=True, units=units)
    assert known.text == " ".join(segment.label for segment in known.segments) == expected
    assert known.segments[-1] == Segment(5, 6, "b")


@pytest.mark.parametrize("format", ["ctm", "json"])
def test_what_the_terminal_cannot_show_is_named_and_json_goes_on_in_ascii(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture, format: str
) -> None:
    put(tmp_path / "in", "a.wav", ["abc"], "abc \u0436")
    put(tmp_path / "in", "b.wav", ["face"])
    printed = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(printed, "latin-1"))
    code = main(["m", str(tmp_path / "in"), "--format", format, "--normalizer", "none"])
    text, said = printed.getvalue().decode("latin-1"), capsys.readouterr().err
    if format == "json":
        assert code == 0
        assert [json.loads(line)["text"] for line in text.splitlines()] == ["abc \u0436", "face"]
    else:
        assert code == 2
        assert f"error: {tmp_path}/in/a.wav: U+0436 cannot be printed in latin-1. Set PYTHONIOENCODING=utf-8" in said
        assert [line.split()[4] for line in text.splitlines()] == ["face"]
