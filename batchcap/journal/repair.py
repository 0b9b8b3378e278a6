"""Repairing a journal: what is no record goes into a file beside it, and every whole record stays."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from batchcap.errors import OutputError
from batchcap.journal.damage import Damage, Examination
from batchcap.journal.live_file import LiveFile
from batchcap.journal.reader import reading
from batchcap.journal.updating import locked
from batchcap.system.output_files import own_file, take_over


def examine(path: Path) -> Damage:
    """What is wrong with a journal; nothing is changed.

    Raises:
        InputNotFoundError: there is no such file.
        OutputError: it cannot be read, or holds no record at all.
    """
    with reading(path):
        return Examination(path).damage


def repair(path: Path) -> Damage:
    """Move what is no record to the end of ``FILE.rejected``, after a copy of the whole file to ``FILE.backup``.

    A journal without damage is left as it is, byte for byte. Nobody sees a journal that is half repaired.

    Raises:
        OutputLockedError: a run holds the journal.
        InputNotFoundError, OutputError: as `examine`, or a file cannot be written; the journal is left as it was.
    """
    with locked(path, "repaired") as live:
        return _repair(live.path, live)


def _repair(path: Path, live: LiveFile) -> Damage:
    with suppress(OSError):  # what a repair has left that was killed
        own_file(path, "backup").unlink()
    found = Examination(path)
    damage = found.damage
    if damage.is_sound:
        return damage
    rejects = path.with_name(path.name + ".rejected")
    if rejects.exists() and not rejects.is_file():
        raise OutputError(f"{rejects} is in the way: it is no regular file.", "Move it, and run again.")
    live.begin(path.stat().st_size, lacks_end=False)
    damage.backup = _back_up(path)
    before = rejects.stat().st_size if rejects.exists() else None
    try:
        with path.open("rb") as old, rejects.open("ab") as aside:
            if before is None:
                take_over(old, aside)
            old.close()  # Windows replaces no open file
            live.put(found.lines(aside))
    except BaseException:  # the journal is as it was: nothing was moved
        with suppress(OSError):
            if before is not None:
                os.truncate(rejects, before)
            else:
                rejects.unlink()
            damage.backup.unlink()
        raise
    if damage.rejected:
        damage.rejects = rejects
    elif before is None:
        rejects.unlink()
    return damage


def _back_up(path: Path) -> Path:
    """Copy the whole file to the first of ``FILE.backup``, ``FILE.backup.2``, ... that is not there yet."""
    copy, name, number = own_file(path, "backup"), path.with_name(path.name + ".backup"), 2
    try:
        with path.open("rb") as source, copy.open("wb") as target:
            take_over(source, target)
            shutil.copyfileobj(source, target, 1 << 20)
            target.flush()
            os.fsync(target.fileno())
        shutil.copystat(path, copy)
        while os.path.lexists(name):
            name, number = path.with_name(f"{path.name}.backup.{number}"), number + 1
        copy.rename(name)
    except BaseException:
        with suppress(OSError):
            copy.unlink()
        raise
    return name
