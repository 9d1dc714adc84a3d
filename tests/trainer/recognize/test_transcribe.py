"""Long recordings in windows (trainer.recognize.transcribe), word times and confidences (trainer.recognize.words).

pytest tests/trainer/recognize/test_transcribe.py
"""

from __future__ import annotations

import errno
import itertools
import json
import math
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from transformers import pipeline

from data.text.normalise import collapse_spaces
from data.text.vocab import Vocab
from models.checkpoints.export import save_huggingface
from models.ctc import CTCModel
from models.geometry import FrameGeometry
from models.lengths import UtteranceLengths, write_lengths
from scripts.transcribe import main, output_names, parse
from tests.helpers.models import HIDDEN, VOCAB, make_talkative, noise, small_hf_model, small_model
from tests.helpers.tones import KERNELS, STRIDES, sentence, speak, tone_model
from tests.helpers.tones import VOCAB as TONES
from tests.helpers.voices import voice
from trainer.errors import ConfigError, ModelError
from trainer.recognize.transcribe import (
    LoadedModel,
    Windows,
    advise,
    load_recognizer,
    read_frames,
    seam,
    stitch,
    transcribe,
    window_starts,
)
from trainer.recognize.words import find_words
from trainer.scoring.decode import NOTHING, collapse

WHOLE = Windows(1e6, 1)
GEOMETRY = FrameGeometry.of(KERNELS, STRIDES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported model that writes long, varied nonsense."""
    path = tmp_path_factory.mktemp("exported") / "model"
    model = make_talkative(small_model())
    save_huggingface(model.hf, VOCAB.tokens, VOCAB.special, True, path)
    return path


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Three recordings, one of them in a folder below."""
    root = tmp_path / "in"
    (root / "deep").mkdir(parents=True)
    for i, name in enumerate(("a.wav", "b c.flac", "deep/a.wav")):
        soundfile.write(root / name, noise(20_000 + 5000 * i, seed=i), 16_000)
    return root


def random_local_model(seed: int) -> LoadedModel:
    """Convolutions with random weights, no attention: a frame depends on what its geometry says, on nothing else."""

    class Local(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            widths = [1, *[12] * 6, len(VOCAB)]
            self.convolutions = torch.nn.ModuleList(
                torch.nn.Conv1d(a, b, kernel, stride)
                for a, b, kernel, stride in zip(widths, widths[1:], KERNELS, STRIDES, strict=False)
            )
            self.geometry, self.num_frames = tone_model().geometry, tone_model().model.num_frames

        read = CTCModel.read

        def forward(self, waveforms: torch.Tensor, lengths: torch.Tensor, *, is_padded: bool) -> torch.Tensor:
            x = waveforms[:, None]
            for convolution in self.convolutions:
                x = torch.sin(3 * convolution(x))
            return 8 * x.transpose(1, 2)

    torch.manual_seed(seed)
    return LoadedModel(Local().double(), VOCAB, True, torch.device("cpu"), "local")  # type: ignore[arg-type]


@pytest.mark.parametrize("num_samples", [400, 719, 16_000, 47_999, 48_079, 48_080, 100_123])
@pytest.mark.parametrize("seconds", [(1.0, 0.3), (0.9, 0.44), (1.7, 0.1)])
def test_windows_give_the_frames_of_one_pass(num_samples: int, seconds: tuple[float, float]) -> None:
    """Reference: one pass over the whole waveform, float64, by convolutions without longer memory; equal to 1e-9."""
    local = random_local_model(num_samples)
    waveform = noise(num_samples, seed=num_samples).astype(np.float64)
    ids, evidence = read_frames(local, waveform, Windows(*seconds, 3))
    expected_ids, expected = read_frames(local, waveform, WHOLE)
    assert len(ids) == local.model.num_frames(num_samples)
    assert np.array_equal(ids, expected_ids)
    np.testing.assert_allclose(evidence[:, 0], expected[:, 0], atol=1e-6)  # log posteriors of the best units
    assert len(set(expected_ids.tolist())) > 3 or len(ids) < 10, "frames that are alike show nothing"


def test_geometry_is_that_of_the_convolutions() -> None:
    """Reference: gradients of a random stack, and num_frames by torch's own shapes."""
    local = random_local_model(0).model
    waveform = torch.randn(1, 4000, dtype=torch.float64, requires_grad=True)
    logits = local(waveform, torch.tensor([0]), is_padded=False)
    for frame in (0, 3, logits.shape[1] - 1):
        (gradient,) = torch.autograd.grad(logits[0, frame].sum(), waveform, retain_graph=True)
        seen = gradient[0].nonzero().flatten()
        span = GEOMETRY.seen(frame, frame + 1)
        assert (int(seen.min()), int(seen.max()) + 1) == (span.start, span.stop)
        assert GEOMETRY.boundary(frame) - span.start == span.stop - GEOMETRY.boundary(frame + 1) == 40


@pytest.mark.parametrize("window", [(1.0, 0.5), (1.3, 0.4), (2.0, 1.0), (5.0, 2.0)])
def test_no_word_of_joined_utterances_is_lost_or_doubled_at_a_seam(window: tuple[float, float]) -> None:
    """Reference: the words that were spoken, in tones; 12 utterances joined, cut at up to 100 places."""
    rng = np.random.default_rng(7)
    texts = [sentence(rng, 4) for _ in range(12)]
    joined = np.concatenate([speak(text + " ", rng) for text in texts])
    transcript = transcribe(tone_model(), "joined", joined, Windows(*window, 5))
    assert transcript.text == " ".join(texts)


@pytest.mark.parametrize("window", [(2.0, 1.0), (3.0, 1.2), (5.0, 2.0)])
def test_windows_that_write_a_little_early_or_late_lose_nothing_either(window: tuple[float, float]) -> None:
    """Reference: as above, with up to two frames of delay that differ from window to window."""
    rng = np.random.default_rng(8)
    texts = [sentence(rng, 4) for _ in range(12)]
    joined = np.concatenate([speak(text + " ", rng) for text in texts])
    delayed = tone_model(lambda row: int(abs(row[:9]).sum() * 1e6) % 3)
    assert transcribe(delayed, "joined", joined, Windows(*window, 5)).text == " ".join(texts)


def written(frame_ids: np.ndarray, blank_id: int) -> list[int]:
    """What an evaluation would make of one utterance's best ids."""
    units = collapse(torch.from_numpy(frame_ids)[None], torch.tensor([len(frame_ids)]), blank_id)
    return units[units != NOTHING].tolist()


def test_a_cut_in_the_middle_would_double_a_unit_that_the_seam_does_not() -> None:
    """A control on the test above."""
    left = np.array([0, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    right = np.array([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0])
    middle = len(left) // 2
    assert written(np.concatenate([left[:middle], right[middle:]]), 0) == [7, 7]
    t = seam(left, right)
    assert written(np.concatenate([left[:t], right[t:]]), 0) == [7]


@pytest.mark.parametrize("n", [2, 3, 4, 5, 8, 50])
def test_seam_is_in_the_inner_half_whatever_is_read(n: int) -> None:
    rng = np.random.default_rng(n)
    for _ in range(50):
        assert n // 4 <= seam(rng.integers(0, 2, n), rng.integers(0, 2, n)) <= n - n // 4


def numbers(parts: Iterator[tuple[np.ndarray, np.ndarray]], which: int) -> list[int]:
    return np.concatenate([part[which] for part in parts]).tolist()


def test_starts_cover_every_frame_with_the_overlap_asked_for() -> None:
    for num_frames, window, overlap in itertools.product(range(10, 80), (10,), range(2, 6)):
        starts = window_starts(num_frames, window, overlap)
        assert starts[0] == 0
        assert starts[-1] + window == num_frames
        assert all(0 < b - a <= window - overlap for a, b in itertools.pairwise(starts))
        frames = [(np.arange(s, s + window), np.zeros(window)) for s in starts]
        assert numbers(stitch(starts, frames), 0) == list(range(num_frames))


def test_every_frame_is_kept_once_whatever_the_windows_read() -> None:
    """Every length and overlap, and a last window moved back behind the seam before it, which is where one agrees late.

    Readings agree by chance, on either of two units; log_probs carry the frame's number.
    """
    rng = np.random.default_rng(5)
    for i in range(4000):
        window = int(rng.integers(4, 60))
        overlap, num_frames = int(rng.integers(2, window // 2 + 1)), int(rng.integers(window, 6 * window))
        if i % 2:
            overlap = window // 2
            num_frames = window + 2 * (window - overlap) + int(rng.integers(1, overlap // 3 + 2))
        starts = window_starts(num_frames, window, overlap)
        read = [(rng.integers(0, 2, window), np.arange(s, s + window)) for s in starts]
        assert numbers(stitch(starts, read), 1) == list(range(num_frames)), (num_frames, window, overlap)


def test_word_times_are_those_of_the_tones() -> None:
    """Reference: where the tones were put; a frame sees 400 samples, so a time is at most 360 samples off."""
    rng, parts, expected, at = np.random.default_rng(3), [], [], 0
    for text in ("ab", "c", "hgf"):
        silence = np.zeros(3000, np.float32)
        spoken = speak(text, rng)
        loud = np.flatnonzero(abs(spoken) > 0.1)
        expected.append((text, at + 3000 + loud[0], at + 3000 + loud[-1]))
        parts += [silence, spoken, speak(" ", rng)]
        at = sum(map(len, parts))
    words = transcribe(tone_model(), "x", np.concatenate(parts), WHOLE).words
    assert [w.text for w in words] == [text for text, _, _ in expected]
    for word, (_, start, end) in zip(words, expected, strict=True):
        assert abs(word.start - start) <= 360
        assert abs(word.end - end) <= 360


def test_times_lie_within_the_recording_and_in_order(folder: Path) -> None:
    recognizer = load_recognizer(str(folder))
    for num_samples in (400, 401, 719, 5000, 48_321):
        transcript = transcribe(recognizer, "x", noise(num_samples, 1), Windows(1.0, 0.3))
        times = [t for w in transcript.words for t in (w.start, w.end)]
        assert times == sorted(times)
        assert all(0 <= t <= num_samples for t in times)
        assert all(w.start < w.end for w in transcript.words)


def test_confidence_is_the_geometric_mean_of_the_units_best_posteriors() -> None:
    """Reference: by hand; a is best at 0.9 in its run of three frames, b at 0.4."""
    a, b, bar, blank = (TONES.ids[t] for t in ("a", "b", "|", "[PAD]"))
    ids = np.array([blank, a, a, a, blank, b, bar, b])
    log_probs = np.log([0.5, 0.6, 0.9, 0.8, 0.99, 0.4, 0.3, 0.7])
    first, second = find_words(ids, log_probs, TONES, GEOMETRY)
    assert (first.text, second.text) == ("ab", "b")
    assert math.isclose(first.confidence, math.sqrt(0.9 * 0.4))
    assert math.isclose(second.confidence, 0.7)
    assert (first.start, first.end) == (320 + 40, 6 * 320 + 40)


@pytest.mark.parametrize("tokens", [("|", *"ab", "[UNK]", "[PAD]", "<s>"), ("[PAD]", " ", "a", "|", "[UNK]")])
def test_words_are_what_an_evaluation_would_score(tokens: Sequence[str]) -> None:
    """Reference: an evaluation's collapse, decode, collapse_spaces, on random ids, delimiters at both ends."""
    vocab, rng = Vocab(tuple(tokens)), np.random.default_rng(0)
    for n in (0, 1, 2, 5, 40, 40, 40):
        ids = rng.integers(0, len(tokens), n)
        words = find_words(ids, np.zeros(n), vocab, GEOMETRY)
        assert " ".join(w.text for w in words) == collapse_spaces(vocab.decode(written(ids, vocab.blank_id)))


def test_text_is_the_pipelines(folder: Path) -> None:
    """Reference: transformers' pipeline on the exported folder."""
    recognizer, recognise = load_recognizer(str(folder)), pipeline("automatic-speech-recognition", model=str(folder))
    for i, n in enumerate((400, 3333, 20_000, 48_000)):
        waveform = noise(n, seed=i)
        expected = collapse_spaces(recognise({"raw": waveform.copy(), "sampling_rate": 16_000})["text"])
        assert transcribe(recognizer, "x", waveform, Windows()).text == expected


def test_recording_without_a_frame_has_no_words(folder: Path) -> None:
    assert transcribe(load_recognizer(str(folder)), "x", noise(399), Windows()).words == ()


def test_encoder_without_a_head_is_refused(tmp_path: Path, folder: Path) -> None:
    """With a tokenizer of the right size beside it, a head drawn at random would write nonsense."""
    for name in ("vocab.json", "tokenizer_config.json", "preprocessor_config.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    small_hf_model(hidden_size=HIDDEN).base_model.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"has no lm_head"):
        load_recognizer(str(tmp_path))


@pytest.mark.parametrize("bad", [(10.0, 0.0), (10.0, 6.0), (0.0, 1.0), (math.nan, 1.0), (math.inf, 1.0)])
def test_windows_that_cannot_be_are_refused(bad: tuple[float, float]) -> None:
    with pytest.raises(ConfigError, match="overlap"):
        Windows(*bad)


def test_recordings_far_longer_than_trainings_are_told_once_and_which_window_to_try(
    tmp_path: Path, recordings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Training on 0.2 to 0.4 s; recordings of 1.25 to 1.9 s. Then as with any other program's model: nothing known."""
    for name, seconds in (("ours", [0.2, 0.3, 0.4]), ("long", [0.2, 1.5, 2.0]), ("theirs", None)):
        model = make_talkative(small_model())
        if seconds:
            write_lengths(model.hf.config, UtteranceLengths.of(seconds))
        save_huggingface(model.hf, VOCAB.tokens, VOCAB.special, True, tmp_path / name)
        assert main([str(tmp_path / name), str(recordings)]) == 0
        told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
        assert len(told) == (name == "ours")
    assert main([str(tmp_path / "ours"), str(recordings), "--window", "1", "--overlap", "0.4"]) == 0
    assert "warning" not in capsys.readouterr().err
    recognizer = load_recognizer(str(tmp_path / "ours"))
    advice = advise(recognizer, Windows(), 60)
    assert advice
    assert "pieces of 20 s, but 95 of 100 training utterances last 0.4 s or less" in advice
    found = re.search(r"--window (\S+) --overlap (\S+)", advice)
    assert found
    Windows(float(found[1]), float(found[2]))  # a pair that is accepted


def test_txt_is_another_name_of_text() -> None:
    assert parse(["model", "a.wav", "--format", "txt", "json", "text"]).format == ["text", "json"]


def test_folder_is_written_down_below_out(folder: Path, recordings: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    argv = [str(folder), str(recordings), "--format", "json", "srt", "--out", str(out), "--window", "1"]
    assert main([*argv, "--overlap", "0.4"]) == 0
    found = sorted(p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file())
    assert found == ["a.json", "a.srt", "b c.json", "b c.srt", "deep/a.json", "deep/a.srt"]
    record = json.loads((out / "b c.json").read_text())
    assert record["text"] == " ".join(w["word"] for w in record["words"])
    assert record["seconds"] == 25_000 / 16_000


def test_transcripts_that_are_there_already_are_replaced_only_when_asked(
    folder: Path, recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    argv = [str(folder), str(recordings / "a.wav"), "--format", "json", "srt", "--out", str(out)]
    out.mkdir()
    (out / "a.srt").write_text("corrected by hand")
    assert main(argv) == 2
    assert f"{out}/a.srt exists already. Give another --out, --overwrite to" in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == ["a.srt"]
    assert main([*argv, "--overwrite"]) == 0
    assert (out / "a.srt").read_text() != "corrected by hand"
    assert (out / "a.json").exists()


def test_a_manifest_without_transcripts_stands_for_its_utterances(
    folder: Path, recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Reference: the recordings by name, and a part of one as a file of its own. A row that is wrong is named."""
    rows = [{"audio_filepath": "b c.flac"}, {"audio_filepath": "a.wav", "id": "v1.5"}, {"audio_filepath": 7},
            {"audio_filepath": "deep/a.wav", "offset": 0.25, "duration": 0.75}]  # fmt: skip
    (recordings / "all.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    samples, rate = soundfile.read(recordings / "deep" / "a.wav", dtype="int16")
    soundfile.write(tmp_path / "part.wav", samples[rate // 4 : rate], rate)
    files = [str(recordings / "b c.flac"), str(recordings / "a.wav"), str(tmp_path / "part.wav")]
    assert main([str(folder), *files]) == 0
    expected = [line.partition("\t")[2] for line in capsys.readouterr().out.splitlines()]
    assert main([str(folder), str(recordings / "all.jsonl")]) == 2
    out, err = capsys.readouterr()
    assert [line.partition("\t")[2] for line in out.splitlines()] == expected
    assert [line.partition("\t")[0] for line in out.splitlines()] == ["b c.flac", "v1.5", "deep/a.wav#t=0.25,1"]
    assert f'{recordings}/all.jsonl:3: "audio_filepath" must be a string' in err
    assert main([str(folder), str(recordings / "all.jsonl"), "--out", str(tmp_path / "out")]) == 2
    written = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.txt"))
    assert written == ["b c.txt", "deep=2fa=2ewav=23t=3d0=2e25=2c1.txt", "v1.5.txt"]


def test_each_channel_of_a_recording_is_read_alone(
    folder: Path, recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Reference: the sides of a call as recordings of their own."""
    sides = [soundfile.read(recordings / name, dtype="int16")[0][:16_000] for name in ("a.wav", "b c.flac")]
    soundfile.write(tmp_path / "call.wav", np.stack(sides, axis=1), 16_000)
    for number, side in enumerate(sides, 1):
        soundfile.write(tmp_path / "side.wav", side, 16_000)
        texts = []
        for argv in ([str(tmp_path / "side.wav")], [str(tmp_path / "call.wav"), "--channel", str(number)]):
            assert main([str(folder), *argv, "--format", "json"]) == 0
            texts.append(json.loads(capsys.readouterr().out))
        assert texts[1].pop("channel") == number
        assert [text | {"file": ""} for text in texts[1:]] == [texts[0] | {"file": ""}]
        assert main([str(folder), *argv, "--format", "ctm"]) == 0
        assert all(line.startswith(f"call {number} ") for line in capsys.readouterr().out.splitlines())
    assert main([str(folder), str(tmp_path / "call.wav"), "--channel", "3"]) == 2
    assert "call.wav: it has 2 channels, so there is no channel 3." in capsys.readouterr().err
    (tmp_path / "calls.jsonl").write_text(json.dumps({"audio_filepath": "call.wav", "channel": "B"}) + "\n")
    assert main([str(folder), str(tmp_path / "calls.jsonl"), "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["text"] == texts[0]["text"]
    assert main([str(folder), str(tmp_path / "calls.jsonl"), "--channel", "2"]) == 2
    assert "--channel 2 is of files. The rows of" in capsys.readouterr().err


def test_a_call_that_is_averaged_is_told_once(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    left, right = voice(9, 1), voice(9, 2, 200.0)
    sides = np.concatenate([left, 0 * right]), np.concatenate([0 * left, right])
    for name in ("a.wav", "b.wav"):
        soundfile.write(tmp_path / name, np.stack(sides, axis=1), 16_000)
    assert main([str(folder), str(tmp_path)]) == 0
    told = capsys.readouterr().err
    assert f"warning: {tmp_path}/a.wav: each channel has its own sound: a speaker on either side?" in told
    assert told.count("each channel has its own sound") == 1
    assert main([str(folder), str(tmp_path), "--channel", "1"]) == 0
    assert "own sound" not in capsys.readouterr().err


def test_a_stopped_command_goes_on_where_it_was(
    folder: Path, recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Reference: the files of a command that was not stopped. Those that are there are not written again."""
    argv = [str(folder), str(recordings), "--format", "json", "srt", "--out"]
    assert main([*argv, str(tmp_path / "whole")]) == 0
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.json").write_text("there")
    (out / "a.srt").write_text("corrected by hand")
    (out / "b c.srt").write_text("corrected by hand")
    capsys.readouterr()
    assert main([*argv, str(out), "--resume"]) == 0
    assert "2 of 3 recordings, 1 were there already" in capsys.readouterr().err
    found = {path.relative_to(out).as_posix(): path.read_text() for path in out.rglob("*.*")}
    assert found.pop("a.json") == "there"
    assert found.pop("a.srt") == found.pop("b c.srt") == "corrected by hand"
    assert found == {
        name: (tmp_path / "whole" / name).read_text() for name in ("b c.json", "deep/a.json", "deep/a.srt")
    }
    assert main([str(folder), str(recordings), "--resume"]) == 2
    assert "give that folder, and no --overwrite" in capsys.readouterr().err


def test_recordings_of_one_name_are_kept_apart_by_their_folders(
    folder: Path, recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """TIMIT's speakers each say an SA1.WAV. In one stream of CTM they must not become one recording either."""
    inputs = [str(recordings / "a.wav"), str(recordings / "deep")]
    assert main([str(folder), *inputs, "--format", "srt", "--out", str(tmp_path / "out")]) == 0
    written = sorted(p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.srt"))
    assert written == ["deep/a.srt", "in/a.srt"]
    capsys.readouterr()
    assert main([str(folder), *inputs, "--format", "ctm"]) == 0
    assert {line.split()[0] for line in capsys.readouterr().out.splitlines()} == {"in/a", "deep/a"}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["in/x.wav"], ["x"]),
        (["in/x.wav", "in/x.flac", "in/y.wav"], ["x.wav", "x.flac", "y"]),
        (["in/x.wav", "in/x.flac", "in/x.wav.flac"], ["x.wav", "x.flac", "x.wav.flac"]),
        (["p/a/x.wav", "q/a/x.wav", "q/a/y.wav"], ["p/a/x", "q/a/x", "q/a/y"]),
        (["x.wav", "a/x.wav"], [f"{Path.cwd().name}/x", "a/x"]),
    ],
)
def test_no_two_recordings_are_written_to_one_file(files: list[str], expected: list[str]) -> None:
    names = output_names([(Path(file), Path(Path(file).name)) for file in files])
    assert [name.as_posix() for name in names] == expected


def test_what_cannot_be_read_is_named_and_the_others_are_written(
    folder: Path, recordings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (recordings / "bad.wav").write_bytes(b"no audio at all")
    assert main([str(folder), str(recordings)]) == 2
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 3
    assert all("\t" in line for line in out.splitlines())
    (line,) = [line for line in err.splitlines() if line.startswith(f"error: {recordings / 'bad.wav'}: ")]
    assert "not readable as audio" in line or "ffmpeg reads no sound" in line  # where it is installed
    assert "3 of 4 recordings" in err
    assert "real-time factor" in err


def test_recording_that_may_not_be_read_is_named_and_the_others_are_written(
    folder: Path, recordings: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first of the three is another user's."""
    opened = os.open

    def refuse(path: Path, *args: int) -> int:
        if path == recordings / "a.wav":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return opened(path, *args)

    monkeypatch.setattr("data.audio.files.os.open", refuse)
    assert main([str(folder), str(recordings)]) == 2
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 2
    assert f"error: {recordings / 'a.wav'}: Permission denied." in err


def test_model_with_a_group_norm_says_that_windows_approximate(
    tmp_path: Path, recordings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_huggingface(small_model(norm="group").hf, VOCAB.tokens, VOCAB.special, True, tmp_path / "group")
    argv = [str(tmp_path / "group"), str(recordings / "a.wav")]
    assert main(argv) == 0
    assert "approximation" not in capsys.readouterr().err
    assert main([*argv, "--window", "1", "--overlap", "0.2"]) == 0
    assert "approximation" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "required: MODEL, FILE_OR_FOLDER"),
        (["{model}", "{wav}", "--formt", "srt"], "Did you mean --format?"),
        (["{model}", "{wav}", "--format", "doc"], "invalid choice: 'doc'"),
        (["{model}", "{wav}", "--format", "srt", "vtt"], "--out FOLDER"),
        (["{model}", "{in}", "--format", "srt"], "--out FOLDER"),
        (["{model}", "{wav}", "--out", "{wav}"], "is a file"),
        (["{model}", "{in}/none.wav"], "no such file or folder"),
        (["{model}", "-"], "-: standard input is not read"),
        (["{model}", "{empty}"], "no audio file in this folder"),
        (["{empty}", "{wav}"], "not a Hugging Face model folder"),
        (["{model}x", "{wav}"], "no such folder"),
        (["{model}", "{wav}", "--window", "abc"], "invalid float value"),
        (["{model}", "{wav}", "--overlap", "30"], "cannot overlap"),
        (["{model}", "{wav}", "--device", "quantum"], "--device quantum"),
    ],
)
def test_wrong_argument_is_one_line_and_exit_code_2(
    argv: list[str], message: str, folder: Path, recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    names = {"{model}": folder, "{in}": recordings, "{wav}": recordings / "a.wav", "{empty}": tmp_path / "empty"}
    for key, path in names.items():
        argv = [word.replace(key, str(path)) for word in argv]
    assert main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("error: ")
    assert message in err
