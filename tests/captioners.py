"""Captioners as people save them with Keras: real architectures, reduced, with weights that make captions vary."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
from keras import layers
from PIL import Image

WORDS, UNITS, SIZE = 60, 24, 32
SPECIAL = ("", "[UNK]", "<start>", "<end>")
VOCABULARY = (*SPECIAL, *(f"word{index}" for index in range(WORDS - len(SPECIAL))))


def write_images(folder: Path, count: int = 64) -> Path:
    """Images of soft coloured patches."""
    folder.mkdir()
    random = np.random.default_rng(2)
    for index in range(count):
        patches = random.integers(0, 256, (random.integers(2, 6), random.integers(2, 6), 3)).astype(np.uint8)
        Image.fromarray(patches).resize((80, 60), Image.Resampling.BICUBIC).save(folder / f"{index:02}.jpg", quality=90)
    return folder


def write_vocabulary(folder: Path) -> Path:
    """The words one a line; the first, of padding, is empty."""
    file = folder / "vocabulary.txt"
    file.write_text("".join(f"{word}\n" for word in VOCABULARY), encoding="utf-8")
    return file


def small_network(image: Any) -> Any:
    """A convolutional network of three layers: [B, 32, 32, 3] -> [B, 4, 4, 32]."""
    x = image
    for filters in (8, 16, 32):
        x = layers.Conv2D(filters, 3, strides=2, padding="same", activation="relu")(x)
    return x


def spread(model: keras.Model, layer: str, scale: str = "0..1", gain: float = 1.0, images: int = 24) -> None:
    """Give a Dense layer of a random encoder the weights that make its output differ from image to image."""
    dense = model.get_layer(layer)
    random = np.random.default_rng(5)
    patches = random.integers(0, 256, (images, 3, 3, 3)).astype(np.float32)
    height, width = model.inputs[0].shape[1:3]
    pixels = keras.ops.image.resize(patches, (height, width))
    pixels = {"0..1": pixels / 255.0, "-1..1": pixels / 127.5 - 1.0, "0..255": pixels}[scale]
    before = keras.Model(model.inputs, dense.input)
    # Random layers shrink what they get: BatchNormalization brings it back, once it has seen some.
    norms = [layer for layer in model._flatten_layers() if isinstance(layer, layers.BatchNormalization)]
    for norm in norms:
        norm.momentum = 0.0
    before(pixels, training=bool(norms))
    features = np.asarray(before(pixels, training=False))
    features = features.reshape(-1, features.shape[-1])
    kernel = random.normal(0, 1, dense.kernel.shape) / np.sqrt(dense.kernel.shape[0])
    kernel *= gain / max(features.std(axis=0).mean(), 1e-6)
    dense.kernel.assign(kernel)
    dense.bias.assign(-(features.mean(axis=0) @ kernel))


def loud(*found: keras.Layer, gain: float = 12.0) -> None:
    """Make the first weights of layers large, so that words matter."""
    for layer in found:
        layer.weights[0].assign(layer.weights[0] * gain)


def lab(
    network: Any = small_network,
    size: int = SIZE,
    recurrent: str = "gru",
    words: int | None = None,
    images: int = 24,
    **settings: Any,
) -> tuple[keras.Model, keras.Model, keras.Model]:
    """The "image captioning with visual attention" lab: encoder, prediction decoder and training model share layers.

    Args:
        network: image -> map.
        recurrent: gru or lstm.
        words: how long the decoder's word input is declared; None: any length.
        images: how many are looked at for the weights to vary by; a large network holds them all in memory.
        settings: of the recurrent layer.
    """
    keras.utils.set_random_seed(3)
    image = keras.Input((size, size, 3), name="image")
    features = network(image)
    regions = layers.Reshape((features.shape[1] * features.shape[2], features.shape[3]))(features)
    encoded = layers.Dense(UNITS, activation="relu", name="regions")(regions)
    encoder = keras.Model(image, encoded, name="encoder")
    spread(encoder, "regions", gain=3.0, images=images)
    word = keras.Input((words,), name="words")
    embedding = layers.Embedding(WORDS, UNITS, name="embedding")
    kind = layers.GRU if recurrent == "gru" else layers.LSTM
    layer = kind(UNITS, return_sequences=True, return_state=True, name=f"decoder_{recurrent}", **settings)
    attention, norm = layers.Attention(name="attention"), layers.LayerNormalization(name="norm")
    dense = layers.Dense(WORDS, name="logits")

    def logits(output: Any, memory: Any) -> Any:
        return dense(norm(layers.Add()([output, attention([output, memory])])))

    training = keras.Model([image, word], logits(layer(embedding(word))[0], encoded))
    names = [f"{recurrent}_state_input"] if recurrent == "gru" else ["hidden_input", "carry_input"]
    before = [keras.Input((UNITS,), name=name) for name in names]
    memory = keras.Input(encoded.shape[1:], name="encoder_output")
    output, *after = layer(embedding(word), initial_state=before if len(before) > 1 else before[0])
    decoder = keras.Model([word, *before, memory], [logits(output, memory), *after], name="decoder")
    loud(embedding, dense)
    return encoder, decoder, training


def with_state(network: Any = small_network, size: int = SIZE, **settings: Any) -> tuple[keras.Model, keras.Model]:
    """Encoder and decoder by "Show and Tell": the image's vector is the first state, and nothing else is looked at.

    Args:
        settings: of the last layer.
    """
    keras.utils.set_random_seed(6)
    image = keras.Input((size, size, 3), name="image")
    features = network(image)
    features = layers.GlobalAveragePooling2D()(features) if len(features.shape) == 4 else features
    encoder = keras.Model(image, layers.Dense(UNITS, name="image_vector")(features))
    spread(encoder, "image_vector", "-1..1")
    word, state = keras.Input((1,), dtype="int32", name="token"), keras.Input((UNITS,), name="state")
    embedding, dense = layers.Embedding(WORDS, UNITS), layers.Dense(WORDS, **settings)
    output, after = layers.GRU(UNITS, return_state=True)(embedding(word), initial_state=state)
    decoder = keras.Model([state, word], [after, dense(output)])
    loud(embedding, dense)
    return encoder, decoder


def save(model: keras.Model, file: Path) -> None:
    """Save as the ending says; without one, as a SavedModel folder."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if file.suffix:
            model.save(file)
        else:
            model.export(file, verbose=False)


