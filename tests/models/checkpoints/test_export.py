"""The exported folder (save_huggingface) as transformers reads it: nothing of ours is used to load it.

pytest tests/models/checkpoints/test_export.py
"""

from __future__ import annotations

import json
import warnings
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForCTC,
    AutoProcessor,
    AutoTokenizer,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    pipeline,
)

from data.text.normalise import collapse_spaces
from data.text.vocab import Vocab
from models.checkpoints.export import save_huggingface
from models.checkpoints.pretrained import read_pretrained
from models.checkpoints.weights import load_pretrained
from models.config import ModelConfig
from models.ctc import CTCModel
from models.encoder import build_random, configure, random_config
from tests.helpers.models import (
    EVERY_VARIANT,
    VOCAB,
    eval_set,
    example,
    make_talkative,
    small_hf_model,
    small_model,
    transformers_log,
)
from trainer.scoring.evaluate import evaluate

REFERENCE_RUN = Vocab(("|", *"abcdefghijklmnopqrstuvwxyz", "[UNK]", "[PAD]", "<s>", "</s>"))
HUB_STYLE = Vocab(
    ("<pad>", "<s>", "</s>", "<unk>", "|", *"ETAONIHSRDLUMWCFGYPBVKXJQZ", "'"), blank="<pad>", unknown="<unk>"
)
"""The 32 units of facebook/wav2vec2-base-960h and its relatives."""
UNUSUAL = Vocab(("|", *"'09aeéßłабж你", "[UNK]", "[PAD]"))
# Mixed lengths, the shortest with a single frame
LENGTHS = [400, 719, 720, 2000, 2000, *range(3000, 9000, 400)]


def special_of(vocab: Vocab) -> dict[str, str]:
    return dict(blank=vocab.blank, unknown=vocab.unknown, word_delimiter=vocab.word_delimiter)


def export(model: CTCModel, folder: Path, vocab: Vocab = VOCAB, do_normalize: bool = True) -> Path:
    save_huggingface(model.hf, vocab.tokens, special_of(vocab), do_normalize, folder)
    return folder


def model_for(vocab: Vocab, family: str = "unispeech", norm: str = "layer") -> CTCModel:
    return make_talkative(small_model(family, norm, vocab_size=len(vocab), pad_token_id=vocab.blank_id))


def compare_transcripts(model: CTCModel, folder: Path, vocab: Vocab, do_normalize: bool = True) -> list[str]:
    """Our transcripts of noise, asserted equal to the pipeline's once white space is collapsed."""
    examples = [example(n, "", seed=i, vocab=vocab) for i, n in enumerate(LENGTHS)]
    prepared = eval_set(model, examples, vocab=vocab, do_normalize=do_normalize)
    ours = [h.hypothesis for h in evaluate(model, prepared, torch.device("cpu"), nullcontext).hypotheses]
    recognise = pipeline("automatic-speech-recognition", model=str(folder))
    theirs = [recognise({"raw": e.load(), "sampling_rate": 16_000})["text"] for e in examples]
    assert ours == [collapse_spaces(text) for text in theirs]
    return ours


@EVERY_VARIANT
def test_pipeline_writes_what_evaluation_writes(family: str, norm: str, tmp_path: Path) -> None:
    """Reference: transformers' pipeline on 20 utterances fed as 16 kHz float arrays."""
    model = model_for(REFERENCE_RUN, family, norm)
    transcripts = compare_transcripts(model, export(model, tmp_path / "model", REFERENCE_RUN), REFERENCE_RUN)
    assert len(transcripts) == 20
    assert len(set(transcripts)) > 14, "transcripts that are alike show nothing"


