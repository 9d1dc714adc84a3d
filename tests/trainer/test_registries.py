"""What CONTRIBUTING.md promises: one more entry in one file shows wherever its kind is shown.

pytest tests/trainer/test_registries.py
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile

from models.checkpoints.export import save_huggingface
from tests.helpers.models import VOCAB, make_talkative, noise, small_model
from tests.helpers.paths import ROOT
from tests.helpers.runs import train_on_noise
from trainer.report import columns
from trainer.scoring.metrics import METRICS, EditCounts, Metric


def count_vowels(reference: str, hypothesis: str) -> EditCounts:
    """A made-up rate: vowels of the reference, all of them deleted."""
    return EditCounts(deletions=sum(c in "aeiou" for c in reference) + 1)


@pytest.mark.slow  # trains a miniature
def test_one_more_metric_and_column_show_wherever_their_kind_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(METRICS, "ver", Metric("vowel error rate", count_vowels))
    original = columns.columns
    column = columns.Column("vowels", "Vowels", "number", lambda split, h: h[-1].counts("ver").num_errors)
    monkeypatch.setattr("trainer.report.page.columns", lambda *args: [*original(*args), column])
    run = train_on_noise(tmp_path)
    assert "VER 100.00 %" in capsys.readouterr().err
    assert json.loads((run / "results.json").read_text())["ver"] == 1.0
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert {record["eval/ver"] for record in records if "eval/wer" in record} == {1.0}
    card = (run / "model" / "README.md").read_text()
    assert "| VER |" in card
    assert "type: ver" in card
    report = (run / "report.html").read_text()
    assert "Vowel error rate" in report
    assert '"key":"vowels"' in report


PAIRS = '''"""A folder of NAME.wav beside NAME.txt for each split."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from data.audio.decode import FileAudio
from data.config import CorpusConfig, option
from data.faults import Faults
from data.utterance import Corpus, Splits, Utterance


@dataclass(frozen=True, kw_only=True)
class PairsConfig(CorpusConfig):
    """folders of recordings and texts of one name: --corpus.folder F

    This paragraph is for readers of the code.
    """

    preset = "paired-files"

    folder: str = option("", common=True, place=True)
    """Holds the folders seen and unseen."""

    ending: str = "txt"
    """How the texts' names end."""

    def required(self, training: bool) -> list[tuple[str, str]]:
        return [("--corpus.folder, which holds seen and unseen", self.folder)]

    def language_code(self) -> str:
        return "la"

    def kind_of_speech(self) -> str:
        return "bursts of noise"

    def open(self, cache_dir: Path, progress: Callable[[int, int], None]) -> Corpus:
        return PairsCorpus(self)


class PairsCorpus:
    title = "pairs of files"
    splits = Splits(train="seen", monitor="unseen", headline="unseen", closing=("unseen",))

    def __init__(self, config: PairsConfig) -> None:
        self.config = config

    def utterances(self, split: str, faults: Faults | None = None) -> Iterable[Utterance]:
        for text in sorted((Path(self.config.folder) / split).glob(f"*.{self.config.ending}")):
            yield Utterance(id=text.stem, audio=FileAudio(text.with_suffix(".wav")), text=text.read_text())

    def checksum(self, words_per_split: dict[str, int]) -> None:
        """None: nobody published its counts."""
