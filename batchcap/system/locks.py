"""A lock on a file itself, held as long as the file is open: the system frees it however the process ends.

A lock file beside the output would stay after a kill, and removing one that is in use would let a second run in.
"""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from batchcap.errors import OutputError, OutputLockedError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

# Windows locks bytes, and nobody can read locked ones: this byte is far after the end of any output.
_FAR: Final = 2**62
# `is_locked` holds a lock for a moment, which must not look like a run.
_TRIES: Final = 3
_TRY_SECONDS: Final = 0.02
# What file systems without locks answer (some network and user-space ones).
_WITHOUT_LOCKS: Final = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


def open_locked(path: Path) -> tuple[BinaryIO, bool]:
    """Open a file for appending, make it where it is missing, and take its lock at once.

    Returns:
        The file, unbuffered; closing it gives the lock back. And whether it was made here.

    Raises:
        OutputLockedError: another process, or another open file of this one, holds the lock.
        OutputError: the file system has no locks.
        OSError: it cannot be opened.
    """
    while True:
        file, is_new = _open(path)
        try:
            _lock(file, path)
            if _is_at(file, path):
                return file, is_new
        except BaseException:
            file.close()
            raise
        # Between opening and locking the holder before us removed or replaced the file: this lock guards nothing.
        file.close()


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Hold a lock on a folder itself; nothing is written into it. Where the system cannot do that, nothing is locked.

    Raises:
        OutputLockedError: another process holds it.
        OSError: the folder cannot be opened.
    """
    if sys.platform == "win32":
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OutputLockedError(f"Another conversion writes into {folder}.", "Wait until it ends.") from None
        except OSError:  # NFS locks only what is open for writing, which no folder is
            pass
        yield
    finally:
        os.close(descriptor)


def _open(path: Path) -> tuple[BinaryIO, bool]:
    try:
        return open(path, "ab", buffering=0, opener=_make), True
    except FileExistsError:
        pass
    try:
        return path.open("ab", buffering=0), False
    except FileNotFoundError:  # removed between the two; or a link to nowhere, which the next line says
        return path.open("ab", buffering=0), True


def _make(name: str, flags: int) -> int:
    """Open a file that must not be there yet. Python's mode "x" would not write at the end after a cut."""
    return os.open(name, flags | os.O_EXCL, 0o666)


def is_locked(path: Path) -> bool | None:
    """Whether a process holds the lock of a file; None where the file system has no locks.

    Takes a shared lock for a moment: `open_locked` waits that long.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb", buffering=0) as file:
        try:
            _take(file, shared=True)
        except (BlockingIOError, PermissionError):
            return True
        except OSError as error:
            if error.errno not in _WITHOUT_LOCKS:
                raise
            return None
    return False


def _take(file: BinaryIO, *, shared: bool = False) -> None:
    if sys.platform == "win32":
        position = file.seek(0, os.SEEK_CUR)
        file.seek(_FAR)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        finally:
            file.seek(position)
    else:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)


def _lock(file: BinaryIO, path: Path) -> None:
    try:
        for _ in range(_TRIES - 1):
            with suppress(BlockingIOError, PermissionError):
                return _take(file)
            time.sleep(_TRY_SECONDS)
        _take(file)
    except (BlockingIOError, PermissionError):
        fix = (
            "Wait until it ends (run does with --wait SECONDS), or name another output. If you use the program "
            "`flock`, let it lock another file."
        )
        raise OutputLockedError(f"Another run is writing {path}, or another program holds a lock on it.", fix) from None
    except OSError as error:
        if error.errno not in _WITHOUT_LOCKS:
            raise
        raise OutputError(
            f"{path} lies on a file system that cannot lock files ({error.strerror}).",
            "Without a lock two runs could write it at once: name an output on a local disk.",
        ) from None


def _is_at(file: BinaryIO, path: Path) -> bool:
    """Whether the open file is still the one that has this name."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    return False
