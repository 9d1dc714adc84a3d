"""Ranges of shards on this machine, so that the next epoch need not fetch them again. At most so many bytes.

    FOLDER/ab/abcdef...      the bytes of one utterance's audio, named by their hash
    FOLDER/lock              held while old ones are thrown out

Any number of processes share a folder. A file gets its name when it is whole, and what is read is hashed again, so a
kill or a damaged file costs one more fetch and nothing else. Each process counts what it adds; after a fiftieth of the
limit it looks at the whole folder, and the files that were used longest ago go until 90 % are left.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from pathlib import Path

from data.machine.filesystems import lock
from data.shards.packing import digest

_SHARE_OF_LIMIT = 50
_LEFT = 0.9


class RangeCache:
    """Contents by their hash."""

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self.folder, self.limit_bytes = folder, limit_bytes
        self._added, self._pid = 0, os.getpid()
        self._counting = threading.Lock()
        self.is_refused = False
        """Whether the disk has refused a file: then no more are added. What is here is still read."""

    def get(self, hash: bytes) -> bytes | None:
        """The content, or None where it is not here (or no longer what it was)."""
        if not self.limit_bytes:
            return None
        path = self._path(hash)
        try:
            content = path.read_bytes()
        except OSError:
            return None
        if digest(content) != hash:
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # used just now; the time of access is not kept on every disk
        return content

    def put(self, hash: bytes, content: bytes) -> None:
        """Keep a content. A disk that refuses it is no error: it is fetched again."""
        if self.is_refused or len(content) > self.limit_bytes // _SHARE_OF_LIMIT:
            return
        path = self._path(hash)
        part = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(content)
            part.replace(path)
        except OSError:
            self.is_refused = True
            with contextlib.suppress(OSError):
                part.unlink()
            return
        if self._is_time_to_look(len(content)):
            self.throw_out()

    def describe_lack(self, num_bytes: int) -> str | None:
        """What to tell a user whose disk has not the room that the limit allows `num_bytes` of audio; None if it has.

        What is here already is estimated from a few folders, since a cache may hold millions of files.
        """
        wanted = min(num_bytes, self.limit_bytes)
        folder = next(path for path in (self.folder, *self.folder.absolute().parents) if path.exists())
        can_write = os.access(folder, os.W_OK)
        room = shutil.disk_usage(folder).free if can_write else 0
        if not wanted or (can_write and wanted <= room + self._estimate_held()):
            return None
        what = f"has room for {room / 1e9:.2g} GB more" if can_write else "cannot be written"
        return (
            f"{self.folder}: {what}, and would hold {wanted / 1e9:.2g} GB of audio (--corpus.range-cache-gb). What has "
            "no place there is fetched again in every epoch. Another --cache-dir would spare that."
        )

    def _estimate_held(self) -> float:
        """Bytes of all files. Names are hashes, so one folder of 256 holds about as much as another."""
        sizes = []
        for number in range(0, 256, 32):
            try:
                sizes.append(sum(entry.stat().st_size for entry in os.scandir(self.folder / f"{number:02x}")))
            except OSError:  # none was made, or a file was thrown out just now
                sizes.append(0)
        return 256 * sum(sizes) / len(sizes)

    def _path(self, hash: bytes) -> Path:
        name = hash.hex()
        return self.folder / name[:2] / name

    def _is_time_to_look(self, num_bytes: int) -> bool:
        with self._counting:
            if self._pid != os.getpid():  # forked: what the other process added is its own to count
                self._added, self._pid = 0, os.getpid()
            self._added += num_bytes
            if self._added < self.limit_bytes // _SHARE_OF_LIMIT:
                return False
            self._added = 0
            return True

    def throw_out(self) -> None:
        """Remove what was used longest ago, if there is more than the limit. Another process that does so suffices."""
        with contextlib.suppress(OSError), open(self.folder / "lock", "w") as file:
            lock(file)
            files = []
            for folder in os.scandir(self.folder):
                if folder.is_dir():
                    for entry in os.scandir(folder.path):
                        with contextlib.suppress(OSError):
                            stat = entry.stat()
                            files.append((stat.st_mtime_ns, stat.st_size, entry.path))
            total = sum(size for _, size, _ in files)
            # what others add until they look themselves must fit too
            if total <= self.limit_bytes * (1 - 1 / _SHARE_OF_LIMIT):
                return
            for _, size, path in sorted(files):
                with contextlib.suppress(OSError):
                    os.unlink(path)
                total -= size
                if total <= _LEFT * self.limit_bytes:
                    return
