"""Images for training and comparison: found, decoded and cropped with the runtime's own functions, in threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from batchcap.errors import DataError, ImageError
from batchcap.images import discovery
from batchcap.images.decode import decode_image
from batchcap.images.pixels import preprocess
from batchcap.images.preprocess import JpegDct, Preprocess
from batchcap.images.resize import resize

Item = TypeVar("Item")
Result = TypeVar("Result")


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


@dataclass(frozen=True, slots=True)
class View:
    """A crop of an image, in shares of its size, perhaps mirrored. `WHOLE` is the image as it is."""

    left: float
    top: float
    right: float
    bottom: float
    mirrored: bool

    def render(self, image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
        """The view at [height, width, 3], antialiased; the whole image is exactly what the runtime makes of it."""
        if self == WHOLE:
            return np.asarray(resize(image, height, width, "bilinear-antialias"))
        rows, columns = image.shape[:2]
        box = (self.left * columns, self.top * rows, self.right * columns, self.bottom * rows)
        out = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR, box=box))
        return out[:, ::-1] if self.mirrored else out


WHOLE = View(0.0, 0.0, 1.0, 1.0, False)


def views(index: int, count: int, seed: int, min_area: float = 0.35) -> list[View]:
    """``count`` views of image ``index``: first the whole image, then random crops, every second one mirrored.

    A crop takes ``min_area``..1 of the area at an aspect of 3/4..4/3 relative to the image (the recipe of Szegedy et
    al. 2014). The views depend on ``seed`` and ``index`` alone, so a restart makes the same ones.
    """
    random = np.random.default_rng([seed, index])
    out = [WHOLE]
    while len(out) < count:
        area = random.uniform(min_area, 1.0)
        aspect = np.exp(random.uniform(np.log(3 / 4), np.log(4 / 3)))
        width, height = min(1.0, float(np.sqrt(area * aspect))), min(1.0, float(np.sqrt(area / aspect)))
        left, top = random.uniform(0, 1 - width), random.uniform(0, 1 - height)
        out.append(View(left, top, left + width, top + height, len(out) % 2 == 1))
    return out[:count]


def map_in_threads(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int | None = None
) -> Iterator[Result]:
    """``map`` over threads, in order, never more than a few items ahead of the consumer."""
    workers = workers or os.cpu_count() or 1
    ahead = workers * 4
    with ThreadPoolExecutor(workers) as pool:
        waiting = []
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= ahead:
                yield waiting.pop(0).result()
        for future in waiting:
            yield future.result()
