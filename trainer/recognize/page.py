"""The page that scripts.serve shows: record or drop a file, read the words, hear each of them, keep them as files.

Gradio serves the page. Its other features are off: telemetry, fonts from elsewhere, fetching of URLs, other routes.
Uploads lie in a temporary folder, which is removed when the page stops.
"""

from __future__ import annotations

import contextlib
import ipaddress
import math
import os
import re
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

os.environ.update(GRADIO_ANALYTICS_ENABLED="False", HF_HUB_DISABLE_TELEMETRY="1")

import gradio
import numpy as np
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from data.audio.media import load_recording
from data.audio.sides import FirstApart
from data.utterance import SAMPLE_RATE
from trainer.errors import AudioError, ConfigError
from trainer.recognize.clips import NO_CLIPS, Clips, write_clips
from trainer.recognize.page_parts import CSS, SEEK, describe_lengths, describe_model, words_as_html, write_files
from trainer.recognize.transcribe import LoadedModel, Windows
from trainer.recognize.transcript import TimedTranscript

SERVED = re.compile(
    r"/|/(config|theme\.css|favicon\.ico|manifest\.json|pwa_icon(/\d+)?|login_check/?|static/.*|assets/.*)"
    r"|/gradio_api/(info|startup-events|app_id|upload|upload_progress|queue/(join|data)|heartbeat/\w+|reset/?|cancel"
    r"|file=.*)"
)
"""The paths that the page needs. Gradio's other paths, such as a proxy, are not served."""
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; connect-src 'self' data: blob:; "
    "worker-src 'self' blob:; font-src 'self' data:; frame-ancestors 'self'; form-action 'self'; base-uri 'self'"
)
"""This policy lets the browser load from this server only."""


@dataclass(frozen=True)
class Limits:
    """What the page accepts."""

    max_seconds: float = 600.0
    max_megabytes: float = 50.0
    num_at_once: int = 4
    """Recordings that are written down at once; others wait."""

    def __post_init__(self) -> None:
        if not (0 < self.max_seconds < math.inf and 0 < self.max_megabytes < math.inf):
            raise ConfigError("the limits on seconds and megabytes must be above 0, and not infinite.")
        if self.num_at_once < 1:
            raise ConfigError(f"{self.num_at_once} recordings at once: give 1 or more.")


class Listener(Protocol):
    """What the page needs of a trainer.recognizer.Recognizer."""

    loaded: LoadedModel

    def transcribe(self, audio: np.ndarray, *, name: str, windows: Windows) -> TimedTranscript: ...


