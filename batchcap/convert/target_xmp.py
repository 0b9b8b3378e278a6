"""Target ``xmp``: the caption in an XMP sidecar of each image, as Lightroom, digiKam and darktable have them.

A sidecar that is there is edited: everything in it but the caption stays byte for byte.
"""

# Names as text: see batchcap.convert.places.
# ruff: noqa: PTH122
from __future__ import annotations

import errno
import os
from collections import Counter
from functools import lru_cache
from typing import Final

from batchcap.convert.places import Place
from batchcap.convert.sidecars import check_names, placed, read_sidecar, sidecar_folder, write_sidecar
from batchcap.convert.work import Work
from batchcap.convert.xmp_caption import DEFAULT_LANGUAGE, THEIRS, new_document, sidecar_extension, with_caption
from batchcap.convert.xmp_document import XmpError

LINK: Final = "the sidecar is a symbolic link, or no regular file"
READ_ONLY: Final = "the sidecar is read-only"
_FIX: Final = "Leave out --sidecar-name stem, or rename the images."
_ENDINGS: Final = (".xmp", ".XMP")
# Files with the stem of an image that make no other image of it.
_NO_IMAGES: Final = frozenset({".xmp", ".txt", ".json", ".caption", ".csv", ".npz"})


def convert(work: Work) -> None:
    """Write the caption into a sidecar of each image; see `work.Target`."""
    options = work.options
    language = options.language or DEFAULT_LANGUAGE
    with sidecar_folder(work) as places:
        if options.sidecar_name == "stem":
            check_names(work, places, lambda place: f"{place.stem}.xmp", _FIX)
        for record, place in placed(work, places):
            caption = record.caption or ""
            name = _name(place, options.sidecar_name, beside=places.is_beside(record))
            file = place.file(name)
            try:
                old, status = read_sidecar(file) or (None, None)
                new = (
                    new_document(caption, language)
                    if old is None
                    else with_caption(old, caption, language, overwrite=options.overwrite)
                )
            except OSError as error:
                work.tally.refuse(_why(error), file)
                continue
            except XmpError as error:
                work.tally.refuse(f"the sidecar cannot be used: {error}", file)
                continue
            if new is None:
                work.tally.leave_out(THEIRS, file)
            elif new == old:
                work.tally.unchanged += 1
            elif status is not None and not status.st_mode & 0o222:
                work.tally.refuse(READ_ONLY, file)
            else:
                write_sidecar(work, place, name, new, status)


def _name(place: Place, wanted: str | None, *, beside: bool) -> str:
    """The sidecar that is there, else the name that it gets. In a mirror tree only batchcap has made any."""
    names = [place.stem] if wanted == "stem" else [place.image]
    if wanted is None and beside:
        names.append(place.stem)
    for name in names:
        for ending in _ENDINGS:
            file = place.file(name + ending)
            if os.path.lexists(file) and (wanted or name == place.image or _belongs(file, place)):
                return name + ending
    return names[0] + _ENDINGS[0]


def _belongs(file: str, place: Place) -> bool:
    """Whether ``a.xmp`` is the sidecar of ``a.jpg``, and not of a raw file beside it: Adobe's programs write which."""
    try:
        found = read_sidecar(file)
        extension = found and sidecar_extension(found[0])
    except (OSError, XmpError):  # which image it belongs to cannot be told, so it is nobody's to edit
        return False
    if extension:
        return os.path.splitext(place.image)[1][1:].lower() == extension.lower()
    return _stems(place.folder)[place.stem] == 1


@lru_cache(maxsize=1)
def _stems(folder: str) -> Counter[str]:
    """How many images, of any format, have a stem; kept for one folder."""
    parts = (os.path.splitext(name) for name in os.listdir(folder))  # noqa: PTH208
    return Counter(stem for stem, ending in parts if ending.lower() not in _NO_IMAGES)


def _why(error: OSError) -> str:
    if error.errno in (errno.ELOOP, errno.EMLINK, errno.ENXIO, errno.EISDIR):
        return LINK
    return f"the sidecar cannot be read: {error.strerror or type(error).__name__}"
