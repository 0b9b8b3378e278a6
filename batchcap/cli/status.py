"""The command `status`."""

from __future__ import annotations

from typing import Annotated

import typer

from batchcap.cli.command import OUTPUTS, Command
from batchcap.cli.shared import Journal, Verbose
from batchcap.options.field import Option


def status(
    journal: Journal,
    json: Annotated[bool, Option("Print one JSON object, for programs.", env=False)] = False,
    verbose: Verbose = 0,
) -> None:
    """Show what an output of run holds: images, captions, failures by kind, how they were made, the last write.

    It may be asked while a run writes the file.

    Exit codes: 0 also with failures; 1 the file cannot be read; 2 wrong usage.
    """
    from batchcap.journal.status import read_status

    found = read_status(journal)
    if json:
        import msgspec

        typer.echo(msgspec.json.format(msgspec.json.encode(found)))
    else:
        from batchcap.console.status import show_status

        show_status(found)


COMMAND = Command(status, panel=OUTPUTS)
