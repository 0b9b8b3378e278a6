"""The figures of a run: counted while it goes on, shown after every batch, and returned at its end."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from batchcap.images.walk import Unread
from batchcap.options.operation import FailOn
from batchcap.records import KEPT_FAILURES, Fingerprint, ImageRef, Key, Record
from batchcap.run.output import Output


@dataclass(frozen=True, slots=True, kw_only=True)
class StageSeconds:
    """Where the time went. Stages overlap, so the sum is more than the wall time."""

    load: float = 0.0
    """Reading, decoding and resizing, summed over the worker threads."""
    encode: float = 0.0
    search: float = 0.0
    write: float = 0.0

    def __add__(self, other: StageSeconds) -> StageSeconds:
        return StageSeconds(
            load=self.load + other.load,
            encode=self.encode + other.encode,
            search=self.search + other.search,
            write=self.write + other.write,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What a run sets out to do; known when there is an image to caption."""

    inputs: tuple[Path, ...]
    output: Path | None
    """None: standard output."""
    model: str
    """The bundle's label, with its precision."""
    terms: str
    """Under which terms the model may be used; empty where the bundle does not say."""
    device: str
    """The device in words."""
    fresh: bool
    """The output holds no record of this model yet, not even an error."""
    shard: str = ""
    """The shard of the inputs that is captioned, ``2/4``; empty: all of them."""


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
    waiting: bool = False
    """With ``--watch``: all is captioned, and the run waits for more."""
    reduced_batch: int | None = None
    """Images that go through the model together since memory ran out; None: it did not."""


