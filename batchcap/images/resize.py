"""RGB to another number of rows and columns: the same numbers as TensorFlow and Pillow, in whatever version."""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from batchcap.images.preprocess import PixelType, ResizeMethod

Pixels: TypeAlias = NDArray[np.uint8] | NDArray[np.float32]
"""Images [..., rows, columns, 3], RGB, 0..255."""

# Images of more than two strips are resized strip by strip: about what fits a core's cache.
_STRIP_PIXELS: Final = 1_000_000


def resize(
    image: NDArray[np.uint8], height: int, width: int, method: ResizeMethod, pixels: PixelType = "uint8"
) -> Pixels:
    """Stretch ``image`` [h, w, 3] to [height, width, 3] by ``method`` (see `Preprocess.method`).

    Returns:
        ``uint8``, rounded half away from zero as Pillow does, or ``float32``, unrounded, in 0..255.
    """
    if method == "bilinear-antialias":
        if pixels == "uint8" and image.shape[:2] == (height, width):
            return image
        return _antialias(image, height, width, np.float32 if pixels == "float32" else np.uint8)
    out = _bilinear(image, height, width, half_pixel_centers=method == "bilinear")
    return np.floor(out + np.float32(0.5)).astype(np.uint8) if pixels == "uint8" else out


def _antialias(image: NDArray[np.uint8], height: int, width: int, dtype: type[np.uint8 | np.float32]) -> Pixels:
    """Pillow's BILINEAR of RGB, one axis at a time, in an order that no version of Pillow can change.

    uint8 is rounded after each axis, float32 is not.
    """
    axes = ((0, height), (1, width)) if _height_first(image.shape[:2], (height, width)) else ((1, width), (0, height))
    if dtype is np.uint8 and image.shape[0] * image.shape[1] <= 2 * _STRIP_PIXELS:  # the usual case, without a detour
        small = Image.fromarray(image)
        for axis, size in axes:
            small = small.resize((small.width, size) if axis == 0 else (size, small.height), Image.Resampling.BILINEAR)
        return np.asarray(small)
    (first, size), (second, last) = axes
    return _stretch(_stretch(image, first, size, dtype), second, last, dtype)


def _stretch(image: Pixels, axis: int, size: int, dtype: type[np.uint8 | np.float32]) -> Pixels:
    """Resize along one axis; in strips, as rows do not depend on each other while only the width changes.

    The values stay the same, but no second copy of a large image has to be paged in (12 megapixels: 31 instead of 52
    ms), and float32 does not need 19 bytes a pixel.
    """
    across = image.shape[1 - axis]
    step = max(1, _STRIP_PIXELS // image.shape[axis])
    out: Pixels = np.empty((size, across, 3) if axis == 0 else (across, size, 3), dtype)  # type: ignore[assignment]
    for start in range(0, across, step):
        part = slice(start, start + step)
        strip = (slice(None), part) if axis == 0 else (part, slice(None))
        target = (min(step, across - start), size) if axis == 0 else (size, min(step, across - start))
        if dtype is np.uint8:
            out[strip] = _pillow(image[strip], target)
        else:
            for channel in range(3):
                out[*strip, channel] = _pillow(image[*strip, channel].astype(np.float32), target)
    return out


def _pillow(image: Pixels, size: tuple[int, int]) -> NDArray[np.uint8 | np.float32]:
    """Pillow's BILINEAR to (width, height)."""
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))


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
    """start + (end - start) * weight, written over ``end``."""
    end -= start
    end *= weight
    end += start
    return end
