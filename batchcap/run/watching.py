"""Telling the caller how far a run is, with the number of all images where that is wanted."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import TypeAlias

from batchcap.errors import BatchcapError
from batchcap.images import discovery
from batchcap.options.operation import Shard
from batchcap.options.run import RunOptions
from batchcap.reporting import Say, no_report
from batchcap.run.figures import Progress, Start, Summary
from batchcap.run.shards import of_shard

Begin: TypeAlias = Callable[[Start], None]
Report: TypeAlias = Callable[[Progress], None]


class Watcher:
    """The callbacks of a run; each may be missing."""

    def __init__(
        self,
        options: RunOptions,
        begin: Begin | None,
        report: Report | None,
        *,
        count_total: bool,
        shard: Shard | None = None,
        say: Say = no_report,
    ) -> None:
        self.say = say
        self._options, self._shard = options, shard
        self._begin, self._report = begin, report
        self._counts = report is not None and count_total
        self._count: int | None = None
        self._is_later = False

    def begin(self, start: Start) -> None:
        """There is an image to caption: say so, and begin to count all of them."""
        if self._begin:
            self._begin(start)
        if self._counts:
            # A daemon: a run that is done does not wait for the count.
            threading.Thread(target=self._count_images, name="batchcap-count", daemon=True).start()

    def wait(self, summary: Summary) -> None:
        """All is captioned, and the run waits for more."""
        self._is_later = True
        if self._report:
            self._report(replace(summary.progress(None), waiting=True, failures=()))

    def report(self, summary: Summary) -> None:
        """A batch is written."""
        if self._report:
            self._report(summary.progress(self._total(summary)))

    def _count_images(self) -> None:
        with suppress(BatchcapError, OSError):  # an input that vanished meanwhile: the run itself will say so
            if self._shard is None:
                self._count = discovery.count(self._options.inputs)
            else:
                found = discovery.resolve(self._options.inputs, self._options.root).images()
                self._count = sum(1 for _ in of_shard(found, self._shard))

    def _total(self, summary: Summary) -> int | None:
        """Images to do, those skipped so far included; None while unknown."""
        if self._is_later:  # nobody knows how many will come
            return None
        limit = self._options.limit
        if self._count is None or limit is None:
            return self._count
        return min(self._count, summary.skipped + max(limit, summary.done))
