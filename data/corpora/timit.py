"""TIMIT as the LDC ships it (LDC93S1), or a tree of the same shape.

    TIMIT/{TRAIN,TEST}/DR{1..8}/{F|M}abc0/{SA1,SX127,SI1573,...}.{WAV,TXT,WRD,PHN}

Any mix of upper and lower case; .WAV is NIST SPHERE, or RIFF as some copies have it. An utterance's id is
SPEAKER_SENTENCE, since SA1 stands in every speaker's folder.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from data.audio.decode import FileAudio
from data.audio.files import open_regular
from data.config import option
from data.corpora.phones import PhoneConfig, check_phones, describe_odd
from data.faults import Faults
from data.text.phones import fold
from data.utterance import Corpus, Segment, Splits, Utterance
from trainer.errors import AudioError, CorpusError

SOURCE = "TIMIT comes from the Linguistic Data Consortium, catalogue number LDC93S1."
NUM_UTTERANCES = {"train": 4620, "test": 1680}
HF_REFERENCE_WORDS = 14_511
"""Words of the 1680 test sentences under `hf-timit`: 3186 errors / 0.21955757701054374, the reference card's WER."""
REFERENCE_PHONES = {"core": 7215, "dev": 15_057}
"""Phones of the 39 classes, silences not merged (Kaldi's egs/timit/s5/RESULTS, ESPnet's egs2/timit)."""

# The core test set, two men and a woman per dialect region (LDC's TESTSET.DOC)
CORE_TEST = """
    mdab0 mwbt0 felc0 mtas1 mwew0 fpas0 mjmp0 mlnt0 fpkt0 mlll0 mtls0 fjlm0 mbpm0 mklt0 fnlp0 mcmj0 mjdh0 fmgd0
    mgrt0 mnjm0 fdhc0 mjln0 mpam0 fmld0
""".upper().split()
# The fifty development speakers of Kaldi's recipe (Halberstadt 1998), out of TEST, none of them core
DEV = """
    faks0 fdac1 fjem0 mgwt0 mjar0 mmdb1 mmdm2 mpdf0 fcmh0 fkms0 mbdg0 mbwm0 mcsh0 fadg0 fdms0 fedw0 mgjf0 mglb0
    mrtk0 mtaa0 mtdt0 mthc0 mwjg0 fnmr0 frew0 fsem0 mbns0 mmjr0 mdls0 mdlf0 mdvc0 mers0 fmah0 fdrw0 mrcs0 mrjm4
    fcal1 mmwh0 fjsj0 majc0 mjsw0 mreb0 fgjd0 fjmg0 mroa0 mteb0 mjfc0 mrjr0 fmml0 mrws1
""".upper().split()

_PLAIN_ROWS = re.compile(r"^([0-9]{1,10}) ([0-9]{1,10}) (\S+)\n", re.MULTILINE)
"""The lines of a label file as the LDC wrote it."""

# TEST holds "test-no-sa" (the complete test set of the LDC), which is "test-minus-dev" and "dev" together
_WITHIN = {"test-no-sa": "test", "test-minus-dev": "test-no-sa", "dev": "test-no-sa", "core": "test-minus-dev"}
_NAMES = {
    "test": "hf-{}", "test-no-sa": "full-{}", "core": "core-{}", "dev": "dev-{}", "test-minus-dev": "full-minus-dev",
}  # fmt: skip
_SCORED = ("test", "test-no-sa", "test-minus-dev", "core", "dev")
_WITH_SA = dict.fromkeys(_SCORED, "SA sentences were in training") | {
    "test": "its SA sentences were in training too, from other speakers"
}
_WITHOUT_SA = {"test": "holds SA sentences, none of which were in training"}

