"""``--embed``: the caption inside each image, in copies below OUT or, where OUT is the root, in the images themselves.

exiftool writes a changed copy under another name beside the place of the image; the copy is moved there when it is
whole and on the disk. In place, the journal then gets the size of the new file, so that no run captions it again.
"""

# Names as text: see batchcap.convert.places.
# ruff: noqa: PTH103, PTH105, PTH108, PTH116, PTH120
from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final, TypeAlias

from batchcap.convert import exiftool
from batchcap.convert.caption_fields import Fields, reading
from batchcap.convert.embed_jobs import CHANGED, Job, jobs, record_of
from batchcap.convert.files import KEPT
from batchcap.convert.sidecars import OF_ONE, sidecar_folder
from batchcap.convert.work import Work
from batchcap.convert.xmp_caption import DEFAULT_LANGUAGE, THEIRS
from batchcap.errors import OutputError
from batchcap.journal.updating import JournalUpdate
from batchcap.system.output_files import explained, give_rights

# Images that go through exiftool together, which takes as long to start as to write ten; and their bytes, which lie on
# the disk twice for that time.
_BATCH: Final = 64
_BATCH_BYTES: Final = 256 << 20
_Todo: TypeAlias = list[tuple[Job, Fields]]
# How exiftool says that a disk is full, among other causes.
_NO_ROOM: Final = "Error writing output file"
# What exiftool needs beside the size of the image.
_MORE_BYTES: Final = 1 << 17


def convert(work: Work) -> None:
    """Write the caption into each image, or into its copy; see `work.Target`."""
    program = exiftool.find()
    with ExitStack() as stack:
        places = stack.enter_context(sidecar_folder(work))
        first = next(work.all_records("looking for the root"), None)
        in_place = first is not None and places.is_beside(first)
        update = stack.enter_context(JournalUpdate(work.reader)) if in_place else None
        for batch in _batches(jobs(work, places, update)):
            try:
                _Batch(work, program, update, batch).convert()
            finally:
                for job in batch:
                    with suppress(OSError):
                        os.unlink(job.temporary)


def _batches(todo: Iterable[Job]) -> Iterator[list[Job]]:
    batch: list[Job] = []
    for job in todo:
        batch.append(job)
        if len(batch) == _BATCH or sum(each.status.st_size for each in batch) >= _BATCH_BYTES:
            yield batch
            batch = []
    if batch:
        yield batch


