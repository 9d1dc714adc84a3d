"""The synthetic corpus's tree against what it promises: TIMIT's form, true times, determinism, whole folders only.

    pytest tests/data/corpora/synthetic/test_tree.py

A `tiny` tree of 80 utterances is spoken twice, with one job and with two. Who says what: see test_synthetic_plan.
"""

import ast
import subprocess
import sys
import time
from collections import Counter, defaultdict
from importlib.metadata import PackageNotFoundError
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data.corpora.synthetic import tree as synthetic
from data.corpora.synthetic.espeak_phones import CLOSURES, IPA_TO_PHONES, words_of
from data.corpora.synthetic.sphere import write_sphere
from data.corpora.synthetic.tree import ensure_tree, plan
from data.corpora.timit import TimitCorpus
from data.corpora.timit.labels import read_segments, read_transcript

pytest.importorskip("espeakng_loader", reason="the extra [synthetic] is not installed")

PHONES_61 = set(
    """aa ae ah ao aw ax ax-h axr ay b bcl ch d dcl dh dx eh el em en eng epi er ey f g gcl h# hh hv ih ix iy jh k kcl
    l m n ng nx ow oy p pau pcl q r s sh t tcl th uh uw ux v w y z zh""".split()  # noqa: SIM905
)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ensure_tree("tiny", 7, tmp_path_factory.mktemp("one-job"), jobs=1)


def waves(tree: Path) -> list[Path]:
    return sorted(tree.glob("*/*/*/*.WAV"))


# --- the tree


def test_tree_is_byte_identical_whatever_the_number_of_jobs(tree: Path, tmp_path: Path) -> None:
    """Made at least a second after the other: espeak-ng seeds the noise of breathy variants from the clock."""
    assert "f2" in {speaker.variant for speaker in plan("tiny", 7)}, "choose a seed with a breathy variant"
    calls: list[tuple[int, int]] = []
    other = ensure_tree("tiny", 7, tmp_path, jobs=2, progress=lambda done, total: calls.append((done, total)))
    files = sorted(path.relative_to(tree) for path in tree.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(other) for path in other.rglob("*") if path.is_file())
    assert len(files) == 4 * 80 + 1
    assert [file for file in files if (tree / file).read_bytes() != (other / file).read_bytes()] == []
    assert calls == [(done, 8) for done in range(1, 9)]


def test_existing_tree_is_not_made_again(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic, "CHILD", Path("/nonexistent"))
    assert ensure_tree("tiny", 7, tree.parent.parent) == tree


def test_timit_reader_reads_the_tree_unchanged(tree: Path) -> None:
    corpus = TimitCorpus(tree, "hf", "plain")
    for split in ("train", "test"):
        utterances = list(corpus.utterances(split))
        assert len(utterances) == 40
        assert Counter(utterance.sentence_type for utterance in utterances) == {"SA": 8, "SX": 20, "SI": 12}
        assert {utterance.sex for utterance in utterances} == {"F", "M"}


def test_headers_transcripts_and_audio_agree_on_the_length(tree: Path) -> None:
    for wave in waves(tree):
        header = wave.read_bytes()[:1024]
        samples, rate = soundfile.read(wave, dtype="int16")
        assert header.startswith(b"NIST_1A\n   1024\n")
        assert f"sample_count -i {len(samples)}\n".encode() in header
        assert rate == 16_000
        assert wave.with_suffix(".TXT").read_text().split()[:2] == ["0", str(len(samples))]
        assert 0.1 < np.abs(samples / 32768).max() < 0.7
        assert np.ptp(samples[:400]) > 0, "silence is not digital zero"


def test_sphere_samples_survive_the_round_trip(tmp_path: Path) -> None:
    samples = np.array([0, 1, -1, 256, -257, 32767, -32768], dtype=np.int16)
    write_sphere(tmp_path / "a.wav", samples, utterance_id="x_sa1")
    read, _ = soundfile.read(tmp_path / "a.wav", dtype="int16")
    np.testing.assert_array_equal(read, samples)


def test_segments_are_contiguous_and_words_match_the_transcript(tree: Path) -> None:
    for wave in waves(tree):
        num_samples = soundfile.info(wave).frames
        phones, words = (read_segments(wave.with_suffix(suffix)) for suffix in (".PHN", ".WRD"))
        assert [phones[0].start, phones[-1].end] == [0, num_samples]
        assert [phones[0].label, phones[-1].label] == ["h#", "h#"]
        assert all(left.end == right.start for left, right in pairwise(phones)), wave
        assert all(segment.start < segment.end for segment in (*phones, *words)), wave
        assert {phone.label for phone in phones} <= PHONES_61
        assert all(left.end <= right.start for left, right in pairwise(words)), wave
        assert [word.label for word in words] == words_of(read_transcript(wave.with_suffix(".TXT")))
        starts, ends = {phone.start for phone in phones}, {phone.end for phone in phones}
        assert all(word.start in starts and word.end in ends for word in words), wave


