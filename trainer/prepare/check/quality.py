"""What a check says of the signs of faults in single utterances: where, what, and a remedy. Warnings only."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence

from data.audio.segments import AudioSegment, file_of
from data.chain import Chain
from data.examples.example import Example
from data.faults import Fault
from data.utterance import SAMPLE_RATE, AudioSource
from trainer.signs.find import signs_of
from trainer.signs.groups import Groups
from trainer.signs.measured import Progress, quietly

_LISTEN = "Does the audio hold what the text says? {play}"
_COMPARE = "Listen to both, and leave one out, or both."
_TEXT = "Mend the transcript, or have --corpus.normalizer do it."
REMEDIES = {
    "clipped": "Listen to it, and leave it out where words are hurt: {play}",
    "constant offset": "ffmpeg -i {file} -af highpass=f=20 mended.wav",
    "band limited": "Look for the original; where there is none, score on speech of the same band. To see it: "
    "ffmpeg -i {file} -lavfi showspectrumpic spectrum.png",
    "level": f"Is it speech? ffmpeg -i {{file}} -af loudnorm -ar {SAMPLE_RATE} mended.wav",
    "wrong rate or speed": "Is its rate what the file says? {play}",
    "two transcripts": _COMPARE,
    "recorded twice": _COMPARE,
    "text twice": "Is one of them another text, or a false start? Listen to both.",
    "mojibake": "Read the text in its own encoding, and save the corpus as UTF-8.",
    "no value": "Was it said, or is the text missing? A program may have lost it: {play}",
    "mixed scripts": "Write the word in one script: letters that look alike are different units.",
    "markup": "Take it out, or write what was said: its words are taken for speech.",
    "time stamp": "Take it out, or write it as it was spoken.",
    "address": "Write it as it was spoken, or leave the utterance out.",
    "digits": "Write numbers as they were spoken, as the other transcripts do.",
    "another script": "Is it the corpus' language? Leave it out, or write it in the corpus' script.",
    "case": _TEXT,
    "punctuation": "Was the transcript cut off, or does it come from elsewhere?",
    "rare unit": "Write it as the others would: a unit that is hardly seen is hardly learned.",
    "invisible characters": _TEXT,
    "unbalanced quotes": "Is a part of the transcript missing?",
    "odd spaces": _TEXT,
}
"""What to do about a sign, by its name; where it is not here, listen."""
MANY = "Look at what they have in common: a microphone, a batch, an annotator. Leave them out, or mend them together."


def find_outliers(splits: Mapping[str, Sequence[Example]], progress: Progress = quietly) -> Iterator[Fault]:
    """A warning for each sign, in the order of the splits, then one for each speaker and folder that stands out.

    Every recording is loaded once, and what is usual is learned from all splits together.
    """
    names = [split for split, examples in splits.items() for _ in range(len(examples))]
    groups = Groups()
    for split, (example, signs) in zip(names, signs_of(Chain(list(splits.values())), progress), strict=True):
        u = example.utterance
        groups.add(u, signs)
        for sign in signs:
            remedy = REMEDIES.get(sign.name, _LISTEN).format(file=shlex.quote(file_of(u.audio)), play=play(u.audio))
            sure = "" if sign.certainty == "possible" else f" ({sign.certainty})"
            yield Fault(sign.name, f"{u.origin}: utterance {u.id}: {sign.what}{sure}", remedy, split, u.id, stops=False)
    for standout in groups.standing_out():
        yield Fault(f"one {standout.kind} stands out", standout.describe(), MANY, stops=False)


def play(audio: AudioSource) -> str:
    """The command that plays what the utterance is: a file, or a part of one."""
    options = []
    if isinstance(audio, AudioSegment):
        options += [f"-ss {audio.start:g}"] if audio.start else []
        options += [] if audio.end is None else [f"-t {audio.end - audio.start:g}"]
        options += [] if audio.channel is None else [f"-af 'pan=mono|c0=c{audio.channel}'"]
    return " ".join(["ffplay -autoexit", *options, shlex.quote(file_of(audio))])
