"""From a vocabulary and files to a decoder: spelling, lexicon, hot words, tuning, long recordings.

pytest tests/trainer/decoding/test_decoder.py
"""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch

from data.text.vocab import Vocab
from data.utterance import Splits
from trainer.decoding.arpa import write_arpa
from trainer.decoding.beam import BeamOptions
from trainer.decoding.decoder import Decoder, build_decoder
from trainer.decoding.estimate import estimate
from trainer.decoding.fusion import Weights
from trainer.decoding.scores import development_split, rescored
from trainer.decoding.settings import Decoding, read_hot_words, tuned_weights, write_decoding
from trainer.decoding.tuning import tune
from trainer.errors import ConfigError, CorpusError, ModelError
from trainer.recognize.beam import decode_pieces
from trainer.scoring.decode import collapse, written_units
from trainer.scoring.metrics import PHONES, EditCounts
from trainer.scoring.scores import Hypothesis

VOCAB = Vocab(("|", *"abcdehilnorstuw", "[UNK]", "[PAD]"))
SENTENCES = ["the cat sat", "the hat sat on the cat", "a hat is in the hall", "the cat is on a hat"] * 3


def model(folder: Path, sentences: list[str] = SENTENCES, order: int = 3, name: str = "x.arpa.gz") -> Path:
    found = estimate([s.split() for s in sentences], order)
    write_arpa(folder / name, found.words, found.levels)
    return folder / name


def decoder(vocab: Vocab = VOCAB, **options: object) -> Decoder:
    return build_decoder(vocab, Decoding(**options), torch.device("cpu"))  # type: ignore[arg-type]


def spoken(text: str, vocab: Vocab = VOCAB, *, doubt: dict[int, str] | None = None) -> np.ndarray:
    """Log posteriors (T, V) of a model that is sure of `text`, a blank behind each unit, but at the characters of
    `doubt`, where another unit is a little likelier."""
    ids, frames = vocab.encoder()(text), []
    for i, unit in enumerate(ids):
        scores = np.full(len(vocab), -9.0)
        scores[unit] = 0.0
        if doubt and i in doubt:
            scores[vocab.ids[doubt[i]]] = 0.5
        silence = np.full(len(vocab), -9.0)
        silence[vocab.blank_id] = 0.0
        frames += [scores, silence]
    rows = torch.tensor(np.array(frames)).float()
    return rows.log_softmax(-1).numpy()


def read(found: Decoder, log_probs: np.ndarray, vocab: Vocab = VOCAB) -> str:
    return vocab.decode_to_compare(found.decode([log_probs])[0][0].units)


def test_the_model_settles_what_the_frames_leave_open(tmp_path: Path) -> None:
    log_probs = spoken("the cat sat", doubt={4: "h"})
    assert read(decoder(beam=BeamOptions(width=1)), log_probs) == "the hat sat"
    with_model = decoder(lm=model(tmp_path), weights=Weights(1.0))
    assert read(with_model, spoken("the cat is on a cat", doubt={16: "h"})) == "the cat is on a hat"


def test_a_model_in_lower_case_fits_units_that_are_capitals(tmp_path: Path) -> None:
    capitals = Vocab(("|", *"ABCDEHILNORSTUW", "[UNK]", "[PAD]"))
    assert decoder(capitals, lm=model(tmp_path)).notes == ()
    with_model = decoder(capitals, lm=model(tmp_path), weights=Weights(1.0))
    assert read(with_model, spoken("THE CAT IS ON A CAT", capitals, doubt={16: "H"}), capitals) == "THE CAT IS ON A HAT"


def test_words_that_cannot_be_written_are_counted_and_nearly_all_are_refused(tmp_path: Path) -> None:
    some = decoder(lm=model(tmp_path, [*SENTENCES, "zebra quiz"]))
    assert "2 of 11 words cannot be written" in some.notes[0]
    with pytest.raises(ModelError, match=r"x\.arpa\.gz: 3 of its 3 words cannot be written"):
        decoder(lm=model(tmp_path, ["один два три"]))


