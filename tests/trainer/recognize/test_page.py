"""The page (trainer.recognize.page): what it shows in a real browser, and what it refuses over HTTP.

pytest tests/trainer/recognize/test_page.py
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

pytest.importorskip("gradio", reason='gradio is not installed: pip install --editable ".[serve]"')

from gradio.analytics import analytics_enabled

from scripts.serve import main
from tests.helpers.browser import NEEDS_CHROMIUM, chromium
from tests.helpers.paths import ROOT
from tests.helpers.tones import ToneModel, speak, tone_recognizer
from trainer.cli.console import Console
from trainer.errors import AudioError, ConfigError
from trainer.recognize.clips import NO_CLIPS, Clip, Clips, clips_of_files, clips_of_run, write_clips
from trainer.recognize.page import Limits, is_loopback, serving
from trainer.recognize.page_parts import describe_model, words_as_html
from trainer.recognize.transcribe import Windows
from trainer.recognize.transcript import TimedTranscript, Word


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """A page that hears tones, at most 5 s and 1 MB of them, and offers one recording of them as an example."""
    number = free_port()
    example = Clip("heard", "fed a bee (1.0 s)", speak("fed a bee", np.random.default_rng(1)))
    with serving(
        tone_recognizer(), Limits(5.0, 1.0, 2), Windows(), "127.0.0.1", number, Clips("From a test.", (example,))
    ):
        yield number


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "tones.flac"
    soundfile.write(path, speak("bad cab", np.random.default_rng(0)), 16_000)
    return path


def get(port: int, path: str, host: str = "127.0.0.1") -> tuple[int, bytes]:
    """(Status, body), the path sent as it is."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.putrequest("GET", path, skip_host=True)
    connection.putheader("Host", host)
    connection.endheaders()
    response = connection.getresponse()
    return response.status, response.read()


def upload(port: int, content: bytes) -> tuple[int, Any]:
    head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="../../a.wav"\r\n\r\n'
    body = head + content + b"\r\n--x--\r\n"
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("POST", "/gradio_api/upload", body, {"Content-Type": "multipart/form-data; boundary=x"})
    response = connection.getresponse()
    answer = response.read()
    return response.status, json.loads(answer) if response.status == 200 else answer


