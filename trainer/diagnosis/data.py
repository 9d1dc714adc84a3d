"""Causes in the data: transcripts beside their audio, audio of another rate."""

from __future__ import annotations

from data.plural import counted
from trainer.diagnosis.evidence import Evidence
from trainer.diagnosis.finding import Finding
from trainer.diagnosis.symptoms import is_stuck

ENOUGH = 30
"""Utterances, for a correlation between lengths to mean something."""
SPREAD = 0.15
"""Standard deviation of log lengths: with less, all are about as long and tell nothing."""
FITS, FITS_NOT = 0.5, 0.25
"""Rank correlations: longer recordings have longer transcripts, and chance gives 0."""
MUCH_BETTER = 0.6
"""Errors or loss against a neighbour's transcript, over those against the own one: no chance makes it so much lower."""
NARROW = 4300.0
"""Hz: above this a recording of 8 kHz is empty, after resampling too."""
WIDE = 5500.0
TOO_FAST = 30.0
"""Characters a second. English is read at 12 to 18."""
FAR_FROM_USEFUL = 0.5

PAIR = "pair each line with its own file again; TensorBoard's tabs Audio and Text show whether a few belong together."


def shifted(e: Evidence) -> Finding | None:
    """Transcripts belong to other recordings: by lengths, by a checkpoint's own loss, or by what the model writes."""
    return _shifted_in_evaluation(e) or _by_loss(e) or _by_lengths(e)


def _shifted_in_evaluation(e: Evidence) -> Finding | None:
    w = e.written
    if w is None or w.num_utterances < ENOUGH // 3 or not w.shift or w.own_rate < FAR_FROM_USEFUL:
        return None
    if w.shifted_rate > MUCH_BETTER * w.own_rate:
        return None
    return Finding(
        "transcripts beside their audio", "certain",
        "The evaluation's transcripts belong to other recordings.",
        f"What the model writes has {100 * w.own_rate:.0f} % character errors against the transcripts of the same "
        f"utterances, and {100 * w.shifted_rate:.0f} % against those {_places(w.shift)} ({w.num_utterances} "
        "utterances).",
        PAIR,
    )  # fmt: skip


def _by_loss(e: Evidence) -> Finding | None:
    f = e.facts
    if f.own_loss is None or not f.other_losses:
        return None
    shift = min(f.other_losses, key=f.other_losses.__getitem__)
    if f.other_losses[shift] > MUCH_BETTER * f.own_loss:
        return None
    return Finding(
        "transcripts beside their audio", "certain", "The training transcripts belong to other recordings.",
        f"Before training, the checkpoint's loss is {f.own_loss:.2f} nats per unit against the utterances' own "
        f"transcripts, and {f.other_losses[shift]:.2f} against those {_places(shift)}.",
        PAIR,
    )  # fmt: skip


def _by_lengths(e: Evidence) -> Finding | None:
    f = e.facts
    if f.num_utterances < ENOUGH or f.length_spread < SPREAD or 0 not in f.length_correlation:
        return None
    own = f.length_correlation[0]
    if own >= FITS_NOT:
        return None
    shift = max(f.length_correlation, key=f.length_correlation.__getitem__)
    best = f.length_correlation[shift]
    if shift and best >= FITS and best - own >= FITS:
        return Finding(
            "transcripts beside their audio", "certain",
            "The training transcripts belong to other recordings.",
            f"The lengths of recordings and of their transcripts have a rank correlation of {own:.2f}; with the "
            f"transcripts {_places(shift)} it is {best:.2f} ({f.num_utterances} utterances).",
            PAIR,
        )  # fmt: skip
    stuck = is_stuck(e)
    if stuck is None:
        return None
    return Finding(
        "transcripts beside their audio", "likely",
        "The training transcripts seem to be shuffled against the recordings.",
        f"Longer recordings do not have longer transcripts: the rank correlation of their lengths is {own:.2f} "
        f"({f.num_utterances} utterances). {stuck}",
        PAIR,
    )  # fmt: skip


def _places(shift: int) -> str:
    """
    >>> _places(1), _places(-2)
    ('1 row further on', '2 rows before')
    """
    rows = counted(abs(shift), "row")
    return f"{rows} further on" if shift > 0 else f"{rows} before"


def wrong_rate(e: Evidence) -> Finding | None:
    """Half of the band is empty in training or in evaluation alone; or speech that is far too fast in a stuck run."""
    f = e.facts
    bands = {split: band for split, band in f.bands.items() if band > 0}
    narrow = [split for split, band in bands.items() if band < NARROW]
    wide = [split for split, band in bands.items() if band > WIDE]
    if narrow:
        told = " and ".join(f"{split} at {bands[split]:.0f} Hz" for split in narrow)
        said = f"The spectrum ends in {told}, though the files' rate holds 8000 Hz"
        origin = "Such speech was recorded at 8 kHz, over a telephone perhaps, and resampled."
        if wide:
            others = " and ".join(f"in {split} at {bands[split]:.0f} Hz" for split in wide)
            return Finding(
                "audio at the wrong rate", "likely", "Training and evaluation hear different bands.",
                f"{said}; {others}. {origin}",
                "look for the originals; where there are none, bring the other splits to 8 kHz as well "
                "(ffmpeg -i IN -ar 8000 OUT.wav).",
            )  # fmt: skip
        if f.is_pretrained and (stuck := is_stuck(e)):
            return Finding(
                "audio at the wrong rate", "possible",
                "The upper half of the spectrum, which the checkpoint knows, is empty.",
                f"{said}. {origin} {stuck}",
                "a checkpoint that was trained on telephone speech (--model.pretrained), or "
                "--model.no-freeze-feature-encoder.",
            )  # fmt: skip
    if f.units_per_second is not None and f.units_per_second > TOO_FAST and (stuck := is_stuck(e)):
        return Finding(
            "audio at the wrong rate", "possible", "The speech is faster than anybody speaks.",
            f"The median utterance has {f.units_per_second:.0f} units a second; read English has 12 to 18. {stuck}",
            "listen to a few files: a header that names a higher rate than the recording's plays it too fast.",
        )  # fmt: skip
    return None
