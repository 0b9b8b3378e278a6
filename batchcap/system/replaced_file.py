"""A small file that is replaced whole: a reader sees the old one or the new one, never a part."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from batchcap.system.output_files import own_file, sync_folder, take_over


def replace_file(path: Path, data: bytes) -> None:
    """Put ``data`` in the place of a file, or make it; rights and owner of an old file stay.

    A symbolic link stays, and the file that it leads to is replaced. After a power failure the old file or the new one
    is there.

    Raises:
        OSError: it cannot be written; the old file is as it was.
    """
    path = Path(os.path.realpath(path))
    new = own_file(path, str(os.getpid()))  # two runs may write the same file
    try:
        with new.open("wb") as file:
            with suppress(FileNotFoundError), path.open("rb") as old:
                take_over(old, file)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def check_replaceable(path: Path) -> None:
    """Raise OSError where `replace_file` could not make a file in this place; nothing is left behind."""
    path = Path(os.path.realpath(path))
    trial = own_file(path, str(os.getpid()))
    trial.open("wb").close()
    trial.unlink()