PROTOCOLS = {
    "hf": Splits(
        train="train", monitor="test", headline="test", closing=_SCORED,
        within=_WITHIN, protocols=_NAMES, notes=_WITH_SA,
    ),
    "no-sa": Splits(
        train="train-no-sa", monitor="test-no-sa", headline="test-no-sa",
        closing=("test-no-sa", "test", "test-minus-dev", "core", "dev"),
        within=_WITHIN, protocols=_NAMES, notes=_WITHOUT_SA,
    ),
    "kaldi": Splits(
        train="train-no-sa",
        monitor="dev",
        headline="core",
        closing=("core", "test-minus-dev", "dev"),
        selects=True,
        unselected={"test-no-sa": "contains dev", "test": "contains dev"},
        within=_WITHIN, protocols=_NAMES, notes=_WITHOUT_SA,
    ),
}  # fmt: skip
"""What each protocol trains and selects on. All report the same published test sets side by side."""


@dataclass(frozen=True, kw_only=True)
class TimitConfig(PhoneConfig):
    """The LDC93S1 tree."""

    root: str = option("", common=True, place=True)
    """Folder that holds TRAIN and TEST (upper or lower case), or its parent."""

    protocol: Literal["hf", "kaldi", "no-sa"] = option("kaldi", common=True)
    """hf: all 4620/1680 utterances; kaldi: no SA, dev selects, core-192 is the headline; no-sa: 3696/1344."""

    allow_incomplete: bool = option(False, free=True)
    """Go on with a warning when files of the corpus are missing."""

    def required(self, training: bool) -> list[tuple[str, str]]:
        return [("--corpus.root, the folder of LDC93S1 that holds TRAIN and TEST", self.root)]

    def language_code(self) -> str:
        return "en"

    def kind_of_speech(self) -> str:
        return "read sentences, American English, one close microphone in a quiet booth"

    def open(self, cache_dir: Path, progress: Callable[[int, int], None]) -> Corpus:
        return TimitCorpus(
            Path(self.root), self.protocol, self.normalizer, allow_incomplete=self.allow_incomplete, units=self.units
        )


