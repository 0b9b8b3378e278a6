"""Which images get a caption written into them, and why others do not, as far as that is known without exiftool."""

# Names as text: see batchcap.convert.places.
# ruff: noqa: PTH116, PTH118
from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from batchcap.convert.image_files import ImageFiles
from batchcap.convert.packets import ImageKind, look_inside
from batchcap.convert.places import IMAGE_GONE, IN_ARCHIVE, NO_ROOT, Place, Places
from batchcap.convert.sidecars import placed
from batchcap.convert.work import Work
from batchcap.convert.xmp_caption import DEFAULT_LANGUAGE, THEIRS, is_ours, with_caption, writable
from batchcap.convert.xmp_document import XmpError
from batchcap.journal.updating import JournalUpdate
from batchcap.records import Record
from batchcap.roots import exact_path, root_folder
from batchcap.system.output_files import own_file

OTHER_KIND: Final = "captions go into JPEG, PNG, WebP and TIFF only"
CHANGED: Final = "the image has changed since it was captioned (batchcap run captions it again)"
SYMBOLIC_LINK: Final = "the image is a symbolic link"
HARD_LINKS: Final = "the image has other names (hard links), which would keep the old file"
READ_ONLY: Final = "the image is read-only"
NOT_REGULAR: Final = "the image is no regular file"
NOT_OURS: Final = "another file has the name of the copy (--overwrite replaces it)"
NO_FILE: Final = "a folder or a link has the name of the copy"
EDITED: Final = "the copy was changed after it was made (--overwrite makes it anew)"
SAME_FILE: Final = "the copy would be the image itself"
_LEFT_OUT: Final = frozenset({IMAGE_GONE, IN_ARCHIVE, OTHER_KIND, THEIRS, EDITED})
# Nanoseconds that file systems round a date down to: ext4, SMB and NTFS, NFS servers, exFAT, old Unix ones, FAT.
_GRAINS: Final = (1, 100, 1_000, 1_000_000, 10_000_000, 1_000_000_000, 2_000_000_000)


@dataclass(frozen=True, slots=True)
class Job:
    """An image that exiftool is to look at, and its caption."""

    record: Record
    caption: str
    kind: ImageKind
    source: str
    """The image, as the operating system spells it."""
    target: str
    """Where the image with the caption belongs: the same in place."""
    status: os.stat_result
    """Of the source, as it was captioned."""

    @property
    def temporary(self) -> str:
        """Where it is written first: a name beside the target that no run looks at.

        It has no ending of an image: exiftool makes no WebP under a name with one.
        """
        return str(own_file(Path(self.target), "embed"))


class _NoJobError(Exception):
    """Why an image gets no caption; for one image, and never seen outside."""


def jobs(work: Work, places: Places, update: JournalUpdate | None) -> Iterator[Job]:
    """The images that need work. The others are counted in the tally.

    Args:
        work: its journal and options.
        places: the output folder.
        update: of the journal, in place; None: copies are made.
    """
    language = work.options.language or DEFAULT_LANGUAGE
    in_place = update is not None
    images = ImageFiles()
    for record, place in placed(work, places):
        images.check_root(record)
        try:
            job = _job(record, place, in_place=in_place)
            if in_place and _holds(job.source, job.caption, language):
                work.tally.unchanged += 1
            elif in_place or _needs_copy(work, job, language):
                yield job
        except _NoJobError as why:
            reason = str(why)
            if reason == CHANGED and update is not None and _changed_here(record, place, language):
                update.append(record_of(record, place.file(place.image)))
                work.tally.unchanged += 1
                continue
            count = work.tally.leave_out if reason in _LEFT_OUT else work.tally.refuse
            count(reason, record.path)
        except OSError as error:
            work.tally.refuse(f"it cannot be read: {error.strerror or type(error).__name__}", record.path)


