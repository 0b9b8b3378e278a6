"""Smaller files: weights rounded to float16, or to int8 with a scale for each output channel, before any comparison.

The rounded model *is* the model: parity and figures are of it. Arithmetic stays float32.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from batchcap.errors import ExportError
from batchcap_export.options.bundles import Storage
from batchcap_export.training.backbones import Backbone, small_backbone
from batchcap_export.training.stepping import TrainedCaptioner

Array = NDArray[Any]
# Convolutions and matrices; biases and the scales of normalization are few and matter each.
_ROUNDED_FROM = 4096


def round_captioner(captioner: TrainedCaptioner, storage: Storage) -> TrainedCaptioner:
    """The captioner with rounded weights; the one given is spent where ``storage`` is not float32.

    Raises:
        ExportError: the backbone's normalization cannot be folded first (the converter would fold it into what is
            rounded).
    """
    if storage == "float32":
        return captioner
    backbone = fold_normalization(captioner.backbone)
    for model in (backbone.model, captioner.decoder):
        for weight in model.weights:
            if np.prod(weight.shape) >= _ROUNDED_FROM and len(weight.shape) > 1:
                weight.assign(round_weights(np.asarray(weight), storage, _output_axis(weight)))
    return replace(captioner, backbone=backbone)


def _output_axis(weight: Any) -> int:
    """Kernels end with their output channel; a word of an embedding is a row."""
    return 0 if weight.path.endswith("embeddings") else -1


def round_weights(values: Array, storage: Storage, axis: int) -> Array:
    """float32 weights -> the nearest values that ``storage`` holds exactly; int8 takes a scale along ``axis``."""
    if storage == "float16":
        return values.astype(np.float16).astype(np.float32)
    scale = _scale(values, axis)
    return np.rint(values / scale).clip(-127, 127).astype(np.float32) * scale


def _scale(values: Array, axis: int) -> Array:
    """Largest magnitude / 127 along all other axes, in 11 bits of mantissa: its product with an int8 is then exact."""
    others = tuple(i for i in range(values.ndim) if i != axis % values.ndim)
    largest = np.abs(values).max(axis=others, keepdims=True).astype(np.float32)
    mantissa, exponent = np.frexp(np.where(largest > 0, largest, np.float32(127)) / np.float32(127))
    return np.ldexp(np.rint(mantissa * 2048) / np.float32(2048), exponent).astype(np.float32)


def pack(values: Array, storage: str) -> tuple[Array, Array | None] | None:
    """The small form of rounded weights and their scale, or None where they are not exactly representable."""
    if storage == "float16":
        small = values.astype(np.float16)
        return (small, None) if np.array_equal(small.astype(np.float32), values) else None
    for axis in (0, -1):
        scale = _scale(values, axis)
        levels = np.rint(values / scale)
        if np.abs(levels).max() <= 127 and np.array_equal(levels.astype(np.float32) * scale, values):
            return levels.astype(np.int8), scale
    return None


def fold_normalization(backbone: Backbone) -> Backbone:
    """The backbone with every batch normalization inside the convolution before it; it computes the same."""
    if backbone.name != "small":
        raise ExportError(
            f"--store other than float32 needs a backbone without batch normalization; {backbone.name} may have some.",
            "Use --store float32.",
        )
    folded = small_backbone(folded=True)
    for layer in folded.layers:
        if not isinstance(layer, keras.layers.Conv2D):
            continue
        source = backbone.model.get_layer(layer.name)
        if not layer.name.endswith("_conv"):
            layer.set_weights(source.get_weights())
            continue
        normal = backbone.model.get_layer(layer.name.removesuffix("_conv") + "_bn")
        gamma, beta, mean, variance = normal.get_weights()
        factor = gamma / np.sqrt(variance + normal.epsilon)
        layer.set_weights([source.get_weights()[0] * factor, beta - mean * factor])
    return replace(backbone, model=folded)
