"""Images and words for captioners of the Show and Tell code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """66 JPEG files, among them one in grey and one in CMYK; one that EXIF turns, and a PNG."""
    from tiny_im2txt import JPEGS

    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(2)
    for index in range(JPEGS + 2):
        patches = random.integers(0, 256, (random.integers(2, 6), random.integers(2, 6), 3)).astype(np.uint8)
        size = (int(random.integers(80, 400)), int(random.integers(80, 400)))
        image = Image.fromarray(patches).resize(size, Image.Resampling.BICUBIC)
        mode, ending, options = {3: "L", 4: "CMYK"}.get(index, "RGB"), "jpg", {"quality": 90}
        if index == 5:
            exif = Image.Exif()
            exif[0x0112] = 6
            options["exif"] = exif
        elif index == 6:
            ending, options = "png", {}
        image.convert(mode).save(folder / f"{index:02}.{ending}", **options)
    return folder


@pytest.fixture(scope="session")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tiny_im2txt import WORDS

    file = tmp_path_factory.mktemp("words") / "word_counts.txt"
    file.write_text("".join(f"{word} {1000 - i}\n" for i, word in enumerate(WORDS)))
    return file
