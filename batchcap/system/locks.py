"""A lock on a file itself, held as long as the file is open: the system frees it however the process ends.

A lock file beside the output would stay after a kill, and removing one that is in use would let a second run in.

Linux: a lock of the open file description (fcntl(2)) on one byte far after the end of any output. ``flock`` would do on
a local disk; but on SMB, Linux makes a lock of all bytes of it, which is mandatory there: nobody could read the output
of a run at work, not even the run itself by another open file. Both reach the server on NFS. Where the system knows no
such lock (macOS, some user-space file systems) it is ``flock``; Windows locks that byte.
"""

from __future__ import annotations

import errno
import os
import struct
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

# Where locks are mandatory nobody can read locked bytes: this one is far after the end of any output.
_FAR: Final = 2**62
_STRUCT_FLOCK: Final = "hhqqi"
# `is_locked` holds a lock for a moment, which must not look like a run.
_TRIES: Final = 3
_TRY_SECONDS: Final = 0.02
# Of a system without locks of open file descriptions.
_UNKNOWN: Final = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EOVERFLOW)
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

    Where `flock` is used, it takes a shared lock for a moment: `open_locked` waits that long.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb", buffering=0) as file:
        try:
            if sys.platform == "linux":
                with _suppress_unknown():
                    asked = fcntl.fcntl(file, fcntl.F_OFD_GETLK, _far_byte(fcntl.F_RDLCK))
                    return bool(struct.unpack(_STRUCT_FLOCK, asked)[0] != fcntl.F_UNLCK)
            _take_by_other_means(file, shared=True)
        except (BlockingIOError, PermissionError):
            return True
        except OSError as error:
            if error.errno not in _WITHOUT_LOCKS:
                raise
            return None
    return False


def _take(file: BinaryIO) -> None:
    """Take the lock. Raises BlockingIOError or PermissionError where it is held."""
    if sys.platform == "linux":
        with _suppress_unknown():
            fcntl.fcntl(file, fcntl.F_OFD_SETLK, _far_byte(fcntl.F_WRLCK))
            return
    _take_by_other_means(file)


def _far_byte(kind: int) -> bytes:
    """``struct flock`` of fcntl(2): one byte, far after the end."""
    return struct.pack(_STRUCT_FLOCK, kind, os.SEEK_SET, _FAR, 1, 0)


@contextmanager
def _suppress_unknown() -> Iterator[None]:
    """Within, leave at the first call that the system does not know."""
    try:
        yield
    except OSError as error:
        if error.errno not in _UNKNOWN:
            raise


def _take_by_other_means(file: BinaryIO, *, shared: bool = False) -> None:
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
        fix = "Wait until it ends (run does with --wait SECONDS), or name another output."
        raise OutputLockedError(f"Another run is writing {path}.", fix) from None
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
