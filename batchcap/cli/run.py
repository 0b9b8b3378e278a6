"""The command `run`."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from batchcap.cli.command import Command
from batchcap.cli.parameters import Given
from batchcap.options.decoding import chosen_fields
from batchcap.options.field import TERMINAL, Option, fields_of
from batchcap.options.operation import OperationOptions
from batchcap.options.output import parse_output
from batchcap.options.reports import ReportOptions
from batchcap.options.run import RunOptions
from batchcap.options.terminal import TerminalOptions
from batchcap.options.watch import WatchOptions
from batchcap.system.process import forget_stdout

if TYPE_CHECKING:
    from batchcap.reports.run_reports import RunReports
    from batchcap.run.figures import Progress, Start


def run(
    given: Annotated[dict[str, Any], Given(fields_of(RunOptions))],
    decoding: Annotated[dict[str, Any], Given(chosen_fields())],
    operation: OperationOptions,
    watch: WatchOptions,
    reports: ReportOptions,
    terminal: TerminalOptions,
    verbose: Annotated[
        int,
        Option(
            "Say more, such as the name of every failed image. -vv adds tracebacks.",
            short="-v",
            panel=TERMINAL,
            count=True,
        ),
    ] = 0,
) -> None:
    """Caption every image under INPUT and write one record an image to FILE.

    FILE is also the state of the run: the same command again skips what is
    done, after a crash too. Every option can also be set by an environment
    variable, for example BATCHCAP_DEVICE=cpu.

    Exit codes:
    0 all captioned, or nothing new;
    1 could not run or had to stop: nothing written is lost, run it again;
    2 wrong usage;
    3 some images have no caption, from this run or before: their records say why;
    75 another run holds the file;
    129, 130, 143 stopped by SIGHUP, Ctrl-C, SIGTERM: the batch in work is written.
    """
    given["output"], given["format"] = parse_output(given["output"], given["format"])
    if operation.dry_run:
        options = RunOptions(**given)
        watch.check_beside(options)
        options = replace(options, allow_empty=options.allow_empty or watch.watch)
        return _dry_run(options, decoding, operation, terminal, verbose)
    from batchcap.reports.run_reports import RunReports
    from batchcap.run.figures import Summary

    # Made here, so that reports have it where the run cannot begin, too.
    summary = Summary(output=given["output"], overwrite=given["overwrite"])
    with RunReports(reports, summary, given["inputs"], quiet=terminal.quiet) as told:
        _run(RunOptions(**given), decoding, operation, watch, told, terminal, verbose)
    if reports.log_on_stderr:  # also after an error, which is told already
        forget_stdout()
    raise typer.Exit(told.exit_code)


def _run(
    options: RunOptions,
    decoding: dict[str, Any],
    operation: OperationOptions,
    watch: WatchOptions,
    told: RunReports,
    terminal: TerminalOptions,
    verbosity: int,
) -> None:
    """Caption, and show how far it is unless the log takes the place of that."""
    from batchcap.console.progress import Display
    from batchcap.console.summary import show_end_at_once, show_summary
    from batchcap.run import pipeline
    from batchcap.system.interrupts import InterruptGuard, before_forced_end
    from batchcap.system.service import Service

    # A bar among records that go to the same terminal could not be read, nor could they.
    mixed = options.output is None and sys.stdout is not None and sys.stdout.isatty()
    quiet = terminal.quiet or told.on_stderr
    shown = terminal.progress is not False and not quiet and not mixed
    with (
        Service(os.environ if watch.notify_systemd else {}) as service,
        InterruptGuard(in_time=True) as guard,
        before_forced_end(told.end_at_once),
        before_forced_end(lambda _: None if quiet else show_end_at_once(options.output)),
        Display(shown, quiet=quiet, verbosity=verbosity) as display,
    ):

        def begin(start: Start) -> None:
            told.begin(start)
            display.begin(start)

        def report(progress: Progress) -> None:
            told(progress)
            display(progress)

        def say(line: str) -> None:
            told.say(line)
            display.say(line)

        pipeline.run(
            options,
            decoding,
            report,
            begin,
            operation=operation,
            watch=watch,
            service=service,
            count_total=display.counts or (told.on_stderr and not terminal.quiet and terminal.progress is not False),
            say=say,
            guard=guard,
            summary=told.summary,
        )
    if not quiet:
        show_summary(told.summary, verbosity)


def _dry_run(
    options: RunOptions,
    decoding: dict[str, Any],
    operation: OperationOptions,
    terminal: TerminalOptions,
    verbosity: int,
) -> None:
    """Show what the run would do, as a table on standard output."""
    from batchcap.console.dry_run import Looking, show_dry_run
    from batchcap.run.dry_run import dry_run
    from batchcap.system.interrupts import InterruptGuard

    with (
        InterruptGuard(in_time=True),
        Looking(shown=terminal.progress is not False and not terminal.quiet) as looking,
    ):
        found = dry_run(options, decoding, operation, looking)
    if not terminal.quiet:
        show_dry_run(found, verbosity)


COMMAND = Command(run, first_panel="Everyday options")
