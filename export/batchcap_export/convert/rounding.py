"""Smaller files: weights rounded to float16, or to int8 with a scale for each output channel, before any comparison.

The rounded model *is* the model: parity and figures are of it. Arithmetic stays float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchcap_export.options.bundles import Storage

Array = NDArray[Any]


def round_weights(values: Array, storage: Storage, axis: int) -> Array:
    """float32 weights -> the nearest values that ``storage`` holds exactly; int8 takes a scale along ``axis``."""
    if storage == "float16":
        return values.astype(np.float16).astype(np.float32)
    scale = _scale(values, axis)
    return np.rint(values / scale).clip(-127, 127).astype(np.float32) * scale


def _scale(values: Array, axis: int) -> Array:
    """Largest magnitude / 127 along all other axes, in 11 bits of mantissa: its product with an int8 is then exact."""
    others = tuple(i for i in range(values.ndim) if i != axis % values.ndim)
    largest = np.abs(values).max(axis=others, keepdims=True).astype(np.float32)
    mantissa, exponent = np.frexp(np.where(largest > 0, largest, np.float32(127)) / np.float32(127))
    return np.ldexp(np.rint(mantissa * 2048) / np.float32(2048), exponent).astype(np.float32)


def pack(values: Array, storage: str) -> tuple[Array, Array | None] | None:
    """The small form of rounded weights and their scale, or None where they are not exactly representable."""
    if storage == "float16":
        small = values.astype(np.float16)
        return (small, None) if np.array_equal(small.astype(np.float32), values) else None
    for axis in (0, -1):
        scale = _scale(values, axis)
        levels = np.rint(values / scale)
        if np.abs(levels).max() <= 127 and np.array_equal(levels.astype(np.float32) * scale, values):
            return levels.astype(np.int8), scale
    return None
