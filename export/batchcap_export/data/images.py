"""Images for training and comparison: found and decoded with the runtime's own functions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchcap.errors import DataError, ImageError
from batchcap.images import discovery
from batchcap.images.decode import decode_image
from batchcap.images.pixels import preprocess
from batchcap.images.preprocess import JpegDct, Preprocess


def find_images(folder: Path, most: int | None = None) -> list[Path]:
    """Every image below ``folder``, or the first ``most``, as a run finds them and in its order.

    Raises:
        DataError: the folder is missing, holds no image, or one that cannot be read.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder of images.", "Give a folder that exists.")
    found = list(islice(discovery.discover([folder]), most))
    for ref in found:
        if ref.failure is not None:
            raise DataError(f"{ref.file}: {ref.failure.message}", "Make it readable, or move it elsewhere.")
    if not found:
        raise DataError(f"{folder}: no image below this folder.", f"Names end in {', '.join(discovery.SUFFIXES)}.")
    return [Path(ref.file) for ref in found]


def read_image(path: Path, jpeg_dct: JpegDct = "accurate") -> NDArray[np.uint8]:
    """One image, upright RGB uint8 [h, w, 3].

    Raises:
        DataError: it cannot be read or decoded: training data must be whole.
    """
    try:
        return decode_image(path.read_bytes(), jpeg_dct)
    except (ImageError, OSError) as error:
        raise DataError(f"{path}: {error}", "Remove or repair the image.") from error


def read_pixels(files: Sequence[Path], how: Preprocess) -> NDArray[Any]:
    """Images as the runtime feeds them to an encoder: [N, H, W, 3] of ``how``'s size and pixel type."""
    return np.stack([preprocess(read_image(file, how.jpeg_dct), how) for file in files])
