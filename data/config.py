"""What a corpus, its batches and its augmentation need to know. Plain dataclasses: no torch here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class TextAndAudioConfig:
    """What every corpus has: how its text is normalised and which utterances are kept."""

    normalizer: Literal["plain", "plain-upper", "hf-timit"] = "plain"
    """Transcript normalisation: plain (lower case, punctuation to space, apostrophe kept), plain-upper, or hf-timit."""

    language: str = ""
    """ISO 639 code of the transcripts' language: tr, az and lt have their own rules of case; told in the card."""

    vocabulary: Literal["auto", "new"] = "auto"
    """auto: the checkpoint's own units if every character of the training text has one; new: built from that text."""

    bos_eos: bool = False
    """Add the never-used units <s> and </s> to a new vocabulary, as the Hugging Face CTC example does."""

    on_bad: Literal["error", "drop"] = "error"
    """A bad training utterance stops the run (error) or is left out, counted and named (drop)."""

    max_seconds: float = 30.0
    """Training utterances longer than this count as bad."""

    max_eval_seconds: float = 1800.0
    """An evaluation utterance longer than this is an error, since none is left out; memory must hold it whole."""

    store: bool = True
    """Decode all audio once into a memory-mapped file under --cache-dir; --corpus.no-store decodes on the fly."""


@dataclass(frozen=True, kw_only=True)
class TimitConfig(TextAndAudioConfig):
    """The LDC93S1 tree."""

    root: str = ""
    """Folder that holds TRAIN and TEST (upper or lower case), or its parent."""

    protocol: Literal["hf", "kaldi", "no-sa"] = "kaldi"
    """hf: all 4620/1680 utterances; kaldi: no SA, dev selects, core-192 is the headline; no-sa: 3696/1344."""

    allow_incomplete: bool = False
    """Go on with a warning when files of the corpus are missing."""


@dataclass(frozen=True, kw_only=True)
class SyntheticConfig(TextAndAudioConfig):
    """A TIMIT-shaped tree spoken by espeak-ng, made on the spot."""

    size: Literal["tiny", "demo", "full"] = "demo"
    """tiny: 40/40 utterances, for tests; demo: 1200/240; full: 4620/1680 with TIMIT's lengths."""

    seed: int = 0
    """Which corpus: sentences, speakers and voices follow from it."""

    protocol: Literal["hf", "kaldi", "no-sa"] = "no-sa"
    """As for TIMIT."""


@dataclass(frozen=True, kw_only=True)
class ManifestConfig(TextAndAudioConfig):
    """Your own corpus: JSON lines (.jsonl, .json), .csv or .tsv with audio_filepath, text, start, end, ..."""

    train: str = ""
    """Manifest of the training split."""

    eval: str = ""
    """Manifest of the evaluation split."""

    text_field: str = "text"
    """Column that holds the transcript; if there is no "text": sentence, transcript or the like, where one fits."""

    audio_field: str = "audio_filepath"
    """Column of the audio file's path, relative to the manifest; the default also finds path, file, wav, ..."""


@dataclass(frozen=True, kw_only=True)
class HubConfig(TextAndAudioConfig):
    """A data set of the `datasets` library, from the hub or from `save_to_disk`."""

    dataset: str = ""
    """Hub id, a local clone of one, or a folder written by save_to_disk."""

    subset: str | None = None
    """The hub data set's configuration name."""

    revision: str | None = None
    """Branch, tag or commit of the hub data set."""

    train_split: str = "train"
    """Split to train on; slices and sums such as train[:1000] and train+validation work."""

    eval_split: str = "test"
    """Split to evaluate on."""

    text_field: str = "text"
    """Column that holds the transcript; if there is no "text": sentence, transcription or the like."""

    audio_field: str = "audio"
    """Column that holds the audio: bytes, paths, or arrays with their sampling_rate."""

    id_field: str | None = None
    """Column that holds a unique id; None: split name and row number."""

    speaker_field: str | None = None
    """Column that holds the speaker; None: one named speaker, client_id or the like, if there is one."""


CorpusConfig = TimitConfig | SyntheticConfig | ManifestConfig | HubConfig


@dataclass(frozen=True, kw_only=True)
class BatchingConfig:
    """How utterances become batches."""

    batch_size: int | None = 32
    """Utterances per microbatch at most; None: no limit but max_batch_seconds."""

    max_batch_seconds: float | None = None
    """Padded audio seconds per microbatch at most; lower it first when memory runs out."""

    worker_timeout: float = 600.0
    """Seconds without a batch after which a loader worker counts as hung."""

    num_workers: int | None = None
    """Processes that load and collate, 0: the training process itself; None: 2 with CUDA, else 0. Changes no result."""


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Waveform augmentation of training utterances."""

    speeds: tuple[float, ...] = ()
    """Speed factors, one drawn per utterance and epoch, by resampling (Ko et al. 2015); () leaves speech as it is."""
