"""The images themselves, for targets that are of no use without them."""

# ruff: noqa: PTH116
from __future__ import annotations

import os
import stat
from typing import Final

from batchcap.convert.places import IMAGE_GONE, IN_ARCHIVE
from batchcap.errors import InputNotFoundError
from batchcap.records import Record
from batchcap.roots import file_of, is_absolute, root_folder
from batchcap.system.disks import Disks

NO_ROOT: Final = "the record does not say where the image is"
CHANGED: Final = "the image changed since it was captioned"


class ImageFiles:
    """Finds the images of records."""

    def __init__(self) -> None:
        self._disks = Disks()

    def of(self, record: Record) -> tuple[str, os.stat_result] | str:
        """The file of an image as the operating system spells it, and its state; or the reason why there is none.

        Raises:
            InputNotFoundError: the root is not there or empty: a disk may be away, and all images with it.
        """
        if record.member is not None:
            return IN_ARCHIVE
        if record.root is not None and not is_absolute(record.path):
            self._check_root(record.root)
        file = file_of(record)
        if file is None:
            return NO_ROOT
        try:
            state = os.stat(file)
        except OSError:
            return IMAGE_GONE
        return (file, state) if stat.S_ISREG(state.st_mode) else IMAGE_GONE

    def _check_root(self, root: str) -> None:
        folder = root_folder(root)
        if self._disks.folder(folder).state != "there":
            raise InputNotFoundError(
                f"There is no folder {folder}, which the images of this journal lie in, or it is empty.",
                "This target needs the images. Is a disk away? If they have moved: `batchcap run --relocate`.",
            )


def is_unchanged(record: Record, state: os.stat_result) -> bool:
    """Whether an image has the size and the time of its record."""
    return (record.bytes, record.mtime_us) in ((state.st_size, state.st_mtime_ns // 1000), (None, None))
