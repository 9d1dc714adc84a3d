"""TIMIT as the LDC ships it (LDC93S1), or a tree of the same shape.

    TIMIT/{TRAIN,TEST}/DR{1..8}/{F|M}abc0/{SA1,SX127,SI1573,...}.{WAV,TXT,WRD,PHN}

Any mix of upper and lower case; .WAV is NIST SPHERE, or RIFF as some copies have it. An utterance's id is
SPEAKER_SENTENCE, since SA1 stands in every speaker's folder.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from data.audio.decode import FileAudio
from data.config import option
from data.corpora.timit.labels import read_segments, read_transcript
from data.corpora.timit.phones import PhoneConfig, check_phones, describe_odd
from data.corpora.timit.protocols import PROTOCOLS, belongs, with_speakers
from data.corpora.timit.tree import SOURCE, find_tree, sentences_of, speakers_of, subfolders
from data.faults import Faults
from data.text.phones import fold
from data.utterance import Corpus, Utterance
from trainer.errors import AudioError, CorpusError

NUM_UTTERANCES = {"train": 4620, "test": 1680}
HF_REFERENCE_WORDS = 14_511
"""Words of the 1680 test sentences under `hf-timit`: 3186 errors / 0.21955757701054374, the reference card's WER."""
REFERENCE_PHONES = {"core": 7215, "dev": 15_057}
"""Phones of the 39 classes, silences not merged (Kaldi's egs/timit/s5/RESULTS, ESPnet's egs2/timit)."""


@dataclass(frozen=True, kw_only=True)
class TimitConfig(PhoneConfig):
    """The LDC93S1 tree."""

    root: str = option("", common=True, place=True)
    """Folder that holds TRAIN and TEST (upper or lower case), or one up to two folders above it."""

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
        self.splits = with_speakers(PROTOCOLS[protocol], speakers_of(self.folders["test"]))
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
            if belongs(utterance.speaker, utterance.sentence_type, split):
                yield utterance

    def readings(self, split: str) -> Iterator[Utterance | CorpusError]:
        """Each sentence of a split that the tree has, or what is wrong with it. How many there should be is not asked:
        what works on sentences one by one, as an alignment, can do with some of them."""
        for region, speaker, sentence, files in self._sentences("train" if split.startswith("train") else "test"):
            if not belongs(speaker.name.upper(), sentence[:2], split):
                continue
            try:
                if missing := _missing(files):
                    raise CorpusError(f"{speaker / sentence}.{missing}: no such file. Copy it from the corpus.")
                yield self._utterance(region, speaker, sentence, files)
            except CorpusError as error:
                yield error

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
        for region, speaker, sentence, files in self._sentences(part):
            if missing := _missing(files):
                incomplete.append(f"{speaker / sentence}.{missing}")
                continue
            with faults.noted("malformed label file", part):
                utterances.append(self._utterance(region, speaker, sentence, files))
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

    def _sentences(self, part: str) -> Iterator[tuple[Path, Path, str, dict[str, Path]]]:
        """(Region, speaker, sentence, its files) of all that "train" or "test" has, in order."""
        for region in subfolders(self.folders[part], r"DR[1-8]"):
            for speaker in subfolders(region, r"[FM][A-Z]{3}\d"):
                for sentence, files in sentences_of(speaker).items():
                    yield region, speaker, sentence, files

    def _utterance(self, region: Path, speaker: Path, sentence: str, files: dict[str, Path]) -> Utterance:
        """A sentence with all its files; CorpusError over one of these."""
        utterance = _utterance(region.name.upper(), speaker.name.upper(), sentence, files)
        return utterance if self.units == "words" else self._of_phones(utterance, files)

    def _of_phones(self, utterance: Utterance, files: dict[str, Path]) -> Utterance:
        """`utterance` with its phones as its text; CorpusError when its .PHN file contradicts itself or the audio."""
        try:
            num_samples = utterance.audio.header.num_frames
        except AudioError:  # it is reported where audio is read
            num_samples = None
        if odd := check_phones(files["PHN"], utterance.phones, num_samples):
            self._odd.append(odd)
        return replace(utterance, text=" ".join(fold([phone.label for phone in utterance.phones], self.units)))


def _missing(files: dict[str, Path]) -> str:
    """The suffix of a file that a sentence lacks; "" where it has all."""
    return next((suffix for suffix in ("WAV", "TXT", "WRD", "PHN") if suffix not in files), "")


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
