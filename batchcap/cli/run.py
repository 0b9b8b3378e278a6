"""The command `run`."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from batchcap.cli.command import Command
from batchcap.cli.parameters import Given
from batchcap.options.decoding import chosen_fields
from batchcap.options.field import TERMINAL, Option, fields_of
from batchcap.options.operation import OperationOptions
from batchcap.options.output import parse_output
from batchcap.options.run import RunOptions
from batchcap.options.terminal import TerminalOptions


def run(
    given: Annotated[dict[str, Any], Given(fields_of(RunOptions))],
    decoding: Annotated[dict[str, Any], Given(chosen_fields())],
    operation: OperationOptions,
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
    options = RunOptions(**given)
    from batchcap.console.progress import Display
    from batchcap.console.summary import show_end_at_once, show_summary
    from batchcap.run import pipeline
    from batchcap.system.interrupts import InterruptGuard, before_forced_end

    # A bar among records that go to the same terminal could not be read, nor could they.
    mixed = options.output is None and sys.stdout is not None and sys.stdout.isatty()
    shown = terminal.progress is not False and not terminal.quiet and not mixed
    with (
        InterruptGuard(in_time=True) as guard,
        before_forced_end(lambda: None if terminal.quiet else show_end_at_once(options.output)),
        Display(shown, quiet=terminal.quiet, verbosity=verbose) as display,
    ):
        summary = pipeline.run(
            options,
            decoding,
            display,
            display.begin,
            operation=operation,
            count_total=display.counts,
            say=display.say,
            guard=guard,
        )
    if not terminal.quiet:
        show_summary(summary, verbose)
    raise typer.Exit(summary.exit_code)


COMMAND = Command(run, first_panel="Everyday options")
