"""`--dry-run`: what a run would do, and about how long that takes. Nothing is written, and no output is locked."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from batchcap.images.loader import Known, Outcome, load
from batchcap.images.walk import Unread
from batchcap.journal.stream import StreamJournal
from batchcap.options.operation import OperationOptions
from batchcap.options.run import RunOptions
from batchcap.records import Failure, ImageRef
from batchcap.reporting import Say, no_report
from batchcap.run.figures import Summary
from batchcap.run.job import Job, check
from batchcap.run.one_pass import LOADER_SECONDS
from batchcap.run.output import Output, open_output
from batchcap.run.shards import holds
from batchcap.runtime.captioner import Captioner

# How many images a sample has: whole batches, and a part of what is to be done at most.
_SAMPLE_BATCHES: Final = 4
_SAMPLE_IMAGES: Final = 1024
_SAMPLE_PART: Final = 4
_SAMPLE_SECONDS: Final = 10.0
_TOLD_EVERY: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Images that were captioned to see how long that takes."""

    images: int
    failed: int
    """How many of them cannot be read or decoded."""
    known: int
    """How many of them need no caption: with ``checksum``, as their content has one."""
    seconds: float
    """From the reading of the first to the last caption; without loading the model, and a first batch."""
    loading: float
    """Seconds that it took to load the model, and for that first batch."""

    @property
    def rate(self) -> float:
        """Images a second."""
        return self.images / self.seconds


@dataclass(slots=True, kw_only=True)
class DryRun:
    """What a run would do. Images are those of the shard, each counted once."""

    output: Path | None
    shard: str
    model: str
    device: str
    limit: int | None
    new: int = 0
    """Images without a record."""
    changed: int = 0
    """Images whose file is another than when they were captioned, or whose record was made with other settings."""
    retried: int = 0
    """Images whose record is an error, and that are tried again."""
    captioned: int = 0
    """Images that have a caption, and are skipped."""
    failed: int = 0
    """Images whose record is an error, and that are skipped."""
    unreadable: Counter[str] = field(default_factory=Counter)
    """Images and folders that cannot be looked at now, by kind of error; a run would write these as errors."""
    elsewhere: int = 0
    """Images of other shards."""
    unread: Unread = field(default_factory=Unread)
    """What lies in the folders and is not read."""
    sample: Sample | None = None
    """None: there is too little to do."""

    @property
    def to_do(self) -> int:
        """Images that the run would caption, or try to."""
        wanted = self.new + self.changed
        return self.retried + (wanted if self.limit is None else min(wanted, self.limit))

    @property
    def seconds(self) -> float | None:
        """About how long the run would take; None: not known."""
        return None if self.sample is None else self.sample.loading + self.to_do / self.sample.rate


def dry_run(
    options: RunOptions,
    decoding: Mapping[str, Any] | None = None,
    operation: OperationOptions | None = None,
    now: Say = no_report,
) -> DryRun:
    """Look at every image and at the output, and caption a few images without writing their captions.

    Args:
        options, decoding, operation: of the run that is meant; see `pipeline.run`.
        now: gets now and then what is being done, in words.

    Raises:
        BatchcapError: the run could not start; each cause has its class. A lock of another run is no cause.
    """
    operation = operation or OperationOptions()
    summary = Summary(output=options.output, overwrite=options.overwrite)
    job = check(options, operation, decoding or {}, summary)
    found = DryRun(
        output=options.output,
        shard=operation.shard or "",
        model=job.bundle.label,
        device=job.device.description,
        limit=options.limit,
        unread=summary.unread,
    )
    with _open(job) as output:
        refs = _own(job, found, now)
        kept = _reservoir(_counted(output, refs, found), _sample_size(options.batch_size))
        found.captioned = output.skipped - output.skipped_failures
        found.failed = output.skipped_failures
        now("captioning a few images")
        found.sample = _sample(job, output, kept, found.to_do)
    return found


def _open(job: Job) -> Output:
    if job.options.output is None:
        return StreamJournal(BytesIO(), job.inputs.root.text)
    return open_output(job.options, job.fingerprint, job.inputs.root, job.decoding, read_only=True)


def _own(job: Job, found: DryRun, now: Say) -> Iterator[ImageRef]:
    """The images of this run's shard."""
    shard = job.operation.part
    for number, ref in enumerate(job.found):
        if number % _TOLD_EVERY == 0:
            now(f"looking at images: {number:,}")
        if shard is None or holds(shard, ref.key):
            yield ref
        else:
            found.elsewhere += 1


def _counted(output: Output, refs: Iterable[ImageRef], found: DryRun) -> Iterator[ImageRef]:
    """The images that the run would caption, counted by why."""
    for ref in output.pending(refs):
        if ref.failure is not None:
            found.unreadable["folder" if ref.failure.of_folder else ref.failure.kind] += 1
            continue
        if output.is_retry(ref):
            found.retried += 1
        elif output.is_known(ref):
            found.changed += 1
        else:
            found.new += 1
        yield ref


def _reservoir(refs: Iterable[ImageRef], size: int) -> list[ImageRef]:
    """So many of the images, in any order, each with the same probability (Vitter 1985, algorithm R)."""
    draw = random.Random(0)  # noqa: S311 - the same sample every time
    kept: list[ImageRef] = []
    for number, ref in enumerate(refs):
        if number < size:
            kept.append(ref)
        elif (place := draw.randrange(number + 1)) < size:
            kept[place] = ref
    draw.shuffle(kept)
    return kept


def _sample_size(batch_size: int) -> int:
    return batch_size * min(1 + _SAMPLE_BATCHES, max(2, _SAMPLE_IMAGES // batch_size))


def _sample(job: Job, output: Output, refs: list[ImageRef], to_do: int) -> Sample | None:
    """Caption a first batch, and then some more with the clock; nothing where there is little to do."""
    size = job.options.batch_size
    batches = min(len(refs), to_do // _SAMPLE_PART) // size
    if batches < 2:
        return None
    started = time.perf_counter()
    captioner = job.load_model()
    for _ in _outcomes(job, output, captioner, refs[:size]):
        pass
    loading, started = time.perf_counter() - started, time.perf_counter()
    outcomes: list[Outcome] = []
    for batch in _outcomes(job, output, captioner, refs[size : batches * size]):
        outcomes += batch
        if time.perf_counter() - started > _SAMPLE_SECONDS:
            break
    return Sample(
        images=len(outcomes),
        failed=sum(isinstance(each, Failure) for each in outcomes),
        known=sum(isinstance(each, Known) for each in outcomes),
        seconds=time.perf_counter() - started,
        loading=loading,
    )


def _outcomes(job: Job, output: Output, captioner: Captioner, refs: list[ImageRef]) -> Iterator[Sequence[Outcome]]:
    """Caption images as a run does; yields what became of those of each batch."""
    options, how = job.options, job.bundle.manifest.preprocess
    batches = load(
        refs,
        how,
        options.batch_size,
        options.workers,
        accept_damaged=options.accept_damaged,
        recall=output.recall if options.checksum else None,
        closing_seconds=LOADER_SECONDS,
    )
    with closing(batches):
        for batch in batches:
            captioner.caption_pixels(batch.pixels, batch.count, batch.good_keys)
            batch.release()
            yield batch.outcomes
