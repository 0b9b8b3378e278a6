"""The file that a run would write, only looked at: not locked, made or changed, also while another run writes it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from batchcap.journal.live_file import Change, LiveFile, check_replaceable, partial_of


class UnlockedFile(LiveFile):
    """A `LiveFile` as far as a `Journal` reads it; changes that would be made to its records are left out."""

    def __init__(self, output: Path, header: bytes, *, overwrite: bool, syncs: bool = True) -> None:
        """Look at the file that a run would go on with.

        Args:
            output: its path, with symbolic links resolved.
            header, syncs: of a file that is written; this one is not.
            overwrite: look at what a stopped run with ``overwrite`` has left.

        Raises:
            OutputError: with ``overwrite``: the output is no journal, or something else has the new file's name.
            OSError: a run could not write there.
        """
        del header, syncs
        self.output = output
        self.unfinished = None
        if not os.access(output if output.exists() else output.parent, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        if overwrite:
            check_replaceable(output, partial_of(output))
        wanted = partial_of(output) if overwrite else output
        self.path = wanted if wanted.is_file() else Path(os.devnull)

    def begin(self, whole: int, *, lacks_end: bool) -> tuple[int, str]:
        """Cut nothing: a torn last line is not read, and stays."""
        del whole, lacks_end
        return 0, ""

    def rewrite(self, change: Change) -> None:
        """Leave the records as they are."""
        del change

    def append(self, lines: bytes) -> None:
        """Never called: a journal that is only read has no records to append."""
        raise NotImplementedError(lines)

    def close(self) -> None:
        """Nothing is held."""
