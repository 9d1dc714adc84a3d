"""Loading checkpoints (models.encoder) that the tests write themselves, in the formats that the hub holds.

pytest tests/models/checkpoints/test_pretrained.py
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModel, AutoModelForPreTraining, AutoProcessor, BertConfig, PreTrainedModel, WhisperConfig

from models.checkpoints.export import save_huggingface
from models.checkpoints.pretrained import EncoderSource, read_pretrained
from models.checkpoints.weights import LoadReport, load_pretrained
from models.config import ModelConfig
from models.ctc import CTCModel
from models.encoder import configure
from tests.helpers.models import EVERY_FAMILY, FAMILIES, VOCAB, edit_json, padded_batch, small_config, small_hf_model
from trainer.cli.console import Console
from trainer.errors import CorpusError, ModelError
from trainer.prepare.corpus import choose_vocabulary

Tensors = dict[str, Tensor]
HEAD = {"lm_head.weight", "lm_head.bias"}


def load(
    folder: Path, *, vocab_size: int = len(VOCAB), keep_head: bool = True, seed: int = 3, **options: Any
) -> tuple[PreTrainedModel, LoadReport]:
    """What a run does with --model.pretrained FOLDER."""
    pretrained = read_pretrained(str(folder), None)
    model = ModelConfig(pretrained=str(folder), **options)
    config = configure(pretrained.config, model, vocab_size=vocab_size, blank_id=vocab_size - 1)
    return load_pretrained(pretrained, config, seed, keep_head=keep_head)


def with_old_weight_norm(state: Tensors) -> Tensors:
    """The names that torch.nn.utils.weight_norm gave until 2023."""
    renamed = {}
    for name, tensor in state.items():
        name = name.replace("parametrizations.weight.original0", "weight_g")
        renamed[name.replace("parametrizations.weight.original1", "weight_v")] = tensor
    assert renamed.keys() != state.keys()
    return renamed


def write_bin(folder: Path, model: PreTrainedModel, state: Tensors) -> Path:
    """A folder as transformers 4.11 (October 2021) left it: config.json and pytorch_model.bin."""
    folder.mkdir(parents=True)
    model.config.save_pretrained(folder)
    torch.save(state, folder / "pytorch_model.bin")
    return folder


def write_safetensors(folder: Path, model: PreTrainedModel, state: Tensors) -> Path:
    folder.mkdir(parents=True)
    model.config.save_pretrained(folder)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def assert_equal_tensors(loaded: Tensors, expected: Tensors, but: set[str] = frozenset()) -> None:  # type: ignore[assignment]
    assert loaded.keys() == expected.keys()
    different = {name for name in expected if not torch.equal(loaded[name], expected[name])}
    assert different <= but


WRITERS: dict[str, Callable[[Path, PreTrainedModel, Tensors], Path]] = {
    "safetensors": write_safetensors,
    "bin": write_bin,
}


@pytest.mark.parametrize("written", WRITERS)
@pytest.mark.parametrize("names", ["new names", "old names"])
@EVERY_FAMILY
def test_every_tensor_loads_bit_for_bit(family: str, names: str, written: str, tmp_path: Path) -> None:
    """Reference: the tensors that were written; weight-norm keys by their present names or by those of 2021."""
    model = small_hf_model(family, seed=1)
    state = with_old_weight_norm(model.state_dict()) if names == "old names" else model.state_dict()
    loaded, report = load(WRITERS[written](tmp_path / "checkpoint", model, state))
    assert_equal_tensors(loaded.state_dict(), model.state_dict())
    assert report == LoadReport(num_loaded=len(model.state_dict()), new=(), unused=())
    assert report.describe() == f"{len(model.state_dict())} tensors loaded"


def test_old_weight_norm_gives_the_same_logits(tmp_path: Path) -> None:
    """Reference: the model that wrote the checkpoint; same kernels on same shapes, so equal to the bit."""
    model = small_hf_model(seed=1)
    loaded, _ = load(write_bin(tmp_path / "old", model, with_old_weight_norm(model.state_dict())))
    ours, theirs = (CTCModel(m, freeze_feature_encoder=False).eval() for m in (loaded, model))
    batch = padded_batch(ours)
    with torch.no_grad():
        assert torch.equal(ours(batch.waveforms, batch.frame_lengths), theirs(batch.waveforms, batch.frame_lengths))


@pytest.mark.parametrize("family", ["unispeech", "unispeech-sat", "wav2vec2"])
@pytest.mark.parametrize("written", WRITERS)
def test_pretraining_checkpoint_leaves_only_the_head_new(family: str, written: str, tmp_path: Path) -> None:
    """Reference: the tensors of the family's *ForPreTraining, whose quantizer has no use here."""
    torch.manual_seed(1)
    pretraining = AutoModelForPreTraining.from_config(small_config(family))
    state = with_old_weight_norm(pretraining.state_dict())
    loaded, report = load(WRITERS[written](tmp_path / "pretraining", pretraining, state))
    encoder = {k: v for k, v in pretraining.state_dict().items() if k.startswith(loaded.base_model_prefix + ".")}
    assert_equal_tensors(loaded.state_dict(), {**loaded.state_dict(), **encoder})
    assert (report.num_loaded, set(report.new)) == (len(encoder), HEAD)
    others = set(pretraining.state_dict()) - set(encoder)
    assert set(report.unused) == others
    assert others
    assert "new: lm_head.bias, lm_head.weight" in report.describe()
    assert "not used: " in report.describe()


