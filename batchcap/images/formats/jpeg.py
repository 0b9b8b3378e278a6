"""JPEG by libjpeg-turbo, and which of its warnings mean that pixels are wrong.

The decoder reports its last warning only. So the cause of a harmless one (a missing end marker, padding) is repaired in
a copy, and the copy is decoded again: a warning that remains means damage. Harmless: bytes between the segments of the
header, a few zeros of padding after the pixels, a missing end marker after complete pixels, anything after the end
marker.

JPEG has no checksum. A hole of zeros can decode without a warning, so runs of zeros are looked for as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, TypeAlias

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from batchcap.errors import ImageError

Bytes: TypeAlias = bytes | memoryview
# A disk sector, the smallest piece that a disk or a broken copy loses: no Huffman code of a photograph has such a run.
HOLE: Final = 512
HOLED: Final = "{:,} zeros stand where pixels should be, at byte {:,}"
TRUNCATED: Final = "the file ends before the image does"
_END: Final = b"\xff\xd9"
_SOS: Final = 0xDA
_DHT: Final = 0xC4
_DQT: Final = 0xDB
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE: Final = frozenset((0xC2, 0xC6, 0xCA, 0xCE))
_MARKER: Final = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")
_EXTRANEOUS: Final = re.compile(r"(\d+) extraneous bytes before marker 0x([0-9a-f]{2})")
_CUT_SHORT: Final = "Premature end of JPEG file"
# Warnings about the header. The decoder reports the last warning only, so all after it was in order.
_HARMLESS: Final = ("Unknown Adobe color transform", "Warning: unknown JFIF revision", "Invalid SOS parameters")
# What libjpeg says where the system gives it none.
_NO_MEMORY: Final = "Insufficient memory"
_MOST_MENDS: Final = 8


class NotReadableError(Exception):
    """libjpeg-turbo, as simplejpeg has it, cannot read this JPEG at all; another decoder may say why."""


def decode_strictly(data: Bytes, colours: str, *, fast: bool) -> tuple[NDArray[np.uint8], Bytes]:
    """The pixels of a JPEG of which nothing is missing, and the bytes they came from: repaired where that was needed.

    Args:
        data: the file.
        colours: ``RGB``, ``GRAY`` or ``CMYK``.
        fast: the inverse DCT; see `preprocess.Preprocess.jpeg_dct`.

    Raises:
        ImageError: stage ``decode``, kind ``truncated`` or ``damaged``.
        NotReadableError: the decoder cannot read it at all.
    """
    whole, repaired_end = data, False
    for _ in range(_MOST_MENDS):
        try:
            decoded = _decode(whole, colours, fast=fast, strict=True)
        except KeyError as error:  # a subsampling without a name
            raise NotReadableError from error
        except ValueError as error:
            warning = str(error)
        else:
            _check_whole(bytes(whole), repaired_end)
            return decoded, whole
        if _is_harmless(bytes(whole), warning):
            return decode_leniently(whole, colours, fast=fast), whole
        repaired = _repaired(bytes(whole), warning)
        if repaired is None:
            if repaired_end:
                raise ImageError("decode", "truncated", TRUNCATED)
            decode_leniently(whole, colours, fast=fast)  # an error of its own, where it is more than a warning
            raise ImageError("decode", "damaged", _in_words(warning))
        repaired_end |= warning == _CUT_SHORT
        whole = repaired
    raise ImageError("decode", "damaged", _in_words(warning))


def decode_leniently(data: bytes | memoryview, colours: str, *, fast: bool) -> NDArray[np.uint8]:
    """What can be decoded; the rest is grey or wrong. Raises NotReadableError where that is nothing."""
    try:
        return _decode(data, colours, fast=fast, strict=False)
    except (ValueError, KeyError) as error:
        raise NotReadableError(_in_words(str(error))) from error


def size_in_header(data: Bytes) -> tuple[int, int]:
    """Height and width; raises ValueError or KeyError where the decoder cannot tell."""
    with _memory_told_apart():
        height, width, _, _ = simplejpeg.decode_jpeg_header(data, strict=False)
    return height, width


def _decode(data: Bytes, colours: str, *, fast: bool, strict: bool) -> NDArray[np.uint8]:
    with _memory_told_apart():
        decoded: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, colours, fastdct=fast, strict=strict)
    return decoded


@contextmanager
def _memory_told_apart() -> Iterator[None]:
    """Within, the decoder's errors of too little memory are MemoryError: they are no fault of the image."""
    try:
        yield
    except RuntimeError as error:  # it has no other: "could not create JPEG decoder"
        raise MemoryError(str(error)) from error
    except ValueError as error:
        if _NO_MEMORY in str(error):
            raise MemoryError(str(error)) from error
        raise


def _in_words(warning: str) -> str:
    text = warning.removeprefix("Corrupt JPEG data: ")
    return f"bytes inside are wrong ({text})"


def _is_harmless(data: bytes, warning: str) -> bool:
    """Whether the last warning is of the header: then all after it was in order."""
    if any(harmless in warning for harmless in _HARMLESS):
        return True
    found = _EXTRANEOUS.search(warning)
    gap = (int(found[1]), int(found[2], 16)) if found else None
    return any(not is_coded and gap == (count, code) for _, code, count, is_coded in _markers(data))


