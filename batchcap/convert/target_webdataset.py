"""Target ``webdataset``: tar files with images and captions, for training from a stream.

A sample is ``00000012.jpg``, ``00000012.json`` (the record) and ``00000012.txt`` (the best caption). Keys are numbers,
as img2dataset has them: WebDataset takes a name apart at its first dot and wants each key once, which names of files
do not promise. A shard holds a fixed part of the images, in the order in which they came into the journal; so shards
stay as they are while it grows.
"""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from batchcap.convert.files import check_not_journal, new_file, output_folder
from batchcap.convert.first_order import in_first_order
from batchcap.convert.image_files import CHANGED, ImageFiles, is_unchanged
from batchcap.convert.json_files import ENCODER
from batchcap.convert.work import Work
from batchcap.images.walk import SUFFIXES
from batchcap.records import Record

STALE: Final = "a shard of an earlier conversion, whose images are in others now or gone: remove it"
UNREADABLE: Final = "the image cannot be read"

_SIZE: Final = 1000
_BLOCK: Final = 512
_READ: Final = 1 << 20
_OWNER: Final = "batchcap"
# The format and the owner's name in the header of the first file.
_OURS: Final = re.compile(rb".{257}ustar\x0000" + _OWNER.encode() + rb"\0", re.DOTALL)
_ENDING: Final = re.compile(r"\.([a-z0-9]+)\Z")
# Other endings of JPEGs: not every version of WebDataset, and none of its likes, decodes all of them.
_JPEG: Final = ("jpe", "jfif", "mpo")
_LATEST: Final = 8**11 - 1


@dataclass(frozen=True, slots=True)
class _Sample:
    record: Record
    key: str
    file: str
    size: int
    mtime: int
    """Of the image, in seconds."""

    @property
    def members(self) -> list[tuple[str, bytes | None]]:
        """Names and contents in their order; None: the image, which is not in memory."""
        found = _ENDING.search(self.record.path.lower())
        # Of others WebDataset would take .cls for a number, .txt for a text, .pickle for an object.
        ending = found[1] if found and found[0] in SUFFIXES else "img"
        ending = "jpg" if ending in _JPEG else ending
        said = msgspec.structs.replace(self.record, root=None)  # else every shard changes when the images move
        return [
            (f"{self.key}.{ending}", None),
            (f"{self.key}.json", ENCODER.encode(said)),
            (f"{self.key}.txt", (self.record.caption or "").encode()),
        ]


def convert(work: Work) -> None:
    """Write every shard that is new or changed; see `work.Target`."""
    output, size = work.output, work.options.shard_size or _SIZE
    folder, name = (output.parent, output.stem) if output.suffix == ".tar" else (output, "captions")
    with output_folder(folder):
        samples = _samples(work, ImageFiles())
        written = set()
        for shard, part in groupby(samples, key=lambda sample: int(sample.key) // size):
            path = folder / f"{name}-{shard:06}.tar"
            check_not_journal(path, work.options.journal)
            _put_shard(work, path, list(part))
            written.add(path.name)
        for path in sorted(folder.iterdir()):
            if re.fullmatch(rf"{re.escape(name)}-\d{{6,}}\.tar", path.name) and path.name not in written:
                work.tally.refuse(STALE, str(path))


def _samples(work: Work, images: ImageFiles) -> Iterator[_Sample]:
    for number, record in in_first_order(work):
        if record.caption is None:
            work.tally.failures += 1
            continue
        found = images.of(record)
        if isinstance(found, str):
            work.tally.set_aside(found, record.path)
            continue
        file, state = found
        if is_unchanged(record, state):
            mtime = min(max(0, state.st_mtime_ns // 10**9), _LATEST)
            yield _Sample(record, f"{number:08}", file, state.st_size, mtime)
        else:
            work.tally.leave_out(CHANGED, record.path)


def _put_shard(work: Work, path: Path, samples: list[_Sample]) -> None:
    if path.exists() and _holds(path, samples):
        work.tally.unchanged += len(samples)
        return
    with new_file(path, work.options.overwrite, _OURS) as new:
        count = sum(_put_sample(work, new.file, sample) for sample in samples)
        new.file.write(bytes(2 * _BLOCK))
    if new.changed:
        work.tally.written += count
    else:  # an image could not be read, now as before
        work.tally.unchanged += count


def _holds(path: Path, samples: Iterable[_Sample]) -> bool:
    """Whether a shard holds these samples: an image with the same size and time is the same, as for a run."""
    wanted = ((sample, *member) for sample in samples for member in sample.members)
    try:
        with tarfile.open(path, "r:") as tar:
            for sample, name, data in wanted:
                member = tar.next()
                if member is None or (member.name, member.mtime) != (name, sample.mtime):
                    return False
                if member.size != (sample.size if data is None else len(data)):
                    return False
                content = None if data is None else tar.extractfile(member)
                if content is not None and content.read() != data:
                    return False
            return tar.next() is None
    except (tarfile.TarError, OSError):
        return False


def _put_sample(work: Work, tar: BinaryIO, sample: _Sample) -> bool:
    """Append a sample, or leave the shard as it was where the image cannot be read whole."""
    start, path = tar.tell(), sample.record.path
    try:
        image = open(sample.file, "rb")  # noqa: SIM115, PTH123 - closed below
    except OSError:
        work.tally.refuse(UNREADABLE, path)
        return False
    with image:
        for name, data in sample.members:
            _put_header(tar, name, sample.size if data is None else len(data), sample.mtime)
            if data is not None:
                tar.write(data)
            elif wrong := _copy(image, tar, sample):
                tar.truncate(start)
                tar.seek(start)
                (work.tally.leave_out if wrong == CHANGED else work.tally.refuse)(wrong, path)
                return False
            tar.write(bytes(-tar.tell() % _BLOCK))
    return True


def _copy(image: BinaryIO, tar: BinaryIO, sample: _Sample) -> str:
    """Copy an image; what is wrong with it, or nothing."""
    size = 0
    while True:
        try:
            block = image.read(_READ)
        except OSError:  # of the image alone: an error of the shard ends the conversion
            return UNREADABLE
        if not block:
            break
        tar.write(block)
        size += len(block)
    whole = size == sample.size and is_unchanged(sample.record, os.fstat(image.fileno()))
    return "" if whole else CHANGED


def _put_header(tar: BinaryIO, name: str, size: int, mtime: int) -> None:
    """The header of one file: the same whoever writes it, on whatever machine."""
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.uname, info.gname = size, mtime, _OWNER, _OWNER
    tar.write(info.tobuf(tarfile.USTAR_FORMAT))
