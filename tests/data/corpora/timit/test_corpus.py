"""data.corpora.timit: published counts and protocols on a tree of TIMIT's shape, and what other trees say."""

from __future__ import annotations

import io
import itertools
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data.corpora.timit import TimitConfig, TimitCorpus
from data.corpora.timit.labels import read_segments
from data.corpora.timit.protocols import PROTOCOLS
from data.examples.prepare import num_reference_words, prepare_evaluation
from data.text.normalise import hf_timit
from data.text.vocab import Vocab
from data.utterance import Segment, Utterance
from trainer.errors import CorpusError

# Kaldi's egs/timit/s5/conf/test_spk.list and dev_spk.list
CORE_24 = """
mdab0 mwbt0 felc0 mtas1 mwew0 fpas0 mjmp0 mlnt0 fpkt0 mlll0 mtls0 fjlm0
mbpm0 mklt0 fnlp0 mcmj0 mjdh0 fmgd0 mgrt0 mnjm0 fdhc0 mjln0 mpam0 fmld0
""".split()  # noqa: SIM905
DEV_50 = """
faks0 fdac1 fjem0 mgwt0 mjar0 mmdb1 mmdm2 mpdf0 fcmh0 fkms0 mbdg0 mbwm0 mcsh0 fadg0 fdms0 fedw0 mgjf0 mglb0 mrtk0
mtaa0 mtdt0 mthc0 mwjg0 fnmr0 frew0 fsem0 mbns0 mmjr0 mdls0 mdlf0 mdvc0 mers0 fmah0 fdrw0 mrcs0 mrjm4 fcal1 mmwh0
fjsj0 majc0 mjsw0 mreb0 fgjd0 fjmg0 mroa0 mteb0 mjfc0 mrjr0 fmml0 mrws1
""".split()  # noqa: SIM905
SENTENCES = ["SA1", "SA2", "SX3", "SX4", "SX5", "SX6", "SX7", "SI8", "SI9", "SI10"]

EIGHT_WORDS = "0 46797 She had your dark suit in greasy water?\n"
NINE_WORDS = "0 46797 She had your dark suit in greasy wash-water 3 years.\n"


