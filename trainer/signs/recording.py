"""Signs of a recording: in itself, as cut peaks, and beside what is usual in its corpus and for its speaker.

The limits are wide: a sound corpus shows none or few, and what is named is worth listening to. Music and a second
speaker cannot be told from speech by these measures; that takes a model.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from data.utterance import SAMPLE_RATE
from trainer.signs.pace import ENOUGH_UNITS, Pace, by_speaker
from trainer.signs.sign import Certainty, Sign

FLAT_TOPS_PER_SECOND, SHARE_AT_LIMIT = 1.0, 0.005
"""Cut peaks: speech that was not cut has no flat top, or one by chance; of its samples fewer than one in ten thousand
reach full scale. From here on it is heard."""
MIN_FLAT_TOPS = 3
CROWDED, TIMES_CROWDED = 0.03, 5.0
"""Cut peaks that were rounded later: the samples near the loudest, and how many times as many as is usual."""
MAX_OFFSET = 0.5
"""Standard deviations: an offset of half of one is a fifth of the power by which an utterance is normalised."""
MAX_LEVEL_DIFFERENCE = 20.0
"""dB from the median: a factor of ten. Speakers and rooms of one corpus differ by some 10 dB."""
MIN_LEVEL = -60.0
"""dB of full scale: speech at this level has about five bits."""
MIN_BAND = 0.7
"""Of what the file's own rate can hold. Speech of 8 kHz resampled to 16 kHz fills half of it, of 11 kHz two thirds."""
NO_MODULATION, LITTLE_MODULATION = 3.0, 6.0
"""dB: noise has 1.5 and less, speech in clear conditions 15 and more, a noisy recording 8."""
SILENT = -50.0
"""dB of full scale: what has no speech and is quieter is called silence, else noise."""
NO_VOICE = 65.0
"""Hz: noise without highs is taken for a voice as low as this."""
ONE_WORD = 1.0
"""Seconds: a shorter recording may be a single vowel, as steady as noise, and as crowded as speech that was clipped."""
MIN_SECONDS = 0.3
"""For what is seen at the ends."""
AT_SPEECH = -16.0
"""dB of the first or last 20 ms below the loudest: speech is going on there."""
ABOVE_USUAL = 8.0
"""dB by which an end is louder than nineteen of twenty in the corpus."""
LONG_SILENCE, TIMES_USUAL = 1.5, 3.0
"""Seconds at an end, and how many times as long as nineteen of twenty in the corpus."""
MIN_HOLE = 0.02
"""Seconds of zeros: a packet of audio is 20 ms."""
RARE = 0.05
"""Share of the corpus: what more recordings show is how it was made."""
ENOUGH = 20
"""Utterances from which on what is usual means something."""
MIN_PITCH_RATIO, MAX_PITCH_RATIO, MIN_PACE_RATIO = 1.45, 2.6, 1.45
"""Voice and pace, both in the same direction: nobody speaks so much faster and higher than usual at once. A voice that
seems still higher was mistaken."""
OWN_VOICE = 4
"""Recordings of a speaker from which on their median pitch is known."""


class Usual:
    """What is usual in a corpus: medians and quantiles of `rows` (trainer.signs.measured.ROW)."""

    def __init__(self, rows: np.ndarray, speakers: np.ndarray) -> None:
        """speakers, int (n,): a number for each; negative where it is not known."""
        sound = rows[rows["is_measured"]]
        self.is_known = len(sound) >= ENOUGH
        if not self.is_known:
            return
        self.level = float(np.median(sound["level"]))
        self.fullness = float(np.median(sound["band"] / _half_rate(sound)))
        self.crowding = float(np.median(sound["crowding"]))
        self.ends = tuple(float(np.quantile(sound[name], 0.95)) for name in ("start_level", "end_level"))
        self.silences = tuple(float(np.quantile(sound[name], 0.95)) for name in ("lead", "trail"))
        self.share_with_holes = float(np.mean(sound["hole"] >= MIN_HOLE))
        self.pitch = float(np.nanmedian(sound["pitch"])) if np.any(np.isfinite(sound["pitch"])) else math.nan
        self.pitches = _of_speakers(rows["pitch"], speakers)


def _of_speakers(values: np.ndarray, speakers: np.ndarray) -> dict[int, float]:
    """{Speaker: median}, of those with OWN_VOICE values that are numbers."""
    kept = np.flatnonzero(np.isfinite(values) & (values > 0))
    groups = by_speaker(speakers[kept])
    return {speaker: float(np.median(values[kept[g]])) for speaker, g in groups if len(g) >= OWN_VOICE}


def _half_rate(rows: np.ndarray | np.void) -> np.ndarray:
    """Hz that a file's own rate can hold."""
    return np.minimum(rows["rate"], SAMPLE_RATE) / 2


