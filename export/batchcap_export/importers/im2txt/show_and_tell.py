"""The inference graph of the Show and Tell code (tensorflow/models, research/im2txt) from the weights alone.

Its structure and the names of its tensors are the original's, with what they imply: it takes one JPEG file at a time,
so that the image's tensors have a batch of one (see `importers.frozen`, which frees it).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from batchcap.errors import ExportError
from batchcap_export.importers.im2txt.inception_v3 import SCOPE, Layer, inception_v3

Weights = Mapping[str, NDArray[np.float32]]
SIZE = 299
RESIZED = 346
_EPSILON = 0.001
_KERNELS = ("lstm/basic_lstm_cell/kernel", "lstm/basic_lstm_cell/weights", "lstm/BasicLSTMCell/Linear/Matrix")
_BIASES = ("lstm/basic_lstm_cell/bias", "lstm/basic_lstm_cell/biases", "lstm/BasicLSTMCell/Linear/Bias")
_SCOPES = (f"{SCOPE}/", "image_embedding/", "seq_embedding/", "lstm/", "logits/")


def read_checkpoint(prefix: Path) -> Weights:
    """The network's variables in a checkpoint, without those that only training uses.

    Raises:
        ExportError: it cannot be read.
    """
    try:
        reader = tf.train.load_checkpoint(str(prefix))
        names = [name for name in reader.get_variable_to_shape_map() if name.startswith(_SCOPES)]
        return {name: reader.get_tensor(name) for name in names}
    except (tf.errors.OpError, ValueError, RuntimeError) as error:
        raise ExportError(f"{prefix}: is no checkpoint that can be read: {error}.") from error


def inference_graph(weights: Weights) -> Any:
    """The frozen graph: a GraphDef with ``image_feed``, ``input_feed``, ``lstm/state_feed``, ``lstm/initial_state``,
    ``softmax`` and ``lstm/state``.

    Widths are those of the weights: E of ``seq_embedding/map`` [V, E], U of the LSTM's kernel [E + U, 4 U].

    Raises:
        ExportError: a variable is missing, or its shape does not fit.
    """
    kernel, bias = _variable(weights, *_KERNELS), _variable(weights, *_BIASES)
    words, units = _variable(weights, "seq_embedding/map"), kernel.shape[1] // 4
    if kernel.shape[0] != words.shape[1] + units:
        raise ExportError(
            f"The LSTM's kernel {list(kernel.shape)} does not fit embeddings of {words.shape[1]}.",
            f"It must have {words.shape[1] + units} rows.",
        )
    graph = tf.Graph()
    with graph.as_default():
        image_feed = tf.compat.v1.placeholder(tf.string, [], "image_feed")
        input_feed = tf.compat.v1.placeholder(tf.int64, [None], "input_feed")
        state_feed = tf.compat.v1.placeholder(tf.float32, [None, 2 * units], "lstm/state_feed")
        images = tf.expand_dims(_process(image_feed), 0)
        features = inception_v3(images, lambda name, layer, given: _convolve(weights, name, layer, given))
        pooled = tf.nn.avg_pool2d(features, features.shape[1:3], 1, "VALID")
        flat = tf.reshape(pooled, [pooled.shape[0], -1])
        embedded = flat @ tf.constant(_variable(weights, "image_embedding/weights"))
        zeros = tf.zeros([1, units])
        cell = tf.constant(kernel), tf.constant(bias)
        tf.concat(_lstm(embedded, zeros, zeros, *cell), 1, "lstm/initial_state")
        word = tf.squeeze(tf.gather(tf.constant(words), input_feed[:, None]), [1])
        new_cell, output = _lstm(word, *tf.split(state_feed, 2, 1), *cell)
        tf.concat([new_cell, output], 1, "lstm/state")
        logits = output @ tf.constant(_variable(weights, "logits/weights"))
        tf.nn.softmax(logits + tf.constant(_variable(weights, "logits/biases")), name="softmax")
    return graph.as_graph_def()


def _process(image_feed: Any) -> Any:
    """A JPEG file's bytes -> float32 [299, 299, 3] in -1..1, as the original prepares images to be captioned."""
    image = tf.image.convert_image_dtype(tf.io.decode_jpeg(image_feed, channels=3), tf.float32)
    image = tf.compat.v1.image.resize_images(image, [RESIZED, RESIZED])
    return (tf.image.resize_with_crop_or_pad(image, SIZE, SIZE) - 0.5) * 2.0


def _convolve(weights: Weights, name: str, layer: Layer, given: Any) -> Any:
    kernel = _variable(weights, f"{name}/weights")
    if kernel.shape[:3] != (*layer.kernel, given.shape[3]):
        raise ExportError(
            f"{name}/weights has the shape {list(kernel.shape)}.",
            f"Inception V3 has {[*layer.kernel, given.shape[3], kernel.shape[-1]]} there.",
        )
    out = tf.nn.conv2d(given, tf.constant(kernel), layer.stride, layer.padding)
    beta, mean, variance = (
        tf.constant(_variable(weights, f"{name}/BatchNorm/{which}"))
        for which in ("beta", "moving_mean", "moving_variance")
    )
    # The published network does not scale.
    gamma = tf.constant(weights.get(f"{name}/BatchNorm/gamma", np.ones(kernel.shape[3], np.float32)))
    normal = tf.compat.v1.nn.fused_batch_norm(out, gamma, beta, mean, variance, epsilon=_EPSILON, is_training=False)[0]
    return tf.nn.relu(normal)


def _lstm(given: Any, cell: Any, output: Any, kernel: Any, bias: Any) -> tuple[Any, Any]:
    """One step of a basic LSTM cell with a forget bias of 1: its new cell and output, both [N, U]."""
    sums = tf.concat([given, output], 1) @ kernel + bias
    admit, candidate, forget, show = tf.split(sums, 4, 1)
    new_cell = cell * tf.sigmoid(forget + 1.0) + tf.sigmoid(admit) * tf.tanh(candidate)
    return new_cell, tf.tanh(new_cell) * tf.sigmoid(show)


def _variable(weights: Weights, *names: str) -> NDArray[np.float32]:
    """The variable under the first of these names that there is."""
    for name in names:
        if name in weights:
            return weights[name]
    raise ExportError(
        f"The checkpoint has no variable {' or '.join(names)}.",
        f"Variables that it has: {', '.join(sorted(weights)[:8]) or 'none of this network'}.",
    )
