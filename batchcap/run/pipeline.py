"""The way of every image: found, loaded, captioned, written. `run` joins the stages; it prints nothing."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from batchcap.options.operation import OperationOptions
from batchcap.options.run import RunOptions
from batchcap.options.watch import WatchOptions
from batchcap.reporting import Say, no_report
from batchcap.run.figures import Summary
from batchcap.run.job import Job, check
from batchcap.run.one_pass import Session, caption_new
from batchcap.run.output import open_in_time
from batchcap.run.service_status import ServiceStatus
from batchcap.run.shards import check_overwrite
from batchcap.run.watch import go_on, passes_of
from batchcap.run.watching import Begin, Report, Watcher
from batchcap.system.interrupts import Interrupted, InterruptGuard
from batchcap.system.service import Service


def run(
    options: RunOptions,
    decoding: Mapping[str, Any] | None = None,
    report: Report | None = None,
    begin: Begin | None = None,
    *,
    operation: OperationOptions | None = None,
    watch: WatchOptions | None = None,
    service: Service | None = None,
    count_total: bool = False,
    say: Say = no_report,
    guard: InterruptGuard | None = None,
    summary: Summary | None = None,
) -> Summary:
    """Caption every image that the output does not have yet.

    Everything is checked before the output is touched: bundle, decoding, device, inputs, model, the output itself.
    Where the output is already there the model is loaded last, so that finding nothing to do is quick.

    Args:
        options: what to caption, with which model, into which file.
        decoding: arguments of `decoding_defaults.decoding_options`: what differs from the bundle's defaults.
        report: called in this thread after every batch.
        begin: called in this thread before the first image that is to be captioned; never where there is none.
        operation: how the run is operated; None: as the defaults say.
        watch: whether the run goes on when all is captioned; None: as the defaults say.
        service: is told how the run is, for a service manager; None tells nobody.
        count_total: list the folders once more, in a thread beside the run, so that reports carry the total.
        say: gets a line for a person where the run waits.
        guard: of a program, entered: a signal ends the run early and is noted in the summary; the batch that the model
            works on is written before. None leaves signals as Python has them: Ctrl-C raises KeyboardInterrupt.
        summary: a new one of the caller's, which is returned; it has the figures where the run raises, too.

    Raises:
        BatchcapError: the run could not start or had to stop; each cause has its class. Written records are intact.
    """
    operation, watch = operation or OperationOptions(), watch or WatchOptions()
    watch.check_beside(options)
    if watch.watch:  # what is not there yet may come
        options = replace(options, allow_empty=True)
    summary = summary or Summary(output=options.output, overwrite=options.overwrite)
    summary.shard, summary.fail_on = operation.shard or "", operation.fail_on
    watcher = Watcher(options, begin, report, count_total=count_total, shard=operation.part, say=say)
    status = ServiceStatus(service or Service({}), summary)
    interrupted = None
    try:
        job = check(options, operation, decoding or {}, summary)
        _run(job, summary, watcher, guard or InterruptGuard(), watch, status)
    except Interrupted as signal:
        if guard is None:  # it is for who called this function
            raise
        interrupted = signal.signum
    finally:
        summary.end(interrupted)
        status.end()
    return summary


def _run(
    job: Job, summary: Summary, watcher: Watcher, guard: InterruptGuard, watch: WatchOptions, status: ServiceStatus
) -> None:
    """Open the output, caption what it does not have, and commit; or go on."""
    with ExitStack() as stack:
        # Before the model is loaded: perhaps the system does not watch so many folders.
        passes = stack.enter_context(passes_of(job, watch, guard, watcher, status)) if watch.watch else None
        captioner = job.load_model() if job.starts_anew else None
        output, waited = open_in_time(
            job.options,
            job.fingerprint,
            job.inputs.root,
            job.decoding,
            seconds=job.operation.wait,
            say=watcher.say,
        )
        stack.enter_context(output)
        if job.operation.part is not None:
            check_overwrite(output, job.operation.part)
        session = Session(
            job=job,
            output=output,
            summary=summary,
            watcher=watcher,
            guard=guard,
            tick=status.tick,
            forgets_vanished=watch.watch,
            captioner=captioner,
        )
        if passes is not None:
            go_on(session, passes, status)
        else:
            status.begin()
            session.commit(complete=caption_new(session, job.found_again(summary) if waited else job.found))
