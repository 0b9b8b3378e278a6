"""A trained captioner with rounded weights. The bundle is compared with the rounded model, and scored as such."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import keras
import numpy as np

from batchcap.errors import ExportError
from batchcap_export.convert.rounding import round_weights
from batchcap_export.options.bundles import Storage
from batchcap_export.training.backbones import Backbone, small_backbone
from batchcap_export.training.trained_captioner import TrainedCaptioner

# Convolutions and matrices; biases and the scales of normalization are few and matter each.
_ROUNDED_FROM = 4096


def round_captioner(captioner: TrainedCaptioner, storage: Storage) -> TrainedCaptioner:
    """The captioner with rounded weights; the one given is changed and must not be used again, unless float32.

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
    """The axis of the output channels: the last of a kernel, the first (a row a word) of an embedding."""
    return 0 if weight.path.endswith("embeddings") else -1


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
