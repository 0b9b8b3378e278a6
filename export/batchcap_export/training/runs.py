"""Run folders of `distill` and `train`: each belongs to one recipe, and its files are whole or absent."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from batchcap.errors import TrainingError


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


def note_done(marker: Path, count: int) -> None:
    """Replace the marker of a cache: ``count`` items of it are on the disk."""
    replace(marker, lambda beside: beside.write_text(f"{count}\n", encoding="ascii"))


def read_done(marker: Path, total: int) -> int:
    """How many of ``total`` items a marker says are done; 0 where it is missing, torn or says what cannot be."""
    try:
        text = marker.read_bytes().strip()
    except FileNotFoundError:
        return 0
    return int(text) if text.isdigit() and int(text) <= total else 0


def open_cache(path: Path, shape: tuple[int, ...], dtype: type[np.generic], done: int) -> tuple[NDArray[Any], int]:
    """The array of a cache on disk, memory-mapped, and how many of its items count: none where the file is torn.

    Raises:
        TrainingError: it holds something else.
    """
    if done and path.exists():
        try:
            np.lib.format.open_memmap(path, "r")  # to be written, a file that was cut off would be filled with zeros
            out = np.lib.format.open_memmap(path, "r+")
        except (ValueError, OSError):  # cut off, or never finished
            return np.lib.format.open_memmap(path, "w+", dtype, shape), 0
        if out.shape == shape and out.dtype == dtype:
            return out, done
        raise TrainingError(
            f"{path}: holds {out.dtype} of shape {out.shape}, not {np.dtype(dtype)} of {shape}.",
            "Use a new run folder.",
        )
    return np.lib.format.open_memmap(path, "w+", dtype, shape), 0


def write_json(path: Path, value: Any) -> None:
    """Replace ``path`` by ``value`` as indented JSON; paths become text."""
    text = msgspec.json.format(msgspec.json.encode(value, enc_hook=str)) + b"\n"
    replace(path, lambda beside: beside.write_bytes(text))


def claim(path: Path, recipe: Mapping[str, Any]) -> None:
    """Note the recipe of a run folder in ``path``, or compare with the one that stands there: see `compare`."""
    if compare(path, recipe):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, recipe)


def compare(path: Path, recipe: Mapping[str, Any]) -> bool:
    """Whether a recipe stands in ``path``; then it is this one.

    Raises:
        TrainingError: the folder belongs to another recipe (every difference is named), or its recipe is damaged.
    """
    if not path.exists():
        return False
    now = msgspec.json.decode(msgspec.json.encode(recipe, enc_hook=str))
    try:
        before = msgspec.json.decode(path.read_bytes(), type=dict[str, dict[str, Any]])
    except msgspec.MsgspecError as error:
        raise TrainingError(
            f"{path}: is damaged: {error}.", "Whose files lie beside it is not known: use a new run folder."
        ) from None
    changed = [
        f"{name}: {before.get(group, {}).get(name)} there, {value} here"
        for group, values in now.items()
        for name, value in values.items()
        if before.get(group, {}).get(name) != value
    ]
    if changed:
        raise TrainingError(
            f"{path.parent}: this run folder has another recipe ({', '.join(changed)}).", "Use a new one."
        )
    return True


def digest(parts: Iterable[str]) -> str:
    """First 16 hex digits of SHA-256 over some texts: names and captions of a data set, say."""
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def file_digest(path: Path) -> str:
    """First 16 hex digits of SHA-256 over a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
