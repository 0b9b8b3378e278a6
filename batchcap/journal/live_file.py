"""The file that a run writes: locked, appended to in whole writes, and replaced whole or not at all.

A run holds the lock of the output file itself (`batchcap.system.locks`), so nothing lies beside it; with ``overwrite``
the new file, ``OUTPUT.partial``, does until it is complete.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import BinaryIO, Final, TypeAlias

from batchcap.errors import OutputError
from batchcap.journal.recovery import looks_like_ours
from batchcap.system.locks import open_locked
from batchcap.system.output_files import explained, own_file, sync_folder, take_over

Change: TypeAlias = Callable[[bytes], bytes | None]
"""A line to what stands in its place; None leaves it out."""

_REWRITTEN: Final = "rewritten"
_SHOWN_TAIL: Final = 300
_CHANGED: Final = (
    "What is there now was left as it is. Run again: images without a record are captioned again. "
    "Let no other program write the output during a run."
)


class LiveFile:
    """An output file and its lock; with ``overwrite`` the new file as well, and both locks.

    Its end is where the last `append` that returned has left it: what follows is cut before anything is written.
    """

    def __init__(self, output: Path, header: bytes, *, overwrite: bool, syncs: bool = True) -> None:
        """Open and lock.

        Args:
            output: its path, with symbolic links resolved.
            header: the first line of every file of this format, with its end; empty where there is none.
            overwrite: write a new file beside the output.
            syncs: `append` returns when its lines are on the disk; else when the system has them.

        Raises:
            OutputLockedError: another run holds one of the two.
            OutputError: with ``overwrite``: the output is no journal, or something else has the new file's name.
            OSError: one of them cannot be opened.
        """
        self.output = output
        self.unfinished: Path | None = None
        """What a stopped run with ``overwrite`` has left beside the output, where this run does not go on with it."""
        self._header, self._syncs = header, syncs
        self._held, self._made_output = open_locked(output)
        self.path, self._file, self._is_new = output, self._held, self._made_output
        self._is_open = True
        self._committed = 0
        self._torn = False
        self._old = _state(self._held)
        try:
            partial = partial_of(output)
            if overwrite:
                self._open_new(partial)
            else:
                with suppress(OSError):  # a name that is too long with its ending
                    self.unfinished = partial if partial.is_file() else None
            with suppress(OSError):  # what a run has left that was killed while it rewrote the file
                own_file(self.path, _REWRITTEN).unlink()
        except BaseException:
            self.close()
            raise

    def _open_new(self, partial: Path) -> None:
        check_replaceable(self.output, partial)
        self._file, self._is_new = open_locked(partial)
        self.path = partial
        if self._is_new:
            take_over(self._held, self._file)

    @property
    def overwrites(self) -> bool:
        """Whether a new file is written, which is not yet in the place of the output."""
        return self.path != self.output

    @property
    def replaces(self) -> bool:
        """Whether `commit` is to put a new file in the place of records."""
        return self.overwrites and self._old[0] > 0

    def explained(self, done: str) -> AbstractContextManager[None]:
        """Within, errors of the system become errors that say the file could not be ``done``, and what to do."""
        return explained(self.path, done, self.overwrites)

    def begin(self, whole: int, *, lacks_end: bool) -> tuple[int, str]:
        """Cut what follows the first ``whole`` bytes, end the last line, and write the header of an empty file.

        Args:
            whole: bytes of the lines that are kept.
            lacks_end: the last of them has no line end.

        Returns:
            How many bytes were cut, and their beginning as text.
        """
        self._committed = whole
        cut, said = os.fstat(self._file.fileno()).st_size - whole, ""
        if cut:
            said = self._tail()
            self._cut()
        if lacks_end:
            self.append(b"\n")
        if whole == 0 and self._header:
            self.append(self._header)
        if self._is_new or self._made_output:
            sync_folder(self.output.parent)
        return cut, said

    def append(self, lines: bytes) -> None:
        """Write all or nothing, and return when it is on the disk, or the system's to write.

        Raises:
            OutputError: another program has changed, moved or removed the file; it is left as it is.
            OSError: it cannot be written.
        """
        if self._torn:
            self._cut()
        self.check_unchanged()
        self._torn = True
        try:
            view = memoryview(lines)
            while view:  # an unbuffered write may stop early
                view = view[self._file.write(view) :]
            if self._syncs:
                os.fsync(self._file.fileno())
        except BaseException:  # Ctrl-C in the middle must not leave half a batch either
            with suppress(OSError):
                self._cut()
            raise
        self._committed += len(lines)
        self._torn = False

    @property
    def size(self) -> int:
        """Bytes that are committed: where the next line begins."""
        return self._committed

    def line_at(self, place: int) -> bytes:
        """The line that begins at a byte; by any thread."""
        with self.path.open("rb") as file:
            file.seek(place)
            return file.readline()

    def check_unchanged(self) -> None:
        """Raise OutputError unless the file is still in its place and holds what was appended, no less and no more."""
        ours = os.fstat(self._file.fileno())
        try:
            there = self.path.stat()
        except FileNotFoundError:
            raise OutputError(f"{self.path} was removed or renamed during the run.", _CHANGED) from None
        if not os.path.samestat(ours, there):
            raise OutputError(f"{self.path} was replaced by another file during the run.", _CHANGED)
        if ours.st_size != self._committed:
            raise OutputError(
                f"{self.path} was changed by another program during the run: it has {ours.st_size:,} bytes where "
                f"{self._committed:,} were written.",
                _CHANGED,
            )

    def _tail(self) -> str:
        with self.path.open("rb") as file:
            file.seek(self._committed)
            return file.read(_SHOWN_TAIL).decode("utf-8", "replace").rstrip("\0\r\n")

    def _cut(self) -> None:
        # Longer is the rest of a write that failed. Shorter is not ours: making it longer would fill it with zeros.
        if os.fstat(self._file.fileno()).st_size > self._committed:
            os.ftruncate(self._file.fileno(), self._committed)
            os.fsync(self._file.fileno())
        self._torn = False

    def rewrite(self, change: Change) -> None:
        """Put a changed copy in the file's place, whole or not at all; raises as `put`."""
        self.put(_changed(self.path, self._header, change))

    def put(self, lines: Iterable[bytes]) -> None:
        """Put a file of these lines in this one's place, whole or not at all.

        Args:
            lines: they may be read from the file that is replaced.

        Raises:
            OutputError: as `append`.
            OSError: the copy cannot be written.
        """
        copy, old = own_file(self.path, _REWRITTEN), self._file
        with suppress(FileNotFoundError):
            copy.unlink()
        file, _ = open_locked(copy)
        try:
            take_over(old, file)
            size = _write(copy, lines)
            self.check_unchanged()
            _replace(copy, self.path, old)
        except BaseException:
            file.close()
            with suppress(OSError):
                copy.unlink()
            raise
        if self._held is old:
            self._held = file
        self._file, self._committed = file, size
        _close(old)

    def commit(self, *, complete: bool, keep: Change | None) -> None:
        """End the file; where it is ``complete``, a new one takes the place of the output.

        Args:
            complete: every image has its record.
            keep: what is kept of a new file's lines; None keeps all.

        Raises:
            OutputError: another program has changed, moved or removed one of the files.
            OSError: one of them cannot be written.
        """
        if self._torn:
            self._cut()
        self.check_unchanged()
        self._is_new = self._made_output = False
        if not self.overwrites:
            return
        if not complete:
            self._made_output = os.fstat(self._held.fileno()).st_size == 0
            return
        if keep is not None:
            self.rewrite(keep)
        self._check_old()
        if not self._syncs:  # a power failure must not take the old records and the new ones
            os.fsync(self._file.fileno())
        take_over(self._held, self._file)
        _replace(self.path, self.output, self._held)
        self.path = self.output

    def _check_old(self) -> None:
        """Raise OutputError unless the output that is to be replaced is the one that was there when the run began."""
        fix = f"It was left as it is. The new output is whole in {self.path}: the same command puts it in its place."
        try:
            there = self.output.stat()
        except FileNotFoundError:
            raise OutputError(f"{self.output} was removed or renamed during the run.", fix) from None
        if not os.path.samestat(os.fstat(self._held.fileno()), there) or _state(self._held) != self._old:
            raise OutputError(f"{self.output} was replaced or changed by another program during the run.", fix)

    def close(self) -> None:
        """Remove what is empty while it is still locked, then close, which gives the locks back.

        May be called twice.
        """
        if not self._is_open:
            return
        self._is_open = False
        if self._is_new or self.overwrites:
            _remove_empty(self.path, self._file, self._header)
        if self._made_output and self.overwrites:
            _remove_empty(self.output, self._held)
        _close(self._file)
        _close(self._held)


