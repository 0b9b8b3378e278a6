"""A whole export of attention-gru: the graphs of the contract, the proof, and `run` on photographs with the result."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("tensorflow", reason="the export extra is not installed")

import onnx
import tensorflow as tf

from batchcap.captioner import Captioner
from batchcap.errors import ExportError, OutputError
from batchcap.options import DecodingOptions
from batchcap.text import Text
from batchcap.vocabulary import Vocabulary
from batchcap_export import bundling, convert, parity
from batchcap_export.architectures import AttentionGRU
from batchcap_export.backbones import load_backbone
from batchcap_export.bundling import BundleOptions, Evaluation, export_model
from batchcap_export.datasets import SPECIAL
from batchcap_export.model import CaptionModel
from batchcap_export.reference import reference_captions
from batchcap_export.stepping import TrainedCaptioner
from batchcap_export.texts import ENGLISH
from batchcap_export.train import TrainOptions, caption_features, preprocessing, trained_model

WORDS = 300
MARKS = ENGLISH.no_space_before
NOWHERE = Path("nowhere")
OPTIONS = TrainOptions(images=NOWHERE, captions=NOWHERE, train_split=NOWHERE, dev_split=NOWHERE)


def _model(backbone: str, size: int | None = None, tied: bool = True, learned_state: bool = False) -> CaptionModel:
    return as_model(_captioner(backbone, size, tied, learned_state))


def as_model(captioner: TrainedCaptioner) -> CaptionModel:
    return trained_model(captioner, OPTIONS, {"epochs": 0})


def _captioner(
    backbone: str, size: int | None = None, tied: bool = True, learned_state: bool = False
) -> TrainedCaptioner:
    """Real architecture, random weights, scaled so that captions differ from picture to picture."""
    tf.keras.utils.set_random_seed(11)
    network = load_backbone(backbone, size=size)
    decoder = AttentionGRU(WORDS, 64, tied=tied, learned_state=learned_state)
    decoder.build(((None, None, network.features), (None, None)))
    decoder.embedding.embeddings.assign(decoder.embedding.embeddings * 12)
    random = np.random.default_rng(5)
    # Features of a random network hardly vary: what they have in common is taken out, the rest is made large.
    probe = random.integers(0, 256, (12, 4, 4, 3)).astype(np.float32)
    probe = tf.image.resize(probe, (network.height, network.width))
    features = network.model(probe, training=False).numpy().reshape(-1, network.features)
    kernel = decoder.regions.kernel / max(features.std(axis=0).mean(), 1e-6)
    decoder.regions.kernel.assign(kernel)
    decoder.regions.bias.assign(-(features.mean(axis=0) @ kernel.numpy()))
    if not tied:
        decoder.words.kernel.assign(decoder.words.kernel * 12)
    if learned_state:
        decoder.first_state.assign(random.normal(0, 0.5, 64))
    others = (*SPECIAL, *MARKS)
    vocabulary = Vocabulary((*others, *(f"word{i}" for i in range(WORDS - len(others)))))
    return TrainedCaptioner(network, decoder, vocabulary, preprocessing(network))


def shapes_of(graph: onnx.GraphProto) -> dict[str, list[str | int]]:
    tensors = (*graph.input, *graph.output)
    return {v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in tensors}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """64 pictures of soft coloured patches."""
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
    ("backbone", "size", "tied", "learned_state", "store"),
    [
        ("small", None, True, False, "int8"),
        ("small", None, False, True, "float16"),
        ("InceptionResNetV2", 96, False, False, "float32"),
    ],
)
def test_the_bundle_says_what_the_model_says(
    photos: list[Path], tmp_path: Path, backbone: str, size: int | None, tied: bool, learned_state: bool, store: Any
) -> None:
    captioner = _captioner(backbone, size, tied, learned_state)
    said: list[str] = []
    options = BundleOptions(name="proof", store=store, max_length=12, text="english")
    bundle, proof = export_model(as_model(captioner), tmp_path / "proof", options, photos, said.append)
    assert proof.images == 64
    assert proof.distinct >= 32
    assert proof.identical + proof.ties == 64
    assert proof.ties <= 1
    assert proof.log_prob < 1e-3
    assert [path.name for path in tmp_path.iterdir()] == ["proof"]
    select = onnx.load(bundle.folder / "select.onnx").graph
    assert {node.op_type for node in select.node} == {"Gather"}
    assert not select.initializer
    regions = captioner.backbone.grid[0] * captioner.backbone.grid[1]
    assert shapes_of(select) == {
        "rows": ["S"],
        "state.gru": ["B", "P", 64],
        "memory.regions": ["B", regions, 64],
        "selected.state.gru": ["S", "P", 64],
        "selected.memory.regions": ["S", regions, 64],
    }
    for name in ("encoder.onnx", "decoder.onnx"):
        graph = onnx.load(bundle.folder / name).graph
        assert not {node.op_type for node in graph.node} & {"Loop", "Scan", "If", "BatchNormalization"}
    assert shapes_of(graph) == {
        "token": ["B", "K"],
        "parent": ["B", "K"],
        "candidates": [1],
        "state.gru": ["B", "P", 64],
        "memory.regions": ["B", regions, 64],
        "log_prob": ["B", "K", "C"],
        "next_token": ["B", "K", "C"],
        "next_state.gru": ["B", "K", 64],
        "attention": ["B", "K", regions],
    }
    card = (bundle.folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert proof.summary() in card
    runtime = Captioner.load(bundle.folder, device="cpu", batch_size=8)
    written = [c.captions[0].caption for c in runtime.caption(photos)]
    assert not any(f" {mark}" in caption for caption in written for mark in MARKS)
    # Compared and scored are the words themselves.
    words = bundling._captions(bundle, photos)
    assert {word for caption in words for word in caption.split()} <= set(captioner.vocabulary.words)
    assert any(f" {mark}" in caption for caption in words for mark in MARKS)


def test_the_same_model_gives_the_same_files(tmp_path: Path) -> None:
    model = _model("small")
    for name in ("one", "two"):
        bundling._write(model, tmp_path / name, BundleOptions(name="same"), "float32")
    for file in ("encoder.onnx", "decoder.onnx", "select.onnx", "bundle.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_how_words_are_written_is_the_model_s_unless_the_export_is_told() -> None:
    model = replace(_model("small"), text=ENGLISH)
    assert bundling._manifest(model, BundleOptions(name="own")).text == ENGLISH
    assert bundling._manifest(model, BundleOptions(name="told", text="plain")).text == Text()


def test_a_wrong_graph_leaves_no_bundle(photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The decoder is converted from other weights than the model that is compared."""
    captioner = _captioner("small")

    def spoilt(given: CaptionModel) -> onnx.ModelProto:
        kernel = captioner.decoder.gru.cell.kernel  # type: ignore[attr-defined]
        kept = kernel.numpy()
        kernel.assign(kept * 1.05)
        model = convert.convert_decoder(given)
        kernel.assign(kept)
        return model

    monkeypatch.setattr(bundling, "convert_decoder", spoilt)
    with pytest.raises(ExportError, match=r"Parity: .*log_prob differs"):
        export_model(as_model(captioner), tmp_path / "bad", BundleOptions(name="bad"), photos, lambda _: None)
    assert list(tmp_path.iterdir()) == []


