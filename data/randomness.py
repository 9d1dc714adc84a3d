"""Seeds as a pure function of what they are for, so that no random state is ever saved or replayed."""

from __future__ import annotations

import hashlib


def derive_seed(*purpose: object) -> int:
    """A 63-bit seed from, say, (seed, "order", epoch): the same in every process and on every machine.

    Never Python's `hash` (salted per process), never `seed + step` (streams that overlap). 63 bits, since
    torch.manual_seed takes a signed 64-bit integer.
    """
    key = "\x1f".join(map(str, purpose)).encode()
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big") >> 1
