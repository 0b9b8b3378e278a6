"""Saved Keras encoders and decoders: the whole way to a bundle, and what is said of those that do not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tensorflow", reason="the export extra is not installed")

import captioners
import keras
import numpy as np
from captioners import UNITS
from keras import layers
from keras_proofs import exported
from proofs import call, captions_of, check_graphs, shapes

from batchcap.errors import ExportError
from batchcap_export.importers.sources import open_source
from batchcap_export.options.importing import ImportOptions


@pytest.fixture(scope="module")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return captioners.write_images(tmp_path_factory.mktemp("images") / "photos")


def test_the_lab_on_the_command_line(tmp_path: Path, image_folder: Path) -> None:
    encoder, decoder, _ = captioners.lab()
    encoder.save(tmp_path / "encoder.keras")
    decoder.save(tmp_path / "decoder.keras")
    done = call(
        "export", tmp_path / "encoder.keras", "--decoder", tmp_path / "decoder.keras", "--scale", "0..1",
        "--vocabulary", captioners.write_vocabulary(tmp_path), "--images", image_folder, "-o", tmp_path / "lab",
        "--max-length", 8,
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert "64 of 64 captions identical" in done.stdout
    # Its words are in the bundle.
    verified = call(
        "verify", tmp_path / "lab", "--origin", tmp_path / "encoder.keras", "--decoder", tmp_path / "decoder.keras",
        "--scale", "0..1", "--images", image_folder,
    )  # fmt: skip
    assert verified.exit_code == 0, verified.stdout + verified.stderr
    assert "no --vocabulary was named, so the words are the bundle's own" in " ".join(verified.stdout.split())
    check_graphs(tmp_path / "lab")
    assert {"state.gru_state_input", "memory.encoder_output"} <= shapes(tmp_path / "lab" / "decoder.onnx").keys()
    captions = captions_of(tmp_path / "lab", image_folder, tmp_path / "c.jsonl")
    assert len(captions) == 64
    assert len(set(captions)) >= 32
    assert all(word.startswith("word") for caption in captions for word in caption.split())


@pytest.mark.parametrize(
    ("recurrent", "settings", "ending", "inputs", "outputs"),
    [
        ("gru", {"reset_after": False}, ".h5", (2, 0, 1), (1, 0)),
        ("gru", {"words": 20}, ".keras", (1, 2, 0), (0, 1)),
        ("lstm", {}, ".keras", (2, 1, 3, 0), (2, 0, 1)),
        ("lstm", {}, "", (3, 0, 2, 1), (1, 2, 0)),
    ],
    ids=["h5-gru-before", "keras-gru-20-words", "keras-lstm", "savedmodel-lstm"],
)
def test_the_lab_in_any_form_and_order(
    tmp_path: Path, image_folder: Path, recurrent: str, settings: Any, ending: str, inputs: Any, outputs: Any
) -> None:
    encoder, decoder, _ = captioners.lab(recurrent=recurrent, **settings)
    decoder = captioners.reordered(decoder, inputs, outputs)
    files = tmp_path / f"encoder{ending}", tmp_path / f"decoder{ending}"
    for model, file in zip((encoder, decoder), files, strict=True):
        captioners.save(model, file)
    bundle, _ = exported(tmp_path, image_folder, files[0], decoder=files[1])
    states = ["gru_state_input"] if recurrent == "gru" else ["carry_input", "hidden_input"]
    found = shapes(bundle.folder / "decoder.onnx")
    assert {name for name in found if "state" in name.split(".")[0]} == {
        f"{side}.{name}" for side in ("state", "next_state") for name in states
    }
    assert found["memory.encoder_output"] == ["B", 16, UNITS]
    assert all(found[f"state.{name}"] == ["B", "P", UNITS] for name in states)
    assert found["log_prob"] == ["B", "K", "C"]
    assert shapes(bundle.folder / "encoder.onnx")["image"] == ["B", 32, 32, 3]
    how = bundle.manifest.preprocess
    assert (how.method, how.pixels, how.jpeg_dct, how.fit) == ("bilinear", "float32", "fast", "stretch")


def mobile_net(image: Any) -> Any:
    return keras.applications.MobileNetV2((64, 64, 3), include_top=False, weights=None, pooling="avg")(image)


def nested_network(image: Any) -> Any:
    """As MobileNetV2 is in it: a model that is one layer of the encoder, with batch normalization and an average."""
    inside = keras.Input((64, 64, 3))
    x = layers.ReLU(6.0)(layers.BatchNormalization()(layers.Conv2D(16, 3, strides=4, use_bias=False)(inside)))
    x = layers.ReLU(6.0)(layers.BatchNormalization()(layers.DepthwiseConv2D(3, strides=2, use_bias=False)(x)))
    return keras.Model(inside, layers.GlobalAveragePooling2D()(layers.Conv2D(64, 1)(x)))(image)


@pytest.mark.parametrize("network", [nested_network, pytest.param(mobile_net, marks=pytest.mark.full)])
def test_a_vector_as_the_first_state_and_probabilities(tmp_path: Path, image_folder: Path, network: Any) -> None:
    """A network's average, the state of a GRU whose last layer is a softmax; the words come as one [B, 1]."""
    encoder, decoder = captioners.with_state(network, 64, activation="softmax")
    encoder.save(tmp_path / "encoder.keras")
    decoder.save(tmp_path / "decoder.keras")
    bundle, _ = exported(
        tmp_path, image_folder, tmp_path / "encoder.keras", decoder=tmp_path / "decoder.keras", scale="-1..1"
    )
    found = shapes(bundle.folder / "decoder.onnx")
    assert found["state.state"] == ["B", "P", UNITS]
    assert not [name for name in found if name.startswith("memory")]
    assert bundle.manifest.provenance.recipe == {
        "encoder": "encoder.keras", "decoder": "decoder.keras", "scale": "-1..1",
    }  # fmt: skip


