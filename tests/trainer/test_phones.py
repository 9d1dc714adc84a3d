"""A run on phones from end to end: what it leaves says PER and no WER, and transformers reads the same phones.

pytest tests/trainer/test_phones.py
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import pytest
import soundfile
import torch
from transformers import AutoModelForCTC, AutoProcessor

from data.text.phones import PhoneScoring, fold
from data.text.vocab import Vocab
from models.checkpoints.export import save_huggingface
from models.checkpoints.pretrained import EncoderSource, read_encoder
from models.config import ModelConfig
from tests.helpers.models import make_talkative, small_model
from trainer.card.tables import confusion_sections
from trainer.errors import CorpusError
from trainer.prepare.vocabulary.choice import choose_vocabulary
from trainer.report.media import spoken, written_words
from trainer.run import main as train
from trainer.rundir.logs.eventfiles import read_events
from trainer.rundir.results import read_hypotheses, read_results
from trainer.scoring.alignment import align_words
from trainer.scoring.classes import NOTHING, by_class
from trainer.scoring.metrics import PHONES, WORDS, count_word_errors, units_of
from trainer.scoring.scores import Hypothesis

RULE = "39 classes, q removed, silences merged"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, synthetic_cache: Path) -> Path:
    """Two evaluations of a model of 48 classes that learns nothing."""
    folder = tmp_path_factory.mktemp("runs")
    options = [
        "demo-phones", "--corpus.size", "tiny", "--corpus.units", "phones48", "--corpus.silences", "merged",
        "--model.size", "tiny", "--train.max-steps", "2", "--train.eval-every", "1", "--optim.warmup-steps", "1",
        "--name", "run", "--cache-dir", str(synthetic_cache), "--runs-dir", str(folder), "--device", "cpu",
    ]  # fmt: skip
    with pytest.MonkeyPatch.context() as patched:  # curves take half of the time of so small a run
        patched.setattr("trainer.card.card.draw_curves", lambda records: {})
        patched.setattr("trainer.report.run.draw_curves", lambda records: {})
        assert train(options) == 0
    return folder / "run"


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.slow
def test_results_hold_per_with_its_rule_and_no_wer(run: Path) -> None:
    """Reference: jiwer on the folded transcripts of hypotheses.jsonl."""
    results = read_results(run)
    record = results["splits"]["test-no-sa"]
    for of in (results, record):
        assert {"per", "ser", "scoring", "num_reference_phones"} <= of.keys()
        assert not {"wer", "cer", "num_reference_words"} & of.keys()
        assert of["scoring"] == RULE
    assert {"per_interval", "per_interval_over"} <= record.keys()
    assert set(results["best"]) == {"step", "per"}
    rows = [r for r in lines_of(run / "hypotheses.jsonl") if "test-no-sa" in (r["split"], *r.get("also", ()))]
    assert results["per"] == jiwer.wer([r["reference"] for r in rows], [r["hypothesis"] for r in rows])
    assert results["num_reference_phones"] == sum(len(r["reference"].split()) for r in rows)


@pytest.mark.slow
def test_references_are_the_corpus_phones_folded_to_39(run: Path, tiny_timit: Path) -> None:
    """Reference: the label files, with neighbouring silences merged by a regular expression."""
    for row in lines_of(run / "hypotheses.jsonl"):
        speaker, sentence = row["id"].split("_")
        (file,) = tiny_timit.glob(f"TEST/*/{speaker}/{sentence}.PHN")
        folded = " ".join(fold([line.split()[2] for line in file.read_text().splitlines()], "phones39"))
        assert row["reference"] == re.sub(r"\bsil( sil)+\b", "sil", folded)
        assert row["units"] == "phones"


@pytest.mark.slow
def test_evaluations_are_logged_as_per(run: Path) -> None:
    records = [r for r in lines_of(run / "metrics.jsonl") if "eval/loss" in r]
    assert [r["step"] for r in records] == [1, 2]
    for record in records:
        assert {"eval/per", "eval/ser", "eval/num_reference_phones"} <= record.keys()
        assert not {"eval/wer", "eval/cer"} & record.keys()
    (board,) = run.glob("events.out.tfevents.*")
    tags = {value.tag for _, event in read_events(board.read_bytes()) for value in event.summary.value}
    assert {"eval/per", "trained/per"} <= tags
    assert not {"eval/wer", "trained/wer", "trained/cer"} & tags


@pytest.mark.slow
def test_card_and_report_say_per_with_its_rule(run: Path) -> None:
    card, report = ((run / name).read_text(encoding="utf-8") for name in ("model/README.md", "report.html"))
    assert f"- Per [{RULE}]: " in card
    assert "| Training Loss | Epoch | Step | Validation Loss | Per |" in card
    assert "#### Confusion by phone class" in card
    assert RULE in report
    assert "By phone class" in report
    for text in (card, report):
        assert "Wer:" not in text
        assert not re.search(r">WER<|\| WER|Word error|word errors", text)


@pytest.mark.slow
def test_hypotheses_are_read_as_what_was_written(run: Path) -> None:
    for h in read_hypotheses(run / "hypotheses.jsonl")["test-no-sa"]:
        assert h.units == PHONES
        assert h.words == h.counts("per") == count_word_errors(h.reference, h.hypothesis)


@pytest.mark.slow
def test_transformers_reads_the_exported_folder_and_writes_the_same_phones(run: Path, tmp_path: Path) -> None:
    """Reference: AutoModelForCTC and AutoProcessor, without a phonemizer. The model is one that writes much."""
    vocab = Vocab.build_phones(["h# sh iy kcl k ax-h q axr h#"])
    model = make_talkative(small_model("unispeech", vocab_size=len(vocab), blank_id=vocab.blank_id))
    save_huggingface(model.hf, vocab.tokens, vocab.special, True, tmp_path, vocab.reading)
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "a.wav", 0.1 * rng.standard_normal(16_000), 16_000, subtype="PCM_16")
    from scripts.transcribe import main as transcribe

    assert transcribe([str(tmp_path), str(tmp_path / "a.wav"), "--format", "json", "--out", str(tmp_path)]) == 0
    ours = json.loads((tmp_path / "a.json").read_text())["text"]
    processor, theirs = AutoProcessor.from_pretrained(tmp_path), AutoModelForCTC.from_pretrained(tmp_path).eval()
    sound, _ = soundfile.read(tmp_path / "a.wav")
    with torch.inference_mode():
        ids = theirs(**processor(sound, sampling_rate=16_000, return_tensors="pt")).logits.argmax(-1)
    assert len(ours.split()) > 3
    assert set(ours.split()) <= vocab.writable | {vocab.unknown}
    assert processor.batch_decode(ids) == [ours]
    assert processor.tokenizer("h# sh q ax-h").input_ids == vocab.encoder()("h# sh q ax-h")


# What does not fit together


def encoder_that_writes(tmp_path: Path, vocab: Vocab) -> EncoderSource:
    model = small_model("unispeech", vocab_size=len(vocab), blank_id=vocab.blank_id)
    save_huggingface(model.hf, vocab.tokens, vocab.special, True, tmp_path, vocab.reading)
    return read_encoder(ModelConfig(pretrained=str(tmp_path)))


def test_a_model_of_words_is_not_scored_on_phones_nor_the_other_way_round(tmp_path: Path) -> None:
    phones, words = Vocab.build_phones(["s iy"]), Vocab.build(["sea"])
    with pytest.raises(CorpusError, match=r"writes characters, and --corpus\.units asks for phones"):
        choose_vocabulary("auto", [], encoder_that_writes(tmp_path / "w", words), False, False, are_units=True)
    with pytest.raises(CorpusError, match=r"writes phones .*, and the corpus was asked for words.*--corpus\.units"):
        choose_vocabulary("auto", [], encoder_that_writes(tmp_path / "p", phones), False, False, are_units=False)


def test_a_head_of_characters_that_could_spell_phones_is_not_kept(tmp_path: Path) -> None:
    encoder = encoder_that_writes(tmp_path, Vocab.build(["s iy hh"]))
    vocab, is_own = choose_vocabulary("auto", ["s iy hh"], encoder, False, True, are_units=True)
    assert (is_own, vocab.tokens) == (False, ("hh", "iy", "s", "[UNK]", "[PAD]"))


def test_a_head_of_the_same_phones_is_kept(tmp_path: Path) -> None:
    encoder = encoder_that_writes(tmp_path, Vocab.build_phones(["s iy hh"]))
    vocab, is_own = choose_vocabulary("auto", ["hh iy"], encoder, False, True, are_units=True)
    assert (is_own, vocab.tokens) == (True, ("hh", "iy", "s", "[UNK]", "[PAD]"))


# Tables and tiers


def hypothesis(reference: str, written: str) -> Hypothesis:
    return Hypothesis(
        "u", reference, written, count_word_errors(reference, written), count_word_errors("", ""), 1.0,
        units=PHONES,
    )  # fmt: skip


def test_confusions_by_class_count_every_reference_phone_once() -> None:
    """Reference: counted by hand."""
    found = by_class([align_words("sil s iy n t sil", "sil z iy m sil"), align_words("sil", "sil aa")])
    assert found.counts == {
        ("silence", "silence"): 3, ("fricatives", "fricatives"): 1, ("vowels", "vowels"): 1, ("nasals", "nasals"): 1,
        ("stops", NOTHING): 1, (NOTHING, "vowels"): 1,
    }  # fmt: skip
    rates = {name: found.wrong_rate(name) for name in found.names}
    assert rates == {"vowels": 0.0, "stops": 1.0, "fricatives": 1.0, "nasals": 1.0, "silence": 0.0}


def test_card_lists_the_classes_with_the_share_that_was_wrong() -> None:
    text = "\n".join(confusion_sections([hypothesis("s s iy", "z s iy")], "core"))
    assert "| s → z | 1 |" in text
    assert "| fricatives | 0 | 2 | 0 | 2 | 50.00 % |" in text
    assert "| vowels | 1 | 0 | 0 | 1 | 0.00 % |" in text


def test_tiers_of_said_and_written_phones_are_in_the_classes_that_are_scored(tiny_timit: Path) -> None:
    """Reference: the example's reference, which the page aligns with what was written."""
    from data.corpora.timit import TimitCorpus

    utterance = next(iter(TimitCorpus(tiny_timit, "no-sa", "plain", units="phones61").utterances("train-no-sa")))
    vocab = Vocab.build_phones([utterance.text])
    scored = Vocab(vocab.tokens, word_delimiter=None, phonemes=True, scoring=PhoneScoring())
    tiers = spoken(utterance, scored)
    assert [label for _, _, label in tiers["said"]] == scored.to_compare(utterance.text).split()
    assert [label for _, _, label in tiers["phones"]] == utterance.text.split()
    assert [word for _, _, word in tiers["words"]] == [segment.label for segment in utterance.words]
    model = make_talkative(small_model("unispeech", vocab_size=len(vocab), blank_id=vocab.blank_id))
    silence, other = vocab.ids["h#"], vocab.ids[utterance.text.split()[1]]
    posteriors = torch.eye(len(vocab))[[silence, vocab.blank_id, other, other]]
    written = [label for _, _, label, _ in written_words(model, posteriors, scored)]
    assert written == ["sil", scored.to_compare(utterance.text).split()[1]]


def test_a_record_tells_its_units() -> None:
    assert (units_of({"per": 0.1}), units_of({"wer": None})) == (PHONES, WORDS)
