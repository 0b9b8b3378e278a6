"""A captioner that was trained here: its networks as the functions that are exported, and its steps without ONNX."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from batchcap.bundle.vocabulary import Vocabulary
from batchcap.images.preprocess import Preprocess
from batchcap_export.architectures.table import Architecture
from batchcap_export.model.beams import next_words
from batchcap_export.model.captioner import Step, Tensors
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
        """One word on, as `architectures.Architecture.step`."""
        return self.decoder.step(token, states, memories)

    def begin(self, features: Any) -> tuple[Tensors, Tensors]:
        """A feature map [B, rows, columns, F] or its regions [B, R, F] -> states and memories [B, ...]."""
        regions = self.backbone.grid[0] * self.backbone.grid[1]
        return self.decoder.begin(tf.reshape(features, (-1, regions, self.backbone.features)))


class KerasDecoder:
    """A decoder as `batchcap.runtime.sessions.Decoder`, in Keras: how training captions without ONNX."""

    def __init__(self, step: Step, candidates: int) -> None:
        # Traced once for the first step and once for the others, whatever the batch.
        self._next = tf.function(
            lambda token, parent, shown, states, memories: next_words(step, token, parent, shown, states, memories),
            reduce_retracing=True,
        )
        self._candidates = candidates

    def start(self, states: Tensors, memories: Tensors) -> KerasStepper:
        """The steps of a batch: states and memories [B, ...]."""
        return KerasStepper(self._next, self._candidates, states, memories)


class KerasStepper:
    """The step protocol of `batchcap.decoding.search` over a Keras decoder."""

    def __init__(self, following: Callable[..., Any], candidates: int, states: Tensors, memories: Tensors) -> None:
        self._next, self._candidates, self._memories = following, candidates, memories
        self._states = {name: state[:, None] for name, state in states.items()}

    def step(
        self,
        token: NDArray[np.int64],
        parent: NDArray[np.int64],
        *,
        attention: bool = False,
        candidates: int | None = None,
    ) -> Any:
        """See `batchcap.runtime.sessions.Stepper.step`."""
        from batchcap.runtime.sessions import StepOutput

        shown = tf.constant(self._candidates if candidates is None else candidates)
        result = self._next(tf.constant(token), tf.constant(parent), shown, self._states, self._memories)
        self._states = result[2]
        looked = np.asarray(result[3]) if attention and result[3] is not None else None
        return StepOutput(np.asarray(result[0]), np.asarray(result[1]), looked)

    def select(self, rows: NDArray[np.int64]) -> None:
        """Keep these images only."""
        keep = tf.constant(rows)
        self._states = {name: tf.gather(state, keep) for name, state in self._states.items()}
        self._memories = {name: tf.gather(memory, keep) for name, memory in self._memories.items()}


def parameters(*models: keras.Model) -> int:
    """Weights of the models, all together."""
    return sum(int(model.count_params()) for model in models)
