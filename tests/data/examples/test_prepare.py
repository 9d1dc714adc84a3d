"""data.examples.prepare, and read_data around it: what is trained on, refused, dropped, or scored as deletions."""

from __future__ import annotations

import io
import itertools
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

from data.audio.decode import FileAudio
from data.corpora.manifest import ManifestConfig
from data.examples.drops import Drops, refuse_unreadable
from data.examples.measuring import describe_conversions, measure
from data.examples.prepare import frames_needed, num_reference_words, prepare_evaluation, prepare_training, read_split
from data.text.normalise import hf_timit, plain
from data.text.vocab import Vocab
from data.utterance import AudioHeader, Utterance
from tests.helpers.audio import BytesAudio, flac_damaged_inside
from tests.helpers.corpora import jsonl, write_manifest
from tests.helpers.voices import voice
from trainer.cli.console import Console
from trainer.config.schema import Config
from trainer.errors import AudioError, CorpusError

VOCAB = Vocab.build(["abcdefghijklmnopqrstuvwxyz a"])


class Silence:
    """An AudioSource of that many samples."""

    def __init__(self, num_samples: int, rate: int = 16_000, channels: int = 1) -> None:
        self.num_samples = num_samples
        self.name = self.identity = f"silence-{num_samples}"
        self.header = AudioHeader(rate, channels, num_samples, True)

    def raw(self) -> bytes:
        return b""

    def load(self) -> np.ndarray:
        return np.zeros(self.num_samples, np.float32)


def utterance(name: str, text: str = "ab", num_samples: int = 16_000, audio=None, **shape) -> Utterance:
    return Utterance(name, audio or Silence(num_samples, **shape), text, origin=f"train.jsonl:{name}")


