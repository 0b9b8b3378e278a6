"""From an upright image to the pixels that a bundle was trained on: resize, then crop or pad. Pure functions.

Training, evaluation and the runtime all make their pixels here, so a caption cannot change because an image was
resized by another library. Images are NumPy arrays ``[height, width, 3]``, RGB, 0..255.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from batchcap.images.preprocess import Fit, Preprocess
from batchcap.images.resize import Pixels, resize


def fit_to(image: Pixels, height: int, width: int, fit: Fit) -> Pixels:
    """Bring a resized image to the graph's size: unchanged, its centre, or centred on black.

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


def preprocess(image: NDArray[np.uint8], how: Preprocess) -> Pixels:
    """Upright RGB [h, w, 3] to the bundle's input [how.height, how.width, 3] of type ``how.pixels``."""
    resized = resize(image, how.resize_height, how.resize_width, how.method, how.pixels)
    return fit_to(resized, how.height, how.width, how.fit)
