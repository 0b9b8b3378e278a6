"""Whether a file is gone, or only away because its disk is: one that is not mounted leaves an empty folder behind."""

# Names as text: a Path object for each of a million images would take longer than looking at it.
# ruff: noqa: PTH114, PTH116, PTH120
from __future__ import annotations

import errno
import os
from functools import lru_cache
from typing import Final, Literal, NamedTuple

from batchcap.system.output_files import OWN

State = Literal["there", "gone", "away"]


class Found(NamedTuple):
    """What was found in the place of a file or folder."""

    state: State
    """``there`` also where it cannot be found out; ``away``: not there, but its disk may not be mounted."""
    empty: str = ""
    """The empty or missing folder that may be the place of that disk."""


_THERE: Final = Found("there")
_GONE: Final = Found("gone")


class Disks:
    """Looks at files and folders, and remembers what became of the folders."""

    def __init__(self) -> None:
        self.folder = lru_cache(maxsize=4096)(self._folder)
        """As `_folder`."""

    def file(self, file: str) -> Found:
        """What became of a file."""
        try:
            os.stat(file)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                return _THERE  # no permission, no answer: it may well be there
            above = self.folder(os.path.dirname(file))
            return above if above.state == "away" else _GONE
        except ValueError:  # a NUL in its name
            return _GONE
        return _THERE

    def _folder(self, folder: str) -> Found:
        """What became of a folder: an empty one, and a link to nowhere, may be the place of a disk that is away."""
        try:
            with os.scandir(folder) as entries:
                return _THERE if any(not entry.name.startswith(OWN) for entry in entries) else Found("away", folder)
        except FileNotFoundError:
            above = os.path.dirname(folder)
            if os.path.islink(folder) or above == folder:
                return Found("away", folder)
            found = self.folder(above)
            return found if found.state == "away" else _GONE
        except NotADirectoryError:
            return _GONE
        except OSError:
            return Found("away", folder)
