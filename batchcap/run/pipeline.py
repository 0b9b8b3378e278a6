"""The way of every image: found, loaded, captioned, written. `run` joins the stages; it prints nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from batchcap.options.run import RunOptions
from batchcap.run.figures import Summary
from batchcap.run.job import Job, check
from batchcap.run.one_pass import Session, caption_new
from batchcap.run.output import open_output
from batchcap.run.watching import Begin, Report, Watcher
from batchcap.system.interrupts import Interrupted, InterruptGuard


def run(
    options: RunOptions,
    decoding: Mapping[str, Any] | None = None,
    report: Report | None = None,
    begin: Begin | None = None,
    *,
    count_total: bool = False,
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
        count_total: list the folders once more, in a thread beside the run, so that reports carry the total.
        guard: of a program, entered: a signal ends the run early and is noted in the summary; the batch that the model
            works on is written before. None leaves signals as Python has them: Ctrl-C raises KeyboardInterrupt.
        summary: a new one of the caller's, which is returned; it has the figures where the run raises, too.

    Raises:
        BatchcapError: the run could not start or had to stop; each cause has its class. Written records are intact.
    """
    summary = summary or Summary(output=options.output, overwrite=options.overwrite)
    watcher = Watcher(options, begin, report, count_total=count_total)
    interrupted = None
    try:
        _run(check(options, decoding or {}, summary), summary, watcher, guard or InterruptGuard())
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
    with open_output(job.options, job.fingerprint, job.inputs.root, job.decoding.num_captions) as output:
        session = Session(job=job, output=output, summary=summary, watcher=watcher, guard=guard, captioner=captioner)
        session.commit(complete=caption_new(session, job.found))
