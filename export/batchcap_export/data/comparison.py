"""How many images a comparison of a bundle with its original needs."""

from __future__ import annotations

from typing import Final

from batchcap.errors import ExportError

MIN_IMAGES: Final = 64
"""Fewer captions prove too little."""


def check_count(images: int) -> None:
    """Raise an ExportError where there are fewer than `MIN_IMAGES` to compare on."""
    if images < MIN_IMAGES:
        raise ExportError(
            f"The comparison needs {MIN_IMAGES} images, not {images}.", "Name a folder with more: --images."
        )
