"""Files of a target, written whole or not at all: through a temporary file in the same folder, moved into place."""

# Names as text: a Path object for each of a million sidecars would take longer than writing them.
# ruff: noqa: PTH105, PTH108
from __future__ import annotations

import filecmp
import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, cast

from batchcap.errors import OutputError, OutputLockedError
from batchcap.journal.formats import guess_format
from batchcap.system.locks import locked_folder, open_locked
from batchcap.system.output_files import check_place, explained, give_rights, own_file, sync_folder, take_over

KEPT: Final = "what was written is whole, and the rest as it was"
_LOOKED_AT: Final = 1 << 16
_BUFFER: Final = 1 << 20


def check_not_journal(output: Path, journal: Path) -> None:
    """Raise OutputError where the output is the journal itself, by whatever name."""
    if is_same(output, journal):
        raise OutputError(f"{output} is the journal itself ({journal}).", "Name another file.")


def is_same(one: str | Path, other: Path) -> bool:
    """Whether two names lead to one file that is there."""
    try:
        return os.path.samefile(one, other)  # noqa: PTH121
    except OSError:
        return False


@contextmanager
def output_folder(folder: Path) -> Iterator[None]:
    """Within, a folder that files are written into: made where it is missing, and held against a second conversion.

    Raises:
        OutputError: it is a file, its parent is missing, or it cannot be made.
        OutputLockedError: another conversion writes into it.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file; this target writes into a folder.", "Name a folder.")
    parent = folder.absolute().parent
    if not folder.exists() and not parent.is_dir():
        raise OutputError(f"{folder}: there is no folder {parent}.", f"Make it: mkdir -p '{parent}'")
    with explained(folder, "written", False, KEPT):
        folder.mkdir(exist_ok=True)
        with locked_folder(folder):
            yield


@dataclass(slots=True)
class NewFile:
    """A file that is being written."""

    path: Path
    """Where to write it: empty, and there for the time of writing only."""
    file: BinaryIO
    """The same, open for writing at its end, buffered."""
    changed: bool = True
    """Set at the end: whether the output holds something else than before."""


@contextmanager
def new_file(output: Path, overwrite: bool, ours: re.Pattern[bytes] | None = None) -> Iterator[NewFile]:
    """Write a file; at the end of the block it takes the place of ``output``, unless that holds the same bytes.

    Args:
        output: nothing, or a regular file; a link to one is followed.
        overwrite: replace any file but an output of `batchcap run`.
        ours: matches the beginning (64 KiB) of files of this target; without ``overwrite`` only these are replaced.

    Raises:
        OutputError: something else has that name, or it cannot be written; the old file is untouched.
        OutputLockedError: another conversion writes it.
    """
    output = output.resolve() if output.is_symlink() else output
    check_place(output)
    with explained(output, "written", False, KEPT):
        check_ours(output, overwrite, ours)
        temporary = own_file(output, "new")
        file = _open_temporary(temporary, output)
        buffered = io.BufferedWriter(cast("io.RawIOBase", file), _BUFFER)
        is_moved = False
        try:
            file.truncate(0)  # a conversion that was killed has left it
            file.seek(0)
            new = NewFile(temporary, buffered)
            yield new
            buffered.flush()
            os.fsync(file.fileno())
            new.changed = not (output.exists() and filecmp.cmp(temporary, output, shallow=False))
            if new.changed:
                if output.exists():
                    with output.open("rb") as old:
                        take_over(old, file)
                temporary.replace(output)
                is_moved = True
                sync_folder(output.parent)
        finally:
            if not is_moved:  # else the next conversion may have a file of that name already
                with suppress(OSError):
                    temporary.unlink()
            with suppress(OSError):
                file.close()
            with suppress(OSError, ValueError):  # what is in its memory has no file any more
                buffered.close()


def _open_temporary(temporary: Path, output: Path) -> BinaryIO:
    if temporary.is_symlink() or (temporary.exists() and not temporary.is_file()):
        raise OutputError(f"{temporary} is in the way: it is no regular file.", "Remove it, and run again.")
    try:
        return open_locked(temporary)[0]
    except OutputLockedError:
        raise OutputLockedError(f"Another conversion writes {output}.", "Wait until it ends.") from None


def check_ours(output: Path, overwrite: bool, ours: re.Pattern[bytes] | None = None) -> None:
    """Raise OutputError where there is a file that may not be replaced; the arguments are those of `new_file`.

    An output of `batchcap run` is not replaced with ``overwrite`` either: nothing else may hold its captions.
    """
    if not output.exists() or output.stat().st_size == 0:
        return
    with output.open("rb") as file:
        start = file.read(_LOOKED_AT)
    if guess_format(start) is not None:
        raise OutputError(
            f"{output} is an output of `batchcap run`, and a conversion would lose it.",
            "Name another file, or remove this one yourself.",
        )
    if not overwrite and (ours is None or not ours.match(start)):
        raise OutputError(
            f"{output} is there already, and a conversion to this target did not write it.",
            "Name another file, or add --overwrite to replace it.",
        )


def write_whole(name: str, data: bytes, temporary: str, old: os.stat_result | None = None) -> None:
    """Write a small file whole or not at all. It is not synced: a million of them would take hours.

    Args:
        name: of the file; a symbolic link of that name is replaced, not followed.
        data: all of it.
        temporary: a name in the same folder.
        old: of a file that others have written too: the new one gets its rights and owner, and is synced.

    Raises:
        OSError: it cannot be written; what was there before is untouched.
    """
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0), 0o666)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            if old is not None:
                give_rights(descriptor, old)
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, name)
    except BaseException:  # Ctrl-C too
        with suppress(OSError):
            os.unlink(temporary)
        raise
