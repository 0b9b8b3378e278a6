"""Record what TensorFlow and Pillow 13 compute, for tests with neither: python tests/data/record_tf_resize.py."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

# Input rows and columns, output rows and columns: up, down, mixed, odd, equal, one pixel, large to small.
SIZES = [
    (7, 5, 13, 11),
    (33, 21, 10, 8),
    (20, 31, 41, 9),
    (17, 23, 17, 23),
    (1, 1, 3, 2),
    (2, 3, 1, 1),
    (101, 37, 29, 31),
    (375, 500, 21, 23),
    (333, 50, 299, 9),
    (3, 299, 2, 160),
]


def pattern(height: int, width: int) -> np.ndarray:
    """uint8 [height, width, 3] with slopes and edges everywhere, that still compresses."""
    y, x, c = np.ogrid[:height, :width, :3]
    return ((y * 13 + x * 7 + c * 61 + (x // 5) * (y // 3) * 4) % 256).astype(np.uint8)


def jpeg(image: Image.Image, **options: object) -> bytes:
    """The bytes of a JPEG file."""
    stream = io.BytesIO()
    image.save(stream, "JPEG", **options)
    return stream.getvalue()


def main() -> None:
    """Write tf_resize.npz beside this file."""
    out: dict[str, np.ndarray] = {}
    for number, (height, width, to_height, to_width) in enumerate(SIZES):
        image = pattern(height, width)
        size = (to_height, to_width)
        out[f"image_{number}"] = image
        out[f"bilinear_{number}"] = tf.image.resize(image, size, method="bilinear", antialias=False).numpy()
        pillow = Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR)
        out[f"bilinear-antialias_{number}"] = np.asarray(pillow)
        out[f"bilinear-tf1_{number}"] = tf.compat.v1.image.resize_bilinear(image[None], size)[0].numpy()
    image = Image.fromarray(pattern(53, 75)).resize((75, 53), Image.Resampling.BICUBIC, box=(0, 0, 25, 17))
    files = {
        "420": jpeg(image, quality=85),
        "444": jpeg(image, quality=90, subsampling=0),
        "progressive": jpeg(image, quality=80, progressive=True),
        "grey": jpeg(image.convert("L"), quality=85),
        "cmyk": jpeg(image.convert("CMYK"), quality=85),
    }
    # The same file without the marker by which Adobe's programs tell that they write inks inverted.
    marker = files["cmyk"].index(b"\xff\xee\x00\x0eAdobe")
    files["inks"] = files["cmyk"][:marker] + files["cmyk"][marker + 16 :]
    for name, data in files.items():
        out[f"jpeg_{name}"] = np.frombuffer(data, np.uint8)
        out[f"decoded_{name}"] = tf.io.decode_jpeg(data, channels=3).numpy()
    np.savez_compressed(Path(__file__).with_name("tf_resize.npz"), **out)


if __name__ == "__main__":
    main()