@pytest.mark.parametrize("vocab", [REFERENCE_RUN, HUB_STYLE, UNUSUAL], ids=["timit-hf", "hub", "unusual"])
@pytest.mark.parametrize("do_normalize", [True, False])
def test_pipeline_writes_every_unit_as_we_do(vocab: Vocab, do_normalize: bool, tmp_path: Path) -> None:
    """Reference: as above; dead <s> and </s>, [UNK] and letters of several bytes come up, and are printed."""
    model = model_for(vocab)
    specials = [i for i, token in enumerate(vocab.tokens) if len(token) > 1 and i != vocab.blank_id]
    head, others = model.hf.lm_head, [i for i in specials if vocab.tokens[i] != vocab.unknown]
    with torch.no_grad():  # the longer a unit's row, the more often it wins; opposite rows win in turns
        for tensor in (head.weight, head.bias):
            if others:
                tensor[vocab.ids[vocab.unknown]] = -tensor[others].sum(0)
            tensor[specials] *= 1.7
    folder = export(model, tmp_path / "model", vocab, do_normalize)
    written = "".join(compare_transcripts(model, folder, vocab, do_normalize))
    assert [vocab.tokens[i] for i in specials if vocab.tokens[i] not in written] == []
    assert len(set(written)) > len(vocab) // 2


def test_checkpoint_that_asks_for_tuples_exports_a_folder_that_pipeline_reads(tmp_path: Path) -> None:
    """With return_dict false transformers' own CTC model fails."""
    small_hf_model("wav2vec2", return_dict=False).save_pretrained(tmp_path / "given")
    config = read_pretrained(str(tmp_path / "given"), None).config
    assert config.return_dict is False
    config = configure(config, ModelConfig(pretrained="given"), vocab_size=len(VOCAB), blank_id=VOCAB.blank_id)
    model = CTCModel(build_random(config, 0), freeze_feature_encoder=True).eval()
    folder = export(model, tmp_path / "out")
    recognise = pipeline("automatic-speech-recognition", model=str(folder))
    assert "text" in recognise({"raw": example(4000, "").load(), "sampling_rate": 16_000})


@EVERY_VARIANT
def test_weights_load_bit_for_bit_and_without_a_warning(family: str, norm: str, tmp_path: Path) -> None:
    """Reference: the tensors in memory; transformers' loading info and log must be empty."""
    model = small_hf_model(family, norm)
    config = configure(model.config, ModelConfig(pretrained="x"), vocab_size=len(VOCAB), blank_id=VOCAB.blank_id)
    assert config is model.config
    with transformers_log() as said, warnings.catch_warnings():
        warnings.simplefilter("error")
        save_huggingface(model, VOCAB.tokens, special_of(VOCAB), True, tmp_path)
        loaded, info = AutoModelForCTC.from_pretrained(tmp_path, output_loading_info=True)
        AutoTokenizer.from_pretrained(tmp_path)
    assert not said
    assert not any(info.values()), info
    assert type(loaded) is type(model)
    state = loaded.state_dict()
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())


def test_warnings_on_load_would_be_seen(tmp_path: Path) -> None:
    """A control on the test above: a missing tensor is logged, and the log is heard."""
    small_hf_model().base_model.save_pretrained(tmp_path)
    with transformers_log() as said:
        AutoModelForCTC.from_pretrained(tmp_path)
    assert any("lm_head" in line for line in said)


@pytest.mark.parametrize("norm", ["layer", "group"])
def test_folder_holds_what_others_look_for(norm: str, tmp_path: Path) -> None:
    """Reference: transformers' documentation (attention mask for layer-norm extractors only) and the reference run."""
    folder = export(
        model_for(REFERENCE_RUN, "wav2vec2", norm), tmp_path / "deep" / "model", REFERENCE_RUN, norm == "layer"
    )
    assert {"model.safetensors", "config.json", "preprocessor_config.json", "vocab.json", "tokenizer_config.json"} <= {
        path.name for path in folder.iterdir()
    }
    assert not list(folder.glob("*.bin"))
    preprocessor = json.loads((folder / "preprocessor_config.json").read_text())
    assert preprocessor["return_attention_mask"] == preprocessor["do_normalize"] == (norm == "layer")
    assert (preprocessor["sampling_rate"], preprocessor["feature_size"]) == (16_000, 1)
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["Wav2Vec2ForCTC"]
    assert (config["vocab_size"], config["pad_token_id"]) == (31, 28)
    extractor = Wav2Vec2FeatureExtractor.from_pretrained(folder)
    assert (extractor.do_normalize, extractor.return_attention_mask) == (norm == "layer", norm == "layer")
    assert type(AutoProcessor.from_pretrained(folder).feature_extractor) is Wav2Vec2FeatureExtractor


