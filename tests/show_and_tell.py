"""The Show and Tell network with random weights whose captions differ from image to image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from batchcap.images.decode import decode_image
from batchcap.images.pixels import preprocess
from batchcap.images.preprocess import Preprocess
from batchcap_export.importers.im2txt.inception_v3 import Layer, inception_v3
from batchcap_export.importers.im2txt.show_and_tell import RESIZED, SIZE

HOW = Preprocess(SIZE, SIZE, RESIZED, RESIZED, "bilinear-tf1", "center-crop", "float32", "fast")


def random_weights(
    photos: list[Path],
    *,
    width: float = 1.0,
    outputs: int = 12000,
    words: int = 12000,
    units: int = 512,
    embedding: int = 512,
    seed: int = 0,
) -> dict[str, NDArray[np.float32]]:
    """All variables of the network, ``width`` times the published channels.

    The statistics of the batch normalization are those that ``photos`` give, as training would leave them: a random
    network without them gives every image nearly the same features. Word 1 starts a caption, 2 ends it, and one unit
    counts, so that captions end after some words. As after training, the start is never said, nor are word 0 and the
    outputs behind the first ``words``.
    """
    random, weights = np.random.default_rng(seed), {}

    def convolve(name: str, layer: Layer, given: Any) -> Any:
        shape = (*layer.kernel, given.shape[3], max(2, round(layer.channels * width)))
        kernel = random.normal(0, np.sqrt(2 / np.prod(shape[:3])), shape).astype(np.float32)
        out = tf.nn.conv2d(given, kernel, layer.stride, layer.padding)
        mean, variance = (m.numpy() for m in tf.nn.moments(out, [0, 1, 2]))
        beta = random.normal(0, 0.3, shape[3]).astype(np.float32)
        weights[f"{name}/weights"] = kernel
        weights[f"{name}/BatchNorm/beta"] = beta
        weights[f"{name}/BatchNorm/moving_mean"], weights[f"{name}/BatchNorm/moving_variance"] = mean, variance
        return tf.nn.relu(tf.nn.batch_normalization(out, mean, variance, beta, None, 0.001))

    pixels = np.stack([preprocess(decode_image(photo.read_bytes(), "fast"), HOW) for photo in photos])
    features = tf.reduce_mean(inception_v3(pixels / np.float32(127.5) - 1, convolve), [1, 2]).numpy()
    # What all images have in common is taken out, the rest is made large: this layer has no bias.
    common, spread = features.mean(axis=0), features.std(axis=0).mean()
    embed = random.normal(0, 3 / (spread * np.sqrt(len(common))), (len(common), embedding))
    weights["image_embedding/weights"] = embed - np.outer(common, common @ embed) / (common @ common)
    weights["seq_embedding/map"] = random.normal(0, 0.4, (outputs, embedding))
    kernel = random.normal(0, 1.2 / np.sqrt(embedding + units), (embedding + units, 4, units))
    kernel[embedding:] *= 3
    bias = np.zeros((4, units))
    # Gates in the order input, candidate, forget, output; the last unit adds a tenth a step, and `</S>` follows it.
    kernel[:, :, -1], bias[:, -1] = 0, (6, 0.1, 6, 6)
    weights["lstm/basic_lstm_cell/kernel"] = kernel.reshape(embedding + units, 4 * units)
    weights["lstm/basic_lstm_cell/bias"] = bias.ravel()
    scores, offsets = random.normal(0, 9 / np.sqrt(units), (units, outputs)), np.zeros(outputs)
    scores[-1], scores[:, :3], offsets[:3], offsets[words:] = 0, 0, -30, -30
    scores[-1, 2] = 60
    weights["logits/weights"], weights["logits/biases"] = scores, offsets
    return {name: np.asarray(value, np.float32) for name, value in weights.items()}