def test_phonemes_are_the_words_of_their_model(tmp_path: Path) -> None:
    phones = Vocab(("aa", "ng", "t", "[UNK]", "[PAD]"), word_delimiter=None, phonemes=True)
    lm = model(tmp_path, ["aa ng t"] * 5 + ["t aa ng"] * 2, name="p.arpa")
    with_model = decoder(phones, lm=lm, weights=Weights(1.5))
    assert read(with_model, spoken("aa ng t", phones, doubt={1: "t"}), phones) == "aa ng t"


def test_a_model_of_characters_scores_each_unit(tmp_path: Path) -> None:
    lm = model(tmp_path, [" ".join("|".join(s.split())) for s in SENTENCES], order=5, name="c.arpa")
    with_model = decoder(lm=lm, weights=Weights(1.0), of_units=True)
    assert read(with_model, spoken("the cat is on a cat", doubt={16: "h", 1: "t"})) == "the cat is on a hat"


def test_a_model_of_characters_that_is_taken_for_one_of_words_is_noted(tmp_path: Path) -> None:
    path = model(tmp_path, [" ".join(s.replace(" ", "|")) for s in SENTENCES])
    assert any("give --units" in note for note in decoder(lm=path).notes)
    assert not any("give --units" in note for note in decoder(lm=path, of_units=True).notes)


def test_what_a_model_lacks_is_told(tmp_path: Path) -> None:
    """Reference: the ARPA format, in which a model may have no words, and none of the three marks."""
    head, end = "\\data\\\nngram 1={}\n\n\\1-grams:\n", "\n\\end\\\n"
    (tmp_path / "marks.arpa").write_text(head.format(1) + "-0.5\tcat\n" + end)
    notes = decoder(lm=tmp_path / "marks.arpa").notes
    assert any("has no <unk>" in note for note in notes)
    assert any("has no </s>, so the ends of sentences are not scored" in note for note in notes)
    assert not any("</s>" in note for note in decoder(lm=model(tmp_path)).notes)
    (tmp_path / "none.arpa").write_text(head.format(0) + end)
    with pytest.raises(ModelError, match=r"none\.arpa: a model without any words"):
        decoder(lm=tmp_path / "none.arpa")


def test_hot_words_are_written_though_they_are_a_little_less_likely() -> None:
    log_probs = spoken("the hat is in a hall", doubt={4: "c", 16: "c"})
    assert read(decoder(), log_probs) == "the cat is in a call"
    assert read(decoder(hot_words={"hat": 2.0}), log_probs) == "the hat is in a call"
    assert read(decoder(hot_words={"in a hall": 3.0}), log_probs) == "the cat is in a hall"
    assert read(decoder(hot_words={"ha": 8.0, "all": 8.0}), log_probs) == "the cat is in a call"  # whole words only
    with pytest.raises(ConfigError, match="--hot-word quiz: cannot be written"):
        decoder(hot_words={"quiz": 1.0})


