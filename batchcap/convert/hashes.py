"""Whether a name or a text is among a million others, in 8 bytes of memory each."""

from __future__ import annotations

from array import array
from collections.abc import Hashable

import numpy as np
from numpy.typing import NDArray


class Hashes:
    """The hashes of what was added; two things share one with a probability of 1 in 10^19."""

    def __init__(self) -> None:
        self._added = array("q")
        self._sorted: NDArray[np.int64] | None = None

    def add(self, thing: Hashable) -> None:
        """Take one more. All are added before anything is asked."""
        self._added.append(hash(thing))

    def __len__(self) -> int:
        return len(self._added)

    def __contains__(self, thing: Hashable) -> bool:
        hashes, wanted = self._in_order(), hash(thing)
        place = int(np.searchsorted(hashes, wanted))
        return place < len(hashes) and int(hashes[place]) == wanted

    def repeated(self) -> set[int]:
        """The hashes that were added more than once."""
        hashes = self._in_order()
        return set(hashes[1:][hashes[1:] == hashes[:-1]].tolist())

    def _in_order(self) -> NDArray[np.int64]:
        if self._sorted is None:
            self._sorted = np.sort(np.frombuffer(self._added, np.int64))
        return self._sorted
