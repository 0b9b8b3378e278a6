"""The random streams of sampling: one an image, decided by its name alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from batchcap.records import Key


def random_streams(keys: Sequence[Key], rows: int) -> list[int]:
    """A number from 0 to 2 ** 64 - 1 for each of ``rows`` rows: the first 8 bytes of the SHA-256 of its image's name.

    Rows after the last of ``keys`` are padding, and get 0.
    """
    return [*map(_stream, keys), *(0 for _ in range(rows - len(keys)))]


def _stream(key: Key) -> int:
    path, member = key
    name = path if member is None else f"{path}\0{member}"
    return int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()[:8], "little")
