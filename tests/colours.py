"""A small made-up captioning data set that a network can really learn: two colours, one above the other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"red": (220, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 220), "white": (250, 250, 250)}


def write_colours(folder: Path, count: int = 48, dev: int = 12) -> None:
    """Write ``images/``, ``captions.txt`` (two captions an image), ``train.txt`` and ``dev.txt`` (the last ones)."""
    (folder / "images").mkdir()
    names, lines = [], []
    random = np.random.default_rng(0)
    for index in range(count):
        above, below = random.choice(list(COLOURS), 2)
        image = np.zeros((40, 40, 3), np.uint8)
        image[:20], image[20:] = COLOURS[above], COLOURS[below]
        image = (image + random.integers(-15, 16, image.shape)).clip(0, 255).astype(np.uint8)
        name = f"{index:02}.png"
        Image.fromarray(image).save(folder / "images" / name)
        names.append(name)
        lines += [f"{name}#0\t{above} above {below} .", f"{name}#1\tA {above} field over {below} ."]
    (folder / "captions.txt").write_text("\n".join(lines), encoding="utf-8")
    (folder / "train.txt").write_text("\n".join(names[:-dev]), encoding="utf-8")
    (folder / "dev.txt").write_text("\n".join(names[-dev:]), encoding="utf-8")
