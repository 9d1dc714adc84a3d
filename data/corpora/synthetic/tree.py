"""A TIMIT-shaped corpus made on the spot: espeak-ng's voices speak our own sentences into a real TIMIT tree.

    ensure_tree("demo", 0, Path("cache")) -> cache/synthetic-demo-0-v2-espeakng0.2.4/TIMIT
        SYNTHETIC.json
        {TRAIN,TEST}/DR{1..8}/{F|M}xxx#/{SA1,SX3,SI453,...}.{WAV,TXT,WRD,PHN}

WAV is NIST SPHERE, 16 kHz; the times in TXT, WRD and PHN are samples. Who says what is decided in synthetic_plan. The
files are a function of (size, seed), whatever `jobs` is: a fresh child process speaks each speaker (see espeak_child).
What lies under the final name is complete: it is written under another name and renamed last.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import soxr

from data.corpora.synthetic.espeak_phones import align
from data.corpora.synthetic.plan import SIZES, Speaker, plan
from data.corpora.synthetic.sphere import write_sphere
from data.machine.limits import num_cores
from data.randomness import derive_seed
from data.utterance import SAMPLE_RATE, Segment
from trainer.errors import CorpusError

__all__ = ["GENERATOR_VERSION", "ensure_tree", "plan"]

GENERATOR_VERSION = 2
"""Raise it with every change that changes a file: it is part of the folder's name."""

NOISE = 0.0007
"""RMS of the added noise over the utterance's peak (-63 dB), so that silence is not digital zero."""

CHILD = Path(__file__).with_name("espeak_child.py")


