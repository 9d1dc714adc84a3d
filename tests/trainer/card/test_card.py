"""The model card (trainer.card.card) as the hub reads it: one of a real, miniature run, others of runs made up by hand.

pytest tests/trainer/card/test_card.py
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import EvalResult, ModelCard
from transformers import pipeline

from data.audio.decode import decode, read_header
from data.config import options_marked
from data.corpora.hub import HubConfig
from data.corpora.manifest import ManifestConfig
from data.corpora.synthetic import SyntheticConfig
from data.corpora.timit import TimitConfig
from data.examples.drops import Drops
from data.text.normalise import collapse_spaces
from data.utterance import Splits
from models.checkpoints.weights import LoadReport
from models.config import ModelConfig
from tests.helpers.models import VOCAB, example
from trainer.card.card import write_card
from trainer.card.hyperparameters import NOT_HYPERPARAMETERS, hyperparameters
from trainer.card.push import find_card_problems
from trainer.config.as_json import flatten
from trainer.config.schema import Config, OptimConfig, TrainConfig
from trainer.prepare.corpus import PreparedCorpus
from trainer.rundir.results import write_hypotheses
from trainer.scoring.metrics import count_character_errors, count_word_errors
from trainer.scoring.scores import Hypothesis, Scores

# As Hugging Face's Trainer wrote them for the reference run
REFERENCE_SECTIONS = [
    "## Model description", "## Intended uses & limitations", "## Training and evaluation data",
    "## Training procedure", "### Training hyperparameters", "### Training results", "### Framework versions",
]  # fmt: skip
REFERENCE_HYPERPARAMETERS = [
    "learning_rate", "train_batch_size", "eval_batch_size", "seed", "optimizer", "lr_scheduler_type",
    "lr_scheduler_warmup_steps", "num_epochs", "mixed_precision_training",
]  # fmt: skip


def table_after(heading: str, text: str) -> list[list[str]]:
    """The rows of the first table below `heading`, the rule left out."""
    rows = text.split(heading + "\n", 1)[1].split("\n#", 1)[0]
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in rows.splitlines() if line.startswith("|")]
    return [row for row in cells if not all(re.fullmatch(r":?-+:?", c) for c in row)]


# --- a real run


@pytest.fixture(scope="module")
def card_text(finished_run: Path) -> str:
    return (finished_run / "model" / "README.md").read_text(encoding="utf-8")


def results_of(run: Path) -> dict[str, Any]:
    return json.loads((run / "results.json").read_text(encoding="utf-8"))


def test_card_has_the_reference_cards_sections_in_order(card_text: str) -> None:
    headings = [line for line in card_text.splitlines() if line.startswith("#")]
    assert [line for line in headings if line in REFERENCE_SECTIONS] == REFERENCE_SECTIONS
    assert headings[0] == "# tiny noise"
    assert "It achieves the following results on the evaluation set" in card_text


def test_card_has_the_reference_cards_hyperparameters(card_text: str) -> None:
    section = card_text.split("### Training hyperparameters")[1].split("\n#")[0]
    listed = dict(re.findall(r"^- (\w+): (.+)$", section, flags=re.M))
    assert [name for name in REFERENCE_HYPERPARAMETERS if name not in listed] == []
    assert (listed["learning_rate"], listed["train_batch_size"], listed["num_epochs"]) == ("1e-06", "4", "2")
    assert "betas=(0.9,0.999) and epsilon=1e-08" in listed["optimizer"]


def test_nothing_is_left_for_others_to_fill_in(card_text: str) -> None:
    assert "more information needed" not in card_text.lower()
    assert not re.search(r"\b(None|nan|inf|TODO)\b", card_text.split("---\n", 2)[2])


def test_table_of_training_results_is_that_of_the_metrics_file(finished_run: Path, card_text: str) -> None:
    """Reference: metrics.jsonl, read by hand."""
    header, *rows = table_after("### Training results", card_text)
    assert header == ["Training Loss", "Epoch", "Step", "Validation Loss", "Wer"]
    records = [json.loads(line) for line in (finished_run / "metrics.jsonl").read_text().splitlines()]
    losses = {r["step"]: r["train/loss"] for r in records if "train/loss" in r}
    expected = [
        [
            f"{losses[r['step']]:.4f}",
            f"{r['epoch']:.2f}",
            str(r["step"]),
            f"{r['eval/loss']:.4f}",
            f"{100 * r['eval/wer']:.2f} %",
        ]
        for r in records
        if "eval/wer" in r
    ]
    assert rows == expected
    assert [row[2] for row in rows] == ["2", "4"]


def test_metadata_survives_the_round_trip(finished_run: Path) -> None:
    """Reference: the figures of results.json, through huggingface_hub's own reader, twice."""
    results = results_of(finished_run)
    card = ModelCard.load(finished_run / "model" / "README.md")
    expected = [
        EvalResult(
            task_type="automatic-speech-recognition", task_name="Speech Recognition", dataset_type="speech",
            dataset_name="the manifests train.jsonl and eval.jsonl", dataset_split="eval", metric_type=metric,
            metric_name=metric.upper(), metric_value=results[metric],
        )
        for metric in ("wer", "cer", "ser")
    ]  # fmt: skip
    assert card.data.eval_results == expected
    assert (card.data.library_name, card.data.pipeline_tag) == ("transformers", "automatic-speech-recognition")
    again = ModelCard(str(card))
    assert again.data.to_dict() == card.data.to_dict()
    assert again.data.eval_results == expected
    assert again.text == card.text
    assert card.data.to_dict()["model-index"][0]["name"] == "tiny noise"


