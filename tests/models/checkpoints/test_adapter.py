"""Multilingual checkpoints (MMS): the vocabulary and the adapter of the language that is asked for.

Reference: transformers' own models of each language, and its load_adapter on the exported folder.

pytest tests/models/checkpoints/test_adapter.py
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCTC, AutoProcessor, PreTrainedModel, Wav2Vec2ForCTC, pipeline

from data.text.normalise import collapse_spaces
from models.checkpoints.adapter import is_adapter
from models.checkpoints.export import save_huggingface
from models.checkpoints.pretrained import read_pretrained
from models.checkpoints.weights import load_pretrained
from models.config import ModelConfig
from models.encoder import configure
from tests.helpers.checkpoints import LANGUAGES, write_multilingual
from tests.helpers.corpora import write_jsonl
from tests.helpers.models import edit_json, noise, small_hf_model
from trainer.errors import CorpusError, ModelError
from trainer.recognize.transcribe import Windows, load_recognizer, transcribe
from trainer.run import main

WAVEFORM = noise(16_000, seed=5)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, PreTrainedModel]]:
    """(Folder, transformers' models by language)."""
    folder = tmp_path_factory.mktemp("mms") / "mms"
    return folder, write_multilingual(folder)


def copy_of(folder: Path, to: Path) -> Path:
    shutil.copytree(folder, to)
    return to


def written_by(model: PreTrainedModel, language: str) -> str:
    """What transformers' model writes for WAVEFORM with that language's units."""
    normal = (WAVEFORM - WAVEFORM.mean()) / np.sqrt(WAVEFORM.var() + 1e-7)
    with torch.inference_mode():
        ids = model(torch.from_numpy(normal)[None]).logits[0].argmax(-1).tolist()
    kept = [i for i, before in zip(ids, [-1, *ids], strict=False) if i not in (before, 0)]
    return collapse_spaces("".join(LANGUAGES[language][i] for i in kept).replace("|", " "))


def heard(folder: Path, language: str | None = None) -> str:
    return transcribe(load_recognizer(str(folder), language=language), "x", WAVEFORM, Windows()).text


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_each_language_is_written_by_its_own_adapter_and_units(suffix: str, tmp_path: Path) -> None:
    models = write_multilingual(tmp_path, suffix=suffix)
    expected = {language: written_by(model, language) for language, model in models.items()}
    assert len(set(expected.values())) == 3
    assert {language: heard(tmp_path, language) for language in models} == expected
    assert heard(tmp_path) == expected["eng"], "what the checkpoint is set to"


@pytest.mark.parametrize("language", ["tur", "fra"])
def test_tokenizer_that_is_set_to_another_language_gets_that_languages_head(
    language: str, given: tuple[Path, dict[str, PreTrainedModel]], tmp_path: Path
) -> None:
    """As processor.tokenizer.set_target_lang and save_pretrained leave it: the weights beside it are English."""
    folder = copy_of(given[0], tmp_path / "copy")
    edit_json(folder / "tokenizer_config.json", target_lang=language)
    assert heard(folder) == written_by(given[1][language], language)


def test_head_of_another_language_is_not_read_with_these_letters(
    given: tuple[Path, dict[str, PreTrainedModel]], tmp_path: Path
) -> None:
    """The English weights, a Turkish tokenizer and no adapter: 12 tokens for 10 outputs."""
    folder = copy_of(given[0], tmp_path / "copy")
    edit_json(folder / "tokenizer_config.json", target_lang="tur")
    for file in folder.glob("adapter.*"):
        file.unlink()
    with pytest.raises(CorpusError, match=r"12 tokens and its CTC head 10 outputs: none writes 'ç', 'ı'"):
        load_recognizer(str(folder))
    with pytest.raises(ModelError, match=r"no adapter\.eng\.safetensors and no adapter\.eng\.bin"):
        load_recognizer(str(folder), language="eng")


def test_language_that_is_not_there_is_named_with_those_that_are(
    given: tuple[Path, dict[str, PreTrainedModel]],
) -> None:
    with pytest.raises(CorpusError, match=r"no vocabulary for 'turk', but for 3 languages \(tur, \.\.\.\)"):
        load_recognizer(str(given[0]), language="turk")


@pytest.mark.parametrize("language", ["../../etc/passwd", "a/b", "", "tur\n"])
def test_language_that_is_a_path_is_refused(
    language: str, given: tuple[Path, dict[str, PreTrainedModel]], tmp_path: Path
) -> None:
    folder = copy_of(given[0], tmp_path / "copy")
    vocabulary = json.loads((folder / "vocab.json").read_text())
    (folder / "vocab.json").write_text(json.dumps({language: vocabulary["eng"], **vocabulary}))
    edit_json(folder / "tokenizer_config.json", target_lang=language)
    if language:
        with pytest.raises(ModelError, match="is no language: letters, digits, - and _ make a name"):
            load_recognizer(str(folder))
    else:
        assert heard(folder, "eng") == written_by(given[1]["eng"], "eng")


def damage_pickle(folder: Path) -> str:
    class Payload:
        def __reduce__(self) -> tuple:
            return Path.touch, (folder / "payload-was-run",)

    (folder / "adapter.tur.safetensors").unlink()
    torch.save({"lm_head.weight": Payload()}, folder / "adapter.tur.bin")
    return r"adapter\.tur\.bin does not load as tensors alone"


def damage_cut(folder: Path) -> str:
    content = (folder / "adapter.tur.safetensors").read_bytes()
    (folder / "adapter.tur.safetensors").write_bytes(content[:-5])
    return r"adapter\.tur\.safetensors does not load as tensors alone"


def damage_missing(folder: Path) -> str:
    state = load_file(folder / "adapter.tur.safetensors")
    name = next(n for n in state if "linear_1.weight" in n)
    del state[name]
    save_file(state, folder / "adapter.tur.safetensors")
    return rf"adapter\.tur\.safetensors is not of this model: {name} is in only one"


def damage_shape(folder: Path) -> str:
    state = load_file(folder / "adapter.tur.safetensors")
    name = next(n for n in state if "linear_1.weight" in n)
    save_file({**state, name: torch.zeros(3, 3)}, folder / "adapter.tur.safetensors")
    return rf"{name} is \(3, 3\) for \(4, 24\)"


def damage_head(folder: Path) -> str:
    state = load_file(folder / "adapter.tur.safetensors")
    save_file({n: t for n, t in state.items() if "lm_head" not in n}, folder / "adapter.tur.safetensors")
    return r"is no adapter: it has no lm_head\.weight"


def damage_nan(folder: Path) -> str:
    state = load_file(folder / "adapter.tur.safetensors")
    state["lm_head.weight"][1, 1] = float("nan")
    save_file(state, folder / "adapter.tur.safetensors")
    return r"hold NaN or infinity, the first is lm_head\.weight"


@pytest.mark.parametrize(
    "damage", [damage_pickle, damage_cut, damage_missing, damage_shape, damage_head, damage_nan],
)  # fmt: skip
def test_damaged_adapter_is_refused_by_its_name(
    damage, given: tuple[Path, dict[str, PreTrainedModel]], tmp_path: Path
) -> None:
    folder = copy_of(given[0], tmp_path / "copy")
    message = damage(folder)
    with pytest.raises(ModelError, match=message):
        load_recognizer(str(folder), language="tur")
    assert not (folder / "payload-was-run").exists()


def test_new_language_cannot_have_the_name_of_a_path(given: tuple[Path, dict[str, PreTrainedModel]]) -> None:
    with pytest.raises(ModelError, match=r"--model\.target-lang '\.\./x': letters"):
        read_pretrained(str(given[0]), None, "../x")


@pytest.mark.parametrize("language", ["eng", "tur"])
def test_export_is_what_transformers_loads_with_the_right_adapter(
    language: str, given: tuple[Path, dict[str, PreTrainedModel]], tmp_path: Path
) -> None:
    """As it is, and asked for the language by name."""
    recognizer = load_recognizer(str(given[0]), language=language)
    v = recognizer.vocab
    save_huggingface(recognizer.model.hf, v.tokens, v.special, True, tmp_path / "out", v.reading, language=language)
    expected = given[1][language]
    for model in (
        AutoModelForCTC.from_pretrained(tmp_path / "out"),
        Wav2Vec2ForCTC.from_pretrained(tmp_path / "out", target_lang=language),
    ):
        for name, tensor in expected.state_dict().items():
            assert torch.equal(model.state_dict()[name], tensor), name
    assert AutoProcessor.from_pretrained(tmp_path / "out").tokenizer.target_lang == language
    recognise = pipeline("automatic-speech-recognition", model=str(tmp_path / "out"))
    theirs = collapse_spaces(recognise({"raw": WAVEFORM.copy(), "sampling_rate": 16_000})["text"])
    assert theirs == written_by(expected, language) == heard(tmp_path / "out") == heard(tmp_path / "out", language)


def test_language_that_is_new_starts_with_new_adapter_and_head(
    given: tuple[Path, dict[str, PreTrainedModel]],
) -> None:
    """The rest is the checkpoint's, bit for bit; what is new follows from the seed."""
    pretrained = read_pretrained(str(given[0]), None, "swe")
    config = configure(pretrained.config, ModelConfig(pretrained="x"), vocab_size=9, blank_id=8)
    model, report = load_pretrained(pretrained, config, 3, keep_head=False)
    again, _ = load_pretrained(pretrained, config, 3, keep_head=False)
    other, _ = load_pretrained(pretrained, config, 4, keep_head=False)
    theirs = given[1]["eng"].state_dict()
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)
        if is_adapter(name):
            assert name in report.new
            if name.endswith("linear_1.weight"):
                assert not torch.equal(tensor, theirs[name])
                assert not torch.equal(tensor, other.state_dict()[name])
        else:
            assert torch.equal(tensor, theirs[name]), name