class TimitCorpus:
    """The tree at `root`, read under one of PROTOCOLS."""

    def __init__(
        self, root: Path, protocol: str, normalizer: str, *, allow_incomplete: bool = False, units: str = "words"
    ) -> None:
        """`units` are words, or a set of phones (a key of PHONE_SETS): then an utterance's text is its phones."""
        self.units = units
        self.protocol, self.normalizer, self.allow_incomplete = protocol, normalizer, allow_incomplete
        self.folders = find_tree(root)
        self.splits = _with_speakers(PROTOCOLS[protocol], self.folders["test"])
        self._read_parts: dict[str, list[Utterance]] = {}
        self._odd: list[str] = []
        marker = self.folders["train"].parent / "SYNTHETIC.json"
        self.is_synthetic = marker.exists()
        self.expected = json.loads(marker.read_text())["num_utterances"] if self.is_synthetic else NUM_UTTERANCES

    @property
    def title(self) -> str:
        return "a synthetic TIMIT-shaped corpus (espeak-ng)" if self.is_synthetic else "TIMIT (LDC93S1)"

    @property
    def notes(self) -> list[str]:
        """What label files say that needs a remark; complete once the splits were read."""
        return list(filter(None, [describe_odd(self._odd)]))

    def utterances(self, split: str, faults: Faults | None = None) -> Iterable[Utterance]:
        """A split: train, test (with SA), train-no-sa, test-no-sa, dev, core or test-minus-dev."""
        for utterance in self._part("train" if split.startswith("train") else "test", faults):
            if split in ("train", "test") or (utterance.sentence_type != "SA" and _belongs(utterance, split)):
                yield utterance

    def checksum(self, words_per_split: dict[str, int]) -> tuple[str, bool] | None:
        """How the tree compares with TIMIT's published counts, with a warning where it is not the published corpus.

        None for a synthetic tree, which does not claim to be TIMIT.
        """
        if self.is_synthetic:
            return None
        found = {part: len(self._part(part)) for part in ("train", "test")}
        facts = [f"{found['train']}/{found['test']} utterances (TIMIT: 4620/1680)"]
        same = found == NUM_UTTERANCES
        if "test" in words_per_split and self.normalizer == "hf-timit":
            words = words_per_split["test"]
            facts.append(f"{words:,} reference words in test (TIMIT: {HF_REFERENCE_WORDS:,})")
            same = same and words == HF_REFERENCE_WORDS
        for split, published in REFERENCE_PHONES.items() if self.units != "words" else ():
            phones = sum(len(fold([p.label for p in u.phones], "phones39")) for u in self.utterances(split))
            facts.append(f"{phones:,} reference phones in {split} (TIMIT: {published:,}, silences kept)")
            same = same and phones == published
        verdict = "as published" if same else "NOT the published corpus"
        return f"TIMIT checksum: {', '.join(facts)}: {verdict}", not same

    def _part(self, part: str, faults: Faults | None = None) -> list[Utterance]:
        """The utterances of "train" or "test", read once."""
        if part not in self._read_parts:
            self._read_parts[part] = self._read(part, faults or Faults())
        return self._read_parts[part]

    def _read(self, part: str, faults: Faults) -> list[Utterance]:
        folder = self.folders[part]
        utterances = []
        incomplete: list[str] = []
        for region in _subfolders(folder, r"DR[1-8]"):
            for speaker in _subfolders(region, r"[FM][A-Z]{3}\d"):
                for sentence, files in _sentences(speaker).items():
                    missing = [extension for extension in ("WAV", "TXT", "WRD", "PHN") if extension not in files]
                    if missing:
                        incomplete.append(f"{speaker / sentence}.{missing[0]}")
                        continue
                    with faults.noted("malformed label file", part):
                        utterance = _utterance(region.name.upper(), speaker.name.upper(), sentence, files)
                        utterances.append(utterance if self.units == "words" else self._of_phones(utterance, files))
        if (incomplete or len(utterances) != self.expected[part]) and not self.allow_incomplete:
            lacking = (
                f" Missing: {', '.join(incomplete[:3])}{', ...' if len(incomplete) > 3 else ''}." if incomplete else ""
            )
            with faults.noted("incomplete corpus", part):
                raise CorpusError(
                    f"{folder}: found {len(utterances)} whole utterances, expected {self.expected[part]}.{lacking} "
                    f"{SOURCE} To go on with what is there: --corpus.allow-incomplete."
                )
        return utterances

    def _of_phones(self, utterance: Utterance, files: dict[str, Path]) -> Utterance:
        """`utterance` with its phones as its text; CorpusError when its .PHN file contradicts itself or the audio."""
        try:
            num_samples = utterance.audio.header.num_frames
        except AudioError:  # it is reported where audio is read
            num_samples = None
        if odd := check_phones(files["PHN"], utterance.phones, num_samples):
            self._odd.append(odd)
        return replace(utterance, text=" ".join(fold([phone.label for phone in utterance.phones], self.units)))


def find_tree(root: Path) -> dict[str, Path]:
    """{"train": folder, "test": folder} at `root` or one folder below it; CorpusError when it is no TIMIT tree."""
    if not root.is_dir():
        raise CorpusError(f"{root}: no such folder. --corpus.root is the folder that holds TRAIN and TEST. {SOURCE}")
    for candidate in [root, *sorted(p for p in root.iterdir() if p.is_dir())]:
        folders = {p.name.lower(): p for p in candidate.iterdir() if p.is_dir()}
        if {"train", "test"} <= folders.keys() and _subfolders(folders["train"], r"DR[1-8]"):
            return {"train": folders["train"], "test": folders["test"]}
    found = ", ".join(sorted(p.name for p in root.iterdir())[:6]) or "nothing"
    raise CorpusError(
        f"{root}: not a TIMIT tree: expected TRAIN and TEST with DR1 to DR8 in them, found {found}. {SOURCE}"
    )


