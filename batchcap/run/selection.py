"""Which of the images that were found this run captions: those without a record, up to the limit."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from batchcap.errors import NoImagesError
from batchcap.images.walk import SUFFIXES, Unread
from batchcap.options.run import RunOptions
from batchcap.records import ImageRef
from batchcap.run.output import Output


def at_least_one(found: Iterator[ImageRef], options: RunOptions, unread: Unread) -> Iterator[ImageRef]:
    """``found`` again.

    Raises:
        NoImagesError: there is none, and ``options.allow_empty`` is not set; ``unread`` has what is there instead.
    """
    first = next(found, None)
    if first is not None:
        return chain((first,), found)
    if options.allow_empty:
        return iter(())
    names = ", ".join(str(path) for path in options.inputs[:3]) + (", ..." if len(options.inputs) > 3 else "")
    others = ", ".join(f"{count:,} {kind}" for kind, count in unread.kinds.most_common(5))
    what = f"There is no image in {names} that is read here: {others}." if others else f"There is no image in {names}."
    raise NoImagesError(
        what,
        f"Names of images end in {', '.join(SUFFIXES)}. If that may happen, add --allow-empty.",
    )


class Pending(Iterator[ImageRef]):
    """The images that need work, up to the limit.

    What failed in an earlier run and is tried again, and what cannot be looked at now, does not count: ``limit`` such
    images would keep every run from getting any further.

    Attributes:
        reached_end: nothing that is pending was left out.
    """

    def __init__(self, output: Output, found: Iterator[ImageRef], limit: int | None) -> None:
        self._output, self._pending, self._left = output, output.pending(found), limit
        self.reached_end = False

    def __next__(self) -> ImageRef:
        ref = None if self.reached_end else next(self._pending, None)
        if ref is None:
            self.reached_end = True
            raise StopIteration
        if self._left == 0:
            self._pending = iter(())
            raise StopIteration
        if self._left is not None and ref.failure is None and not self._output.is_retry(ref):
            self._left -= 1
        return ref
