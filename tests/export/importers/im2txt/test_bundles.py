"""The Show and Tell code's frozen graphs and checkpoints as bundles that print what the original prints."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("tensorflow", reason="the export extra is not installed")

import keras
import tensorflow as tf
from proofs import call, check_graphs, shapes
from show_and_tell import random_weights
from tiny_im2txt import JPEGS, OUTPUTS, WORDS

from batchcap.bundle.bundle import open_bundle
from batchcap.errors import ExportError
from batchcap.images.preprocess import Preprocess
from batchcap_export.importers.im2txt import show_and_tell
from batchcap_export.importers.im2txt.checkpoints import find_checkpoint
from batchcap_export.importers.im2txt.inception_v3 import Layer, inception_v3
from batchcap_export.importers.im2txt.tool import Tool
from batchcap_export.importers.sources import open_source
from batchcap_export.options.importing import ImportOptions


@pytest.fixture(scope="module")
def weights(photos: Path) -> dict[str, NDArray[np.float32]]:
    """All variables of a network of an eighth of the published width. Output 290 is `<UNK>`, 9 more have no word."""
    files = [photos / f"{index}.jpg" for index in range(10, 26)]
    return random_weights(files, width=1 / 8, outputs=OUTPUTS, words=291, units=64, embedding=48)


@pytest.fixture(scope="module")
def original(weights: dict[str, NDArray[np.float32]]) -> Any:
    return show_and_tell.inference_graph(weights)


def test_a_frozen_graph_becomes_a_bundle(original: Any, vocabulary: Path, photos: Path, tmp_path: Path) -> None:
    graph, bundle = tmp_path / "show-and-tell.pb", tmp_path / "told"
    graph.write_bytes(original.SerializeToString())
    exported = call("export", graph, "--vocabulary", vocabulary, "-o", bundle, "--images", photos)
    assert exported.exit_code == 0, exported.stderr
    assert "64 of 64 captions identical" in exported.stdout
    opened = open_bundle(bundle)
    manifest = opened.manifest
    assert manifest.preprocess == Preprocess(299, 299, 346, 346, "bilinear-tf1", "center-crop", "float32", "fast")
    own = manifest.generation
    assert (own.search, own.beam_size, own.max_length, own.length_penalty) == ("im2txt", 3, 19, 0.0)
    assert opened.vocabulary.words == (*WORDS, "<UNK>")
    assert (manifest.tokens.start, manifest.tokens.end, manifest.tokens.unknown) == (1, 2, 290)
    assert manifest.attention_grid is None
    metrics = {metric.name: metric for metric in manifest.provenance.metrics}
    # The one on its side and the PNG are not compared.
    assert f"of {JPEGS} captions as the original tool prints them" in metrics["original_tool"].signature
    assert metrics["original_tool"].value >= 0.98
    assert metrics["original_tool/log_prob"].value < 1e-3
    assert str(tmp_path) not in (bundle / "bundle.json").read_text() + (bundle / "MODEL_CARD.md").read_text()
    check_graphs(bundle)
    found = {name: shapes(bundle / f"{name}.onnx") for name in ("encoder", "decoder")}
    assert found["encoder"] == {"image": ["B", 299, 299, 3], "state.lstm": ["B", 1, 128]}
    assert found["decoder"]["state.lstm"] == ["B", "P", 128]
    assert not [name for name in found["decoder"] if name.startswith("memory")]

    ran = call("run", photos, "-o", tmp_path / "captions.csv", "--model", bundle, "--num-captions", 3, "-q")
    assert ran.exit_code == 0, ran.stderr
    with (tmp_path / "captions.csv").open(newline="") as file:
        rows = {row["path"]: row for row in csv.DictReader(file)}
    assert len(rows) == JPEGS + 2
    assert {row["decoding"].split("#")[0] for row in rows.values()} == {"im2txt3-lp0;num_captions=3;max_length=19"}
    names = sorted(rows.keys() - {"05.jpg", "06.png"})
    tool = Tool(original, WORDS, start="<S>", end="</S>", unknown="<UNK>")
    said = [printed[0] for printed in tool.captions([photos / name for name in names])]
    same = [(row, want) for name, want in zip(names, said, strict=True) if (row := rows[name])["caption"] == want.text]
    # By default no caption holds `<UNK>`.
    assert len(same) + sum("<UNK>" in want.text for want in said) >= 0.98 * JPEGS
    for row, want in same:
        assert float(row["p"]) == pytest.approx(math.exp(want.log_prob), rel=5e-3)


# --- the network ------------------------------------------------------------------------------------------------------


def test_the_table_of_inception_v3_is_that_of_keras() -> None:
    """Both make their convolutions in the same order, so that the weights can be handed over one by one."""

    def number(layer: keras.Layer) -> int:
        """When it was made: Keras numbers the layers of a kind, and lists them by their depth."""
        last = layer.name.rpartition("_")[2]
        return int(last) if last.isdigit() else 0

    keras.utils.set_random_seed(3)
    other = keras.applications.InceptionV3(include_top=False, weights=None, input_shape=(139, 139, 3))
    layers, norms = (
        iter(sorted((layer for layer in other.layers if isinstance(layer, kind)), key=number))
        for kind in (keras.layers.Conv2D, keras.layers.BatchNormalization)
    )
    names = []

    def convolve(name: str, layer: Layer, given: Any) -> Any:
        convolution, norm = next(layers), next(norms)
        assert (layer.channels, layer.kernel) == (convolution.filters, convolution.kernel_size)
        names.append(name)
        out = tf.nn.conv2d(given, convolution.kernel, layer.stride, layer.padding)
        return tf.nn.relu(norm(out, training=False))

    images = np.random.default_rng(0).uniform(-1, 1, (2, 139, 139, 3)).astype(np.float32)
    wanted = other(images, training=False)
    np.testing.assert_allclose(inception_v3(images, convolve), wanted, atol=1e-5 * float(tf.reduce_max(wanted)))
    assert len(names) == len(set(names)) == 94
    assert next(layers, None) is None


OLD = {"kernel": "weights", "bias": "biases"}


@pytest.mark.parametrize("old", [False, True])
def test_a_checkpoint_is_the_same_graph(
    weights: dict[str, NDArray[np.float32]], original: Any, vocabulary: Path, tmp_path: Path, old: bool
) -> None:
    renamed = {"lstm/basic_lstm_cell/" + new: "lstm/basic_lstm_cell/" + OLD[new] for new in OLD} if old else {}
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        named = {renamed.get(name, name): value for name, value in weights.items()}
        named |= {
            "global_step": np.int64(7),
            "InceptionV3/AuxLogits/Conv2d_1b_1x1/weights": np.zeros((1, 1, 2, 2), "f"),
        }
        variables = [tf.compat.v1.Variable(value, name=name) for name, value in named.items()]
        session.run(tf.compat.v1.global_variables_initializer())
        # The code of 2016 wrote one file without an index.
        saver = tf.compat.v1.train.Saver(variables, write_version=1 if old else 2)
        for step in (9, 10):
            saver.save(session, str(tmp_path / "model.ckpt"), step, write_meta_graph=old)
    prefix = find_checkpoint(tmp_path)
    assert prefix == tmp_path / "model.ckpt-10"
    assert find_checkpoint(tmp_path / "model.ckpt-9") == tmp_path / "model.ckpt-9"
    assert show_and_tell.inference_graph(show_and_tell.read_checkpoint(prefix)) == original
    model = open_source(str(tmp_path), ImportOptions(vocabulary=vocabulary))
    assert model.recipe == {"from": "checkpoint", "outputs": OUTPUTS}
    assert model.parameters == sum(value.size for value in weights.values())


def test_a_checkpoint_of_another_network(weights: dict[str, NDArray[np.float32]]) -> None:
    with pytest.raises(ExportError, match=r"no variable seq_embedding/map\. Variables that it has: InceptionV3/"):
        show_and_tell.inference_graph({n: w for n, w in weights.items() if n != "seq_embedding/map"})
    with pytest.raises(
        ExportError, match=r"no variable lstm/basic_lstm_cell/kernel or lstm/basic_lstm_cell/weights or"
    ):
        show_and_tell.inference_graph({})
    name = "InceptionV3/Mixed_6a/Branch_0/Conv2d_1a_1x1/weights"
    with pytest.raises(
        ExportError, match=rf"{name} has the shape \[1, 1, 36, 48\]\. Inception V3 has \[3, 3, 36, 48\]"
    ):
        show_and_tell.inference_graph({**weights, name: weights[name][:1, :1]})
    with pytest.raises(ExportError, match=r"kernel \[112, 256\] does not fit embeddings of 47. It must have 111 rows"):
        show_and_tell.inference_graph({**weights, "seq_embedding/map": weights["seq_embedding/map"][:, :47]})


def test_a_folder_that_only_looks_like_a_checkpoint(vocabulary: Path, tmp_path: Path) -> None:
    (tmp_path / "model.ckpt-1.index").write_bytes(b"nothing")
    with pytest.raises(ExportError, match=r"model\.ckpt-1: is no checkpoint that can be read"):
        open_source(str(tmp_path), ImportOptions(vocabulary=vocabulary))


# --- a graph of a few nodes -------------------------------------------------------------------------------------------


# --- words ------------------------------------------------------------------------------------------------------------


# --- the reference ----------------------------------------------------------------------------------------------------
