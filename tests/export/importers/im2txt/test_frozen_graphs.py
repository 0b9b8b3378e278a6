"""Frozen graphs of the Show and Tell code: cut into an encoder and a step, or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="the export extra is not installed")

import tensorflow as tf
from proofs import call
from tiny_im2txt import tiny

from batchcap.errors import ExportError
from batchcap.images.preprocess import Preprocess
from batchcap_export.importers.im2txt import frozen
from batchcap_export.importers.sources import open_source
from batchcap_export.options.importing import ImportOptions


def test_a_batch_is_its_images_one_by_one() -> None:
    graph = frozen.inspect_graph(tiny(), "tiny.pb")
    assert graph.preprocess == Preprocess(31, 25, 40, 36, "bilinear-tf1", "center-crop", "float32", "fast")
    images = np.random.default_rng(1).uniform(0, 255, (5, 31, 25, 3)).astype(np.float32)
    alone = np.concatenate([frozen.single_encoder(graph)(tf.constant(image[None])) for image in images])
    assert np.ptp(alone, axis=0).min() > 1e-3
    np.testing.assert_allclose(frozen.encoder(graph)(tf.constant(images)), alone, atol=1e-6)


def test_other_ways_to_resize() -> None:
    graph = tiny(resize=lambda image: tf.image.resize(image, [31, 25]))
    how = frozen.inspect_graph(graph, "x.pb").preprocess
    assert how == Preprocess(31, 25, 31, 25, "bilinear", "stretch", "float32", "fast")
    graph = tiny(resize=lambda image: tf.compat.v1.image.resize_images(image, [20, 20]))
    assert frozen.inspect_graph(graph, "x.pb").preprocess.fit == "pad"


@pytest.mark.parametrize(
    ("graph", "told"),
    [
        (
            {"image_name": "pixels"},
            r"has no tensor image_feed\. It takes input_feed, lstm/state_feed, pixels and gives",
        ),
        ({"out": lambda logits, name: tf.nn.softmax(logits)}, "has no tensor softmax"),
        ({"out": tf.nn.sigmoid}, "softmax comes from Sigmoid, not from Softmax"),
        ({"word_type": tf.int32}, "input_feed is int32, not int64"),
        ({"prepare": lambda image: image}, r"prepares images otherwise than .* resize to 40x36"),
        ({"prepare": lambda image: (image - 0.5) * 2.002}, r"off by 0\.001"),
        ({"resize": lambda image: tf.compat.v1.image.resize_images(image, [40, 36], method=2)}, r"\(1 and 0\)"),
        ({"around": True}, "by another way"),
        ({"frozen_": False}, "is not frozen"),
        ({"prepare": lambda image: tf.debugging.check_numerics(image / 0.0, "odd")}, "cannot run this graph: .*odd"),
    ],
)
def test_a_graph_that_does_not_fit(graph: dict[str, Any], told: str) -> None:
    with pytest.raises(ExportError, match=told):
        frozen.inspect_graph(tiny(**graph), "x.pb")


def test_a_training_graph(vocabulary: Path, tmp_path: Path) -> None:
    with tf.Graph().as_default() as graph:
        examples = tf.compat.v1.placeholder(tf.float32, [32, 299, 299, 3], "batch/images")
        tf.reduce_sum(examples, name="losses/batch_loss")
    (tmp_path / "train.pb").write_bytes(graph.as_graph_def().SerializeToString())
    with pytest.raises(
        ExportError, match=r"takes batch/images and gives losses/batch_loss\..*a training graph has not"
    ):
        open_source(str(tmp_path / "train.pb"), ImportOptions(vocabulary=vocabulary))


@pytest.mark.parametrize(("content", "told"), [(b"no graph at all", "is no graph"), (b"", "without nodes")])
def test_a_file_that_is_no_graph(content: bytes, told: str, vocabulary: Path, tmp_path: Path) -> None:
    (tmp_path / "x.pb").write_bytes(content)
    # So many that the graph is read: too few are told before.
    for index in range(64):
        (tmp_path / f"{index}.png").touch()
    result = call("export", tmp_path / "x.pb", "--vocabulary", vocabulary, "-o", tmp_path / "b", "--images", tmp_path)
    assert result.exit_code == 1
    assert told in " ".join(result.stderr.split())
    assert not (tmp_path / "b").exists()
    with pytest.raises(ExportError, match=r"y\.pb: cannot be read: No such file"):
        open_source(str(tmp_path / "y.pb"), ImportOptions(vocabulary=vocabulary))
