"""Open an image file without decoding it: its format and size, what decoding will cost, and what is too large.

Memory is charged by what is really allocated at the peak, in bytes a pixel, measured by format
(`tests/images/test_memory.py` measures it again): the decoder's own copies, Pillow's image of 4 bytes a pixel, and the
array of 3.
"""

from __future__ import annotations

import ctypes
import io
import struct
import zlib
from contextlib import suppress
from functools import lru_cache
from types import FunctionType
from typing import Any, Final

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    IcoImagePlugin,
    Image,
    ImageFile,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
    _imaging,
)

from batchcap.errors import ImageError
from batchcap.images.formats import metadata
from batchcap.images.formats.jpeg import size_in_header
from batchcap.system import process

# libtiff prints what it finds wrong on standard error, and Pillow raises it as well. `dlsym` finds the libtiff that
# Pillow is linked with; where that is inside Pillow's own file, the lines stay. The handler is the whole process's.
if process.is_ours():
    with suppress(OSError, AttributeError):
        _set_handler = ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler
        _set_handler.argtypes, _set_handler.restype = [ctypes.c_void_p], ctypes.c_void_p
        _set_handler(None)

MAX_PIXELS: Final = 210_000_000
"""More is refused: the largest photos of phones have 200 million pixels, and those of cameras 150."""
MAX_SIDE: Final = 300_000
"""More rows or columns are refused: JPEG, WebP and AVIF end at 65,536, and long scans in other formats have fewer.
Pillow needs memory and time for each row, and the resize for each of both, however small the file is."""
MAX_BYTES: Final = 2 * 2**30
"""An image that would take more memory while it is decoded is refused: formats that cost more may have fewer pixels."""

# Only formats with a signature and a plain decoder: Pillow would run Ghostscript for an EPS file that is called x.jpg.
# Naming the plugins also loads them here, once, and not in whichever thread comes first.
_FORMATS: Final = tuple(
    image_file.format
    for image_file in (
        JpegImagePlugin.JpegImageFile,
        PngImagePlugin.PngImageFile,
        WebPImagePlugin.WebPImageFile,
        BmpImagePlugin.BmpImageFile,
        TiffImagePlugin.TiffImageFile,
        GifImagePlugin.GifImageFile,
        AvifImagePlugin.AvifImageFile,
        Jpeg2KImagePlugin.Jpeg2KImageFile,
        PpmImagePlugin.PpmImageFile,
        IcoImagePlugin.IcoImageFile,
    )
)
# Bytes a pixel at the peak of decoding. Baseline JPEG: the array, and once more to turn it upright.
_JPEG: Final = 7
_PROGRESSIVE: Final = 10
_CMYK: Final = 14
_COSTS: Final = {"PNG": 8, "BMP": 8, "GIF": 8, "PPM": 8, "TIFF": 14, "AVIF": 16, "WEBP": 20, "JPEG2000": 26, "ICO": 26}
# Pillow's pointers to rows, and the tables of the resize: bytes a row or column.
_ROW: Final = 32
# Pixels up to which a JPEG is charged as a progressive one without a look into it.
_SMALL: Final = 4_000_000

PARSE_ERRORS: Final = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    RuntimeError,
    struct.error,
    zlib.error,
    Warning,  # where the host makes errors of them
)
"""What Pillow's parsers raise for bytes that are no image."""


def open_image(data: bytes | memoryview) -> ImageFile.ImageFile:
    """An image of one of the formats that are read, not decoded yet.

    Pillow's own `open` also refuses images by a limit that any part of the process may set; here `check_size` does.
    Where metadata are broken, it is the image without them.

    Raises:
        UnidentifiedImageError: it is of none of these formats, or its header is broken.
        Exception: one of `PARSE_ERRORS`.
    """
    try:
        return _open(data)
    except PARSE_ERRORS:
        for copy in metadata.without_metadata(data):
            with suppress(*PARSE_ERRORS):
                return _open(copy)
        raise


def _open(data: bytes | memoryview) -> ImageFile.ImageFile:
    """An image by the first format that accepts it."""
    start = bytes(data[:16])
    stream = io.BytesIO(data)
    for name in _FORMATS:
        factory, accepts = Image.OPEN[name]
        if accepts is None or accepts(start) is not True:
            continue
        stream.seek(0)
        if name == "ICO":
            _check_icon(data)
        try:
            return factory(stream, "")
        except (SyntaxError, LookupError, TypeError, struct.error):
            continue
        except Image.DecompressionBombError as error:  # some decoders ask Pillow's own limit, which is no parse error
            raise ImageError("decode", "too-large", str(error)) from None
    raise UnidentifiedImageError


def _check_icon(data: bytes | memoryview) -> None:
    """Raise ImageError ``too-large`` for an icon with such a PNG: Pillow decodes icons as it opens them."""
    for entry in range(6, min(6 + 16 * int.from_bytes(data[4:6], "little"), len(data)), 16):
        at = int.from_bytes(data[entry + 12 : entry + 16], "little")
        if bytes(data[at : at + 8]) == metadata.PNG:
            width, height = (int.from_bytes(data[at + place : at + place + 4], "big") for place in (16, 20))
            _check_sides(width, height)
            _check_memory(width, height, "ICO", _cost(width, height, _COSTS["ICO"]))


