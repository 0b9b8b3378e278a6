"""One pass over images: what is done is left out, the others are captioned and written, batch by batch."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Final

from batchcap.images import files
from batchcap.images.loader import Batch, Known, load
from batchcap.journal.journal import Journal
from batchcap.journal.large_images import LargeImages
from batchcap.journal.stream import StreamJournal
from batchcap.records import ImageRef, Key, Record
from batchcap.reporting import no_report
from batchcap.run.batch_records import batch_records
from batchcap.run.failure_limit import FailureLimit
from batchcap.run.figures import StageSeconds, Summary
from batchcap.run.job import Job
from batchcap.run.output import Output
from batchcap.run.selection import Pending
from batchcap.run.shards import of_shard
from batchcap.run.watching import Watcher
from batchcap.runtime.captioner import Captioner
from batchcap.system.interrupts import InterruptGuard

LOADER_SECONDS: Final = 0.5
"""How long a run that ends early waits for its threads: one that reads from a disk that does not answer never ends."""


@dataclass(slots=True, kw_only=True)
class Session:
    """What stays open over all passes of a run: the output, and the model once it is needed."""

    job: Job
    output: Output
    summary: Summary
    watcher: Watcher
    guard: InterruptGuard
    tick: Callable[[], object] = no_report
    """Called whenever an image was found or a batch is written."""
    forgets_vanished: bool = False
    """An image that is not there any more is no failure: nothing is written about it."""
    repeats: bool = False
    """The images come once more: a failure that the output holds already is not counted again."""
    captioner: Captioner | None = None
    """None: not loaded yet."""
    large: LargeImages = field(init=False)
    _begun: bool = False

    def __post_init__(self) -> None:
        self.summary.note_opened(self.output)
        path = self.output.path if isinstance(self.output, Journal) else None
        self.large = LargeImages(path, retry=not {"all", "killed"}.isdisjoint(self.job.options.retry_errors))

    def model(self) -> Captioner:
        """The model, loaded at the first call, which also tells the caller that the run begins."""
        if not self._begun:
            self._begun = True
            self.watcher.begin(self.job.start(self.output))
        self.captioner = self.captioner or self.job.load_model()
        return self.captioner

    def write(self, records: Sequence[Record], seconds: StageSeconds, known: Collection[Key] = ()) -> None:
        """Commit and count the records of a batch.

        Args:
            records: of the batch.
            seconds: that it took so far.
            known: the keys of images that were found again by their content.
        """
        # The reader of a stream may have stopped, and a run that writes to it must end nevertheless.
        with self.guard.shielded(hurried=isinstance(self.output, StreamJournal)):
            self._write(records, seconds, known)

    def _write(self, records: Sequence[Record], seconds: StageSeconds, known: Collection[Key]) -> None:
        started = time.perf_counter()
        counted = records
        if self.repeats and isinstance(self.output, Journal):
            counted = [record for record in records if not self.output.holds(record)]
        failed = [record for record in counted if record.error is not None]
        self.summary.failed_anew += sum(not self.output.failed_alike(record) for record in failed)
        self.output.append(records)
        self.large.settle(records)
        self.summary.note_output(self.output, is_first_pass=not self.repeats)
        self.summary.add(counted, seconds + StageSeconds(write=time.perf_counter() - started), known)

    def forget_unseen(self) -> None:
        """All images were seen: a large one that was noted and not seen is gone, or it is in another shard."""
        if self.job.operation.part is None:
            self.large.finish()

    def commit(self, complete: bool) -> None:
        """End the output; ``complete``: nothing was left out."""
        with self.guard.shielded():
            if complete:
                self.forget_unseen()
            complete = complete and not _would_lose_captions(self.output, self.summary)
            self.output.commit(complete=complete)
            self.summary.committed = complete


def caption_new(session: Session, found: Iterator[ImageRef]) -> bool:
    """Caption those of the images that are in this run's shard and that the output does not have; write their records.

    It may be called again with the same session, for images that have come since. A signal ends the waiting for an
    image at once; a batch that the model has begun is finished and written before.

    Returns:
        Whether nothing was left out because of a limit.

    Raises:
        TooManyFailuresError: of the images of this pass more failed than `OperationOptions` allow.
    """
    limit = FailureLimit(session.job.operation.failure_limit)
    part = of_shard(_ticking(found, session.tick), session.job.operation.part)
    pending = Pending(session.output, part, session.job.options.limit)
    if (first := next(pending, None)) is not None:
        captioner = session.model()
        images = session.large.refuse(chain((first,), pending))
        with closing(_batches(session, images, captioner)) as batches:
            for batch in batches:
                with session.guard.shielded(hurried=True):
                    with session.guard.shielded():
                        records, seconds = _captioned(batch, captioner, session.output.root)
                        if session.forgets_vanished:
                            records = _of_present(batch.refs, records)
                    known = {each.record.key for each in batch.outcomes if isinstance(each, Known)}
                    session.write(limit.within(records), seconds, known)
                    session.summary.reduced_batch = captioner.reduced_batch
                session.tick()
                session.watcher.report(session.summary)
                limit.check()
    session.summary.note_output(session.output, is_first_pass=not session.repeats)
    session.summary.limited = not pending.reached_end
    return pending.reached_end


def _batches(session: Session, images: Iterable[ImageRef], captioner: Captioner) -> Generator[Batch, None, None]:
    """Batches of pixels; threads load the next ones while the model works on one."""
    options = session.job.options
    return load(
        images,
        captioner.bundle.manifest.preprocess,
        options.batch_size,
        options.workers,
        accept_damaged=options.accept_damaged,
        decoding=session.large.note,
        recall=partial(_recalled, session.output) if options.checksum else None,
        closing_seconds=LOADER_SECONDS,
    )


def _recalled(output: Output, ref: ImageRef, sha256: str) -> Record | None:
    """The record of an image by its content, which was read just now.

    A record without a hash is found by size and time. So these must still be those that were seen, or another content
    would have this caption from now on.
    """
    record = output.recall(ref, sha256)
    if record is None or files.look(ref.file)[:2] != (ref.size, ref.mtime_us):
        return None
    return record


def _captioned(batch: Batch, captioner: Captioner, root: str | None) -> tuple[list[Record], StageSeconds]:
    """The records of a batch, and the time it took."""
    before = dict(captioner.seconds)
    captions = captioner.caption_pixels(batch.pixels, batch.count, batch.good_keys)
    batch.release()
    spent = {stage: seconds - before[stage] for stage, seconds in captioner.seconds.items()}
    several = captioner.decoding.num_captions > 1
    records = batch_records(batch, captions, captioner.fingerprint, root, several=several)
    return records, StageSeconds(load=batch.seconds, **spent)


def _ticking(found: Iterable[ImageRef], tick: Callable[[], object]) -> Iterator[ImageRef]:
    for ref in found:
        tick()
        yield ref


def _of_present(refs: Sequence[ImageRef], records: Sequence[Record]) -> list[Record]:
    """The records of a batch without errors of reading what was removed, or lies on a disk that was taken away."""
    pairs = zip(refs, records, strict=True)
    return [
        record
        for ref, record in pairs
        if record.error is None or record.error.stage != "read" or os.path.lexists(ref.file)
    ]


def _would_lose_captions(output: Output, summary: Summary) -> bool:
    """Whether the new output would replace an old one without all of its images: perhaps a disk is not mounted now."""
    return output.replaces and (summary.unreadable > 0 or summary.done + summary.skipped == 0)
