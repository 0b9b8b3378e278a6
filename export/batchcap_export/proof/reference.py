"""Beam search written as plainly as its definition, over the original model: the oracle that a bundle must agree with.

It shares no code with `batchcap.decoding`, on purpose: one image at a time, the whole vocabulary on the host, Python
lists.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from batchcap.options.decoding import DecodingOptions
from batchcap_export.model.caption_model import Original, Runnable, Step, Tensors

_ENCODED = 16


@dataclass(frozen=True, slots=True)
class ReferenceCaption:
    """The oracle's caption of one image."""

    tokens: tuple[int, ...]
    """Without ``<start>`` and ``<end>``."""
    log_prob: float
    score: float
    gap: float
    """The narrowest decision on the way: by how much the last living hypothesis of a step beat the first that was
    dropped (log-probability), or the best caption the next one (score). Below the noise of float32 either is right."""


@dataclass(slots=True)
class _Living:
    tokens: tuple[int, ...]
    log_prob: float
    row: int


def reference_captions(
    original: Runnable,
    pixels: NDArray[Any],
    decoding: DecodingOptions,
    start: int,
    end: int,
    banned: Sequence[int],
) -> list[ReferenceCaption]:
    """Caption images [N, H, W, 3], each by itself."""
    encode = tf.function(original.encode, reduce_retracing=True)
    # A step that can be converted is traced once: layer by layer it takes several times as long. One that its own
    # framework runs may be no function of TensorFlow.
    step = original.step if isinstance(original, Original) else tf.function(original.step, reduce_retracing=True)
    out = []
    for first in range(0, len(pixels), _ENCODED):
        states, memories = encode(tf.constant(pixels[first : first + _ENCODED]))
        for row in range(len(pixels[first : first + _ENCODED])):
            one = {n: s[row : row + 1] for n, s in states.items()}, {n: m[row : row + 1] for n, m in memories.items()}
            out.append(_caption(step, *one, decoding, start, end, banned))
    return out


def _caption(
    step: Step,
    states: Tensors,
    memories: Tensors,
    decoding: DecodingOptions,
    start: int,
    end: int,
    banned: Sequence[int],
) -> ReferenceCaption:
    """Caption one image by the definition of the design, without any shortcut but early stopping.

    Every step ranks all extensions of the living hypotheses by log-probability (ties: lower token, then lower beam) and
    walks down: ``<end>`` met before the K-th living one is finished, the others live, and it stops at K living. After
    ``max_length`` tokens every other token is masked.
    """
    states = {name: state[:, None] for name, state in states.items()}
    living, finished, gap = [_Living((), 0.0, 0)], [], np.inf
    for length in range(decoding.max_length + 1):
        token = tf.constant([[h.tokens[-1] if h.tokens else start for h in living]], tf.int64)
        rows = tf.constant([[h.row for h in living]], tf.int64)
        logits, states, _ = step(
            token, {name: tf.gather(state, rows, batch_dims=1) for name, state in states.items()}, memories
        )
        step_log_prob = np.asarray(tf.nn.log_softmax(logits))[0].astype(np.float64)
        step_log_prob[:, list(banned)] = -np.inf
        if length == decoding.max_length:  # it may only end; what cannot is cut, and counts as it was before
            step_log_prob[:, np.arange(step_log_prob.shape[1]) != end] = -np.inf
        following, ended, margin = _extend(living, step_log_prob, end, decoding.beam_size)
        living = following if length < decoding.max_length else living
        gap = min(gap, margin)
        finished += [
            (tokens, log_prob, log_prob / (len(tokens) + 1) ** decoding.length_penalty) for tokens, log_prob in ended
        ]
        if not following or _settled(living, finished, decoding):
            break
    if not finished:
        finished = [(h.tokens, h.log_prob, h.log_prob / len(h.tokens) ** decoding.length_penalty) for h in living]
    # Stable: of equal scores the one that finished first.
    ranked = sorted(finished, key=lambda f: -f[2])
    if len(ranked) > 1:
        gap = min(gap, ranked[0][2] - ranked[1][2])
    return ReferenceCaption(*ranked[0], gap=float(gap))


def _extend(
    living: list[_Living],
    log_prob: NDArray[np.float64],
    end: int,
    beams: int,
) -> tuple[list[_Living], list[tuple[tuple[int, ...], float]], float]:
    total = log_prob + np.array([[h.log_prob] for h in living])
    beam, token = np.divmod(np.arange(total.size), total.shape[1])
    order = np.lexsort((beam, token, -total.ravel()))
    following: list[_Living] = []
    ended = []
    for place, index in enumerate(order):
        value = float(total.ravel()[index])
        if value == -np.inf:
            return following, ended, np.inf
        if token[index] == end:
            ended.append((living[beam[index]].tokens, value))
        else:
            following.append(_Living((*living[beam[index]].tokens, int(token[index])), value, int(beam[index])))
        if len(following) == beams:
            rest = order[place + 1 : place + 2]
            return following, ended, value - float(total.ravel()[rest[0]]) if len(rest) else np.inf
    return following, ended, np.inf


def _settled(
    living: list[_Living], finished: list[tuple[tuple[int, ...], float, float]], decoding: DecodingOptions
) -> bool:
    """No living hypothesis can still beat the worst of the best ``num_captions`` finished ones."""
    if len(finished) < decoding.num_captions:
        return False
    worst = sorted((f[2] for f in finished), reverse=True)[decoding.num_captions - 1]
    longest = (decoding.max_length + 1) ** decoding.length_penalty
    return all(h.log_prob / longest <= worst for h in living)
