"""Transcripts that are refused, rows R2, R5 and R6 of the reliability matrix: empty, too long, undecodable, unseen.

What is odd but has a meaning is accepted with that meaning, and checked against it.
"""

from __future__ import annotations

import dataclasses
import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from data.audio.decode import FileAudio
from data.corpora.manifest import ManifestConfig, ManifestCorpus
from data.corpora.timit.labels import read_segments, read_transcript
from data.examples.prepare import read_split
from data.text.normalise import plain
from data.utterance import Utterance
from tests.helpers.audio import MODEL, encoded, prepare, sound, utterance
from tests.helpers.corpora import ManifestFolder
from tests.helpers.spoiled import set_text
from trainer.errors import CorpusError

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


def test_word_delimiter_in_a_transcript_is_refused_with_the_transcript(
    tone_corpus: ManifestFolder, refused: Callable
) -> None:
    set_text(1, "One | two")(tone_corpus)
    message = refused("manifest", *tone_corpus.options, *MODEL, "--corpus.normalizer", "hf-timit")
    assert message.startswith(
        f"{tone_corpus.train}:2: utterance train-1: its transcript contains '|', which marks word "
    )
    assert "--corpus.normalizer plain" in message
