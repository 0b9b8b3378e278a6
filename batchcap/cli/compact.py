"""The command `compact`."""

from __future__ import annotations

from typing import Annotated

from batchcap.cli.command import OUTPUTS, Command
from batchcap.cli.shared import DryRun, Journal, Verbose
from batchcap.options.field import Option
from batchcap.options.terminal import Quiet
from batchcap.system.interrupts import InterruptGuard


def compact(
    journal: Journal,
    prune: Annotated[
        bool, Option("Also leave out images that are no longer there. Not where a disk seems to be missing.", env=False)
    ] = False,
    force: Annotated[bool, Option("With --prune: also when nearly all images are gone.", env=False)] = False,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Rewrite an output of run to one line an image, its last one; these lines keep their order.

    The old file stays until the new one is complete.

    Exit codes: 0 done, or nothing to do; 1 it cannot be done, and the file is
    as it was; 2 wrong usage; 75 a run holds the file.
    """
    from batchcap.console.journals import show_compacted
    from batchcap.journal import compact as compacting

    do = compacting.plan if dry_run else compacting.compact
    with InterruptGuard():
        done = do(journal, prune=prune, force=force)
    if not quiet:
        show_compacted(done, dry_run=dry_run)


COMMAND = Command(compact, panel=OUTPUTS)
