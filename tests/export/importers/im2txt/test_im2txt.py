"""The Show and Tell code's frozen graphs and checkpoints as bundles that print what the original prints."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

pytest.importorskip("tensorflow", reason="the export extra is not installed")

import keras
import tensorflow as tf
from proofs import call, check_graphs, shapes
from show_and_tell import random_weights

from batchcap.bundle.bundle import open_bundle
from batchcap.errors import ExportError
from batchcap.images.preprocess import Preprocess
from batchcap_export.exporting.export import export_source
from batchcap_export.exporting.origin import compare
from batchcap_export.importers.im2txt import frozen, opening, show_and_tell
from batchcap_export.importers.im2txt.checkpoints import find_checkpoint
from batchcap_export.importers.im2txt.inception_v3 import Layer, inception_v3
from batchcap_export.importers.im2txt.tool import Printed, Tool
from batchcap_export.importers.sources import open_source
from batchcap_export.options.bundles import BundleOptions
from batchcap_export.options.importing import ImportOptions

OUTPUTS, WORDS = 300, ["a", "<S>", "</S>", *(f"word{i}" for i in range(3, 290))]
JPEGS = 66


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """66 JPEG files, among them one in grey and one in inks; one that lies on its side, and a PNG."""
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(2)
    for index in range(JPEGS + 2):
        patches = random.integers(0, 256, (random.integers(2, 6), random.integers(2, 6), 3)).astype(np.uint8)
        size = (int(random.integers(80, 400)), int(random.integers(80, 400)))
        picture = Image.fromarray(patches).resize(size, Image.Resampling.BICUBIC)
        mode, ending, options = {3: "L", 4: "CMYK"}.get(index, "RGB"), "jpg", {"quality": 90}
        if index == 5:
            exif = Image.Exif()
            exif[0x0112] = 6
            options["exif"] = exif
        elif index == 6:
            ending, options = "png", {}
        picture.convert(mode).save(folder / f"{index:02}.{ending}", **options)
    return folder


@pytest.fixture(scope="module")
def weights(photos: Path) -> dict[str, NDArray[np.float32]]:
    """All variables of a network of an eighth of the published width. Output 290 is `<UNK>`, 9 more have no word."""
    files = [photos / f"{index}.jpg" for index in range(10, 26)]
    return random_weights(files, width=1 / 8, outputs=OUTPUTS, words=291, units=64, embedding=48)


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("words") / "word_counts.txt"
    file.write_text("".join(f"{word} {1000 - i}\n" for i, word in enumerate(WORDS)))
    return file


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


def tiny(
    *,
    prepare: Callable[[Any], Any] = lambda image: (image - 0.5) * 2.0,
    resize: Callable[[Any], Any] = lambda image: tf.compat.v1.image.resize_images(image, [40, 36]),
    out: Callable[[Any, str], Any] = lambda logits, name: tf.nn.softmax(logits, name=name),
    outputs: int = 7,
    image_name: str = "image_feed",
    word_type: Any = tf.int64,
    around: bool = False,
    frozen_: bool = True,
    gain: float = 1.0,
) -> Any:
    """The six tensors around one convolution, with everything that is made for a batch of one.

    ``gain`` is of the state: below 1 what a rounding changes fades instead of growing over the words.
    """
    random = np.random.default_rng(4)

    def weight(*shape: int) -> Any:
        value = random.normal(0, 1, shape).astype(np.float32)
        return tf.constant(value) if frozen_ else tf.compat.v1.Variable(value)

    with tf.Graph().as_default() as graph:
        data = tf.compat.v1.placeholder(tf.string, [], image_name)
        image = resize(tf.image.convert_image_dtype(tf.io.decode_jpeg(data, channels=3), tf.float32))
        image = prepare(tf.image.resize_with_crop_or_pad(image, 31, 25))[None]
        features = tf.nn.conv2d(image, weight(3, 3, 3, 4), 1, "VALID")
        flat = tf.reshape(tf.reduce_mean(features, [1, 2]), [1, -1])
        zeros = tf.zeros([1, 2])
        joined = tf.concat([flat, zeros], 1) @ weight(6, 6)
        if around:
            joined += tf.cast(tf.strings.length(data), tf.float32)
        tf.tanh(joined, "lstm/initial_state")
        word = tf.compat.v1.placeholder(word_type, [None], "input_feed")
        state = tf.compat.v1.placeholder(tf.float32, None, "lstm/state_feed")
        after = tf.tanh(
            tf.raw_ops.Gather(params=weight(outputs, 6), indices=word) + gain * state @ weight(6, 5) @ weight(5, 6),
            "lstm/state",
        )
        out(after @ weight(6, outputs), "softmax")
    return graph.as_graph_def()


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
            {"image_name": "picture"},
            r"has no tensor image_feed\. It takes input_feed, lstm/state_feed, picture and gives",
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


# --- words ------------------------------------------------------------------------------------------------------------


def loaded(tmp_path: Path, text: str, **options: Any) -> Any:
    (tmp_path / "tiny.pb").write_bytes(tiny().SerializeToString())
    (tmp_path / "words.txt").write_bytes(text.encode())
    return opening.load(tmp_path / "tiny.pb", ImportOptions(vocabulary=tmp_path / "words.txt", **options))


def test_words_by_line(tmp_path: Path) -> None:
    plain = loaded(tmp_path, "<S> 9\n</S> 9\na 5\nb'x' 4\n\n")
    assert plain.vocabulary.words == ("<S>", "</S>", "a", "b'x'", "<UNK>")
    repaired = loaded(tmp_path, "b'<S>' 9\nb'</S>' 9\nb\"it's\" 5\nb'caf\\xc3\\xa9' 4\n")
    assert repaired.vocabulary.words == ("<S>", "</S>", "it's", "café", "<UNK>")
    known = loaded(tmp_path, "<S> 9\n<UNK> 9\n</S> 5\n")
    assert (known.vocabulary.words, known.tokens.unknown) == (("<S>", "<UNK>", "</S>"), 1)
    full = loaded(tmp_path, "<S>\n</S>\na\nb\nc\nd\ne\n")
    assert (len(full.vocabulary), full.tokens.unknown) == (7, None)
    named = loaded(tmp_path, "begin\nfinish\na\n", start="begin", end="finish", unknown="other")
    assert (named.vocabulary.words[-1], named.tokens.start) == ("other", 0)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a\n</S>\n", "no start token '<S>'"),
        ("<S>\na\n", "no end token '</S>'"),
        ("<S>\n</S>\na\nb\nc\nd\ne\nf\n", "has 8 words, but the model gives only 7"),
        ("<S>\n\n</S>\n", "line 2 is empty"),
        ("<S>\n</S>\na\na\n", "'a' stands twice"),
        ("", "no start token"),
    ],
)
def test_words_that_do_not_fit(text: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=told):
        loaded(tmp_path, text)


def test_words_are_needed(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"does not hold its words\. Name them: --vocabulary word_counts\.txt"):
        opening.load(tmp_path / "x.pb", ImportOptions())
    with pytest.raises(ExportError, match=r"none\.txt: cannot be read"):
        opening.read_words(tmp_path / "none.txt")
    with pytest.raises(ExportError, match=r"--map does not go with it"):
        open_source(str(tmp_path / "x.pb"), ImportOptions(vocabulary=tmp_path, map=("a=image",)))


@pytest.mark.parametrize("text", ["<S>\n</S>\na\nb\n", "<UNK>\n<S>\n</S>\na\n"])
def test_outputs_without_a_word_count_as_unknown(text: str, tmp_path: Path) -> None:
    model = loaded(tmp_path, text)
    count, unknown = len(model.vocabulary), model.tokens.unknown
    states = {"lstm": tf.constant(np.random.default_rng(0).normal(0, 1, (2, 3, 6)).astype(np.float32))}
    token = tf.constant([[0, 1, 2], [2, 1, 0]], tf.int64)
    logits, _, _ = model.step(token, states, {})
    wanted, following, _ = model.original.step(token, states, {})
    chances = np.exp(tf.nn.log_softmax(logits).numpy())
    np.testing.assert_allclose(chances, np.exp(wanted), atol=1e-6)
    rows = frozen.stepper(frozen.inspect_graph(tiny(), "tiny"))(
        tf.reshape(token, [-1]), tf.reshape(states["lstm"], [6, 6])
    )
    whole = tf.nn.softmax(rows[0]).numpy().reshape(2, 3, 7)
    others = [i for i in range(count) if i != unknown]
    np.testing.assert_allclose(chances[..., others], whole[..., others], atol=1e-6)
    np.testing.assert_allclose(chances.sum(axis=2), 1, atol=1e-6)
    np.testing.assert_allclose(following["lstm"], rows[1].numpy().reshape(2, 3, 6), atol=1e-6)


# --- the reference ----------------------------------------------------------------------------------------------------

# The fake model of the Show and Tell code's own tests, and what they publish of it: see test_im2txt.py.
NEXT = {
    0: [(1, 0.1), (2, 0.2), (3, 0.3), (4, 0.4)],
    2: [(5, 0.1), (6, 0.9)],
    3: [(1, 0.1), (7, 0.4), (8, 0.5)],
    4: [(1, 0.3), (9, 0.3), (10, 0.4)],
    9: [(1, 0.5), (11, 0.5)],
}


def told(following: dict[int, list[tuple[int, float]]], photo: Path) -> tuple[Tool, list[Printed]]:
    """The tool over a table: 0 starts, 1 ends, ten words have a name, and what leads nowhere ends."""
    chances = np.zeros((12, 12), np.float32)
    for word in range(12):
        for after, chance in following.get(word, [(1, 1.0)]):
            chances[word, after] = chance
    with tf.Graph().as_default() as graph:
        tf.compat.v1.placeholder(tf.string, [], "image_feed")
        word = tf.compat.v1.placeholder(tf.int64, [None], "input_feed")
        state = tf.compat.v1.placeholder(tf.float32, [None, 2], "lstm/state_feed")
        tf.zeros([1, 2], name="lstm/initial_state")
        tf.identity(state, "lstm/state")
        tf.gather(tf.constant(chances), word, name="softmax")
    words = ["<S>", "</S>", *(f"w{i}" for i in range(2, 10))]
    tool = Tool(graph.as_graph_def(), words, start="<S>", end="</S>", unknown="<UNK>")
    return tool, tool.captions([photo])[0]


def test_the_reference_finds_the_published_captions(photos: Path) -> None:
    tool, found = told(NEXT, photos / "00.jpg")
    assert [(printed.text, pytest.approx(math.exp(printed.log_prob))) for printed in found] == [
        ("w2 w6", 0.18),
        ("w4 <UNK>", 0.16),
        ("w3 w8", 0.15),
    ]
    assert all(printed.complete for printed in found)
    # Output 11 alone: 10 is the `<UNK>` that the tool appends.
    assert tool.nameless == 1
    assert tool.nameless_share == 0


def test_the_reference_prints_what_never_ended_without_the_last_word(photos: Path) -> None:
    """As the tool's ``sentence[1:-1]``, with the p of all the words; and `<S>` may be said again."""
    _, found = told({0: [(2, 1.0)], 2: [(0, 0.9), (3, 0.1)], 3: [(4, 1.0)], 4: [(4, 1.0)]}, photos / "00.jpg")
    assert [printed.complete for printed in found] == [False] * 3
    # 19 words after the first `<S>`, of which the last is not printed.
    assert [printed.text for printed in found] == [
        " ".join(["w2 <S>"] * 9),
        " ".join(["w2", "w3", *["w4"] * 16]),
        " ".join(["w2", "<S>", "w2", "w3", *["w4"] * 14]),
    ]
    assert [math.exp(printed.log_prob) for printed in found] == pytest.approx([0.9**9, 0.1, 0.09])


