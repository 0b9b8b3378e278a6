"""Bytes to the pixels a bundle was trained on: decode, turn upright, resize, crop or pad. Pure functions.

Training, evaluation and the runtime all make their pixels here, so a caption cannot change because a picture was
resized by another library. Images are NumPy arrays ``[height, width, 3]``, RGB, 0..255.
"""

from __future__ import annotations

import ctypes
import io
import re
import struct
import warnings
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal, NamedTuple, TypeAlias

import numpy as np
import simplejpeg
from numpy.typing import NDArray
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

Pixels: TypeAlias = NDArray[np.uint8] | NDArray[np.float32]
PixelType = Literal["uint8", "float32"]
ResizeMethod = Literal["bilinear", "bilinear-antialias", "bilinear-tf1"]
Fit = Literal["stretch", "center-crop", "pad"]

# Pillow warns about broken metadata and large pictures. What matters of that becomes an `ImageError`; the rest is noise
# on standard error. Once, here, because `warnings.catch_warnings` is not safe in threads.
warnings.filterwarnings("ignore", module=r"PIL\.")

# libtiff prints what it finds wrong on standard error, and Pillow raises it as well. `dlsym` finds the libtiff that
# Pillow is linked with; where that is inside Pillow's own file, the lines stay.
with suppress(OSError, AttributeError):
    _set_handler = ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler
    _set_handler.argtypes, _set_handler.restype = [ctypes.c_void_p], ctypes.c_void_p
    _set_handler(None)

# Pillow's own limit against decompression bombs (16k x 11k), kept here whatever the process sets Pillow to.
MAX_PIXELS: Final = 178_956_970
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
_DECODER_ERROR: Final = re.compile(r"^decoder error (-?\d+)$")
_SIGNATURES: Final = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG": "PNG",
    b"RIFF": "WebP",
    b"GIF8": "GIF",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"BM": "BMP",
}
# Pictures of more than two strips are resized strip by strip: about what fits a core's cache.
_STRIP_PIXELS: Final = 1_000_000
# What Pillow's parsers raise when they stumble over bytes that are no picture.
_PARSE_ERRORS: Final = (
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
)
# What libjpeg-turbo complains of, and subsamplings that simplejpeg has no name for.
_SIMPLEJPEG_ERRORS: Final = (ValueError, KeyError)
_EXIF_ORIENTATION: Final = 0x0112
# EXIF orientation -> the NumPy view that turns the picture upright (CIPA DC-008, tag 274).
_UPRIGHT: Final[dict[int, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]]] = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: a[::-1].transpose(1, 0, 2),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: a.transpose(1, 0, 2)[::-1],
}


@dataclass(frozen=True, slots=True)
class Preprocess:
    """How a bundle turns a picture into its input tensor.

    The picture is stretched to ``resize_height`` x ``resize_width`` and then brought to ``height`` x ``width`` by
    ``fit``.
    """

    height: int
    """Rows of the graph's input."""
    width: int
    """Columns of the graph's input."""
    resize_height: int
    """Rows after the resize, before ``fit``."""
    resize_width: int
    """Columns after the resize, before ``fit``."""
    method: ResizeMethod = "bilinear-antialias"
    """``bilinear``: half-pixel centres, no antialias, as ``tf.image.resize``. ``bilinear-antialias``: a triangle filter
    that grows with the reduction, as Pillow's BILINEAR. ``bilinear-tf1``: no half-pixel centres, as
    ``tf.compat.v1.image.resize_bilinear``."""
    fit: Fit = "stretch"
    """``stretch``: the resize is already the input. ``center-crop``: its middle. ``pad``: black borders around it."""
    pixels: PixelType = "uint8"
    """``uint8``: rounded to whole levels. ``float32``: the resize as it comes, unrounded."""
    jpeg_dct: Literal["accurate", "fast"] = "accurate"
    """JPEG's inverse DCT: ``accurate`` equals Pillow, ``fast`` equals TensorFlow's default decoder bit for bit."""


def peek_size(data: bytes | memoryview) -> tuple[int, int] | None:
    """Width and height as stored, from the header alone; None where that does not say."""
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(data, strict=False)
        return width, height
    except _SIMPLEJPEG_ERRORS:
        pass
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            return image.size
    except (Image.DecompressionBombError, *_PARSE_ERRORS):
        return None