def recording_signs(row: np.void, speaker: int, usual: Usual, pace: Pace, i: int) -> Iterator[Sign]:
    """Signs of the recording that `row` measures; i: its number in `pace`."""
    if not row["is_measured"]:
        return
    is_speech = _is_speech(row)
    if not is_speech:
        yield _no_speech(row)
    yield from _in_itself(row, usual, is_speech)
    if not usual.is_known:
        return
    if is_speech:
        yield from _ends(row, usual)
        if row["hole"] >= MIN_HOLE and usual.share_with_holes <= RARE:
            start, hole = float(row["hole_start"]), float(row["hole"])
            certainty: Certainty = "likely" if usual.share_with_holes <= RARE / 5 else "possible"
            yield Sign("drop-out", f"{1000 * hole:.0f} ms of zeros within speech", certainty, start, start + hole)
        yield from _pace(row, speaker, usual, pace, i)


def _is_speech(row: np.void) -> bool:
    """False for what is as steady as noise: beyond doubt, or without a voice."""
    if row["seconds"] >= ONE_WORD and row["modulation"] < NO_MODULATION:
        return False
    return bool(row["modulation"] >= LITTLE_MODULATION or row["pitch"] > NO_VOICE)


def _no_speech(row: np.void) -> Sign:
    name = "silence" if row["level"] < SILENT else "noise"
    what = f"its loudness varies by {row['modulation']:.1f} dB, speech by 15 and more; {row['level']:.0f} dB"
    is_certain = row["seconds"] >= ONE_WORD and row["modulation"] < NO_MODULATION
    return Sign(name, f"{what} of full scale", "certain" if is_certain else "likely")


def _in_itself(row: np.void, usual: Usual, is_speech: bool) -> Iterator[Sign]:
    tops, share = int(row["num_flat_tops"]), float(row["share_at_limit"])
    if tops >= max(MIN_FLAT_TOPS, FLAT_TOPS_PER_SECOND * row["seconds"]) or share >= SHARE_AT_LIMIT:
        yield Sign("clipped", f"{tops} peaks are cut flat, {100 * share:.1f} % of samples at full scale", "likely")
    elif (
        usual.is_known
        and (is_speech and row["seconds"] >= ONE_WORD)
        and row["crowding"] >= max(CROWDED, TIMES_CROWDED * usual.crowding)
    ):
        what = (
            f"{100 * row['crowding']:.1f} % of samples are nearly as loud as the loudest, {100 * usual.crowding:.1f} %"
        )
        yield Sign("clipped", f"{what} is usual: cut flat before its rate or volume was changed", "likely")
    if abs(row["offset"]) > MAX_OFFSET:
        yield Sign("constant offset", f"its mean is {row['offset']:.2g} standard deviations from zero", "likely")
    half = float(_half_rate(row))
    if is_speech and row["band"] < MIN_BAND * half:
        is_odd = usual.is_known and usual.fullness >= MIN_BAND
        what = f"nothing above {row['band']:.0f} Hz, though its rate holds {half:.0f} Hz"
        yield Sign("band limited", what, "likely" if is_odd else "possible")
    level = float(row["level"])
    is_far = usual.is_known and abs(level - usual.level) > MAX_LEVEL_DIFFERENCE
    if is_far or level < MIN_LEVEL:
        others = f", the median of all is {usual.level:.0f}" if usual.is_known else ""
        yield Sign("level", f"its level is {level:.0f} dB of full scale{others}", "possible")


def _ends(row: np.void, usual: Usual) -> Iterator[Sign]:
    seconds = float(row["seconds"])
    if seconds < MIN_SECONDS:
        return
    for i, end in enumerate(("start", "end")):
        level, silence = float(row[f"{end}_level"]), float(row[("lead", "trail")[i]])
        at = (0.0, 0.02) if end == "start" else (seconds - 0.02, seconds)
        if level > AT_SPEECH and level > usual.ends[i] + ABOVE_USUAL:
            what = f"its {('first', 'last')[i]} 20 ms are {level:+.0f} dB beside its loudest speech"
            yield Sign(f"cut off at the {end}", f"{what}; below {usual.ends[i]:.0f} dB is usual", "likely", *at)
        if silence > max(LONG_SILENCE, TIMES_USUAL * usual.silences[i]):
            at = (0.0, silence) if end == "start" else (seconds - silence, seconds)
            what = f"{silence:.1f} s without speech; up to {usual.silences[i]:.1f} s are usual"
            yield Sign(f"long silence at the {end}", what, "possible", *at)


def _pace(row: np.void, speaker: int, usual: Usual, pace: Pace, i: int) -> Iterator[Sign]:
    ratio = float(pace.ratios[i])
    known = usual.pitches.get(speaker, usual.pitch)
    pitch_ratio = float(row["pitch"]) / known
    for direction, name in ((1, "fast"), (-1, "slow")):
        if (
            row["units"] >= ENOUGH_UNITS
            and ratio**direction >= MIN_PACE_RATIO
            and MIN_PITCH_RATIO <= pitch_ratio**direction <= MAX_PITCH_RATIO
        ):
            whose = "their own" if speaker in usual.pitches else "the usual one"
            what = f"{ratio:.1f} times the usual pace, the voice {pitch_ratio:.1f} times as high as {whose}"
            yield Sign("wrong rate or speed", f"{what}: played too {name}", "likely")
            return
    yield from pace.signs(i)
