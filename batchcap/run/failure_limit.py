"""`--max-failures`: a disk that is not mounted or a decoder that is broken must not write an error for every image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from batchcap.errors import TooManyFailuresError
from batchcap.options.operation import MaxFailures
from batchcap.records import Failure, Record

_SHOWN_KINDS: Final = 4
_READ: Final = "Look whether the disk or folder is mounted, and whether you may read it"
_DECODE: Final = "Look at some of these images with another program"


class FailureLimit:
    """Counts the images of one pass that fail; None as limit: there is none."""

    def __init__(self, limit: MaxFailures | None) -> None:
        self._limit = limit
        self._done = 0
        self._kinds: Counter[tuple[str, str]] = Counter()
        self._first: tuple[Record, Failure] | None = None
        self._exceeded = False

    def within(self, records: Sequence[Record]) -> Sequence[Record]:
        """Count the records of a batch, up to the one that makes them too many; later ones are not to be written."""
        if self._limit is None:
            return records
        for place, record in enumerate(records, 1):
            self._done += 1
            if record.error is not None:
                self._kinds[record.error.stage, record.error.kind] += 1
                self._first = self._first or (record, record.error)
            if self._limit.is_exceeded(self._kinds.total(), self._done):
                self._exceeded = True
                return records[:place]
        return records

    def check(self) -> None:
        """Raise TooManyFailuresError if the limit is exceeded: the records that `within` gave are written now."""
        if not self._exceeded or self._first is None:
            return
        record, error = self._first
        kinds = "; ".join(
            f"{count:,} {stage}, {kind}" for (stage, kind), count in self._kinds.most_common(_SHOWN_KINDS)
        )
        failed = self._kinds.total()
        look = _READ if sum(self._kinds[each] for each in self._kinds if each[0] == "read") * 2 >= failed else _DECODE
        raise TooManyFailuresError(
            f"{failed:,} of {self._done:,} images failed, more than --max-failures {self._limit} allows ({kinds}). "
            f"The first: {record.path}: {error.message}",
            f"{look}, then run again: what is written stays. Or allow more failures.",
        )
