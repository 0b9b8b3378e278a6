"""Where a file beside an image belongs: next to the image, or at the same place of a mirror tree. Never elsewhere."""

# Paths as text: a Path object for each of a million records would be the slowest part.
# ruff: noqa: PTH112, PTH118
from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from batchcap.records import Record
from batchcap.roots import exact_path, is_absolute, is_within, root_folder

OUTSIDE: Final = "the image lies outside the root"
IN_ARCHIVE: Final = "the image lies in an archive"
FOLDER_GONE: Final = "the folder of the image is gone"
IMAGE_GONE: Final = "the image is gone"
NO_ROOT: Final = "the record does not say which folder its path is relative to"
LINK_OUT: Final = "a link leads out of OUT"
NO_NAME: Final = "the record has a name that no file can have"
LEFT_OUT: Final = frozenset({IN_ARCHIVE, FOLDER_GONE, IMAGE_GONE})
"""Reasons that are no error; the others are."""

_MOST_FOLDERS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Place:
    """Where the file beside one image belongs."""

    folder: str
    """Absolute, as the operating system spells it; in a mirror tree it may not be there yet."""
    image: str
    """Name of the image in that folder."""

    @property
    def stem(self) -> str:
        """The name without its last ending."""
        return os.path.splitext(self.image)[0]  # noqa: PTH122

    def file(self, name: str) -> str:
        """A file of that name in the folder."""
        return os.path.join(self.folder, name)


class Places:
    """The places of the records of a journal below one output folder.

    Where ``output`` is the root that a record names, they lie beside the images; else in a mirror tree.
    """

    def __init__(self, output: Path) -> None:
        self.folder = os.path.abspath(output)  # noqa: PTH100
        self._real = os.path.realpath(output)
        self._roots: dict[str | None, bool] = {}
        self._known: dict[tuple[str, bool], str | None] = {}

    def of(self, record: Record) -> Place | str:
        """The place of a record, or the reason why it has none."""
        try:
            path = exact_path(record)
        except ValueError:  # no Base64
            path = "\0"
        if "\0" in path:
            return NO_NAME
        beside = self.is_beside(record)
        if record.member is not None:
            if beside:
                return IN_ARCHIVE
            # A folder with the name of the archive.
            path = f"{path.removesuffix('::' + record.member)}/{record.member}"
        parts = path.split("/")
        if is_absolute(path) or not {"", ".", ".."}.isdisjoint(parts) or (os.sep != "/" and os.sep in path):
            return OUTSIDE
        folder = os.path.join(self.folder, *parts[:-1])
        wrong = self._wrong_with(folder, beside)
        if wrong is not None:
            return wrong
        if beside and not os.path.lexists(os.path.join(folder, parts[-1])):
            return IMAGE_GONE
        return Place(folder, parts[-1])

    def is_beside(self, record: Record) -> bool:
        """Whether the files of a record lie beside its image."""
        if record.root not in self._roots:
            root = record.root
            self._roots[root] = root is not None and os.path.realpath(root_folder(root)) == self._real
        return self._roots[record.root]

    def _wrong_with(self, folder: str, beside: bool) -> str | None:
        key = (folder, beside)
        if key not in self._known:
            if len(self._known) >= _MOST_FOLDERS:
                self._known.clear()
            if beside and not os.path.isdir(folder):
                self._known[key] = FOLDER_GONE
            else:
                self._known[key] = None if is_within(os.path.realpath(folder), self._real) else LINK_OUT
        return self._known[key]
