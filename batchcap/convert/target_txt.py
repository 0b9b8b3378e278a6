"""Target ``txt``: a text file for each image, as kohya_ss, OneTrainer and taggui read them.

The program strips the text or takes a line of it, so it ends with a line end: one line is one caption.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from typing import Final

from batchcap.convert.places import Place
from batchcap.convert.sidecars import Said, check_names, placed, sidecar_folder, write_sidecar
from batchcap.convert.work import Work
from batchcap.records import Record

NOT_OURS: Final = "another file has the name (--overwrite replaces it)"
_FIX: Final = "Use --sidecar-name full, or rename the images."
_LONGEST: Final = 1 << 20


def convert(work: Work) -> None:
    """Write a text file for each caption; see `work.Target`."""
    options = work.options
    full = options.sidecar_name == "full"

    def name_of(place: Place) -> str:
        return f"{place.image if full else place.stem}.txt"

    with sidecar_folder(work) as places:
        check_names(work, places, name_of, _FIX)
        said = Said(work, _texts)
        for record, place in placed(work, places):
            text = text_of(record, options.all_captions)
            there = _text_in(place.file(name_of(place)))
            if there == text:
                work.tally.unchanged += 1
            elif there is None or options.overwrite or (there and said.includes(record, there)):
                write_sidecar(work, place, name_of(place), f"{text}\n".encode())
            else:
                work.tally.refuse(NOT_OURS, place.file(name_of(place)))


def text_of(record: Record, all_captions: bool) -> str:
    """The best caption on one line, or all captions on a line each, without a line end at the end."""
    captions = [each.caption for each in record.captions or ()] if all_captions else []
    return "\n".join(" ".join(caption.splitlines()) for caption in captions or [record.caption or ""])


def _texts(record: Record) -> Iterator[str]:
    yield text_of(record, all_captions=False)
    if record.captions:
        yield text_of(record, all_captions=True)


def _text_in(file: str) -> str | None:
    """The text of a sidecar without its last line end; None: there is no file; empty: it is no text of ours."""
    try:
        descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        return None
    except OSError as error:
        # A folder or a link has the name, or it cannot be read; writing would say more of what is wrong with the place.
        return None if error.errno in (errno.ENOTDIR, errno.ENAMETOOLONG) else ""
    try:
        return os.read(descriptor, _LONGEST).decode("utf-8").removesuffix("\n").removesuffix("\r")
    except (OSError, UnicodeDecodeError):
        return ""
    finally:
        os.close(descriptor)
