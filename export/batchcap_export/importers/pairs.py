"""A captioner that is saved as two networks: an encoder, and a decoder that makes one step."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf

from batchcap.errors import ExportError
from batchcap.vocabulary import Vocabulary
from batchcap_export.api import caption_model
from batchcap_export.importers import ImportOptions, Scale
from batchcap_export.importers.networks import Network, Run
from batchcap_export.importers.pixels import preprocessing, regions_grid, scale_of, scaled
from batchcap_export.importers.roles import Roles, match_pair, read_map
from batchcap_export.importers.vocabulary import special_words
from batchcap_export.model import CaptionModel, Encode, Original, RowStep, Step, Tensors, beams_from_rows

# Below the smallest normal float32 a probability has no logarithm that the graphs agree about.
_TINY = 1.2e-38
_IMAGES, _BEAMS = 2, 3
_SAME = 1e-4


@dataclass(frozen=True, slots=True)
class _Pair:
    encoder: Network
    decoder: Network
    roles: Roles
    scale: Scale
    words: int
    probabilities: bool = False
    """The decoder gives probabilities, not logits."""
    regions: int = 0
    """What the attention weighs; 0: there is none."""

    def encode(self, run: Run) -> Encode:
        """The encoder by one of its two functions."""
        names = [port.name for port in self.encoder.outputs]

        def encode(image: Any) -> tuple[Tensors, Tensors]:
            made = dict(zip(names, run([scaled(image, self.scale)]), strict=True))
            given = {name: made[port.name] for name, port in self.roles.encoded.items()}
            states = {}
            for name, (before, _) in self.roles.states.items():
                zeros = (tf.shape(image)[0], *before.shape[1:])
                states[plain(name)] = tf.cast(given[name] if name in given else tf.zeros(zeros), before.dtype)
            memories = {}
            for name, port in self.roles.memories.items():
                memory = given[name]
                if len(memory.shape) > len(port.shape):
                    memory = tf.reshape(memory, (-1, memory.shape[1] * memory.shape[2], memory.shape[3]))
                memories[plain(name)] = memory
            return states, memories

        return encode

    def rows(self, run: Run) -> RowStep:
        """The decoder by one of its functions, a row for each beam: tokens [N]."""
        flat = len(self.roles.word.shape) == 1

        def step(token: Any, states: Tensors, memories: Tensors) -> tuple[Any, ...]:
            logits, following, attention = self._step(run, token if flat else token[:, None], states, memories)
            if len(logits.shape) == 3 and logits.shape[1] not in (1, None):
                raise ExportError(
                    f"{self.decoder.file}: gives {logits.shape[1]} rows of logits for one word.",
                    "Save the decoder that makes one step: one word in, one row out.",
                )
            logits = tf.reshape(logits, (-1, self.words))
            if attention is None:
                return logits, following
            return logits, following, tf.reshape(attention, (-1, self.regions))

        return step

    def beams(self, run: Run) -> Step:
        """The decoder on tokens [B, K], the beams where it expects the words of a caption: memory is not copied."""

        def step(token: Any, states: Tensors, memories: Tensors) -> tuple[Any, Tensors, Any]:
            logits, following, attention = self._step(run, token, states, memories)
            shape = tf.shape(token)
            if attention is not None:
                attention = tf.reshape(attention, (shape[0], shape[1], self.regions))
            return tf.reshape(logits, (shape[0], shape[1], self.words)), following, attention

        return step

    def _step(self, run: Run, token: Any, states: Tensors, memories: Tensors) -> tuple[Any, Tensors, Any]:
        roles = self.roles
        given = {roles.word.name: token} | {name: states[plain(name)] for name in roles.states}
        given |= {name: memories[plain(name)] for name in roles.memories}
        made = run([given[port.name] for port in self.decoder.inputs])
        out = dict(zip([port.name for port in self.decoder.outputs], made, strict=True))
        logits = tf.cast(out[roles.logits.name], tf.float32)
        if self.probabilities:
            logits = tf.math.log(tf.maximum(logits, _TINY))
        following = {plain(n): tf.cast(out[after.name], before.dtype) for n, (before, after) in roles.states.items()}
        attention = out[roles.attention.name] if roles.attention is not None and self.regions else None
        return logits, following, attention


def pair(encoder: Network, decoder: Network, vocabulary: Vocabulary, options: ImportOptions) -> CaptionModel:
    """A captioner of an encoder and a decoder.

    Raises:
        ExportError: they do not fit together, or not to the vocabulary.
    """
    special = special_words(vocabulary, options)
    roles = match_pair(encoder, decoder, len(vocabulary), read_map(options.map))
    how, scale = preprocessing(encoder, roles.image, options), scale_of(encoder, roles.image, options)
    saved = _Pair(encoder, decoder, roles, scale, len(vocabulary))
    pixels = np.random.default_rng(1).uniform(0, 255, (_IMAGES, how.height, how.width, 3)).astype(np.float32)
    states, memories = tried(encoder, "the encoder", lambda: saved.encode(encoder.run)(pixels))
    for name, state in states.items():
        if None in state.shape[1:]:
            raise ExportError(f"{decoder.file}: the state {name} has no known size.", "Save it with a fixed size.")
    regions = next((int(memory.shape[1]) for memory in memories.values() if len(memory.shape) == 3), 0)
    probe = np.arange(_IMAGES) % len(vocabulary), states, memories
    logits = tried(decoder, "the decoder", lambda: saved.rows(decoder.run)(*probe))[0]
    attends = roles.attention is not None and regions > 0
    saved = replace(saved, probabilities=are_probabilities(logits), regions=regions if attends else 0)
    rows = saved.rows(decoder.straight)
    beams = None if decoder.beams is None else saved.beams(decoder.beams)
    wide = beams is not None and same_step(beams_from_rows(rows), beams, states, memories, len(vocabulary))
    return caption_model(
        saved.encode(encoder.straight),
        beams if wide and beams is not None else rows,
        vocabulary,
        how,
        **special,
        beams=wide,
        grid=regions_grid(encoder.model, regions) if attends else None,
        architecture="keras-encoder-decoder",
        parameters=encoder.parameters + decoder.parameters,
        recipe={"encoder": encoder.file.name, "decoder": decoder.file.name, "scale": scale},
        original=Original(saved.encode(encoder.run), traced(beams_from_rows(saved.rows(decoder.run)))),
    )


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
            f"{network.file}: {what} fails on {_IMAGES} pictures: {reason}",
            f"Do its tensors fit? It has {network.tensors()}.",
        ) from error


ERRORS = (ValueError, TypeError, NotImplementedError, tf.errors.OpError)


def are_probabilities(values: Any) -> bool:
    """Whether rows [N, V] are a softmax already."""
    rows = np.asarray(values, np.float64)
    return bool((rows >= 0).all() and np.allclose(rows.sum(axis=-1), 1, atol=1e-3))


def same_step(rows: Step, beams: Step, states: Tensors, memories: Tensors, words: int) -> bool:
    """Whether a step on all beams at once is the step on each: a layer that mixes words would mix beams."""
    random = np.random.default_rng(2)
    token = random.integers(0, words, (_IMAGES, _BEAMS))
    spread = {
        name: tf.repeat(state[:, None], _BEAMS, 1)
        + tf.cast(random.normal(0, 0.3, (_IMAGES, _BEAMS, *state.shape[1:])), state.dtype)
        for name, state in states.items()
    }
    try:
        got = beams(token, spread, memories)
    except ERRORS:
        return False
    want = rows(token, spread, memories)
    pairs = [(want[0], got[0]), *((want[1][name], got[1][name]) for name in want[1])]
    pairs += [] if want[2] is None else [(want[2], got[2])]
    return all(a.shape == b.shape and np.allclose(a, b, rtol=_SAME, atol=_SAME) for a, b in pairs)
