"""A finished run in miniature, for what is made of runs: card, report, comparison."""

from __future__ import annotations

import json
from pathlib import Path

import soundfile

from models.export import save_huggingface
from tests.helpers.models import VOCAB, make_talkative, noise, small_model
from trainer.run import main


def train_on_noise(folder: Path, *options: str, code: int = 0) -> Path:
    """Four steps on eight bursts of noise, from a checkpoint that already writes varied text; the run's folder.

    `code` is the exit code that is expected.
    """
    checkpoint = folder / "checkpoint"
    special = dict(blank="[PAD]", unknown="[UNK]", word_delimiter="|")
    save_huggingface(make_talkative(small_model("unispeech")).hf, VOCAB.tokens, special, True, checkpoint)
    for split, number in (("train", 8), ("eval", 6)):
        rows = []
        for i in range(number):
            name = f"{split}-{i}.wav"
            soundfile.write(folder / name, noise(9000 + 700 * i, seed=100 * number + i), 16_000, subtype="PCM_16")
            rows.append(json.dumps({"audio_filepath": name, "text": "abba cab fed a bee"[: 8 + i], "speaker": "s1"}))
        (folder / f"{split}.jsonl").write_text("\n".join(rows))
    returned = main([
        "manifest", "--corpus.train", str(folder / "train.jsonl"), "--corpus.eval", str(folder / "eval.jsonl"),
        "--model.pretrained", str(checkpoint), "--batching.batch-size", "4", "--train.epochs", "2",
        "--train.log-every", "1", "--train.eval-every", "2", "--optim.lr", "1e-6", "--device", "cpu",
        "--name", "tiny noise", "--runs-dir", str(folder / "runs"), "--cache-dir", str(folder / "cache"),
        *options,
    ])  # fmt: skip
    assert returned == code
    return folder / "runs" / "tiny noise"