def test_new_units_of_a_language_keep_its_adapter_and_lose_its_head(
    given: tuple[Path, dict[str, PreTrainedModel]],
) -> None:
    """As --corpus.vocabulary new asks for them."""
    pretrained = read_pretrained(str(given[0]), None, "tur")
    config = configure(pretrained.config, ModelConfig(pretrained="x"), vocab_size=9, blank_id=8)
    model, report = load_pretrained(pretrained, config, 0, keep_head=False)
    assert report.new == ("lm_head.bias", "lm_head.weight")
    assert ", adapter from adapter.tur.safetensors; new: lm_head.bias, lm_head.weight" in report.describe()
    theirs = given[1]["tur"].state_dict()
    assert all(torch.equal(t, theirs[n]) for n, t in model.state_dict().items() if not n.startswith("lm_head"))


def write_corpus(folder: Path, text: str) -> list[str]:
    import soundfile

    for split, number in (("train", 4), ("eval", 2)):
        rows = []
        for i in range(number):
            name = f"{split}-{i}.wav"
            soundfile.write(folder / name, noise(9000 + 700 * i, seed=100 * number + i), 16_000, subtype="PCM_16")
            rows.append({"audio_filepath": name, "text": text, "speaker": f"{split}{i}"})
        write_jsonl(folder / f"{split}.jsonl", rows)
    return [
        "manifest", "--corpus.train", str(folder / "train.jsonl"), "--corpus.eval", str(folder / "eval.jsonl"),
        "--batching.batch-size", "2", "--train.max-steps", "2", "--train.log-every", "1", "--train.eval-every", "2",
        "--optim.lr", "1e-2", "--device", "cpu", "--name", "mms", "--runs-dir", str(folder / "runs"),
        "--cache-dir", str(folder / "cache"), "--no-report", "--optim.warmup-steps", "0",
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("language", "text"), [("tur", "çı abı"), pytest.param("swe", "å bå", marks=pytest.mark.slow)])
def test_only_adapter_and_head_are_trained_and_exported_for_transformers(
    language: str, text: str, given: tuple[Path, dict[str, PreTrainedModel]], tmp_path: Path
) -> None:
    """Through the command line: a language of the checkpoint's, and a new one."""
    options = ["--model.pretrained", str(given[0]), "--model.target-lang", language, "--model.adapter-only"]
    assert main([*write_corpus(tmp_path, text), *options]) == 0
    out = tmp_path / "runs" / "mms" / "model"
    trained = Wav2Vec2ForCTC.from_pretrained(out, target_lang=language).state_dict()
    start = given[1].get(language, given[1]["eng"]).state_dict()
    assert list(json.loads((out / "vocab.json").read_text())) == [language]
    for name, tensor in trained.items():
        if not is_adapter(name):
            assert torch.equal(tensor, start[name]), name
        elif language in given[1] and name.endswith("weight"):
            assert not torch.equal(tensor, start[name]), name
    assert load_file(out / f"adapter.{language}.safetensors").keys() == {n for n in trained if is_adapter(n)}
    recognise = pipeline("automatic-speech-recognition", model=str(out))
    theirs = collapse_spaces(recognise({"raw": WAVEFORM.copy(), "sampling_rate": 16_000})["text"])
    assert theirs == heard(out)


def test_adapter_alone_cannot_be_trained_where_there_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small_hf_model("wav2vec2").save_pretrained(tmp_path / "plain")
    assert (
        main([*write_corpus(tmp_path, "a"), "--model.pretrained", str(tmp_path / "plain"), "--model.adapter-only"]) == 2
    )
    assert "has no adapters: leave out --model.adapter-only" in capsys.readouterr().err
