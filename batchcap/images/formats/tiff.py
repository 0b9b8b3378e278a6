"""The first directory of a TIFF file: what kind of TIFF it is, and whether the file is complete.

Pillow says of a TIFF that it cannot read only that it cannot. After TIFF 6.0, BigTIFF and the DNG specification.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Final

SIGNATURES: Final = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_SIZES: Final = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_CODES: Final = {1: "B", 7: "B", 3: "H", 4: "I", 13: "I", 16: "Q"}
_MOST_VALUES: Final = 1_000_000
SUBFILE: Final = 254
BITS: Final = 258
COMPRESSION: Final = 259
PHOTOMETRIC: Final = 262
MAKE: Final = 271
STRIPS: Final = (273, 279)
SAMPLES: Final = 277
TILES: Final = (324, 325)
SAMPLE_FORMAT: Final = 339
DNG: Final = 50706
JPEG_TABLES: Final = 347
_JPEG: Final = 7
_DEFLATE: Final = (8, 32946)
_PIECE: Final = 1 << 16


class CutError(ValueError):
    """The file ends before something that its directory names."""


def directory(data: bytes | memoryview) -> dict[int, tuple[int, ...]]:
    """Tag -> values of the first directory; tags whose values are no whole numbers (texts, fractions) have none.

    Raises:
        CutError: the file ends before its directory does.
        ValueError: this is no TIFF.
    """
    if bytes(data[:4]) not in SIGNATURES:
        raise ValueError("no TIFF")
    order = "<" if data[0] == 0x49 else ">"
    big = 43 in (data[2], data[3])
    offset, count, width = ("Q", "Q", 20) if big else ("I", "H", 12)
    at = _number(data, 8 if big else 4, order + offset)
    entries = _number(data, at, order + count)
    at += struct.calcsize(count)
    found: dict[int, tuple[int, ...]] = {}
    for entry in range(at, at + entries * width, width):
        tag, kind = _number(data, entry, order + "H"), _number(data, entry + 2, order + "H")
        values = _number(data, entry + 4, order + offset)
        place = entry + 4 + struct.calcsize(offset)
        if values * _SIZES.get(kind, 1) > struct.calcsize(offset):
            place = _number(data, place, order + offset)
        if place + values * _SIZES.get(kind, 1) > len(data):
            raise CutError
        code = _CODES.get(kind)
        whole = code is not None and values <= _MOST_VALUES
        found[tag] = struct.unpack_from(f"{order}{values}{code}", data, place) if whole else ()
    return found


def _number(data: bytes | memoryview, at: int, code: str) -> int:
    try:
        return int(struct.unpack_from(code, data, at)[0])
    except struct.error:
        raise CutError from None


def pieces(tags: dict[int, tuple[int, ...]]) -> list[tuple[int, int]]:
    """Where the pixels lie: (offset, bytes) of each strip or tile."""
    offsets, counts = STRIPS if tags.get(STRIPS[0]) else TILES
    return list(zip(tags.get(offsets, ()), tags.get(counts, ()), strict=False))


def is_cut(data: bytes | memoryview) -> bool:
    """Whether the file ends before its directory or its pixels do."""
    try:
        return any(offset + size > len(data) for offset, size in pieces(directory(data)))
    except CutError:
        return True
    except ValueError:
        return False


def find_damage(data: bytes | memoryview) -> str | None:
    """What is wrong with deflated pixels by their own checksums, which libtiff does not always check; or None."""
    try:
        tags = directory(data)
    except ValueError:
        return None
    if not set(tags.get(COMPRESSION, ())) & set(_DEFLATE):
        return None
    view = memoryview(data)
    for number, (offset, size) in enumerate(pieces(tags), 1):
        inflating = zlib.decompressobj()
        try:
            for at in range(offset, offset + size, _PIECE):
                left = bytes(view[at : min(at + _PIECE, offset + size)])
                while left and not inflating.eof:
                    inflating.decompress(left, _PIECE)
                    left = inflating.unconsumed_tail
        except zlib.error as error:
            return f"bytes inside are wrong (strip or tile {number}: {error})"
        if not inflating.eof:
            return f"bytes inside are wrong (strip or tile {number} has no end)"
    return None


def jpegs(data: bytes | memoryview) -> Iterator[bytes]:
    """The strips or tiles of a TIFF of JPEG pixels, each a JPEG file with the tables that all share."""
    try:
        tags = directory(data)
    except ValueError:
        return
    if tags.get(COMPRESSION) == (_JPEG,):
        tables = bytes(tags.get(JPEG_TABLES, ()))[:-2]
        for offset, size in pieces(tags):
            strip = bytes(data[offset : offset + size])
            yield tables + strip[2:] if tables else strip


def name_raw(data: bytes | memoryview) -> str | None:
    """Which kind of camera raw file this TIFF is; None for one that holds its image."""
    try:
        tags = directory(data)
    except ValueError:
        return None
    if DNG in tags:
        return "a camera raw file (DNG)"
    if bytes(data[8:10]) == b"CR":
        return "a camera raw file (Canon CR2)"
    if tags.get(PHOTOMETRIC) in ((32803,), (34892,)):
        return "a camera raw file (pixels of one colour each)"
    if MAKE in tags and (tags.get(SUBFILE) or (0,))[0] & 1:
        return "a camera raw file (its first image is a preview)"
    return None


def name_pixels(data: bytes | memoryview) -> str | None:
    """The pixels of a TIFF in words, where they are other than whole numbers of up to 16 bits."""
    try:
        tags = directory(data)
    except ValueError:
        return None
    bits, samples = max(tags.get(BITS) or (1,)), (tags.get(SAMPLES) or (1,))[0]
    kinds = {2: "signed", 3: "floating-point", 5: "complex", 6: "complex"}
    kind = kinds.get(max(tags.get(SAMPLE_FORMAT) or (1,)), "")
    if not kind and bits <= 16:
        return None
    channels = "1 channel" if samples == 1 else f"{samples} channels"
    return f"a TIFF of {channels} of {bits}-bit {kind or 'whole'} numbers"