@EVERY_FAMILY
def test_checkpoint_of_the_bare_encoder_leaves_only_the_head_new(family: str, tmp_path: Path) -> None:
    """Reference: the tensors of the family's base class, whose keys have no prefix (as HuBERT and WavLM)."""
    torch.manual_seed(1)
    base = AutoModel.from_config(small_config(family))
    loaded, report = load(write_bin(tmp_path / "base", base, with_old_weight_norm(base.state_dict())))
    encoder = {f"{loaded.base_model_prefix}.{k}": v for k, v in base.state_dict().items()}
    assert_equal_tensors(loaded.state_dict(), {**loaded.state_dict(), **encoder})
    assert (report.num_loaded, set(report.new), report.unused) == (len(encoder), HEAD, ())


def test_missing_mask_embedding_is_reported_and_follows_from_the_seed(tmp_path: Path) -> None:
    """Checkpoints that were never masked have none: it is drawn, finite, and the same for the same seed."""
    model = small_hf_model(mask_time_prob=0.0)
    assert not any("masked_spec_embed" in name for name in model.state_dict())
    folder = write_safetensors(tmp_path / "unmasked", model, model.state_dict())
    (first, report), (same, _), (other, _) = (load(folder, seed=s, mask_time_prob=0.05) for s in (1, 1, 2))
    assert report.new == ("unispeech.masked_spec_embed",)
    embeddings = [m.unispeech.masked_spec_embed.detach() for m in (first, same, other)]
    assert 0 <= float(embeddings[0].min()) < float(embeddings[0].max()) <= 1
    assert torch.equal(embeddings[0], embeddings[1])
    assert not torch.equal(embeddings[0], embeddings[2])


def test_unneeded_mask_embedding_is_reported_as_unused(tmp_path: Path) -> None:
    model = small_hf_model()
    folder = write_safetensors(tmp_path / "masked", model, model.state_dict())
    _, report = load(folder, mask_time_prob=0.0)
    assert (report.new, report.unused) == ((), ("unispeech.masked_spec_embed",))


@EVERY_FAMILY
def test_vocabulary_of_another_size_gets_a_new_head(family: str, tmp_path: Path) -> None:
    """Reference: the tensors that were written, but for the head."""
    model = small_hf_model(family)
    folder = write_bin(tmp_path / "finetuned", model, model.state_dict())
    loaded, report = load(folder, vocab_size=31, keep_head=False)
    assert_equal_tensors(
        {k: v for k, v in loaded.state_dict().items() if k not in HEAD},
        {k: v for k, v in model.state_dict().items() if k not in HEAD},
    )
    assert loaded.lm_head.weight.shape == (31, model.config.hidden_size)
    assert set(report.new) == HEAD


def test_new_vocabulary_of_the_same_size_gets_a_new_head_too(tmp_path: Path) -> None:
    """The old head's rows belong to other units: that their number agrees is chance."""
    model = small_hf_model()
    folder = write_safetensors(tmp_path / "finetuned", model, model.state_dict())
    (first, report), (same, _), (other, _) = (load(folder, keep_head=False, seed=s) for s in (1, 1, 2))
    assert set(report.new) == HEAD
    assert report.num_loaded == len(model.state_dict()) - 2
    assert not torch.equal(first.lm_head.weight, model.lm_head.weight)
    assert torch.equal(first.lm_head.weight, same.lm_head.weight)
    assert not torch.equal(first.lm_head.weight, other.lm_head.weight)
    assert torch.equal(first.lm_head.bias, torch.zeros(len(VOCAB)))