def _with_speakers(splits: Splits, test: Path) -> Splits:
    """`splits` without those sets of speakers that a small tree does not hold; what it cannot do without stays."""
    speakers = {p.name.upper() for region in _subfolders(test, r"DR[1-8]") for p in region.iterdir()}
    there = {"core": speakers & {*CORE_TEST}, "dev": speakers & {*DEV}, "test-minus-dev": speakers - {*DEV}}
    lacking = {split for split, found in there.items() if not found} - {splits.monitor, splits.headline}
    return replace(splits, closing=tuple(split for split in splits.closing if split not in lacking))


def _belongs(utterance: Utterance, split: str) -> bool:
    match split:
        case "dev":
            return utterance.speaker in DEV
        case "core":
            return utterance.speaker in CORE_TEST
        case "test-minus-dev":
            return utterance.speaker not in DEV
        case _:
            return True


def _subfolders(folder: Path, pattern: str) -> list[Path]:
    """Folders whose name is `pattern`, in whatever case, in the order of their upper-case names."""
    matching = [p for p in folder.iterdir() if re.fullmatch(pattern, p.name.upper()) and p.is_dir()]
    return sorted(matching, key=lambda p: p.name.upper())


def _sentences(speaker: Path) -> dict[str, dict[str, Path]]:
    """{"SA1": {"WAV": path, "TXT": path, ...}, ...} of a speaker's folder."""
    sentences: dict[str, dict[str, Path]] = {}
    for path in sorted(speaker.iterdir(), key=lambda p: p.name):
        if match := re.fullmatch(r"(S[AIX]\d+)\.(WAV|TXT|WRD|PHN)(\.WAV)?", path.name.upper()):
            # Some copies keep the SPHERE file SA1.WAV and add a RIFF copy, SA1.WAV.wav
            if match[3] and match[2] in sentences.get(match[1], {}):
                continue
            sentences.setdefault(match[1], {})[match[2]] = path
    return dict(sorted(sentences.items()))


def _utterance(region: str, speaker: str, sentence: str, files: dict[str, Path]) -> Utterance:
    return Utterance(
        id=f"{speaker}_{sentence}",
        audio=FileAudio(files["WAV"]),
        text=read_transcript(files["TXT"]),
        speaker=speaker,
        sex=speaker[0],
        dialect=region,
        sentence_type=sentence[:2],
        words=read_segments(files["WRD"]),
        phones=read_segments(files["PHN"]),
        origin=str(files["WAV"]),
    )


def read_transcript(path: Path) -> str:
    """The sentence of a .TXT file: one line, behind its first and last sample; single spaces between words."""
    lines = [line for line in _read_text(path).split("\n") if line.strip()]
    text = " ".join(lines[0].split()) if lines else ""
    match = re.fullmatch(r"[0-9]{1,10} [0-9]{1,10} (.*)", text)
    if not match:
        raise CorpusError(f"{path}: expected 'FIRST LAST sentence', found {text[:40]!r}.")
    if len(lines) > 1:
        raise CorpusError(f"{path}: expected one line, found {len(lines)}.")
    return match[1]


def read_segments(path: Path) -> tuple[Segment, ...]:
    """The labelled stretches of a .WRD or .PHN file: `start end label` a line, in samples."""
    segments, text = [], _read_text(path)
    plain = _PLAIN_ROWS.findall(text)
    if text.endswith("\n") and len(plain) == text.count("\n"):  # one search a file: TIMIT has 250,000 such lines
        return tuple([Segment(int(start), int(end), label) for start, end, label in plain])
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            match = re.fullmatch(r"([0-9]{1,10})\s+([0-9]{1,10})\s+(\S+)", line.strip())
            if not match:
                raise CorpusError(f"{path}:{number}: expected 'START END LABEL', found {line.strip()[:40]!r}.")
            segments.append(Segment(int(match[1]), int(match[2]), match[3]))
    return tuple(segments)


def _read_text(path: Path) -> str:
    try:
        with open_regular(path) as file:
            return file.read().decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except OSError as error:
        raise CorpusError(f"{path}: {error.strerror or error}.") from None
    except UnicodeDecodeError as error:
        raise CorpusError(f"{path}: byte {error.start} is not UTF-8; is this a label file?") from None
