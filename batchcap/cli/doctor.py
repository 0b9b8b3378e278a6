"""The command `doctor`."""

from __future__ import annotations

import typer

from batchcap.cli.command import Command
from batchcap.cli.shared import Verbose
from batchcap.options.run import DEFAULT_MODEL, ModelOption


def doctor(model: ModelOption = DEFAULT_MODEL, verbose: Verbose = 0) -> None:
    """Show versions and the devices that really work here, and how to get the GPU going.

    The exit code is 1 where no device works.
    """
    from batchcap.console.tables import show_diagnosis
    from batchcap.tools.doctor import examine

    diagnosis = examine(model)
    show_diagnosis(diagnosis)
    if not any(check.works for check in diagnosis.devices):
        raise typer.Exit(1)


COMMAND = Command(doctor)