def test_loading_leaves_the_global_random_state_alone(tmp_path: Path) -> None:
    model = small_hf_model()
    folder = write_safetensors(tmp_path / "finetuned", model, model.state_dict())
    torch.manual_seed(5)
    before = torch.get_rng_state()
    load(folder, keep_head=False)
    assert torch.equal(torch.get_rng_state(), before)


# --- partial loads: each would train, badly and silently


def drop(part: str) -> Callable[[Tensors], Tensors]:
    """All tensors but those with `part` in their name."""

    def without(state: Tensors) -> Tensors:
        kept = {name: tensor for name, tensor in state.items() if part not in name}
        assert len(kept) < len(state)
        return kept

    return without


@pytest.mark.parametrize("family", ["unispeech", "hubert"])
@pytest.mark.parametrize("written", WRITERS)
@pytest.mark.parametrize("part", ["weight_g", "weight_v", "encoder.layers.1.", "feature_extractor", "projection.bias"])
def test_encoder_with_a_tensor_missing_is_refused(family: str, written: str, part: str, tmp_path: Path) -> None:
    model = small_hf_model(family)
    state = drop(part)(with_old_weight_norm(model.state_dict()))
    folder = WRITERS[written](tmp_path / "partial", model, state)
    with pytest.raises(ModelError, match=r"missing: .*A partly loaded encoder would train, badly and silently"):
        load(folder)


@pytest.mark.parametrize("is_bare", [False, True], ids=["with its head", "bare encoder"])
@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_encoder_of_another_depth_than_its_configuration_is_refused(
    family: str, depth: int, is_bare: bool, tmp_path: Path
) -> None:
    model = small_hf_model(family, num_hidden_layers=depth)
    saved = model.base_model if is_bare else model
    folder = write_safetensors(tmp_path / "depth", saved, saved.state_dict())
    edit_json(folder / "config.json", num_hidden_layers=2)
    with pytest.raises(ModelError, match=r"is config\.json that of these weights\?") as caught:
        load(folder)
    assert ("missing" if depth == 1 else "have no place in this model") in str(caught.value)


def test_encoder_of_another_width_is_refused_with_both_shapes(tmp_path: Path) -> None:
    model = small_hf_model()
    folder = write_safetensors(tmp_path / "width", model, model.state_dict())
    edit_json(folder / "config.json", intermediate_size=40)
    with pytest.raises(ModelError, match=r"of the wrong shape: .*\(32,\) for \(40,\)"):
        load(folder)


@pytest.mark.parametrize(
    ("claimed", "real"), [("unispeech", "wav2vec2"), ("wav2vec2", "unispeech"), ("hubert", "wavlm")], ids=str
)
def test_weights_of_another_family_than_config_json_says_are_refused(claimed: str, real: str, tmp_path: Path) -> None:
    folder = write_bin(tmp_path / "wrong", small_hf_model(claimed), small_hf_model(real).state_dict())
    with pytest.raises(ModelError, match=rf"missing: {claimed}\.encoder"):
        load(folder)


@pytest.mark.parametrize("config", [WhisperConfig(), BertConfig()], ids=["whisper", "bert"])
def test_other_families_are_refused_by_name(config: Any, tmp_path: Path) -> None:
    config.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=f"of the family '{config.model_type}'; this trains unispeech, "):
        read_pretrained(str(tmp_path), None)


def test_encoder_with_an_adapter_behind_it_is_refused(tmp_path: Path) -> None:
    """Its frames are fewer than num_frames says."""
    small_config("wav2vec2", add_adapter=True).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="add_adapter"):
        read_pretrained(str(tmp_path), None)


# --- files that are not what they should be


