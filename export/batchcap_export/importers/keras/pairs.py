"""A captioner that is saved as two networks: an encoder, and a decoder that makes one step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf

from batchcap.bundle.vocabulary import Vocabulary
from batchcap.errors import ExportError
from batchcap_export.importers.keras import probing
from batchcap_export.importers.keras.networks import Network, Run
from batchcap_export.importers.keras.pixels import preprocessing, regions_grid, scale_of, scaled
from batchcap_export.importers.keras.roles import Roles, match_pair, read_map
from batchcap_export.importers.keras.vocabulary import special_words
from batchcap_export.model.beams import beams_from_rows
from batchcap_export.model.caption_model import CaptionModel, Encode, Original, RowStep, Step, Tensors
from batchcap_export.model.functions import caption_model
from batchcap_export.options.importing import ImportOptions, Scale


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
                states[probing.plain(name)] = tf.cast(given[name] if name in given else tf.zeros(zeros), before.dtype)
            memories = {}
            for name, port in self.roles.memories.items():
                memory = given[name]
                if len(memory.shape) > len(port.shape):
                    memory = tf.reshape(memory, (-1, memory.shape[1] * memory.shape[2], memory.shape[3]))
                memories[probing.plain(name)] = memory
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
        given = {roles.word.name: token} | {name: states[probing.plain(name)] for name in roles.states}
        given |= {name: memories[probing.plain(name)] for name in roles.memories}
        made = run([given[port.name] for port in self.decoder.inputs])
        out = dict(zip([port.name for port in self.decoder.outputs], made, strict=True))
        logits = tf.cast(out[roles.logits.name], tf.float32)
        if self.probabilities:
            logits = tf.math.log(tf.maximum(logits, probing.TINY))
        following = {
            probing.plain(n): tf.cast(out[after.name], before.dtype) for n, (before, after) in roles.states.items()
        }
        attention = out[roles.attention.name] if roles.attention is not None and self.regions else None
        return logits, following, attention


def pair(encoder: Network, decoder: Network, vocabulary: Vocabulary, options: ImportOptions) -> CaptionModel:
    """A captioner of an encoder and a decoder.

    Raises:
        ExportError: they do not fit together, or not to the vocabulary.
    """
    if len(encoder.inputs) != 1:
        raise ExportError(
            f"{encoder.file}: an encoder takes an image and nothing else: {encoder.tensors()}.",
            "If it is a training model, export it alone, without --decoder.",
        )
    special = special_words(vocabulary, options)
    roles = match_pair(encoder, decoder, len(vocabulary), read_map(options.map))
    _check_inputs(decoder, roles)
    how, scale = preprocessing(encoder, roles.image, options), scale_of(encoder, roles.image, options)
    saved = _Pair(encoder, decoder, roles, scale, len(vocabulary))
    pixels = probing.pixels(how)
    states, memories = probing.tried(encoder, "the encoder", lambda: saved.encode(encoder.run)(pixels))
    regions = next((int(memory.shape[1]) for memory in memories.values() if len(memory.shape) == 3), 0)
    probe = np.arange(probing.IMAGES) % len(vocabulary), states, memories
    logits = probing.tried(decoder, "the decoder", lambda: saved.rows(decoder.run)(*probe))[0]
    attends = roles.attention is not None and regions > 0
    saved = replace(saved, probabilities=probing.are_probabilities(logits), regions=regions if attends else 0)
    rows = saved.rows(decoder.straight)
    beams = None if decoder.beams is None else saved.beams(decoder.beams)
    wide = beams is not None and probing.same_step(beams_from_rows(rows), beams, states, memories, len(vocabulary))
    _check_straight(saved, pixels, probe)
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
        original=Original(saved.encode(encoder.run), probing.traced(beams_from_rows(saved.rows(decoder.run)))),
    )


def _check_inputs(decoder: Network, roles: Roles) -> None:
    """Raise an ExportError for words or states of a size that a step cannot give."""
    words = roles.word.shape[1:]
    if decoder.model is None and words and words[0] not in (None, 1):
        raise ExportError(
            f"{decoder.file}: takes {words[0]} words at once ({roles.word}), and a SavedModel keeps to that.",
            "Save it as .keras, or with an input of one word: Input((1,)).",
        )
    for name, (before, _) in roles.states.items():
        if name not in roles.encoded and None in before.shape[1:]:
            raise ExportError(
                f"{decoder.file}: the state {before} has no known size, so that it cannot start with zeros.",
                "Save it with a fixed size, or let the encoder give its start.",
            )


def _check_straight(saved: _Pair, pixels: Any, probe: tuple[Any, Tensors, Tensors]) -> None:
    """Raise an ExportError where a network without its loops is not the network: one that runs more than once."""
    calls: tuple[tuple[Network, Callable[[Run], Any]], ...] = (
        (saved.encoder, lambda run: saved.encode(run)(pixels)),
        (saved.decoder, lambda run: saved.rows(run)(*probe)),
    )
    for network, call in calls:
        try:
            equal = probing.same(call(network.run), call(network.straight))
        except probing.ERRORS as error:
            if isinstance(error, ExportError):
                raise
            equal = False
        if not equal:
            raise ExportError(
                f"{network.file}: has a loop that runs more than once, or a layer that is not the same twice.",
                "Save it as .keras, where the layers are known, or without the loop.",
            )
