"""What scripts.plant does: training utterances are altered, and the corpus is written as manifests.

plant(corpus, Path("planted"), share=0.03, kinds=DEFAULT_KINDS, seed=0) -> [Planted(id="s1-0007", kind="cut", ...)]
planted/{train,eval,test}.jsonl, planted/audio/s1/train-000007.wav, planted/planted.json
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soxr

from data import strict_json
from data.audio.decode import FileAudio
from data.audio.segments import file_of
from data.audio.wav import as_wav
from data.examples.prepare import read_split
from data.randomness import derive_seed
from data.utterance import SAMPLE_RATE, Corpus, Utterance
from trainer.errors import ConfigError, CorpusError

FILE = "planted.json"


@dataclass(frozen=True)
class Planted:
    """One utterance that was altered."""

    id: str
    kind: str
    text: str
    """The transcript as the corpus has it, which is right."""
    written: str
    """The transcript in the copy."""
    audio: str
    """The audio as the corpus has it."""
    details: dict[str, Any] = field(default_factory=dict)
    """What exactly was done; times in seconds."""


Details = dict[str, Any]
SoundFault = Callable[[np.ndarray, int, random.Random], tuple[np.ndarray, Details]]
"""From float32 (n,) samples and their rate to altered ones, declared to be of the same rate, and what was done."""


def cut(samples: np.ndarray, rate: int, rng: random.Random) -> tuple[np.ndarray, Details]:
    """The beginning or the end is missing, with a fifth to two fifths of the energy: speech, not a silence."""
    energy = np.cumsum(np.square(samples, dtype=np.float64))
    share, at_start = rng.uniform(0.2, 0.4), rng.random() < 0.5
    edge = int(np.searchsorted(energy, energy[-1] * (share if at_start else 1 - share)))
    edge = min(max(edge, rate // 10), len(samples) - rate // 10) if len(samples) > rate else edge
    kept = samples[edge:] if at_start else samples[:edge]
    lost = (len(samples) - len(kept)) / rate
    return kept, {"end": "start" if at_start else "end", "seconds_lost": round(lost, 3)}


def band(samples: np.ndarray, rate: int, rng: random.Random) -> tuple[np.ndarray, Details]:
    """Resampled to half the rate and back: nothing is left above 4 kHz, though the file's rate is 16 kHz."""
    half = min(rate, SAMPLE_RATE) // 2
    back = soxr.resample(soxr.resample(samples, rate, half), half, rate)
    return back[: len(samples)], {"hz": half // 2}


def speed(samples: np.ndarray, rate: int, rng: random.Random) -> tuple[np.ndarray, Details]:
    """Samples of another rate declared to be of 16 kHz: 8 kHz play twice as fast, 32 kHz at half the speed."""
    factor = rng.choice((2.0, 0.5))
    return soxr.resample(samples, rate, rate / factor), {"factor": factor}


def clipped(samples: np.ndarray, rate: int, rng: random.Random) -> tuple[np.ndarray, Details]:
    """So loud that 5 to 15 % of the samples are cut at full scale; then perhaps quieter, up to 6 dB."""
    share, quieter = rng.uniform(0.05, 0.15), rng.choice((0.0, rng.uniform(1, 6)))
    gain = 1 / max(float(np.quantile(np.abs(samples), 1 - share)), 1e-4)
    loud = np.clip(samples * gain, -1, 1) * 10 ** (-quieter / 20)
    return loud.astype(np.float32), {"share": round(share, 3), "db_quieter": round(quieter, 1)}


def silence(samples: np.ndarray, rate: int, rng: random.Random) -> tuple[np.ndarray, Details]:
    """No speech at all: the noise of a microphone that is off, -94 dB, or of a quiet room, -75 dB. Zeros alone are
    refused by every reader, and need no search."""
    level = rng.choice((-94, -75))
    return _noise(len(samples), rng) * np.float32(10 ** (level / 20)), {"level": level}


def noise(samples: np.ndarray, rate: int, rng: random.Random) -> tuple[np.ndarray, Details]:
    """Noise as loud as the speech was, and no speech: white, or brown as of wind and traffic."""
    colour = rng.choice(("white", "brown"))
    made = _noise(len(samples), rng)
    if colour == "brown":
        steps = np.cumsum(made, dtype=np.float64)
        slow = np.convolve(steps, np.full(801, 1 / 801), "same")  # a walk without its slowest part stays in range
        made = (steps - slow).astype(np.float32)
        made /= max(float(made.std()), 1e-9)
    level = max(float(samples.std()), 1e-3)
    return np.clip(made * np.float32(level), -1, 1), {"colour": colour}


def offset(samples: np.ndarray, rate: int, rng: random.Random) -> tuple[np.ndarray, Details]:
    """A constant of one to two standard deviations is added: a faulty sound card."""
    much = rng.uniform(1, 2) * float(samples.std())
    return np.clip(samples + np.float32(much), -1, 1), {"offset": round(much, 4)}


def dropout(samples: np.ndarray, rate: int, rng: random.Random) -> tuple[np.ndarray, Details]:
    """Three stretches of 50 to 150 ms are zeros: lost packets."""
    holes, found = samples.copy(), []
    for _ in range(3):
        long = int(rng.uniform(0.05, 0.15) * rate)
        start = rng.randrange(len(samples) // 10, max(len(samples) // 10 + 1, len(samples) * 9 // 10 - long))
        holes[start : start + long] = 0
        found.append([round(start / rate, 3), round((start + long) / rate, 3)])
    return holes, {"zeros": sorted(found)}


def _noise(count: int, rng: random.Random) -> np.ndarray:
    """float32 (count,), white, with a standard deviation of 1."""
    return np.random.default_rng(rng.getrandbits(63)).standard_normal(count, dtype=np.float32)


SOUND: dict[str, SoundFault] = {
    "cut": cut, "band": band, "speed": speed, "clipped": clipped, "silence": silence, "noise": noise,
    "offset": offset, "dropout": dropout,
}  # fmt: skip
TEXT = ("swapped", "word-lost", "word-added")
"""swapped: the transcripts of utterances of this kind stand each beside the next one's audio; word-lost, word-added: at
the start, in the middle or at the end; a character where the transcript is one word."""
TWICE = "twice"
"""The audio of another training utterance, at another level, beside the own transcript."""
KINDS = (*TEXT, *SOUND, TWICE)
DEFAULT_KINDS = ("swapped", "word-lost", "word-added", "cut", "band", "speed", "clipped", "silence", "noise")


def plant(
    corpus: Corpus, out: Path, *, share: float = 0.03, kinds: Sequence[str] = DEFAULT_KINDS, seed: int = 0
) -> list[Planted]:
    """Write the copy of `corpus` into `out`; what was altered, in the order of the corpus.

    ConfigError for a share, kind or folder that cannot be, CorpusError where the corpus has too few utterances.
    """
    if not 0 <= share <= 0.5:
        raise ConfigError(f"--share {share:g}: give a share from 0 to 0.5; the faults must stay the exception.")
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise ConfigError(f"--kinds {unknown[0]}: the kinds are {', '.join(KINDS)}.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} is there already, and is not empty. Give another folder, or remove it.")
    splits = {"train": corpus.splits.train, "eval": corpus.splits.monitor, "test": corpus.splits.headline}
    if splits["test"] == splits["eval"]:
        del splits["test"]
    read = {name: read_split(corpus, split) for name, split in splits.items()}
    train = list(read["train"])
    chosen = choose(train, share, kinds, random.Random(derive_seed("plant", seed)))
    out.mkdir(parents=True, exist_ok=True)
    planted = []
    for name, utterances in read.items():
        lines = []
        for number, utterance in enumerate(utterances):
            fault = chosen.get(number) if name == "train" else None
            audio, written = None, utterance.text
            if fault is not None:
                kind, text, other = fault
                rng = random.Random(derive_seed("plant", seed, kind, utterance.id))
                audio, written, details = alter(kind, utterance, text, other, rng)
                planted.append(Planted(utterance.id, kind, utterance.text, written, utterance.audio.name, details))
            source = fault[2] or utterance if fault is not None else utterance
            path = _store(out, f"{name}-{number:06d}", utterance, source, audio)
            row = {"id": utterance.id, "audio_filepath": path, "text": written, "speaker": utterance.speaker}
            lines.append(strict_json.dumps({key: value for key, value in row.items() if value is not None}) + "\n")
        (out / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    record = {"share": share, "seed": seed, "kinds": list(kinds), "num_train": len(train),
              "planted": [asdict(fault) for fault in planted]}  # fmt: skip
    (out / FILE).write_text(strict_json.dumps(record) + "\n", encoding="utf-8")
    return planted


Choice = tuple[str, str, Utterance | None]
"""(Kind, transcript to write or to take a word from, utterance whose audio to take)."""


def choose(train: Sequence[Utterance], share: float, kinds: Sequence[str], rng: random.Random) -> dict[int, Choice]:
    """{Number of a training utterance: what is done to it}."""
    wanted = round(share * len(train))
    if not wanted:
        return {}
    order = rng.sample(range(len(train)), len(train))
    numbers, sound = order[:wanted], order[wanted:]
    of_kind: dict[str, list[int]] = {}
    for i, number in enumerate(numbers):
        of_kind.setdefault(kinds[i % len(kinds)], []).append(number)
    if len(of_kind.get("swapped", [])) == 1:
        of_kind["swapped"].append(sound.pop())  # one alone cannot be swapped
    chosen: dict[int, Choice] = {}
    for kind, group in of_kind.items():
        texts = [train[number].text for number in group]
        if kind == "swapped":
            texts = _deranged(texts, rng)
        for number, text in zip(group, texts, strict=True):
            if kind == "word-added":
                text = train[rng.choice(sound)].text
            chosen[number] = kind, text, train[rng.choice(sound)] if kind == TWICE else None
    return chosen


def _deranged(texts: Sequence[str], rng: random.Random) -> list[str]:
    """The same texts, none of them where it was."""
    for _ in range(1000):
        other = rng.sample(list(texts), len(texts))
        if all(a != b for a, b in zip(texts, other, strict=True)):
            return other
    raise CorpusError(f"{len(texts)} transcripts cannot be swapped: too many of them are the same. Raise --share.")


def alter(
    kind: str, utterance: Utterance, text: str, other: Utterance | None, rng: random.Random
) -> tuple[np.ndarray | None, str, Details]:
    """(Samples, or None where the audio stays; transcript; what was done)."""
    if other is not None:
        gain = 10 ** (-rng.uniform(3, 9) / 20)
        return other.audio.mono() * np.float32(gain), utterance.text, {"audio_of": other.id, "gain": round(gain, 3)}
    if kind in SOUND:
        samples, details = SOUND[kind](utterance.audio.mono(), utterance.audio.header.rate, rng)
        return samples, utterance.text, details
    if kind == "swapped":
        return None, text, {}
    own, stop = _without_stop(utterance.text)
    parts, joint = (own.split(), " ") if len(own.split()) > 1 else (list(own), "")
    place = rng.choice(("start", "middle", "end"))
    if kind == "word-lost":
        at = {"start": 0, "middle": rng.randrange(1, max(2, len(parts) - 1)), "end": len(parts) - 1}[place]
        word = parts.pop(min(at, len(parts) - 1))
    else:
        at = {"start": 0, "middle": rng.randrange(1, max(2, len(parts))), "end": len(parts)}[place]
        word = rng.choice(_without_stop(text)[0].split() if joint else list(text))
        parts.insert(at, word)
    written = joint.join(parts)
    if joint and own[:1].isupper() and not own.isupper():
        written = written[:1].upper() + written[1:]
    return None, written + stop, {"place": place, "word": word}


def _without_stop(text: str) -> tuple[str, str]:
    """A transcript, and the punctuation at its end: a sentence that lost a word still ends as the others do."""
    kept = text.rstrip(".,;:!?…。！？।").rstrip()
    return (kept, text[len(kept) :]) if kept else (text, "")


def _store(out: Path, name: str, utterance: Utterance, source: Utterance, samples: np.ndarray | None) -> str:
    """What the manifest names as the utterance's audio: a link to the file of `source`, or a new WAV file of 16 bits.

    Both lie in a folder of the name that the utterance's own has, so that no folder gives the altered ones away.
    """
    folder = Path("audio") / Path(file_of(utterance.audio)).parent.name
    (out / folder).mkdir(parents=True, exist_ok=True)
    if samples is None and isinstance(source.audio, FileAudio):
        link = folder / f"{name}{source.audio.path.suffix}"
        (out / link).symlink_to(source.audio.path.resolve())
        return str(link)
    if samples is None:
        samples = source.audio.mono()  # a part of a file, or a row of a data set
    whole = np.clip(np.rint(samples * 32768), -32768, 32767).astype(np.int16)
    path = folder / f"{name}.wav"
    (out / path).write_bytes(as_wav(whole[:, None], source.audio.header.rate))
    return str(path)
