"""Images to measure with where there are no photos: as large as those, and as much work to decode."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

WIDTH: Final = 500
HEIGHT: Final = 375
_QUALITY: Final = 94


def make_images(folder: Path, count: int) -> None:
    """Write ``count`` JPEGs of 500x375 with as many bytes as photos of that size: soft light, shapes, fine grain."""
    folder.mkdir()
    for number in range(count):
        Image.fromarray(_generate(np.random.default_rng(number))).save(folder / f"{number:06}.jpg", quality=_QUALITY)


def _generate(random: np.random.Generator) -> NDArray[np.uint8]:
    """One image, uint8 [375, 500, 3]."""
    levels = np.zeros((HEIGHT, WIDTH, 3), np.float32)
    for cells, strength in ((3, 110), (12, 70), (60, 40), (180, 28)):
        noise = random.integers(0, 256, (cells * 3 // 4 + 1, cells, 3), np.uint8)
        smooth = Image.fromarray(noise).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
        levels += np.asarray(smooth, np.float32) * (strength / 255)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    for _ in range(12):
        middle_y, middle_x, radius = random.uniform((0, 0, 15), (HEIGHT, WIDTH, 90))
        shape = (x - middle_x) ** 2 + (y - middle_y) ** 2 * random.uniform(0.5, 4) < radius**2
        levels[shape] = 0.6 * levels[shape] + 0.4 * random.uniform(0, 255, 3)
    levels += random.normal(0, 13, levels.shape).astype(np.float32)
    return np.clip(levels, 0, 255).astype(np.uint8)
