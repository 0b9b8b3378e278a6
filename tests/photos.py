"""Small real image files for tests of whole runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def write_photos(folder: Path, count: int, size: tuple[int, int] = (24, 16)) -> list[str]:
    """Write ``count`` JPEGs of different colours, some in a folder below; their record paths in the order of a run."""
    names = [f"sub/{n:04}.jpg" if n % 3 == 2 else f"{n:04}.jpg" for n in range(count)]
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        colour = np.random.default_rng(number).integers(0, 256, 3, np.uint8)
        levels = np.broadcast_to(colour, (size[1], size[0], 3))
        Image.fromarray(np.ascontiguousarray(levels)).save(path, quality=95)
    return sorted(names)


def break_photo(path: Path) -> None:
    """Cut an image's file off in the middle."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
