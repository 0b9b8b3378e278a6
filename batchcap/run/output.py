"""Where records go: a file that a later run goes on from, or standard output."""

from __future__ import annotations

import sys
from typing import TypeAlias

from batchcap.errors import OutputError
from batchcap.journal.journal import Journal
from batchcap.journal.stream import StreamJournal
from batchcap.options.run import RunOptions
from batchcap.records import Fingerprint
from batchcap.roots import Root

Output: TypeAlias = Journal | StreamJournal


def open_output(options: RunOptions, fingerprint: Fingerprint, root: Root, num_captions: int) -> Output:
    """Open the output of a run; raises as `Journal.open`."""
    if options.output is None:
        if sys.stdout is None:
            raise OutputError("Standard output is closed.", "Leave it open, or name a file with -o.")
        return StreamJournal(sys.stdout.buffer, root.text)
    return Journal.open(
        options.output,
        options.format,
        fingerprint,
        root=root,
        on_mismatch=options.on_mismatch,
        relocate=options.relocate,
        overwrite=options.overwrite,
        retry_errors=options.retry_errors,
        accept_damaged=options.accept_damaged,
        num_captions=num_captions,
    )
