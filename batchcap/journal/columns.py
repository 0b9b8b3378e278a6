"""What the lines of a journal say, as columns of plain numbers: 44 bytes an image, found by the digest of its key."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from batchcap.journal.codec import replace_surrogates
from batchcap.records import Key

_DIGEST: Final = 16
DIGESTS: Final = f"S{_DIGEST}"
"""The type of an array of digests."""


def digest(key: Key) -> bytes:
    """16 bytes of BLAKE2b over a key: two names share one with a probability of 1e-23 among 50 million."""
    path, member = key
    try:
        hashed = hashlib.blake2b(path.encode(), digest_size=_DIGEST)
        if member is not None:  # the zero and the length keep it apart from every other path and member
            hashed.update(f"\0{len(path)}:{member}".encode())
    except UnicodeEncodeError:  # as the formats write it
        return digest((replace_surrogates(path), None if member is None else replace_surrogates(member)))
    return hashed.digest()


def digests(keys: Collection[Key]) -> list[bytes]:
    """`digest` of each key, in less time where most are plain paths."""
    hashed = hashlib.blake2b
    try:
        return [
            hashed(path.encode(), digest_size=_DIGEST).digest() if member is None else digest((path, member))
            for path, member in keys
        ]
    except UnicodeEncodeError:
        return [digest(key) for key in keys]


def rows_of(names: bytes | bytearray) -> NDArray[np.bytes_]:
    """[rows] digests that stand one after the other."""
    return np.frombuffer(names, DIGESTS)


def last_of_each(names: NDArray[np.bytes_]) -> NDArray[np.intp]:
    """[names, each once, sorted] the last row of each name."""
    order = np.argsort(names, kind="stable")
    names = names[order]
    is_last = np.ones(len(names), np.bool_)
    is_last[:-1] = names[1:] != names[:-1]
    return order[is_last]


def are_last(names: bytearray) -> NDArray[np.bool_]:
    """[lines] whether a line is the last one with its digest."""
    rows = rows_of(names)
    found = np.zeros(len(rows), np.bool_)
    found[last_of_each(rows)] = True
    return found


class Columns:
    """Lines in the order of the file: take the next ones at the end of every column."""

    def __init__(self) -> None:
        self.keys = bytearray()
        self.sizes = array("q")
        self.times = array("q")
        self.errors = array("q")
        self.states = array("i")

    def __len__(self) -> int:
        return len(self.states)


@dataclass(frozen=True, slots=True)
class Table:
    """The last line of every key, sorted by digest. A dict of the same would take four times the memory."""

    keys: NDArray[np.bytes_]
    """[rows] `digest` of the key."""
    sizes: NDArray[np.int64]
    times: NDArray[np.int64]
    errors: NDArray[np.int64]
    states: NDArray[np.int32]

    @classmethod
    def empty(cls) -> Table:
        """Without rows."""
        numbers = np.empty(0, np.int64)
        return cls(np.empty(0, DIGESTS), numbers, numbers, numbers, np.empty(0, np.int32))

    def followed_by(self, lines: Columns) -> Table:
        """The table of these lines after the ones that are in this table."""
        keys = np.concatenate([self.keys, rows_of(lines.keys)])
        rows = last_of_each(keys)
        return Table(
            keys[rows],
            np.concatenate([self.sizes, lines.sizes])[rows],
            np.concatenate([self.times, lines.times])[rows],
            np.concatenate([self.errors, lines.errors])[rows],
            np.concatenate([self.states, lines.states])[rows],
        )

    def __len__(self) -> int:
        return len(self.keys)

    def find(self, names: Sequence[bytes]) -> NDArray[np.int64]:
        """[names] the row of each key, given as its `digest`; -1 where there is none."""
        # Text of a fixed length: a scalar would lose trailing zeros, and make NumPy copy the whole column.
        wanted = rows_of(b"".join(names))
        if not len(self):
            return np.full(len(wanted), -1)
        rows = np.minimum(self.keys.searchsorted(wanted), len(self) - 1)
        rows[self.keys[rows] != wanted] = -1
        return rows
