"""Copies of PNG and JPEG files without metadata: Pillow cannot read intact pixels behind broken metadata."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final, Literal

PNG: Final = b"\x89PNG\r\n\x1a\n"
PNG_PIXELS: Final = (b"IHDR", b"PLTE", b"tRNS", b"IDAT")
"""The chunks that the pixels depend on."""

# Where the orientation may stand.
_PNG_ORIENTATION: Final = (b"XML:com.adobe.xmp\0", b"Raw profile type ")
_MOST_TEXT: Final = 1 << 18
_SOI: Final = b"\xff\xd8"
_COM, _APP0, _APP1, _ADOBE, _SOS, _EOI = 0xFE, 0xE0, 0xE1, 0xEE, 0xDA, 0xD9
_EXIF_HEAD: Final = b"Exif\0\0"
_ORIENTATION: Final = 0x0112
_MOST_ORIENTATION: Final = 8
_WIDTHS: Final = {1: 1, 3: 2, 4: 4}
# An EXIF segment of a JPEG that holds an orientation of one byte, and nothing else.
_EXIF: Final = "\xff\xe1\0\x22Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0{:c}\0\0\0\0\0\0"
# Segments that say how colours are coded, and how long they are at least.
_COLOURS: Final = {_APP0: (b"JFIF\0", 14), _ADOBE: (b"Adobe", 12)}


def without_metadata(data: bytes | memoryview) -> Iterator[bytes]:
    """Copies of a file with less and less metadata; none where it is no PNG or JPEG, or has no metadata.

    The first keeps what says how the image is turned, the second has pixels only.
    """
    view, start = memoryview(data), bytes(data[: len(PNG)])
    for keep_orientation in (True, False):
        if start == PNG:
            copy = _png(view, keep_orientation=keep_orientation)
        elif start[:2] == _SOI:
            copy = _jpeg(view, keep_orientation=keep_orientation)
        else:
            return
        if len(copy) < len(data):
            yield copy


def _png(view: memoryview, *, keep_orientation: bool) -> bytes:
    """The chunks of pixels as they are, broken or cut ones too; others only if their checksum is right."""
    kept, at = [view[: len(PNG)]], len(PNG)
    while at + 8 <= len(view):
        size, name = int.from_bytes(view[at : at + 4], "big"), bytes(view[at + 4 : at + 8])
        if not name.isalpha():
            break
        end = at + 12 + size
        if name in (*PNG_PIXELS, b"IEND") or (keep_orientation and _holds_orientation(name, view[at + 4 : end])):
            kept.append(view[at:end])
        at = end
        if name == b"IEND":
            break
    return b"".join(kept)


def _holds_orientation(name: bytes, chunk: memoryview) -> bool:
    """Whether a chunk of PNG, from its name to its checksum, may say how the image is turned, and is in order."""
    if zlib.crc32(chunk[:-4]) != int.from_bytes(chunk[-4:], "big"):
        return False
    return name == b"eXIf" or (len(chunk) < _MOST_TEXT and bytes(chunk[4:40]).startswith(_PNG_ORIENTATION))


def orientation_of(exif: bytes) -> int:
    """The orientation in EXIF data, cut or broken ones too; 1 where they say none. Pillow may stop at other tags."""
    body = exif.removeprefix(_EXIF_HEAD)
    order: Literal["little", "big"] = "little" if body[:2] == b"II" else "big"
    if body[:4] not in (b"II*\0", b"MM\0*"):
        return 1
    at = int.from_bytes(body[4:8], order)
    for entry in range(at + 2, min(at + 2 + 12 * int.from_bytes(body[at : at + 2], order), len(body) - 11), 12):
        kind = int.from_bytes(body[entry + 2 : entry + 4], order)
        if int.from_bytes(body[entry : entry + 2], order) == _ORIENTATION and kind in _WIDTHS:
            return int.from_bytes(body[entry + 8 : entry + 8 + _WIDTHS[kind]], order)
    return 1


def _says_colours(code: int, body: bytes) -> bool:
    start, least = _COLOURS.get(code, (b"", 1 << 16))
    return body.startswith(start) and len(body) >= least


def _jpeg(view: memoryview, *, keep_orientation: bool) -> bytes:
    """The segments before the pixels, less comments and what applications wrote; all from the pixels on."""
    kept, at = [view[:2]], 2
    while at + 4 <= len(view) and view[at] == 0xFF and view[at + 1] not in (_SOS, _EOI):
        if view[at + 1] == 0xFF:  # padding before a marker
            at += 1
            continue
        code, size = view[at + 1], int.from_bytes(view[at + 2 : at + 4], "big")
        if size < 2:
            break
        end = at + 2 + size
        body = bytes(view[at + 4 : end])
        if code == _APP1 and keep_orientation and 1 < (turn := orientation_of(body)) <= _MOST_ORIENTATION:
            kept.append(memoryview(_EXIF.format(turn).encode("latin-1")))
        elif not (code == _COM or _APP0 <= code < _APP0 + 16) or _says_colours(code, body):
            kept.append(view[at:end])
        at = end
    kept.append(view[at:])
    return b"".join(kept)
