"""Where records go: a file that a later run goes on from, or standard output."""

from __future__ import annotations

import sys
import time
from typing import Final, TypeAlias

from batchcap.errors import OutputError, OutputLockedError
from batchcap.journal.journal import Continuing, Journal
from batchcap.journal.stream import StreamJournal
from batchcap.options.decoding import DecodingOptions
from batchcap.options.run import RunOptions
from batchcap.records import Fingerprint
from batchcap.reporting import Say
from batchcap.roots import Root

Output: TypeAlias = Journal | StreamJournal

_LOOK_SECONDS: Final = 0.5


def open_in_time(
    options: RunOptions, fingerprint: Fingerprint, root: Root, decoding: DecodingOptions, *, seconds: float, say: Say
) -> tuple[Output, bool]:
    """Open the output of a run, and wait while another one has it.

    Args:
        options, fingerprint, root, decoding: see `open_output`.
        seconds: how long to wait.
        say: told once that the run waits.

    Returns:
        The output, and whether it was waited for: then the inputs may be others now.

    Raises:
        OutputLockedError: another run still has it.
        BatchcapError: as `Journal.open`.
    """
    due, waited = time.monotonic() + seconds, False
    while True:
        try:
            return open_output(options, fingerprint, root, decoding), waited
        except OutputLockedError:
            left = due - time.monotonic()
            if left <= 0:
                raise
        if not waited:
            say(f"Another run is writing {options.output}: waiting up to {seconds:g} s for it.")
        waited = True
        time.sleep(min(_LOOK_SECONDS, left))


def open_output(
    options: RunOptions, fingerprint: Fingerprint, root: Root, decoding: DecodingOptions, *, read_only: bool = False
) -> Output:
    """Open the output of a run; raises as `Journal.open`, which says what ``read_only`` is."""
    if options.output is None:
        if sys.stdout is None:
            raise OutputError("Standard output is closed.", "Leave it open, or name a file with -o.")
        return StreamJournal(sys.stdout.buffer, root.text)
    how = Continuing(
        on_mismatch=options.on_mismatch,
        relocate=options.relocate,
        if_changed=options.if_changed,
        retry_errors=options.retry_errors,
        accept_damaged=options.accept_damaged,
        checksum=options.checksum,
        by_key=decoding.search == "sample",  # the words that are drawn depend on the name
    )
    return Journal.open(
        options.output,
        options.format,
        fingerprint,
        how,
        root=root,
        overwrite=options.overwrite,
        fsync=options.fsync,
        num_captions=decoding.num_captions,
        read_only=read_only,
    )