def test_a_map_is_read_as_regions_and_attention_is_kept(tmp_path: Path, image_folder: Path) -> None:
    encoder, decoder = captioners.looking()
    encoder.save(tmp_path / "encoder.keras")
    decoder.save(tmp_path / "decoder.keras")
    bundle, _ = exported(tmp_path, image_folder, tmp_path / "encoder.keras", decoder=tmp_path / "decoder.keras")
    found = shapes(bundle.folder / "decoder.onnx")
    assert found["memory.features"] == ["B", 16, UNITS]
    assert found["attention"][:2] == ["B", "K"]
    assert bundle.manifest.attention_grid == (4, 4)


@pytest.mark.parametrize("recurrent", ["gru", "lstm"])
def test_the_lab_as_keras_2_wrote_it(tmp_path: Path, recurrent: str) -> None:
    """Initial states in one list with the sequence, and settings that Keras 3 has no more: the same numbers."""
    encoder, decoder, _ = captioners.lab(recurrent=recurrent, words=20)
    for model, name in ((encoder, "encoder.h5"), (decoder, "decoder.h5")):
        captioners.save(model, tmp_path / name)
        captioners.as_keras_2(tmp_path / name)
    options = ImportOptions(
        vocabulary=captioners.write_vocabulary(tmp_path), decoder=tmp_path / "decoder.h5", scale="0..1"
    )
    model = open_source(str(tmp_path / "encoder.h5"), options)
    image = np.random.default_rng(1).uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)
    states, memories = model.encode(image)
    want_memory = encoder(image / 255)
    np.testing.assert_allclose(memories["encoder_output"], want_memory, atol=1e-5)
    zeros = [np.zeros((2, UNITS), np.float32)] * len(states)
    layer = decoder.get_layer(f"decoder_{recurrent}")
    words = decoder.get_layer("embedding")(np.array([[5], [9]]))
    output, *after = layer(words, initial_state=zeros if len(zeros) > 1 else zeros[0])
    looked = decoder.get_layer("attention")([output, want_memory])
    want = decoder.get_layer("logits")(decoder.get_layer("norm")(output + looked))
    logits, following, _ = model.step(np.array([[5], [9]]), {n: s[:, None] for n, s in states.items()}, memories)
    np.testing.assert_allclose(logits, want, atol=1e-4)
    names = ["gru_state_input"] if recurrent == "gru" else ["hidden_input", "carry_input"]
    for name, state in zip(names, after, strict=True):
        np.testing.assert_allclose(following[name][:, 0], state, atol=1e-5)


def test_a_loop_that_stays_is_named(tmp_path: Path, image_folder: Path) -> None:
    """A Bidirectional layer over the regions is no single step, and is not taken apart."""
    encoder, decoder, _ = captioners.lab()
    both = layers.Bidirectional(layers.GRU(UNITS, return_sequences=True), merge_mode="sum", name="both")
    encoder = keras.Model(encoder.inputs, both(encoder.outputs[0]))
    encoder.save(tmp_path / "encoder.keras")
    decoder.save(tmp_path / "decoder.keras")
    with pytest.raises(ExportError, match=r"Loop \(.*both.*gru.*\): the name tells the layer"):
        exported(tmp_path, image_folder, tmp_path / "encoder.keras", decoder=tmp_path / "decoder.keras")
    assert not (tmp_path / "proof").exists()