class Guard:
    """Answers 404 to every path that the page does not need, and sends the policy with every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"],
                    (b"content-security-policy", POLICY.encode()),
                    (b"x-content-type-options", b"nosniff"),
                    (b"referrer-policy", b"no-referrer"),
                ]
            await send(message)

        app = self.app if SERVED.fullmatch(scope["path"]) else PlainTextResponse("Not found", status_code=404)
        await app(scope, receive, send_with_policy)


def read_uploads_only(component: gradio.Audio) -> gradio.Audio:
    """The component, changed to read uploads only. Otherwise it fetches any URL that a request names."""
    move = component.async_move_resource_to_block_cache

    async def move_local(path: str | Path | None) -> str | None:
        if path is not None and re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+:", str(path)):
            raise gradio.Error("Only uploaded files are read.", print_exception=False)
        return await move(path)

    component.async_move_resource_to_block_cache = move_local
    return component


def build_page(recognizer: Listener, limits: Limits, windows: Windows, examples: Clips) -> gradio.Blocks:
    """The page around `recognizer`."""
    uploads = os.environ["GRADIO_TEMP_DIR"]  # as it is now: another page of this process may have another one

    def listen(path: str | None) -> tuple[str, list[list[Any]], str, str, list[str]]:
        if not path:
            raise gradio.Error("Record something or drop a file first.", print_exception=False)
        begin = time.perf_counter()
        try:
            waveform = load_recording(Path(path), limits.max_seconds)
            transcript = recognizer.transcribe(waveform, name=Path(path).name, windows=windows)
        except AudioError as error:  # a visitor should not learn in which folder the file lies
            message = str(error).replace(str(Path(path).parent) + os.sep, "")
            raise gradio.Error(message, print_exception=False) from None
        rows = [
            [w.text, f"{w.start_seconds:.2f}", f"{w.end_seconds:.2f}", f"{100 * w.confidence:.0f} %"]
            for w in transcript.words
        ]
        seconds = time.perf_counter() - begin
        took = f"{len(waveform) / SAMPLE_RATE:.1f} s of audio in {seconds:.1f} s"
        if FirstApart().of_file(Path(path)):
            took += ". Each channel has its own sound: a speaker on either side? They were averaged"
        files = write_files(transcript, uploads)
        return transcript.text or "(no words)", rows, took, words_as_html(transcript, path), files

    loaded = recognizer.loaded
    with gradio.Blocks(title="Speech to words", analytics_enabled=False, delete_cache=(600, 600)) as page:
        gradio.Markdown(
            f"# Speech to words\n`{describe_model(loaded.source)}`\n\n{describe_lengths(loaded.trained_on)}It runs "
            f"on {loaded.device}. A recording has at most {limits.max_seconds:g} s and {limits.max_megabytes:g} MB."
        )
        audio = read_uploads_only(gradio.Audio(sources=["upload", "microphone"], type="filepath", buttons=["download"],
                                                label="Recording"))  # fmt: skip
        if examples.clips:
            gradio.Markdown(f"Examples: {examples.origin}" if examples.origin else "Examples:")
        with gradio.Row(elem_id="examples", visible=bool(examples.clips)):
            clips = [gradio.Button(clip.label, size="sm") for clip in examples.clips]
        button = gradio.Button("Write it down", variant="primary", elem_id="listen", interactive=False)
        text = gradio.Textbox(label="Transcript", lines=3, elem_id="transcript")
        took = gradio.Markdown(elem_id="took")
        lines = gradio.HTML(elem_id="lines", js_on_load=SEEK)
        files = gradio.File(label="To keep", file_count="multiple", interactive=False, elem_id="files")
        words = gradio.Dataframe(headers=["word", "from (s)", "to (s)", "confidence"], interactive=False, wrap=True,
                                 label="Words", elem_id="words")  # fmt: skip
        shown = [text, words, took, lines, files]
        button.click(listen, audio, shown, concurrency_limit=limits.num_at_once, api_visibility="private")
        for clip, path in zip(clips, write_clips(examples.clips, Path(uploads)), strict=True):
            clip.click(partial(lambda path: (path, gradio.update(interactive=True)), str(path)), None, [audio, button],
                       show_progress="hidden", concurrency_limit=None, api_visibility="private")  # fmt: skip
        for event, has_audio in ((audio.upload, True), (audio.stop_recording, True), (audio.clear, False)):
            event(partial(gradio.update, interactive=has_audio), None, button, show_progress="hidden",
                  concurrency_limit=None, api_visibility="private")  # fmt: skip
    return page


@contextlib.contextmanager
def upload_folder() -> Iterator[None]:
    """A folder for uploads, which gradio finds through the environment; both are as before when the context ends."""
    before = os.environ.get("GRADIO_TEMP_DIR")
    with tempfile.TemporaryDirectory(prefix="speech-page-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        try:
            yield
        finally:
            del os.environ["GRADIO_TEMP_DIR"]
            if before is not None:
                os.environ["GRADIO_TEMP_DIR"] = before


@contextlib.contextmanager
def serving(
    recognizer: Listener, limits: Limits, windows: Windows, host: str, port: int, examples: Clips = NO_CLIPS
) -> Iterator[str]:
    """Serve the page within this context, which gives its address. ConfigError when the port cannot be used."""
    middleware, name = [Middleware(Guard)], f"[{host}]" if ":" in host else host  # a browser writes ::1 in brackets
    if is_loopback(host):  # otherwise a foreign page could reach this one through a DNS name
        middleware.append(Middleware(TrustedHostMiddleware, allowed_hosts=["localhost", "127.0.0.1", name]))
    with upload_folder():
        page = build_page(recognizer, limits, windows, examples)
        page.queue(max_size=16, api_open=False)
        try:
            _, url, _ = page.launch(
                server_name=name, server_port=port, share=False, inbrowser=False, quiet=True, prevent_thread_lock=True,
                allowed_paths=[], max_file_size=round(limits.max_megabytes * 1_000_000), ssr_mode=False, pwa=False,
                mcp_server=False, enable_monitoring=False, strict_cors=True, footer_links=[], run_history=False,
                css=CSS,
                theme=gradio.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
                app_kwargs={"middleware": middleware, "docs_url": None, "redoc_url": None, "openapi_url": None},
            )  # fmt: skip
        except OSError as error:
            raise ConfigError(f"{name}:{port}: no page can be served there ({error}). Give another --port.") from None
        try:
            yield url
        finally:
            page.close(verbose=False)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
