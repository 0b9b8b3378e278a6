"""How far a run is, and what it did: the values that `batchcap.run.pipeline` hands out, and what counts them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from batchcap.images.walk import Unread
from batchcap.records import Fingerprint, Record

KEPT_FAILURES: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class StageSeconds:
    """Where the time went. Stages overlap, so the sum is more than the wall time."""

    load: float = 0.0
    """Reading, decoding and resizing, summed over the worker threads."""
    encode: float = 0.0
    search: float = 0.0
    write: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What a run sets out to do; known when there is an image to caption."""

    inputs: tuple[Path, ...]
    output: Path | None
    """None: standard output."""
    model: str
    """The bundle's label, with its precision."""
    terms: str
    """Under which terms the model may be used; empty where nobody said."""
    device: str
    """The device in words."""
    fresh: bool
    """The output holds no record of this model yet, no error either."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a run is; reported after every batch."""

    done: int
    """Images of this run that have a record now, failed ones included."""
    failed: int
    skipped: int
    """Images that the output already had."""
    total: int | None
    """Images there are to do, ``skipped`` included; None while they are being counted, or are not."""
    seconds: StageSeconds
    failures: tuple[Record, ...]
    """The records of the last batch that carry an error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a run did."""

    captioned: int
    failed: int
    """Records of this run that carry an error."""
    damaged: int
    """Images of this run that were captioned although they are truncated or damaged."""
    folders: int
    """How many of ``failed`` are no images, but folders that could not be listed."""
    unread: tuple[tuple[str, int], ...]
    """Files that lie in the folders and are not read: kind (``.heic``, ``.txt``, ``other``) and number, most first."""
    links: int
    """Names in the folders that were left out because their image or folder comes under another name."""
    skipped: int
    skipped_failures: int
    """Images among ``skipped`` whose record is an error: they could not be decoded before, and have not changed."""
    safe: int
    """Images that have a finished record now; with ``overwrite`` in the new file. Read errors are not finished."""
    committed: bool
    """The run came to its end, and no limit left anything out: with ``overwrite`` its records stand in the output, else
    beside it."""
    limited: bool
    """The limit left images out."""
    unreadable: int
    """Images and folders that could not be read in this run."""
    cut: int
    """Bytes of a torn last line that were cut from the output."""
    cut_text: str
    """What they said, as far as it is not too long."""
    live: Path | None
    """The file that was written, links resolved: with ``overwrite`` the new one. None before it was opened."""
    unfinished: Path | None
    """What a stopped run with ``overwrite`` has left, where this run did not go on with it."""
    seconds: StageSeconds
    wall: float
    """Seconds from the first check to the last record."""
    device: str
    """The device in words; empty where the run ended before one was chosen."""
    device_note: str
    """Why ``auto`` chose the CPU; empty where it did not."""
    fingerprint: Fingerprint | None
    output: Path | None
    """None: standard output."""
    overwrite: bool
    failures: tuple[Record, ...]
    """The first few records that carry an error."""
    interrupted: int | None
    """The signal that ended the run early."""

    @property
    def exit_code(self) -> int:
        """0 all captioned, 3 some images have no caption, 130 SIGINT, 143 SIGTERM.

        3 as long as an image of the inputs failed in this run or before: a run that cron starts every night must not
        say that all is well because it has stopped trying.
        """
        if self.interrupted is not None:
            return 128 + self.interrupted
        return 3 if self.without_caption else 0

    @property
    def without_caption(self) -> int:
        """Images of the inputs whose record is an error, made now or before."""
        return self.failed + self.skipped_failures


class Skips(Protocol):
    """What an output counts and finds."""

    cut: int
    """Bytes of a torn last line that were cut."""
    cut_text: str
    """What they said."""

    @property
    def unfinished(self) -> Path | None:
        """What a stopped run with ``overwrite`` has left."""

    @property
    def done(self) -> int:
        """Images with a finished record."""

    @property
    def live(self) -> Path | None:
        """The file that is written; None: a stream."""

    skipped: int
    """Images that are done."""
    skipped_failures: int
    """Images among them without a caption."""
    repeated: int
    """Images that this run had met before."""


class Tally:
    """Counts a run. It outlives whatever ends the run."""

    def __init__(self) -> None:
        self.safe = 0
        self.committed = self.limited = False
        self.cut = self.unreadable = 0
        self.cut_text = ""
        self.unfinished: Path | None = None
        self.live: Path | None = None
        self.skipped = self.skipped_failures = 0
        self.unread = Unread()
        self.device = self.device_note = ""
        self.fingerprint: Fingerprint | None = None
        self._started = time.perf_counter()
        self._captioned = self._failed = self._folders = self._damaged = 0
        self._last: tuple[Record, ...] = ()
        self._first: tuple[Record, ...] = ()
        self._seconds = StageSeconds()

    def add(self, records: Sequence[Record], *, load: float, encode: float, search: float, write: float) -> None:
        """Count a batch that is written; the seconds are those of this batch."""
        self._last = tuple(record for record in records if record.error is not None)
        self._first = (self._first + self._last)[:KEPT_FAILURES]
        self._failed += len(self._last)
        self._folders += sum(record.error is not None and record.error.of_folder for record in self._last)
        self._captioned += len(records) - len(self._last)
        self.unreadable += sum(record.error is not None and record.error.stage == "read" for record in self._last)
        self._damaged += sum(record.damaged is not None for record in records)
        before = self._seconds
        self._seconds = StageSeconds(
            load=before.load + load,
            encode=before.encode + encode,
            search=before.search + search,
            write=before.write + write,
        )

    def note_opened(self, output: Skips) -> None:
        """Take over what the output holds when the run begins."""
        self.safe, self.cut, self.cut_text = output.done, output.cut, output.cut_text
        self.unfinished, self.live = output.unfinished, output.live

    def note_skipped(self, output: Skips) -> None:
        """Take over what the output has left out so far."""
        self.skipped = output.skipped + output.repeated
        self.skipped_failures = output.skipped_failures

    @property
    def done(self) -> int:
        """Images of this run that have a record now."""
        return self._captioned + self._failed

    def progress(self, total: int | None) -> Progress:
        """How far the run is."""
        return Progress(
            done=self.done,
            failed=self._failed,
            skipped=self.skipped,
            total=total,
            seconds=self._seconds,
            failures=self._last,
        )

    def summary(self, output: Path | None, overwrite: bool, interrupted: int | None) -> Summary:
        """The end of the run."""
        return Summary(
            captioned=self._captioned,
            failed=self._failed,
            damaged=self._damaged,
            folders=self._folders,
            unread=tuple(self.unread.kinds.most_common()),
            links=self.unread.links,
            skipped=self.skipped,
            skipped_failures=self.skipped_failures,
            safe=self.safe,
            committed=self.committed,
            limited=self.limited,
            unreadable=self.unreadable,
            cut=self.cut,
            cut_text=self.cut_text,
            live=self.live,
            unfinished=self.unfinished,
            seconds=self._seconds,
            wall=time.perf_counter() - self._started,
            device=self.device,
            device_note=self.device_note,
            fingerprint=self.fingerprint,
            output=output,
            overwrite=overwrite,
            failures=self._first,
            interrupted=interrupted,
        )
