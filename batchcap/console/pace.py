"""When a line about a run is due, on a terminal or in a log, and the speed that it names."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from batchcap.run.figures import Progress

LINE_SECONDS: Final = 30.0


class Pace:
    """What one place was told of a run. Every report of the run goes through `is_due` once.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = self._spoke = clock()
        self._reduced: int | None = None
        self._waited = False
        self._done_before_wait = -1

    def begin(self) -> None:
        """The first image comes now: what was before, such as waiting for another run, is not in the speed."""
        self._began = self._spoke = self._clock()

    @property
    def elapsed(self) -> float | None:
        """Seconds since `begin`; None once the run has waited: images that arrive one by one have no speed."""
        return None if self._waited else self._clock() - self._began

    def is_due(self, progress: Progress) -> bool:
        """Whether a line is to be written now: 30 seconds after the last one, or once when the run begins to wait."""
        self._waited |= progress.waiting
        now = self._clock()
        if progress.waiting:
            before, self._done_before_wait = self._done_before_wait, progress.done
            due = progress.done != before
        else:
            due = now - self._spoke >= LINE_SECONDS
        if due:
            self._spoke = now
        return due

    def is_reduced(self, progress: Progress) -> bool:
        """Whether memory has run out since the last report."""
        before, self._reduced = self._reduced, progress.reduced_batch
        return self._reduced is not None and self._reduced != before
