"""A run that goes on: the usual run over everything, then whatever arrives, with the same model, output and lock."""

from __future__ import annotations

from batchcap.journal.journal import Journal
from batchcap.options.watch import WatchOptions
from batchcap.run.folder_events import check_installed
from batchcap.run.job import Job
from batchcap.run.one_pass import Session, caption_new
from batchcap.run.passes import Passes
from batchcap.run.service_status import ServiceStatus
from batchcap.run.watching import Watcher
from batchcap.system.interrupts import InterruptGuard


def passes_of(
    job: Job, options: WatchOptions, guard: InterruptGuard, watcher: Watcher, status: ServiceStatus
) -> Passes:
    """What a run with ``--watch`` captions. Folders are watched from now on.

    Raises:
        MissingExtraError: the library that watches is not installed.
        WatchError: the system does not watch so many folders.
    """
    check_installed()
    return Passes(job.inputs, options.settle, options.rescan, guard, watcher.say, status.tick)


def go_on(session: Session, passes: Passes, status: ServiceStatus) -> None:
    """Caption all images of all passes, until a signal ends it.

    Raises:
        Interrupted: the signal.
        BatchcapError: the output can no longer be written, the device is lost, ...; written records are intact.
    """
    output, summary = session.output, session.summary
    assert isinstance(output, Journal)  # the options are checked
    session.model()
    status.begin()
    for images in passes:
        if images is None:
            status.wait()
            session.watcher.wait(summary)
            continue
        if session.repeats:
            output.next_pass()
        status.go_on()
        caption_new(session, images)
        summary.unread = passes.unread
        if not session.repeats:
            session.repeats = True
            session.forget_unseen()