class Payload:
    """Creates a file when it is unpickled by plain pickle."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_malicious_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    trace = tmp_path / "payload-was-run"
    model = small_hf_model()
    folder = write_bin(tmp_path / "evil", model, {**model.state_dict(), "x": Payload(trace)})  # type: ignore[dict-item]
    with pytest.raises(ModelError, match=r"more than tensors, which could run code"):
        load(folder)
    assert not trace.exists()
    torch.load(folder / "pytorch_model.bin", weights_only=False)
    assert trace.exists(), "the payload is harmless: this test shows nothing"


def truncate(name: str, num_bytes: int) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:num_bytes])


def replace_by(name: str, content: bytes) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_bytes(content)


@pytest.mark.parametrize(
    ("written", "damage"),
    [
        ("safetensors", truncate("model.safetensors", -100)),
        ("safetensors", truncate("model.safetensors", 100)),
        ("safetensors", replace_by("model.safetensors", b"")),
        ("safetensors", lambda folder: (folder / "model.safetensors").unlink()),
        ("bin", truncate("pytorch_model.bin", -1000)),
        ("bin", replace_by("pytorch_model.bin", b"")),
        ("bin", replace_by("pytorch_model.bin", b"not a pickle, not a zip" * 20)),
        ("bin", replace_by("pytorch_model.bin", b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7\n")),
        ("bin", lambda folder: torch.save([1, 2], folder / "pytorch_model.bin")),
        ("bin", lambda folder: torch.save({"epoch": 3}, folder / "pytorch_model.bin")),
    ],
    ids=["cut tail", "cut header", "empty", "absent", "cut zip", "empty bin", "garbage", "git-lfs pointer", "a list",
         "no tensors"],
)  # fmt: skip
def test_damaged_weights_are_an_error_that_names_the_folder(
    written: str, damage: Callable[[Path], Any], tmp_path: Path
) -> None:
    model = small_hf_model()
    folder = WRITERS[written](tmp_path / "damaged", model, model.state_dict())
    damage(folder)
    with pytest.raises(ModelError, match=r"damaged: "):
        load(folder)


@pytest.mark.parametrize(
    "content",
    [b"{", b"[1]", b'{"hidden_size": 24}', b'{"model_type": "unispeech", "hidden_size": "wide"}',
     b'{"model_type": "wav2vec2", "use_return_dict": true}', b'\xef\xbb\xbf{"model_type": "wav2vec2"}'],
    ids=["cut", "a list", "no model_type", "mistyped", "a key that was taken away", "byte order mark"],
)  # fmt: skip
def test_unusable_configuration_is_an_error_that_names_the_folder(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ModelError, match=rf"{tmp_path.name}: no usable model configuration"):
        read_pretrained(str(tmp_path), None)


def test_mistyped_field_of_the_configuration_is_named(tmp_path: Path) -> None:
    """transformers' own sentence breaks the line behind the field's name."""
    small_config("wav2vec2").save_pretrained(tmp_path)
    edit_json(tmp_path / "config.json", mask_time_length=10.0)
    with pytest.raises(ModelError, match=r"'mask_time_length' expected int, got float.*Mend its config"):
        read_pretrained(str(tmp_path), None)


def test_quantised_weights_are_refused(tmp_path: Path) -> None:
    small_hf_model("wav2vec2").save_pretrained(tmp_path)
    edit_json(tmp_path / "config.json", quantization_config=dict(quant_method="bitsandbytes", load_in_8bit=True))
    with pytest.raises(ModelError, match=r"its weights are quantised .*Give the checkpoint that they were made of"):
        read_pretrained(str(tmp_path), None)


def test_kernel_of_attention_that_is_not_installed_is_not_asked_for(tmp_path: Path) -> None:
    model = small_hf_model("wav2vec2")
    model.save_pretrained(tmp_path)
    edit_json(tmp_path / "config.json", attn_implementation="flash_attention_2")
    assert_equal_tensors(load(tmp_path)[0].state_dict(), model.state_dict())


def test_head_of_a_class_of_somebodys_own_counts_as_one(tmp_path: Path) -> None:
    for name, has_head in {
        "Wav2Vec2ForCTCWithTags": True,
        "Wav2Vec2ForPreTraining": False,
        "HubertModel": False,
    }.items():
        small_config("wav2vec2", architectures=[name]).save_pretrained(tmp_path)
        assert read_pretrained(str(tmp_path), None).has_head is has_head


def test_revision_of_a_folder_is_refused(tmp_path: Path) -> None:
    """It would be ignored, and another checkpoint used than was asked for."""
    write_finetuned(tmp_path)
    with pytest.raises(ModelError, match=r"--model.revision v2: .* is a folder here"):
        read_pretrained(str(tmp_path), "v2")


def test_remote_code_is_neither_run_nor_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers' default is to ask on the terminal."""
    (tmp_path / "config.json").write_text('{"model_type": "mine", "auto_map": {"AutoConfig": "mine.MyConfig"}}')
    (tmp_path / "mine.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'was-run')!r})\nclass MyConfig: pass\n")
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked on the terminal"))
    with pytest.raises(ModelError, match="auto_map"):
        read_pretrained(str(tmp_path), None)
    assert not (tmp_path / "was-run").exists()


