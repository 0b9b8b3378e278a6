"""The command `repair`."""

from __future__ import annotations

from batchcap.cli.command import OUTPUTS, Command
from batchcap.cli.shared import DryRun, Journal, Verbose
from batchcap.options.terminal import Quiet
from batchcap.system.interrupts import InterruptGuard


def repair(journal: Journal, dry_run: DryRun = False, quiet: Quiet = False, verbose: Verbose = 0) -> None:
    """Make a damaged output of run whole again: move what is no record aside.

    Whole records stay, also such that were joined to a damaged line. What is
    no record goes to the end of FILE.rejected, and a copy of the file as it
    was to FILE.backup. Where nothing is damaged nothing is changed.

    Exit codes: 0 repaired, or nothing to do; 1 it cannot be repaired;
    2 wrong usage; 75 a run holds the file.
    """
    from batchcap.console.journals import show_damage
    from batchcap.journal import repair as repairing

    with InterruptGuard():
        damage = repairing.examine(journal) if dry_run else repairing.repair(journal)
    if not quiet:
        show_damage(damage, dry_run=dry_run)


COMMAND = Command(repair, panel=OUTPUTS)