def size_of(data: bytes | memoryview, image: Image.Image) -> tuple[int, int]:
    """Width and height as they are decoded: an icon's directory may say other sizes than its images have."""
    if not isinstance(image, IcoImagePlugin.IcoImageFile):
        return image.size
    at = max(entry.offset for entry in image.ico.entry[:1])
    if bytes(data[at : at + 4]) == b"\x89PNG":
        return int.from_bytes(data[at + 16 : at + 20], "big"), int.from_bytes(data[at + 20 : at + 24], "big")
    width, height = struct.unpack("<ii", data[at + 4 : at + 12])
    return abs(width), abs(height)


def cost(data: bytes | memoryview, image: Image.Image) -> int:
    """Bytes that decoding takes at its peak, beside those of the file itself."""
    width, height = size_of(data, image)
    if image.format in ("JPEG", "MPO"):
        a_pixel = _CMYK if image.mode == "CMYK" else _PROGRESSIVE if "progressive" in image.info else _JPEG
        return _cost(width, height, a_pixel)
    # Some decoders take a copy of the file.
    return _cost(width, height, _COSTS[image.format or ""]) + len(data)


def _cost(width: int, height: int, a_pixel: int) -> int:
    return width * height * a_pixel + (width + height) * _ROW


def check_size(data: bytes | memoryview, image: Image.Image) -> None:
    """Raise ImageError ``too-large`` for an image that is not to be decoded."""
    width, height = size_of(data, image)
    _check_sides(width, height)
    _check_memory(width, height, image.format or "", cost(data, image))


def _check_sides(width: int, height: int) -> None:
    if max(width, height) > MAX_SIDE:
        what = f"{width}x{height}: an image may have {MAX_SIDE:,} rows and columns"
        raise ImageError("decode", "too-large", what)
    if width * height > MAX_PIXELS:
        raise ImageError("decode", "too-large", f"{width}x{height} is more than {MAX_PIXELS:,} pixels")


def _check_memory(width: int, height: int, form: str, needed: int) -> None:
    if needed > MAX_BYTES:
        what = f"{width}x{height} as {form} would take {needed / 2**30:.1f} GiB of memory; the limit is 2 GiB"
        raise ImageError("decode", "too-large", what)


def peek_cost(data: bytes | memoryview) -> int:
    """Bytes that `decode_image` takes at its peak; 0 where it will refuse the image without decoding."""
    try:  # most images are small JPEGs: their exact cost does not matter
        height, width = size_in_header(data)
        if height * width <= _SMALL:
            return int(height * width * _PROGRESSIVE)
    except (ValueError, KeyError):
        pass
    try:
        with open_image(data) as image:
            check_size(data, image)
            return cost(data, image)
    except (ImageError, *PARSE_ERRORS):
        return 0


# Pillow's own, with LOAD_TRUNCATED_IMAGES off: any part of the process may turn it on, and cut files would be whole.
_load: Final = FunctionType(
    ImageFile.ImageFile.load.__code__, {**vars(ImageFile), "LOAD_TRUNCATED_IMAGES": False}, "load_strictly"
)
# Formats that `_load` decodes. The decoders of the others take the whole file at once and do not look at the switch.
_STREAMED: Final = (
    PngImagePlugin.PngImageFile,
    GifImagePlugin.GifImageFile,
    BmpImagePlugin.BmpImageFile,
    PpmImagePlugin.PpmImageFile,
    JpegImagePlugin.JpegImageFile,
    Jpeg2KImagePlugin.Jpeg2KImageFile,
)


def load_strictly(data: bytes | memoryview, image: Image.Image) -> None:
    """Decode an image that was opened; what is cut off is an error, whatever the process has set in Pillow.

    Raises:
        Exception: one of `PARSE_ERRORS`.
    """
    if isinstance(image, _STREAMED) or (
        isinstance(image, TiffImagePlugin.TiffImageFile) and not image.use_load_libtiff
    ):
        image._ended = True  # type: ignore[union-attr]  # noqa: SLF001 - so that a JPEG gets no end marker either
        _load(image)
        return
    if isinstance(image, IcoImagePlugin.IcoImageFile) and ImageFile.LOAD_TRUNCATED_IMAGES:
        entry = image.ico.entry[0]  # decoded when it was opened
        if entry.offset + entry.size > len(data):
            raise EOFError
    image.load()


def give_memory_back() -> None:
    """Make the C library return freed memory to the system: otherwise each thread keeps that of its largest image."""
    if (trim := _malloc_trim()) is not None:
        trim(0)


@lru_cache(maxsize=1)
def _malloc_trim() -> Any:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # only glibc has it, and only glibc needs it
        return None