def test_phone_boundaries_fit_the_audio(tree: Path) -> None:
    """Silences and voiceless closures are quiet, vowels and /s/ are not, and /s/ changes sign more often than vowels.

    Loudness is RMS over the utterance's peak. The bounds are twice the measured figures, but labels that are 5 ms late
    make closures six times louder, and labels that are 10 ms early the closing silence fifty times.
    """
    loudness, sign_changes = defaultdict(list), defaultdict(list)
    for wave in waves(tree):
        samples = soundfile.read(wave, dtype="float32")[0]
        samples = samples / np.abs(samples).max()
        for phone in read_segments(wave.with_suffix(".PHN")):
            part = samples[phone.start : phone.end]
            loudness[phone.label].append(np.sqrt(np.mean(part**2)))
            sign_changes[phone.label].append(np.mean(np.diff(np.signbit(part))))
    assert np.percentile(loudness["h#"], 90) < 0.002
    assert np.median(loudness["pcl"] + loudness["tcl"] + loudness["kcl"]) < 0.014
    assert min(np.percentile(loudness[label], 10) for label in ("aa", "ae", "eh", "ih")) > 0.07
    assert np.percentile(loudness["s"], 10) > 0.02
    assert np.median(sign_changes["s"]) > 4 * np.median(sign_changes["aa"] + sign_changes["eh"])


def test_every_label_in_the_table_is_one_of_the_61() -> None:
    assert {label for labels in IPA_TO_PHONES.values() for label in labels} | set(CLOSURES.values()) <= PHONES_61


# --- failures


def test_failing_child_names_its_speaker_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child = tmp_path / "child.py"
    child.write_text("import sys; sys.exit('no such voice')")
    monkeypatch.setattr(synthetic, "CHILD", child)
    with pytest.raises(ValueError, match=r"synthetic speaker [FM][A-Z]{3}\d \(en.*\+.*code 1: no such voice"):
        ensure_tree("tiny", 0, tmp_path / "cache", jobs=1)
    assert list((tmp_path / "cache").iterdir()) == []


def test_unknown_phoneme_fails_and_names_the_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(IPA_TO_PHONES, "l")
    with pytest.raises(ValueError, match=r"synthetic speaker .*SA1: .*neighbor.* phoneme 'l' has no TIMIT label"):
        ensure_tree("tiny", 0, tmp_path, jobs=1)
    assert list(tmp_path.iterdir()) == []


def test_killed_generation_leaves_no_finished_looking_folder(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib, data.corpora.synthetic.tree as s\n"
        "s.ensure_tree('tiny', 0, pathlib.Path(sys.argv[1]), jobs=1)"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], cwd=Path(synthetic.__file__).parents[3])
    deadline = time.monotonic() + 30
    while not list(tmp_path.glob(".synthetic-*/tree/TIMIT/TRAIN")) and time.monotonic() < deadline:
        assert process.poll() is None, "generation ended before it could be killed"
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == []


def test_loser_of_a_race_keeps_the_winners_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def generate(size: str, seed: int, folder: Path, jobs: int, progress: object) -> None:
        folder.mkdir()
        winner = next(p for p in folder.parents if p.parent == tmp_path).name.removeprefix(".").rpartition(".")[0]
        (tmp_path / winner / "TIMIT" / "SYNTHETIC.json").mkdir(parents=True)

    monkeypatch.setattr(synthetic, "_generate", generate)
    tree = ensure_tree("tiny", 0, tmp_path)
    assert (tree / "SYNTHETIC.json").is_dir()
    assert [path.name for path in tmp_path.iterdir()] == [tree.parent.name]


def test_missing_package_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(synthetic, "version", version)
    with pytest.raises(ValueError, match=r'not installed.*pip install --editable "\.\[synthetic\]"'):
        ensure_tree("tiny", 0, tmp_path)


def test_child_imports_no_project_module_and_the_library_stays_out_of_this_process(tree: Path) -> None:
    parsed = ast.parse(synthetic.CHILD.read_text())
    imported = {alias.name for node in ast.walk(parsed) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(parsed) if isinstance(node, ast.ImportFrom)}
    packages = {name.partition(".")[0] for name in imported} - sys.stdlib_module_names
    assert packages == {"espeakng_loader"}
    if (maps := Path("/proc/self/maps")).exists():
        assert "libespeak" not in maps.read_text()
