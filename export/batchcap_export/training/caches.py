"""Arrays on disk, made once and batch by batch, with a note of how many items are done: an interrupted job goes on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from batchcap.errors import TrainingError
from batchcap_export.system.replacing import replace

BATCH = 64
"""Items that are computed together."""
Rendered = TypeVar("Rendered")


@dataclass(frozen=True, slots=True)
class Column:
    """An array of a cache, with a row for each item."""

    path: Path
    shape: tuple[int, ...]
    """Of one row."""
    dtype: type[np.generic]


def cached_arrays(
    columns: Sequence[Column],
    count: int,
    marker: Path,
    render: Callable[[int], Rendered],
    compute: Callable[[Sequence[Rendered]], Sequence[NDArray[Any]]],
    *,
    flush_every: int,
    report: Callable[[int], object],
) -> list[NDArray[Any]]:
    """The arrays of some items: from the disk, or computed and left there.

    A call that was interrupted goes on after the last batch that is on the disk.

    Args:
        count: of the items.
        marker: file that says how many of them are done.
        render: the number of an item -> what ``compute`` needs of it; called in threads, some items ahead.
        compute: what was rendered of at most `BATCH` items -> their rows, an array [items, ...] for each column.
        flush_every: so many batches are written to the disk together.
        report: gets how many items are done, after each batch.

    Returns:
        [count, ...] for each column, memory-mapped.

    Raises:
        TrainingError: a file holds something else.
    """
    noted = read_done(marker, count)
    opened = [open_cache(column.path, (count, *column.shape), column.dtype, noted) for column in columns]
    done = min(rows for _, rows in opened)
    arrays = [array for array, _ in opened]
    rendered = _map_in_threads(render, range(done, count))
    for start in range(done, count, BATCH):
        stop = min(start + BATCH, count)
        rows = compute([next(rendered) for _ in range(start, stop)])
        for array, made in zip(arrays, rows, strict=True):
            array[start:stop] = made
        if start // BATCH % flush_every == 0 or stop == count:
            for array in arrays:
                array.flush()
            note_done(marker, stop)
        report(stop)
    return arrays


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


def open_cache(
    path: Path, shape: tuple[int, ...], dtype: type[np.generic], done: int
) -> tuple[np.memmap[Any, Any], int]:
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


def _map_in_threads(function: Callable[[int], Rendered], items: range) -> Iterator[Rendered]:
    """``map`` over threads, in order, never more than a few items ahead of the consumer."""
    workers = os.cpu_count() or 1
    ahead = workers * 4
    with ThreadPoolExecutor(workers) as pool:
        waiting = []
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= ahead:
                yield waiting.pop(0).result()
        for future in waiting:
            yield future.result()
