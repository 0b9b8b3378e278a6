"""The way of every image: found, loaded, captioned, written. `run` joins the stages; it prints nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from typing import Any

from batchcap.bundle.bundle import Bundle, open_bundle
from batchcap.bundle.token_lookup import prefix_tokens
from batchcap.images import discovery
from batchcap.images.loader import DecodingContext, load
from batchcap.journal.journal import Journal
from batchcap.journal.large_images import LargeImages
from batchcap.options.decoding import DecodingOptions
from batchcap.options.run import RunOptions
from batchcap.records import Fingerprint, ImageRef, Record
from batchcap.roots import Root
from batchcap.run.batch_records import batch_records
from batchcap.run.figures import StageSeconds, Start, Summary
from batchcap.run.output import Output, open_output
from batchcap.run.selection import Pending, at_least_one
from batchcap.run.watching import Begin, Report, Watcher
from batchcap.runtime.captioner import Captioner
from batchcap.runtime.decoding_defaults import decoding_options
from batchcap.runtime.device import Device
from batchcap.runtime.device_choice import choose_device
from batchcap.runtime.precision_choice import in_precision
from batchcap.system.interrupts import Interrupted, InterruptGuard


def run(
    options: RunOptions,
    decoding: Mapping[str, Any] | None = None,
    report: Report | None = None,
    begin: Begin | None = None,
    *,
    count_total: bool = False,
) -> Summary:
    """Caption every image that the output does not have yet.

    Everything is checked before the output is touched: bundle, decoding, device, inputs, model, the output itself.
    Where the output is already there the model is loaded last, so that finding nothing to do is quick. A SIGINT or
    SIGTERM ends the run early and is noted in the summary; what was written stays.

    Args:
        options: what to caption, with which model, into which file.
        decoding: arguments of `decoding_defaults.decoding_options`: what differs from the bundle's defaults.
        report: called in this thread after every batch.
        begin: called in this thread before the first image that is to be captioned; never where there is none.
        count_total: list the folders once more, in a thread beside the run, so that reports carry the total.

    Raises:
        BatchcapError: the run could not start or had to stop; each cause has its class. Written records are intact.
    """
    summary = Summary(output=options.output, overwrite=options.overwrite)
    watcher = Watcher(options, begin, report, count_total=count_total)
    interrupted = None
    with InterruptGuard() as guard:
        try:
            _run(_check(options, decoding or {}, summary), summary, watcher, guard)
        except Interrupted as signal:
            interrupted = signal.signum
    summary.end(interrupted)
    return summary


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """What a run needs, checked."""

    options: RunOptions
    bundle: Bundle
    decoding: DecodingOptions
    device: Device
    fingerprint: Fingerprint
    root: Root
    found: Iterator[ImageRef]
    """The images of the inputs."""

    @property
    def starts_anew(self) -> bool:
        """Whether there is surely no record to go on from."""
        # Not Path.exists, which raises for a name that is too long or hidden: opening the output explains that.
        output = self.options.output
        return output is None or self.options.overwrite or not os.path.exists(output)  # noqa: PTH110

    def load_model(self) -> Captioner:
        return Captioner(self.bundle, self.decoding, self.device, self.options.batch_size)

    def start(self, output: Output) -> Start:
        return Start(
            inputs=self.options.inputs,
            output=self.options.output,
            model=self.bundle.label,
            terms=self.bundle.manifest.provenance.terms,
            device=self.device.description,
            fresh=output.fresh,
        )


def _check(options: RunOptions, overrides: Mapping[str, Any], summary: Summary) -> _Job:
    """Everything that can be checked before the model is loaded and the output is touched."""
    bundle = open_bundle(options.model)
    decoding = decoding_options(bundle.manifest, **overrides)
    prefix_tokens(bundle, decoding)  # a word, banned ones too, that the model does not know ends the run here already
    device = choose_device(options.device)
    bundle = in_precision(bundle, options.precision, device)
    fingerprint = Fingerprint(model=bundle.label, preprocess="exact", decoding=decoding.label)
    inputs = discovery.resolve(options.inputs, options.root)
    found = at_least_one(inputs.images(summary.unread), options, summary.unread)
    summary.device, summary.device_note, summary.fingerprint = device.description, device.note, fingerprint
    return _Job(
        options=options,
        bundle=bundle,
        decoding=decoding,
        device=device,
        fingerprint=fingerprint,
        root=inputs.root,
        found=found,
    )


def _run(job: _Job, summary: Summary, watcher: Watcher, guard: InterruptGuard) -> None:
    """Leave out the images that are done, caption the others, write their records, and commit."""
    options = job.options
    captioner = job.load_model() if job.starts_anew else None
    with open_output(options, job.fingerprint, job.root, job.decoding.num_captions) as output:
        summary.note_opened(output)
        large = LargeImages(output.path if isinstance(output, Journal) else None, retry=options.retry_errors)
        pending = Pending(output, job.found, options.limit)
        if (first := next(pending, None)) is not None:
            watcher.begin(job.start(output))
            captioner = captioner or job.load_model()
            images = large.refuse(chain((first,), pending))
            with closing(_captioned(images, captioner, options, output.root, large.note)) as batches:
                for records, seconds in batches:
                    with guard.shielded():
                        started = time.perf_counter()
                        output.append(records)
                        large.settle(records)
                        summary.note_output(output)
                        summary.add(records, seconds + StageSeconds(write=time.perf_counter() - started))
                    watcher.report(summary)
        summary.note_output(output)
        summary.limited = not pending.reached_end
        with guard.shielded():
            if pending.reached_end:
                large.finish()
            complete = pending.reached_end and not _would_lose_captions(output, summary)
            output.commit(complete=complete)
            summary.committed = complete


def _would_lose_captions(output: Output, summary: Summary) -> bool:
    """Whether the new output would replace an old one without all of its images: perhaps a disk is not mounted now."""
    return output.replaces and (summary.unreadable > 0 or summary.done + summary.skipped == 0)


def _captioned(
    images: Iterable[ImageRef],
    captioner: Captioner,
    options: RunOptions,
    root: str | None,
    decoding_context: DecodingContext,
) -> Generator[tuple[list[Record], StageSeconds], None, None]:
    """The records of each batch, and the time it took; threads load the next batches while the model works on one."""
    batches = load(
        images,
        captioner.bundle.manifest.preprocess,
        options.batch_size,
        options.workers,
        accept_damaged=options.accept_damaged,
        decoding=decoding_context,
    )
    several = captioner.decoding.num_captions > 1
    with closing(batches):
        for batch in batches:
            before = dict(captioner.seconds)
            captions = captioner.caption_pixels(batch.pixels, batch.count, batch.good_keys)
            batch.release()
            spent = {stage: seconds - before[stage] for stage, seconds in captioner.seconds.items()}
            records = batch_records(batch, captions, captioner.fingerprint, root, several=several)
            yield records, StageSeconds(load=batch.seconds, **spent)
