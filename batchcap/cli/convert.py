"""The command `convert`."""

from __future__ import annotations

import typer

from batchcap.cli.command import OUTPUTS, Command
from batchcap.cli.shared import Verbose
from batchcap.options.convert import ConvertOptions
from batchcap.options.terminal import TerminalOptions
from batchcap.system.interrupts import Interrupted, InterruptGuard


def convert(options: ConvertOptions, terminal: TerminalOptions, verbose: Verbose = 0) -> None:
    """Write the captions of JOURNAL to OUT, where other programs look for them.

    The same command again writes only what has changed. Every file is written
    whole or not at all. The journal is only read, also while a run writes it.
    --embed alone can change images, and then the journal gets their new size.

    Exit codes:
    0 done;
    1 could not, or had to stop: run it again;
    2 wrong usage;
    3 some captions could not be written: the closing lines say why;
    75 OUT is in use; with --embed also: a run writes JOURNAL;
    129, 130, 143 stopped by SIGHUP, Ctrl-C, SIGTERM.
    """
    target = options.target
    from batchcap.console.conversion import show_conversion
    from batchcap.console.progress import Passes
    from batchcap.convert import convert as conversion

    shown = terminal.progress is not False and not terminal.quiet
    with InterruptGuard(), Passes(shown) as passes:
        try:
            tally = conversion.convert(options, passes, passes.say)
        except Interrupted:
            if not terminal.quiet:
                passes.say("Stopped. Every file that was written is whole; the same command goes on.")
            raise
    if not terminal.quiet:
        show_conversion(tally, options.journal, options.output, target)
    raise typer.Exit(tally.exit_code)


COMMAND = Command(convert, panel=OUTPUTS)
