"""Run folders of `distill` and `train`: each belongs to one recipe, and its files are whole or absent."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from batchcap.errors import ExportError


def replace(path: Path, write: Callable[[Path], object]) -> None:
    """Write beside ``path``, flush to the disk, and move into place: a reader sees the old file or the new one."""
    beside = path.with_name(f"new-{path.name}")
    write(beside)
    with beside.open("rb+") as file:
        os.fsync(file.fileno())
    beside.replace(path)


def write_json(path: Path, value: Any) -> None:
    """Replace ``path`` by ``value`` as indented JSON; paths become text."""
    text = msgspec.json.format(msgspec.json.encode(value, enc_hook=str)) + b"\n"
    replace(path, lambda beside: beside.write_bytes(text))


def claim(path: Path, recipe: Mapping[str, Any]) -> None:
    """Note the recipe of a run folder in ``path``, or compare with the one that stands there.

    Raises:
        ExportError: the folder belongs to another recipe; every difference is named.
    """
    now = msgspec.json.decode(msgspec.json.encode(recipe, enc_hook=str))
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, now)
        return
    before = msgspec.json.decode(path.read_bytes())
    changed = [
        f"{name}: {before.get(group, {}).get(name)} there, {value} here"
        for group, values in now.items()
        for name, value in values.items()
        if before.get(group, {}).get(name) != value
    ]
    if changed:
        raise ExportError(
            f"{path.parent}: this run folder has another recipe ({', '.join(changed)}).", "Use a new one."
        )


def digest(parts: Iterable[str]) -> str:
    """First 16 hex digits of SHA-256 over some texts: names and captions of a data set, say."""
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def file_digest(path: Path) -> str:
    """First 16 hex digits of SHA-256 over a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