@pytest.fixture(scope="module")
def timit_shape(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree of all 6300 utterances with TIMIT's own dev and core speakers, every file a hard link to one of a kind.

    Test texts have 8 or 9 words under `hf-timit`, so many of each that they are TIMIT's 14,511.
    """
    root = tmp_path_factory.mktemp("timit-shape")
    kinds = root / "kinds"
    kinds.mkdir()
    soundfile.write(kinds / "WAV", np.zeros(1600, np.int16), 16_000, format="NIST", subtype="PCM_16")
    (kinds / "PHN").write_text("0 800 h#\n800 1600 sh\n")
    (kinds / "WRD").write_text("800 1600 she\n")
    (kinds / "8").write_text(EIGHT_WORDS)
    (kinds / "9").write_text(NINE_WORDS)
    num_nine = 14_511 - 8 * 1680
    invented = (f"{sex}{a}{b}z0" for sex in "mf" for a, b in itertools.product("abcdefghijklmnopqrstuvwxyz", repeat=2))
    test = [*CORE_24, *DEV_50, *itertools.islice(invented, 168 - 74)]
    train = list(itertools.islice(invented, 462))
    number = 0
    for part, speakers in (("TEST", test), ("TRAIN", train)):
        for i, speaker in enumerate(speakers):
            folder = root / "TIMIT" / part / f"DR{1 + i % 8}" / speaker.upper()
            folder.mkdir(parents=True)
            for sentence in SENTENCES:
                os.link(kinds / ("9" if number < num_nine else "8"), folder / f"{sentence}.TXT")
                number += 1
                for kind in ("WAV", "PHN", "WRD"):
                    os.link(kinds / kind, folder / f"{sentence}.{kind}")
    return root / "TIMIT"


@pytest.fixture(scope="module")
def kaldi(timit_shape: Path) -> TimitCorpus:
    """The whole tree under the preset `timit`'s protocol; it reads its files once."""
    return corpus_at(timit_shape, "kaldi", "plain")


@pytest.fixture(scope="module")
def hf(timit_shape: Path) -> TimitCorpus:
    """The whole tree under the preset `timit-hf`'s protocol."""
    return corpus_at(timit_shape, "hf", "hf-timit")


@pytest.fixture
def tree(tiny_timit: Path, tmp_path: Path) -> Path:
    """A copy of the tiny synthetic tree that a test may change."""
    return Path(shutil.copytree(tiny_timit, tmp_path / "TIMIT"))


def corpus_at(root: Path, protocol: str = "kaldi", normalizer: str = "plain", **options) -> TimitCorpus:
    return TimitCorpus(root, protocol, normalizer, **options)


def everything(corpus: TimitCorpus) -> list[Utterance]:
    return [*corpus.utterances("train"), *corpus.utterances("test")]


# Protocols


@pytest.mark.parametrize(
    ("split", "num_utterances", "num_speakers"),
    [
        ("train", 4620, 462),
        ("test", 1680, 168),
        ("train-no-sa", 3696, 462),
        ("test-no-sa", 1344, 168),
        ("dev", 400, 50),
        ("core", 192, 24),
        ("test-minus-dev", 944, 118),
    ],
)
def test_splits_have_their_published_numbers_of_utterances_and_speakers(
    kaldi: TimitCorpus, split: str, num_utterances: int, num_speakers: int
):
    utterances = list(kaldi.utterances(split))
    assert len(utterances) == num_utterances
    assert len({u.speaker for u in utterances}) == num_speakers
    assert ("SA" in {u.sentence_type for u in utterances}) == (split in ("train", "test"))


def test_dev_and_core_are_kaldis_speakers(kaldi: TimitCorpus):
    """Reference: Kaldi's speaker lists, above."""
    assert {u.speaker for u in kaldi.utterances("dev")} == {s.upper() for s in DEV_50}
    assert {u.speaker for u in kaldi.utterances("core")} == {s.upper() for s in CORE_24}


def test_minus_dev_and_dev_are_the_full_test_set_without_sa(kaldi: TimitCorpus):
    ids = {split: {u.id for u in kaldi.utterances(split)} for split in ("dev", "core", "test-minus-dev", "test-no-sa")}
    assert ids["dev"] | ids["test-minus-dev"] == ids["test-no-sa"]
    assert not ids["dev"] & ids["test-minus-dev"]
    assert ids["core"] < ids["test-minus-dev"]


def test_kaldi_protocol_selects_on_dev_and_reports_core():
    """The full test set contains dev: it is scored with the last, unselected weights only."""
    splits = PROTOCOLS["kaldi"]
    assert (splits.train, splits.monitor, splits.headline, splits.selects) == ("train-no-sa", "dev", "core", True)
    assert set(splits.closing) == {"core", "test-minus-dev", "dev"}
    assert splits.unselected == {"test-no-sa": "contains dev", "test": "contains dev"}


def test_hf_protocol_is_the_reference_runs_all_of_train_and_test_without_selection():
    splits = PROTOCOLS["hf"]
    assert (splits.train, splits.monitor, splits.headline) == ("train", "test", "test")
    assert not splits.selects


NAMES = {
    "test": "hf-1680", "test-no-sa": "full-1344", "core": "core-192", "dev": "dev-400",
    "test-minus-dev": "full-minus-dev",
}  # fmt: skip


@pytest.mark.parametrize("protocol", list(PROTOCOLS))
def test_every_protocol_reports_all_published_test_sets_under_their_names(timit_shape: Path, protocol: str):
    splits = corpus_at(timit_shape, protocol).splits
    assert {*splits.closing, *splits.unselected} == NAMES.keys()
    numbers = {"test": 1680, "test-no-sa": 1344, "core": 192, "dev": 400, "test-minus-dev": 944}
    assert {split: splits.protocol(split, number) for split, number in numbers.items()} == NAMES


def test_a_split_that_is_within_another_has_no_utterance_besides(kaldi: TimitCorpus):
    """What makes it right to read the smaller one's scores off the larger one's."""
    ids = {split: {u.id for u in kaldi.utterances(split)} for split in NAMES}
    assert kaldi.splits.within.keys() == NAMES.keys() - {"test"}
    assert all(ids[part] < ids[whole] for part, whole in kaldi.splits.within.items())


def test_what_selected_the_weights_and_what_was_in_training_is_said(kaldi: TimitCorpus, hf: TimitCorpus):
    selected = {split: kaldi.splits.note(split, selected=True) for split in NAMES}
    assert selected["core"] == selected["test-minus-dev"] == ""
    assert selected["dev"] == "optimistic: the weights were selected on it"
    assert selected["test-no-sa"] == "optimistic: contains dev, on which the weights were selected"
    assert selected["test"] == f"{selected['test-no-sa']}; holds SA sentences, none of which were in training"
    assert all("SA sentences were in training" in hf.splits.note(split, selected=False) for split in NAMES)
    assert "part of test, on which the weights were selected" in hf.splits.note("core", selected=True)


def test_a_tree_without_speakers_of_a_set_leaves_that_set_out(tree: Path):
    for speaker in [*CORE_24, *DEV_50]:
        for folder in (tree / "TEST").glob(f"DR*/{speaker.upper()}"):
            shutil.rmtree(folder)
    splits = corpus_at(tree, "no-sa", allow_incomplete=True).splits
    assert splits.closing == ("test-no-sa", "test", "test-minus-dev")
    assert "core" in corpus_at(tree, "kaldi", allow_incomplete=True).splits.closing  # that protocol needs it


# The checksum


def checksum_of(corpus: TimitCorpus) -> tuple[str, bool]:
    vocab = Vocab.build(["abcdefghijklmnopqrstuvwxyz"])
    examples, _, _ = prepare_evaluation(list(corpus.utterances("test")), hf_timit, vocab, split="test")
    result = corpus.checksum({"test": num_reference_words(examples)})
    assert result is not None
    return result


def test_checksum_confirms_the_published_counts(hf: TimitCorpus):
    """Reference: TIMIT's 4620/1680 utterances, and 14,511 reference words as the reference card's WER implies."""
    line, is_suspicious = checksum_of(hf)
    assert line == (
        "TIMIT checksum: 4620/1680 utterances (TIMIT: 4620/1680), "
        "14,511 reference words in test (TIMIT: 14,511): as published"
    )
    assert not is_suspicious


def test_checksum_warns_of_one_word_too_few(hf: TimitCorpus):
    line, is_suspicious = hf.checksum({"test": 14_510})
    assert "14,510 reference words in test (TIMIT: 14,511): NOT the published corpus" in line
    assert is_suspicious


def test_checksum_warns_of_a_tree_that_claims_to_be_timit_and_is_not(tree: Path):
    (tree / "SYNTHETIC.json").unlink()
    line, is_suspicious = checksum_of(corpus_at(tree, "hf", "hf-timit", allow_incomplete=True))
    assert line.startswith("TIMIT checksum: 40/40 utterances (TIMIT: 4620/1680), ")
    assert line.endswith("NOT the published corpus")
    assert is_suspicious


def test_synthetic_tree_is_not_compared_with_timits_counts(tiny_timit: Path):
    corpus = corpus_at(tiny_timit, "hf", "hf-timit")
    assert corpus.checksum({"test": 100}) is None
    assert "synthetic" in corpus.title


@pytest.mark.parametrize(("protocol", "words"), [("kaldi", {"test": 14_511}), ("hf", {"core": 1, "dev": 2})])
def test_words_are_compared_only_for_the_whole_test_set_under_hf_timit(protocol: str, words: dict, request):
    line, is_suspicious = request.getfixturevalue(protocol).checksum(words)
    assert line == "TIMIT checksum: 4620/1680 utterances (TIMIT: 4620/1680): as published"
    assert not is_suspicious


def test_checksum_of_a_corpus_of_phones_counts_them_in_39_classes(timit_shape: Path):
    """Every file of this tree holds `h# sh`, two phones. Reference: Kaldi's and ESPnet's 7215 and 15,057."""
    line, is_suspicious = corpus_at(timit_shape, units="phones61").checksum({})
    assert "384 reference phones in core (TIMIT: 7,215, silences kept)" in line
    assert "800 reference phones in dev (TIMIT: 15,057, silences kept): NOT the published corpus" in line
    assert is_suspicious


def test_checksum_of_phones_confirms_the_published_counts(timit_shape: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("data.corpora.timit.REFERENCE_PHONES", {"core": 384, "dev": 800})
    line, is_suspicious = corpus_at(timit_shape, units="phones48").checksum({})
    assert line.endswith("800 reference phones in dev (TIMIT: 800, silences kept): as published")
    assert not is_suspicious


@pytest.mark.parametrize(
    ("is_marked", "expected"), [(True, []), (False, ["warning: TIMIT checksum: 40/40 utterances"])]
)
def test_timit_hf_run_prints_the_checksum_where_the_tree_claims_to_be_timit(
    tree: Path, tmp_path: Path, is_marked: bool, expected: list[str]
):
    from models.checkpoints.pretrained import read_encoder
    from models.config import ModelConfig
    from trainer.cli.console import Console
    from trainer.config.schema import Config
    from trainer.prepare.corpus import prepare_corpus, read_corpus

    if not is_marked:
        (tree / "SYNTHETIC.json").unlink()
    corpus = TimitConfig(root=str(tree), protocol="hf", normalizer="hf-timit", bos_eos=True, allow_incomplete=True)
    config = Config(corpus=corpus, model=ModelConfig(size="tiny"), cache_dir=str(tmp_path / "cache"))
    stream = io.StringIO()
    console = Console(stream)
    prepare_corpus(config, read_corpus(config, console), read_encoder(config.model), console)
    lines = [line for line in stream.getvalue().splitlines() if "TIMIT checksum" in line]
    assert [line.partition(" (")[0] for line in lines] == expected


# What is read


def test_fields_are_those_of_the_tree(tiny_timit: Path):
    """Reference: the paths, and the label files read here by hand."""
    utterances = everything(corpus_at(tiny_timit))
    assert len(utterances) == 80
    for u in utterances:
        path = Path(u.origin)
        region, speaker, sentence = path.parts[-3], path.parts[-2], path.stem
        assert (u.id, u.speaker, u.dialect) == (f"{speaker}_{sentence}", speaker, region)
        assert (u.sex, u.sentence_type) == (speaker[0], sentence[:2])
        start, end, text = path.with_suffix(".TXT").read_text().strip().split(" ", 2)
        assert u.text == text
        assert (int(start), int(end)) == (0, u.audio.num_samples)
        for segments, suffix in ((u.words, ".WRD"), (u.phones, ".PHN")):
            lines = path.with_suffix(suffix).read_text().splitlines()
            assert [f"{s.start} {s.end} {s.label}" for s in segments] == lines
    assert {u.sex for u in utterances} == {"F", "M"}
    assert Counter(u.sentence_type for u in utterances) == {"SA": 16, "SX": 40, "SI": 24}


def test_sphere_audio_is_its_16_bit_samples_over_32768(tree: Path):
    """Reference: a NIST_1A header written here, then every value's bytes; exact."""
    samples = np.array([-32768, -1, 0, 1, 12345, 32767] * 100, "<i2")
    fields = f"channel_count -i 1\nsample_count -i {len(samples)}\nsample_rate -i 16000\nsample_n_bytes -i 2\n"
    header = f"NIST_1A\n   1024\n{fields}sample_byte_format -s2 01\nsample_sig_bits -i 16\nend_head\n"
    path = next(tree.rglob("SA1.WAV"))
    path.write_bytes(header.encode().ljust(1024) + samples.tobytes())
    utterance = next(u for u in everything(corpus_at(tree)) if u.origin == str(path))
    np.testing.assert_array_equal(utterance.audio.load(), samples.astype(np.float32) / 32768)


def assert_same(a: TimitCorpus, b: TimitCorpus) -> None:
    """Same utterances in the same order, but for where they lie."""
    pairs = list(zip(everything(a), everything(b), strict=True))
    assert len(pairs) == 80
    for one, two in pairs:
        for field in ("id", "text", "speaker", "sex", "dialect", "sentence_type", "words", "phones"):
            assert getattr(one, field) == getattr(two, field)
        assert one.audio.num_samples == two.audio.num_samples
        np.testing.assert_array_equal(one.audio.load(), two.audio.load())


def rename_all(root: Path, new_name: Callable[[str], str]) -> None:
    for path in sorted(root.rglob("*"), key=lambda p: len(p.parts), reverse=True):
        if path.name != "SYNTHETIC.json":
            path.rename(path.with_name(new_name(path.name)))


def partly_lower(name: str) -> str:
    return name.lower() if "X" in name else name


@pytest.mark.parametrize("new_name", [str.lower, str.title, partly_lower])
def test_case_of_names_changes_nothing(tree: Path, tiny_timit: Path, new_name: Callable[[str], str]):
    """Reference: the upper-case tree."""
    rename_all(tree, new_name)
    assert {p.name for p in tree.rglob("*.*")} != {p.name for p in tiny_timit.rglob("*.*")}
    assert_same(corpus_at(tree), corpus_at(tiny_timit))


def test_riff_copies_read_as_the_sphere_files(tree: Path, tiny_timit: Path):
    for path in tree.rglob("*.WAV"):
        samples, rate = soundfile.read(path, dtype="int16")
        soundfile.write(path, samples, rate, format="WAV", subtype="PCM_16")
        assert path.read_bytes()[:4] == b"RIFF"
    assert_same(corpus_at(tree), corpus_at(tiny_timit))


@pytest.mark.parametrize("keep_sphere", [True, False])
def test_riff_copy_beside_or_instead_of_the_sphere_file_is_no_further_utterance(
    tree: Path, tiny_timit: Path, keep_sphere: bool
):
    """As in the copy of TIMIT on Kaggle: SA1.WAV and SA1.WAV.wav."""
    for path in tree.rglob("*.WAV"):
        samples, rate = soundfile.read(path, dtype="int16")
        soundfile.write(f"{path}.wav", samples, rate, format="WAV", subtype="PCM_16")
        if not keep_sphere:
            path.unlink()
    corpus = corpus_at(tree)
    assert_same(corpus, corpus_at(tiny_timit))
    assert {Path(u.origin).suffixes[-1] for u in everything(corpus)} == {".WAV" if keep_sphere else ".wav"}


def test_order_does_not_depend_on_the_file_system(tree: Path, monkeypatch: pytest.MonkeyPatch):
    expected = [u.id for u in everything(corpus_at(tree))]
    iterdir = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda self: sorted(iterdir(self), key=lambda p: p.name[::-1]))
    assert [u.id for u in everything(corpus_at(tree))] == expected


def test_other_files_are_left_alone(tree: Path, tiny_timit: Path):
    speaker = next(tree.rglob("SA1.WAV")).parent
    for path in (tree / "README.DOC", tree / "TRAIN/.DS_Store", tree / "TRAIN/DR9/MXXX0/SA1.TXT", speaker / "notes.txt",
                 speaker / "SA1.WAV.bak", speaker / "._SA1.WAV"):  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("?")
    assert_same(corpus_at(tree), corpus_at(tiny_timit))


def test_parent_of_the_tree_will_do_as_root(tiny_timit: Path):
    assert_same(corpus_at(tiny_timit.parent), corpus_at(tiny_timit))


# Trees that are not whole, or not TIMIT


@pytest.mark.parametrize("extension", ["WAV", "TXT", "WRD", "PHN"])
def test_missing_file_is_named_with_what_was_found_and_expected(tree: Path, extension: str):
    missing = sorted((tree / "TRAIN").rglob(f"*.{extension}"))[3]
    missing.unlink()
    with pytest.raises(CorpusError) as caught:
        everything(corpus_at(tree))
    message = str(caught.value)
    assert message.startswith(f"{tree / 'TRAIN'}: found 39 whole utterances, expected 40. Missing: {missing}. ")
    assert "LDC93S1" in message
    assert message.endswith("--corpus.allow-incomplete.")


def test_missing_speaker_is_noticed_by_the_count(tree: Path):
    shutil.rmtree(next((tree / "TEST").rglob("SA1.WAV")).parent)
    with pytest.raises(CorpusError, match=f"^{re.escape(str(tree / 'TEST'))}: found 30 whole utterances, expected 40"):
        everything(corpus_at(tree))


def test_real_tree_must_hold_what_ldc_ships(tree: Path):
    (tree / "SYNTHETIC.json").unlink()
    with pytest.raises(CorpusError, match=r"found 40 whole utterances, expected 4620\..*LDC93S1"):
        everything(corpus_at(tree))


def test_incomplete_tree_is_read_as_far_as_it_goes_when_allowed(tree: Path):
    for path in sorted(tree.rglob("*.PHN"))[:3]:
        path.unlink()
    assert len(everything(corpus_at(tree, allow_incomplete=True))) == 77


@pytest.mark.parametrize(
    "content", [(), ("TRAIN", "TEST"), ("TRAIN/DR1",), ("train/speaker1", "test/speaker2"), ("a", "b")]
)
def test_folder_that_is_no_timit_says_what_it_found_and_where_timit_comes_from(tmp_path: Path, content: tuple):
    for name in content:
        (tmp_path / name).mkdir(parents=True)
    found = ", ".join(sorted({name.split("/")[0] for name in content})) or "nothing"
    with pytest.raises(CorpusError) as caught:
        corpus_at(tmp_path)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path}: not a TIMIT tree: expected TRAIN and TEST with DR1 to DR8 in them")
    assert f"found {found}. " in message
    assert "LDC93S1" in message


