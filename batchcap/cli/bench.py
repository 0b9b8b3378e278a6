"""The command `bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from batchcap.cli.command import Command
from batchcap.cli.shared import Verbose
from batchcap.options.bench import BenchOptions
from batchcap.options.field import Option
from batchcap.system.interrupts import InterruptGuard


def bench(
    options: BenchOptions,
    json_file: Annotated[
        Path | None, Option("Also write the figures and all settings here.", name="json", metavar="FILE", env=False)
    ] = None,
    verbose: Verbose = 0,
) -> None:
    """Measure images a second: end to end, and encoder, decoding of images, and search alone.

    Run it while nothing else runs.
    """
    from batchcap.console.tables import show_bench
    from batchcap.console.terminal import say
    from batchcap.tools.bench import measure, write_report

    with InterruptGuard():  # it has a temporary folder to remove
        report = measure(options, say)
    show_bench(report)
    if json_file is not None:
        write_report(report, json_file)


COMMAND = Command(bench)
