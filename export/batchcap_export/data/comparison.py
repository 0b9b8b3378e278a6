"""Whether there are enough images to compare a bundle with its original."""

from __future__ import annotations

from batchcap.errors import ExportError
from batchcap.tools.comparison import COMPARED_IMAGES


def check_count(images: int) -> None:
    """Raise an ExportError where there are fewer than `COMPARED_IMAGES` to compare on."""
    if images < COMPARED_IMAGES:
        raise ExportError(
            f"The comparison needs {COMPARED_IMAGES} images, not {images}.", "Name a folder with more: --images."
        )
