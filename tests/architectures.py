"""Captioners of the real architectures with random weights, scaled so that captions differ from image to image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from batchcap.bundle.vocabulary import Vocabulary
from batchcap_export.data.texts import ENGLISH
from batchcap_export.data.words import SPECIAL
from batchcap_export.model.caption_model import CaptionModel
from batchcap_export.options.training import TrainOptions
from batchcap_export.training.backbones import Backbone, load_backbone
from batchcap_export.training.finished_run import trained_model
from batchcap_export.training.trained_captioner import TrainedCaptioner, build_decoder, preprocessing

WORDS = 300
UNITS = 64
MARKS = ENGLISH.no_space_before
_NOWHERE = Path("nowhere")


def options_of(architecture: str = "attention-gru", **own: Any) -> TrainOptions:
    """Training options that train nothing."""
    return TrainOptions(
        images=_NOWHERE,
        captions=_NOWHERE,
        train_split=_NOWHERE,
        dev_split=_NOWHERE,
        architecture=architecture,
        units=UNITS,
        **own,
    )


def random_captioner(options: TrainOptions, backbone: str = "small", size: int | None = None) -> TrainedCaptioner:
    """A captioner of `WORDS` words, some of them punctuation; what is seen decides which come."""
    keras.utils.set_random_seed(11)
    network = _varied(tiny_backbone() if backbone == "tiny" else load_backbone(backbone, size=size))
    decoder = build_decoder(options, WORDS, network.features)
    random = np.random.default_rng(5)
    for weight in decoder.weights:
        if weight.path.endswith("embeddings") or weight.path.endswith("words/kernel"):
            weight.assign(weight * 12)
        elif weight.path.endswith("first_state"):
            weight.assign(random.normal(0, 0.5, weight.shape))
    others = (*SPECIAL, *MARKS)
    vocabulary = Vocabulary((*others, *(f"word{i}" for i in range(WORDS - len(others)))))
    return TrainedCaptioner(network, decoder, vocabulary, preprocessing(network))


def tiny_backbone() -> Backbone:
    """Two convolutions, for what does not depend on the network: float32 [B, 32, 32, 3] -> float32 [B, 2, 2, 24]."""
    image = keras.Input((32, 32, 3), name="image")
    x = layers.Rescaling(1 / 127.5, offset=-1.0)(image)
    for channels in (16, 24):
        x = layers.ReLU()(layers.Conv2D(channels, 3, strides=4, padding="same")(x))
    return Backbone(keras.Model(image, x), "tiny", 32, 32, (2, 2), 24)


def random_model(options: TrainOptions, backbone: str = "small", size: int | None = None) -> CaptionModel:
    """The same, ready to be converted."""
    return trained_model(random_captioner(options, backbone, size), options, {"epochs": 0})


def _varied(backbone: Backbone) -> Backbone:
    """Features of a random network hardly vary: what they have in common is taken out, the rest is made large."""
    probe = np.random.default_rng(5).integers(0, 256, (12, 4, 4, 3)).astype(np.float32)
    probe = ops.image.resize(probe, (backbone.height, backbone.width))
    features = np.asarray(backbone.model(probe, training=False)).reshape(-1, backbone.features)
    mean, scale = features.mean(axis=0), 1 / max(float(features.std(axis=0).mean()), 1e-6)
    if backbone.name == "small":
        # Inside its last layer: rounding takes the network apart by its layers.
        last = backbone.model.get_layer("features")
        last.set_weights([last.kernel.numpy() * scale, (last.bias.numpy() - mean) * scale])
        return backbone
    centred = layers.Rescaling(scale, offset=(-mean * scale).tolist())(backbone.model.output)
    return replace(backbone, model=keras.Model(backbone.model.input, centred))