def listen(port: int, value: Any, session: str) -> dict[str, Any]:
    """What the button does with `value` as the recording: gradio's queue protocol."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    config = json.loads(get(port, "/config")[1])
    body = {"data": [value], "fn_index": config["dependencies"][0]["id"], "session_hash": session, "event_data": None}
    connection.request("POST", "/gradio_api/queue/join", json.dumps(body), {"Content-Type": "application/json"})
    assert connection.getresponse().read()
    events = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    events.request("GET", f"/gradio_api/queue/data?session_hash={session}")
    for line in events.getresponse():
        message = json.loads(line[6:]) if line.startswith(b"data: ") else {}
        if message.get("msg") == "process_completed":
            return message
    raise AssertionError("the queue closed without an answer")


def as_file(path: str, **more: Any) -> dict[str, Any]:
    return {"path": path, "meta": {"_type": "gradio.FileData"}, **more}


@pytest.mark.parametrize(
    "path",
    [
        "/../../../../../../etc/passwd",
        "/file=/etc/passwd",
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/file=//etc/passwd",
        "/gradio_api/file=../../../../../../etc/passwd",
        "/gradio_api/file=%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/gradio_api/file=file:///etc/passwd",
        "/gradio_api/file=setup.cfg",
        f"/gradio_api/file={ROOT}/setup.cfg",
        "/gradio_api/file/etc/passwd",
        "/gradio_api/proxy=http://127.0.0.1/",
        "/static/../../../../../../../../../etc/passwd",
        "/static/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/assets/..%2f..%2f..%2f..%2f..%2f..%2f..%2f..%2fetc/passwd",
        "/docs",
        "/openapi.json",
        "/monitoring",
    ],
)
def test_no_file_of_the_host_is_served(path: str, port: int) -> None:
    status, body = get(port, path)
    assert status in (403, 404)
    assert b"root:" not in body
    assert b"[metadata]" not in body


@pytest.mark.parametrize("path", ["/etc/passwd", "{file}", "file://{file}", "http://127.0.0.1:{port}/config", "../x"])
def test_only_uploads_are_listened_to(path: str, port: int, recording: Path) -> None:
    """Not what lies on this machine, not what lies elsewhere: a page must fetch nothing for its visitors."""
    path = path.format(file=recording, port=port)
    assert not listen(port, as_file(path), f"only{abs(hash(path))}")["success"]
    assert not listen(port, as_file(path, is_stream=True), f"stream{abs(hash(path))}")["success"]
    assert not listen(port, as_file("x", url=path), f"url{abs(hash(path))}")["success"]


def test_an_address_is_never_fetched(port: int, recording: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """gradio's download, which would refuse this machine's own addresses, is one here that fetches a whole recording
    from anywhere: nobody asks it to."""
    fetched: list[str] = []

    async def download(url: str, cache_dir: str, **options: Any) -> str:
        fetched.append(url)
        return shutil.copy(recording, cache_dir)

    monkeypatch.setattr("gradio.processing_utils.async_ssrf_protected_download", download)
    for scheme in ("http", "https", "HTTP"):
        address = f"{scheme}://example.org/tones.flac"
        for number, value in enumerate((as_file(address), as_file("x", url=address), as_file(address, is_stream=True))):
            answer = listen(port, value, f"{scheme}{number}")
            assert not answer["success"]
    assert fetched == []


def test_uploads_are_written_down_and_lie_below_one_folder(port: int, recording: Path) -> None:
    """A control on the tests above: the same protocol, with a file that was uploaded. Its name cannot climb."""
    status, (path,) = upload(port, recording.read_bytes())
    assert status == 200
    assert Path(path).name == "a.wav"
    assert Path(path).parent.parent.name.startswith("speech-page-")
    answer = listen(port, as_file(path), "good")
    assert answer["success"]
    assert answer["output"]["data"][0] == "bad cab"
    assert [row[0] for row in answer["output"]["data"][1]["data"]] == ["bad", "cab"]


def test_two_voices_that_are_averaged_are_told(port: int, tmp_path: Path) -> None:
    """Of one sound in both channels nothing is said."""
    rng = np.random.default_rng(0)
    one, other = speak("bad cab", rng), speak("fed a bee", rng)
    sides = np.zeros((len(one) + len(other), 2))
    sides[: len(one), 0], sides[len(one) :, 1] = one, other
    for name, samples, told in (("sides", sides, True), ("same", np.stack([one, one], axis=1), False)):
        path = tmp_path / f"{name}.flac"
        soundfile.write(path, samples, 16_000)
        _, (uploaded,) = upload(port, path.read_bytes())
        answer = listen(port, as_file(uploaded), name)["output"]["data"][2]
        assert ("Each channel has its own sound" in answer) == told, answer


def test_transcript_can_be_kept_in_five_formats(port: int, recording: Path) -> None:
    """Each file that the answer names is served, with the words in it."""
    _, (path,) = upload(port, recording.read_bytes())
    files = listen(port, as_file(path), "files")["output"]["data"][4]
    assert [Path(file["path"]).name for file in files] == ["a.txt", "a.srt", "a.vtt", "a.json", "a.TextGrid"]
    for file in files:
        status, content = get(port, f"/gradio_api/file={file['path']}")
        assert (status, b"bad" in content, b"cab" in content) == (200, True, True)


class SlowModel(ToneModel):
    """Reads long recordings only once `may_go` is set, and says so in `is_reading`."""

    may_go, is_reading = threading.Event(), threading.Event()

    def read(self, waveforms: torch.Tensor) -> torch.Tensor:
        if waveforms.shape[1] > 4 * 16_000:
            self.is_reading.set()
            assert self.may_go.wait(20)
        return super().read(waveforms)


def test_a_visitor_with_a_long_recording_does_not_hold_up_others(recording: Path, tmp_path: Path) -> None:
    number, answers = free_port(), {}
    recognizer = tone_recognizer(model=SlowModel())
    soundfile.write(tmp_path / "long.flac", 0.1 * np.sin(np.arange(4.5 * 16_000)), 16_000)
    with serving(recognizer, Limits(5.0, 1.0, 2), Windows(), "127.0.0.1", number):
        _, (long,) = upload(number, (tmp_path / "long.flac").read_bytes())
        _, (short,) = upload(number, recording.read_bytes())
        slow = threading.Thread(target=lambda: answers.update(slow=listen(number, as_file(long), "slow")))
        slow.start()
        assert SlowModel.is_reading.wait(20)
        assert listen(number, as_file(short), "quick")["output"]["data"][0] == "bad cab"
        assert not answers
        SlowModel.may_go.set()
        slow.join(20)
    assert answers["slow"]["success"]


def test_words_are_shown_in_lines_and_unsure_ones_are_marked() -> None:
    """A pause of 2 s ends a line; markup in a word stays text."""
    words = (Word("so", 0, 4000, 0.99), Word("<b>", 5000, 9000, 0.7), Word("goes", 41_000, 44_000, 0.2))
    html = words_as_html(TimedTranscript("a.wav", 64_000, words))
    assert re.findall(r'class="at">(.*?)<', html) == ["0:00", "0:02"]
    assert re.findall(r'class="(sure\d)" data-start="(.*?)"', html) == [
        ("sure1", "0.000"), ("sure2", "0.312"), ("sure3", "2.562")
    ]  # fmt: skip
    assert "<b>" not in html
    assert "&lt;b&gt;" in html
    assert "(no words)" in words_as_html(TimedTranscript("a.wav", 64_000, ()))


def test_speech_without_pauses_is_cut_into_lines_of_fifteen_seconds_at_its_longest_gaps() -> None:
    """Ten minutes, half a second a word, gaps of 0.1 s and each eighth of 0.3 s: a line begins after these alone."""
    words, at = [], 0
    for i in range(1000):
        at += 4800 if i and i % 8 == 0 else 1600
        words.append(Word(f"w{i}", at, at + 8000, 0.9))
        at += 8000
    html = words_as_html(TimedTranscript("a.wav", at, tuple(words)))
    lines = [re.findall(r"<bdi>w(\d+)</bdi>", line) for line in re.findall(r"<p dir.*?</p>", html)]
    assert [int(number) for line in lines for number in line] == list(range(1000))
    assert all(int(line[0]) % 8 == 0 and len(line) * 0.6 < 15.5 for line in lines)
    assert len(lines) < 130


def test_examples_are_two_utterances_of_the_split_that_the_run_was_scored_on(
    finished_run: Path, tmp_path: Path
) -> None:
    """Reference: eval.jsonl and its files; the first of each half. None is made up where there is no run."""
    examples = clips_of_run(finished_run / "model", 600, Console())
    rows = [json.loads(line) for line in (finished_run.parents[1] / "eval.jsonl").read_text().splitlines()]
    assert [clip.label.rpartition(" (")[0] for clip in examples.clips] == [rows[0]["text"], rows[3]["text"]]
    assert examples.origin.startswith("From eval, the split of the manifests train.jsonl and eval.jsonl that")
    for clip, path, row in zip(examples.clips, write_clips(examples.clips, tmp_path), (rows[0], rows[3]), strict=True):
        assert path.stem == clip.name == Path(row["audio_filepath"]).stem
        expected = soundfile.read(finished_run.parents[1] / row["audio_filepath"], dtype="int16")[0]
        assert np.array_equal(soundfile.read(path, dtype="int16")[0], expected)
    assert clips_of_run(finished_run / "checkpoints" / "best", 600, Console()).clips
    assert clips_of_run(finished_run / "model", 0.01, Console()) is NO_CLIPS
    assert clips_of_run(tmp_path, 600, Console()) is NO_CLIPS


def test_a_run_whose_corpus_is_gone_has_no_examples_and_says_so(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(finished_run / "model", tmp_path / "run" / "model")
    config = json.loads((finished_run / "config.json").read_text())
    config["corpus"]["eval"] = str(tmp_path / "gone.jsonl")
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    assert clips_of_run(tmp_path / "run" / "model", 600, Console()) is NO_CLIPS
    assert "no example clips: " in capsys.readouterr().err


def test_ones_own_recordings_can_be_the_examples(recording: Path) -> None:
    (clip,) = clips_of_files([recording], 600).clips
    assert (clip.name, clip.label[:10]) == ("tones", "tones.flac")
    with pytest.raises(AudioError, match=r"at most 0\.5 s"):
        clips_of_files([recording], 0.5)


def test_page_says_which_model_and_how_good(finished_run: Path, tmp_path: Path) -> None:
    """Reference: the run's own results. A folder without a card, or with one that says nothing, is named alone."""
    wer = json.loads((finished_run / "results.json").read_text())["wer"]
    told = describe_model(str(finished_run / "model"))
    assert told.startswith(f"tiny noise: WER {100 * wer:.1f} % on the manifests")
    (tmp_path / "bare").mkdir()
    assert describe_model(str(tmp_path / "bare")) == "bare"
    (tmp_path / "bare" / "README.md").write_text("---\nmodel-index: nothing\n---\nhello\n")
    assert describe_model(str(tmp_path / "bare")) == "bare"
    assert describe_model("someone/a-model") == "someone/a-model"
    best = json.loads((finished_run / "checkpoints" / "best" / "state.json").read_text())["step"]
    (told,) = [
        record["eval/wer"]
        for record in map(json.loads, (finished_run / "metrics.jsonl").read_text().splitlines())
        if record["step"] == best and "eval/wer" in record
    ]
    assert describe_model(str(finished_run / "checkpoints" / "best")) == (
        f"tiny noise-best: WER {100 * told:.1f} % in training, by which the weights were selected: optimistic"
    )
    selected = tmp_path / "selected"
    shutil.copytree(finished_run / "model", selected / "model")
    shutil.copy(finished_run / "config.json", selected)
    results = json.loads((finished_run / "results.json").read_text())
    results["splits"]["eval"]["note"] = "optimistic: the weights were selected on it"
    (selected / "results.json").write_text(json.dumps(results))
    assert describe_model(str(selected / "model")).endswith("(eval; optimistic: the weights were selected on it)")


