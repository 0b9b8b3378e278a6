"""Records in the order in which their images came into the journal first, whatever was captioned again since.

So the place of an image never changes while a journal grows: files with a fixed part of the images each stay as they
are.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from batchcap.convert.work import Work
from batchcap.errors import OutputError
from batchcap.journal.columns import digest
from batchcap.records import Record


def in_first_order(work: Work) -> Iterator[tuple[int, Record]]:
    """The last record of each key with the number of the key, from 0, failed ones too.

    The journal is read once and then line by line. Takes 24 bytes of memory a line, and 60 more while they are sorted.

    Raises:
        OutputError: the journal was replaced meanwhile.
    """
    yield from enumerate(work.reported(_last_records(work, _last_lines(work)), "converting"))


def _last_records(work: Work, offsets: NDArray[np.int64]) -> Iterator[Record]:
    with work.options.journal.open("rb") as file:
        for offset in offsets:
            file.seek(offset)
            try:
                yield work.reader.codec.decode(file.readline())
            except (ValueError, RecursionError):
                raise OutputError(
                    f"{work.options.journal} was replaced by another file during the conversion.", "Run it again."
                ) from None


def _last_lines(work: Work) -> NDArray[np.int64]:
    """[keys] the offset of the last line of each key, in the order of their first lines."""
    digests, offsets = bytearray(), array("q")
    for offset, record in zip(_offsets(work), work.all_records("ordering images"), strict=False):
        digests += digest(record.key)
        offsets.append(offset)
    if not offsets:
        return np.zeros(0, np.int64)
    rows = np.frombuffer(digests, f"S{len(digests) // len(offsets)}")
    _, first = np.unique(rows, return_index=True)
    _, from_end = np.unique(rows[::-1], return_index=True)
    last = len(rows) - 1 - from_end
    return np.frombuffer(offsets, np.int64)[last[np.argsort(first)]]


def _offsets(work: Work) -> Iterator[int]:
    """Where each line of a record begins."""
    offset = 0
    with work.options.journal.open("rb") as file:
        for number, line in enumerate(file):
            if number or not work.reader.codec.header:
                yield offset
            offset += len(line)