@pytest.mark.parametrize("source", ["./nowhere", "/nowhere/at/all", "a/b/c"])
def test_folder_that_is_not_there_is_named(source: str) -> None:
    with pytest.raises(ModelError, match=f"{source}: no such folder"):
        read_pretrained(source, None)


def test_folder_without_config_json_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json here"):
        read_pretrained(str(tmp_path), None)


# --- what a checkpoint says of itself


def write_finetuned(
    folder: Path, family: str = "wav2vec2", vocab_tokens: tuple[str, ...] = VOCAB.tokens, do_normalize: bool = True
) -> PreTrainedModel:
    """A fine-tuned checkpoint with tokenizer and feature extractor, as a training run exports it."""
    special = dict(blank="[PAD]", unknown="[UNK]", word_delimiter="|")
    model = small_hf_model(family, vocab_size=len(vocab_tokens), pad_token_id=vocab_tokens.index("[PAD]"))
    save_huggingface(model, vocab_tokens, special, do_normalize, folder)
    return model


@pytest.mark.parametrize("do_normalize", [True, False])
def test_feature_extractor_decides_on_normalisation(do_normalize: bool, tmp_path: Path) -> None:
    write_finetuned(tmp_path, do_normalize=do_normalize)
    assert read_pretrained(str(tmp_path), None).do_normalize is do_normalize


def test_normalisation_is_on_without_a_feature_extractor(tmp_path: Path) -> None:
    """Reference: Wav2Vec2FeatureExtractor's default."""
    write_finetuned(tmp_path, do_normalize=False)
    (tmp_path / "preprocessor_config.json").unlink()
    pretrained = read_pretrained(str(tmp_path), None)
    assert pretrained.do_normalize is True
    assert pretrained.notes == (
        f"{tmp_path}: has no preprocessor_config.json, so audio is normalised (mean 0, variance 1)",
    )


@pytest.mark.parametrize("content", ["{", "", "[1]"], ids=["cut", "empty", "a list"])
@pytest.mark.parametrize("name", ["preprocessor_config.json", "processor_config.json"])
def test_damaged_feature_extractor_is_refused_and_not_taken_for_a_missing_one(
    name: str, content: str, tmp_path: Path
) -> None:
    """Its do_normalize, false here, would be lost, and the transcripts would be others."""
    write_finetuned(tmp_path, do_normalize=False)
    (tmp_path / name).write_text(content)
    with pytest.raises(ModelError, match=f"its {name} is damaged, so nobody knows whether audio is normalised"):
        read_pretrained(str(tmp_path), None)


def test_feature_extractor_inside_processor_config_is_read(tmp_path: Path) -> None:
    """As the processors of transformers 5 save it. Reference: its own save_pretrained."""
    write_finetuned(tmp_path)
    processor = AutoProcessor.from_pretrained(tmp_path)
    processor.feature_extractor.do_normalize = False
    (tmp_path / "preprocessor_config.json").unlink()
    processor.save_pretrained(tmp_path)
    assert not (tmp_path / "preprocessor_config.json").exists()
    pretrained = read_pretrained(str(tmp_path), None)
    assert (pretrained.do_normalize, pretrained.notes) == (False, ())