def partial_of(output: Path) -> Path:
    """The file that a run with ``overwrite`` writes."""
    return output.with_name(output.name + ".partial")


def check_replaceable(output: Path, partial: Path) -> None:
    """Raise OutputError unless ``overwrite`` may replace the output, if there is one, by way of ``partial``."""
    check_ours(output)
    if partial.is_symlink() or (partial.exists() and not partial.is_file()):
        raise OutputError(f"{partial} is in the way: it is no regular file.", "Move it, and run again.")


def check_ours(output: Path) -> None:
    """Raise OutputError where an output of this name is there that batchcap did not write."""
    if output.exists() and not looks_like_ours(output):
        raise OutputError(
            f"{output} is no output of batchcap, and --overwrite replaces only those.",
            "Name another output file, or remove this one yourself.",
        )


def _close(file: BinaryIO) -> None:
    with suppress(OSError):  # every record was flushed and synced when it was written
        file.close()


def _remove_empty(path: Path, file: BinaryIO, header: bytes = b"") -> None:
    """Remove a file that holds nothing but a header, if it is still the one that is open."""
    with suppress(OSError, ValueError):
        there = path.stat()
        ours = there.st_size <= len(header) and path.read_bytes() in {b"", header}
        if ours and os.path.samestat(os.fstat(file.fileno()), there):
            path.unlink()


def _state(file: BinaryIO) -> tuple[int, int]:
    """Size and time of the last change, which show whether another program has written."""
    info = os.fstat(file.fileno())
    return info.st_size, info.st_mtime_ns


def _changed(source: Path, header: bytes, change: Change) -> Iterator[bytes]:
    with source.open("rb") as lines:
        for number, line in enumerate(lines):
            written = line if number == 0 and header else change(line)
            if written is not None:
                yield written


def _write(target: Path, lines: Iterable[bytes]) -> int:
    """Write the whole of a file; returns the bytes that are on the disk now."""
    with target.open("r+b") as file:
        file.writelines(lines)
        file.flush()
        os.fsync(file.fileno())
        return file.tell()


def _replace(new: Path, old: Path, held: BinaryIO) -> None:
    """Move a file over another one and make that survive a power failure."""
    if os.name == "nt":  # which replaces no open file
        _close(held)
    new.replace(old)
    sync_folder(old.parent)
