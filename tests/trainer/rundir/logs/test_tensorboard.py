"""TensorBoard's log: a run read by its own reader, and two real runs read through a real server's HTTP.

pytest tests/trainer/rundir/logs/test_tensorboard.py
"""

from __future__ import annotations

import errno
import io
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from data.text.vocab import Vocab
from tests.helpers.models import small_model
from trainer.config.presets import PRESETS
from trainer.config.validate import resolve
from trainer.loop.gradients import norms_by_part, part_of
from trainer.loop.state import TrainState
from trainer.run import main
from trainer.rundir.logs.pictures import BLANK, LEFT, ROW, TOP, chosen_rows, draw_posteriors
from trainer.rundir.logs.tensorboard import LAYOUT, Board, flat_options, tag_of
from trainer.scoring.followed import shown_positions
from trainer.scoring.scores import Followed

OPTIONS = ["demo", "--corpus.size", "tiny", "--model.size", "tiny", "--train.max-steps", "4", "--train.log-every", "2",
           "--train.eval-every", "2", "--batching.batch-size", "16", "--device", "cpu"]  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, synthetic_cache: Path) -> Path:
    """Two runs that differ in their learning rate."""
    folder = tmp_path_factory.mktemp("board") / "runs"
    for name, lr in (("a", "1e-3"), ("b", "2e-3")):
        more = ["--name", name, "--optim.lr", lr, "--runs-dir", str(folder), "--cache-dir", str(synthetic_cache)]
        assert main([*OPTIONS, *more]) == 0
    return folder


