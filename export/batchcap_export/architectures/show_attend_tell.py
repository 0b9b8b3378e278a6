"""``show-attend-tell``: Xu et al. 2015, "Show, Attend and Tell", with soft attention.

Before each word an LSTM (Hochreiter and Schmidhuber 1997) weighs the regions of the feature map by additive attention
(Bahdanau et al. 2015), reads the weighted mean through a gate of its own (beta), and the word, its output and that
context together choose the next word (deep output, Pascanu et al. 2014).
"""

from __future__ import annotations

from typing import Any, ClassVar

import keras
import tensorflow as tf
from keras import layers, ops

from batchcap.errors import ExportError
from batchcap_export.data.words import END, PADDING, SPECIAL


@keras.saving.register_keras_serializable("batchcap")
class ShowAttendTell(keras.Model):
    """The decoder half of the captioner; the encoder is a backbone.

    Args:
        vocabulary_size: V, special tokens included.
        units: D, the width of the embedding, of the LSTM and of the attention.
        dropout: rates on the word embeddings, the regions and the deep output, while training.
        doubly_stochastic: lambda of the paper: how strongly training wants every region to get as much attention over
            the whole caption as every other, in all 1; see `attention_penalty`.
    """

    attends: ClassVar[bool] = True

    def __init__(
        self,
        vocabulary_size: int,
        units: int = 512,
        dropout: tuple[float, float, float] = (0.3, 0.3, 0.5),
        doubly_stochastic: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if vocabulary_size < 2 or units < 1:
            raise ExportError(f"show-attend-tell: {vocabulary_size} words and {units} units cannot work.")
        self.units, self.doubly_stochastic = units, doubly_stochastic
        self.first_output = layers.Dense(units, activation="tanh", name="first_output")
        self.first_cell = layers.Dense(units, activation="tanh", name="first_cell")
        self.keys = layers.Dense(units, name="keys")
        self.query = layers.Dense(units, use_bias=False, name="query")
        self.energy = layers.Dense(1, use_bias=False, name="energy")
        self.gate = layers.Dense(1, activation="sigmoid", name="gate")
        self.embedding = layers.Embedding(vocabulary_size, units, name="embedding")
        self.cell = layers.LSTMCell(units, name="lstm")
        self.from_output = layers.Dense(units, name="from_output")
        self.from_context = layers.Dense(units, use_bias=False, name="from_context")
        self.words = layers.Dense(vocabulary_size, name="words")
        self.embedding_dropout = layers.Dropout(dropout[0])
        self.region_dropout = layers.Dropout(dropout[1])
        self.output_dropout = layers.Dropout(dropout[2])

    def build(self, input_shape: Any) -> None:
        """Make all weights; ``input_shape`` is that of `call`: ([B, R, F], [B, T])."""
        features = input_shape[0][-1]
        for layer in (self.first_output, self.first_cell, self.keys, self.from_context):
            layer.build((None, None, features))
        for layer in (self.query, self.energy, self.gate, self.from_output, self.words):
            layer.build((None, None, self.units))
        self.embedding.build((None, None))
        self.cell.build((None, self.units + features))
        self.built = True

    def begin(self, features: Any, training: bool = False) -> tuple[dict[str, Any], dict[str, Any]]:
        """Features [B, R, F] -> {"h", "c": [B, D]}, {"values": [B, R, F], "keys": [B, R, D]}."""
        values = self.region_dropout(features, training=training)
        mean = ops.mean(values, axis=1)
        states = {"h": self.first_output(mean), "c": self.first_cell(mean)}
        return states, {"values": values, "keys": self.keys(values)}

    def call(self, inputs: tuple[Any, Any], training: bool = False) -> Any:
        """Features [B, R, F] and the words so far [B, T] -> logits [B, T, V] of each next word (teacher forcing)."""
        features, tokens = inputs
        states, memories = self.begin(features, training)
        words = self.embedding_dropout(self.embedding(tokens), training=training)

        def one(before: tuple[Any, ...], word: Any) -> tuple[Any, ...]:
            following = self._advance(word[:, None], {"h": before[0][:, None], "c": before[1][:, None]}, memories)
            return tuple(tensor[:, 0] for tensor in following)

        # tf.scan collects what it carries: context and attention are carried for that alone.
        values = memories["values"]
        first = (states["h"], states["c"], ops.zeros_like(values[:, 0]), ops.zeros_like(values[..., 0]))
        scanned = tf.scan(one, ops.transpose(words, (1, 0, 2)), first)
        h, _, context, attention = (ops.transpose(tensor, (1, 0, 2)) for tensor in scanned)
        if training and self.doubly_stochastic:
            self.add_loss(self.doubly_stochastic * attention_penalty(attention, tokens))
        return self._logits(words, h, context, training)

    def step(self, token: Any, states: dict[str, Any], memories: dict[str, Any]) -> tuple[Any, dict[str, Any], Any]:
        """One word on: tokens [B, K], h and c [B, K, D] -> logits [B, K, V], next states, attention [B, K, R]."""
        # A plain Gather: the layer also wraps negative ids around, which converts to eight more nodes.
        word = tf.gather(self.embedding.embeddings, token)
        h, c, context, attention = self._advance(word, states, memories)
        return self._logits(word, h, context, False), {"h": h, "c": c}, attention

    def _advance(self, word: Any, states: dict[str, Any], memories: dict[str, Any]) -> tuple[Any, Any, Any, Any]:
        """Words [B, K, D] -> h and c [B, K, D], gated context [B, K, F], attention [B, K, R].

        Attention and gate follow from the state before the word; memory is not copied for each beam.
        """
        values, keys, beams = memories["values"], memories["keys"], ops.shape(word)[1]
        query = self.query(states["h"])
        energy = self.energy(ops.tanh(keys[:, None] + query[:, :, None]))
        # The product loses the number of regions: it is read from the graph.
        attention = ops.softmax(ops.reshape(energy, (-1, beams, keys.shape[1])), axis=-1)
        context = self.gate(states["h"]) * ops.matmul(attention, values)
        rows = ops.reshape(ops.concatenate([word, context], axis=-1), (-1, self.units + values.shape[-1]))
        _, following = self.cell(rows, [ops.reshape(states[name], (-1, self.units)) for name in ("h", "c")])
        h, c = (ops.reshape(state, (-1, beams, self.units)) for state in following)
        return h, c, context, attention

    def _logits(self, word: Any, h: Any, context: Any, training: bool) -> Any:
        """Words and h [B, T, D], gated contexts [B, T, F] -> logits [B, T, V]."""
        deep = ops.tanh(word + self.from_output(h) + self.from_context(context))
        return self.words(self.output_dropout(deep, training=training))


def attention_penalty(attention: Any, tokens: Any) -> Any:
    """sum_i (1 - sum_t alpha_ti)^2 (Xu et al. 2015, section 4.2.1), for each word, as the cross-entropy is.

    Args:
        attention: [B, T, R], the weights of each word's prediction.
        tokens: [B, T], the words before: what follows ``<end>`` or padding is no word, and does not count.

    Returns:
        A scalar: the penalties of all captions over the number of all words that are predicted.
    """
    real = (tokens != SPECIAL.index(PADDING)) & (tokens != SPECIAL.index(END))
    real = ops.cast(real, attention.dtype)
    looked = ops.sum(attention * real[..., None], axis=1)
    return ops.sum(ops.square(1 - looked)) / ops.sum(real)