def reordered(decoder: keras.Model, inputs: Sequence[int], outputs: Sequence[int]) -> keras.Model:
    """The same decoder with its tensors in another order."""
    return keras.Model([decoder.inputs[i] for i in inputs], [decoder.outputs[i] for i in outputs])


def show_and_tell(
    kind: str, recurrent: str = "lstm", network: Any = small_network, size: int = SIZE, **settings: Any
) -> keras.Model:
    """A training model by "Show and Tell": words [B, T] and image -> logits [B, T, V].

    Args:
        kind: how the image gets in: ``first`` (its embedding before the words, on the time axis), ``first-uncut``
            (the same, with logits for the image's own step), ``state`` (as the first state), ``each`` (beside every
            word) or ``merge`` (added to the last output; the model says the last next word only).
    """
    keras.utils.set_random_seed(8)
    image = keras.Input((size, size, 3), name="image")
    features = layers.Flatten()(network(image)) if network is small_network else network(image)
    vector = layers.Dense(UNITS, name="image_vector")(features)
    spread(keras.Model(image, vector), "image_vector", gain=2.0)
    word = keras.Input((12 if kind == "each" else None,), dtype="int32", name="words")
    embedding = layers.Embedding(WORDS, UNITS, mask_zero=kind == "merge")
    dense = layers.Dense(WORDS, name="logits", **settings)
    layer = (layers.LSTM if recurrent == "lstm" else layers.GRU)(UNITS, return_sequences=kind != "merge", name="rnn")
    words = layers.Dropout(0.3)(embedding(word))
    if kind.startswith("first"):
        before = layers.Reshape((1, UNITS))(vector)
        output = layer(layers.Concatenate(axis=1)([before, words]))
        output = layers.Cropping1D((1, 0))(output) if kind == "first" else output
    elif kind == "each":
        output = layer(layers.Concatenate()([words, layers.RepeatVector(12)(vector)]))
    elif kind == "state":
        output = layer(words, initial_state=[vector, layers.Activation("tanh")(vector)])
    else:
        output = layers.Add()([layer(words), vector])
    model = keras.Model([word, image], dense(output))
    loud(embedding, dense)
    return model


def looking() -> tuple[keras.Model, keras.Model]:
    """The encoder gives a map [B, 4, 4, D]; the decoder takes regions [B, R, D] and says where it looked."""
    keras.utils.set_random_seed(5)
    image = keras.Input((SIZE, SIZE, 3), name="image")
    encoder = keras.Model(image, layers.Dense(UNITS, activation="relu", name="regions")(small_network(image)))
    spread(encoder, "regions", gain=3.0)
    word, state = keras.Input((1,), dtype="int64", name="words"), keras.Input((UNITS,), name="state")
    memory = keras.Input((None, UNITS), name="features")
    embedding, dense = layers.Embedding(WORDS, UNITS), layers.Dense(WORDS)
    output, after = layers.GRU(UNITS, return_sequences=True, return_state=True)(embedding(word), initial_state=state)
    weights = layers.Softmax(name="alpha")(layers.Dot(axes=2)([output, memory]))
    looked = layers.Dot(axes=(2, 1))([weights, memory])
    decoder = keras.Model([word, memory, state], [weights, dense(layers.Concatenate()([output, looked])), after])
    loud(embedding, dense)
    return encoder, decoder


def as_keras_2(file: Path) -> None:
    """Rewrite the description in an ``.h5`` file of a functional model to the form in which Keras 2 wrote it."""
    with h5py.File(file, "r+") as opened:
        config = json.loads(opened.attrs["model_config"])
        for layer in config["config"]["layers"]:
            settings = layer["config"]
            settings["dtype"] = "float32"
            settings.pop("quantization_config", None)
            settings.pop("optional", None)
            if "batch_shape" in settings:
                settings["batch_input_shape"] = settings.pop("batch_shape")
            if layer["class_name"] in ("GRU", "LSTM"):
                settings["time_major"] = False
                settings.pop("seed", None)
            layer["inbound_nodes"] = [_keras_2_node(node) for node in layer["inbound_nodes"]]
        opened.attrs["model_config"], opened.attrs["keras_version"] = json.dumps(config), "2.8.0"


def _keras_2_node(node: dict[str, Any]) -> list[Any]:
    """A call as a list of [layer, node, tensor, keywords]; initial states stand behind the sequence."""
    found: list[Any] = []

    def gather(value: Any) -> None:
        if isinstance(value, dict) and value.get("class_name") == "__keras_tensor__":
            found.append([*value["config"]["keras_history"], {}])
        elif isinstance(value, dict):
            for inner in value.values():
                gather(inner)
        elif isinstance(value, list):
            for inner in value:
                gather(inner)

    gather([node["args"], node["kwargs"]])
    return found
