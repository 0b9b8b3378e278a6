"""Target ``txt``: a text file for each image, as kohya_ss, OneTrainer and taggui read them.

The program strips the text or takes a line of it, so it ends with a line end: one line is one caption.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from batchcap.convert.json_files import captions_of
from batchcap.convert.places import Place
from batchcap.convert.sidecars import Said, check_names, placed, read_sidecar, sidecar_folder, write_sidecar
from batchcap.convert.work import Work
from batchcap.records import Record

# No caption holds a NUL.
_NO_TEXT: Final = "\0"
NOT_OURS: Final = "another file has the name (--overwrite replaces it)"
_FIX: Final = "Use --sidecar-name full, or rename the images."


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
            elif there is None or options.overwrite or (there != _NO_TEXT and said.includes(record, there)):
                write_sidecar(work, place, name_of(place), f"{text}\n".encode())
            else:
                work.tally.refuse(NOT_OURS, place.file(name_of(place)))


def text_of(record: Record, all_captions: bool) -> str:
    """The best caption on one line, or all captions on a line each, without a line end at the end."""
    return "\n".join(" ".join(caption.splitlines()) for caption in captions_of(record, all_captions))


def _texts(record: Record) -> Iterator[str]:
    yield text_of(record, all_captions=False)
    if record.captions:
        yield text_of(record, all_captions=True)


def _text_in(file: str) -> str | None:
    """The text of a sidecar without its last line end; None: there is no file; `_NO_TEXT`: it is no text of ours."""
    try:
        found = read_sidecar(file)
        if found is None:
            return None
        # A caption may be empty, but its line end is there; an empty file is somebody else's.
        return found[0].decode("utf-8").removesuffix("\n").removesuffix("\r") if found[0] else _NO_TEXT
    except (OSError, UnicodeDecodeError):
        return _NO_TEXT
