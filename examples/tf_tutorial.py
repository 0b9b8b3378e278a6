"""A captioner as TensorFlow's tutorial "Image captioning with visual attention" has it, exported as it is.

Whoever followed the tutorial has two classes (here written anew from its equations), a checkpoint and a vocabulary. All
that batchcap needs is at the end: `captioner`, ten lines. Put your checkpoint and your vocabulary where `CHECKPOINTS`
and `VOCABULARY` say, and

    batchcap export examples/tf_tutorial.py -o bundles/tutorial --images PHOTOS
    batchcap run PHOTOS -o captions.jsonl --model bundles/tutorial

Without them everything is random, and says the same of every image: then --min-distinct 0 shows that it works.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf
from tensorflow import keras

from batchcap.images.preprocess import Preprocess
from batchcap_export import CaptionModel, caption_model

# What tf.train.CheckpointManager wrote, and the tokenizer's get_vocabulary(), one word a line.
CHECKPOINTS = Path("checkpoints/train")
VOCABULARY = Path("vocabulary.txt")
EMBEDDING, UNITS = 256, 512


class CNN_Encoder(keras.Model):  # noqa: N801 - the tutorial's name
    """Regions [B, R, F] of a network that is not trained -> [B, R, embedding]."""

    def __init__(self, embedding_dim: int) -> None:
        super().__init__()
        self.fc = keras.layers.Dense(embedding_dim, activation="relu")

    def call(self, x: Any) -> Any:
        """One Dense layer with ReLU."""
        return self.fc(x)


class BahdanauAttention(keras.Model):
    """Additive attention (Bahdanau et al. 2015)."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.W1 = keras.layers.Dense(units)
        self.W2 = keras.layers.Dense(units)
        self.V = keras.layers.Dense(1)

    def call(self, features: Any, hidden: Any) -> tuple[Any, Any]:
        """Regions [B, R, E] and the state [B, D] -> context [B, E] and weights [B, R, 1]."""
        energy = self.V(tf.nn.tanh(self.W1(features) + self.W2(hidden[:, tf.newaxis])))
        weights = tf.nn.softmax(energy, axis=1)
        return tf.reduce_sum(weights * features, axis=1), weights


class RNN_Decoder(keras.Model):  # noqa: N801 - the tutorial's name
    """One word on. Like the tutorial's, its GRU starts from zeros at every word: only the attention sees ``hidden``."""

    def __init__(self, embedding_dim: int, units: int, vocab_size: int) -> None:
        super().__init__()
        self.embedding = keras.layers.Embedding(vocab_size, embedding_dim)
        self.gru = keras.layers.GRU(units, return_sequences=True, return_state=True)
        self.fc1 = keras.layers.Dense(units)
        self.fc2 = keras.layers.Dense(vocab_size)
        self.attention = BahdanauAttention(units)

    def call(self, x: Any, features: Any, hidden: Any) -> tuple[Any, Any, Any]:
        """Words [B, 1], regions [B, R, E], state [B, D] -> logits [B, V], state, attention [B, R, 1]."""
        context, attention_weights = self.attention(features, hidden)
        x = tf.concat([context[:, tf.newaxis], self.embedding(x)], axis=-1)
        output, state = self.gru(x)
        x = self.fc1(tf.reshape(output, (-1, output.shape[2])))
        return self.fc2(x), state, attention_weights


def inception() -> keras.Model:
    """The network whose last map the tutorial reads: [B, 299, 299, 3] in -1..1 -> [B, 8, 8, 2048]."""
    return keras.applications.InceptionV3(include_top=False, weights="imagenet" if CHECKPOINTS.is_dir() else None)


def words() -> list[str]:
    """The vocabulary in the order of its ids: an empty text for padding, [UNK], and the words."""
    if VOCABULARY.is_file():
        return VOCABULARY.read_text(encoding="utf-8").splitlines()
    return ["", "[UNK]", "<start>", "<end>", *(f"word{i}" for i in range(996))]


def captioner(size: int = 299) -> CaptionModel:
    """What ``batchcap export examples/tf_tutorial.py`` calls."""
    network, vocabulary = inception(), words()
    encoder, decoder = CNN_Encoder(EMBEDDING), RNN_Decoder(EMBEDDING, UNITS, len(vocabulary))

    def encode(image: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        map_ = network(image / 127.5 - 1.0)
        features = encoder(tf.reshape(map_, (-1, map_.shape[1] * map_.shape[2], map_.shape[3])))
        return {"hidden": tf.zeros_like(features[:, 0, :1]) + tf.zeros(UNITS)}, {"features": features}

    def step(token: Any, states: dict[str, Any], memories: dict[str, Any]) -> tuple[Any, dict[str, Any], Any]:
        logits, hidden, attention = decoder(token[:, tf.newaxis], memories["features"], states["hidden"])
        return logits, {"hidden": hidden}, attention[..., 0]

    if CHECKPOINTS.is_dir():
        # Weights are there to be read into only after the first call.
        states, memories = encode(tf.zeros((1, size, size, 3)))
        step(tf.zeros(1, tf.int64), states, memories)
        checkpoint = tf.train.Checkpoint(encoder=encoder, decoder=decoder)
        checkpoint.restore(tf.train.latest_checkpoint(CHECKPOINTS)).assert_existing_objects_matched()
    # tf.io.decode_jpeg and tf.image.resize, exactly.
    pixels = Preprocess(size, size, size, size, method="bilinear", pixels="float32", jpeg_dct="fast")
    grid = network.compute_output_shape((None, size, size, 3))[1:3]
    return caption_model(encode, step, vocabulary, pixels, unknown="[UNK]", grid=grid, architecture="tf-tutorial")
