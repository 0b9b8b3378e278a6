"""The images themselves, for targets that are of no use without them."""

# ruff: noqa: PTH116
from __future__ import annotations

import errno
import os
import stat
from typing import Final

from batchcap.convert.places import IMAGE_GONE, IN_ARCHIVE, NO_NAME, NO_ROOT
from batchcap.errors import InputNotFoundError
from batchcap.records import Record
from batchcap.roots import file_of, is_absolute, root_folder
from batchcap.system.disks import Disks

CHANGED: Final = "the image changed since it was captioned"


class ImageFiles:
    """Finds the images of records."""

    def __init__(self) -> None:
        self._disks = Disks()

    def of(self, record: Record) -> tuple[str, os.stat_result] | str:
        """The file of an image as the operating system spells it, and its state; or the reason why there is none.

        Raises:
            InputNotFoundError: see `check_root`.
        """
        if record.member is not None:
            return IN_ARCHIVE
        self.check_root(record)
        try:
            file = file_of(record)
            if file is None:
                return NO_ROOT
            state = os.stat(file)
        except (FileNotFoundError, NotADirectoryError):
            return IMAGE_GONE
        except OSError as error:  # no permission, no answer: it may well be there
            return IMAGE_GONE if error.errno == errno.ENAMETOOLONG else f"the image cannot be read: {error.strerror}"
        except ValueError:
            return NO_NAME
        return (file, state) if stat.S_ISREG(state.st_mode) else IMAGE_GONE

    def check_root(self, record: Record) -> None:
        """Raise InputNotFoundError where the root of a record is not there or empty: a disk may be away."""
        if record.root is None or is_absolute(record.path):
            return
        folder = root_folder(record.root)
        if self._disks.folder(folder).state != "there":
            raise InputNotFoundError(
                f"There is no folder {folder}, which the images of this journal lie in, or it is empty.",
                "This target needs the images. Is a disk away? If they have moved: `batchcap run --relocate`.",
            )


def is_unchanged(record: Record, state: os.stat_result) -> bool:
    """Whether an image has the size and the time of its record."""
    return (record.bytes, record.mtime_us) in ((state.st_size, state.st_mtime_ns // 1000), (None, None))
