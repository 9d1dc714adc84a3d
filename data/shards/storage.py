"""Where shards lie: byte ranges of files in a folder or an object store. Nothing here knows what is in them.

A folder is read directly. Everything else goes through fsspec (s3:// needs s3fs): a read is tried several times, with
pauses that double, unless the answer is one that another try cannot change.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

import fsspec

from data.audio.files import stat_regular
from trainer.errors import ConfigError, CorpusError, StorageError

R = TypeVar("R")
PAUSES = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds between the tries of a read."""
_PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs", "hf": "huggingface_hub"}
_OPTIONS: dict[str, dict[str, Any]] = {
    # seconds; s3fs' own tries are few and silent: ours are the ones that count
    "s3": {"config_kwargs": {"connect_timeout": 10, "read_timeout": 30, "retries": {"max_attempts": 1}}}
}


class Storage(Protocol):
    """A folder of files."""

    url: str
    is_remote: bool

    def read(self, name: str, offset: int, num_bytes: int, what: str) -> bytes:
        """These bytes; StorageError names file, offset and `what`, also when the file ends before them."""

    def read_whole(self, name: str) -> bytes:
        """A small file; CorpusError when there is none."""

    def sizes(self) -> dict[str, int]:
        """Bytes of every file in the folder."""


def open_storage(url: str) -> Storage:
    """The folder that `url` names; ConfigError when nothing here can read such an address."""
    protocol, separator, rest = url.partition("://")
    if not separator:
        return LocalFolder(url)
    if protocol in ("file", "local"):
        return LocalFolder(rest)
    return RemoteFolder(url)


class LocalFolder:
    """A folder of this machine's file system."""

    is_remote = False

    def __init__(self, path: str) -> None:
        self.folder = Path(path)
        self.url = str(self.folder)

    def read(self, name: str, offset: int, num_bytes: int, what: str) -> bytes:
        path = self.folder / name
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                content = os.pread(descriptor, num_bytes, offset)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise StorageError(
                f"{path} at byte {offset} ({what}): {error.strerror or error}. Mend the disk or bring the file back; "
                "a run goes on with --resume."
            ) from None
        return _whole(content, num_bytes, f"{path}", offset, what)

    def read_whole(self, name: str) -> bytes:
        path = self.folder / name
        try:
            stat_regular(path)
            return path.read_bytes()
        except OSError as error:
            reason = error.strerror or error
            if not self.folder.is_dir():
                what = "is a file" if self.folder.is_file() else "no such folder"
                raise CorpusError(f"{self.folder}: {what}. Give the folder that scripts.shards wrote.") from None
            if other := self._other_content(name):
                raise CorpusError(f"{self.folder}: holds no {name}. {other}") from None
            raise CorpusError(
                f"{path}: {reason}. Give a folder that scripts.shards has finished: the same command goes on with one "
                "that it has not."
            ) from None

    def _other_content(self, name: str) -> str:
        """What the folder holds in place of `name`, and what to do; empty where that is not plain."""
        below = sorted(path.parent.name for path in self.folder.glob(f"*/{name}"))
        if below:
            return f"Those below it do: {', '.join(below[:4])}. Name one of them."
        tars = [path.name for path in self.folder.iterdir() if re.search(r"\.(tar|tar\.gz|tgz)$", path.name)]
        if tars and not (self.folder / ".lock").exists():  # which packing leaves there
            return (
                f"It holds {min(tars)}, which another program packed: train from it by the preset hub "
                f"(--corpus.dataset {self.folder}; docs/howto-hub.md)."
            )
        return ""

    def sizes(self) -> dict[str, int]:
        try:
            return {entry.name: entry.stat().st_size for entry in os.scandir(self.folder) if entry.is_file()}
        except OSError as error:
            raise CorpusError(f"{self.folder}: {error.strerror or error}.") from None