def ensure_tree(
    size: str,
    seed: int,
    cache_dir: Path,
    *,
    jobs: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Folder of a TIMIT-shaped corpus of that size ("tiny" | "demo" | "full"), made under cache_dir if need be.

    `jobs` child processes at a time (default: one per core); `progress(done, total)` is called per finished speaker.
    CorpusError where espeakng-loader is missing or a speaker fails.
    """
    if size not in SIZES:
        raise CorpusError(f"no synthetic corpus of size {size!r} (sizes: {', '.join(SIZES)})")
    try:
        package_version = version("espeakng-loader")
    except PackageNotFoundError:
        raise CorpusError(
            'espeakng-loader is not installed; it speaks the synthetic corpus: pip install --editable ".[synthetic]"'
        ) from None
    root = cache_dir / f"synthetic-{size}-{seed}-v{GENERATOR_VERSION}-espeakng{package_version}"
    if not root.is_dir():
        cache_dir.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{root.name}.", dir=cache_dir))
        try:
            (staging / "tree").mkdir()  # with the usual permissions, which mkdtemp does not give
            _generate(size, seed, staging / "tree" / "TIMIT", jobs or num_cores(), progress)
            _publish(staging / "tree", root)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    return root / "TIMIT"


def _publish(tree: Path, root: Path) -> None:
    """Rename `tree` to `root`, unless another process was first: its copy is the same."""
    try:
        tree.rename(root)
    except OSError:
        if not root.is_dir():
            raise


def _generate(size: str, seed: int, folder: Path, jobs: int, progress: Callable[[int, int], None] | None) -> None:
    speakers = plan(size, seed)
    with ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(_make_speaker, speaker, seed, folder) for speaker in speakers]
        try:
            for done, future in enumerate(as_completed(futures), start=1):
                espeak_version = future.result()
                if progress:
                    progress(done, len(speakers))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    splits = {split: [speaker for speaker in speakers if speaker.split == split] for split in ("TRAIN", "TEST")}
    description = {
        "generator_version": GENERATOR_VERSION,
        "size": size,
        "seed": seed,
        "espeak_ng": espeak_version,
        "num_utterances": {split.lower(): sum(len(s.prompts) for s in some) for split, some in splits.items()},
        "num_speakers": {split.lower(): len(some) for split, some in splits.items()},
        "voices": {s.id: {"voice": s.accent, "variant": s.variant, "pitch": s.pitch, "rate": s.rate} for s in speakers},
    }
    (folder / "SYNTHETIC.json").write_text(json.dumps(description, indent=1) + "\n", encoding="ascii")


def _make_speaker(speaker: Speaker, seed: int, folder: Path) -> str:
    """Speak and write one speaker's files; returns espeak-ng's version."""
    espeak_version, spoken = _speak(speaker)
    home = folder / speaker.split / f"DR{speaker.dialect}" / speaker.id
    home.mkdir(parents=True)
    for (name, text), pad_seconds, (audio, events) in zip(speaker.prompts, speaker.pads, spoken, strict=True):
        try:
            words, phones = align(audio, events, text)
        except ValueError as error:
            raise CorpusError(f"synthetic speaker {speaker.id} ({speaker.voice}), {name}: {error}") from None
        pad = round(pad_seconds * SAMPLE_RATE)
        first, last = phones[0].start, phones[-1].end
        samples = _finish(_cut(audio, first - pad, last + pad), speaker.peak, derive_seed(seed, speaker.id, name))
        silences = Segment(first - pad, first, "h#"), Segment(last, last + pad, "h#")
        stem = home / name
        write_sphere(stem.with_suffix(".WAV"), samples, utterance_id=f"{speaker.id}_{name}".lower())
        stem.with_suffix(".TXT").write_text(f"0 {len(samples)} {text}\n", encoding="ascii")
        for suffix, segments in ((".WRD", words), (".PHN", [silences[0], *phones, silences[1]])):
            lines = (f"{s.start - first + pad} {s.end - first + pad} {s.label}\n" for s in segments)
            stem.with_suffix(suffix).write_text("".join(lines), encoding="ascii")
    return espeak_version


def _speak(speaker: Speaker) -> tuple[str, list[tuple[np.ndarray, list[tuple[int, str, int]]]]]:
    """(espeak-ng's version, 16 kHz audio and its phoneme events per prompt) from a child process."""
    texts = [text for _, text in speaker.prompts]
    job = {"voice": speaker.voice, "pitch": speaker.pitch, "rate": speaker.rate, "texts": texts}
    # -P: the child's folder must not shadow the modules that it imports
    child = subprocess.run([sys.executable, "-P", str(CHILD)], input=json.dumps(job).encode(), capture_output=True)
    if child.returncode != 0:
        said = child.stderr.decode(errors="replace").strip()[-500:]
        raise CorpusError(
            f"synthetic speaker {speaker.id} ({speaker.voice}): espeak-ng's process ended with code "
            f"{child.returncode}: {said}"
        )
    header, _, body = child.stdout.partition(b"\n")
    report = json.loads(header)
    audio = np.frombuffer(body, dtype=np.int16)
    ends = np.cumsum([utterance["num_samples"] for utterance in report["utterances"]])
    assert len(audio) == ends[-1], (len(audio), ends[-1])
    ratio = SAMPLE_RATE / report["rate"]
    spoken = []
    for native, utterance in zip(np.split(audio, ends[:-1]), report["utterances"], strict=True):
        resampled = soxr.resample(native.astype(np.float32), report["rate"], SAMPLE_RATE, quality="HQ")
        events = [(round(start * ratio), ipa, position) for start, ipa, position in utterance["events"]]
        spoken.append((np.clip(np.rint(resampled), -32768, 32767).astype(np.int16), events))
    return report["espeak_ng"], spoken


def _cut(audio: np.ndarray, start: int, end: int) -> np.ndarray:
    """`audio[start:end]`, with zeros where that reaches over its ends."""
    return np.pad(audio[max(0, start) : end], (max(0, -start), max(0, end - len(audio))))


def _finish(audio: np.ndarray, peak: float, noise_seed: int) -> np.ndarray:
    """int16 `audio` scaled to `peak` (a fraction of full scale), with white noise NOISE below it."""
    full_scale = peak * 32767
    # The sum of two random bytes less its mean: triangular, with a variance of (256**2 - 1) / 6
    octets = np.frombuffer(random.Random(noise_seed).randbytes(2 * len(audio)), dtype=np.uint8).astype(np.float64)
    noise = (octets.reshape(2, -1).sum(axis=0) - 255) / np.sqrt((256**2 - 1) / 6)
    mixed = audio * (full_scale / max(1, np.abs(audio.astype(np.int32)).max())) + noise * (full_scale * NOISE)
    return np.clip(np.rint(mixed), -32768, 32767).astype(np.int16)
