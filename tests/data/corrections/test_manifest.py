"""A corrected copy of a manifest: what is not corrected stays byte for byte.

pytest tests/data/corrections/test_manifest.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from data.corpora.manifest import ManifestConfig, ManifestCorpus
from data.corrections.corpus import corrected
from data.corrections.manifest import write_corrected
from scripts.correct import main
from trainer.errors import CorpusError

JSONL = (
    '{"audio_filepath":"a.wav", "duration": 1.70,"text" : "caf\\u00e9 \\"one\\"" ,"more":{"text":"no"}}\n'
    "\n"
    '{"text": "two", "audio_filepath": "b.wav", "speaker": "s"}\n'
    '{"audio_filepath": "c.wav", "text": "drei ü"}\r\n'
    '{"audio_filepath": "d.wav", "text": "four"}'
)
CSV = (
    'audio_filepath,"text",duration\r\na.wav,"one, ""or"" so",1.70\r\nb.wav,two,\r\n'
    'c.wav,"three",3\r\nd.wav,four "a" b,4\r\n'
)
TSV = 'path\tsentence\tup_votes\na.wav\tone, "or" so\t2\nb.wav\ttwo\t0\nc.wav\tthree\t\nd.wav\tfour\t1'
SEMICOLONS = "sep=;\naudio_filepath;text\na.wav;one\nb.wav;two\nc.wav;three\nd.wav;four\n"
PATCH: list[dict[str, Any]] = [
    {"id": "a.wav", "text": 'new, "text"; ü'}, {"id": "b.wav", "drop": True}, {"id": "c.wav", "text": " three"},
]  # fmt: skip


def write(folder: Path, name: str, content: bytes, patch: list[dict[str, Any]]) -> tuple[Path, ManifestConfig]:
    (folder / name).write_bytes(content)
    (folder / "fix.jsonl").write_text("".join(json.dumps(row) + "\n" for row in patch))
    return folder / name, ManifestConfig(patch=str(folder / "fix.jsonl"))


def read(path: Path) -> list[tuple[str, str, str | None, float | None]]:
    config = ManifestConfig(train=str(path))
    return [(u.id, u.text, u.speaker, u.stated_duration) for u in ManifestCorpus(config).utterances("train")]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize(
    ("name", "content"),
    [("train.jsonl", JSONL), ("train.csv", CSV), ("train.tsv", TSV), ("semi.csv", SEMICOLONS)],
    ids=["jsonl", "csv", "tsv", "semicolons"],
)
def test_the_copy_reads_as_the_corrected_corpus_and_else_stays_byte_for_byte(
    tmp_path: Path, name: str, content: str, encoding: str
) -> None:
    """Reference: the corpus read with --corpus.patch, and the lines of the file."""
    manifest, config = write(tmp_path, name, content.encode(encoding), PATCH)
    out = tmp_path / f"out{manifest.suffix}"
    told = write_corrected(manifest, out, config)
    assert told.startswith(f"{out}: 1 utterance left out and 2 transcripts replaced by fix.jsonl (sha256 ")
    expected = corrected(ManifestCorpus(ManifestConfig(train=str(manifest))), config)
    assert expected is not None
    assert [row[:2] for row in read(out)] == [(u.id, u.text) for u in expected.utterances("train")]
    assert [row[2:] for row in read(out)] == [row[2:] for row in read(manifest) if row[0] != "b.wav"]
    before, after = (path.read_bytes().decode(encoding).splitlines(keepends=True) for path in (manifest, out))
    changed = [line for line in before if line not in after]
    assert len(changed) == 3, "all other lines stand there as they were"
    dropped = next(i for i, line in enumerate(before) if "b.wav" in line)
    ends = [[line[len(line.rstrip("\r\n")) :] for line in lines] for lines in (before, after)]
    assert ends[1] == ends[0][:dropped] + ends[0][dropped + 1 :]
    assert out.read_bytes()[:2] == manifest.read_bytes()[:2], "a byte order mark"


def test_of_a_corrected_line_the_transcript_alone_is_another(tmp_path: Path) -> None:
    manifest, config = write(tmp_path, "train.jsonl", JSONL.encode(), [{"id": "a.wav", "text": "tee ü"}])
    write_corrected(manifest, tmp_path / "out.jsonl", config)
    expected = JSONL.replace('"caf\\u00e9 \\"one\\""', '"tee \\u00fc"')
    assert (tmp_path / "out.jsonl").read_bytes() == expected.encode()


@pytest.mark.parametrize(
    ("name", "content", "patch", "message"),
    [
        ("t.tsv", TSV, [{"id": "a.wav", "text": "a\tb"}], r"t\.tsv:2: the corrected transcript 'a\\tb' has a '\\t'"),
        ("t.csv", CSV, [{"id": "a.wav", "text": "a\nb"}], r"t\.csv:2: the corrected transcript 'a\\nb' has a line br"),
        ("t.csv", CSV, [{"id": "x.wav", "text": "a"}], r"t\.csv: no correction meets an utterance of it"),
        ("t.json", f"[{JSONL.splitlines()[2]}]", [{"id": "b.wav", "text": "a"}], r"t\.json: is one JSON array"),
        ("t.jsonl", JSONL + "\n{}", PATCH, r"t\.jsonl:6: "),
    ],
)
def test_what_cannot_be_written_is_told_and_nothing_is(
    tmp_path: Path, name: str, content: str, patch: list[dict[str, Any]], message: str
) -> None:
    manifest, config = write(tmp_path, name, content.encode(), patch)
    with pytest.raises(CorpusError, match=message):
        write_corrected(manifest, tmp_path / f"out{manifest.suffix}", config)
    assert not list(tmp_path.glob("out*"))


def test_the_command_writes_beside_the_manifest_and_over_nothing(tmp_path: Path, capsys: Any) -> None:
    manifest, config = write(tmp_path, "train.jsonl", JSONL.encode(), PATCH)

    def run(out: Path) -> int:
        return main([str(manifest), "--patch", config.patch, "--out", str(out)])

    assert run(tmp_path / "out.jsonl") == 0
    assert capsys.readouterr().out.startswith(f"{tmp_path}/out.jsonl: 1 utterance left out")
    (tmp_path / "below").mkdir()
    for out, why in (
        (tmp_path / "out.jsonl", "is there already"), (manifest, "is there already"),
        (tmp_path / "below" / "out.jsonl", "belongs into"), (tmp_path / "out.csv", "ends in .jsonl"),
    ):  # fmt: skip
        assert run(out) == 2
        assert why in capsys.readouterr().err
    assert manifest.read_bytes() == JSONL.encode()
    assert main([str(manifest), "--out", str(tmp_path / "none.jsonl")]) == 2
    assert "no corrections" in capsys.readouterr().err


def test_both_files_correct_a_manifest_of_any_columns_and_lines_that_meet_nothing_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = b"sound,said\na.wav,one\nb.wav,two\n"
    manifest, config = write(tmp_path, "train.csv", content, [{"id": "b.wav", "text": "zwei"}])
    (tmp_path / "bad.txt").write_text("a.wav\nx.wav\n")
    columns = ["--text-field", "said", "--audio-field", "sound"]
    files = ["--exclude", str(tmp_path / "bad.txt"), "--patch", config.patch]
    assert main([str(manifest), *files, *columns, "--out", str(tmp_path / "out.csv")]) == 0
    assert (tmp_path / "out.csv").read_text() == "sound,said\nb.wav,zwei\n"
    told = capsys.readouterr().out
    assert "1 utterance left out and 1 transcript replaced by bad.txt" in told
    assert f"; 1 of 3 corrections meet no utterance that is read here ({tmp_path}/bad.txt:2: x.wav)" in told
