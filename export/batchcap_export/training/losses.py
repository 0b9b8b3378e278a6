"""The loss of training."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


class MaskedCrossEntropy(keras.losses.Loss):
    """Mean cross-entropy over real words: padding (0) does not count."""

    def __init__(self, smoothing: float = 0.0) -> None:
        super().__init__(name="masked_cross_entropy", reduction=None)
        self.smoothing = smoothing

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Words [B, T], logits [B, T, V] -> scalar."""
        log_prob = tf.nn.log_softmax(tf.cast(y_pred, tf.float32))
        picked = tf.gather(log_prob, tf.cast(y_true, tf.int32), batch_dims=2)
        loss = -picked
        if self.smoothing:
            loss = (1 - self.smoothing) * loss - self.smoothing * tf.reduce_mean(log_prob, axis=-1)
        real = tf.cast(y_true != 0, tf.float32)
        return tf.reduce_sum(loss * real) / tf.reduce_sum(real)