@pytest.fixture(scope="module")
def get(runs: Path) -> Iterator[Callable[..., Any]]:
    """get("plugin/text/tags", run="a") -> what a `tensorboard --logdir runs` answers; bytes where it is no JSON."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(runs), "--host", "127.0.0.1"]
    command += ["--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def ask(path: str, body: dict | None = None, **query: Any) -> Any:
        url = f"http://127.0.0.1:{port}/data/{path}?{urllib.parse.urlencode(query)}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=20) as answer:
            content = answer.read()
        return json.loads(content) if "json" in answer.headers["Content-Type"] else content

    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                if set(ask("plugin/hparams/experiment", {})["metricInfos"] and ask("plugin/text/tags")) == {"a", "b"}:
                    break
            except (urllib.error.URLError, OSError, KeyError):
                pass
            assert server.poll() is None
            assert time.monotonic() < deadline, "TensorBoard never showed both runs"
            time.sleep(0.2)
        yield ask
    finally:
        server.terminate()
        server.wait()


@pytest.mark.slow  # two runs of the demo and a server
def test_scalars_are_those_of_the_metrics_file(get: Callable[..., Any], runs: Path) -> None:
    records = [json.loads(line) for line in (runs / "a" / "metrics.jsonl").read_text().splitlines()]
    tags = {tag for record in records for tag in record} - {"step", "epoch"}
    shown = set(get("plugin/scalars/tags")["a"])
    assert shown == {*map(tag_of, tags), "trained/wer", "trained/cer", "trained/ser", "trained/loss"}
    parts = {f"grad_norm/{part}" for part in ("feature_encoder", "projection", "transformer", "head")}
    assert parts | {"eval/blank_share", "eval/wer", "eval/cer", "eval/ser", "train/loss", "train/grad_norm"} <= tags
    points = get("plugin/scalars/scalars", run="a", tag="watch/eval/blank_share")
    expected = [(r["step"], r["eval/blank_share"]) for r in records if "eval/wer" in r]
    assert [(step, pytest.approx(value, rel=1e-6)) for _, step, value in points] == expected


@pytest.mark.slow  # two runs of the demo and a server
def test_layout_of_custom_scalars_arrives_and_all_its_tags_match_something(get: Callable[..., Any]) -> None:
    layout = get("plugin/custom_scalars/layout")
    assert [category["title"] for category in layout["category"]] == list(LAYOUT)
    for category in layout["category"]:
        for chart in category["chart"]:
            for tag in chart["multiline"]["tag"]:
                found = get("plugin/custom_scalars/scalars", run="a", tag=tag)
                assert found["regex_valid"]
                assert found["tag_to_events"], tag


@pytest.mark.slow  # two runs of the demo and a server
def test_transcripts_are_a_table_per_evaluation(get: Callable[..., Any]) -> None:
    texts = get("plugin/text/text", run="a", tag="eval/transcripts/text_summary")
    assert [text["step"] for text in texts] == [2, 4]
    assert "reference</th>" in texts[0]["text"]
    assert texts[0]["text"].count("<tr>") == 1 + 1 + 8  # TensorBoard puts a table around it; our heading; utterances


@pytest.mark.slow  # two runs of the demo and a server
def test_the_same_utterances_are_heard_once_and_drawn_in_every_evaluation(get: Callable[..., Any]) -> None:
    heard, drawn = get("plugin/audio/tags")["a"], get("plugin/images/tags")["a"]
    ids = {tag.removeprefix("utterances/") for tag in heard}
    assert len(ids) == 4
    assert {tag.removeprefix("utterances/posteriors/") for tag in drawn} == ids
    for tag in drawn:
        pictures = get("plugin/images/images", run="a", tag=tag, sample=0)
        assert [picture["step"] for picture in pictures] == [2, 4]
    content = get("plugin/images/individualImage", **dict(urllib.parse.parse_qsl(pictures[0]["query"])))
    assert Image.open(io.BytesIO(content)).size[0] >= 480


@pytest.mark.slow  # two runs of the demo and a server
def test_lengths_and_padding_are_histograms_at_the_start(get: Callable[..., Any]) -> None:
    tags = get("plugin/histograms/tags")["a"]
    assert {"utterances/train_seconds", "utterances/batch_padding_share", "utterances/batch_seconds"} <= set(tags)
    ((_, step, bins),) = get("plugin/histograms/histograms", run="a", tag="utterances/train_seconds")
    assert step == 0
    assert sum(count for _, _, count in bins) == 32


@pytest.mark.slow  # two runs of the demo and a server
def test_runs_compare_by_final_wer_in_hparams(get: Callable[..., Any], runs: Path) -> None:
    metrics = {info["name"]["tag"] for info in get("plugin/hparams/experiment", {})["metricInfos"]}
    assert {"trained/wer", "trained/cer", "trained/loss"} <= metrics
    order = {"colParams": [], "startIndex": 0, "sliceSize": 10, "allowedStatuses": ["STATUS_UNKNOWN", "STATUS_RUNNING",
             "STATUS_SUCCESS", "STATUS_FAILURE"]}  # fmt: skip
    groups = get("plugin/hparams/session_groups", order)["sessionGroups"]
    found = {group["hparams"]["lr"]: group["sessions"] for group in groups}
    assert sorted(found) == [1e-3, 2e-3]
    for group, name in zip(sorted(groups, key=lambda g: g["hparams"]["lr"]), "ab", strict=True):
        values = {m["name"]["tag"]: m["value"] for m in group["sessions"][0]["metricValues"]}
        wer = json.loads((runs / name / "results.json").read_text())["wer"]
        assert values["trained/wer"] == pytest.approx(wer, rel=1e-6)
        assert group["hparams"]["steps"] == json.loads((runs / name / "results.json").read_text())["steps"]


def test_a_runs_event_file_holds_its_metrics_its_transcripts_and_what_it_followed(finished_run: Path) -> None:
    """Reference: metrics.jsonl, hypotheses.jsonl and results.json, against TensorBoard's own reader; float32 there."""
    events = EventAccumulator(str(finished_run), {"scalars": 0, "images": 0, "tensors": 0})
    events.Reload()
    records = [json.loads(line) for line in (finished_run / "metrics.jsonl").read_text().splitlines()]
    told: dict[str, list[tuple[int, float]]] = {}
    for record in records:
        for tag, value in record.items():
            if tag not in ("step", "epoch") and value is not None:
                told.setdefault(tag_of(tag), []).append((record["step"], pytest.approx(value, rel=1e-6)))
    results = json.loads((finished_run / "results.json").read_text())
    told |= {f"trained/{name}": [(4, pytest.approx(results[name], rel=1e-6))] for name in ("wer", "cer", "loss")}
    tags = events.Tags()
    assert {tag for tag in tags["scalars"] if not tag.startswith("trained/")} <= told.keys() <= set(tags["scalars"])
    assert {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in told} == told
    assert [event.step for event in events.Tensors("eval/transcripts/text_summary")] == [2, 4]
    followed = {tag.removeprefix("utterances/posteriors/") for tag in tags["images"]}
    assert followed == {tag.removeprefix("utterances/") for tag in tags["audio"]}
    assert followed
    assert followed <= {json.loads(line)["id"] for line in (finished_run / "hypotheses.jsonl").read_text().splitlines()}
    assert all([event.step for event in events.Images(tag)] == [2, 4] for tag in tags["images"])