class RemoteFolder:
    """A prefix of an object store."""

    is_remote = True

    def __init__(self, url: str, pauses: tuple[float, ...] = PAUSES) -> None:
        self.url, self.pauses = url.rstrip("/"), pauses
        self.protocol = url.partition("://")[0]
        self._systems: dict[int, Any] = {}
        self._system()  # an address that nothing reads is an error at once

    def _system(self) -> Any:
        """The file system of this process: its connections and its thread do not live on in a forked one."""
        if os.getpid() not in self._systems:
            self._systems.clear()
            try:
                options = _OPTIONS.get(self.protocol, {})
                self._systems[os.getpid()] = fsspec.filesystem(self.protocol, skip_instance_cache=True, **options)
            except ImportError:
                package = _PACKAGES.get(self.protocol, f"what fsspec needs for {self.protocol}")
                extra = ' or pip install -e ".[s3]" in the checkout' if package == "s3fs" else ""
                raise ConfigError(
                    f"{self.url}: {self.protocol}:// is read through the package {package}, which is not installed. "
                    f"Type: pip install {package}{extra}."
                ) from None
            except ValueError:
                raise ConfigError(
                    f"{self.url}: fsspec knows no {self.protocol}://. Give a folder, or an address such as "
                    "s3://BUCKET/PREFIX."
                ) from None
        return self._systems[os.getpid()]

    def read(self, name: str, offset: int, num_bytes: int, what: str) -> bytes:
        address = f"{self.url}/{name}"

        def get() -> bytes:
            content = self._system().cat_file(address, start=offset, end=offset + num_bytes)
            if len(content) > num_bytes:
                raise OSError(f"{len(content)} bytes came where {num_bytes} were asked for")
            return content

        content = self._try(get, f"{address} at byte {offset} ({what})")
        return _whole(content, num_bytes, address, offset, what)

    def read_whole(self, name: str) -> bytes:
        address = f"{self.url}/{name}"
        try:
            return self._try(lambda: self._system().cat_file(address), address)
        except StorageError as error:  # at a start: no step is lost
            raise CorpusError(str(error)) from None

    def sizes(self) -> dict[str, int]:
        def listing() -> dict[str, int]:
            found = self._system().ls(self.url, detail=True, refresh=True)
            return {entry["name"].rpartition("/")[2]: int(entry["size"] or 0) for entry in found}

        try:
            return self._try(listing, self.url)
        except StorageError as error:
            raise CorpusError(str(error)) from None

    def _try(self, action: Callable[[], R], where: str) -> R:
        """The answer of `action`, tried again after each passing error; StorageError in the end."""
        begin = time.monotonic()
        for pause in (*self.pauses, None):
            try:
                return action()
            except Exception as error:  # fsspec's implementations raise what their libraries do
                if (final := self._final(error, where)) is not None:
                    raise final from None
                if pause is None:
                    seconds = time.monotonic() - begin
                    raise StorageError(
                        f"{where}: no answer after {len(self.pauses) + 1} tries in {seconds:.0f} s ({_reason(error)}). "
                        "Look after the network and the store; a run goes on with --resume."
                    ) from None
                time.sleep(pause)
        raise AssertionError("the last try returns or raises")

    def _final(self, error: Exception, where: str) -> StorageError | None:
        """What an error means that no other try would change; None for one that may pass."""
        text = f"{type(error).__name__} {error}"
        if isinstance(error, PermissionError) or any(
            word in text for word in ("AccessDenied", "Forbidden", "NoCredentials", "InvalidAccessKey", "SignatureDoes")
        ):
            return StorageError(
                f"{where}: no rights to read it ({_reason(error)}). Look after the credentials (S3: AWS_PROFILE, or "
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY) and the bucket's policy."
            )
        if isinstance(error, FileNotFoundError) or "NoSuchKey" in text or "NoSuchBucket" in text:
            bucket = self.url.partition("://")[2].partition("/")[0]
            if "NoSuchBucket" in text or "bucket does not exist" in text:
                return StorageError(f"{where}: there is no bucket {bucket}. Mend the address, or name its endpoint "
                                    "(AWS_ENDPOINT_URL).")  # fmt: skip
            return StorageError(
                f"{where}: there is no such file. Give the address of a folder that scripts.shards wrote, and upload "
                "all of it."
            )
        return None


def _whole(content: bytes, num_bytes: int, where: str, offset: int, what: str) -> bytes:
    if len(content) < num_bytes:
        raise StorageError(
            f"{where} at byte {offset} ({what}): {len(content)} of {num_bytes} bytes are there: truncated. "
            "Bring the whole file back; a run goes on with --resume. scripts.shards --verify reads every byte."
        )
    return content


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")[:200]
