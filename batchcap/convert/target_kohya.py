"""Target ``kohya``: the metadata file of kohya's fine-tuning: ``{"/photos/a.jpg": {"caption": "..."}}``.

As ``finetune/merge_captions_to_metadata.py`` of kohya-ss/sd-scripts writes it: the key is the path of the image (its
``--full_path``) or its stem. Training stops at an image that is not there, so images that are gone are left out.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Final

from batchcap.convert.files import new_file
from batchcap.convert.image_files import ImageFiles
from batchcap.convert.json_files import ENCODER, captions_of, found, is_utf8, write_entries
from batchcap.convert.places import OUTSIDE
from batchcap.convert.unique import check_unique
from batchcap.convert.work import Work
from batchcap.records import Record
from batchcap.roots import is_absolute

# Without what others add: the scripts of kohya add tags and sizes, and indent what they write.
_OURS: Final = re.compile(rb'\{\n("(?:[^"\\]|\\.)*":\{"caption":"(?:[^"\\]|\\.)*"\}|\})')


def convert(work: Work) -> None:
    """Write an entry for each caption; see `work.Target`."""
    by_stem = work.options.image_key == "stem"
    if by_stem:
        images = ImageFiles()

        def name_of(record: Record) -> str | None:
            file = images.of(record)
            return _stem(record) if isinstance(file, tuple) and is_utf8(file[0]) else None

        check_unique(work, name_of, "Use --image-key path, or rename the images.")
    with new_file(work.output, work.options.overwrite, _OURS) as new:
        write_entries(new.file, b"{", _entries(work, by_stem), b"}")
    work.tally.settle(new.changed)


def _entries(work: Work, by_stem: bool) -> Iterator[bytes]:
    for record, file in found(work, ImageFiles()):
        key = _stem(record) if by_stem else file
        if key is None:
            work.tally.refuse(OUTSIDE, record.path)
            continue
        work.tally.written += 1
        # With enable_wildcard one line is taken at random, else the text is taken as it is.
        caption = "\n".join(captions_of(record, work.options.all_captions))
        yield ENCODER.encode(key) + b":" + ENCODER.encode({"caption": caption})


def _stem(record: Record) -> str | None:
    """The path below the root without its ending; kohya adds its own endings to it and looks in the image folder."""
    return None if is_absolute(record.path) else os.path.splitext(record.path)[0]  # noqa: PTH122
