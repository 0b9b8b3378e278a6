"""A whole export of each architecture: graphs by the contract, the proof, and captions of images by the result."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from batchcap_export.convert import finishing
from batchcap_export.packaging import bundle_files

pytest.importorskip("tensorflow", reason="the export extra is not installed")

import onnx
import onnxruntime as ort
import tensorflow as tf
from architectures import MARKS, UNITS, options_of, random_captioner, random_model
from proofs import captions_of, check_graphs, shapes

from batchcap.bundle.detokenizer import Text
from batchcap.errors import ExportError, OutputError
from batchcap.options.decoding import DecodingOptions
from batchcap_export.convert import graphs
from batchcap_export.data.texts import ENGLISH
from batchcap_export.model.caption_model import CaptionModel
from batchcap_export.options.bundles import BundleOptions
from batchcap_export.packaging.bundling import export_model
from batchcap_export.proof import parity
from batchcap_export.proof.evaluate import Evaluation, caption_files
from batchcap_export.proof.reference import reference_captions
from batchcap_export.training.dev_scores import caption_features
from batchcap_export.training.finished_run import trained_model
from batchcap_export.training.trained_captioner import TrainedCaptioner

OPTIONS = options_of(tied=True)


def as_model(captioner: TrainedCaptioner) -> CaptionModel:
    return trained_model(captioner, OPTIONS, {"epochs": 0})


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """64 images of soft coloured patches."""
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(2)
    files = []
    for index in range(64):
        patches = random.integers(0, 256, (random.integers(2, 6), random.integers(2, 6), 3)).astype(np.uint8)
        file = folder / f"{index:02}.jpg"
        Image.fromarray(patches).resize((200, 150), Image.Resampling.BICUBIC).save(file, quality=90)
        files.append(file)
    return files


@pytest.mark.parametrize(
    ("architecture", "own", "backbone", "size", "store"),
    [
        ("attention-gru", {"tied": True}, "small", None, "int8"),
        ("attention-gru", {"learned_state": True}, "tiny", None, "float32"),
        ("show-and-tell", {}, "VGG16", 32, "float32"),
        ("show-and-tell", {"image_as": "state"}, "tiny", None, "float32"),
        ("show-attend-tell", {}, "small", None, "float16"),
        # Large networks take minutes to convert.
        pytest.param("attention-gru", {"learned_state": True}, "small", None, "float16", marks=pytest.mark.full),
        pytest.param("attention-gru", {}, "InceptionResNetV2", 96, "float32", marks=pytest.mark.full),
        pytest.param("show-and-tell", {}, "VGG16", 64, "float32", marks=pytest.mark.full),
        pytest.param("show-and-tell", {"image_as": "state"}, "small", None, "int8", marks=pytest.mark.full),
        pytest.param("show-and-tell", {"image_as": "state"}, "ResNet50", 64, "float32", marks=pytest.mark.full),
    ],
)
def test_the_bundle_says_what_the_model_says(
    photos: list[Path],
    tmp_path: Path,
    architecture: str,
    own: dict[str, Any],
    backbone: str,
    size: int | None,
    store: Any,
) -> None:
    trained = options_of(architecture, **own)
    captioner = random_captioner(trained, backbone, size)
    said: list[str] = []
    options = BundleOptions(name="proof", store=store, max_length=12, text="english")
    model = trained_model(captioner, trained, {"epochs": 0})
    bundle, proof = export_model(model, tmp_path / "proof", options, photos, said.append)
    assert proof.images == 64
    assert proof.distinct >= 32
    assert proof.identical + proof.ties == 64
    assert proof.ties <= 1
    assert proof.log_prob < 1e-3
    assert [path.name for path in tmp_path.iterdir()] == ["proof"]
    select = onnx.load(bundle.folder / "select.onnx").graph
    assert {node.op_type for node in select.node} == {"Gather"}
    assert not select.initializer
    regions, features = captioner.backbone.grid[0] * captioner.backbone.grid[1], captioner.backbone.features
    states, memories = {
        "attention-gru": (["gru"], {"regions": UNITS}),
        "show-and-tell": (["h", "c"], {}),
        "show-attend-tell": (["h", "c"], {"values": features, "keys": UNITS}),
    }[architecture]
    carried = {f"state.{name}": ["B", "P", UNITS] for name in states}
    carried |= {f"memory.{name}": ["B", regions, width] for name, width in memories.items()}
    assert shapes(bundle.folder / "select.onnx") == {
        "rows": ["S"],
        **carried,
        **{f"selected.{name}": ["S", *shape[1:]] for name, shape in carried.items()},
    }
    check_graphs(bundle.folder)
    attends = architecture != "show-and-tell"
    assert shapes(bundle.folder / "decoder.onnx") == {
        "token": ["B", "K"],
        "parent": ["B", "K"],
        "candidates": [1],
        **carried,
        "log_prob": ["B", "K", "C"],
        "next_token": ["B", "K", "C"],
        **{f"next_state.{name}": ["B", "K", UNITS] for name in states},
        **({"attention": ["B", "K", regions]} if attends else {}),
    }
    assert bundle.manifest.attention_grid == (captioner.backbone.grid if attends else None)
    card = (bundle.folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert proof.summary() in card
    written = captions_of(bundle.folder, photos[0].parent, tmp_path / "c.jsonl", "--device", "cpu", "--batch-size", 8)
    assert len(written) == 64
    assert not any(f" {mark}" in caption for caption in written for mark in MARKS)
    # Compared and scored are the words themselves.
    words = caption_files(bundle, photos)
    assert {word for caption in words for word in caption.split()} <= set(captioner.vocabulary.words)
    assert any(f" {mark}" in caption for caption in words for mark in MARKS)


def test_the_same_model_gives_the_same_files(tmp_path: Path) -> None:
    model = random_model(OPTIONS)
    for name in ("one", "two"):
        bundle_files.write_bundle(model, tmp_path / name, BundleOptions(name="same"), "float32")
    for file in ("encoder.onnx", "decoder.onnx", "select.onnx", "bundle.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_how_words_are_written_is_the_model_s_unless_the_export_is_told() -> None:
    model = replace(random_model(OPTIONS), text=ENGLISH)
    assert bundle_files.make_manifest(model, BundleOptions(name="own")).text == ENGLISH
    assert bundle_files.make_manifest(model, BundleOptions(name="told", text="plain")).text == Text()


def test_a_wrong_graph_leaves_no_bundle(photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The decoder is converted from other weights than the model that is compared."""
    captioner = random_captioner(OPTIONS)

    def spoilt(given: CaptionModel) -> onnx.ModelProto:
        kernel = captioner.decoder.gru.cell.kernel  # type: ignore[attr-defined]
        kept = kernel.numpy()
        kernel.assign(kept * 1.05)
        model = graphs.convert_decoder(given)
        kernel.assign(kept)
        return model

    monkeypatch.setattr(bundle_files, "convert_decoder", spoilt)
    with pytest.raises(ExportError, match=r"Parity: .*log_prob differs"):
        export_model(as_model(captioner), tmp_path / "bad", BundleOptions(name="bad"), photos, lambda _: None)
    assert list(tmp_path.iterdir()) == []