def test_limits_on_size_and_length_hold(port: int, tmp_path: Path) -> None:
    status, answer = upload(port, bytes(1_100_000))
    assert (status, b"exceeded" in answer) == (413, True)
    soundfile.write(tmp_path / "long.flac", 0.1 * np.sin(np.arange(6 * 16_000)), 16_000)
    status, (path,) = upload(port, (tmp_path / "long.flac").read_bytes())
    assert status == 200
    answer = listen(port, as_file(path), "long")
    assert not answer["success"]
    assert answer["output"]["error"] == "a.wav: 6 s long; at most 5 s are read here."


def test_page_answers_to_its_own_name_only(port: int) -> None:
    """Another name that leads to this machine (DNS rebinding) would let its owner's page read this one."""
    assert get(port, "/config")[0] == 200
    assert get(port, "/config", "localhost:7860")[0] == 200
    assert get(port, "/config", "evil.example")[0] == 400


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 here")
def test_page_answers_at_the_other_loopback_too() -> None:
    """http://[::1]:7860, as a browser asks for it."""
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
        number = server.getsockname()[1]
    with serving(tone_recognizer(), Limits(), Windows(), "::1", number) as url:
        assert url == f"http://[::1]:{number}/"
        for host, expected in ((f"[::1]:{number}", 200), ("evil.example", 400)):
            connection = http.client.HTTPConnection("::1", number, timeout=20)
            connection.request("GET", "/config", headers={"Host": host})
            assert connection.getresponse().status == expected


