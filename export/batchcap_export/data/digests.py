"""Short digests that identify data and files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path


def digest(parts: Iterable[str]) -> str:
    """First 16 hex digits of SHA-256 over some texts: such as the names and captions of a data set."""
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def file_digest(path: Path) -> str:
    """First 16 hex digits of SHA-256 over a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
