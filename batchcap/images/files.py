"""Looking at, opening and reading one image file, safely: a pipe or a device is never opened."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, Final, NamedTuple

from batchcap.errors import ImageError
from batchcap.records import Failure

MAX_FILE_BYTES: Final = 2**30
"""A larger file is not read: the largest image that is decoded has 0.63 GB without any compression."""

_NOT_REGULAR: Final = Failure("read", "io", "not a regular file")
# Opening a named pipe would block until something writes to it; a terminal would become the process's own.
_FLAGS: Final = (
    os.O_RDONLY
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)


class Look(NamedTuple):
    """What the system says of a file."""

    size: int
    """Bytes; 0 where that is not known."""
    mtime_us: int
    failure: Failure | None
    """Why it cannot be read: it is missing, hidden, or no file."""
    identity: tuple[int, int] | None = None
    """Device and inode; None where that is not known."""
    links: int = 1
    """Names that the file has."""


def look(file: str) -> Look:
    """Look at a file without opening it; never raises for the file's sake."""
    try:
        status = os.stat(file)  # noqa: PTH116 - the name is the operating system's own spelling
    except OSError as error:
        return Look(0, 0, Failure.from_os_error(error))
    except ValueError as error:  # a NUL, or what no file system can spell
        return Look(0, 0, Failure("read", "missing", f"no file can have this name: {error}"))
    failure = None if stat.S_ISREG(status.st_mode) else _NOT_REGULAR
    identity = (status.st_dev, status.st_ino)
    return Look(status.st_size, status.st_mtime_ns // 1000, failure, identity, status.st_nlink)


@contextmanager
def opened(file: str) -> Iterator[tuple[BinaryIO, int]]:
    """Open a regular file for `read`, and say its size now, whatever it was when the file was found.

    Raises:
        OSError: it cannot be opened.
        ImageError: stage ``read``: no regular file; stage ``decode``: larger than `MAX_FILE_BYTES`.
    """
    try:
        descriptor = os.open(file, _FLAGS)
    except ValueError as error:
        raise ImageError("read", "missing", f"no file can have this name: {error}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ImageError(_NOT_REGULAR.stage, _NOT_REGULAR.kind, _NOT_REGULAR.message)
        if status.st_size > MAX_FILE_BYTES:
            raise ImageError("decode", "too-large", f"the file has more than {MAX_FILE_BYTES:,} bytes")
    except BaseException:
        os.close(descriptor)
        raise
    with open(descriptor, "rb", buffering=0) as stream:  # noqa: PTH123 - a descriptor
        yield stream, status.st_size


def read(stream: BinaryIO, size: int) -> bytes:
    """At most ``size`` bytes: a file that grows meanwhile is not followed."""
    data = stream.read(size)
    while len(data) < size and (more := stream.read(size - len(data))):
        data += more
    return data


def read_file(file: str) -> bytes:
    """The bytes of an image file; raises as `opened`."""
    with opened(file) as (stream, size):
        return read(stream, size)