def test_uploads_are_gone_when_the_page_is_and_another_page_keeps_its_own(port: int) -> None:
    number, folder = free_port(), os.environ["GRADIO_TEMP_DIR"]
    with serving(tone_recognizer(), Limits(), Windows(), "127.0.0.1", number):
        _, (path,) = upload(number, b"something")
        assert Path(path).exists()
    assert not Path(path).parent.parent.exists()
    assert os.environ["GRADIO_TEMP_DIR"] == folder
    _, (path,) = upload(port, b"something")
    assert Path(path).parent.parent == Path(folder)


@pytest.mark.browser
@pytest.mark.slow
@NEEDS_CHROMIUM
def test_browser_shows_the_words_of_a_dropped_file_and_asks_nobody_else(port: int, recording: Path) -> None:
    """Headless Chromium: upload, press, read; every request goes to the page's own server, no error in the console."""
    with chromium() as browser:
        page = browser.new_page()
        page.set_default_timeout(20_000)
        requests: list[str] = []
        errors: list[str] = []
        page.on("request", lambda request: requests.append(request.url))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"http://127.0.0.1:{port}")
        page.wait_for_selector("#listen:disabled")
        page.wait_for_load_state("networkidle")  # gradio listens from then on
        page.click("#examples button")  # it can be heard and written down
        page.wait_for_selector("#listen:enabled")
        page.click("#listen")
        page.wait_for_function("document.querySelector('#transcript textarea').value === 'fed a bee'")
        assert "heard.txt" in page.locator("#files").inner_text().replace("\n", "")
        page.get_by_label("Clear").first.click()
        page.wait_for_selector("#listen:disabled")
        page.set_input_files("input[type=file]", recording)
        page.wait_for_selector("#listen:enabled")
        assert page.inner_text("#listen") == "Write it down"
        page.wait_for_selector("a[download]", state="attached")
        assert page.get_by_label("Share").count() == 0, "it would upload the recording elsewhere"
        page.click("#listen")
        page.wait_for_function("document.querySelector('#transcript textarea').value === 'bad cab'")
        page.wait_for_function("document.querySelector('#words').innerText.includes('%')")
        cells = page.inner_text("#words").partition("confidence")[2].split()  # word, from, to, number, % for each word
        assert (cells[::5], cells[4::5]) == (["bad", "cab"], ["%", "%"])
        times = [float(cell) for word in (cells[1:3], cells[6:8]) for cell in word]
        assert times == sorted(times)
        assert "s of audio in" in page.inner_text("#took")
        second = page.locator("#lines [data-start]").nth(1)
        assert second.inner_text() == "cab"
        page.wait_for_function("document.querySelector('#lines audio').duration > 0.5")
        second.click()
        start = float(second.get_attribute("data-start"))
        page.wait_for_function("s => document.querySelector('#lines audio').currentTime >= s", arg=start)
        names = page.locator("#files").inner_text()
        assert all(suffix in names.replace("\n", "") for suffix in (".txt", ".srt", ".vtt", ".json", ".TextGrid"))
        browser.close()
    own = (f"http://127.0.0.1:{port}/", f"blob:http://127.0.0.1:{port}/", "data:")
    assert [request for request in requests if not request.startswith(own)] == []
    assert errors == []


