"""Whether a file is whole, by what its format says of itself: lengths and checksums that decoders do not check.

The kinds of broken images, for every format: ``truncated``, the file ends before the image does; ``damaged``, the
file is there to its end and bytes inside are wrong; ``corrupt``, nothing can be decoded. PNG and deflated TIFF have
checksums. The others have none: what their decoders accept is accepted, except a disk sector of zeros and more in coded
pixels, where coders do not write so many. In uncompressed pixels (BMP, PPM, plain TIFF) zeros are black, and in
lossless WebP they may be an even surface.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Final

from batchcap.errors import ImageError
from batchcap.images.formats import tiff
from batchcap.images.formats.jpeg import HOLE, HOLED, TRUNCATED, NotReadableError, decode_strictly
from batchcap.images.formats.metadata import PNG, PNG_PIXELS

_BOXED: Final = (b"ftyp", b"jP  ")
_CODESTREAM: Final = b"\xff\x4f\xff\x51"
_CODESTREAM_END: Final = b"\xff\xd9"
_ICO: Final = b"\0\0\1\0"
# A lossy WebP codes 16x16 pixels as at most 25 blocks. Each may be marked as empty by one zero, which costs 8 bits at
# most (RFC 6386, 7.3): so many zeros an image of even surfaces may hold, whatever the encoder chose.
_VP8_BLOCK: Final = 25
_ANMF_HEAD: Final = 16
_PADDING: Final = 4096


def check(data: bytes | memoryview, size: tuple[int, int], metadata: Sequence[bytes] = ()) -> None:
    """Raise ImageError ``damaged`` for what the decoder of this format would not say.

    Args:
        data: the file.
        size: width and height.
        metadata: its EXIF and XMP data, which may hold zeros.
    """
    start = bytes(data[:12])
    what = None
    if start.startswith(PNG):
        what = _png(data)
    elif start[:4] == b"RIFF" and start[8:] == b"WEBP":
        # Even surfaces become zeros, and how many is the encoder's choice. Lossless WebP may have any number.
        blocks = -(-size[0] // 16) * -(-size[1] // 16)
        what = _hole(data, list(_lossy(memoryview(data))), at_least=HOLE + blocks * _VP8_BLOCK)
    elif start[4:8] in _BOXED:
        coded = [(at, end) for name, at, end in _boxes(data) if name in (b"mdat", b"jp2c")]
        what = _hole(data, coded, metadata=metadata)
    elif start.startswith(_CODESTREAM):
        what = _hole(data, [(0, len(data))])
    elif start[:4] in tiff.SIGNATURES:
        what = tiff.find_damage(data)
        for strip in tiff.jpegs(data):
            with suppress(NotReadableError):
                decode_strictly(strip, "GRAY", fast=True)
    if what is not None:
        raise ImageError("decode", "damaged", what)


def _png(data: bytes | memoryview) -> str | None:
    """A chunk of pixels whose checksum is wrong: Pillow does not look at those of IDAT."""
    view, at = memoryview(data), len(PNG)
    while at + 12 <= len(view):
        size, name = int.from_bytes(view[at : at + 4], "big"), bytes(view[at + 4 : at + 8])
        end = at + 8 + size
        if name == b"IEND" or end + 4 > len(view):  # a missing end is the decoder's to judge
            return None
        if name in PNG_PIXELS and zlib.crc32(view[at + 4 : end]) != int.from_bytes(view[end : end + 4], "big"):
            return f"bytes inside are wrong (the checksum of {name.decode()} at byte {at:,})"
        at = end + 4
    return None


def _hole(
    data: bytes | memoryview, parts: list[tuple[int, int]], *, at_least: int = HOLE, metadata: Sequence[bytes] = ()
) -> str | None:
    """A hole of so many zeros in coded pixels; ``metadata`` are not counted."""
    for start, end in parts:
        part = bytes(data[start:end])
        for each in metadata:
            if each and each in part:
                part = part.replace(each, b"\xff" * len(each))
        if (at := part.find(bytes(at_least))) >= 0:
            zeros = len(part) - at - len(part[at:].lstrip(b"\0"))
            return HOLED.format(zeros, start + at)
    return None


def _lossy(view: memoryview) -> Iterator[tuple[int, int]]:
    """Start and end of the lossy pixels of a WebP: of the first frame, where it is an animation."""
    for name, at, end in _riff(view, 12):
        if name == b"VP8 ":
            yield at, end
        elif name == b"ANMF":
            yield from ((start, stop) for name, start, stop in _riff(view[:end], at + _ANMF_HEAD) if name == b"VP8 ")
            return


def _riff(view: memoryview, at: int) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and end of the chunks of a RIFF file from ``at`` on."""
    while at + 8 <= len(view):
        size = int.from_bytes(view[at + 4 : at + 8], "little")
        yield bytes(view[at : at + 4]), at + 8, min(at + 8 + size, len(view))
        at += 8 + size + size % 2