def test_language_model_beside_the_weights_is_said_to_be_left_aside(tmp_path: Path) -> None:
    """transformers' pipeline decodes with it."""
    write_finetuned(tmp_path)
    edit_json(tmp_path / "preprocessor_config.json", processor_class="Wav2Vec2ProcessorWithLM")
    (note,) = read_pretrained(str(tmp_path), None).notes
    assert note.endswith("its language model (language_model/) is not used; --lm takes one as an ARPA file")


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"sampling_rate": 8000}, "wants audio at 8000 Hz"),
     ({"feature_extractor_type": "WhisperFeatureExtractor"}, "of a WhisperFeatureExtractor")],
)  # fmt: skip
def test_feature_extractor_that_we_cannot_feed_is_refused(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    write_finetuned(tmp_path)
    edit_json(tmp_path / "preprocessor_config.json", **changes)
    with pytest.raises(ModelError, match=message):
        read_pretrained(str(tmp_path), None)


def encoder_of(folder: Path) -> EncoderSource:
    pretrained = read_pretrained(str(folder), None)
    return EncoderSource(pretrained.config, pretrained)


def test_own_tokenizer_that_fits_is_used_and_keeps_the_head(tmp_path: Path) -> None:
    """Reference: the tokens and the head that were written."""
    model = write_finetuned(tmp_path)
    vocab, is_own = choose_vocabulary("auto", ["abba cab", "faded"], encoder_of(tmp_path), False, True)
    assert is_own
    assert vocab.tokens == VOCAB.tokens
    assert (vocab.blank, vocab.unknown, vocab.word_delimiter) == ("[PAD]", "[UNK]", "|")
    loaded, report = load(tmp_path, vocab_size=len(vocab), keep_head=is_own)
    assert_equal_tensors(loaded.state_dict(), model.state_dict())
    assert report.new == ()


def shorten_vocab(folder: Path) -> None:
    kept = [token for token in VOCAB.tokens if token != "h"]
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(kept)}))


def leave_a_gap(folder: Path) -> None:
    tokens = json.loads((folder / "vocab.json").read_text())
    (folder / "vocab.json").write_text(json.dumps({t: i + 5 * (t == "h") for t, i in tokens.items()}))


@pytest.mark.parametrize(
    ("rule", "texts", "change"),
    [
        ("auto", ["zebra"], lambda folder: None),
        ("new", ["abba"], lambda folder: None),
        ("auto", ["abba"], shorten_vocab),
        ("auto", ["abba"], leave_a_gap),
        ("auto", ["abba"], lambda folder: (folder / "vocab.json").write_text("{")),
        ("auto", ["abba"], lambda folder: (folder / "vocab.json").write_text("[1]")),
        ("auto", ["abba"], lambda folder: [f.unlink() for f in (*folder.glob("*tok*"), folder / "vocab.json")]),
    ],
    ids=["other letters", "asked for new", "fewer tokens than head", "gap in ids", "cut file", "a list",
         "no tokenizer"],
)  # fmt: skip
def test_own_tokenizer_that_does_not_fit_gives_a_new_vocabulary(
    rule: str, texts: list[str], change: Callable[[Path], Any], tmp_path: Path
) -> None:
    write_finetuned(tmp_path)
    change(tmp_path)
    vocab, is_own = choose_vocabulary(rule, texts, encoder_of(tmp_path), False, True)
    assert not is_own
    assert vocab.tokens == ("|", *sorted(set("".join(texts))), "[UNK]", "[PAD]")


def test_head_that_is_lost_for_lack_of_a_tokenizer_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_finetuned(tmp_path)
    for file in (*tmp_path.glob("*tok*"), tmp_path / "vocab.json"):
        file.unlink()
    choose_vocabulary("auto", ["abba"], encoder_of(tmp_path), False, True, console=Console())
    assert "it has no tokenizer to say what its head writes: units and head are new" in "".join(capsys.readouterr())


@pytest.mark.parametrize("training", [True, False])
def test_tokenizer_of_another_head_is_refused(training: bool, tmp_path: Path) -> None:
    """Without its configuration transformers adds its default <pad> and others behind the head's last unit."""
    write_finetuned(tmp_path)
    (tmp_path / "tokenizer_config.json").unlink()
    with pytest.raises(CorpusError, match=r"has 12 tokens and its CTC head 11 outputs: none writes '<pad>'"):
        choose_vocabulary("auto", ["abba"], encoder_of(tmp_path), False, training)
    assert choose_vocabulary("new", ["abba"], encoder_of(tmp_path), False, True)[1] is False


def test_scoring_alone_uses_the_checkpoints_own_tokenizer(tmp_path: Path) -> None:
    """Whatever the preset's rule: a head can only be read with the units it was trained on."""
    write_finetuned(tmp_path)
    vocab, is_own = choose_vocabulary("new", [], encoder_of(tmp_path), False, False)
    assert is_own
    assert vocab.tokens == VOCAB.tokens


def test_scoring_alone_refuses_a_checkpoint_whose_output_cannot_be_read(tmp_path: Path) -> None:
    write_finetuned(tmp_path)
    shorten_vocab(tmp_path)
    with pytest.raises(CorpusError, match="no tokenizer that matches its CTC head"):
        choose_vocabulary("auto", [], encoder_of(tmp_path), False, False)