def decode_image(data: bytes | memoryview, jpeg_dct: Literal["accurate", "fast"] = "accurate") -> NDArray[np.uint8]:
    """Decode one picture and turn it upright by its EXIF orientation.

    The first frame of an animation is taken; transparency is laid over white; 16-bit pictures are reduced to 8 bits.
    Broken metadata does not matter.

    Args:
        data: the file's bytes: JPEG, PNG, WebP, BMP, TIFF, GIF; also AVIF, JPEG 2000, PPM, ICO where Pillow can.
            The bytes decide, not the file's name.
        jpeg_dct: see `Preprocess.jpeg_dct`.

    Returns:
        uint8 RGB ``[height, width, 3]``.

    Raises:
        ImageError: stage ``decode``; kind ``empty``, ``unsupported``, ``truncated``, ``corrupt`` or ``too-large``.
    """
    if len(data) == 0:
        raise ImageError("decode", "empty", "the file has no bytes")
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise ImageError("decode", "too-large", f"{width}x{height} is more than {MAX_PIXELS} pixels")
            modes = ("RGB", "L", "CMYK") if jpeg_dct == "fast" else ("RGB", "L")
            is_jpeg = image.format in ("JPEG", "MPO") and image.mode in modes
            decoded = _decode_jpeg(data, image, jpeg_dct) if is_jpeg else _to_rgb(image)
            # After decoding: PNG may keep its EXIF behind the pixels, and Pillow turns a TIFF by itself.
            turn = _UPRIGHT.get(orientation(image))
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise _unidentified(data) from None
    except Image.DecompressionBombError as error:
        raise ImageError("decode", "too-large", str(error)) from None
    except _PARSE_ERRORS as error:
        text = _DECODER_ERROR.sub(_in_words, str(error)) or type(error).__name__
        if "truncated" in text.lower() or isinstance(error, EOFError):
            # Pillow's own words ("0 bytes not processed") say something about its buffer, not about the file.
            raise ImageError("decode", "truncated", "the file ends before the picture does") from None
        raise ImageError("decode", "corrupt", text) from None
    return decoded if turn is None else np.ascontiguousarray(turn(decoded))


def _in_words(match: re.Match[str]) -> str:
    """What a number of Pillow's TIFF decoder means."""
    return ImageFile.ERRORS.get(int(match[1]), match[0])


def _unidentified(data: bytes | memoryview) -> ImageError:
    for signature, name in _SIGNATURES.items():
        if bytes(data[: len(signature)]) == signature:
            return ImageError("decode", "corrupt", f"it starts like a {name} file, but its header is broken or cut off")
    return ImageError("decode", "unsupported", "no image format that is known here")


def _decode_jpeg(data: bytes | memoryview, image: Image.Image, jpeg_dct: str) -> NDArray[np.uint8]:
    """libjpeg-turbo without Pillow's detour; anything it finds odd goes to Pillow, which says what is wrong."""
    fast, colours = jpeg_dct == "fast", "CMYK" if image.mode == "CMYK" else "RGB"
    decoded: NDArray[np.uint8]
    try:
        decoded = simplejpeg.decode_jpeg(data, colours, fastdct=fast, strict=True)
    except _SIMPLEJPEG_ERRORS:
        plain = np.asarray(image.convert("RGB"))
        if not fast:
            return plain
        try:  # the picture is whole: most oddities need not change which inverse DCT makes its pixels
            decoded = simplejpeg.decode_jpeg(data, colours, fastdct=True, strict=False)
        except _SIMPLEJPEG_ERRORS:
            return plain
    return decoded if colours == "RGB" else _inks_to_rgb(decoded, inverted="adobe" in image.info)


def _inks_to_rgb(inks: NDArray[np.uint8], *, inverted: bool) -> NDArray[np.uint8]:
    """CMYK [h, w, 4] to RGB as TensorFlow's decoder does it: a colour times black, over 255, rounded down.

    Adobe's programs write inks inverted, and a marker that tells. Pillow rounds otherwise, by one level.
    """
    light = inks if inverted else 255 - inks
    product: NDArray[np.uint16] = light[..., :3].astype(np.uint16) * light[..., 3:] // 255
    return product.astype(np.uint8)


