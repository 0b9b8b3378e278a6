"""Views of an image for distillation: the image as it is, and random crops of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from batchcap.images.resize import resize


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


def make_views(index: int, count: int, seed: int, min_area: float = 0.35) -> list[View]:
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
