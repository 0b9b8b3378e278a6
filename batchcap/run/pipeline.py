"""The way of every image: found, loaded, captioned, written. `run` joins the stages; it prints nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from batchcap.options.operation import OperationOptions
from batchcap.options.run import RunOptions
from batchcap.reporting import Say, no_report
from batchcap.run.figures import Summary
from batchcap.run.job import Job, check
from batchcap.run.one_pass import Session, caption_new
from batchcap.run.output import open_in_time
from batchcap.run.shards import check_overwrite
from batchcap.run.watching import Begin, Report, Watcher
from batchcap.system.interrupts import Interrupted, InterruptGuard


def run(
    options: RunOptions,
    decoding: Mapping[str, Any] | None = None,
    report: Report | None = None,
    begin: Begin | None = None,
    *,
    operation: OperationOptions | None = None,
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
        count_total: list the folders once more, in a thread beside the run, so that reports carry the total.
        say: gets a line for a person where the run waits.
        guard: of a program, entered: a signal ends the run early and is noted in the summary; the batch that the model
            works on is written before. None leaves signals as Python has them: Ctrl-C raises KeyboardInterrupt.
        summary: a new one of the caller's, which is returned; it has the figures where the run raises, too.

    Raises:
        BatchcapError: the run could not start or had to stop; each cause has its class. Written records are intact.
    """
    operation = operation or OperationOptions()
    summary = summary or Summary(output=options.output, overwrite=options.overwrite)
    summary.shard, summary.fail_on = operation.shard or "", operation.fail_on
    watcher = Watcher(options, begin, report, count_total=count_total, shard=operation.part, say=say)
    interrupted = None
    try:
        _run(check(options, operation, decoding or {}, summary), summary, watcher, guard or InterruptGuard())
    except Interrupted as signal:
        if guard is None:  # it is for who called this function
            raise
        interrupted = signal.signum
    finally:
        summary.end(interrupted)
    return summary


def _run(job: Job, summary: Summary, watcher: Watcher, guard: InterruptGuard) -> None:
    """Open the output, caption what it does not have, and commit."""
    captioner = job.load_model() if job.starts_anew else None
    output, waited = open_in_time(
        job.options,
        job.fingerprint,
        job.inputs.root,
        job.decoding.num_captions,
        seconds=job.operation.wait,
        say=watcher.say,
    )
    with output:
        if job.operation.part is not None:
            check_overwrite(output, job.operation.part)
        session = Session(job=job, output=output, summary=summary, watcher=watcher, guard=guard, captioner=captioner)
        session.commit(complete=caption_new(session, job.found_again(summary) if waited else job.found))