def test_captions_that_are_all_alike_prove_nothing(photos: list[Path], tmp_path: Path) -> None:
    captioner = random_captioner(OPTIONS)
    captioner.decoder.regions.kernel.assign(captioner.decoder.regions.kernel * 0)  # type: ignore[attr-defined]
    with pytest.raises(ExportError, match="captions are distinct"):
        export_model(as_model(captioner), tmp_path / "dull", BundleOptions(name="dull"), photos, lambda _: None)
    assert list(tmp_path.iterdir()) == []


def test_what_stands_in_the_way_is_named(photos: list[Path], tmp_path: Path) -> None:
    model = random_model(OPTIONS)
    with pytest.raises(ExportError, match="needs 64 images, not 5"):
        export_model(model, tmp_path / "few", BundleOptions(name="few"), photos[:5], lambda _: None)
    (tmp_path / "there").mkdir()
    with pytest.raises(OutputError, match="there: exists already"):
        export_model(model, tmp_path / "there", BundleOptions(name="there"), photos, lambda _: None)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"file/x: cannot be made: .*/file is no folder"):
        export_model(model, tmp_path / "file" / "x", BundleOptions(name="x"), photos, lambda _: None)


def test_scores_and_rounding_stand_in_the_manifest(photos: list[Path], tmp_path: Path) -> None:
    pytest.importorskip("pycocoevalcap", reason="the eval extra is not installed")
    references = tuple((f"word{i} word{i + 1} word{i + 2} word3",) for i in range(64))
    evaluation = Evaluation("made-up", tuple(photos), references)
    options = BundleOptions(name="scored", store="int8", max_length=6)
    bundle, _ = export_model(
        random_model(OPTIONS), tmp_path / "b", options, photos, lambda _: None, evaluations=[evaluation]
    )
    metrics = {metric.name: metric for metric in bundle.manifest.provenance.metrics}
    assert {"parity", "made-up/cider", "made-up/bleu_4", "changed_by_rounding"} <= set(metrics)
    assert "int8 weights" in metrics["made-up/cider"].signature
    assert 0 <= metrics["changed_by_rounding"].value <= 64


def test_a_captured_constant_is_part_of_the_graph() -> None:
    captured = tf.constant(np.arange(6, dtype=np.float32))
    spec = tf.TensorSpec((None, 6), tf.float32, name="x")
    model = finishing.finish(graphs._convert(lambda x: {"y": x + captured}, [spec], ["x"]), {"x": ("B",), "y": ("B",)})
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    assert [tensor.name for tensor in session.get_inputs()] == ["x"]
    x = np.ones((2, 6), np.float32)
    np.testing.assert_array_equal(session.run(["y"], {"x": x})[0], x + captured)


def test_a_loop_is_refused() -> None:
    layer = tf.keras.layers.GRU(4)
    layer.build((None, None, 3))
    model = graphs._convert(lambda x: {"y": layer(x)}, [tf.TensorSpec((None, None, 3), tf.float32, name="x")], ["x"])
    with pytest.raises(ExportError, match="Loop"):
        finishing.finish(model, {})


def test_training_and_oracle_caption_alike() -> None:
    """The runtime's search over the Keras decoder against the oracle of parity: two ways to the same definition."""
    captioner = random_captioner(OPTIONS)
    random = np.random.default_rng(8)
    pixels = np.repeat(np.repeat(random.integers(0, 256, (6, 5, 5, 3)), 32, axis=1), 32, axis=2).astype(np.uint8)
    decoding = DecodingOptions(beam_size=4, max_length=8, length_penalty=1.0)
    oracle = reference_captions(captioner, pixels, decoding, 1, 2, [0, 1, 3])
    features = captioner.backbone.model(pixels.astype(np.float32), training=False).numpy().reshape(6, 49, -1)
    captions = caption_features(captioner, features, decoding)
    for caption, expected in zip(captions, oracle, strict=True):
        assert caption == captioner.vocabulary.detokenize(expected.tokens) or expected.gap < parity.TIE