class _Batch:
    """Some images on their way through exiftool."""

    def __init__(self, work: Work, program: str, update: JournalUpdate | None, batch: Sequence[Job]) -> None:
        self._work = work
        self._tally = work.tally
        self._language = work.options.language or DEFAULT_LANGUAGE
        self._program = program
        self._update = update
        self._batch = batch

    def convert(self) -> None:
        with _folder_of_links() as folder:
            names = {job.target: _plain_names(folder, number, job) for number, job in enumerate(self._batch)}
            read = exiftool.run(self._program, [reading(names[job.target][0]) for job in self._batch])
            todo = [
                (job, fields)
                for job, said in zip(self._batch, read, strict=True)
                if (fields := self._fields(job, said)) is not None and self._is_to_write(job, fields)
            ]
            while todo:
                commands = [fields.writing(job.caption, self._language, *names[job.target]) for job, fields in todo]
                todo = self._finish_all(todo, exiftool.run(self._program, commands))

    def _finish_all(self, todo: _Todo, written: Sequence[exiftool.Said]) -> _Todo:
        """Move what exiftool wrote to its place; the rest that may find room on the disk then."""
        no_room: _Todo = []
        for (job, fields), said in zip(todo, written, strict=True):
            if not said.error and os.path.lexists(job.temporary):
                self._finish(job)
                continue
            with suppress(OSError):
                os.unlink(job.temporary)
            if said.error.startswith(_NO_ROOM):
                no_room.append((job, fields))
            else:
                self._tally.refuse(f"exiftool: {said.error or 'it wrote nothing'}", job.source)
        if len(no_room) < len(todo):
            return no_room
        for job, _ in no_room:
            _check_space(job)
            self._tally.refuse(f"exiftool: {_NO_ROOM}", job.source)
        return []

    def _fields(self, job: Job, said: exiftool.Said) -> Fields | None:
        try:
            return Fields.read(said.out)
        except ValueError:
            self._tally.refuse(f"exiftool: {said.error or 'it cannot read the image'}", job.source)
            return None

    def _is_to_write(self, job: Job, fields: Fields) -> bool:
        """Whether exiftool is to write the caption. Where it is not, a copy is the image as it is, and made here."""
        if fields.has(job.caption, self._language):
            if self._update is None:
                self._copy(job)
            else:
                self._tally.unchanged += 1
            return False
        if self._work.options.overwrite or fields.may_be_written(self._language):
            return self._make_room(job)
        self._tally.leave_out(THEIRS, job.source)
        if self._update is None:
            self._copy(job, counted=False)
        return False

    def _make_room(self, job: Job) -> bool:
        """See that the temporary file can be written; False: it was refused."""
        try:
            with suppress(FileNotFoundError):
                os.unlink(job.temporary)
            if self._update is None:
                os.makedirs(os.path.dirname(job.target), exist_ok=True)
        except OSError as error:
            self._refuse(job, error)
            return False
        return True

    def _copy(self, job: Job, *, counted: bool = True) -> None:
        if self._make_room(job):
            try:
                shutil.copyfile(job.source, job.temporary)
            except OSError as error:
                self._refuse(job, error)
            else:
                self._finish(job, counted=counted)

    def _finish(self, job: Job, *, counted: bool = True) -> None:
        """Move the temporary file to its place, with the date and rights of the image; in place, tell the journal."""
        try:
            _dress(job)
            now = os.stat(job.source)
            if (now.st_size, now.st_mtime_ns) != (job.status.st_size, job.status.st_mtime_ns):
                self._tally.refuse(CHANGED, job.source)
                return
            os.replace(job.temporary, job.target)
        except OSError as error:
            self._refuse(job, error)
            return
        self._tally.written += counted
        if self._update is not None:
            self._update.append(record_of(job.record, job.target))

    def _refuse(self, job: Job, error: OSError) -> None:
        """Count an image that cannot be written; stop where the disk is full, or cannot be written at all."""
        if error.errno not in OF_ONE:
            with explained(Path(job.target), "written", False, KEPT):
                raise error
        self._tally.refuse(OF_ONE[error.errno], job.target)


@contextmanager
def _folder_of_links() -> Iterator[Path]:
    try:
        folder = tempfile.TemporaryDirectory(prefix="batchcap-")
    except OSError as error:
        raise OutputError(f"No temporary folder can be made: {error}.", "Name one with some space: TMPDIR.") from error
    with folder as name:
        yield Path(name)


def _plain_names(folder: Path, number: int, job: Job) -> tuple[str, str]:
    """Names for exiftool: the image, with the ending of its kind, and the temporary file.

    exiftool goes by endings, does not know all, and cannot be told every name; a link may be called anything.
    """
    image, target = folder / f"{number}.{job.kind}", folder / str(number)
    try:
        image.symlink_to(job.source)
        target.symlink_to(os.path.dirname(job.target), target_is_directory=True)
    except OSError:  # Windows allows links to few users
        return job.source, job.temporary
    return str(image), str(target / Path(job.temporary).name)


def _dress(job: Job) -> None:
    """Give the new file the date, rights, owner and extended attributes of the image, and put it on the disk."""
    descriptor = os.open(job.temporary, os.O_RDWR | getattr(os, "O_BINARY", 0))
    try:
        shutil.copystat(job.source, job.temporary)
        give_rights(descriptor, job.status)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check_space(job: Job) -> None:
    """Raise OutputError where the disk is full, which exiftool does not tell from other errors."""
    folder = os.path.dirname(job.target)
    if shutil.disk_usage(folder).free < job.status.st_size + _MORE_BYTES:
        with explained(Path(job.target), "written", False, KEPT):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
