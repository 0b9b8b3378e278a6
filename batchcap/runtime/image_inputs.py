"""The images that a library user gives: files and arrays, checked."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from batchcap.errors import OptionError
from batchcap.images.files import look
from batchcap.records import ImageRef

Image: TypeAlias = str | Path | NDArray[np.uint8]
"""A file, or an image in memory: uint8 RGB [height, width, 3], upright."""


def check_several(images: object) -> None:
    """Raise OptionError for what is no collection of images: one image stands in a list of one."""
    if isinstance(images, str | bytes | os.PathLike) or (isinstance(images, np.ndarray) and images.ndim == 3):
        raise OptionError("One image stands where several are taken.", "Give a list of it: [image].")
    if not isinstance(images, Iterable) or (isinstance(images, np.ndarray) and images.ndim == 0):
        raise OptionError(f"images={images!r}: holds no images.", "Give a list of paths or arrays.")


def image_ref(index: int, image: object) -> ImageRef:
    """A reference to an array or a file; with a failure where it is no regular file or cannot be read.

    Args:
        index: its place among the images, which names an array.
        image: what the user gave.

    Raises:
        OptionError: it is neither.
    """
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
            what = f"An array {image.dtype} {list(image.shape)} is no image."
            raise OptionError(what, "Give uint8 [height, width, 3].")
        # No file has an empty path, so that no array has a file's name.
        return ImageRef(path="", file="", size=0, mtime_us=0, member=str(index), pixels=image)
    if not isinstance(image, str | os.PathLike):
        raise OptionError(f"{type(image).__name__} is no image.", "Give paths, or uint8 arrays [height, width, 3].")
    file = os.fsdecode(image)
    size, mtime_us, failure, _, _ = look(file)
    return ImageRef(path=file, file=file, size=size, mtime_us=mtime_us, failure=failure)