def test_summary_tells_the_headline_figures(finished_run: Path, card_text: str) -> None:
    results = results_of(finished_run)
    assert f"- Wer: {100 * results['wer']:.2f} % ({results['num_errors']} errors of" in card_text
    assert f"{results['num_reference_words']} words)" in card_text
    assert f"- Loss: {results['loss']:.4f}" in card_text


def test_load_report_and_freezing_are_told(card_text: str) -> None:
    assert "From the checkpoint: 72 tensors loaded." in card_text
    assert "The convolutional feature encoder was not trained (frozen)." in card_text


def test_local_checkpoint_is_named_without_its_path(finished_run: Path, card_text: str) -> None:
    """base_model must be a hub id, and a path in a public card tells about the author's machine."""
    assert ModelCard(card_text).data.base_model is None
    assert "the local checkpoint `checkpoint`" in card_text


def test_pipeline_reads_the_runs_model_as_hypotheses_jsonl_says(finished_run: Path) -> None:
    """Reference: transformers' pipeline on the exported folder, fed the files as our decoder reads them."""
    recognise = pipeline("automatic-speech-recognition", model=str(finished_run / "model"))
    lines = [json.loads(line) for line in (finished_run / "hypotheses.jsonl").read_text().splitlines()]
    assert len({line["hypothesis"] for line in lines}) == len(lines) == 6
    for line in lines:
        path = finished_run.parent.parent / line["id"]
        with open(path, "rb") as file:
            header = read_header(file, line["id"])
        with open(path, "rb") as file:
            samples = decode(file, line["id"], header)
        assert collapse_spaces(recognise({"raw": samples, "sampling_rate": 16_000})["text"]) == line["hypothesis"]


# --- runs made up by hand

