"""The settings of a bundle's preprocessing. `pixels.preprocess` follows them; nothing here loads NumPy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ResizeMethod = Literal["bilinear", "bilinear-antialias", "bilinear-tf1"]
Fit = Literal["stretch", "center-crop", "pad"]
PixelType = Literal["uint8", "float32"]
JpegDct = Literal["accurate", "fast"]


@dataclass(frozen=True, slots=True)
class Preprocess:
    """How a bundle turns an image into its input tensor.

    The image is stretched to ``resize_height`` x ``resize_width`` and then brought to ``height`` x ``width`` by
    ``fit``.
    """

    height: int
    """Rows of the graph's input."""
    width: int
    """Columns of the graph's input."""
    resize_height: int
    """Rows after the resize, before ``fit``."""
    resize_width: int
    """Columns after the resize, before ``fit``."""
    method: ResizeMethod = "bilinear-antialias"
    """``bilinear``: half-pixel centres, no antialias, as ``tf.image.resize``. ``bilinear-antialias``: a triangle filter
    that grows with the reduction, as Pillow's BILINEAR. ``bilinear-tf1``: no half-pixel centres, as
    ``tf.compat.v1.image.resize_bilinear``."""
    fit: Fit = "stretch"
    """``stretch``: the resize is already the input. ``center-crop``: its middle. ``pad``: black borders around it."""
    pixels: PixelType = "uint8"
    """``uint8``: rounded to whole levels. ``float32``: the resize as it comes, unrounded."""
    jpeg_dct: JpegDct = "accurate"
    """JPEG's inverse DCT: ``accurate`` equals Pillow, ``fast`` equals TensorFlow's default decoder bit for bit."""
