"""Inception V3 (Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", 2015) by its table.

The names are those of the variables in checkpoints of the slim library, with its quirks: ``Mixed_6a/.../Conv2d_1a_1x1``
is a 3x3 convolution, and ``Conv_1_0c_5x5`` stands where a ``Conv2d_0c_5x5`` would.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import tensorflow as tf

SCOPE = "InceptionV3"


@dataclass(frozen=True, slots=True)
class Layer:
    """A convolution with batch normalization and ReLU, or a pool."""

    name: str
    channels: int
    """As published; 0: a pool."""
    kernel: tuple[int, int]
    stride: int
    padding: str


Convolve: TypeAlias = Callable[[str, Layer, Any], Any]
"""A convolution's full name, what it is, its input [B, H, W, C] -> its output, normalized and rectified."""


def _layer(name: str, channels: int = 0, kernel: tuple[int, int] | None = None, stride: int = 1) -> Layer:
    rows, columns = kernel or (int(size) for size in name.rsplit("_", 1)[1].split("x"))
    return Layer(name, channels, (rows, columns), stride, "SAME")


def _valid(name: str, channels: int = 0, kernel: tuple[int, int] | None = None, stride: int = 1) -> Layer:
    same = _layer(name, channels, kernel, stride)
    return Layer(same.name, same.channels, same.kernel, same.stride, "VALID")


def _row(*layers: tuple[str, int]) -> tuple[Layer, ...]:
    return tuple(_layer(name, channels) for name, channels in layers)


def _pooled(channels: int) -> tuple[Layer, ...]:
    return _layer("AvgPool_0a_3x3"), _layer("Conv2d_0b_1x1", channels)


_REDUCED = (_valid("MaxPool_1a_3x3", stride=2),)


def _block_35(pooled: int, narrow: str = "Conv2d_0a_1x1", wide: str = "Conv2d_0b_5x5") -> tuple[Any, ...]:
    return (
        _row(("Conv2d_0a_1x1", 64)),
        _row((narrow, 48), (wide, 64)),
        _row(("Conv2d_0a_1x1", 64), ("Conv2d_0b_3x3", 96), ("Conv2d_0c_3x3", 96)),
        _pooled(pooled),
    )


def _block_17(channels: int) -> tuple[Any, ...]:
    return (
        _row(("Conv2d_0a_1x1", 192)),
        _row(("Conv2d_0a_1x1", channels), ("Conv2d_0b_1x7", channels), ("Conv2d_0c_7x1", 192)),
        _row(
            ("Conv2d_0a_1x1", channels),
            ("Conv2d_0b_7x1", channels),
            ("Conv2d_0c_1x7", channels),
            ("Conv2d_0d_7x1", channels),
            ("Conv2d_0e_1x7", 192),
        ),
        _pooled(192),
    )


def _block_8(upright: str) -> tuple[Any, ...]:
    # A row within a row: its layers stand side by side, and their outputs are joined.
    return (
        _row(("Conv2d_0a_1x1", 320)),
        (_layer("Conv2d_0a_1x1", 384), _row(("Conv2d_0b_1x3", 384), (upright, 384))),
        (
            *_row(("Conv2d_0a_1x1", 448), ("Conv2d_0b_3x3", 384)),
            _row(("Conv2d_0c_1x3", 384), ("Conv2d_0d_3x1", 384)),
        ),
        _pooled(192),
    )


_STEM = (
    _valid("Conv2d_1a_3x3", 32, stride=2),
    _valid("Conv2d_2a_3x3", 32),
    _layer("Conv2d_2b_3x3", 64),
    _valid("MaxPool_3a_3x3", stride=2),
    _valid("Conv2d_3b_1x1", 80),
    _valid("Conv2d_4a_3x3", 192),
    _valid("MaxPool_5a_3x3", stride=2),
)
_BLOCKS = {
    "Mixed_5b": _block_35(32),
    "Mixed_5c": _block_35(64, "Conv2d_0b_1x1", "Conv_1_0c_5x5"),
    "Mixed_5d": _block_35(64),
    "Mixed_6a": (
        (_valid("Conv2d_1a_1x1", 384, (3, 3), 2),),
        (*_row(("Conv2d_0a_1x1", 64), ("Conv2d_0b_3x3", 96)), _valid("Conv2d_1a_1x1", 96, (3, 3), 2)),
        _REDUCED,
    ),
    "Mixed_6b": _block_17(128),
    "Mixed_6c": _block_17(160),
    "Mixed_6d": _block_17(160),
    "Mixed_6e": _block_17(192),
    "Mixed_7a": (
        (_layer("Conv2d_0a_1x1", 192), _valid("Conv2d_1a_3x3", 320, stride=2)),
        (
            *_row(("Conv2d_0a_1x1", 192), ("Conv2d_0b_1x7", 192), ("Conv2d_0c_7x1", 192)),
            _valid("Conv2d_1a_3x3", 192, stride=2),
        ),
        _REDUCED,
    ),
    "Mixed_7b": _block_8("Conv2d_0b_3x1"),
    "Mixed_7c": _block_8("Conv2d_0c_3x1"),
}


def inception_v3(images: Any, convolve: Convolve) -> Any:
    """The last feature map [B, rows, columns, C] of images [B, H, W, 3] in -1..1."""
    out = _line(images, _STEM, SCOPE, convolve)
    for block, branches in _BLOCKS.items():
        scope = f"{SCOPE}/{block}/Branch_"
        out = tf.concat([_line(out, layers, f"{scope}{n}", convolve) for n, layers in enumerate(branches)], 3)
    return out


def _line(given: Any, layers: tuple[Any, ...], scope: str, convolve: Convolve) -> Any:
    out = given
    for layer in layers:
        if isinstance(layer, tuple):
            out = tf.concat([_line(out, (beside,), scope, convolve) for beside in layer], 3)
        elif layer.channels:
            out = convolve(f"{scope}/{layer.name}", layer, out)
        else:
            pool = tf.nn.max_pool2d if layer.name.startswith("Max") else tf.nn.avg_pool2d
            out = pool(out, layer.kernel, layer.stride, layer.padding)
    return out
