"""``attention-gru``: the captioner of Google's "image captioning with visual attention" lab.

Region features through a Dense with ReLU; words through an embedding and a GRU (Cho et al. 2014), whose output asks the
regions by dot product (Luong et al. 2015); GRU output and context are added, normalized, and projected on the
vocabulary.
"""

from __future__ import annotations

from typing import Any, ClassVar

import keras
import tensorflow as tf
from keras import layers, ops

from batchcap.errors import ExportError


@keras.saving.register_keras_serializable("batchcap")
class AttentionGRU(keras.Model):
    """The decoder half of the captioner; the encoder is a backbone.

    Args:
        vocabulary_size: V, special tokens included.
        units: D, the width of everything.
        dropout: rates on the word embeddings, the regions and the normalized output, while training.
        tied: project on the vocabulary with the embedding's own matrix (Press and Wolf 2017), plus a bias.
        learned_state: the GRU starts from a trained vector instead of zeros.
    """

    attends: ClassVar[bool] = True

    def __init__(
        self,
        vocabulary_size: int,
        units: int = 512,
        dropout: tuple[float, float, float] = (0.3, 0.3, 0.5),
        tied: bool = False,
        learned_state: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if vocabulary_size < 2 or units < 1:
            raise ExportError(f"attention-gru: {vocabulary_size} words and {units} units cannot work.")
        self.vocabulary_size, self.units, self.tied, self.learned_state = vocabulary_size, units, tied, learned_state
        self.regions = layers.Dense(units, activation="relu", name="regions")
        self.embedding = layers.Embedding(vocabulary_size, units, name="embedding")
        self.gru = layers.GRU(units, return_sequences=True, name="gru")
        self.norm = layers.LayerNormalization(name="norm")
        self.words = None if tied else layers.Dense(vocabulary_size, name="words")
        self.embedding_dropout = layers.Dropout(dropout[0])
        self.region_dropout = layers.Dropout(dropout[1])
        self.output_dropout = layers.Dropout(dropout[2])

    def build(self, input_shape: Any) -> None:
        """Make all weights; ``input_shape`` is that of `call`: ([B, R, F], [B, T])."""
        features = input_shape[0][-1]
        self.regions.build((None, None, features))
        self.embedding.build((None, None))
        self.gru.build((None, None, self.units))
        self.norm.build((None, None, self.units))
        if self.words is not None:
            self.words.build((None, None, self.units))
        else:
            self.word_bias = self.add_weight(shape=(self.vocabulary_size,), initializer="zeros", name="word_bias")
        if self.learned_state:
            self.first_state = self.add_weight(shape=(self.units,), initializer="zeros", name="first_state")
        self.built = True

    def begin(self, features: Any, training: bool = False) -> tuple[dict[str, Any], dict[str, Any]]:
        """Features [B, R, F] -> {"gru": [B, D]}, {"regions": [B, R, D]}."""
        regions = self.regions(self.region_dropout(features, training=training))
        # Built from the regions, so that the batch size of the zeros is the batch size of the images.
        state = ops.zeros_like(regions[:, 0])
        if self.learned_state:
            state = state + self.first_state
        return {"gru": state}, {"regions": regions}

    def call(self, inputs: tuple[Any, Any], training: bool = False) -> Any:
        """Features [B, R, F] and the words so far [B, T] -> logits [B, T, V] of each next word (teacher forcing)."""
        features, tokens = inputs
        states, memories = self.begin(features, training)
        words = self.embedding_dropout(self.embedding(tokens), training=training)
        output = self.gru(words, initial_state=states["gru"], training=training)
        return self._logits(output, memories["regions"], training)[0]

    def step(self, token: Any, states: dict[str, Any], memories: dict[str, Any]) -> tuple[Any, dict[str, Any], Any]:
        """One word on: tokens [B, K], {"gru": [B, K, D]} -> logits [B, K, V], next states, attention [B, K, R].

        Calls the GRU's cell: the layer would become a loop in the graph.
        """
        beams = ops.shape(token)[1]
        # A plain Gather: the layer also wraps negative ids around, which converts to eight more nodes.
        word = ops.reshape(tf.gather(self.embedding.embeddings, token), (-1, self.units))
        output, _ = self.gru.cell(word, [ops.reshape(states["gru"], (-1, self.units))])
        output = ops.reshape(output, (-1, beams, self.units))
        logits, attention = self._logits(output, memories["regions"], False)
        return logits, {"gru": output}, attention

    def _logits(self, query: Any, regions: Any, training: bool) -> tuple[Any, Any]:
        """GRU outputs [B, T, D] over regions [B, R, D]; memory is not copied for each word or beam."""
        attention = ops.softmax(ops.matmul(query, ops.transpose(regions, (0, 2, 1))), axis=-1)
        summed = self.norm(query + ops.matmul(attention, regions))
        summed = self.output_dropout(summed, training=training)
        if self.words is not None:
            return self.words(summed), attention
        table = ops.transpose(ops.convert_to_tensor(self.embedding.embeddings))
        return ops.matmul(summed, table) + self.word_bias, attention
