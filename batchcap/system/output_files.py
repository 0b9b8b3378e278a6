"""Where an output may lie, and the system's errors about it in words."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from batchcap.errors import BatchcapError, OutputError

OWN: Final = ".batchcap-"
"""How the names of batchcap's own files begin: see `own_file`."""
_KEPT: Final = "every record written so far is kept"
_PARTIAL: Final = "the old file is untouched, and the new one goes on"
_FIXES: Final = {
    errno.ENOSPC: "Free some space and run again: {kept}.",
    errno.EDQUOT: "Free some of your quota and run again: {kept}.",
    errno.EFBIG: "Raise the size limit of this system or account (ulimit -f) and run again: {kept}.",
    errno.EACCES: "Give yourself the right to write the file and its folder, or name another output.",
    errno.EPERM: "Give yourself the right to write the file and its folder, or name another output.",
    errno.EROFS: "The file system is read-only: name an output somewhere else.",
    errno.ENAMETOOLONG: "Name a shorter output file.",
}


@contextmanager
def explained(path: Path, done: str, overwrite: bool, kept: str = "") -> Iterator[None]:
    """Turn the system's errors into `OutputError`, with the file and the fix.

    Args:
        path: the file.
        done: what it cannot be: "written".
        overwrite: a new output of a run is written beside the old one.
        kept: what is not lost, in words, where the file is no output of a run.
    """
    try:
        yield
    except BatchcapError:
        raise
    except OSError as error:
        why = error.strerror or type(error).__name__
        fix = _FIXES.get(error.errno or 0, "").format(kept=kept or (_PARTIAL if overwrite else _KEPT))
        raise OutputError(f"{path} cannot be {done}: {why}.", fix) from error


def check_place(path: Path) -> None:
    """Raise OutputError where no output can be: a missing folder is mostly a typing error, so it is not made."""
    if path.as_posix().startswith("/proc/") and path.parent.name == "fd":  # /dev/stdout and its like
        raise OutputError(f"{path} is not a regular file.", "Use -o - to write to standard output.")
    folder = path.parent
    if not folder.exists():
        raise OutputError(f"{path}: there is no folder {folder}.", f"Make it: mkdir -p '{folder}'")
    if not folder.is_dir():
        raise OutputError(f"{path}: {folder} is a file, not a folder.", "Name another output.")
    if path.is_dir():
        raise OutputError(f"{path} is a folder.", "Name a file in it.")
    if path.exists() and not stat.S_ISREG(path.stat().st_mode):
        raise OutputError(f"{path} is not a regular file.", "Use -o - to write to standard output.")


def own_file(path: Path, purpose: str) -> Path:
    """A file of batchcap's own in the folder of an output, for a moment only; a name that no other program uses.

    It is short whatever the output is called, so that every name that an output can have will do.
    """
    return path.with_name(own_name(path.name, purpose))


def own_name(name: str, purpose: str) -> str:
    """The name of `own_file` for the name of an output."""
    return f"{OWN}{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}.{purpose}"


def take_over(old: BinaryIO, new: BinaryIO) -> None:
    """Give a new file the rights and, where that is allowed, the owner of the old one."""
    give_rights(new.fileno(), os.fstat(old.fileno()))


def give_rights(descriptor: int, old: os.stat_result) -> None:
    """As `take_over`, for an open file and what the system says of the old one."""
    if os.name == "nt":
        return
    with suppress(PermissionError):
        os.fchown(descriptor, old.st_uid, old.st_gid)
    os.fchmod(descriptor, stat.S_IMODE(old.st_mode))


def sync_folder(folder: Path) -> None:
    """Make a new name in a folder survive a power failure. Windows has no such call."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems cannot
            raise
    finally:
        os.close(descriptor)
