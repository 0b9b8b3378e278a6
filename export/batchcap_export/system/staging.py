"""The staging folder of a bundle, beside its place: a finished bundle is moved there in one step."""

from __future__ import annotations

import errno
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from batchcap.errors import OutputError
from batchcap.reporting import Say
from batchcap_export.system.places import make_parents, remove_empty

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@contextmanager
def staging_folder(output: Path, say: Say) -> Iterator[Path]:
    """A hidden folder beside ``output``, removed at the end: a failed export leaves nothing behind.

    The folders above are made where they are missing.

    Only a process that is killed (kill -9, a power cut) leaves its folder. Such folders are named and never removed:
    whether one is still in use cannot be known for certain, least of all on a network drive.

    Raises:
        OutputError: it cannot be made, or something could not be written: the disk is full, say.
    """
    made = make_parents(output)
    for other in sorted(output.parent.glob(f".{glob.escape(output.name)}-????????/")):
        say(f"{other}: belongs to an export that was killed, unless one is at work now; if not, it can be removed")
    try:
        staging = Path(tempfile.mkdtemp(prefix=f".{output.name}-", dir=output.parent))
    except OSError as error:
        remove_empty(made)
        raise OutputError(f"{output.parent}: cannot be written: {error.strerror or error}.") from error
    try:
        yield staging
    except OSError as error:
        nothing = "Nothing of the bundle remains."
        if error.errno in _FULL:
            fix = f"Make room there, or name a folder on another disk. {nothing}"
            raise OutputError(f"{output}: cannot be written: {error.strerror}.", fix) from error
        raise OutputError(f"{output}: cannot be written: {error}.", nothing) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        remove_empty(made)


def move(folder: Path, output: Path) -> None:
    """Put a finished folder in its place. Its bytes go to the disk first: only then do some notice that it is full.

    Raises:
        OSError: a file could not be written in the end.
    """
    for path in folder.iterdir():
        with path.open("rb+") as file:
            os.fsync(file.fileno())
    folder.rename(output)