CONFIG = Config(
    preset="timit",
    corpus=ManifestConfig(train="a", eval="b"),
    model=ModelConfig(pretrained="microsoft/unispeech-large-1500h-cv", revision="0f1e2d", freeze_feature_encoder=True),
    optim=OptimConfig(lr=1e-4, warmup_steps=1000),
    train=TrainConfig(epochs=20),
    name="timit",
)
SPLIT = {
    "wer": 0.25,
    "cer": 0.125,
    "num_errors": 25,
    "num_reference_words": 100,
    "num_utterances": 3,
    "weights": "best",
}
LAST_WEIGHTS = {**SPLIT, "weights": "last", "note": "contains dev"}
RESULTS: dict[str, Any] = {
    "wer": 0.25, "cer": 0.125, "loss": 0.5, "num_errors": 25, "num_reference_words": 100, "headline": "core",
    "weights": "best", "steps": 2900, "num_skipped": 1, "epochs": 20.0, "train_seconds": 7090.1, "eval_seconds": 60.0,
    "audio_seconds_per_second": 45.6, "padding_share": 0.01, "best": {"step": 2300, "wer": 0.2}, "precision": "fp16",
    "device": "a GPU", "num_parameters": 315_470_495,
    "splits": {"core": SPLIT, "rest": {**SPLIT, "wer": 0.5}, "full": LAST_WEIGHTS},
}  # fmt: skip
RECORDS: list[dict[str, Any]] = [
    {"step": 100, "epoch": 0.69, "eval/loss": 3.97, "eval/wer": 0.9981},
    {"step": 110, "epoch": 0.76, "train/loss": 2.5},
    {"step": 200, "epoch": 1.38, "train/loss": None},
    {"step": 200, "epoch": 1.38, "eval/loss": None, "eval/wer": 1.0},
    {"step": 300, "epoch": 2.07, "train/loss": 1.25},
    {"step": 300, "epoch": 2.07, "eval/loss": 0.9999, "eval/wer": 0.7167},
]


def data_of(title: str = "TIMIT", **changes: Any) -> PreparedCorpus:
    splits = Splits(train="train", monitor="dev", headline="core", closing=("core",))
    examples = [example(16_000 * n, "abba", seed=n) for n in (1, 2, 3)]
    data = PreparedCorpus(
        corpus=SimpleNamespace(title=title, splits=splits), vocab=VOCAB, own_tokenizer=False, train=examples,
        evaluation={"core": examples}, drops=Drops("train", 3), unseen={"core": Counter()},
    )  # fmt: skip
    return replace(data, **changes)


def written(reference: str, hypothesis: str, number: int = 0, **known: Any) -> Hypothesis:
    words, characters = count_word_errors(reference, hypothesis), count_character_errors(reference, hypothesis)
    return Hypothesis(f"u{number}", reference, hypothesis, words, characters, 0.5, **known)


def written_card(
    folder: Path, config: Config = CONFIG, data: PreparedCorpus | None = None, results: dict[str, Any] = RESULTS,
    report: LoadReport | None = None, records: list[dict[str, Any]] = RECORDS,
    hypotheses: tuple[Hypothesis, ...] = (),
) -> ModelCard:  # fmt: skip
    (folder / "model").mkdir()
    scores = Scores("core", hypotheses or (written("abba cab", "abba cap"),), 1.0, 1.0, {})
    write_hypotheses(folder / "hypotheses.jsonl", [scores])
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    with pytest.MonkeyPatch.context() as patch:  # the curves have a test of their own, and take a second
        patch.setattr("trainer.card.card.draw_curves", lambda records: {})
        write_card(folder, config, data or data_of(), results, report, ["timit", "--corpus.root", "/my corpora/TIMIT"])
    return ModelCard.load(folder / "model" / "README.md")


def test_hub_checkpoint_is_the_base_model_and_linked_with_its_commit(tmp_path: Path) -> None:
    card = written_card(tmp_path)
    assert card.data.base_model == "microsoft/unispeech-large-1500h-cv"
    assert (
        "a fine-tuned version of [microsoft/unispeech-large-1500h-cv]"
        "(https://huggingface.co/microsoft/unispeech-large-1500h-cv) (commit 0f1e2d)"
    ) in card.text


def test_random_weights_have_no_base_model(tmp_path: Path) -> None:
    card = written_card(tmp_path, replace(CONFIG, model=ModelConfig(size="tiny", freeze_feature_encoder=False)))
    assert card.data.base_model is None
    assert "trained from random weights" in card.text


