"""An image in every format that is read, and what reading says of it."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from batchcap.errors import ImageError
from batchcap.images.decode import decode_image
from batchcap.images.opening import PARSE_ERRORS, open_image, size_of


def scene(height: int = 200, width: int = 260) -> Image.Image:
    """Soft shapes and grain, as a photograph has: every part of the file holds many bytes."""
    draw = np.random.default_rng(5)
    soft = Image.fromarray(draw.integers(0, 256, (7, 9, 3), np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
    grain = draw.normal(0, 12, (height, width, 3))
    return Image.fromarray(np.clip(np.asarray(soft) + grain, 0, 255).astype(np.uint8))


def noise(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def smooth(height: int, width: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(noise(5, 6, seed)).resize((width, height), Image.Resampling.BICUBIC)


def encode(image: Image.Image, format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def stored_size(data: bytes) -> tuple[int, int] | None:
    """Width and height by the header alone; None where it does not say."""
    try:
        with open_image(data) as image:
            return size_of(data, image)
    except PARSE_ERRORS:
        return None


def kind_of(data: bytes) -> str:
    try:
        decode_image(data)
    except ImageError as error:
        return error.kind if error.stage == "decode" and error.message else "without a reason"
    return "whole"


FORMATS: dict[str, Callable[[Image.Image], bytes]] = {
    "jpeg": lambda image: encode(image, "JPEG", quality=90),
    "optimized": lambda image: encode(image, "JPEG", quality=90, optimize=True),
    "progressive": lambda image: encode(image, "JPEG", quality=90, progressive=True),
    "grey": lambda image: encode(image.convert("L"), "JPEG", quality=90),
    "cmyk": lambda image: encode(image.convert("CMYK"), "JPEG", quality=90),
    "png": lambda image: encode(image, "PNG"),
    "webp": lambda image: encode(image, "WEBP", quality=95),
    "webp lossless": lambda image: encode(image, "WEBP", lossless=True),
    "avif": lambda image: encode(image, "AVIF", quality=95),
    "jpeg 2000": lambda image: encode(image, "JPEG2000"),
    "gif": lambda image: encode(image.quantize(64), "GIF"),
    "tiff lzw": lambda image: encode(image, "TIFF", compression="tiff_lzw"),
    "tiff deflate": lambda image: encode(image, "TIFF", compression="tiff_adobe_deflate"),
    "tiff jpeg": lambda image: encode(image, "TIFF", compression="jpeg"),
    "tiff": lambda image: encode(image, "TIFF"),
    "bmp": lambda image: encode(image, "BMP"),
    "ppm": lambda image: encode(image, "PPM"),
}