def test_loss_and_error_rates_are_the_first_two_groups(finished_run: Path) -> None:
    """TensorBoard sorts by name, and opens the first two groups: what is before the first slash of each tag."""
    events = EventAccumulator(str(finished_run), {"scalars": 0, "images": 0, "histograms": 0})
    events.Reload()
    tags = events.Tags()
    groups: dict[str, set[str]] = {}
    for tag in (*tags["scalars"], *tags["images"], *tags["histograms"]):
        group, _, name = tag.partition("/")
        groups.setdefault(group, set()).add(name)
    assert sorted(groups) == ["eval", "train", "trained", "utterances", "watch"]
    assert groups["eval"] == {"loss", "wer", "cer", "ser"}
    assert groups["train"] == {"loss"}


def test_a_full_disk_ends_the_log_with_one_warning_and_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """TensorBoard writes in a thread of its own, and Python prints the traceback of a thread that dies."""

    def write(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("threading.excepthook", threading.__excepthook__)  # not pytest's
    warnings: list[str] = []
    board = Board(tmp_path, TrainState(), warnings.append)
    monkeypatch.setattr("tensorboard.summary.writer.record_writer.RecordWriter.write", write)
    for step in range(3):
        board.scalars(step, {"train/loss": 1.0})
        board.show(SummaryWriter.flush)
    assert len(warnings) == 1
    assert "No space left on device" in warnings[0]
    other = threading.Thread(target=write, name="another")
    other.start()
    other.join()
    assert capfd.readouterr().err.count("Traceback") == 1, "other threads still tell theirs"


def test_hparams_first_columns_are_the_usual_suspects() -> None:
    """TensorBoard sorts by name and shows five."""
    names = sorted(flat_options(resolve(PRESETS["demo"]())))
    assert names[:5] == ["batch_size", "epochs", "grad_accum_steps", "lr", "model"]


def test_squares_of_the_parts_norms_sum_to_the_whole() -> None:
    """Reference: torch's clip_grad_norm_ over all parameters; 1e-5 for the order of summation."""
    model = small_model()
    torch.manual_seed(0)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    norms = norms_by_part(model.named_parameters())
    assert list(norms) == ["feature_encoder", "projection", "transformer", "head"]
    whole = torch.nn.utils.clip_grad_norm_(model.parameters(), 1e9)
    assert sum(norm**2 for norm in norms.values()) ** 0.5 == pytest.approx(whole.item(), rel=1e-5)
    head = model.hf.lm_head
    assert head.weight.grad is not None
    of_head = torch.cat([head.weight.grad.flatten(), head.bias.grad])
    assert norms["head"] == pytest.approx(of_head.norm().item(), rel=1e-5)


def test_a_part_without_gradient_has_no_norm() -> None:
    model = small_model()
    for name, parameter in model.named_parameters():
        parameter.grad = None if part_of(name) == "feature_encoder" else torch.ones_like(parameter)
    assert "feature_encoder" not in norms_by_part(model.named_parameters())


@pytest.mark.parametrize("number", [0, 1, 3, 8, 9, 1680])
def test_shown_utterances_are_at_most_eight_and_spread(number: int) -> None:
    positions = shown_positions(number)
    assert len(positions) == min(8, number)
    assert len(set(positions)) == len(positions)
    assert all(0 <= p < number for p in positions)


def test_posteriors_are_drawn_where_they_are() -> None:
    """Four frames: unit 2 for sure, blank for sure, unit 1 for sure, an unexpected unit 3 for sure."""
    vocab = Vocab(("|", "a", "b", "c", "[UNK]", "[PAD]"))
    posteriors = np.zeros((4, 6), np.float32)
    posteriors[[0, 1, 2, 3], [2, 5, 1, 3]] = 1
    followed = Followed("u", (2, 1), 0.08, posteriors)
    assert chosen_rows(followed, vocab.blank_id) == [2, 1, 3, 5]
    picture = draw_posteriors(followed, vocab, "ba", "ba")
    middles = picture[TOP + 6 : TOP + 4 * ROW : ROW, LEFT + 3 : LEFT + 24 : 6]  # of each unit's row and frame's column
    dark = (middles.min(axis=2) < 200).tolist()
    assert dark == [[True, False, False, False], [False, False, True, False], [False, False, False, True],
                    [False, True, False, False]]  # fmt: skip
    assert tuple(picture[TOP + ROW * 3 + 6, LEFT + 6 + 3]) == BLANK


def test_a_large_vocabulary_is_drawn_in_forty_rows() -> None:
    tokens = ("|", *(chr(0x4E00 + i) for i in range(3000)), "[UNK]", "[PAD]")
    followed = Followed("u", tuple(range(1, 200)), 4.0, np.full((200, len(tokens)), 0.5, np.float32))
    rows = chosen_rows(followed, len(tokens) - 1)
    assert len(rows) == 40
    assert draw_posteriors(followed, Vocab(tokens), "一" * 500, "").dtype == np.uint8
