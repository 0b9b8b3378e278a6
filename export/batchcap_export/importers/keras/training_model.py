"""A captioner that is saved as it was trained: image and words in, logits of every next word out.

Its graph is gone through three times: once on a probe, to see what depends on the image alone and what on the words;
for the encoder with no words, so that only what comes before the first word is computed; and for the step with one
word, where recurrent layers are unrolled and what depends on the image alone is the memory.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import tree
from msgspec import structs

from batchcap.bundle.manifest import Generation
from batchcap.bundle.vocabulary import Vocabulary
from batchcap.errors import ExportError
from batchcap.images.preprocess import Preprocess
from batchcap_export.importers.keras import functional, probing
from batchcap_export.importers.keras.functional import Key
from batchcap_export.importers.keras.graph_reading import IMAGE, NOTHING, STEPS, Plan, probe
from batchcap_export.importers.keras.networks import Network, Port
from batchcap_export.importers.keras.pixels import preprocessing, scale_of, scaled
from batchcap_export.importers.keras.roles import find_image, find_logits, find_word, read_map
from batchcap_export.importers.keras.vocabulary import special_words
from batchcap_export.model import recurrent
from batchcap_export.model.beams import beams_from_rows
from batchcap_export.model.caption_model import CaptionModel, Original, Step, Tensors
from batchcap_export.model.functions import caption_model
from batchcap_export.options.importing import ImportOptions, Scale


@dataclass(frozen=True, slots=True)
class _Cut:
    """The two halves of a training model."""

    network: Network
    model: keras.Model
    image: Port
    word: Port
    logits: Port
    scale: Scale
    words: int
    plan: Plan
    probabilities: bool = False

    def encode(self, image: Any) -> tuple[Tensors, Tensors]:
        """Pixels to the states after whatever comes before the first word, and to the memories."""
        plan, pixels = self.plan, scaled(image, self.scale)
        states: Tensors = {}
        memories: Tensors = {}

        def call(key: Key, operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if plan.kinds[key] == "recurrent":
                sequence, initial, _ = recurrent.recurrent_arguments(args, kwargs)
                if initial is None:
                    initial = tree.flatten(operation.get_initial_state(batch_size=tf.shape(image)[0]))
                made = [NOTHING] * len(tree.flatten(operation.output))
                if sequence is not NOTHING:
                    output, initial = recurrent.advance(operation, sequence, initial)
                    made = [output, *initial][: len(made)]
                states.update(zip(plan.recurrent[key], initial, strict=True))
            else:
                made = _without_words(plan, key, operation, args, kwargs)
            for place, tensor in enumerate(tree.flatten(made)):
                if (key, place) in plan.memories:
                    memories[plan.memories[key, place]] = tensor
            return made

        given = [NOTHING if port == self.word else tf.cast(pixels, port.dtype) for port in self.network.inputs]
        if IMAGE in plan.memories:
            memories[plan.memories[IMAGE]] = pixels
        functional.evaluate(self.model, given, call)
        return states, memories

    def rows(self, token: Any, states: Tensors, memories: Tensors) -> tuple[Any, ...]:
        """One step with a row for each beam: tokens [N]."""
        logits, following = self._step(token[:, None], states, memories, recurrent.advance)
        return tf.reshape(logits, (-1, self.words)), following

    def beams(self, token: Any, states: Tensors, memories: Tensors) -> tuple[Any, Tensors, Any]:
        """One step on tokens [B, K], the beams where the words of a caption were: memory is not copied."""
        logits, following = self._step(token, states, memories, recurrent.advance_beams)
        shape = tf.shape(token)
        return tf.reshape(logits, (shape[0], shape[1], self.words)), following, None

    def _step(self, token: Any, states: Tensors, memories: Tensors, advance: Any) -> tuple[Any, Tensors]:
        plan = self.plan
        following: Tensors = {}

        def call(key: Key, operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            kind = plan.kinds[key]
            if kind == "image":
                places = range(len(tree.flatten(operation.output)))
                return [memories.get(plan.memories.get((key, place), ""), NOTHING) for place in places]
            if kind == "recurrent":
                sequence, _, mask = recurrent.recurrent_arguments(args, kwargs)
                names = plan.recurrent[key]
                output, after = advance(operation, sequence, [states[name] for name in names], mask, first=False)
                following.update(zip(names, after, strict=True))
                return [output, *after] if operation.return_state else output
            if kind in ("join", "cut"):
                return args[0][-1] if kind == "join" else args[0]
            return args[0][:, None] if kind == "repeat" else operation(*args, **kwargs)

        image = memories.get(plan.memories.get(IMAGE, ""), NOTHING)
        word = tf.cast(token, self.word.dtype)
        given = [word if port == self.word else image for port in self.network.inputs]
        made = functional.evaluate(self.model, given, call)[self.network.outputs.index(self.logits)]
        return _logits(made, self.probabilities), following


# With a dot, so that no tensor of the bundle is taken for them.
_CAPTION, _IMAGE = "whole.caption", "whole.image"


@dataclass(frozen=True, slots=True)
class _Whole:
    """The training model itself: its state is the caption so far, all of which it reads again for every word."""

    cut: _Cut
    longest: int | None
    """How many words it reads; None: any number."""

    def encode(self, image: Any) -> tuple[Tensors, Tensors]:
        """Pixels to an empty caption int64 [B, 0] and themselves."""
        image = tf.cast(image, tf.float32)
        return {_CAPTION: tf.zeros((tf.shape(image)[0], 0), tf.int64)}, {_IMAGE: image}

    def step(self, token: Any, states: Tensors, memories: Tensors) -> tuple[Any, ...]:
        """One more word [N] for captions [N, t]."""
        cut = self.cut
        caption = tf.concat([states[_CAPTION], token[:, None]], axis=1)
        length = tf.shape(caption)[1]
        read = caption
        if self.longest is not None:
            # After the words, where they do not matter, unless only the last place counts.
            empty = self.longest - length
            read = tf.pad(caption, [[0, 0], [0, empty] if cut.plan.rows else [empty, 0]])
            read = tf.ensure_shape(read, (None, self.longest))
        given = {cut.word: read, cut.image: scaled(memories[_IMAGE], cut.scale)}
        made = cut.network.run([given[port] for port in cut.network.inputs])[cut.network.outputs.index(cut.logits)]
        if cut.plan.rows:
            made = made[:, cut.plan.before + length - 1]
        return _logits(tf.reshape(made, (-1, cut.words)), cut.probabilities), {_CAPTION: caption}

    def steps(self) -> Step:
        """The same on beams, compiled, which says when a caption is too long."""
        compiled = probing.traced(beams_from_rows(self.step))

        def step(token: Any, states: Tensors, memories: Tensors) -> tuple[Any, Tensors, Any]:
            if self.longest is not None and states[_CAPTION].shape[-1] >= self.longest:
                raise ExportError(
                    f"{self.cut.network.file}: reads {self.longest} words, too few for captions of --max-length.",
                    f"Use --max-length {self.longest - 1} or less.",
                )
            return compiled(token, states, memories)

        return step


def cut(network: Network, vocabulary: Vocabulary, options: ImportOptions) -> CaptionModel:
    """A captioner of a training model: what depends on the image alone is the encoder, the rest is the step.

    Raises:
        ExportError: it is no such model, or not one whose words can be read one by one.
    """
    if network.model is None:
        raise ExportError(
            f"{network.file}: is a SavedModel, whose layers are not known, so that no step can be cut out of it.",
            "Save it with model.save('model.keras'), or name a decoder of one step: --decoder.",
        )
    special, mapping = special_words(vocabulary, options), read_map(options.map)
    image = find_image(network, mapping)
    if len(network.inputs) == 1:
        raise ExportError(
            f"{network.file}: takes an image and no words, so that it is an encoder without its decoder.",
            "Name the other half: --decoder FILE.",
        )
    word, logits = find_word(network, mapping), find_logits(network, len(vocabulary), mapping)
    if len(network.inputs) != 2:
        raise ExportError(
            f"{network.file}: a training model takes an image and words, and this one more: {network.tensors()}.",
            "Compute the rest in layers, or describe it in a Python file (examples/custom_captioner.py).",
        )
    how, scale = preprocessing(network, image, options), scale_of(network, image, options)
    pixels = probing.pixels(how)
    plan = probing.tried(network, "the model", lambda: probe(network, word, logits, scaled(pixels, scale)))
    if plan.masks and vocabulary.words[0] != special["padding"]:
        raise ExportError(
            f"{network.file}: its Embedding masks the id 0, which is the word {vocabulary.words[0]!r}.",
            "Say that it is padding: --padding WORD. Or give the vocabulary that begins with padding.",
        )
    longest = word.shape[1]
    if not plan.rows and longest is not None and not plan.masks:
        raise ExportError(
            f"{network.file}: always reads {longest} words, padding as well, so that its step is not known.",
            "Train it with mask_zero=True in the Embedding, or with words of any number: Input((None,)).",
        )
    halves = _Cut(network, network.model, image, word, logits, scale, len(vocabulary), plan)
    return _captioner(halves, _Whole(halves, longest), vocabulary, special, how, pixels)


def _captioner(
    halves: _Cut, whole: _Whole, vocabulary: Vocabulary, special: dict[str, str | None], how: Preprocess, pixels: Any
) -> CaptionModel:
    network = halves.network
    states, memories = probing.tried(network, "the encoder", lambda: halves.encode(pixels))
    first = np.ones(probing.IMAGES, np.int64)
    logits = probing.tried(network, "the model", lambda: whole.step(first, *whole.encode(pixels)))[0]
    halves = replace(halves, probabilities=probing.are_probabilities(logits))
    whole = replace(whole, cut=halves)
    _check_steps(halves, whole, pixels)
    wide = probing.same_step(beams_from_rows(halves.rows), halves.beams, states, memories, len(vocabulary))
    generation = Generation()
    if whole.longest is not None:
        generation = structs.replace(generation, max_length=max(1, min(generation.max_length, whole.longest - 1)))
    return caption_model(
        halves.encode,
        halves.beams if wide else halves.rows,
        vocabulary,
        how,
        **special,
        beams=wide,
        generation=generation,
        architecture="keras-training-model",
        parameters=network.parameters,
        recipe={"model": network.file.name, "scale": halves.scale},
        original=Original(whole.encode, whole.steps()),
    )


def _check_steps(halves: _Cut, whole: _Whole, pixels: Any) -> None:
    """Raise an ExportError where words read one by one give something else than the model gives for all of them."""
    random = np.random.default_rng(3)
    network = halves.network
    states, memories = halves.encode(pixels)
    caption, image = whole.encode(pixels)
    for place in range(min(STEPS, whole.longest or STEPS)):
        token = tf.constant(random.integers(1, halves.words, probing.IMAGES))
        want, caption = whole.step(token, caption, image)
        got, states = probing.tried(network, "its step", lambda t=token, s=states: halves.rows(t, s, memories))
        if not probing.same(probing.likely(want), probing.likely(got)):
            doubtful = ", ".join(halves.plan.mixing)
            raise ExportError(
                f"{network.file}: word {place + 1} depends on the words before it in another way than by recurrent "
                f"layers, so that no step can be cut out{': look at ' + doubtful if doubtful else ''}.",
                "Save the decoder that makes one step by itself, or describe it in a Python file "
                "(examples/custom_captioner.py).",
            )


def _without_words(plan: Plan, key: Key, operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A call of the encoder: on the image, and on what comes before the words."""
    kind = plan.kinds[key]
    if kind == "join":
        return tf.concat([part for part in args[0] if part is not NOTHING], axis=1)
    if kind == "cut" and args[0] is not NOTHING and args[0].shape[1] > plan.dropped[key]:
        return args[0][:, plan.dropped[key] :]
    if kind in ("cut", "repeat") or any(value is NOTHING for value in tree.flatten((args, kwargs))):
        return [NOTHING] * len(tree.flatten(operation.output))
    return functional.plainly(key, operation, args, kwargs)


def _logits(values: Any, probabilities: bool) -> Any:
    values = tf.cast(values, tf.float32)
    return tf.math.log(tf.maximum(values, probing.TINY)) if probabilities else values