AS_ADDED = dict(single_word=False, lstrip=False, rstrip=False, normalized=True)


@pytest.mark.parametrize("num_outputs", [31, 29], ids=["31 outputs", "<s> and </s> outside"])
@pytest.mark.parametrize(
    "additional",
    [{}, {"additional_special_tokens": ["<s>", "</s>"]},
     {"additional_special_tokens": [{"content": token, **AS_ADDED} for token in ("<s>", "</s>")]}],
    ids=["no additional", "strings", "objects"],
)  # fmt: skip
def test_folder_in_the_reference_runs_own_format_is_read_whole(
    additional: dict[str, Any], num_outputs: int, tmp_path: Path
) -> None:
    """Reference: the published checkpoint of 2021: .bin, old weight-norm keys, 29 tokens in vocab.json, <s> and </s> in
    added_tokens.json, 31 outputs, blank 28. scripts/evaluate.py must be able to score that checkpoint. transformers
    of 2021 listed additional tokens in more than one form, and heads without the two dead outputs exist as well."""
    tokens = ("|", *"abcdefghijklmnopqrstuvwxyz", "[UNK]", "[PAD]", "<s>", "</s>")[:num_outputs]
    model = small_hf_model(vocab_size=num_outputs, pad_token_id=28)
    folder = write_bin(tmp_path / "published", model, with_old_weight_norm(model.state_dict()))
    files: dict[str, dict[str, Any]] = {
        "vocab.json": {token: i for i, token in enumerate(tokens[:29])},
        "added_tokens.json": {"<s>": 29, "</s>": 30},
        "special_tokens_map.json": {
            "bos_token": "<s>", "eos_token": "</s>", "unk_token": "[UNK]", "pad_token": "[PAD]", **additional,
        },
        "tokenizer_config.json": {
            "unk_token": "[UNK]", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "[PAD]", "do_lower_case": False,
            "word_delimiter_token": "|", "special_tokens_map_file": None, "tokenizer_file": None, "name_or_path": "./",
            "tokenizer_class": "Wav2Vec2CTCTokenizer",
        },
        "preprocessor_config.json": {
            "do_normalize": True, "feature_extractor_type": "Wav2Vec2FeatureExtractor", "feature_size": 1,
            "padding_side": "right", "padding_value": 0.0, "return_attention_mask": True, "sampling_rate": 16000,
        },
    }  # fmt: skip
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    vocab, is_own = choose_vocabulary("new", [], encoder_of(folder), False, False)
    assert is_own
    assert (vocab.tokens, vocab.blank_id, vocab.unknown) == (tokens, 28, "[UNK]")
    loaded, report = load(folder, vocab_size=len(vocab), keep_head=is_own)
    assert_equal_tensors(loaded.state_dict(), model.state_dict())
    assert report == LoadReport(len(model.state_dict()), (), ())


def test_weights_are_read_in_float32_whatever_they_were_saved_in(tmp_path: Path) -> None:
    """Reference: the tensors rounded to half precision, which fp32 holds exactly."""
    model = small_hf_model()
    state = {name: tensor.half() for name, tensor in model.state_dict().items()}
    folder = write_safetensors(tmp_path / "half", model, state)
    edit_json(folder / "config.json", dtype="float16")
    loaded, _ = load(folder)
    assert {t.dtype for t in loaded.state_dict().values()} == {torch.float32}
    assert_equal_tensors(loaded.state_dict(), {name: tensor.float() for name, tensor in state.items()})


def test_written_checkpoints_are_what_the_tests_claim(tmp_path: Path) -> None:
    """A control on the helpers: old names in the file, no safetensors beside a .bin."""
    model = small_hf_model()
    old = with_old_weight_norm(model.state_dict())
    binary = write_bin(tmp_path / "bin", model, old)
    assert sorted(p.name for p in binary.iterdir()) == ["config.json", "pytorch_model.bin"]
    assert torch.load(binary / "pytorch_model.bin", weights_only=True).keys() == old.keys()
    tensors = load_file(write_safetensors(tmp_path / "safe", model, old) / "model.safetensors")
    assert [name.rsplit(".", 1)[1] for name in tensors if "weight_" in name] == ["weight_g", "weight_v"]
