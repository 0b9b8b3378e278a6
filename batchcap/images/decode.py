"""The bytes of an image file to upright RGB: which decoder, what counts as broken, transparency, orientation."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError

from batchcap.errors import ImageError
from batchcap.images import kinds
from batchcap.images.formats import damage, metadata, tiff
from batchcap.images.formats.jpeg import TRUNCATED, NotReadableError, decode_leniently, decode_strictly
from batchcap.images.opening import PARSE_ERRORS, check_size, load_strictly, open_image
from batchcap.images.preprocess import JpegDct

_DECODER_ERROR: Final = re.compile(r"^decoder error (-?\d+)$")
_SIGNATURES: Final = (
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"\x89PNG", "PNG"),
    (8, b"WEBP", "WebP"),
    (0, b"GIF8", "GIF"),
    (4, b"ftyp", "AVIF"),
    (4, b"jP  ", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"\0\0\1\0", "ICO"),
    (0, b"BM", "BMP"),
    *((0, signature, "TIFF") for signature in tiff.SIGNATURES),
)
# Formats whose decoders take a file that ends early: what they do not take has no header.
_PLAIN: Final = ("JPEG", "PNG", "GIF", "BMP")
# Images are brought to RGB by so many pixels at a time, so that no second copy of a large one is needed.
_STRIP_PIXELS: Final = 250_000
_EXIF_ORIENTATION: Final = 0x0112
# EXIF orientation -> the NumPy view that turns the image upright (CIPA DC-008, tag 274).
_UPRIGHT: Final[dict[int, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]]] = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: a[::-1].transpose(1, 0, 2),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: a.transpose(1, 0, 2)[::-1],
}


def decode_image(data: bytes | memoryview, jpeg_dct: JpegDct = "accurate") -> NDArray[np.uint8]:
    """Decode one image of which nothing is missing, and turn it upright by its EXIF orientation.

    The first frame of an animation is taken; transparency is laid over white; 16-bit images are reduced to 8 bits.
    Broken metadata does not matter, nor does a missing end marker after complete pixels.

    Args:
        data: the file's bytes: JPEG, PNG, WebP, BMP, TIFF, GIF; also AVIF, JPEG 2000, PPM, ICO where Pillow can.
            The bytes decide, not the file's name.
        jpeg_dct: see `Preprocess.jpeg_dct`.

    Returns:
        uint8 RGB ``[height, width, 3]``.

    Raises:
        ImageError: stage ``decode``; kind ``empty``, ``unsupported`` (another format), ``too-large``, ``truncated``
            (the file ends before the image does), ``damaged`` (bytes inside are wrong) or ``corrupt`` (nothing can be
            decoded).
    """
    decoded, turn = _decode(data, jpeg_dct, salvage=False)
    return decoded if turn is None else np.ascontiguousarray(turn(decoded))


def salvage_image(data: bytes | memoryview, jpeg_dct: JpegDct = "accurate") -> NDArray[np.uint8]:
    """What can be decoded of an image that `decode_image` calls truncated or damaged; the rest is grey, black or wrong.

    Raises:
        ImageError: as `decode_image`; kind ``corrupt`` where nothing can be decoded.
    """
    decoded, turn = _decode(data, jpeg_dct, salvage=True)
    return decoded if turn is None else np.ascontiguousarray(turn(decoded))


def _decode(
    data: bytes | memoryview, jpeg_dct: JpegDct, *, salvage: bool
) -> tuple[NDArray[np.uint8], Callable[[NDArray[np.uint8]], NDArray[np.uint8]] | None]:
    """The pixels as stored, and how to turn them upright: Pillow's own copy of them is freed before that."""
    if len(data) == 0:
        raise ImageError("decode", "empty", "the file has no bytes")
    if (raw := tiff.name_raw(data)) is not None:
        raise kinds.unsupported(data, raw)
    try:
        return _decode_file(data, jpeg_dct, salvage=salvage)
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise _unidentified(data, salvage=salvage) from None
    except Image.DecompressionBombError as error:
        raise ImageError("decode", "too-large", str(error)) from None
    except PARSE_ERRORS as error:
        for copy in metadata.without_metadata(data):
            with suppress(*PARSE_ERRORS):
                return _decode_file(copy, jpeg_dct, salvage=salvage)
        if salvage:
            raise ImageError("decode", "corrupt", f"nothing can be decoded ({_reason(error)})") from None
        raise damage.judge(data, _reason(error)) from None


def _decode_file(
    data: bytes | memoryview, jpeg_dct: JpegDct, *, salvage: bool
) -> tuple[NDArray[np.uint8], Callable[[NDArray[np.uint8]], NDArray[np.uint8]] | None]:
    """As `_decode`; raises ImageError, or what Pillow raises."""
    with open_image(data) as image:
        check_size(data, image)
        modes = ("RGB", "L", "CMYK") if jpeg_dct == "fast" else ("RGB", "L")
        if image.format not in ("JPEG", "MPO"):
            decoded = _decode_plainly(data, image, salvage=salvage)
        elif image.mode in modes:
            decoded = _decode_jpeg(data, image, fast=jpeg_dct == "fast", salvage=salvage)
        else:
            decoded = _decode_cmyk_jpeg(data, image, salvage=salvage)
        # After decoding: PNG may keep its EXIF after the pixels, and Pillow turns a TIFF by itself.
        return decoded, _UPRIGHT.get(orientation(image))


def _reason(error: Exception) -> str:
    """What a decoder says is wrong, in words: Pillow's TIFF decoder gives a number."""
    if isinstance(error, EOFError):
        return "truncated"
    numbered = _DECODER_ERROR.match(str(error))
    return ImageFile.ERRORS.get(int(numbered[1]), numbered[0]) if numbered else str(error) or type(error).__name__


