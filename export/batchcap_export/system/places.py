"""Where `train`, `distill` and `export` write: missing folders above are made; what cannot work is an error at once."""

from __future__ import annotations

import os
from pathlib import Path

from batchcap.errors import OutputError


def check_place(output: Path, *, run_folder: bool = False) -> None:
    """Refuse a place where no folder can be made or, for ``run_folder``, gone on with; nothing is made yet.

    Raises:
        OutputError: it exists, or cannot be made.
    """
    if run_folder and output.exists() and not output.is_dir():
        raise OutputError(f"{output}: is a file, not a run folder.", "Name another.")
    if not run_folder and (output.exists() or output.is_symlink()):
        raise OutputError(f"{output}: exists already.", "Remove it, or name another folder.")
    above = output if run_folder and output.exists() else _nearest(output)
    if not above.is_dir():
        raise OutputError(f"{output}: cannot be made: {above} is no folder.", "Name another place.")
    if not os.access(above, os.W_OK | os.X_OK):
        raise OutputError(f"{output}: cannot be written: no permission in {above}.", "Name another place.")


def _nearest(output: Path) -> Path:
    """The first thing above ``output`` that exists."""
    return next(above for above in output.absolute().parents if above.exists() or above.is_symlink())


def make_parents(output: Path) -> list[Path]:
    """Make the folders above ``output``; those that were missing, deepest first, for `remove_empty`.

    Raises:
        OutputError: one cannot be made.
    """
    missing = [above for above in output.absolute().parents if not above.exists()]
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{output.parent}: cannot be made: {error.strerror or error}.", "Name another.") from error
    return missing


def remove_empty(folders: list[Path]) -> None:
    """Remove folders that hold nothing, as they were before something failed."""
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:  # another process uses it by now
            return
