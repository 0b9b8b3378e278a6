"""Which records stay when journals are merged: about 40 bytes a record, and no text."""

from __future__ import annotations

from array import array
from typing import Final

import numpy as np
from numpy.typing import NDArray

from batchcap.journal.columns import rows_of
from batchcap.records import Fingerprint, Record

_NUMBERS: Final = np.iinfo(np.int64)


class Rows:
    """The records of all inputs, one an input and image: `add` every input, `choose`, then look."""

    def __init__(self) -> None:
        self.records = 0
        """Images; also the number of rows in `kept`."""
        self.captions = 0
        """Images with a caption."""
        self.shared = 0
        """Images that several inputs hold."""
        self.rescued = 0
        """Images whose caption stays although a later input has an error."""
        self.conflicts: list[list[int]] = []
        """The rows of each image to which inputs give other captions, or captions made in other ways."""
        self._ways: dict[Fingerprint, int] = {}
        self._digests: list[NDArray[np.bytes_]] = []
        self._texts: list[NDArray[np.int64]] = []
        self._made: list[NDArray[np.int32]] = []
        self._errors: list[NDArray[np.bool_]] = []

    @property
    def ways(self) -> int:
        """In how many ways the records were made."""
        return len(self._ways)

    def way(self, record: Record) -> int:
        """The number of how a record was made."""
        return self._ways.setdefault(Fingerprint(record.model, record.preprocess, record.decoding), len(self._ways))

    def add(
        self, wanted: NDArray[np.bool_], digests: bytearray, texts: array[int], ways: array[int], errors: bytearray
    ) -> None:
        """Take the ``wanted`` lines of an input; ``digests`` has 16 bytes for each line, the others one value."""
        self._digests.append(rows_of(digests)[wanted])
        self._texts.append(np.asarray(texts, np.int64)[wanted])
        self._made.append(np.asarray(ways, np.int32)[wanted])
        self._errors.append(np.frombuffer(errors, np.bool_)[wanted])

    def choose(self) -> None:
        """Sort by image; of each the last caption stays, or the last error where there is none."""
        digests = np.concatenate(self._digests)
        self._digests.clear()
        count = len(digests)
        self.kept = np.zeros(count, np.bool_)
        """[rows] whether a row stays."""
        if count == 0:
            return
        order = np.argsort(digests, kind="stable")
        digests = digests[order]
        begins = np.flatnonzero(np.concatenate(([True], digests[1:] != digests[:-1])))
        del digests
        captioned = ~np.concatenate(self._errors)[order]
        places = np.arange(count)
        best = np.maximum.reduceat(places + count * captioned, begins) % count
        self.kept[order[best]] = True
        sizes = np.diff(begins, append=count)
        last = begins + sizes - 1
        self.records = len(begins)
        self.captions = int(np.count_nonzero(captioned[best]))
        self.shared = int(np.count_nonzero(sizes > 1))
        self.rescued = int(np.count_nonzero(captioned[best] & ~captioned[last]))
        texts, made = np.concatenate(self._texts)[order], np.concatenate(self._made)[order].astype(np.int64)
        differ = _differ(texts, captioned, begins) | _differ(made, captioned, begins)
        for image in np.flatnonzero(differ):
            rows = order[begins[image] : begins[image] + sizes[image]]
            self.conflicts.append(sorted(map(int, rows)))
        self.conflicts.sort()


def _differ(values: NDArray[np.int64], counted: NDArray[np.bool_], begins: NDArray[np.intp]) -> NDArray[np.bool_]:
    """[images] whether the values of an image differ; only those that are ``counted``."""
    highest = np.maximum.reduceat(np.where(counted, values, _NUMBERS.min), begins)
    lowest = np.minimum.reduceat(np.where(counted, values, _NUMBERS.max), begins)
    several = highest > lowest
    return np.asarray(several)
