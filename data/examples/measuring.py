"""What the recordings of a split are, by their headers: how long, readable or not, in which rates and channels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from data.chain import Chain
from data.examples.drops import MISSING, name_some
from data.utterance import SAMPLE_RATE, Utterance
from data.utterance_table import UtteranceTable
from trainer.errors import AudioError


def why_unreadable(utterance: Utterance) -> str:
    """The reason that is counted for an utterance without readable audio: missing, or unreadable."""
    try:
        utterance.audio.identity  # noqa: B018  raises when there is no such file
    except AudioError:
        return MISSING
    return "unreadable"


def measure(utterances: Sequence[Utterance]) -> tuple[np.ndarray, dict[int, AudioError]]:
    """int64 (n,): samples at 16 kHz of each utterance, 0 where it cannot be read; and, by position, why not.

    From the headers, or from a table, which knows them.
    """
    if isinstance(utterances, UtteranceTable):
        return utterances.num_samples(), utterances.errors()
    lengths, errors = np.zeros(len(utterances), np.int64), dict[int, AudioError]()

    def measure_some(first: int) -> None:
        for i in range(first, min(first + _MEASURED_AT_ONCE, len(utterances))):
            try:
                lengths[i] = utterances[i].audio.num_samples
            except AudioError as error:
                errors[i] = error

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(measure_some, range(0, len(utterances), _MEASURED_AT_ONCE)))
    return lengths, dict(sorted(errors.items()))


_MEASURED_AT_ONCE = 16


def describe_conversions(utterances: Sequence[Utterance]) -> str:
    """How many files are resampled, downmixed, or not quite as they should be, in one line; empty when none is."""
    rates: Counter[int] = Counter()
    num_downmixed, longest = 0, 0.0
    short: list[str] = []
    remarks: dict[str, list[str]] = {}
    for table in utterances.parts if isinstance(utterances, Chain) else [utterances]:
        known = table.headers() if isinstance(table, UtteranceTable) else None
        for header, count in known or ():
            rates[header.rate] += count
            num_downmixed += count * (header.num_channels > 1)
        for utterance in table if known is None else ():
            try:
                header = utterance.audio.header
            except AudioError:
                continue
            rates[header.rate] += 1
            num_downmixed += header.num_channels > 1
            if header.num_missing:
                short.append(utterance.id)
                longest = max(longest, header.num_missing / header.rate)
            if header.remark:
                remarks.setdefault(header.remark, []).append(utterance.id)
    resampled = {rate: count for rate, count in sorted(rates.items()) if rate != SAMPLE_RATE}
    parts = []
    if resampled:
        by_rate = ", ".join(f"{count} from {rate} Hz" for rate, count in resampled.items())
        parts.append(f"{sum(resampled.values())} of {len(utterances)} files are resampled to 16 kHz ({by_rate})")
    if num_downmixed:
        parts.append(f"{num_downmixed} are downmixed to mono")
    if short:
        parts.append(
            f"{len(short)} of {len(utterances)} files are shorter than they say, by {longest:.3f} s at most "
            f"({name_some(short)})"
        )
    parts += [f"{len(ids)} of {len(utterances)} files: {remark} ({name_some(ids)})" for remark, ids in remarks.items()]
    return "; ".join(parts)