def test_hot_words_are_read_with_their_weights(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("Ann Lee\t2.5\n\nBo\n", encoding="utf-8")
    assert read_hot_words([f"@{tmp_path / 'names.txt'}", "Cy=-1"]) == {"Ann Lee": 2.5, "Bo": 4.0, "Cy": -1.0}
    with pytest.raises(ConfigError, match="--hot-word a: the weight behind =, x: give a number"):
        read_hot_words(["a=x"])


def test_a_hot_word_that_cannot_be_written_names_what_is_lacking() -> None:
    with pytest.raises(ConfigError, match=r"--hot-word The Zoë: cannot be written .* which lack 'z', 'ë'\. Spell it"):
        decoder(hot_words={"The Zoë": 1.0})


def test_a_hot_word_is_given_once_with_one_weight(tmp_path: Path) -> None:
    """The last weight would count, and nobody would be told."""
    (tmp_path / "names.txt").write_text("hat\t2\n\nhat\t5\n")
    with pytest.raises(ConfigError, match=r"names\.txt:3: hat is given twice"):
        read_hot_words([f"@{tmp_path / 'names.txt'}"])
    with pytest.raises(ConfigError, match="--hot-word: hat is given twice"):
        read_hot_words(["hat=2", "hat=5"])
    with pytest.raises(ConfigError, match=r"the model writes hat and HAT alike\. Give one of them"):
        decoder(hot_words=read_hot_words(["hat=2", "HAT=5"]))


def test_a_file_of_words_that_is_no_text_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    for raw, said in (
        ("hat\r\ncaf\xe9\n".encode("latin-1"), r"words\.txt:2: not UTF-8 \(byte 0xe9\)\. {} takes"),
        (b"\xef\xbb\xbfhat\nca\xe9", r"words\.txt:2: not UTF-8 \(byte 0xe9\)"),  # Windows writes such marks
        ("hat\u2028\ncat\n".encode() + b"\xff", r"words\.txt:3: not UTF-8"),
        (gzip.compress(b"hat\n"), r"words\.txt:1: packed with gzip"),
        (None, r"{} .*words\.txt: No such file or directory"),
    ):
        path.unlink(missing_ok=True)
        if raw is not None:
            path.write_bytes(raw)
        with pytest.raises(ConfigError, match=said.format("--lexicon")):
            decoder(lexicon=str(path))
        with pytest.raises(ConfigError, match=said.format("--hot-word")):
            read_hot_words([f"@{path}"])


def test_a_lexicon_in_capitals_fits_a_model_of_lower_case(tmp_path: Path) -> None:
    """As a language model and hot words in capitals do."""
    path, log_probs = tmp_path / "words.txt", spoken("the cat", doubt={4: "b"})
    for text in ("THE\nCAT\nSat\n", "The\ncat\n", "THE T H E |\nCAT C A T |\n"):
        path.write_text(text)
        assert read(decoder(lexicon=str(path)), log_probs) == "the cat"
        assert read(decoder(lexicon=str(path), lm=model(tmp_path)), log_probs) == "the cat"
    path.write_text("THE\nCAT C A R\n")
    with pytest.raises(CorpusError, match=r"words\.txt:2: CAT is spelled C A R, but the units of the word are c a t"):
        decoder(lexicon=str(path))


def test_a_lexicon_allows_its_words_alone(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("hat\nthe t h e |\nquiz\n", encoding="utf-8")
    found = decoder(lexicon=str(path))
    assert read(decoder(), spoken("the hat", doubt={4: "c"})) == "the cat"
    assert read(found, spoken("the hat", doubt={4: "c"})) == "the hat"
    assert "1 of 3 words cannot be written" in found.notes[0]
    assert read(decoder(lm=model(tmp_path), lexicon="lm"), spoken("the cat", doubt={4: "b"})) == "the cat"
    path.write_text("hat\nthe d e |\n", encoding="utf-8")
    with pytest.raises(CorpusError, match=r"words\.txt:2: the is spelled d e"):
        decoder(lexicon=str(path))


def test_tuning_finds_the_weight_that_makes_no_error(tmp_path: Path) -> None:
    found = decoder(lm=model(tmp_path), weights=Weights(0.0))
    said = [spoken("the cat is on a hat", doubt={16: "c"}), spoken("the hat sat", doubt={})]
    trials = tune(found, VOCAB, said, ["the cat is on a hat", "the hat sat"])
    assert trials[0].errors == 0
    assert trials[0].weights.lm > 0
    assert next(t for t in trials if t.weights == Weights(0.0)).errors == 1


def test_weights_are_never_tuned_on_the_test_split() -> None:
    alone = Splits(train="train", monitor="eval", headline="eval", closing=("eval",))
    with pytest.raises(ConfigError, match="eval is the only split"):
        development_split(alone)
    assert development_split(alone.with_test("test")) == "eval"


def test_tuned_weights_hold_for_the_model_that_they_were_tuned_with(tmp_path: Path) -> None:
    lm = model(tmp_path)
    assert tuned_weights(tmp_path, lm) is None
    write_decoding(tmp_path, Decoding(lm, Weights(0.75, 1.0), tuned_on="dev"))
    assert tuned_weights(tmp_path, lm) == (Weights(0.75, 1.0), "dev")
    assert tuned_weights(tmp_path, model(tmp_path, ["another text"], name="y.arpa")) is None
    (tmp_path / "decoding.json").write_text("{", encoding="utf-8")
    with pytest.raises(ConfigError, match="not readable as weights"):
        tuned_weights(tmp_path, lm)


def test_a_long_recording_in_pieces_reads_as_in_one(tmp_path: Path) -> None:
    """The frames of the hypothesis collapse to its text, and the model's context goes on from piece to piece."""
    text = "the cat is on a hat a hat is in the hall"
    log_probs = spoken(text, doubt={16: "c"})
    found = decoder(lm=model(tmp_path), weights=Weights(1.0))
    whole = decode_pieces(found, [log_probs], 1000).ids
    in_pieces = decode_pieces(found, np.array_split(log_probs, 7), 30)
    pieces, posteriors = in_pieces.ids, in_pieces.log_probs
    assert pieces.tolist() == whole.tolist()
    assert posteriors.tolist() == log_probs[np.arange(len(pieces)), pieces].tolist()
    written = written_units(collapse(torch.from_numpy(pieces)[None], torch.tensor([len(pieces)]), VOCAB.blank_id)[0])
    assert VOCAB.decode_to_compare(written) == text


def test_the_best_texts_of_a_long_recording_differ_in_all_of_its_pieces(tmp_path: Path) -> None:
    """As in one piece; only a path that is in a unit where a piece ends is lost, hence 1e-3."""
    log_probs = spoken("the cat is on a hat a hat is in the hall", doubt={4: "h", 36: "b"})
    found = decoder(lm=model(tmp_path), weights=Weights(0.4))
    whole = decode_pieces(found, [log_probs], 1000, 4).hypotheses
    pieces = decode_pieces(found, [log_probs], 20, 4).hypotheses
    assert [VOCAB.decode_to_compare(h.units) for h in pieces] == [VOCAB.decode_to_compare(h.units) for h in whole]
    assert [h.score for h in pieces] == pytest.approx([h.score for h in whole], abs=1e-3)
    assert len({h.units[:10] for h in whole}) > 1
    assert len({h.units[-6:] for h in whole}) > 1


def test_pieces_go_on_where_no_frame_is_blank() -> None:
    text = "abcdehilnorstu" * 6
    units = VOCAB.encoder()(text)
    log_probs = np.full((len(units), len(VOCAB)), -12.0, np.float32)
    log_probs[np.arange(len(units)), units] = 0.0
    found = decode_pieces(decoder(), [log_probs], 20)
    written = VOCAB.decode_to_compare(found.hypotheses[0].units)
    assert np.isfinite(found.hypotheses[0].score)
    assert len(written) >= len(text) - len(text) // 10  # a piece ends in a frame that must be blank


def test_phones_are_scored_as_phones() -> None:
    phones = Vocab(("aa", "ng", "t", "[UNK]", "[PAD]"), word_delimiter=None, phonemes=True)
    best_path = Hypothesis("1", "aa ng t", "", EditCounts(), EditCounts(), 1.0, units=PHONES, confidences=(0.5,))
    scored = rescored(best_path, [0, 2], phones)
    assert (scored.hypothesis, scored.words.deletions, scored.counts("per").num_errors) == ("aa t", 1, 1)
    assert scored.characters == EditCounts()
    assert scored.confidences is None  # those were of the best path's words


@pytest.mark.parametrize("option", ["--lm", "--hot-word", "--lexicon"])
def test_words_are_refused_where_no_unit_stands_between_them(option: str, tmp_path: Path) -> None:
    """As in a checkpoint of Chinese characters. Its units can be scored, as those of phones can."""
    vocab = Vocab((*"我你他爱", "[PAD]"), unknown=None, word_delimiter=None)
    options = {"--lm": {"lm": model(tmp_path, ["我你 他"])}, "--hot-word": {"hot_words": {"我你": 5.0}}}
    (tmp_path / "words").write_text("我你 我 你\n")
    chosen = options.get(option, {"lexicon": str(tmp_path / "words")})
    with pytest.raises(ConfigError, match=f"^{option}: this model has no unit that stands between words"):
        decoder(vocab, **chosen)
    if option == "--lm":
        found = decoder(vocab, lm=model(tmp_path, ["我 你 他 爱", "我 你 爱"], order=2), of_units=True)
        assert read(found, spoken("我你爱", vocab), vocab) == "我你爱"