def test_a_bundle_that_says_other_things_is_refused(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reference runs another graph than the one that was exported; parity does not see that, the tool does."""
    definition = tiny(outputs=40)
    for node in definition.node:
        node.device = "/job:worker/device:GPU:7"
    (tmp_path / "tiny.pb").write_bytes(definition.SerializeToString())
    (tmp_path / "words.txt").write_text("\n".join(["<S>", "</S>", *(f"w{i}" for i in range(38))]))
    load = opening.load

    def spoilt(*given: Any) -> Any:
        model = load(*given)
        tool = model.prove.args[0]
        tool._words[2:] = reversed(tool._words[2:])
        return model

    monkeypatch.setattr(opening, "load", spoilt)
    how, options = ImportOptions(vocabulary=tmp_path / "words.txt"), BundleOptions(name="b", min_distinct=0.0)
    with pytest.raises(ExportError, match=rf"Only \d+ of {JPEGS} captions as the original tool prints them"):
        export_source(str(tmp_path / "tiny.pb"), how, tmp_path / "b", options, photos, lambda _: None)
    monkeypatch.undo()
    said: list[str] = []
    export_source(str(tmp_path / "tiny.pb"), how, tmp_path / "b", options, photos, said.append)
    assert any(line.startswith(f"{JPEGS} of {JPEGS} captions as the original") for line in said)
    metrics = json.loads((tmp_path / "b" / "bundle.json").read_text())["provenance"]["metrics"]
    assert {"name": "original_tool", "value": 1.0}.items() <= metrics[1].items()
    checks = list(compare(tmp_path / "b", str(tmp_path / "tiny.pb"), how, photos, said.append))
    assert [(check.name, check.passed) for check in checks] == [("origin", True), ("parity", True), ("proof", True)]
    assert checks[-1].result.startswith(f"{JPEGS} of {JPEGS} captions as the original tool prints them")


def speaks(bias: dict[int, float], outputs: int = 40) -> Any:
    """A tiny graph that likes some words better."""
    offsets = np.zeros(outputs, np.float32)
    offsets[[*bias]] = [*bias.values()]
    return tiny(outputs=outputs, gain=0.2, out=lambda logits, name: tf.nn.softmax(logits + offsets, name=name))


def saved(folder: Path, definition: Any, words: int) -> tuple[str, ImportOptions]:
    (folder / "tiny.pb").write_bytes(definition.SerializeToString())
    (folder / "words.txt").write_text("\n".join(["<S>", "</S>", *(f"w{i}" for i in range(2, words))]))
    return str(folder / "tiny.pb"), ImportOptions(vocabulary=folder / "words.txt")


def test_captions_that_never_end_and_a_start_that_comes_again_are_proven(photos: Path, tmp_path: Path) -> None:
    source, how = saved(tmp_path, speaks({0: 3.0, 1: -60.0}), words=40)
    options, said = BundleOptions(name="b", min_distinct=0.0), []
    export_source(source, how, tmp_path / "b", options, photos, said.append)
    line = next(line for line in said if "as the original tool prints them" in line)
    assert line.startswith(f"{JPEGS} of {JPEGS} captions")
    assert f"{JPEGS} cut after 19 words and printed without the last; all three captions: {JPEGS};" in line
    # The words are in the bundle; who names others is told.
    verified = call("verify", tmp_path / "b", "--origin", source, "--images", photos)
    assert verified.exit_code == 0, verified.stdout + verified.stderr
    assert "no --vocabulary was named, so the words are the bundle's own" in " ".join(verified.stdout.split())
    done = call("run", photos, "-o", tmp_path / "c.jsonl", "--model", tmp_path / "b", "--allow-unknown", "-q")
    assert done.exit_code == 0, done.stderr
    captions = [json.loads(row)["caption"].split() for row in (tmp_path / "c.jsonl").read_text().splitlines()]
    assert {len(words) for words in captions} == {18}
    assert any("<S>" in words for words in captions)


def test_a_vocabulary_that_is_too_short_is_named_as_the_cause(photos: Path, tmp_path: Path) -> None:
    source, how = saved(tmp_path, speaks({1: -60.0}), words=20)
    options = BundleOptions(name="b", min_distinct=0.0)
    with pytest.raises(ExportError, match=r"captions as the original tool prints them") as caught:
        export_source(source, how, tmp_path / "b", options, photos, lambda _: None)
    assert "19 of the model's outputs have no word, but" in caught.value.fix
    assert "The vocabulary is shorter than the one that the model was trained with" in caught.value.fix


def test_an_origin_that_cannot_be_compared_is_no_failed_export(photos: Path, tmp_path: Path) -> None:
    done = call("verify", "flickr8k-small", "--origin", tmp_path / "none.pb", "--images", photos)
    assert done.exit_code == 1
    assert done.stderr.startswith("The origin cannot be compared: ")
    assert "Export failed" not in done.stderr
    (tmp_path / "x.pb").write_bytes(b"no graph at all")
    done = call("export", tmp_path / "x.pb", "--vocabulary", tmp_path / "w", "-o", tmp_path / "b", "--images", photos)
    assert "Export failed: " in done.stderr


def test_too_few_jpegs_prove_nothing(photos: Path, tmp_path: Path) -> None:
    for index, file in enumerate(sorted(photos.iterdir())):
        picture = Image.open(file).convert("RGB")
        picture.save(tmp_path / f"{index:02}.{'png' if index < 10 else 'jpg'}")
    model = loaded(tmp_path, "<S>\n</S>\na\n")
    files = sorted(tmp_path.glob("[0-9]*"))
    with pytest.raises(ExportError, match=r"needs 64 JPEG files that stand upright, not 58 of 68 images"):
        model.prove(open_bundle("flickr8k-small"), files, lambda _: None)