@pytest.mark.browser
@pytest.mark.slow
@NEEDS_CHROMIUM
def test_browser_shows_the_words_of_a_recorded_clip(port: int, tmp_path: Path) -> None:
    """Headless Chromium, whose microphone plays a file round and round: record, stop, press, read."""
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "said.wav", np.tile(speak("bad ", rng), 3), 16_000, subtype="PCM_16")
    microphone = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
                  f"--use-file-for-fake-audio-capture={tmp_path / 'said.wav'}"]  # fmt: skip
    with chromium(*microphone) as browser:
        page = browser.new_page(permissions=["microphone"])
        page.set_default_timeout(20_000)
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"http://127.0.0.1:{port}")
        page.get_by_label("Record audio").click()
        page.get_by_role("button", name="Record", exact=True).click()
        page.wait_for_timeout(3000)
        page.get_by_role("button", name="Stop").first.click()
        page.wait_for_selector("a[download]", state="attached")
        page.click("#listen")
        page.wait_for_function("document.querySelector('#transcript textarea').value !== ''")
        words = page.input_value("#transcript textarea").split()
        browser.close()
    assert "bad" in words
    assert errors == []


def test_loopback_is_recognised() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.1.2.3", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "192.168.0.7", "::", "example.org")))


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "required: MODEL"),
        (["{empty}"], "not a Hugging Face model folder"),
        (["{empty}", "--port", "99999"], "--port 99999"),
        (["{empty}", "--prot", "1"], "Did you mean --port?"),
        (["{empty}", "--max-seconds", "0"], "must be above 0"),
        (["{empty}", "--max-megabytes", "inf"], "not infinite"),
        (["{empty}", "--max-seconds", "nan"], "must be above 0"),
        (["{empty}", "--at-once", "0"], "0 recordings at once"),
    ],
)
def test_wrong_argument_is_one_line_and_exit_code_2(
    argv: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([word.replace("{empty}", str(tmp_path)) for word in argv]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert message in err


def test_port_that_is_taken_is_one_line(port: int) -> None:
    second = serving(tone_recognizer(), Limits(), Windows(), "127.0.0.1", port)
    with pytest.raises(ConfigError, match=f"127.0.0.1:{port}: no page can be served there"):
        second.__enter__()


def test_page_sends_no_telemetry(port: int) -> None:
    assert not analytics_enabled()
    assert os.environ["HF_HUB_DISABLE_TELEMETRY"] in ("1", "True")
    assert json.loads(get(port, "/config")[1])["analytics_enabled"] is False