def _job(record: Record, place: Place, *, in_place: bool) -> Job:
    if record.member is not None:
        raise _NoJobError(IN_ARCHIVE)
    if record.root is None:
        raise _NoJobError(NO_ROOT)
    target = place.file(place.image)
    source = target if in_place else os.path.join(root_folder(record.root), exact_path(record))
    try:
        status = os.lstat(source) if in_place else os.stat(source)
    except (FileNotFoundError, NotADirectoryError):
        raise _NoJobError(IMAGE_GONE) from None
    if not stat.S_ISREG(status.st_mode):
        raise _NoJobError(SYMBOLIC_LINK if stat.S_ISLNK(status.st_mode) else NOT_REGULAR)
    if in_place and status.st_nlink > 1:
        raise _NoJobError(HARD_LINKS)
    if in_place and not (status.st_mode & 0o222 and os.access(source, os.W_OK)):
        raise _NoJobError(READ_ONLY)
    if not _is_as_captioned(record, source, status):
        raise _NoJobError(CHANGED)
    kind = look_inside(source).kind
    if kind is None:
        raise _NoJobError(OTHER_KIND)
    return Job(record, writable(record.caption or ""), kind, source, target, status)


def _is_as_captioned(record: Record, file: str, status: os.stat_result) -> bool:
    """Whether the file is the one of the record: by size and time, or by its content where the record has that."""
    if (record.bytes, record.mtime_us) == (status.st_size, status.st_mtime_ns // 1000):
        return True
    return record.sha256 is not None and record.bytes == status.st_size and sha256_of(file) == record.sha256


def _changed_here(record: Record, place: Place, language: str) -> bool:
    """Whether a killed conversion changed the image and could not tell the journal: others change its time as well."""
    file = place.file(place.image)
    is_time = record.mtime_us == os.stat(file).st_mtime_ns // 1000
    return is_time and _holds(file, writable(record.caption or ""), language)


def record_of(record: Record, file: str) -> Record:
    """A record that has the size, time and, where it had one, the checksum of a file as it is now."""
    status = os.stat(file)
    sha256 = sha256_of(file) if record.sha256 else None
    return msgspec.structs.replace(record, bytes=status.st_size, mtime_us=status.st_mtime_ns // 1000, sha256=sha256)


def sha256_of(file: str) -> str:
    """Hex SHA-256 of a file, as `batchcap run --checksum` records it."""
    with Path(file).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _holds(file: str, caption: str, language: str) -> bool:
    """Whether a quick look at a file finds this caption, and that it is ours."""
    packet = look_inside(file).packet
    try:
        return packet is not None and with_caption(packet, caption, language) == packet
    except XmpError:
        return False


def _needs_copy(work: Work, job: Job, language: str) -> bool:
    """Whether the copy of an image is to be made, or made anew; it is counted where it is there and up to date.

    Raises:
        _NoJobError: something else has its name, or somebody has written its caption.
    """
    try:
        there = os.lstat(job.target)
    except FileNotFoundError:
        return True
    if os.path.samestat(there, job.status):
        raise _NoJobError(SAME_FILE)
    if not stat.S_ISREG(there.st_mode):
        raise _NoJobError(NO_FILE)
    new, old = job.status.st_mtime_ns, there.st_mtime_ns
    as_old = any(new - new % grain == old for grain in _GRAINS)
    if as_old and _holds(job.target, job.caption, language):
        work.tally.unchanged += 1
        return False
    if not work.options.overwrite:
        ours = _whose(job.target)
        if ours is False or (as_old and there.st_size == job.status.st_size):  # copied as it was
            raise _NoJobError(THEIRS)
        if ours is None:
            raise _NoJobError(NOT_OURS)
        if old > new:  # a copy has the date of its image
            raise _NoJobError(EDITED)
    return True


def _whose(file: str) -> bool | None:
    """Whether batchcap has written the caption of a copy as it stands; None: it never wrote one."""
    packet = look_inside(file).packet
    try:
        return None if packet is None else is_ours(packet)
    except XmpError:
        return None
