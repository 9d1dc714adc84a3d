"""Recordings that stand out from a corpus: cut peaks, an offset, level, length, an empty upper band. Warnings only.

The limits are wide: a sound corpus has none or few, and what is named is worth listening to.
"""

from __future__ import annotations

import shlex
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from data.audio.quality import Quality, measure_quality
from data.examples import Example
from data.faults import Fault
from data.utterance import SAMPLE_RATE
from trainer.errors import AudioError

FLAT_TOPS_PER_SECOND, SHARE_AT_LIMIT = 1.0, 0.005
"""Cut peaks: speech that was not cut has no flat top, or one by chance; of its samples fewer than one in ten thousand
reach full scale. From here on it is heard."""
MIN_FLAT_TOPS = 3
MAX_OFFSET = 0.5
"""Standard deviations: an offset of half of one is a fifth of the power by which an utterance is normalised."""
MAX_LEVEL_DIFFERENCE = 20.0
"""dB from the median: a factor of ten. Speakers and rooms of one corpus differ by some 10 dB."""
MIN_LEVEL = -60.0
"""dB of full scale: speech at this level has about five bits."""
MIN_BAND = 0.7
"""Of what the file's own rate can hold. Speech of 8 kHz resampled to 16 kHz fills half of it, of 11 kHz two thirds."""
MAX_RATE_RATIO = 3.0
"""Of the median of units a second: nobody speaks three times as fast; the audio is cut, or the text is another's."""
MAX_SURPLUS_SECONDS, MIN_RATE_RATIO = 10.0, 0.25
"""More audio than the text takes at a quarter of the median rate, and by ten seconds: most speech has no text."""
ENOUGH = 20
"""Utterances from which on a median means something."""


def find_outliers(
    splits: Mapping[str, Sequence[Example]], progress: Callable[[Sequence, int], Iterable] = lambda items, total: items
) -> Iterator[Fault]:
    """A warning for each thing that stands out, in the order of the splits. Every sample is looked at once."""
    examples = [(split, e) for split, of_split in splits.items() for e in of_split if e.num_samples > 0]
    measured: list[tuple[str, Example, Quality]] = []
    for split, example in progress(examples, len(examples)):
        try:
            measured.append((split, example, measure_quality(example.load())))
        except AudioError:  # decoded on the fly: what cannot be is a fault already
            continue
    rates = [_rate(e) for _, e, _ in measured if e.targets]
    level = statistics.median(q.level for _, _, q in measured) if len(measured) >= ENOUGH else None
    rate = statistics.median(rates) if len(rates) >= ENOUGH else None
    for split, example, quality in measured:
        found = [*_in_itself(example, quality), *_among_others(example, quality, level, rate)]
        u = example.utterance
        for reason, what, remedy in found:
            yield Fault(reason, f"{u.origin}: utterance {u.id}: {what}", remedy, split, u.id, stops=False)


def _rate(example: Example) -> float:
    """Units a second."""
    return len(example.targets) * SAMPLE_RATE / example.num_samples


def _in_itself(example: Example, quality: Quality) -> Iterator[tuple[str, str, str]]:
    """(Reason, what, remedy) of what is wrong whatever the others are."""
    name, seconds = shlex.quote(example.utterance.audio.name), example.num_samples / SAMPLE_RATE
    many = quality.num_flat_tops >= max(MIN_FLAT_TOPS, FLAT_TOPS_PER_SECOND * seconds)
    if many or quality.share_at_limit >= SHARE_AT_LIMIT:
        share = 100 * quality.share_at_limit
        yield (
            "clipped",
            f"{quality.num_flat_tops} peaks are cut flat, {share:.1f} % of samples at full scale",
            f"Listen to it, and leave it out where words are hurt: ffplay -autoexit {name}",
        )
    if abs(quality.offset) > MAX_OFFSET:
        what = f"its mean is {quality.offset:.2g} standard deviations from zero"
        yield "constant offset", what, f"ffmpeg -i {name} -af highpass=f=20 mended.wav"
    limit = min(example.utterance.audio.header.rate, SAMPLE_RATE) / 2
    if quality.band < MIN_BAND * limit:
        yield (
            "band limited",
            f"nothing above {quality.band:.0f} Hz, though its rate holds {limit:.0f} Hz",
            "Look for the original; where there is none, score on speech of the same band. To see it: "
            f"ffmpeg -i {name} -lavfi showspectrumpic spectrum.png",
        )


def _among_others(
    example: Example, quality: Quality, level: float | None, rate: float | None
) -> Iterator[tuple[str, str, str]]:
    """(Reason, what, remedy) of what is unlike the median of all."""
    name, seconds = shlex.quote(example.utterance.audio.name), example.num_samples / SAMPLE_RATE
    is_far = level is not None and abs(quality.level - level) > MAX_LEVEL_DIFFERENCE
    if is_far or quality.level < MIN_LEVEL:
        others = "" if level is None else f", the median of all is {level:.0f}"
        what = f"its level is {quality.level:.0f} dB of full scale{others}"
        yield "level", what, f"Is it speech? ffmpeg -i {name} -af loudnorm -ar {SAMPLE_RATE} mended.wav"
    if rate is None:
        return
    units, own = len(example.targets), _rate(example)
    listen = f"Does the audio hold what the text says? ffplay -autoexit {name}"
    if own > MAX_RATE_RATIO * rate:
        yield "too fast", f"{units} units in {seconds:.1f} s, the median is {rate:.1f} a second", listen
    elif own < MIN_RATE_RATIO * rate and seconds - units / rate > MAX_SURPLUS_SECONDS:
        yield "too slow", f"{units} units in {seconds:.1f} s, the median is {rate:.1f} a second", listen
