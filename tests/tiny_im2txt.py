"""A tiny frozen graph of the Show and Tell code, and what it is opened with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from batchcap_export.importers.im2txt import opening
from batchcap_export.options.importing import ImportOptions

OUTPUTS, WORDS = 300, ["a", "<S>", "</S>", *(f"word{i}" for i in range(3, 290))]
JPEGS = 66


def tiny(
    *,
    prepare: Callable[[Any], Any] = lambda image: (image - 0.5) * 2.0,
    resize: Callable[[Any], Any] = lambda image: tf.compat.v1.image.resize_images(image, [40, 36]),
    out: Callable[[Any, str], Any] = lambda logits, name: tf.nn.softmax(logits, name=name),
    outputs: int = 7,
    image_name: str = "image_feed",
    word_type: Any = tf.int64,
    around: bool = False,
    frozen_: bool = True,
    gain: float = 1.0,
) -> Any:
    """The six tensors around one convolution, with everything that is made for a batch of one.

    ``gain`` is of the state: below 1 what a rounding changes fades instead of growing over the words.
    """
    random = np.random.default_rng(4)

    def weight(*shape: int) -> Any:
        value = random.normal(0, 1, shape).astype(np.float32)
        return tf.constant(value) if frozen_ else tf.compat.v1.Variable(value)

    with tf.Graph().as_default() as graph:
        data = tf.compat.v1.placeholder(tf.string, [], image_name)
        image = resize(tf.image.convert_image_dtype(tf.io.decode_jpeg(data, channels=3), tf.float32))
        image = prepare(tf.image.resize_with_crop_or_pad(image, 31, 25))[None]
        features = tf.nn.conv2d(image, weight(3, 3, 3, 4), 1, "VALID")
        flat = tf.reshape(tf.reduce_mean(features, [1, 2]), [1, -1])
        zeros = tf.zeros([1, 2])
        joined = tf.concat([flat, zeros], 1) @ weight(6, 6)
        if around:
            joined += tf.cast(tf.strings.length(data), tf.float32)
        tf.tanh(joined, "lstm/initial_state")
        word = tf.compat.v1.placeholder(word_type, [None], "input_feed")
        state = tf.compat.v1.placeholder(tf.float32, None, "lstm/state_feed")
        after = tf.tanh(
            tf.raw_ops.Gather(params=weight(outputs, 6), indices=word) + gain * state @ weight(6, 5) @ weight(5, 6),
            "lstm/state",
        )
        out(after @ weight(6, outputs), "softmax")
    return graph.as_graph_def()


def loaded(tmp_path: Path, text: str, **options: Any) -> Any:
    (tmp_path / "tiny.pb").write_bytes(tiny().SerializeToString())
    (tmp_path / "words.txt").write_bytes(text.encode())
    return opening.load(tmp_path / "tiny.pb", ImportOptions(vocabulary=tmp_path / "words.txt", **options))