def is_cut(data: bytes | memoryview) -> bool:
    """Whether a file that could not be decoded ends before its format says."""
    start = bytes(data[:12])
    if start[:4] == b"RIFF":
        return int.from_bytes(start[4:8], "little") + 8 > len(data)
    if start[:4] in tiff.SIGNATURES:
        return tiff.is_cut(data)
    if start.startswith(PNG):
        return _png_is_cut(data)
    if start.startswith(_CODESTREAM) or start[4:8] in _BOXED:
        boxes = [(b"jp2c", 0, len(data))] if start.startswith(_CODESTREAM) else _boxes(data)
        return any(end > len(data) or (name == b"jp2c" and _lacks_end(data[at:end])) for name, at, end in boxes)
    if start.startswith(_ICO):
        count = int.from_bytes(start[4:6], "little")
        return any(_icon_end(data, 6 + 16 * number) > len(data) for number in range(count))
    return False


def _lacks_end(codestream: bytes | memoryview) -> bool:
    """Whether JPEG 2000 pixels stop before the marker that ends them; zeros after it do not count."""
    return not bytes(codestream[-_PADDING:]).rstrip(b"\0").endswith(_CODESTREAM_END)


def _icon_end(data: bytes | memoryview, entry: int) -> int:
    """Where the image ends that an entry of an icon's directory promises."""
    return int.from_bytes(data[entry + 8 : entry + 12], "little") + int.from_bytes(
        data[entry + 12 : entry + 16], "little"
    )


def _png_is_cut(data: bytes | memoryview) -> bool:
    """Whether a PNG's chunks end before its last one; bytes that are no chunk are damage, not an early end."""
    at = len(PNG)
    while at + 12 <= len(data):
        name = bytes(data[at + 4 : at + 8])
        if name == b"IEND" or not name.isalpha():
            return False
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    return True


def _boxes(data: bytes | memoryview) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and end of the boxes of ISO media files and of JPEG 2000; the end may lie beyond the file.

    A size of 0 reaches to the end, 1 means that 8 more bytes hold it.
    """
    at = 0
    while at + 8 <= len(data):
        size, head = int.from_bytes(data[at : at + 4], "big"), 8
        if size == 1:
            size, head = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        end = len(data) if size == 0 else at + size
        if end < at + head:
            return
        yield bytes(data[at + 4 : at + 8]), at + head, end
        at = end


def judge(data: bytes | memoryview, words: str) -> ImageError:
    """The error for an image that could not be decoded; ``words`` are the decoder's message."""
    said = words.lower()
    if "truncated" in said or is_cut(data):
        # The decoder's own words ("0 bytes not processed") say something about its buffer, not about the file.
        return ImageError("decode", "truncated", TRUNCATED)
    return ImageError("decode", "damaged", f"bytes inside are wrong ({words})")