'''


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a copy of the package `data`, which programs that start there import instead of the original."""
    shutil.copytree(ROOT / "data", tmp_path / "project" / "data", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "project"


def call(project: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """`python COMMAND` with the project's package `data`."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, *command], cwd=project, env=environment, capture_output=True, text=True)


def test_one_more_corpus_is_a_preset_with_its_options(project: Path) -> None:
    (project / "data" / "corpora" / "pairs.py").write_text(PAIRS)
    common = call(project, "-m", "trainer.run", "paired-files", "--help").stdout
    assert "\n  paired-files folders of recordings and texts of one name: --corpus.folder F\n" in common
    assert "readers of the code" not in common
    assert "--corpus.folder TEXT\n      Holds the folders seen and unseen [required]" in common
    assert "--corpus.ending" not in common
    every = call(project, "-m", "trainer.run", "paired-files", "--help-all").stdout
    assert "--corpus.ending TEXT\n      How the texts' names end [txt]" in every
    assert "--corpus.language TEXT" in every
    check = (
        "from trainer.cli.parse import parse; from trainer.config.validate import validate;"
        "validate(parse(['paired-files', '--model.size', 'tiny']))"
    )
    missing = call(project, "-c", check).stderr.splitlines()[-1]
    assert missing.endswith("ConfigError: Preset paired-files needs --corpus.folder, which holds seen and unseen.")
    other = call(project, "-m", "trainer.run", "hub", "--corpus.ending", "lab")
    assert (other.returncode, other.stderr) == (
        2, "error: preset hub has no option --corpus.ending: that is for paired-files.\n"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "data.corpora.manifest and data.corpora.copy_of both define ManifestConfig. Rename one"),
        ({"ManifestConfig": "CopyConfig"}, "data.corpora.copy_of.CopyConfig: 'manifest' is a preset already."),
        ({"ManifestConfig": "CopyConfig", '"manifest"': '"demo"'}, "CopyConfig: 'demo' is a preset already."),
    ],
)
def test_copied_corpus_that_kept_a_name_is_refused(project: Path, changes: dict[str, str], message: str) -> None:
    corpora = project / "data" / "corpora"
    text = (corpora / "manifest.py").read_text()
    for old, new in changes.items():
        text = text.replace(old, new)
    (corpora / "copy_of.py").write_text(text)
    last = call(project, "-m", "trainer.run", "--help").stderr.splitlines()[-1]
    assert last.startswith("ImportError: ")
    assert message in last


@pytest.mark.slow  # trains a miniature, in processes of their own
def test_one_more_corpus_trains_is_told_and_is_compared_on_resume(project: Path) -> None:
    (project / "data" / "corpora" / "pairs.py").write_text(PAIRS)
    special = dict(blank="[PAD]", unknown="[UNK]", word_delimiter="|")
    checkpoint = project / "checkpoint"
    save_huggingface(make_talkative(small_model("unispeech")).hf, VOCAB.tokens, special, True, checkpoint)
    for split, number in (("seen", 8), ("unseen", 6)):
        (project / "pairs" / split).mkdir(parents=True)
        for i in range(number):
            stem = project / "pairs" / split / f"{i}.wav"
            soundfile.write(stem, noise(9000 + 700 * i, seed=100 * number + i), 16_000, subtype="PCM_16")
            stem.with_suffix(".txt").write_text("abba cab fed a bee"[: 8 + i])
    options = ["-m", "trainer.run", "paired-files", "--model.pretrained", str(checkpoint), "--batching.batch-size", "4",
               "--train.epochs", "2", "--train.eval-every", "2", "--device", "cpu"]  # fmt: skip

    done = call(project, *options, "--corpus.folder", "pairs")
    assert done.returncode == 0, done.stderr
    run = project / "runs" / "paired-files"
    assert json.loads((run / "results.json").read_text())["headline"] == "unseen"
    config = json.loads((run / "config.json").read_text())["corpus"]
    assert (config["kind"], config["folder"], config["ending"]) == ("PairsConfig", "pairs", "txt")
    card = (run / "model" / "README.md").read_text()
    assert "language: la\n" in card
    assert "bursts of noise" in card
    assert "- corpus.ending: txt\n" in card
    assert "- corpus.folder" not in card

    read_back = (
        "from pathlib import Path; from trainer.config.as_json import read_config, to_json;"
        "path = Path('runs/paired-files/config.json'); assert to_json(read_config(path)) == path.read_text()"
    )
    assert call(project, "-c", read_back).stderr == ""

    shutil.move(project / "pairs", project / "moved")
    for text in (project / "moved").rglob("*.txt"):
        shutil.copy(text, text.with_suffix(".lab"))
    done = call(project, *options, "--corpus.folder", "moved", "--corpus.ending", "lab", "--resume")
    assert done.returncode == 2
    assert "(corpus.ending: txt before, lab now)" in done.stderr  # and not that the folder is another
