"""A finished run in miniature, for what is made of runs: card, report, comparison."""

from __future__ import annotations

from pathlib import Path

import soundfile

from models.checkpoints.export import save_huggingface
from tests.helpers.corpora import write_jsonl
from tests.helpers.models import VOCAB, make_talkative, noise, small_model
from trainer.run import main


def write_noise_corpus(folder: Path, *, num_train: int, num_eval: int) -> list[str]:
    """train.jsonl and eval.jsonl of bursts of noise, no two alike, and a checkpoint that already writes varied text.

    What the command line needs to find them.
    """
    special = dict(blank="[PAD]", unknown="[UNK]", word_delimiter="|")
    model = make_talkative(small_model("unispeech"))
    save_huggingface(model.hf, VOCAB.tokens, special, True, folder / "checkpoint")
    for split, number in (("train", num_train), ("eval", num_eval)):
        rows = []
        for i in range(number):
            name, seed = f"{split}-{i}.wav", 100 * number + i
            soundfile.write(folder / name, noise(9000 + 700 * (i % 8), seed=seed), 16_000, subtype="PCM_16")
            text = "abba cab fed a bee"[: 8 + i % 8]
            rows.append({"audio_filepath": name, "text": text, "speaker": "s1"})
        write_jsonl(folder / f"{split}.jsonl", rows)
    return [
        "--corpus.train", str(folder / "train.jsonl"), "--corpus.eval", str(folder / "eval.jsonl"),
        "--model.pretrained", str(folder / "checkpoint"),
    ]  # fmt: skip


def train_on_noise(folder: Path, *options: str, code: int = 0) -> Path:
    """Four steps on eight bursts of noise, from a checkpoint that already writes varied text; the run's folder.

    `code` is the exit code that is expected.
    """
    inputs = write_noise_corpus(folder, num_train=8, num_eval=6)
    returned = main([
        "manifest", *inputs, "--batching.batch-size", "4", "--train.epochs", "2",
        "--train.log-every", "1", "--train.eval-every", "2", "--optim.lr", "1e-6", "--device", "cpu",
        "--name", "tiny noise", "--runs-dir", str(folder / "runs"), "--cache-dir", str(folder / "cache"),
        *options,
    ])  # fmt: skip
    assert returned == code
    return folder / "runs" / "tiny noise"
