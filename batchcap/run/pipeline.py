"""The road of every image: found, loaded, captioned, written. `run` joins the stages; it prints nothing."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from functools import partial
from itertools import chain
from typing import Any, TypeAlias

from msgspec import structs

from batchcap.bundle.bundle import Bundle, open_bundle
from batchcap.bundle.token_lookup import prefix_tokens
from batchcap.errors import BatchcapError, NoImagesError, OutputError
from batchcap.images import discovery
from batchcap.images.giants import Giants
from batchcap.images.loader import Batch, Loaded, load
from batchcap.images.walk import Unread
from batchcap.journal.journal import Journal
from batchcap.journal.scores import rounded
from batchcap.journal.stream import StreamJournal
from batchcap.options.run import RunOptions
from batchcap.records import Caption, Failure, Fingerprint, ImageRef, Record
from batchcap.roots import Root
from batchcap.run.progress import Progress, Start, Summary, Tally
from batchcap.runtime.captioner import Captioner
from batchcap.runtime.decoding_defaults import decoding_options
from batchcap.runtime.device import Device
from batchcap.runtime.device_choice import choose_device
from batchcap.runtime.precision import in_precision
from batchcap.system.interrupts import Interrupted, InterruptGuard

Report: TypeAlias = Callable[[Progress], None]
Output: TypeAlias = Journal | StreamJournal


def run(
    options: RunOptions,
    decoding: Mapping[str, Any] | None = None,
    report: Report | None = None,
    begin: Callable[[Start], None] | None = None,
    *,
    count_total: bool = False,
) -> Summary:
    """Caption every image that the output does not have yet.

    Everything is checked before the output is touched: bundle, decoding, device, inputs, model, the output itself.
    Where the output is already there the model is loaded last, so that finding nothing to do is quick. A SIGINT or
    SIGTERM ends the run early and is noted in the summary; what was written stays.

    Args:
        options: what to caption, with which model, into which file.
        decoding: arguments of `captioner.decoding_options`: what differs from the bundle's defaults.
        report: called in this thread after every batch.
        begin: called in this thread before the first image that is to be captioned; never where there is none.
        count_total: list the folders once more, in a thread beside the run, so that reports carry the total.

    Raises:
        BatchcapError: the run could not start or had to stop; each cause has its class. Written records are intact.
    """
    tally = Tally()
    interrupted = None
    with InterruptGuard() as guard:
        try:
            _run(options, decoding or {}, report, begin, tally, guard, count_total=count_total)
        except Interrupted as signal:
            interrupted = signal.signum
    return tally.summary(options.output, options.overwrite, interrupted)


def _run(
    options: RunOptions,
    overrides: Mapping[str, Any],
    report: Report | None,
    begin: Callable[[Start], None] | None,
    tally: Tally,
    guard: InterruptGuard,
    *,
    count_total: bool,
) -> None:
    """Check, open, and send what is pending down the road."""
    bundle = open_bundle(options.model)
    decoding = decoding_options(bundle.manifest, **overrides)
    prefix_tokens(bundle, decoding)  # a word, banned ones too, that the model does not know ends the run here already
    device = choose_device(options.device)
    bundle = in_precision(bundle, options.precision, device)
    refs = _some(discovery.discover(options.inputs, options.root, tally.unread), options, tally.unread)
    root = discovery.root_of(options.inputs, options.root)
    fingerprint = Fingerprint(model=bundle.label, preprocess="exact", decoding=decoding.label)
    tally.device, tally.device_note, tally.fingerprint = device.description, device.note, fingerprint
    load_model = partial(Captioner, bundle, decoding, device, options.batch_size)
    # Not Path.exists, which raises for a name that is too long or hidden: opening the output explains that.
    starts_anew = options.output is None or options.overwrite or not os.path.exists(options.output)  # noqa: PTH110
    captioner = load_model() if starts_anew else None
    with _open_output(options, fingerprint, root, decoding.num_captions) as output:
        tally.note_opened(output)
        giants = Giants(output.path if isinstance(output, Journal) else None, retry=options.retry_errors)
        todo = _Limited(output, refs, options.limit)
        if (first := next(todo, None)) is not None:
            if begin:
                begin(_start(options, bundle, device, fresh=output.fresh))
            captioner = captioner or load_model()
            total = _Total(options) if report and count_total else None
            pending = giants.refuse(chain((first,), todo))
            _caption(pending, captioner, output, options, report, tally, guard, giants=giants, total=total)
        tally.note_skipped(output)
        tally.limited = not todo.reached_end
        # Captions give way only to a new output of all images: not to one of a disk that is not mounted just now.
        poorer = output.replaces and (tally.unreadable > 0 or tally.done + tally.skipped == 0)
        with guard.shielded():
            if todo.reached_end:
                giants.finish()
            output.commit(complete=todo.reached_end and not poorer)
            tally.safe, tally.committed = output.done, todo.reached_end and not poorer


def _caption(
    refs: Iterable[ImageRef],
    captioner: Captioner,
    output: Output,
    options: RunOptions,
    report: Report | None,
    tally: Tally,
    guard: InterruptGuard,
    *,
    giants: Giants,
    total: _Total | None,
) -> None:
    """The road itself: threads load the next batches while the model works on one."""
    how = captioner.bundle.manifest.preprocess
    accept = options.accept_damaged
    with closing(load(refs, how, options.batch_size, options.workers, accept_damaged=accept, giants=giants)) as batches:
        for batch in batches:
            before = dict(captioner.seconds)
            captions = captioner.caption_pixels(batch.pixels, batch.count, batch.good_keys)
            batch.release()
            records = _records(batch, captions, captioner, output.root)
            spent = {stage: seconds - before[stage] for stage, seconds in captioner.seconds.items()}
            with guard.shielded():
                started = time.perf_counter()
                output.append(records)
                giants.settle(records)
                tally.safe = output.done
                tally.note_skipped(output)
                tally.add(records, load=batch.seconds, write=time.perf_counter() - started, **spent)
            if report:
                report(tally.progress(total.images(tally.skipped, tally.done) if total else None))


def _start(options: RunOptions, bundle: Bundle, device: Device, *, fresh: bool) -> Start:
    return Start(
        inputs=options.inputs,
        output=options.output,
        model=bundle.label,
        terms=bundle.manifest.provenance.terms,
        device=device.description,
        fresh=fresh,
    )


def _some(refs: Iterator[ImageRef], options: RunOptions, unread: Unread) -> Iterator[ImageRef]:
    """``refs`` again, if there is one."""
    first = next(refs, None)
    if first is not None:
        return chain((first,), refs)
    if options.allow_empty:
        return iter(())
    names = ", ".join(str(path) for path in options.inputs[:3]) + (", ..." if len(options.inputs) > 3 else "")
    others = ", ".join(f"{count:,} {kind}" for kind, count in unread.kinds.most_common(5))
    what = f"There is no image in {names} that is read here: {others}." if others else f"There is no image in {names}."
    raise NoImagesError(
        what,
        f"Names of images end in {', '.join(discovery.SUFFIXES)}. If that may happen, add --allow-empty.",
    )


class _Limited(Iterator[ImageRef]):
    """What is pending, up to the limit.

    What failed in an earlier run and is tried again, and what cannot be looked at now, does not count: ``limit`` such
    images would keep every run from getting any further.

    Attributes:
        reached_end: nothing that is pending was left out.
    """

    def __init__(self, output: Output, refs: Iterator[ImageRef], limit: int | None) -> None:
        self._output, self._pending, self._left = output, output.pending(refs), limit
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


def _open_output(options: RunOptions, fingerprint: Fingerprint, root: Root, num_captions: int) -> Output:
    if options.output is None:
        if sys.stdout is None:
            raise OutputError("Standard output is closed.", "Leave it open, or name a file with -o.")
        return StreamJournal(sys.stdout.buffer, root.text)
    return Journal.open(
        options.output,
        options.format,
        fingerprint,
        root=root,
        on_mismatch=options.on_mismatch,
        relocate=options.relocate,
        overwrite=options.overwrite,
        retry_errors=options.retry_errors,
        accept_damaged=options.accept_damaged,
        num_captions=num_captions,
    )


def _records(
    batch: Batch, captions: Sequence[tuple[Caption, ...]], captioner: Captioner, root: str | None
) -> list[Record]:
    """One record an image of the batch, in order; ``captions`` has those of the good ones."""
    several = captioner.decoding.num_captions > 1
    good = iter(captions)
    made = []
    for ref, outcome in zip(batch.refs, batch.outcomes, strict=True):
        record = _unanswered(ref, root, captioner.fingerprint)
        if isinstance(outcome, Failure):
            made.append(structs.replace(record, error=outcome))
        else:
            made.append(_captioned(record, outcome, next(good), several))
    return made


def _captioned(record: Record, size: Loaded, captions: Sequence[Caption], several: bool) -> Record:
    written = tuple(map(rounded, captions))
    best = written[0]
    return structs.replace(
        record,
        caption=best.caption,
        log_prob=best.log_prob,
        score=best.score,
        captions=written if several else None,
        damaged=size.damaged,
        width=size.width,
        height=size.height,
    )


def _unanswered(ref: ImageRef, root: str | None, made_with: Fingerprint) -> Record:
    """What a record says whether its image got captions or not."""
    return Record(
        path=ref.path,
        member=ref.member,
        path_b64=ref.path_b64,
        bytes=ref.size,
        mtime_us=ref.mtime_us,
        root=root,
        model=made_with.model,
        preprocess=made_with.preprocess,
        decoding=made_with.decoding,
    )


class _Total:
    """Counts the inputs in a thread beside the run, so that a bar gets its end when it is known."""

    def __init__(self, options: RunOptions) -> None:
        self._options = options
        self._count: int | None = None
        # A daemon: a run that is done does not wait for the count.
        threading.Thread(target=self._work, name="batchcap-count", daemon=True).start()

    def _work(self) -> None:
        with suppress(BatchcapError, OSError):  # an input that vanished meanwhile: the run itself will say so
            self._count = discovery.count(self._options.inputs)

    def images(self, skipped: int, done: int) -> int | None:
        """Images to do, those skipped so far included; None while unknown."""
        limit = self._options.limit
        if self._count is None or limit is None:
            return self._count
        return min(self._count, skipped + max(limit, done))