def test_metadata_holds_only_results_of_the_weights_in_the_folder(tmp_path: Path) -> None:
    """`full` was scored with the last weights; the folder holds the best."""
    card = written_card(tmp_path)
    found = {(r.dataset_split, r.metric_type): r.metric_value for r in card.data.eval_results}
    assert found == {("core", "wer"): 0.25, ("core", "cer"): 0.125, ("rest", "wer"): 0.5, ("rest", "cer"): 0.125}
    rows = table_after("### Results by split", card.text)
    assert [row[0] for row in rows] == ["Split", "core", "rest", "full (contains dev)"]


def test_table_says_no_log_before_the_first_loss_and_none_where_there_is_no_number(tmp_path: Path) -> None:
    """Reference: Hugging Face's cards say `No log`; later rows repeat the last logged loss, as the Trainer's do."""
    _, *rows = table_after("### Training results", written_card(tmp_path).text)
    assert [row[0] for row in rows] == ["No log", "none", "1.2500"]
    assert [row[3] for row in rows] == ["3.9700", "none", "0.9999"]


def test_rates_without_a_number_leave_a_readable_card(tmp_path: Path) -> None:
    """Empty references throughout: no rate exists, and model-index must not hold one."""
    nothing = {**SPLIT, "wer": None, "cer": None, "num_reference_words": 0}
    results = {**RESULTS, "wer": None, "cer": None, "loss": None, "splits": {"core": nothing}}
    card = written_card(tmp_path, results=results)
    assert not card.data.eval_results
    assert "- Wer: none" in card.text
    assert "- Loss: none" in card.text


@pytest.mark.parametrize(
    "title", ["a: b # c", "'quoted' \"twice\"", "Ünïcödé 语音", "- dash", "123", "on: {yes: [no]}", "two\nlines"]
)
def test_any_title_and_name_survive_the_metadata(title: str, tmp_path: Path) -> None:
    card = written_card(tmp_path, replace(CONFIG, name=title.replace("\n", " ")), data_of(title))
    assert {r.dataset_name for r in card.data.eval_results} == {title}
    assert card.data.model_name == title.replace("\n", " ")


def test_command_can_be_pasted_into_a_shell(tmp_path: Path) -> None:
    assert "python -m trainer.run timit --corpus.root '/my corpora/TIMIT'" in written_card(tmp_path).text


def test_what_was_left_out_or_unknown_is_told(tmp_path: Path) -> None:
    drops = Drops("train", 5, {"over 30 s": ["u7", "u8"]})
    text = written_card(tmp_path, data=data_of(drops=drops, unseen={"core": Counter({"é": 3})})).text
    assert "train: dropped 2 of 5: 2 over 30 s (u7, u8)" in text
    assert "In core, 3 characters never occur in training" in text


def test_new_head_and_unused_tensors_are_told(tmp_path: Path) -> None:
    report = LoadReport(422, ("lm_head.bias", "lm_head.weight"), ("project_q.weight", "quantizer.codevectors"))
    text = written_card(tmp_path, report=report).text
    assert "422 tensors loaded; new: lm_head.bias, lm_head.weight; not used: project_q.weight" in text


@pytest.mark.parametrize(("precision", "words"), [("fp16", "Native AMP"), ("bf16", "bf16 autocast"), ("fp32", "none")])
def test_precision_that_was_used_is_told(precision: str, words: str, tmp_path: Path) -> None:
    text = written_card(tmp_path, results={**RESULTS, "precision": precision}).text
    assert f"- mixed_precision_training: {words}" in text


def test_pictures_of_the_curves_stand_beside_the_card(finished_run: Path, card_text: str) -> None:
    """PNG by its signature, small enough to be no burden, and no picture that the card does not show."""
    shown = re.findall(r"!\[[^]]+\]\(([^)]+)\)", card_text)
    assert shown == ["curve_loss.png", "curve_wer.png", "curve_lr.png", "reliability.png"]
    for name in shown:
        content = (finished_run / "model" / name).read_bytes()
        assert content.startswith(b"\x89PNG\r\n")
        assert len(content) < 40_000


