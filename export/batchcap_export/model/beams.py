"""Beams [B, K] of TensorFlow functions: states gathered, steps on rows made steps on beams, the contract's step."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from batchcap_export.model.caption_model import RowStep, Step, Tensors


def gather_beams(state: Any, parent: Any) -> Any:
    """``out[b, k] = state[b, parent[b, k]]`` as one Gather on flattened rows: a batched gather converts to several."""
    beams = tf.shape(state, tf.int64)[1]
    rows = parent + beams * tf.range(tf.shape(parent, tf.int64)[0])[:, None]
    flat = tf.reshape(state, tf.concat([[-1], tf.shape(state)[2:]], 0))
    return tf.gather(flat, rows)


def beams_from_rows(step: RowStep) -> Step:
    """A step over beams from one that knows rows: [B, K] becomes N = B * K rows, each with a copy of its memory."""

    def on_beams(token: Any, states: Tensors, memories: Tensors) -> tuple[Any, Tensors, Any]:
        images, beams = tf.unstack(tf.shape(token, tf.int64))
        image = tf.range(images * beams) // beams
        out = step(
            tf.reshape(token, [-1]),
            {name: _merged(state) for name, state in states.items()},
            {name: tf.gather(memory, image) for name, memory in memories.items()},
        )
        logits, following, attention = (*out, None)[:3]
        return (
            _split(logits, images, beams),
            {name: _split(state, images, beams) for name, state in following.items()},
            None if attention is None else _split(attention, images, beams),
        )

    return on_beams


def _merged(tensor: Any) -> Any:
    """[B, K, ...] -> [B * K, ...]; sizes that are known stay known."""
    merged = tf.reshape(tensor, tf.concat([[-1], tf.shape(tensor)[2:]], 0))
    return tf.ensure_shape(merged, [None, *tensor.shape[2:]])


def _split(tensor: Any, images: Any, beams: Any) -> Any:
    """[B * K, ...] -> [B, K, ...]; sizes that are known stay known."""
    front = tf.cast(tf.stack([images, beams]), tf.int32)
    split = tf.reshape(tensor, tf.concat([front, tf.shape(tensor)[1:]], 0))
    return tf.ensure_shape(split, [None, None, *tensor.shape[1:]])


def next_words(
    step: Step, token: Any, parent: Any, candidates: Any, states: Tensors, memories: Tensors
) -> tuple[Any, Any, Tensors, Any]:
    """One step of the bundle's contract.

    Args:
        token: int64 [B, K], the last word of each beam.
        parent: int64 [B, K], which of the P beams in ``states`` each row continues.
        candidates: int, C.
        states: [B, P, ...]; memories: [B, ...].

    Returns:
        log_prob float32 [B, K, C] and next token int64 [B, K, C], best first; next states [B, K, ...]; attention
        [B, K, R] or None.
    """
    chosen = {name: gather_beams(state, parent) for name, state in states.items()}
    logits, following, attention = step(token, chosen, memories)
    log_prob, word = tf.math.top_k(tf.nn.log_softmax(logits), k=candidates, sorted=True)
    return log_prob, tf.cast(word, tf.int64), following, attention
