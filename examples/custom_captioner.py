"""A captioner of one's own, whole: a network, its training, and the two functions that batchcap needs of it.

It says which colours an image has: "white and blue over olive and brown". It learns that from generated images in
half a minute, and is exported by

    batchcap export examples/custom_captioner.py -o bundles/colours --images PHOTOS

or, from Python, by `export_captioner`: ``python examples/custom_captioner.py PHOTOS bundles/colours``. Then

    batchcap run PHOTOS -o captions.jsonl --model bundles/colours
"""

from __future__ import annotations

import os
import sys
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from batchcap.images.preprocess import Preprocess
from batchcap_export import CaptionModel, caption_model, export_captioner

COLOURS = {
    "black": (15, 15, 15),
    "charcoal": (65, 65, 65),
    "grey": (120, 120, 120),
    "silver": (180, 180, 180),
    "white": (240, 240, 240),
    "beige": (200, 180, 150),
    "brown": (110, 80, 55),
    "red": (195, 45, 45),
    "orange": (235, 140, 50),
    "yellow": (230, 220, 80),
    "olive": (95, 100, 45),
    "green": (60, 150, 60),
    "teal": (80, 150, 150),
    "blue": (80, 120, 200),
    "navy": (35, 50, 105),
    "purple": (120, 60, 140),
    "pink": (225, 130, 165),
}
WORDS = ["", "<start>", "<end>", "and", "over", *COLOURS]
SIZE, WIDTH, STEPS, BATCH = 32, 64, 600, 64


class Colours(keras.Model):
    """Mean colours of the image's four quarters; a GRU, whose output asks them by dot product for the next word."""

    def __init__(self) -> None:
        super().__init__()
        self.quarters = layers.AveragePooling2D(SIZE // 2)
        self.regions = layers.Dense(WIDTH, activation="relu")
        self.place = layers.Embedding(4, WIDTH)
        self.words_in = layers.Embedding(len(WORDS), WIDTH)
        self.cell = layers.GRUCell(WIDTH)
        self.words_out = layers.Dense(len(WORDS))

    def encode(self, image: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Pixels [B, 32, 32, 3], 0..255 -> the state before the first word, and what every step looks at."""
        mean = tf.reshape(self.quarters(tf.cast(image, tf.float32)), (-1, 4, 3)) / 127.5 - 1.0
        regions = self.regions(mean)
        return {"hidden": tf.zeros_like(regions[:, 0])}, {"regions": regions}

    def step(self, token: Any, states: dict[str, Any], memories: dict[str, Any]) -> tuple[Any, dict[str, Any], Any]:
        """The last words [N] -> logits of the next ones [N, V], the state after it, where it looked [N, 4]."""
        hidden, _ = self.cell(self.words_in(token), [states["hidden"]])
        keys = memories["regions"] + self.place(tf.range(4))
        attention = tf.nn.softmax(tf.einsum("nd,nrd->nr", hidden, keys))
        looked = tf.einsum("nr,nrd->nd", attention, memories["regions"])
        return self.words_out(tf.concat([hidden, looked], axis=1)), {"hidden": hidden}, attention


def training_batch(random: np.random.Generator) -> tuple[Any, Any]:
    """A batch of images of four plain quarters [B, 32, 32, 3], and their captions as ids [B, 9]."""
    palette = np.array(list(COLOURS.values()))
    quarters = random.uniform(0, 255, (BATCH, 4, 3))
    nearest = np.square(quarters[:, :, None] - palette).sum(-1).argmin(-1) + WORDS.index("black")
    tokens = np.empty((BATCH, 9), np.int64)
    tokens[:, 0::2] = [WORDS.index(word) for word in ("<start>", "and", "over", "and", "<end>")]
    tokens[:, 1::2] = nearest
    rows = quarters.reshape(BATCH, 2, 2, 3).repeat(SIZE // 2, axis=1).repeat(SIZE // 2, axis=2)
    return rows.astype(np.float32), tokens


def trained() -> Colours:
    """The network after `STEPS` batches."""
    keras.utils.set_random_seed(1)
    model, optimizer, random = Colours(), keras.optimizers.Adam(3e-3), np.random.default_rng(1)

    def loss_of(image: Any, tokens: Any) -> Any:
        states, memories = model.encode(image)
        loss = 0.0
        for place in range(8):
            logits, states, _ = model.step(tokens[:, place], states, memories)
            loss += tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(tokens[:, place + 1], logits))
        return loss

    @tf.function
    def learn(image: Any, tokens: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = loss_of(image, tokens)
        optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        return loss

    loss_of(*training_batch(random))
    weights = model.trainable_variables
    optimizer.build(weights)
    for _ in range(STEPS):
        learn(*training_batch(random))
    return model


# What batchcap needs to know besides: how an image becomes pixels, the words in the order of their ids, and, for the
# attention, that the regions are two rows of two.
PREPROCESS = Preprocess(SIZE, SIZE, SIZE, SIZE)


def captioner() -> CaptionModel:
    """What ``batchcap export examples/custom_captioner.py`` calls."""
    model = trained()
    weights = sum(int(np.prod(weight.shape)) for weight in model.weights)
    return caption_model(model.encode, model.step, WORDS, PREPROCESS, grid=(2, 2), parameters=weights)


def main(photos: str, bundle: str) -> None:
    """The same from Python."""
    model = trained()
    export_captioner(model.encode, model.step, WORDS, bundle, photos, preprocess=PREPROCESS, grid=(2, 2))


if __name__ == "__main__":
    main(*sys.argv[1:])