def test_captions_that_are_all_alike_prove_nothing(photos: list[Path], tmp_path: Path) -> None:
    captioner = _captioner("small")
    captioner.decoder.regions.kernel.assign(captioner.decoder.regions.kernel * 0)  # type: ignore[attr-defined]
    with pytest.raises(ExportError, match="captions are distinct"):
        export_model(as_model(captioner), tmp_path / "dull", BundleOptions(name="dull"), photos, lambda _: None)
    assert list(tmp_path.iterdir()) == []


def test_what_stands_in_the_way_is_named(photos: list[Path], tmp_path: Path) -> None:
    model = _model("small")
    with pytest.raises(ExportError, match="needs 64 images, not 5"):
        export_model(model, tmp_path / "few", BundleOptions(name="few"), photos[:5], lambda _: None)
    (tmp_path / "there").mkdir()
    with pytest.raises(OutputError, match="there: exists already"):
        export_model(model, tmp_path / "there", BundleOptions(name="there"), photos, lambda _: None)
    with pytest.raises(OutputError, match="no such folder"):
        export_model(model, tmp_path / "no" / "x", BundleOptions(name="x"), photos, lambda _: None)


def test_scores_and_rounding_stand_in_the_manifest(photos: list[Path], tmp_path: Path) -> None:
    pytest.importorskip("pycocoevalcap", reason="the eval extra is not installed")
    references = tuple((f"word{i} word{i + 1} word{i + 2} word3",) for i in range(64))
    evaluation = Evaluation("made-up", tuple(photos), references)
    options = BundleOptions(name="scored", store="int8", max_length=6)
    bundle, _ = export_model(_model("small"), tmp_path / "b", options, photos, lambda _: None, evaluations=[evaluation])
    metrics = {metric.name: metric for metric in bundle.manifest.provenance.metrics}
    assert {"parity", "made-up/cider", "made-up/bleu_4", "changed_by_rounding"} <= set(metrics)
    assert "int8 weights" in metrics["made-up/cider"].signature
    assert 0 <= metrics["changed_by_rounding"].value <= 64


def test_a_captured_constant_is_not_taken_for_an_input() -> None:
    captured = tf.constant(np.arange(6, dtype=np.float32))
    with pytest.raises(ExportError, match=r"inputs .* were asked for"):
        convert._convert(lambda x: {"y": x + captured}, [tf.TensorSpec((None, 6), tf.float32, name="x")], ["x"])


def test_a_loop_is_refused() -> None:
    layer = tf.keras.layers.GRU(4)
    layer.build((None, None, 3))
    model = convert._convert(lambda x: {"y": layer(x)}, [tf.TensorSpec((None, None, 3), tf.float32, name="x")], ["x"])
    with pytest.raises(ExportError, match="Loop"):
        convert.finish(model, {})


def test_training_and_oracle_caption_alike() -> None:
    """The runtime's search over the Keras decoder against the oracle of parity: two ways to the same definition."""
    captioner = _captioner("small")
    random = np.random.default_rng(8)
    pixels = np.repeat(np.repeat(random.integers(0, 256, (6, 5, 5, 3)), 32, axis=1), 32, axis=2).astype(np.uint8)
    decoding = DecodingOptions(beam_size=4, max_length=8, length_penalty=1.0)
    oracle = reference_captions(captioner, pixels, decoding, 1, 2, [0, 1, 3])
    features = captioner.backbone.model(pixels.astype(np.float32), training=False).numpy().reshape(6, 49, -1)
    captions = caption_features(captioner, features, decoding)
    for caption, expected in zip(captions, oracle, strict=True):
        assert caption == captioner.vocabulary.detokenize(expected.tokens) or expected.gap < parity.TIE
