"""``show-and-tell``: Vinyals et al. 2015, "Show and Tell: A Neural Image Caption Generator".

The mean of the feature map, projected, is what an LSTM (Hochreiter and Schmidhuber 1997) reads before the first word;
from then on it reads words, and a Dense projects its output on the vocabulary. Nothing looks at the image again.
"""

from __future__ import annotations

from typing import Any, ClassVar

import keras
import tensorflow as tf
from keras import layers, ops

from batchcap.errors import ExportError

_IMAGE_AS = ("input", "state")


@keras.saving.register_keras_serializable("batchcap")
class ShowAndTell(keras.Model):
    """The decoder half of the captioner; the encoder is a backbone.

    Args:
        vocabulary_size: V, special tokens included.
        units: D, the width of the embedding, of the projected image and of the LSTM.
        dropout: rates on the word embeddings, the regions and the LSTM's output, while training.
        image_as: ``input``, as in the paper: the LSTM takes a step on the image; or ``state``: two projections of the
            image are the LSTM's first state.
    """

    attends: ClassVar[bool] = False

    def __init__(
        self,
        vocabulary_size: int,
        units: int = 512,
        dropout: tuple[float, float, float] = (0.3, 0.3, 0.5),
        image_as: str = "input",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if vocabulary_size < 2 or units < 1:
            raise ExportError(f"show-and-tell: {vocabulary_size} words and {units} units cannot work.")
        if image_as not in _IMAGE_AS:
            raise ExportError(f"--image-as {image_as}: not known.", f"Known: {', '.join(_IMAGE_AS)}.")
        self.units, self.image_as = units, image_as
        if image_as == "input":
            self.image = layers.Dense(units, name="image")
        else:
            self.first_output = layers.Dense(units, activation="tanh", name="first_output")
            self.first_cell = layers.Dense(units, name="first_cell")
        self.embedding = layers.Embedding(vocabulary_size, units, name="embedding")
        self.lstm = layers.LSTM(units, return_sequences=True, name="lstm")
        self.words = layers.Dense(vocabulary_size, name="words")
        self.embedding_dropout = layers.Dropout(dropout[0])
        self.region_dropout = layers.Dropout(dropout[1])
        self.output_dropout = layers.Dropout(dropout[2])

    def build(self, input_shape: Any) -> None:
        """Make all weights; ``input_shape`` is that of `call`: ([B, R, F], [B, T])."""
        for layer in [self.image] if self.image_as == "input" else [self.first_output, self.first_cell]:
            layer.build((None, input_shape[0][-1]))
        self.embedding.build((None, None))
        self.lstm.build((None, None, self.units))
        self.words.build((None, None, self.units))
        self.built = True

    def begin(self, features: Any, training: bool = False) -> tuple[dict[str, Any], dict[str, Any]]:
        """Features [B, R, F] -> {"h": [B, D], "c": [B, D]}: the state before the first word; no memory."""
        # Before the mean: after it, dropping a channel would drop it for the whole image.
        mean = ops.mean(self.region_dropout(features, training=training), axis=1)
        if self.image_as == "state":
            return {"h": self.first_output(mean), "c": self.first_cell(mean)}, {}
        image = self.image(mean)
        # Built from the image, so that the batch size of the zeros is the batch size of the images.
        zeros = ops.zeros_like(image)
        _, (h, c) = self.lstm.cell(image, [zeros, zeros])
        return {"h": h, "c": c}, {}

    def call(self, inputs: tuple[Any, Any], training: bool = False) -> Any:
        """Features [B, R, F] and the words so far [B, T] -> logits [B, T, V] of each next word (teacher forcing)."""
        features, tokens = inputs
        states, _ = self.begin(features, training)
        words = self.embedding_dropout(self.embedding(tokens), training=training)
        output = self.lstm(words, initial_state=[states["h"], states["c"]], training=training)
        return self.words(self.output_dropout(output, training=training))

    def step(self, token: Any, states: dict[str, Any], memories: dict[str, Any]) -> tuple[Any, dict[str, Any], None]:
        """One word on: tokens [B, K], h and c [B, K, D] -> logits [B, K, V], next states; there is no attention.

        Calls the LSTM's cell: the layer would become a loop in the graph.
        """
        del memories
        beams = ops.shape(token)[1]
        # A plain Gather: the layer also wraps negative ids around, which converts to eight more nodes.
        word = ops.reshape(tf.gather(self.embedding.embeddings, token), (-1, self.units))
        rows = [ops.reshape(states[name], (-1, self.units)) for name in ("h", "c")]
        _, following = self.lstm.cell(word, rows)
        h, c = (ops.reshape(state, (-1, beams, self.units)) for state in following)
        return self.words(h), {"h": h, "c": c}, None