def orientation(image: Image.Image) -> int:
    """How the camera was held: the EXIF orientation of an open picture, 1 where it says none that counts."""
    try:
        value = image.getexif().get(_EXIF_ORIENTATION, 1)
    except _PARSE_ERRORS:
        return 1
    return value if isinstance(value, int) else 1


def _to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode.startswith("I"):
        return _reduce_to_8_bits(np.asarray(image))
    if image.mode == "F":
        raise ImageError("decode", "unsupported", "floating-point pixels have no agreed range")
    if image.mode == "LAB":
        raise ImageError("decode", "unsupported", "CIELAB pixels need a colour profile")
    if image.has_transparency_data:
        over = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(over, image.convert("RGBA"))
    return np.asarray(image.convert("RGB"))


def _reduce_to_8_bits(levels: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Grey [h, w] of 16 bits, or of 32 that hold no more, to RGB. Levels that fit 8 bits stay: scanners do that."""
    top = int(levels.max(initial=0))
    if top > 0xFFFF or int(levels.min(initial=0)) < 0:
        raise ImageError("decode", "unsupported", "32-bit pixels have no agreed range")
    grey = (levels >> 8 if top > 0xFF else levels).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)


def resize(
    image: NDArray[np.uint8], height: int, width: int, method: ResizeMethod, pixels: PixelType = "uint8"
) -> Pixels:
    """Stretch ``image`` [h, w, 3] to [height, width, 3] by ``method`` (see `Preprocess.method`).

    Returns:
        ``uint8``, rounded half away from zero as Pillow does, or ``float32``, unrounded, in 0..255.
    """
    if method == "bilinear-antialias":
        if pixels == "uint8":
            if image.shape[:2] == (height, width):
                return image
            return _antialias(image, height, width)
        channels = [Image.fromarray(image[..., c].astype(np.float32)) for c in range(3)]
        resized = [np.asarray(_two_passes(channel, height, width)) for channel in channels]
        return np.stack(resized, axis=-1)
    out = _bilinear(image, height, width, half_pixel_centers=method == "bilinear")
    return np.floor(out + np.float32(0.5)).astype(np.uint8) if pixels == "uint8" else out


def _antialias(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Pillow's BILINEAR of RGB; in strips where the picture is large.

    Rows do not depend on each other while only the width changes, so the values stay the same, but no second copy of a
    large picture has to be paged in (12 megapixels: 31 instead of 52 ms).
    """
    rows = max(1, _STRIP_PIXELS // image.shape[1])
    if image.shape[0] > 2 * rows and not _height_first(image.shape[:2], (height, width)):
        narrow = np.empty((image.shape[0], width, 3), np.uint8)
        for top in range(0, image.shape[0], rows):
            strip = Image.fromarray(image[top : top + rows])
            narrow[top : top + rows] = np.asarray(strip.resize((width, strip.height), Image.Resampling.BILINEAR))
        image = narrow
    return np.asarray(_two_passes(Image.fromarray(image), height, width))


def _two_passes(image: Image.Image, height: int, width: int) -> Image.Image:
    """Pillow's BILINEAR, one axis at a time and each rounded, in an order that no version of Pillow can change."""
    height_first = _height_first((image.height, image.width), (height, width))
    between = (image.width, height) if height_first else (width, image.height)
    return image.resize(between, Image.Resampling.BILINEAR).resize((width, height), Image.Resampling.BILINEAR)


def _height_first(size: tuple[int, ...], target: tuple[int, int]) -> bool:
    """The order of Pillow 13: the height first if it loses more than twice what the width loses; sizes (rows, columns).

    The order moves some levels by one. Older versions always took the width first; see Pillow's pull request 9549.
    """
    rows_lost, columns_lost = size[0] - target[0], size[1] - target[1]
    return rows_lost > max(0, 2 * columns_lost)


class _Taps(NamedTuple):
    """Where each output index of one axis reads."""

    lower: NDArray[np.intp]
    upper: NDArray[np.intp]
    weight: NDArray[np.float32]
    """Share of ``upper``; ``lower`` has the rest."""


def _taps(size_in: int, size_out: int, half_pixel_centers: bool) -> _Taps:
    """Taps of one axis in TensorFlow's own float32 arithmetic.

    Follows ``compute_interpolation_weights`` of TensorFlow's ``ResizeBilinear`` kernel: scale = in / out, source
    position = (i + 0.5) * scale - 0.5 (half-pixel centres) or i * scale.
    """
    scale = np.float32(size_in) / np.float32(size_out)
    half = np.float32(0.5 if half_pixel_centers else 0.0)
    position = (np.arange(size_out, dtype=np.float32) + half) * scale - half
    floor = np.floor(position)
    lower = np.maximum(floor, 0).astype(np.intp)
    upper = np.minimum(np.ceil(position), size_in - 1).astype(np.intp)
    return _Taps(lower, upper, (position - floor).astype(np.float32))


@lru_cache(maxsize=128)
def _column_taps(size_in: int, size_out: int, half_pixel_centers: bool) -> _Taps:
    """Taps along a row of interleaved RGB: indices and weights [size_out * 3]."""
    taps = _taps(size_in, size_out, half_pixel_centers)
    channel = np.arange(3)
    lower, upper = ((index[:, None] * 3 + channel).ravel() for index in (taps.lower, taps.upper))
    return _Taps(lower, upper, np.repeat(taps.weight, 3))


@lru_cache(maxsize=128)
def _row_taps(size_in: int, size_out: int, half_pixel_centers: bool) -> tuple[NDArray[np.intp], _Taps]:
    """The input rows that are read at all, and taps into those; weights [size_out, 1]."""
    taps = _taps(size_in, size_out, half_pixel_centers)
    rows, place = np.unique(np.concatenate([taps.lower, taps.upper]), return_inverse=True)
    return rows, _Taps(place[:size_out], place[size_out:], taps.weight[:, None])


def _bilinear(image: NDArray[np.uint8], height: int, width: int, half_pixel_centers: bool) -> NDArray[np.float32]:
    """Four taps a pixel, interpolated along x and then y: bit for bit what ``tf.image.resize`` computes.

    Each input row is interpolated along x once, though up to two output rows read it.
    """
    rows, vertical = _row_taps(image.shape[0], height, half_pixel_centers)
    horizontal = _column_taps(image.shape[1], width, half_pixel_centers)
    strips = (image if len(rows) == image.shape[0] else image[rows]).reshape(len(rows), -1)
    left = np.take(strips, horizontal.lower, axis=1).astype(np.float32)
    right = np.take(strips, horizontal.upper, axis=1).astype(np.float32)
    stretched = _lerp(left, right, horizontal.weight)
    out = _lerp(stretched[vertical.lower], stretched[vertical.upper], vertical.weight)
    return out.reshape(height, width, 3)


def _lerp(start: NDArray[np.float32], end: NDArray[np.float32], weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """start + (end - start) * weight, in the place of ``end``."""
    end -= start
    end *= weight
    end += start
    return end


def fit_to(image: Pixels, height: int, width: int, fit: Fit) -> Pixels:
    """Bring a resized picture to the graph's size: unchanged, its centre, or centred on black.

    Offsets are rounded down, as in ``tf.image.central_crop`` and ``tf.image.resize_with_crop_or_pad``.
    """
    if fit == "stretch" or image.shape[:2] == (height, width):
        return image
    if fit == "center-crop":
        top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
        return image[top : top + height, left : left + width]
    out = np.zeros((height, width, 3), image.dtype)
    top, left = (height - image.shape[0]) // 2, (width - image.shape[1]) // 2
    out[top : top + image.shape[0], left : left + image.shape[1]] = image
    return out


def apply(image: NDArray[np.uint8], how: Preprocess) -> Pixels:
    """Upright RGB [h, w, 3] to the bundle's input [how.height, how.width, 3] of type ``how.pixels``."""
    resized = resize(image, how.resize_height, how.resize_width, how.method, how.pixels)
    return fit_to(resized, how.height, how.width, how.fit)