@dataclass(slots=True, kw_only=True)
class Summary:
    """What a run has done. The run counts into it, so it is there however the run ends; complete once that is over."""

    output: Path | None
    """None: standard output."""
    overwrite: bool
    shard: str = ""
    """The shard of the inputs that the run captions, ``2/4``; empty: all of them."""
    fail_on: FailOn = "any"
    """Which failures of images the exit code tells."""
    captioned: int = 0
    """Images of this run that the model has captioned."""
    found_again: int = 0
    """Images that got the caption of their content, without the model."""
    failed: int = 0
    """Records of this run that carry an error."""
    failed_anew: int = 0
    """How many of ``failed`` had not failed in the same way before."""
    damaged: int = 0
    """Images of this run that were captioned although they are truncated or damaged."""
    failed_kinds: Counter[tuple[str, str]] = field(default_factory=Counter)
    """``failed`` by stage and kind."""
    folders: int = 0
    """How many of ``failed`` are no images, but folders that could not be listed."""
    unreadable: int = 0
    """Images and folders that could not be read in this run."""
    failures: tuple[Record, ...] = ()
    """The first few records that carry an error."""
    latest: tuple[Record, ...] = ()
    """The records of the last batch that carry an error."""
    unread: Unread = field(default_factory=Unread)
    """What lies in the folders and is not read."""
    bytes: int = 0
    """Bytes of the files of ``captioned`` and ``failed``."""
    skipped: int = 0
    """Images that the output already had."""
    skipped_kinds: Counter[str] = field(default_factory=Counter)
    """Images among ``skipped`` whose record is an error, by its kind: they could not be decoded before, and have not
    changed."""
    skipped_examples: tuple[tuple[ImageRef, str], ...] = ()
    """The first few of these, with the kind."""
    safe: int = 0
    """Images that have a finished record now; with ``overwrite`` in the new file. Read errors are not finished."""
    limited: bool = False
    """The limit left images out."""
    committed: bool = False
    """The run came to its end, and no limit left anything out: with ``overwrite`` its records stand in the output, else
    beside it."""
    cut: int = 0
    """Bytes of a torn last line that were cut from the output."""
    cut_text: str = ""
    """Their beginning, as text."""
    live: Path | None = None
    """The file that was written, links resolved: with ``overwrite`` the new one. None before it was opened."""
    relocated: str = ""
    """The root that was written into all records of the output; empty: none was."""
    unfinished: Path | None = None
    """What a stopped run with ``overwrite`` has left, where this run did not go on with it."""
    device: str = ""
    """The device in words; empty where the run ended before one was chosen."""
    device_note: str = ""
    """Why ``auto`` chose the CPU; empty where it did not."""
    reduced_batch: int | None = None
    """Images that went through the model together since memory ran out; None: it did not."""
    fingerprint: Fingerprint | None = None
    seconds: StageSeconds = StageSeconds()
    started: float = field(default_factory=time.perf_counter)
    wall: float = 0.0
    """Seconds from the first check to the end."""
    interrupted: int | None = None
    """The signal that ended the run early."""

    @property
    def records(self) -> int | None:
        """`safe`; None where the run ended before it had looked into its output, which may hold any number."""
        return None if self.output is not None and self.live is None else self.safe

    def note_opened(self, output: Output) -> None:
        """Take over what the output holds when the run begins."""
        self.cut, self.cut_text = output.cut, output.cut_text
        self.unfinished, self.live = output.unfinished, output.live
        self.relocated = (output.root or "") if output.relocated else ""
        self.note_output(output)

    def note_output(self, output: Output, *, is_first_pass: bool = True) -> None:
        """Take over what the output holds, and what the first pass has left out: later ones skip what this run did."""
        self.safe = output.done
        if is_first_pass:
            self.skipped = output.skipped + output.repeated
            self.skipped_kinds, self.skipped_examples = output.skipped_kinds, tuple(output.skipped_examples)

    def add(self, records: Sequence[Record], seconds: StageSeconds, known: Collection[Key] = ()) -> None:
        """Count a batch that is written; ``seconds`` are its own, ``known`` its images that were found again."""
        self.latest = tuple(record for record in records if record.error is not None)
        self.failures = (self.failures + self.latest)[:KEPT_FAILURES]
        errors = [record.error for record in self.latest if record.error is not None]
        self.failed += len(errors)
        self.failed_kinds.update((error.stage, error.kind) for error in errors)
        self.folders += sum(error.of_folder for error in errors)
        self.unreadable += sum(error.stage == "read" for error in errors)
        found_again = sum(record.key in known for record in records)
        self.captioned += len(records) - len(errors) - found_again
        self.found_again += found_again
        self.damaged += sum(record.damaged is not None and record.key not in known for record in records)
        self.bytes += sum(record.bytes or 0 for record in records)
        self.seconds += seconds

    def end(self, interrupted: int | None) -> None:
        """The run is over, ended by a signal or not."""
        self.interrupted = interrupted
        self.wall = time.perf_counter() - self.started

    def progress(self, total: int | None) -> Progress:
        """How far the run is."""
        return Progress(
            done=self.done,
            failed=self.failed,
            skipped=self.skipped,
            total=total,
            seconds=self.seconds,
            failures=self.latest,
            reduced_batch=self.reduced_batch,
        )

    @property
    def done(self) -> int:
        """Images of this run that have a record now."""
        return self.captioned + self.found_again + self.failed

    @property
    def exit_code(self) -> int:
        """0 all captioned, 3 some images have no caption, 128 + the number of a signal.

        Unless `fail_on` says otherwise, 3 as long as an image of the inputs failed in this run or before: a run that
        cron starts every night must not say that all is well because it has stopped trying.
        """
        if self.interrupted is not None:
            return 128 + self.interrupted
        told = {"any": self.without_caption, "new": self.failed_anew, "none": 0}
        return 3 if told[self.fail_on] else 0

    @property
    def skipped_failures(self) -> int:
        """How many images `skipped_kinds` counts."""
        return self.skipped_kinds.total()

    @property
    def without_caption(self) -> int:
        """Images of the inputs whose record is an error, made now or before."""
        return self.failed + self.skipped_failures
