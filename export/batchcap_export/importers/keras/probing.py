"""Tries a saved network before it is converted: does it run, what does it give, may beams share a call."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from keras import tree

from batchcap.errors import ExportError
from batchcap.images.preprocess import Preprocess
from batchcap_export.importers.keras.networks import Network
from batchcap_export.model.caption_model import Step, Tensors

IMAGES, BEAMS = 2, 3
ERRORS = (ValueError, TypeError, NotImplementedError, tf.errors.OpError)
TINY = 1.2e-38
"""Below the smallest normal float32 a probability has no logarithm that all agree about."""
_SAME = 1e-4


def pixels(how: Preprocess) -> Any:
    """Two images of noise: float32 [2, H, W, 3], 0..255."""
    random = np.random.default_rng(1)
    return random.uniform(0, 255, (IMAGES, how.height, how.width, 3)).astype(np.float32)


def plain(name: str) -> str:
    """A tensor's name as part of a name in the bundle."""
    return re.sub(r"[^A-Za-z0-9_]+", "_", name)


def traced(step: Step) -> Step:
    """The same step, compiled once: a saved network runs faster so."""
    compiled: Step = tf.function(step, reduce_retracing=True)
    return compiled


def tried(network: Network, what: str, call: Callable[[], Any]) -> Any:
    """What ``call`` gives; what TensorFlow and Keras raise there becomes an ExportError with the network's tensors."""
    try:
        return call()
    except ERRORS as error:
        if isinstance(error, ExportError):
            raise
        reason = str(error).strip().split("\n")[0]
        raise ExportError(
            f"{network.file}: {what} fails on {IMAGES} images: {reason}",
            f"Do its tensors fit? It has {network.tensors()}.",
        ) from error


def are_probabilities(values: Any) -> bool:
    """Whether rows [N, V] are a softmax already."""
    rows = np.asarray(values, np.float64)
    return bool((rows >= 0).all() and np.allclose(rows.sum(axis=-1), 1, atol=1e-3))


def same_step(rows: Step, beams: Step, states: Tensors, memories: Tensors, words: int) -> bool:
    """Whether a step on all beams at once is the step on each: a layer that mixes words would mix beams."""
    random = np.random.default_rng(2)
    token = random.integers(0, words, (IMAGES, BEAMS))
    spread = {
        name: tf.repeat(state[:, None], BEAMS, 1)
        + tf.cast(random.normal(0, 0.3, (IMAGES, BEAMS, *state.shape[1:])), state.dtype)
        for name, state in states.items()
    }
    try:
        got = beams(token, spread, memories)
    except ERRORS:
        return False
    want = rows(token, spread, memories)
    return same(want, got)


def same(want: Any, got: Any) -> bool:
    """Whether two nests of tensors hold the same values, within float32 rounding."""
    pairs = zip(tree.flatten(want), tree.flatten(got), strict=True)
    close = [a is b or (a.shape == b.shape and np.allclose(a, b, rtol=_SAME, atol=_SAME)) for a, b in pairs]
    return all(close)


def likely(logits: Any) -> Any:
    """Logits [..., V] as probabilities, which can be compared."""
    return tf.nn.softmax(logits)