@pytest.mark.parametrize("vocab", [REFERENCE_RUN, HUB_STYLE, UNUSUAL], ids=["timit-hf", "hub", "unusual"])
def test_vocabulary_survives_the_round_trip(vocab: Vocab, tmp_path: Path) -> None:
    """Reference: the ids by transformers' tokenizer, and by our own reader."""
    folder = export(model_for(vocab), tmp_path, vocab)
    tokenizer = Wav2Vec2CTCTokenizer.from_pretrained(folder)
    assert tokenizer.get_vocab() == vocab.ids
    assert len(tokenizer) == len(vocab)
    assert (tokenizer.pad_token_id, tokenizer.unk_token) == (vocab.blank_id, vocab.unknown)
    text = "".join(token for token in vocab.tokens if len(token) == 1 and token != "|") * 2
    assert tokenizer(f"{text} {text}").input_ids == vocab.encoder()(f"{text} {text}")
    pretrained = read_pretrained(str(folder), None)
    assert (pretrained.tokens, pretrained.special) == (vocab.tokens, special_of(vocab))


def test_exporting_again_replaces_the_old_folder_file_by_file(tmp_path: Path) -> None:
    export(model_for(HUB_STYLE), tmp_path, HUB_STYLE)
    model = model_for(REFERENCE_RUN)
    export(model, tmp_path, REFERENCE_RUN)
    compare_transcripts(model, tmp_path, REFERENCE_RUN)


def test_model_that_was_loaded_with_old_key_names_exports_readably(tmp_path: Path) -> None:
    """transformers writes a checkpoint of 2021 back under its old weight-norm names; they must load again."""
    model, old = model_for(VOCAB), tmp_path / "old"
    old.mkdir()
    model.hf.config.save_pretrained(old)
    state = {
        k.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): v
        for k, v in model.hf.state_dict().items()
    }
    torch.save(state, old / "pytorch_model.bin")
    pretrained = read_pretrained(str(old), None)
    config = configure(
        pretrained.config, ModelConfig(pretrained=str(old)), vocab_size=len(VOCAB), blank_id=VOCAB.blank_id
    )
    loaded, _ = load_pretrained(pretrained, config, 0, keep_head=True)
    again = CTCModel(loaded, freeze_feature_encoder=False).eval()
    folder = export(again, tmp_path / "model")
    reloaded, info = AutoModelForCTC.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values()), info
    assert all(torch.equal(reloaded.state_dict()[name], tensor) for name, tensor in model.hf.state_dict().items())
    compare_transcripts(again, folder, VOCAB)


@pytest.mark.parametrize("family", ["unispeech", "unispeech-sat", "wavlm"])
def test_random_weights_of_a_size_export_with_their_width_and_options(family: str, tmp_path: Path) -> None:
    """As a run does it: from --model.size and options to a folder; dropouts and masking stand in its config.json."""
    options = ModelConfig(family=family, size="tiny", hidden_dropout=0.1, mask_time_prob=0.2)  # type: ignore[arg-type]
    config = configure(random_config(options), options, vocab_size=31, blank_id=28)
    model = CTCModel(build_random(config, 0), freeze_feature_encoder=False).eval()
    export(model, tmp_path, REFERENCE_RUN)
    loaded = AutoModelForCTC.from_pretrained(tmp_path).config
    assert (loaded.hidden_size, loaded.hidden_dropout, loaded.mask_time_prob) == (144, 0.1, 0.2)


def test_files_are_utf8_whatever_the_locale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """write_text without an encoding follows the locale."""
    monkeypatch.setattr("io.text_encoding", lambda encoding, stacklevel=2: encoding or "latin-1")
    export(model_for(UNUSUAL), tmp_path, UNUSUAL)
    assert json.loads((tmp_path / "vocab.json").read_bytes()) == UNUSUAL.ids
