"""JSON files of a million entries: one entry a line, written as they come, never all in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import BinaryIO, Final

import msgspec

from batchcap.convert.image_files import ImageFiles
from batchcap.convert.work import Work
from batchcap.records import Record

NOT_UTF8: Final = "the name is not UTF-8, which JSON cannot hold"


def write_entries(file: BinaryIO, start: bytes, entries: Iterable[bytes], end: bytes) -> None:
    """Write ``start``, the entries with a comma and a line end between them, and ``end``: all of an array or object."""
    file.write(start + b"\n")
    between = b""
    for entry in entries:
        file.write(between + entry)
        between = b",\n"
    file.write((b"\n" if between else b"") + end + b"\n")


def captions_of(record: Record, all_captions: bool) -> list[str]:
    """The best caption, or all of them, best first."""
    captions = [each.caption for each in record.captions or ()] if all_captions else []
    return captions or [record.caption or ""]


def found(work: Work, images: ImageFiles) -> Iterator[tuple[Record, str]]:
    """The captioned records with the files of their images; what JSON cannot name and what is gone is counted."""
    for record in work.captioned():
        state = images.of(record)
        if isinstance(state, str):
            work.tally.set_aside(state, record.path)
        elif not is_utf8(state[0]):
            work.tally.refuse(NOT_UTF8, record.path)
        else:
            yield record, state[0]


def is_utf8(text: str) -> bool:
    """Whether a file name of the operating system can be written as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


ENCODER: Final = msgspec.json.Encoder()