def test_card_of_a_real_run_is_one_that_the_hub_would_take(card_text: str) -> None:
    assert find_card_problems(card_text) == []


def test_interval_is_told_with_what_was_drawn(finished_run: Path, card_text: str) -> None:
    """One speaker cannot be drawn from: utterances stand in, and the card says so."""
    record = results_of(finished_run)["splits"]["eval"]
    low, high = record["wer_interval"]
    assert low < record["wer"] < high
    assert f"95 % interval {100 * low:.2f} to {100 * high:.2f} % over 6 utterances" in card_text
    assert "Utterances are drawn where speakers are not all known" in card_text


def test_groups_speakers_and_confusions_are_told(tmp_path: Path) -> None:
    """Reference: counts by hand. Women 1 error of 4 words, men 2 of 5; "cab" became "cap" twice."""
    hypotheses = (
        written("abba cab", "abba cap", 0, seconds=1.0, speaker="s1", sex="F", dialect="DR1"),
        written("abba cab", "abba cab", 1, seconds=1.5, speaker="s1", sex="F", dialect="DR1"),
        written("fed a cab", "fed a cap", 2, seconds=2.0, speaker="s2", sex="M", dialect="DR2"),
        written("bee fed", "bee", 3, seconds=2.5, speaker="s2", sex="M", dialect="DR2"),
    )
    text = written_card(tmp_path, hypotheses=hypotheses).text
    rows = {row[0]: row for row in table_after("#### core by sex", text)}
    assert (rows["women"][3:5], rows["men"][3:5]) == (["4", "25.00 %"], ["5", "40.00 %"])
    assert (rows["women"][5], rows["men"][5]) == ("none", "none"), "each is one speaker alone"
    assert "over each group's speakers: none for a speaker alone" in text
    assert [row[0] for row in table_after("#### core by speaker, worst first", text)] == ["Group", "s2", "s1"]
    assert [row[0] for row in table_after("#### core by dialect region", text)] == ["Group", "DR1", "DR2"]
    assert ["cab → cap", "2"] in [row[:2] for row in table_after("### Most frequent confusions", text)]


def test_words_cannot_change_the_cards_markup(tmp_path: Path) -> None:
    hypotheses = (written("a <script>alert(1)</script>|x", "a **b**|[y](z) # h", speaker="<i>s|1</i>"),
                  written("a", "a", 1, speaker="s2"))  # fmt: skip
    text = written_card(tmp_path, hypotheses=hypotheses).text
    assert "<script>" not in text
    assert "<i>" not in text
    assert "**b**" not in text
    assert all(len(row) == 4 for row in table_after("### Most frequent confusions", text))


def test_every_dropout_and_mask_of_the_model_is_told(finished_run: Path, card_text: str) -> None:
    """Reference: the exported config.json."""
    config = json.loads((finished_run / "model" / "config.json").read_text())
    for name in ("hidden_dropout", "layerdrop", "mask_time_prob", "mask_time_length", "mask_feature_prob"):
        assert f"- {name}: {config[name]}\n" in card_text


def test_every_option_that_can_change_a_number_is_told() -> None:
    """Whichever is changed, for each kind of corpus, the list is another; but for those that are named as none."""
    for corpus in (TimitConfig(), SyntheticConfig(), ManifestConfig(), HubConfig()):
        config = replace(CONFIG, corpus=corpus)
        before = hyperparameters(config, RESULTS, {})
        places = {f"corpus.{name}" for name in options_marked("place", corpus)}
        for name, value in flatten(config).items():
            told = hyperparameters(_changed(config, name, value), RESULTS, {}) != before
            assert told or name in NOT_HYPERPARAMETERS | places | {"precision", "auto_precision"}, name


