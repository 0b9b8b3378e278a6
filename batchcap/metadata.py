"""Copies of PNG and JPEG files without metadata: broken ones keep Pillow from pixels that are in order."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final

PNG: Final = b"\x89PNG\r\n\x1a\n"
PNG_PIXELS: Final = (b"IHDR", b"PLTE", b"tRNS", b"IDAT")
"""The chunks that decide pixels."""

# Where the orientation may stand.
_PNG_TURN: Final = (b"XML:com.adobe.xmp\0", b"Raw profile type ")
_MOST_TEXT: Final = 1 << 18
_SOI: Final = b"\xff\xd8"
_COM, _APP0, _APP1, _ADOBE, _SOS, _EOI = 0xFE, 0xE0, 0xE1, 0xEE, 0xDA, 0xD9
# Segments that say how colours are coded, and how long they are at least.
_COLOURS: Final = {_APP0: (b"JFIF\0", 14), _ADOBE: (b"Adobe", 12)}


def without(data: bytes | memoryview) -> Iterator[bytes]:
    """Copies of a file with ever less metadata; none where it is no PNG or JPEG, or has no metadata.

    The first keeps what says how the image is turned, the second has pixels only.
    """
    view, start = memoryview(data), bytes(data[: len(PNG)])
    for keep_turn in (True, False):
        if start == PNG:
            copy = _png(view, keep_turn=keep_turn)
        elif start[:2] == _SOI:
            copy = _jpeg(view, keep_turn=keep_turn)
        else:
            return
        if len(copy) < len(data):
            yield copy


def _png(view: memoryview, *, keep_turn: bool) -> bytes:
    """The chunks of pixels as they are, broken or cut ones too; others only if their checksum is right."""
    kept, at = [bytes(view[: len(PNG)])], len(PNG)
    while at + 8 <= len(view):
        size, name = int.from_bytes(view[at : at + 4], "big"), bytes(view[at + 4 : at + 8])
        if not name.isalpha():
            break
        end = at + 12 + size
        if name in (*PNG_PIXELS, b"IEND") or (keep_turn and _is_turn(name, view[at + 4 : end])):
            kept.append(bytes(view[at:end]))
        at = end
        if name == b"IEND":
            break
    return b"".join(kept)


def _is_turn(name: bytes, chunk: memoryview) -> bool:
    """Whether a chunk of PNG, from its name to its checksum, may say how the image is turned, and is in order."""
    if zlib.crc32(chunk[:-4]) != int.from_bytes(chunk[-4:], "big"):
        return False
    return name == b"eXIf" or (len(chunk) < _MOST_TEXT and bytes(chunk[4:40]).startswith(_PNG_TURN))


def _jpeg(view: memoryview, *, keep_turn: bool) -> bytes:
    """The segments before the pixels, less comments and what applications wrote; all from the pixels on."""
    kept, at = [_SOI], 2
    while at + 4 <= len(view) and view[at] == 0xFF and view[at + 1] not in (_SOS, _EOI):
        code, size = view[at + 1], int.from_bytes(view[at + 2 : at + 4], "big")
        if size < 2:
            break
        end = at + 2 + size
        body = bytes(view[at + 4 : end])
        start, least = _COLOURS.get(code, (b"Exif\0\0", 8))
        is_metadata = code == _COM or _APP0 <= code < _APP0 + 16
        is_turn = code == _APP1 and keep_turn
        if not is_metadata or ((code in _COLOURS or is_turn) and body.startswith(start) and len(body) >= least):
            kept.append(bytes(view[at:end]))
        at = end
    kept.append(bytes(view[at:]))
    return b"".join(kept)
