"""A captioner that was trained here: its networks as the functions that are exported, and its steps without ONNX."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from batchcap.decoding.types import Ids, StepOutput, Stepper
from batchcap_export.model.beams import next_words
from batchcap_export.model.caption_model import Step, Tensors


class KerasDecoder:
    """A decoder as `batchcap.runtime.decoder.Decoder`, in Keras: how training captions without ONNX."""

    def __init__(self, step: Step) -> None:
        # Traced once for the first step and once for the others, whatever the batch.
        self._next = tf.function(
            lambda token, parent, shown, states, memories: next_words(step, token, parent, shown, states, memories),
            reduce_retracing=True,
        )

    def start(self, states: Tensors, memories: Tensors) -> KerasStepper:
        """Begin to caption the images of states and memories [B, ...]."""
        return KerasStepper(self._next, states, memories)


class KerasStepper(Stepper):
    """A Keras decoder that is captioning one batch."""

    def __init__(self, following: Callable[..., Any], states: Tensors, memories: Tensors) -> None:
        self._next, self._memories = following, memories
        self._states = {name: state[:, None] for name, state in states.items()}

    def step(self, token: Ids, parent: Ids, *, candidates: int, attention: bool = False) -> StepOutput:
        """See `batchcap.decoding.types.Stepper.step`."""
        shown = tf.constant(candidates)
        result = self._next(tf.constant(token), tf.constant(parent), shown, self._states, self._memories)
        self._states = result[2]
        weights = np.asarray(result[3]) if attention and result[3] is not None else None
        return StepOutput(np.asarray(result[0]), np.asarray(result[1]), weights)

    def select(self, rows: NDArray[np.intp]) -> None:
        """Keep these images only."""
        keep = tf.constant(rows)
        self._states = {name: tf.gather(state, keep) for name, state in self._states.items()}
        self._memories = {name: tf.gather(memory, keep) for name, memory in self._memories.items()}
