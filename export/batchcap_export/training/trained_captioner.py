"""A captioner that was trained here, in Keras."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from batchcap.bundle.vocabulary import Vocabulary
from batchcap.images.preprocess import Preprocess
from batchcap_export.architectures.table import ARCHITECTURES, Architecture
from batchcap_export.model.caption_model import Tensors
from batchcap_export.options.training import TrainOptions
from batchcap_export.training.backbones import Backbone


@dataclass(frozen=True, slots=True)
class TrainedCaptioner:
    """A whole captioner in Keras: pixels to words."""

    backbone: Backbone
    decoder: Architecture
    vocabulary: Vocabulary
    preprocess: Preprocess

    def encode(self, image: Any) -> tuple[Tensors, Tensors]:
        """Pixels [B, H, W, 3] of the preprocessing's type -> states and memories [B, ...]."""
        features = self.backbone.model(tf.cast(image, tf.float32), training=False)
        return self.begin(features)

    def step(self, token: Any, states: Tensors, memories: Tensors) -> tuple[Any, Tensors, Any]:
        """One step, as `architectures.table.Architecture.step`."""
        return self.decoder.step(token, states, memories)

    def begin(self, features: Any) -> tuple[Tensors, Tensors]:
        """A feature map [B, rows, columns, F] or its regions [B, R, F] -> states and memories [B, ...]."""
        regions = self.backbone.grid[0] * self.backbone.grid[1]
        return self.decoder.begin(tf.reshape(features, (-1, regions, self.backbone.features)))


def parameters(*models: keras.Model) -> int:
    """Weights of the models, all together."""
    return sum(int(model.count_params()) for model in models)


def build_decoder(options: TrainOptions, vocabulary_size: int, features: int) -> Any:
    """The decoder that ``options`` describe, with fresh weights."""
    make = ARCHITECTURES[options.architecture]
    decoder = make(vocabulary_size, options.units, tuple(options.dropout), **options.own_options(), name="decoder")
    decoder.build(((None, None, features), (None, None)))
    return decoder


def preprocessing(backbone: Backbone) -> Preprocess:
    """What captioners trained here are fed: the whole image, antialiased, as uint8."""
    return Preprocess(backbone.height, backbone.width, backbone.height, backbone.width)
