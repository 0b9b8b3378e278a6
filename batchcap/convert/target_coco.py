"""Target ``coco``: results of captioning in the format of COCO: ``[{"image_id": 391895, "caption": "..."}]``.

Format: cocodataset.org, "Results Format", section "Image Captioning". pycocotools' ``loadRes`` wants ids that its
annotations have; pycocoevalcap wants one caption an image.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from batchcap.convert.files import new_file
from batchcap.convert.json_files import ENCODER, write_entries
from batchcap.convert.unique import check_unique
from batchcap.convert.work import Work
from batchcap.errors import InputNotFoundError, OptionError, OutputError
from batchcap.records import Record

NO_NUMBER: Final = "the name ends with no number that could be the image_id (--image-ids FILE)"
NOT_ANNOTATED: Final = "the image is not in the annotations"

_OURS: Final = re.compile(rb'\[\n(\{"image_id":\d+,"caption":"(?:[^"\\]|\\.)*"\}|\])')
# COCO_val2014_000000391895.jpg, 000000391895.jpg
_NUMBER: Final = re.compile(r"(?:\A|[/_-])(\d+)(?:\.[^./]*)?\Z", re.ASCII)
_MOST_DIGITS: Final = 18

IdOf = Callable[[Record], int | None]


class _Image(msgspec.Struct):
    id: int
    file_name: str


class _Annotations(msgspec.Struct):
    images: list[_Image]


def convert(work: Work) -> None:
    """Write an entry for each caption; see `work.Target`."""
    ids = work.options.image_ids
    id_of: IdOf = _number if ids is None else _annotated(ids)

    def name_of(record: Record) -> str | None:
        found = id_of(record)
        return None if found is None else f"image_id {found}"

    fix = "Add --image-ids FILE." if ids is None else "One file of the journal is there under two names."
    check_unique(work, name_of, fix)
    with new_file(work.output, work.options.overwrite, _OURS) as new:
        write_entries(new.file, b"[", _entries(work, id_of), b"]")
    work.tally.settle(new.changed)


def _entries(work: Work, id_of: IdOf) -> Iterator[bytes]:
    for record in work.captioned():
        image_id = id_of(record)
        if image_id is not None:
            work.tally.written += 1
            yield ENCODER.encode({"image_id": image_id, "caption": record.caption})
        elif work.options.image_ids is not None:
            work.tally.leave_out(NOT_ANNOTATED, record.path)
        else:
            work.tally.refuse(NO_NUMBER, record.path)


def _number(record: Record) -> int | None:
    found = _NUMBER.search(record.path)
    return int(found[1]) if found and len(found[1]) <= _MOST_DIGITS else None


def _annotated(file: Path) -> IdOf:
    """The ids of an annotations file, by the path of a record or, where that is not there, by its last name.

    Raises:
        InputNotFoundError, OutputError: the file cannot be read.
        OptionError: it is no annotations file.
    """
    try:
        images = msgspec.json.decode(file.read_bytes(), type=_Annotations).images
    except FileNotFoundError:
        raise InputNotFoundError(f"There is no file {file}.", "Name an annotations file of COCO.") from None
    except OSError as error:
        raise OutputError(f"{file} cannot be read: {error.strerror}.") from error
    except msgspec.DecodeError as error:
        raise OptionError(
            f"--image-ids {file}: this is no annotations file of COCO: {error}.",
            'It holds {"images": [{"id": 1, "file_name": "a.jpg"}, ...]}.',
        ) from None
    ids = {image.file_name: image.id for image in images}

    def id_of(record: Record) -> int | None:
        found = ids.get(record.path)
        return ids.get(record.path.rpartition("/")[2]) if found is None else found

    return id_of