def test_a_tree_is_found_two_folders_below_its_root(tree: Path, tiny_timit: Path, tmp_path: Path):
    """As the LDC's archive, Kaggle's copy and unpacked zip files lay it."""
    root = tmp_path / "root"
    (root / "timit").mkdir(parents=True)
    for path in [path for path in tree.rglob("*") if path.is_file()]:  # what macOS puts into an archive
        shadow = root / "__MACOSX" / "TIMIT" / path.relative_to(tree).with_name(f"._{path.name}")
        shadow.parent.mkdir(parents=True, exist_ok=True)
        shadow.write_bytes(b"\0\5\x16\7" + bytes(78))
        path.with_name(shadow.name).write_bytes(shadow.read_bytes())
    tree.rename(root / "timit/TIMIT")
    assert_same(corpus_at(root), corpus_at(tiny_timit))


def test_two_trees_are_asked_about(tmp_path: Path):
    for name in ("TIMIT", "TIMIT_wav"):
        (tmp_path / name / "TRAIN/DR1").mkdir(parents=True)
        (tmp_path / name / "TEST").mkdir()
    with pytest.raises(CorpusError, match=r"holds several TIMIT trees, as .*TIMIT and .*TIMIT_wav\. Name one"):
        corpus_at(tmp_path)


def test_a_part_of_a_tree_or_a_file_is_no_root(tree: Path):
    (part,) = [path for path in tree.iterdir() if path.name.upper() == "TRAIN"]
    with pytest.raises(CorpusError, match=rf"It is a part of one: --corpus\.root {tree.resolve()} "):
        corpus_at(part)
    (tree / "train_data.csv").touch()
    with pytest.raises(CorpusError, match=r"train_data\.csv: is a file\. --corpus\.root is the folder"):
        corpus_at(tree / "train_data.csv")