def _unidentified(data: bytes | memoryview, *, salvage: bool) -> ImageError:
    """The error for bytes that none of the decoders takes."""
    if (pixels := tiff.name_pixels(data)) is not None:
        return kinds.unsupported(data, pixels)
    start = bytes(data[:12])
    for place, signature, name in _SIGNATURES:
        if start.startswith(signature, place):
            if kinds.identify(data) is not None:  # HEIC and videos begin as AVIF does
                break
            if damage.is_cut(data) and name not in _PLAIN and not salvage:
                return ImageError("decode", "truncated", TRUNCATED)
            return ImageError("decode", "corrupt", f"it starts like a {name} file, but its header is broken or cut off")
    return kinds.unsupported(data)


def _decode_jpeg(data: bytes | memoryview, image: Image.Image, *, fast: bool, salvage: bool) -> NDArray[np.uint8]:
    """By libjpeg-turbo, which is faster than Pillow; what it cannot read is left to Pillow."""
    colours = "CMYK" if image.mode == "CMYK" else "RGB"
    try:
        if salvage:
            decoded = decode_leniently(data, colours, fast=fast)
        else:
            decoded, _ = decode_strictly(data, colours, fast=fast)
    except NotReadableError:
        return _decode_plainly(data, image, salvage=salvage)
    return decoded if colours == "RGB" else cmyk_to_rgb(decoded, inverted="adobe" in image.info)


def _decode_cmyk_jpeg(data: bytes | memoryview, image: Image.Image, *, salvage: bool) -> NDArray[np.uint8]:
    """A JPEG that is neither RGB nor grey: Pillow gives the pixels, libjpeg-turbo says whether the file is whole."""
    if salvage:
        return _decode_plainly(data, image, salvage=True)
    try:
        whole = decode_strictly(data, image.mode, fast=False)[1]
    except NotReadableError:
        whole = data
    if whole is data:
        return _decode_plainly(data, image, salvage=False)
    with open_image(whole) as mended:
        return _decode_plainly(whole, mended, salvage=False)


def _decode_plainly(data: bytes | memoryview, image: Image.Image, *, salvage: bool) -> NDArray[np.uint8]:
    """By Pillow alone."""
    try:
        load_strictly(data, image)
    except PARSE_ERRORS:
        if not salvage or not _is_begun(image):
            raise
        image.tile = []  # type: ignore[attr-defined]  # keep the rows that are decoded, and decode no more
    if image.mode == "F":
        raise kinds.unsupported(data, tiff.name_pixels(data) or "an image of floating-point numbers")
    if image.mode == "LAB":
        raise ImageError("decode", "unsupported", "CIELAB pixels need a colour profile")
    decoded = _to_rgb(image)
    if not salvage:
        may_hold_zeros = [value for name in ("exif", "xmp") if isinstance(value := image.info.get(name), bytes)]
        damage.check(data, image.size, may_hold_zeros)
    return decoded


def _is_begun(image: Image.Image) -> bool:
    """Whether a decoder that failed has decoded some pixels."""
    core = image._im  # noqa: SLF001 - the property would decode again
    return core is not None and core.getbbox() is not None


def cmyk_to_rgb(cmyk: NDArray[np.uint8], *, inverted: bool) -> NDArray[np.uint8]:
    """CMYK [h, w, 4] to RGB [h, w, 3], both uint8, as TensorFlow's decoder does it: colour * black // 255.

    Adobe's programs write the values inverted, and say so in a marker. Pillow rounds differently, by one level.
    """
    light = cmyk if inverted else 255 - cmyk
    product: NDArray[np.uint16] = light[..., :3].astype(np.uint16) * light[..., 3:] // 255
    return product.astype(np.uint8)


def orientation(image: Image.Image) -> int:
    """How the camera was held: the EXIF orientation of an open image, 1 where it says none that counts."""
    try:
        value = image.getexif().get(_EXIF_ORIENTATION, 1)
    except PARSE_ERRORS:
        exif = image.info.get("exif")
        return metadata.orientation_of(exif) if isinstance(exif, bytes) else 1
    return value if isinstance(value, int) else 1


def _to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """Pillow's image to RGB [h, w, 3], some rows at a time: every step is of single pixels, so the values are the same.

    Whole, an image with transparency would be there five times (22 bytes a pixel instead of 7).
    """
    shift = _shift_to_8_bits(image) if image.mode.startswith("I") else 0
    decoded = np.empty((image.height, image.width, 3), np.uint8)
    for top, strip in _strips(image):
        if image.mode.startswith("I"):
            decoded[top : top + strip.height] = (np.asarray(strip) >> shift).astype(np.uint8)[..., None]
        else:
            decoded[top : top + strip.height] = np.asarray(_over_white(strip))
    return decoded


def _strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """The image in strips of whole rows, each with its first row; a small image is one strip, itself."""
    rows = max(1, _STRIP_PIXELS // image.width)
    if image.height <= rows:
        yield 0, image
        return
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _over_white(image: Image.Image) -> Image.Image:
    if image.has_transparency_data:
        over = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(over, image.convert("RGBA"))
    return image if image.mode == "RGB" else image.convert("RGB")


def _shift_to_8_bits(image: Image.Image) -> int:
    """Bits to drop from grey of 16 bits, or of 32 that hold no more. Levels that fit 8 bits stay: scanners do that."""
    top = bottom = 0
    for _, strip in _strips(image):
        levels = np.asarray(strip)
        top, bottom = max(top, int(levels.max(initial=0))), min(bottom, int(levels.min(initial=0)))
    if top > 0xFFFF or bottom < 0:
        raise ImageError("decode", "unsupported", "32-bit pixels have no agreed range")
    return 8 if top > 0xFF else 0
