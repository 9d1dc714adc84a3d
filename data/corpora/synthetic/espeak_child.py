"""Speak one speaker's texts with espeak-ng: a program of its own, run once per speaker by data.corpora.synthetic.tree.

    stdin   {"voice": "en-us+f2", "pitch": 50, "rate": 175, "texts": ["Hello.", ...]}
    stdout  one JSON line, {"espeak_ng": "1.52.0", "rate": 22050, "utterances": [{"num_samples": n,
            "events": [[start, ipa, position], ...]}, ...]}, then every utterance's audio in turn, int16, mono

`rate` is in words a minute on the way in and samples a second on the way out, `start` in samples, `ipa` the phoneme as
this voice speaks it, without stress mark (empty: a pause, or a glide that IPA does not write), and `position` the index
in the text of the word's first character. A child per speaker because espeak-ng's samples depend on what the process
spoke before, and because a GPL-3.0 library then never loads into ours.
It imports neither the project nor numpy (0.13 s), so that it starts fast.
"""

import ctypes
import json
import sys
from typing import Any

import espeakng_loader

VOLUME = 25
"""espeak-ng's volume; at its default of 100 the louder variants clip."""

# From espeak-ng's speak_lib.h.
OUTPUT_SYNCHRONOUS, IPA_PHONEME_EVENTS, CHARS_UTF8, POS_CHARACTER = 2, 3, 1, 1
PARAMETER_RATE, PARAMETER_VOLUME, PARAMETER_PITCH = 1, 2, 3
EVENT_LIST_TERMINATED, EVENT_PHONEME = 0, 7
STRESS_MARKS = "ˈˌ"


class Event(ctypes.Structure):
    """espeak_EVENT; the closing union is read as its 8 characters, which need not end in NUL."""

    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("string", ctypes.c_char * 8),
    ]


Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(Event))


class Synthesizer:
    """One voice of one loaded espeak-ng; `say` depends on everything said before."""

    def __init__(self, voice: str, pitch: int, rate: int) -> None:
        self.espeak = ctypes.CDLL(espeakng_loader.get_library_path())
        self.espeak.espeak_Info.restype = ctypes.c_char_p
        data = espeakng_loader.get_data_path().encode()
        self.rate = self.espeak.espeak_Initialize(OUTPUT_SYNCHRONOUS, 0, data, IPA_PHONEME_EVENTS)
        if self.rate <= 0:
            raise RuntimeError(f"espeak-ng could not be initialised (status {self.rate})")
        # Some variants are breathy, and espeak-ng seeds that noise from the clock
        self.espeak.espeak_ng_SetRandSeed(ctypes.c_long(1))
        self.chunks: list[bytes] = []
        self.phonemes: list[tuple[int, bytes, int]] = []
        self.callback = Callback(self._receive)  # kept: ctypes does not hold what C holds
        self.espeak.espeak_SetSynthCallback(self.callback)
        _check(self.espeak.espeak_SetVoiceByName(voice.encode()), f"voice {voice}")
        for parameter, value in ((PARAMETER_RATE, rate), (PARAMETER_VOLUME, VOLUME), (PARAMETER_PITCH, pitch)):
            _check(self.espeak.espeak_SetParameter(parameter, value, 0), f"parameter {parameter}={value}")

    def version(self) -> str:
        return str(self.espeak.espeak_Info(None).decode())

    def say(self, text: str) -> tuple[bytes, list[tuple[int, str, int]]]:
        """Audio (int16) and phoneme events of one text."""
        self.chunks, self.phonemes = [], []
        encoded = text.encode()
        _check(
            self.espeak.espeak_Synth(encoded, len(encoded) + 1, 0, POS_CHARACTER, 0, CHARS_UTF8, None, None),
            f"text {text!r}",
        )
        events = [(start, ipa.decode().lstrip(STRESS_MARKS), position) for start, ipa, position in self.phonemes]
        return b"".join(self.chunks), events

    def _receive(self, wave: int | None, num_samples: int, events: Any) -> int:
        """Called by espeak-ng while it speaks. An exception raised here would be lost, so nothing is decoded yet."""
        if wave and num_samples > 0:
            self.chunks.append(ctypes.string_at(wave, 2 * num_samples))
        index = 0
        while (event := events[index]).type != EVENT_LIST_TERMINATED:
            if event.type == EVENT_PHONEME:
                self.phonemes.append((event.sample, event.string, event.text_position - 1))
            index += 1
        return 0


def _check(status: int, what: str) -> None:
    if status != 0:
        raise RuntimeError(f"espeak-ng refused {what} (status {status})")


def main() -> None:
    job = json.load(sys.stdin)
    texts = job.pop("texts")
    synthesizer = Synthesizer(**job)
    spoken = [synthesizer.say(text) for text in texts]
    utterances = [{"num_samples": len(audio) // 2, "events": events} for audio, events in spoken]
    header = {"espeak_ng": synthesizer.version(), "rate": synthesizer.rate, "utterances": utterances}
    sys.stdout.buffer.write(json.dumps(header).encode() + b"\n")
    sys.stdout.buffer.write(b"".join(audio for audio, _ in spoken))


if __name__ == "__main__":
    main()
