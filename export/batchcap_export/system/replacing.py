"""Files that are replaced at once: a reader sees the old one or the new one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec


def replace(path: Path, write: Callable[[Path], object]) -> None:
    """Write beside ``path``, flush to the disk, and move into place: a reader sees the old file or the new one."""
    beside = path.with_name(f"new-{path.name}")
    write(beside)
    with beside.open("rb+") as file:
        os.fsync(file.fileno())
    beside.replace(path)
    if os.name == "posix":  # elsewhere no folder can be flushed
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write_json(path: Path, value: Any) -> None:
    """Replace ``path`` by ``value`` as indented JSON; paths become text."""
    text = msgspec.json.format(msgspec.json.encode(value, enc_hook=str)) + b"\n"
    replace(path, lambda beside: beside.write_bytes(text))