def prepare(utterances: Iterable[Utterance], on_bad: str = "error", **options):
    """prepare_training with one frame per 320 samples, unless told otherwise."""
    settings = dict(num_frames=lambda n: n // 320, max_seconds=30.0, max_speed=1.0, split="train") | options
    num_frames = settings.pop("num_frames")
    return prepare_training(list(utterances), plain, VOCAB, num_frames, on_bad=on_bad, **settings)


# What CTC needs


def paths_that_emit(targets: tuple[int, ...], num_frames: int) -> bool:
    """Whether any path over blank 0 and units 1, 2 collapses to `targets`, by trying every path."""
    for path in itertools.product(range(3), repeat=num_frames):
        if tuple(unit for unit, _ in itertools.groupby(path) if unit != 0) == targets:
            return True
    return False


@pytest.mark.parametrize("targets", [t for n in range(5) for t in itertools.product((1, 2), repeat=n)])
def test_frames_needed_is_the_fewest_with_any_path(targets: tuple[int, ...]):
    """Reference: brute force over all paths of up to 7 frames; 1111 needs all 7, a blank between each pair."""
    needed = next(n for n in range(8) if paths_that_emit(targets, n))
    assert frames_needed(targets) == needed


@pytest.mark.parametrize("targets", [[1, 2, 3], [1, 1], [2, 2, 2, 1], [1, 2, 2, 1, 1]])
def test_ctc_loss_is_infinite_just_below_frames_needed(targets: list[int]):
    """Reference: torch's ctc_loss at exactly the frames needed, and with one less."""

    def loss(num_frames: int) -> float:
        log_probs = torch.zeros(num_frames, 1, 4).log_softmax(-1)
        lengths = torch.tensor([num_frames]), torch.tensor([len(targets)])
        return torch.nn.functional.ctc_loss(log_probs, torch.tensor([targets]), *lengths).item()

    assert np.isfinite(loss(frames_needed(targets)))
    assert loss(frames_needed(targets) - 1) == float("inf")


# Splits


def corpus_of(utterances: list[Utterance]):
    return SimpleNamespace(title="the corpus", utterances=lambda split, faults: iter(utterances))


def test_empty_split_is_refused_by_name():
    with pytest.raises(CorpusError, match="the corpus: split 'dev' holds no utterance"):
        read_split(corpus_of([]), "dev")


def test_duplicate_id_names_both_places():
    a, b = utterance("a"), utterance("b")
    twice = replace(utterance("c"), id="a")
    with pytest.raises(CorpusError, match=r"^train\.jsonl:c: id 'a' stands already at train\.jsonl:a\."):
        read_split(corpus_of([a, b, twice]), "train")


@pytest.mark.parametrize("character", ["\n", "\r", "\t", "\x85"], ids=ascii)
def test_an_id_that_breaks_a_list_of_ids_is_refused(tmp_path: Path, character: str):
    """--corpus.exclude and other lists have an id a line."""
    rows = [{"id": f"a{character}b", "audio_filepath": "a.wav", "text": "x"}]
    manifest = ManifestConfig(train=str(write_manifest(tmp_path / "m.jsonl", jsonl(*rows)))).open(tmp_path, print)
    with pytest.raises(CorpusError, match=rf"its id holds U\+{ord(character):04X}, a tab or a line break"):
        read_split(manifest, "train")


def test_split_is_read_in_the_corpus_order():
    utterances = [utterance(name) for name in "cab"]
    assert read_split(corpus_of(utterances), "train") == utterances


# Training


BAD = {
    "unreadable": (dict(audio=BytesAudio(b"no audio", "x.wav", "x")), r"x\.wav: not readable as audio"),
    "without audio": (dict(num_samples=0), "its audio has no samples"),
    "without text": (dict(text=" . , "), r"its transcript ' \. , ' is empty once normalised"),
    "over 30 s": (dict(num_samples=30 * 16_000 + 1), r"it lasts 30\.0 s, over --corpus\.max-seconds 30"),
    "too short for their transcript": (
        dict(text="abba", num_samples=4 * 320),
        "its 4 frames are too few: CTC needs 5 for 4 units",
    ),
}


@pytest.mark.parametrize("reason", BAD)
def test_bad_training_utterance_is_refused_by_place_id_and_remedy(reason: str):
    how, message = BAD[reason]
    pattern = rf"^train\.jsonl:b: utterance b: {message}.*--corpus\.on-bad drop\.$"
    with pytest.raises(CorpusError, match=pattern):
        prepare([utterance("a"), utterance("b", **how), utterance("c")])


def test_bad_training_utterances_are_dropped_counted_and_named_per_reason():
    good = [utterance("a"), utterance("c"), utterance("e")]
    bad = {reason: utterance(f"bad-{i}", **how) for i, (reason, (how, _)) in enumerate(BAD.items())}
    mixed = [good[0], *list(bad.values())[:3], good[1], *list(bad.values())[3:], good[2]]
    examples, drops = prepare(mixed, on_bad="drop")
    assert [example.utterance for example in examples] == good
    assert drops.ids == {reason: [bad[reason].id] for reason in BAD}
    assert drops.num_dropped == 5
    assert drops.describe().startswith("train: dropped 5 of 8: 1 unreadable (bad-0), 1 without audio (bad-1), ")


def test_refusal_says_how_many_more_are_bad():
    with pytest.raises(CorpusError, match=r"utterance b: .* 2 more are bad\."):
        prepare([utterance("a"), *(utterance(name, text="!") for name in "bcd")])


def test_nothing_left_to_train_on_is_an_error_even_when_dropping():
    with pytest.raises(CorpusError, match=r"dropped 2 of 2: 2 without text \(a, b\)\. Nothing is left to train on"):
        prepare([utterance("a", text="."), utterance("b", text="")], on_bad="drop")


@pytest.mark.parametrize(("text", "needed"), [("abc", 3), ("abba", 5), ("aaa", 5), ("ab ba", 5), ("a", 1)])
def test_utterance_is_kept_with_exactly_the_frames_it_needs(text: str, needed: int):
    enough, too_few = utterance("a", text, needed * 320), utterance("b", text, needed * 320 - 1)
    examples, drops = prepare([enough, too_few], on_bad="drop")
    assert [example.utterance.id for example in examples] == ["a"]
    assert drops.ids == {"too short for their transcript": ["b"]}


def test_length_limit_includes_itself():
    examples, _ = prepare(
        [utterance("a", num_samples=32_000), utterance("b", num_samples=32_001)], "drop", max_seconds=2.0
    )
    assert [example.utterance.id for example in examples] == ["a"]


def test_utterance_must_fit_its_transcript_at_the_fastest_speed():
    """Three frames suffice at speed 1; at 1.1, 960 samples become 873, which is two."""
    short, long = utterance("a", "abc", 3 * 320), utterance("b", "abc", 4 * 320)
    assert len(prepare([short, long])[0]) == 2
    examples, drops = prepare([short, long], "drop", max_speed=1.1)
    assert [example.utterance.id for example in examples] == ["b"]
    assert drops.ids == {"too short for their transcript": ["a"]}


def test_example_has_the_normalised_text_its_units_and_its_samples():
    (example,), _ = prepare([utterance("a", "A Bee!", 5000)])
    assert (example.text, example.num_samples) == ("a bee", 5000)
    assert "".join(VOCAB.tokens[i] for i in example.targets) == "a|bee"
    assert len(example.load()) == 5000


def test_drops_name_the_first_three_of_each_reason():
    drops = Drops("train", 4620)
    for i in range(5):
        drops.add("over 20 s", utterance(f"u{i}"), "it lasts 25 s")
    drops.add("without text", utterance("v"), "its transcript is empty")
    assert drops.describe() == "train: dropped 6 of 4620: 5 over 20 s (u0, u1, u2, ...), 1 without text (v)"


# Evaluation


def test_evaluation_leaves_nothing_out(tmp_path: Path):
    (tmp_path / "text.wav").write_text("no audio")
    utterances = [
        utterance("good"),
        utterance("unreadable", audio=FileAudio(tmp_path / "text.wav")),
        utterance("no samples", num_samples=0),
        utterance("no text", text="..."),
        utterance("too short", text="abba" * 9, num_samples=320),
        utterance("long", num_samples=100 * 16_000),
    ]
    examples, undecodable, _ = prepare_evaluation(utterances, plain, VOCAB, split="eval")
    assert [example.utterance for example in examples] == utterances
    assert [example.num_samples for example in examples] == [16_000, 0, 0, 16_000, 320, 1_600_000]
    assert undecodable.ids == {"unreadable": ["unreadable"], "without audio": ["no samples"]}


def test_evaluation_file_that_is_not_there_is_an_error_with_place_and_remedy(tmp_path: Path):
    missing = utterance("b", audio=FileAudio(tmp_path / "none.wav"))
    _, bad, _ = prepare_evaluation([utterance("a"), missing], plain, VOCAB, split="eval")
    for on_bad_eval in ("error", "deletions"):
        with pytest.raises(
            CorpusError, match=r"train\.jsonl:b: utterance b: .*none\.wav: No such file.*leaves nothing out\.$"
        ):
            refuse_unreadable([bad], on_bad_eval)


def test_characters_unseen_in_training_are_counted_in_evaluation():
    vocab = Vocab.build(["abc"])
    utterances = [utterance("a", "a cab"), utterance("b", "a bed, a head")]
    examples, _, unseen = prepare_evaluation(utterances, plain, vocab, split="eval")
    assert unseen == Counter({"e": 2, "d": 2, "h": 1})
    assert [vocab.tokens[i] for i in examples[1].targets[:5]] == ["a", "|", "b", "[UNK]", "[UNK]"]


# Measures


def test_measure_keeps_order_and_returns_errors_by_position():
    bad = BytesAudio(b"no audio", "x.wav", "x")
    utterances = [utterance(str(i), num_samples=i, audio=bad if i == 7 else None) for i in range(20)]
    lengths, errors = measure(utterances)
    assert list(errors) == [7]
    assert isinstance(errors[7], AudioError)
    assert lengths.tolist() == [0 if i == 7 else i for i in range(20)]


def test_conversions_are_counted_in_one_line():
    utterances = [
        utterance("a"),
        utterance("b", rate=8000),
        utterance("c", rate=8000, channels=2),
        utterance("d", rate=44_100),
        utterance("e", channels=2),
        utterance("f", audio=BytesAudio(b"no audio", "x.wav", "x")),
    ]
    assert describe_conversions(utterances) == (
        "3 of 6 files are resampled to 16 kHz (2 from 8000 Hz, 1 from 44100 Hz); 2 are downmixed to mono"
    )
    assert describe_conversions(utterances[:1]) == ""


@pytest.mark.parametrize("normalize", [plain, hf_timit])
def test_reference_words_are_counted_as_split_counts_them(normalize: Callable[[str], str]):
    """Reference: str.split on the normalised text; `hf-timit` leaves double and trailing spaces."""
    texts = ["So - it goes.", "Don't!", "one 2 three"]
    examples, _, _ = prepare_evaluation([utterance(t, t) for t in texts], normalize, VOCAB, split="eval")
    assert num_reference_words(examples) == sum(len(normalize(t).split()) for t in texts)


# The whole way, as a run goes it


def read(tone_corpus, tmp_path: Path, **corpus):
    """(Data, the console's lines) of the tone corpus."""
    from models.checkpoints.pretrained import read_encoder
    from models.config import ModelConfig
    from trainer.prepare.corpus import prepare_corpus, read_corpus

    model = ModelConfig(size="tiny")
    manifests = ManifestConfig(train=str(tone_corpus.train), eval=str(tone_corpus.eval), **corpus)
    config = Config(corpus=manifests, model=model, cache_dir=str(tmp_path / "cache"))
    stream = io.StringIO()
    console = Console(stream)
    data = prepare_corpus(config, read_corpus(config, console), read_encoder(model), console)
    return data, stream.getvalue().splitlines()


def test_samples_with_and_without_a_store_are_identical(tone_corpus, tmp_path: Path, tone: Callable):
    """Reference: each other, bit for bit; one file of each kind that is stored differently."""
    soundfile.write(tone_corpus.folder / "wav/train-1.flac", tone(0.6, rate=8000, channels=2), 8000)
    soundfile.write(tone_corpus.folder / "wav/eval-1.wav", tone(0.6), 16_000, subtype="FLOAT")
    tone_corpus.rows["train"][1]["audio_filepath"] = "wav/train-1.flac"
    tone_corpus.write()
    stored, lines = read(tone_corpus, tmp_path, store=True)
    assert any(line.startswith("decoding 9 files") for line in lines)
    assert len(list((tmp_path / "cache").rglob("samples.bin"))) == 1
    direct, lines = read(tone_corpus, tmp_path / "other", store=False)
    assert not (tmp_path / "other").exists()
    assert not any(line.startswith("decoding") for line in lines)
    pairs = [(stored.train, direct.train), (stored.evaluation["eval"], direct.evaluation["eval"])]
    for a, b in [pair for lists in pairs for pair in zip(*lists, strict=True)]:
        assert (a.utterance.id, a.targets, a.num_samples) == (b.utterance.id, b.targets, b.num_samples)
        np.testing.assert_array_equal(a.load(), b.load())


def test_vocabulary_comes_from_the_training_split_only(tone_corpus, tmp_path: Path):
    tone_corpus.rows["eval"][0]["text"] = "zebra zoo"
    tone_corpus.write()
    data, lines = read(tone_corpus, tmp_path)
    trained_on = set("".join(row["text"] for row in tone_corpus.rows["train"])) - {" "}
    assert set(data.vocab.tokens) == trained_on | {"|", "[UNK]", "[PAD]"}
    assert data.unseen["eval"] == Counter({"z": 2, "b": 1, "a": 1})
    place = data.evaluation["eval"][0].utterance.origin
    unseen = f"('z' 2 from {place} on, 'b' 1 from {place} on, 'a' 1 from {place} on)"
    assert f"warning: eval: 4 characters were never seen in training {unseen}" in lines


def test_conversions_are_logged_once(tone_corpus, tmp_path: Path, tone: Callable):
    for split, i in (("train", 0), ("train", 3), ("eval", 2)):
        path = tone_corpus.folder / f"wav/{split}-{i}.wav"
        soundfile.write(path, tone(0.7, rate=8000), 8000)
    _, lines = read(tone_corpus, tmp_path)
    assert [line for line in lines if "resampled" in line] == ["3 of 9 files are resampled to 16 kHz (3 from 8000 Hz)"]


def test_calls_that_are_averaged_are_told_until_rows_say_their_channel(tone_corpus, tmp_path: Path):
    voices = voice(9, 1), voice(9, 2, 200.0)
    call = np.zeros((sum(map(len, voices)), 2))
    call[: len(voices[0]), 0], call[len(voices[0]) :, 1] = voices
    soundfile.write(tone_corpus.folder / "wav/train-0.wav", call, 16_000)
    tone_corpus.write()
    _, lines = read(tone_corpus, tmp_path)
    (told,) = [line for line in lines if "own sound" in line]
    assert told.startswith("warning: in 1 of 1 stereo recordings that were looked at each channel has its own sound")
    tone_corpus.rows["train"][0]["channel"] = "A"
    tone_corpus.write()
    data, lines = read(tone_corpus, tmp_path)
    assert not [line for line in lines if "own sound" in line]
    samples = next(e.load() for e in data.train if "train-0" in e.utterance.audio.name)
    np.testing.assert_allclose(samples[: len(voices[0])], voices[0], atol=1e-4)


def test_training_audio_that_fails_in_decoding_is_refused_or_dropped(tone_corpus, tmp_path: Path):
    (tone_corpus.folder / "wav/cut.flac").write_bytes(flac_damaged_inside())
    tone_corpus.rows["train"][2]["audio_filepath"] = "wav/cut.flac"
    tone_corpus.write()
    with pytest.raises(CorpusError, match=r"train\.jsonl:3: utterance train-2: .*cut\.flac: decoding failed.* drop\.$"):
        read(tone_corpus, tmp_path)
    data, lines = read(tone_corpus, tmp_path, on_bad="drop")
    assert [example.utterance.id for example in data.train] == [f"train-{i}" for i in (0, 1, 3, 4, 5)]
    assert "warning: train: dropped 1 of 6: 1 undecodable (train-2)" in lines


def test_evaluation_audio_that_fails_in_decoding_stays_and_is_named(tone_corpus, tmp_path: Path):
    (tone_corpus.folder / "wav/cut.flac").write_bytes(flac_damaged_inside())
    tone_corpus.rows["eval"][1]["audio_filepath"] = "wav/cut.flac"
    tone_corpus.write()
    with pytest.raises(CorpusError, match=r"^\S+eval\.jsonl:2: utterance eval-1: .*cut\.flac: decoding failed"):
        read(tone_corpus, tmp_path)
    data, lines = read(tone_corpus, tmp_path, on_bad_eval="deletions")
    assert [(e.utterance.id, e.num_samples > 0) for e in data.evaluation["eval"]] == [
        ("eval-0", True), ("eval-1", False), ("eval-2", True)
    ]  # fmt: skip
    assert [line for line in lines if line.startswith("warning: eval:") and "deletions" in line and "eval-1" in line]
