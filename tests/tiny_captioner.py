"""A source for `batchcap export`: attention-gru on a backbone of two convolutions, random weights, varied captions."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np

from batchcap.bundle.vocabulary import Vocabulary
from batchcap_export.architectures.attention_gru import AttentionGRU
from batchcap_export.data.words import SPECIAL
from batchcap_export.model.caption_model import CaptionModel
from batchcap_export.options.training import TrainOptions
from batchcap_export.training.backbones import Backbone
from batchcap_export.training.finished_run import trained_model
from batchcap_export.training.trained_captioner import TrainedCaptioner, preprocessing

NOWHERE = Path("nowhere")


def captioner(seed: int = 11, words: int = 40) -> CaptionModel:
    keras.utils.set_random_seed(seed)
    image = keras.Input((32, 32, 3))
    x = keras.layers.Rescaling(1 / 127.5, offset=-1.0)(image)
    for channels in (16, 24):
        x = keras.layers.Conv2D(channels, 3, strides=4, padding="same", use_bias=False)(x)
        x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    backbone = Backbone(keras.Model(image, x), "tiny", 32, 32, (2, 2), 24)
    vocabulary = Vocabulary((*SPECIAL, *(f"word{i}" for i in range(words))))
    decoder = AttentionGRU(len(vocabulary), 16, tied=True)
    decoder.build(((None, None, backbone.features), (None, None)))
    decoder.embedding.embeddings.assign(decoder.embedding.embeddings * 25)
    # Features of a random network hardly vary: what they have in common is taken out, the rest is made large.
    probe = np.random.default_rng(5).integers(0, 256, (12, 32, 32, 3)).astype(np.float32)
    features = backbone.model(probe, training=False).numpy().reshape(-1, backbone.features)
    kernel = decoder.regions.kernel / features.std(axis=0).mean()
    decoder.regions.kernel.assign(kernel)
    decoder.regions.bias.assign(-(features.mean(axis=0) @ kernel.numpy()))
    options = TrainOptions(images=NOWHERE, captions=NOWHERE, train_split=NOWHERE, dev_split=NOWHERE, max_length=6)
    return trained_model(
        TrainedCaptioner(backbone, decoder, vocabulary, preprocessing(backbone)), options, {"epochs": 0}
    )


def retrained() -> CaptionModel:
    """The same, but for its weights."""
    return captioner(seed=12)


def larger() -> CaptionModel:
    """With another vocabulary."""
    return captioner(words=41)
