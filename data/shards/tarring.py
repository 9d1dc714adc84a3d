"""Members of a tar file whose bytes follow from their names and contents alone: no time, owner or order of a disk.

The key of an utterance is the name of its members without their suffixes. WebDataset cuts a name at its first dot and
sorts nothing, so a key has no dot, no slash and only ASCII; `key_of` writes any id that way, and `id_of` reads it.
"""

from __future__ import annotations

import hashlib
import re
import tarfile

MOST_KEY = 88
"""Characters of a key: with a suffix it fits the 100 of a plain header, which every program reads."""
_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
_BLOCK = tarfile.BLOCKSIZE
END = b"\0" * (2 * _BLOCK)
"""What ends a tar file."""


def key_of(id: str) -> str:
    """The key of an utterance: letters, digits, - and _ stand for themselves, any other byte of UTF-8 is =XX.

    A key that would be too long ends in == and a hash of the id, which then stands in the utterance's JSON alone.

    >>> key_of("s1-0007"), key_of("wav/a.b.flac"), key_of("é")
    ('s1-0007', 'wav=2fa=2eb=2eflac', '=c3=a9')
    """
    raw = id.encode("utf-8", "surrogatepass")
    key = "".join(chr(byte) if byte in _PLAIN else f"={byte:02x}" for byte in raw)
    if len(key) <= MOST_KEY:
        return key
    return f"{key[:48]}=={hashlib.blake2b(raw, digest_size=16).hexdigest()}"


def id_of(key: str) -> str | None:
    """The id that `key_of` wrote as `key`; None where the key holds only a hash of it.

    >>> id_of("wav=2fa=2eb=2eflac")
    'wav/a.b.flac'
    """
    if "==" in key:
        return None
    raw = re.sub(rb"=([0-9a-f]{2})", lambda match: bytes([int(match[1], 16)]), key.encode())
    return raw.decode("utf-8", "surrogatepass")


def member(name: str, content: bytes) -> tuple[bytes, bytes]:
    """(Header, content with its padding) of a file in a tar."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), 0o644  # time, owner and group are 0 and empty as they are made
    return info.tobuf(tarfile.USTAR_FORMAT), content + b"\0" * (-len(content) % _BLOCK)
