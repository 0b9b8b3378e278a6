"""Where in a journal the captions of known contents stand: 24 bytes a caption, for ``--checksum``."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable
from typing import Final

import numpy as np

from batchcap.journal.codec import Line
from batchcap.journal.columns import DIGESTS, last_of_each, rows_of
from batchcap.records import ImageRef, Key, Record

_DIGEST: Final = np.dtype(DIGESTS).itemsize


class Contents:
    """From what is in a file to the line of a caption of it: `add` lines, `seal`, then `find`.

    A caption stays right for its content whatever has become of the image that it was made for, so lines that later
    ones replace count too.
    """

    def __init__(self, *, by_key: bool) -> None:
        """``by_key``: a caption is also decided by the name of the image, so one holds for its own image only."""
        self._by_key = by_key
        self._names = np.empty(0, DIGESTS)
        self._places = np.empty(0, np.int64)
        self._new_names = bytearray()
        self._new_places = array("q")

    def add(self, lines: Iterable[Line | Record], places: Iterable[int]) -> None:
        """Take captions, and the byte of the journal at which the line of each begins."""
        for line, place in zip(lines, places, strict=True):
            if line.sha256 is not None:
                self._new_names += self._of_content(line.sha256, line.key)
            else:
                self._new_names += _of_file(line.key, line.bytes, line.mtime_us)
            self._new_places.append(place)

    def seal(self) -> None:
        """From now on the lines added can be found; of one content the last."""
        names = np.concatenate([self._names, rows_of(self._new_names)])
        last = last_of_each(names)
        self._places = np.concatenate([self._places, self._new_places])[last]
        self._names = names[last]
        self._new_names, self._new_places = bytearray(), array("q")

    def find(self, ref: ImageRef, sha256: str) -> int | None:
        """The byte at which the line of a caption begins: of this content, or else of this very image without a hash.

        The latter has the size and the time that its record says. To be called by any thread.
        """
        wanted = [self._of_content(sha256, ref.key), _of_file(ref.key, ref.size, ref.mtime_us)]
        rows = self._names.searchsorted(rows_of(b"".join(wanted))).tolist()
        for row, name in zip(rows, wanted, strict=True):
            if row < len(self._names) and self._names[row : row + 1].tobytes() == name:
                return int(self._places[row])
        return None

    def _of_content(self, sha256: str, key: Key) -> bytes:
        return _digest(f"{sha256}\0{key}" if self._by_key else sha256)


def _of_file(key: Key, size: int | None, mtime_us: int | None) -> bytes:
    return _digest(f"{key}\0{size}\0{mtime_us}")


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_DIGEST).digest()