def _changed(config: Any, name: str, value: Any) -> Any:
    """`config` with another value for the option `name`, as in `train.epochs`."""
    head, _, rest = name.partition(".")
    if rest:
        return replace(config, **{head: _changed(getattr(config, head), rest, value)})
    another = {bool: lambda: not value, str: lambda: value + "x", tuple: lambda: (0.5,), type(None): lambda: 7}
    return replace(config, **{head: another.get(type(value), lambda: value + 1)()})


def test_an_option_of_tomorrow_is_told_as_well() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Tomorrow(TrainConfig):
        temperature: float = 0.5

    assert "- train.temperature: 0.5" in hyperparameters(replace(CONFIG, train=Tomorrow()), RESULTS, {})


def test_language_is_stated_only_where_the_corpus_or_an_option_says_it(tmp_path: Path) -> None:
    assert written_card(tmp_path).data.language is None
    (tmp_path / "tr").mkdir()
    card = written_card(tmp_path / "tr", replace(CONFIG, corpus=replace(CONFIG.corpus, language="tr")))
    assert card.data.language == "tr"
    assert "Language: `tr`." in card.text
    (tmp_path / "timit").mkdir()
    card = written_card(tmp_path / "timit", replace(CONFIG, corpus=TimitConfig(root="x")))
    assert card.data.language == "en"
    assert "read sentences, American English" in card.text


def test_three_transcripts_stand_for_all(card_text: str, finished_run: Path) -> None:
    """Best, middle and worst by word error rate. Reference: hypotheses.jsonl of the same run, sorted here."""
    lines = [json.loads(line) for line in (finished_run / "hypotheses.jsonl").read_text().splitlines()]
    errors = {row["id"]: row["substitutions"] + row["insertions"] + row["deletions"] for row in lines}
    lines.sort(key=lambda row: (errors[row["id"]] / len(row["reference"].split()), row["id"]))
    _, *rows = table_after("### Sample transcripts", card_text)
    assert [row[0] for row in rows] == ["best", "middle", "worst"]
    for row, expected in zip(rows, (lines[0], lines[3], lines[5]), strict=True):
        assert row[1] == expected["reference"]
        assert row[3] == f"{errors[expected['id']]} of {len(expected['reference'].split())}"


def test_curves_stand_before_the_folded_hyperparameters(card_text: str) -> None:
    places = [card_text.index(text) for text in ("](curve_loss.png)", "### Training hyperparameters", "<details>",
              "- learning_rate", "</details>", "### Training results")]  # fmt: skip
    assert places == sorted(places)


def test_report_is_linked_where_the_run_leaves_one(finished_run: Path, card_text: str, tmp_path: Path) -> None:
    (target,) = re.findall(r"\[report\]\(([^)]+)\)", card_text)
    assert (finished_run / "model" / target).resolve() == (finished_run / "report.html").resolve()
    assert (finished_run / "report.html").exists()
    assert "report" not in written_card(tmp_path, replace(CONFIG, report=False)).text.split("Sample transcripts")[1]


def test_rates_are_in_percent_and_the_metadata_has_fractions(tmp_path: Path) -> None:
    """Reference: the reference card's WER, 0.21955757701054374, which the hub's cards have as it is."""
    split = {**SPLIT, "wer": 0.21955757701054374, "ser": 0.5, "wer_interval": [0.2, 0.25], "wer_interval_over": "24 x"}
    card = written_card(tmp_path, results={**RESULTS, "wer": split["wer"], "splits": {"core": split}})
    assert "- Wer: 21.96 % (25 errors of 100 words); 95 % interval 20.00 to 25.00 % over 24 x" in card.text
    assert table_after("### Results by split", card.text)[1][2:6] == [
        "21.96 %",
        "20.00 to 25.00 %",
        "12.50 %",
        "50.00 %",
    ]
    assert [row[4] for row in table_after("### Training results", card.text)[1:]] == ["99.81 %", "100.00 %", "71.67 %"]
    assert {r.metric_value for r in card.data.eval_results} == {0.21955757701054374, 0.125, 0.5}
