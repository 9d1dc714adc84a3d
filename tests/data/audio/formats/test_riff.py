"""data.audio.formats.riff: a plain WAV's header is what libsndfile makes of it, without asking libsndfile.

pytest tests/data/audio/formats/test_riff.py
"""

from __future__ import annotations

import io
from unittest import mock

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from data.audio.decode import read_header
from data.audio.formats import riff
from data.utterance import AudioHeader
from tests.helpers.audio import encoded
from tests.helpers.fuzz import inputs, mutated
from trainer.errors import AudioError

WIDTHS = ["PCM_U8", "PCM_16", "PCM_24", "PCM_32"]


def wav(subtype: str, channels: int, num_frames: int = 40) -> bytes:
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (num_frames, channels))
    return encoded(samples, "WAV", subtype)


PLAIN = [wav(subtype, channels) for subtype in WIDTHS for channels in (1, 2, 3)]
LISTED = [content[:36] + b"LIST\x1a\0\0\0INFOISFT\x0e\0\0\0Lavf59.27.100\0" + content[36:] for content in PLAIN[:4]]
"""As ffmpeg writes them."""
ODD = [encoded(np.full(40, 0.1), "WAV", subtype) for subtype in ("FLOAT", "ULAW", "IMA_ADPCM")]
FIELDS = [b"data", b"fmt ", b"LIST", b"\1\0", b"\2\0", b"\xfe\xff", b"\x10\0\0\0", b"\x12\0\0\0", b"\0\0\0\0", b""]


@pytest.mark.parametrize("subtype", WIDTHS)
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_a_plain_header_is_libsndfiles(subtype: str, channels: int) -> None:
    content = wav(subtype, channels, 123)
    with soundfile.SoundFile(io.BytesIO(content)) as sound:
        expected = AudioHeader(sound.samplerate, sound.channels, sound.frames, sound.subtype == "PCM_16")
    with mock.patch.object(riff, "_open", side_effect=AssertionError("libsndfile was asked")):
        assert read_header(io.BytesIO(content), "a") == expected


@pytest.mark.parametrize("content", [*ODD, *LISTED])
def test_libsndfile_is_asked_of_other_codings_and_of_files_with_other_chunks(content: bytes) -> None:
    with mock.patch.object(riff, "_open", side_effect=AudioError("asked")), pytest.raises(AudioError, match="asked"):
        read_header(io.BytesIO(content), "a")


def outcome(content: bytes) -> AudioHeader | None:
    try:
        return read_header(io.BytesIO(content), "a")
    except AudioError:
        return None


@pytest.mark.parametrize("number", [400, pytest.param(10_000, marks=pytest.mark.slow)])
def test_a_damaged_header_is_read_or_refused_as_with_libsndfile(number: int) -> None:
    plain_ones = 0

    @inputs(number)
    @given(mutated([*PLAIN, *LISTED, *ODD], FIELDS, focus=80) | st.sampled_from(PLAIN + LISTED))
    def compare(content: bytes) -> None:
        nonlocal plain_ones
        found = outcome(content)
        with mock.patch.object(riff, "_plain_header", return_value=None) as asked:
            assert found == outcome(content)
        plain_ones += asked.called and found is not None

    compare()
    assert plain_ones > number / 10, "the mutations are too strong"