def _repaired(data: bytes, warning: str) -> bytes | None:
    """A copy without what the decoder warns of, if that is harmless; else None."""
    if warning == _CUT_SHORT:
        zeros = len(data) - len(data.rstrip(b"\0"))
        if zeros >= HOLE:
            raise ImageError("decode", "damaged", f"its last {zeros:,} bytes are zeros")
        return data + _END
    if (found := _EXTRANEOUS.search(warning)) is None:
        return None
    count, code = int(found[1]), int(found[2], 16)
    for at, marker, _, is_coded in reversed(list(_markers(data))):
        # What the decoder left over after coded pixels is padding only if it is zeros: other bytes were pixels.
        if is_coded and marker == code and count < HOLE and data[at - count : at] == bytes(count):
            return data[: at - count] + data[at:]
    return None


def _markers(data: bytes) -> Iterator[tuple[int, int, int, bool]]:
    """Markers up to the end of the first image: (place, code, bytes since the last segment, these are coded pixels)."""
    at, is_coded = 2, False
    while (found := _MARKER.search(data, at)) is not None:
        code = found[1][0]
        yield found.start(), code, found.start() - at, is_coded
        if code == _END[1]:
            return
        at = found.end() + int.from_bytes(data[found.end() : found.end() + 2], "big")
        is_coded = code == _SOS


def _check_whole(data: bytes, repaired_end: bool) -> None:
    """Raise ImageError for what the decoder cannot notice: a hole of zeros, scans that are missing with the end."""
    if repaired_end and not _has_all_scans(data):
        raise ImageError("decode", "truncated", TRUNCATED)
    if _has_zero_divisor(data):
        raise ImageError("decode", "damaged", "bytes inside are wrong (a quantisation table holds a zero)")
    if bytes(HOLE) not in data:
        return
    empty: dict[int, int] = {}
    progressive = suspicious = False
    for at, code, gap, is_coded in _markers(data):
        if is_coded and suspicious and (zeros := data.find(bytes(HOLE), at - gap, at)) >= 0:
            count = len(data) - zeros - len(data[zeros:].lstrip(b"\0"))
            raise ImageError("decode", "damaged", HOLED.format(count, zeros))
        body = _body(data, at)
        if code in _FRAMES:
            progressive = code in _PROGRESSIVE
        elif code == _DHT:
            empty |= _zero_symbols(body)
        elif code == _SOS:
            # Zeros may be right where they are the code of an empty block: an even surface. A progressive file's scans
            # of the mean of each block are zeros there as well.
            tables = {table & 15 for table in body[2 : 2 + 2 * body[0] : 2]} if body else set()
            suspicious = any(empty.get(table, 0) != 0 for table in tables) and not (progressive and body[-3] == 0)


def _has_zero_divisor(data: bytes) -> bool:
    """Whether a quantisation table in use holds a zero, which no encoder writes (ITU T.81, B.2.4.1): bytes are lost.

    The decoder goes on, and what was to be multiplied by it is grey.
    """
    holed: set[int] = set()
    used: set[int] = set()
    for at, code, _, _ in _markers(data):
        if code == _SOS:
            break
        body = _body(data, at)
        if code in _FRAMES:
            used = set(body[8::3])
        elif code == _DQT:
            holed = _holed_tables(body, holed)
    return bool(holed & used)


def _holed_tables(body: bytes, holed: set[int]) -> set[int]:
    """Numbers of the quantisation tables with a zero: those of before, as far as this segment does not replace them."""
    at = 0
    while at < len(body):
        width, number = 1 + (body[at] >> 4), body[at] & 15
        values = body[at + 1 : at + 1 + 64 * width]
        has_zero = any(values[place : place + width] == bytes(width) for place in range(0, len(values), width))
        holed = holed | {number} if has_zero else holed - {number}
        at += 1 + 64 * width
    return holed


def _body(data: bytes, at: int) -> bytes:
    """What stands in the segment whose marker is at ``at``."""
    return data[at + 4 : at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")]


def _zero_symbols(body: bytes) -> dict[int, int]:
    """What a code of zero bits means in each AC table of a segment of Huffman tables (ITU T.81, B.2.4.2)."""
    symbols: dict[int, int] = {}
    at = 0
    while at + 17 < len(body):
        if body[at] >> 4 == 1:
            symbols[body[at] & 15] = body[at + 17]
        at += 17 + sum(body[at + 1 : at + 17])
    return symbols


def _has_all_scans(data: bytes) -> bool:
    """Whether every coefficient of every component came to its last bit (ITU T.81, B.2.3 and G.1.1)."""
    missing: dict[int, set[int]] = {}
    progressive = False
    for at, code, _, _ in _markers(data):
        body = _body(data, at)
        if code in _FRAMES:
            progressive = code in _PROGRESSIVE
            missing = {component: set(range(64)) for component in body[6::3]}
        elif code == _SOS and body:
            components = body[1 : 1 + 2 * body[0] : 2]
            first, last, bits = body[-3:]
            if not progressive:
                first, last, bits = 0, 63, 0
            for component in components if bits & 15 == 0 else ():
                missing.get(component, set()).difference_update(range(first, last + 1))
    return not any(missing.values())
