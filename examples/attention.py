"""Where the model looks while it says each word: ``python examples/attention.py PHOTO [-o attention.png]``.

Writes a PNG: the photo with its caption, then the photo once for each word, in its colours where the model looked most
and dark and grey where it looked least. Each word has a scale of its own, from its least weight to its largest.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from batchcap import BatchcapError, Captioner
from batchcap.images.decode import decode_image
from batchcap.images.preprocess import Preprocess

COLUMNS: Final = 4
TILE_WIDTH: Final = 320
MARGIN: Final = 12
TEXT_HEIGHT: Final = 34
# What is left of the image's light where a word looked least.
DIM: Final = 0.2


def seen_part(photo: NDArray[np.uint8], how: Preprocess) -> Image.Image:
    """The part of the photo [h, w, 3] that the regions divide: less than all of it after a crop, black around a pad."""
    scale_y, scale_x = photo.shape[0] / how.resize_height, photo.shape[1] / how.resize_width
    top, left = (how.resize_height - how.height) // 2, (how.resize_width - how.width) // 2
    box = (left * scale_x, top * scale_y, (left + how.width) * scale_x, (top + how.height) * scale_y)
    return Image.fromarray(photo).crop(tuple(round(side) for side in box))


def lit(image: Image.Image, weights: NDArray[np.float32]) -> Image.Image:
    """The image, lit by ``weights`` [rows, columns]."""
    scaled = (weights - weights.min()) / max(np.ptp(weights), np.finfo(np.float32).tiny)
    lamp = Image.fromarray(scaled).resize(image.size, Image.Resampling.BICUBIC)
    light = np.clip(np.asarray(lamp), 0, 1)[:, :, None]
    dark = DIM * np.asarray(image.convert("L"), np.float32)[:, :, None]
    return Image.fromarray((dark + light * (np.asarray(image) - dark)).astype(np.uint8))


def grid_of(tiles: list[tuple[str, Image.Image]], title: str) -> Image.Image:
    """The tiles row by row, each under its word, all under the title."""
    width, height = tiles[0][1].size
    columns = min(COLUMNS, len(tiles))
    step_x, step_y = width + MARGIN, height + TEXT_HEIGHT + MARGIN
    rows = -(-len(tiles) // columns)
    sheet = Image.new("RGB", (MARGIN + columns * step_x, TEXT_HEIGHT + MARGIN + rows * step_y), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(22)
    draw.text((MARGIN, MARGIN), title, "black", font)
    for index, (word, tile) in enumerate(tiles):
        left, top = MARGIN + index % columns * step_x, TEXT_HEIGHT + MARGIN + index // columns * step_y
        draw.text((left, top + 4), word, "black", font)
        sheet.paste(tile, (left, top + TEXT_HEIGHT))
    return sheet


def main() -> None:
    """Caption one photo and draw it."""
    parser = argparse.ArgumentParser(description="Draw where the model looks while it says each word.")
    parser.add_argument("photo", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path("attention.png"), help="the PNG to write")
    parser.add_argument("--model", default="flickr8k-small", help="an embedded bundle, or a bundle's folder")
    chosen = parser.parse_args()
    captioner = Captioner.load(chosen.model)
    manifest = captioner.bundle.manifest
    photo = decode_image(chosen.photo.read_bytes(), manifest.preprocess.jpeg_dct)
    (found,) = captioner.caption([photo], attention=True)
    if manifest.attention_grid is None:
        raise SystemExit(f"{chosen.model}: its manifest does not say how the regions lie (attention_grid).")
    seen = seen_part(photo, manifest.preprocess)
    small = seen.resize((TILE_WIDTH, round(TILE_WIDTH * seen.height / seen.width)), Image.Resampling.LANCZOS)
    words = [captioner.bundle.vocabulary.words[token] for token in found.tokens[0]]
    looks = found.attention[0].reshape(-1, *manifest.attention_grid)
    tiles = [("", small), *((word, lit(small, look)) for word, look in zip(words, looks, strict=True))]
    grid_of(tiles, found.captions[0].caption).save(chosen.output, "PNG")
    print(f"{chosen.output}: {found.captions[0].caption}")


if __name__ == "__main__":
    try:
        main()
    except (BatchcapError, OSError) as error:
        raise SystemExit(str(error)) from None