def test_missing_root_says_what_root_is(tmp_path: Path):
    with pytest.raises(CorpusError, match=r"none: no such folder\. --corpus\.root is the folder .* LDC93S1"):
        corpus_at(tmp_path / "none")


@pytest.mark.parametrize(
    ("suffix", "content", "message"),
    [
        (".TXT", "She had your dark suit\n", ": expected 'FIRST LAST sentence', found 'She had your dark suit'"),
        (".TXT", "", ": expected 'FIRST LAST sentence', found ''"),
        (".PHN", "0 100 h#\n100 sh\n", ":2: expected 'START END LABEL', found '100 sh'"),
        (".WRD", "0 100 she\n\n-5 100 had\n", ":3: expected 'START END LABEL', found '-5 100 had'"),
        (".PHN", "0 100 h#\n100 sh", ":2: expected 'START END LABEL', found '100 sh'"),
        (".TXT", "0 100 caf\xe9\n", ": byte 9 is not UTF-8"),
    ],
)
def test_malformed_label_file_is_named_with_its_line(tree: Path, suffix: str, content: str, message: str):
    path = next(tree.rglob(f"SA1{suffix}"))
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(CorpusError) as caught:
        everything(corpus_at(tree))
    assert str(caught.value).startswith(f"{path}{message}")


@pytest.mark.parametrize(
    "content",
    ["0 100 h#\n100 250 sh\n", "0 100 h#\n100 250 sh", "0 100 h#\r\n100 250 sh\r\n", "\n 0\t100  h#\n\n100 250 sh \n"],
    ids=["as the LDC wrote it", "no line end at the end", "CR LF", "blanks and empty lines"],
)
def test_label_file_means_the_same_however_it_is_written(tmp_path: Path, content: str):
    (tmp_path / "SA1.PHN").write_bytes(content.encode())
    assert read_segments(tmp_path / "SA1.PHN") == (Segment(0, 100, "h#"), Segment(100, 250, "sh"))


def test_synthetic_marker_says_what_to_expect(tree: Path):
    marker = json.loads((tree / "SYNTHETIC.json").read_text())
    (tree / "SYNTHETIC.json").write_text(json.dumps({**marker, "num_utterances": {"train": 50, "test": 40}}))
    with pytest.raises(CorpusError, match="found 40 whole utterances, expected 50"):
        everything(corpus_at(tree))
