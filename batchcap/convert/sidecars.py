"""What the targets share that write one file beside each image: clashing names, files of others, and writing."""

# ruff: noqa: PTH103
from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeAlias

from batchcap.convert.files import KEPT, is_same, output_folder, write_whole
from batchcap.convert.hashes import Hashes
from batchcap.convert.image_files import ImageFiles
from batchcap.convert.places import Place, Places
from batchcap.convert.unique import check_unique
from batchcap.convert.work import Work
from batchcap.records import Record
from batchcap.system.output_files import explained, own_name

NameOf: TypeAlias = Callable[[Place], str]
"""The name of the sidecar of an image, without its folder."""

_MOST_READ: Final = 64 << 20
OF_ONE: Final = {
    errno.EACCES: "no permission to write there",
    errno.EPERM: "no permission to write there",
    errno.ENAMETOOLONG: "the name is too long with its ending",
    errno.EISDIR: "a folder has the name of the file",
    errno.ENOTEMPTY: "a folder has the name of the file",
    errno.ENOTDIR: "a file has the name of the folder",
    errno.EEXIST: "a file has the name of the folder",
    errno.EILSEQ: "the file system cannot hold this name",
    errno.EINVAL: "the file system cannot hold this name",
}
"""What is wrong with one name or folder, not with the disk."""


@contextmanager
def sidecar_folder(work: Work) -> Iterator[Places]:
    """The places in an output folder; see `files.output_folder`.

    Raises:
        InputNotFoundError: it is the root of the images, which is away; see `ImageFiles.check_root`.
    """
    places = Places(work.output)
    first = next(work.all_records("looking for the root"), None)
    if first is not None and places.is_beside(first):
        ImageFiles().check_root(first)
    with output_folder(work.output):
        yield places


def check_names(work: Work, places: Places, name_of: NameOf, fix: str) -> None:
    """Raise DuplicateKeyError where two captioned images would have one sidecar; all of them are named.

    Args:
        work: its records are read.
        places: where the sidecars go.
        name_of: their names.
        fix: what the reader can do.
    """

    def file_of(record: Record) -> str | None:
        place = places.of(record)
        return place.file(name_of(place)) if isinstance(place, Place) else None

    check_unique(work, file_of, fix)


class Said:
    """What the journal has said of its images: every caption, superseded ones too."""

    def __init__(self, work: Work, texts: Callable[[Record], Iterator[str]]) -> None:
        """Args:
        work: its journal.
        texts: what a sidecar may hold for a record.
        """
        self._work = work
        self._texts = texts
        self._hashes: Hashes | None = None

    def includes(self, record: Record, text: str) -> bool:
        """Whether a record of the same image had this text. The first call reads the journal once more."""
        if self._hashes is None:
            self._hashes = Hashes()
            for each in self._work.all_records("reading older captions"):
                if each.caption is not None:
                    for said in self._texts(each):
                        self._hashes.add((each.key, said))
        return (record.key, text) in self._hashes


def placed(work: Work, places: Places) -> Iterator[tuple[Record, Place]]:
    """The captioned records with their places; those without one are counted in the tally.

    Where OUT is another folder than the images lie in, a note says so: it may be a slip.
    """
    elsewhere: set[str | None] = set()
    is_beside = False
    for record in work.captioned():
        place = places.of(record)
        if isinstance(place, Place):
            if places.is_beside(record):
                is_beside = True
            else:
                elsewhere.add(record.root)
            yield record, place
        else:
            work.tally.set_aside(place, record.path)
    if elsewhere and not is_beside:
        root = min(filter(None, elsewhere), default=None)
        where = "" if root is None else f" the images are in {root};"
        work.tally.notes.append(f"Not beside the images:{where} {work.output} is a tree like theirs.")


def read_sidecar(file: str) -> tuple[bytes, os.stat_result] | None:
    """The bytes of a sidecar (of a large file only the first), and what the system says of it; None: there is none.

    Raises:
        OSError: it cannot be read; ELOOP: it is a symbolic link, or no regular file.
    """
    flags = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(file, os.O_RDONLY | flags)
    except OSError as error:
        # Writing would say more of what is wrong with the place.
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
            return None
        raise
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        with open(descriptor, "rb", closefd=False) as opened:
            return opened.read(_MOST_READ), status
    finally:
        os.close(descriptor)


def write_sidecar(work: Work, place: Place, name: str, data: bytes, old: os.stat_result | None = None) -> bool:
    """Write one sidecar whole, with its folder, and count it; False: it was refused.

    Args:
        work: counts it.
        place: its folder.
        name: its name there.
        data: all of it.
        old: see `write_whole`.

    Raises:
        OutputError: the disk is full, or cannot be written at all.
    """
    file = place.file(name)
    # Of this sidecar alone: a conversion into a folder above or below this one may write here at the same time.
    temporary = place.file(own_name(name, "new"))
    if is_same(file, work.options.journal):
        work.tally.refuse("the journal has this name", file)
        return False
    try:
        try:
            write_whole(file, data, temporary, old)
        except FileNotFoundError:
            os.makedirs(place.folder, exist_ok=True)
            write_whole(file, data, temporary)
    except OSError as error:
        if error.errno not in OF_ONE:
            with explained(Path(file), "written", False, KEPT):
                raise
        work.tally.refuse(OF_ONE[error.errno], file)
        return False
    work.tally.written += 1
    return True
