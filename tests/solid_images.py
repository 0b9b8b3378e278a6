"""Images of one colour."""

from __future__ import annotations

import numpy as np

COLOURS = [(250, 10, 10), (10, 250, 10), (10, 10, 250), (128, 3, 77), (90, 90, 90), (255, 255, 0), (0, 255, 255)]


def solid(colour: tuple[int, int, int], height: int = 20, width: int = 30) -> np.ndarray:
    return np.full((height, width, 3), colour, np.uint8)
