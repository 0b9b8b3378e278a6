"""The XMP of an image file, found by its structure: only headers are read, and the packet itself.

For a quick look at what an image holds. exiftool knows more forms, and has the last word.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO, Final, Literal, NamedTuple

ImageKind = Literal["jpg", "png", "webp", "tif"]

_JPEG_XMP: Final = b"http://ns.adobe.com/xap/1.0/\0"
_PNG_XMP: Final = b"XML:com.adobe.xmp\0"
_TIFF_XMP: Final = 700
_LARGEST: Final = 1 << 20
_MOST_ENTRIES: Final = 4096
_MOST_PARTS: Final = 1 << 20


class Inside(NamedTuple):
    """What a quick look at a file found."""

    kind: ImageKind | None
    """None: a caption cannot be written into it."""
    packet: bytes | None = None


def look_inside(file: str) -> Inside:
    """The kind of an image, by its first bytes, and its XMP where that is easily found.

    Raises:
        OSError: the file cannot be read.
    """
    with Path(file).open("rb") as stream:
        start = stream.read(16)
        try:
            if start[:3] == b"\xff\xd8\xff":
                return Inside("jpg", _in_jpeg(stream))
            if start[:8] == b"\x89PNG\r\n\x1a\n":
                return Inside("png", _in_png(stream))
            if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
                return Inside("webp", _in_webp(stream))
            if start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
                return Inside("tif", _in_tiff(stream, start))
        except struct.error:  # it ends too early; exiftool says what is wrong
            return Inside(_kind(start))
    return Inside(None)


def _kind(start: bytes) -> ImageKind:
    kinds: dict[bytes, ImageKind] = {b"\xff": "jpg", b"\x89": "png", b"R": "webp"}
    return kinds.get(start[:1], "tif")


def _in_jpeg(stream: BinaryIO) -> bytes | None:
    at = 2
    for _ in range(_MOST_PARTS):
        stream.seek(at)
        mark, code, size = struct.unpack(">BBH", stream.read(4))
        if mark != 0xFF or code in (0xDA, 0xD9):
            break
        if code == 0xFF:  # padding before a marker
            at += 1
            continue
        if code == 0xE1 and stream.read(len(_JPEG_XMP)) == _JPEG_XMP:
            return stream.read(size - 2 - len(_JPEG_XMP))
        at += 2 + size
    return None


def _in_png(stream: BinaryIO) -> bytes | None:
    at = 8
    for _ in range(_MOST_PARTS):
        stream.seek(at)
        size, name = struct.unpack(">I4s", stream.read(8))
        if name == b"IEND":
            break
        if name == b"iTXt" and stream.read(len(_PNG_XMP)) == _PNG_XMP:
            rest = stream.read(min(size - len(_PNG_XMP), _LARGEST))
            parts = rest[2:].split(b"\0", 2)
            return parts[2] if rest[:1] == b"\0" and len(parts) == 3 else None
        at += 12 + size
    return None


def _in_webp(stream: BinaryIO) -> bytes | None:
    at = 12
    for _ in range(_MOST_PARTS):
        stream.seek(at)
        if len(head := stream.read(8)) < 8:
            break
        name, size = struct.unpack("<4sI", head)
        if name == b"XMP ":
            return stream.read(min(size, _LARGEST))
        at += 8 + size + size % 2
    return None


def _in_tiff(stream: BinaryIO, start: bytes) -> bytes | None:
    """The tag of the first directory, in TIFF and BigTIFF."""
    order = "<" if start[:2] == b"II" else ">"
    is_big = 43 in start[2:4]
    counts, entry, offset = (
        (f"{order}Q", f"{order}HHQQ", f"{order}Q") if is_big else (f"{order}H", f"{order}HHII", f"{order}I")
    )
    (at,) = struct.unpack_from(offset, start, 8 if is_big else 4)
    stream.seek(at)
    (count,) = struct.unpack(counts, stream.read(struct.calcsize(counts)))
    for _ in range(min(count, _MOST_ENTRIES)):
        tag, _, size, place = struct.unpack(entry, stream.read(struct.calcsize(entry)))
        if tag == _TIFF_XMP:
            stream.seek(place)
            return stream.read(min(size, _LARGEST))
    return None
