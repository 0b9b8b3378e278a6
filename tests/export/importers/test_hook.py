"""Captioners by two functions: the examples as people run them, and an error for everything that can be wrong."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from runpy import run_path
from typing import Any

import pytest
from paths import ROOT

pytest.importorskip("tensorflow", reason="the export extra is not installed")

import captioners
import keras
import numpy as np
import tensorflow as tf
from keras import layers
from proofs import call, captions_of, check_graphs

from batchcap.bundle.bundle import open_bundle
from batchcap.errors import ExportError
from batchcap.images.preprocess import Preprocess
from batchcap_export import CaptionModel, caption_model, export_captioner
from batchcap_export.convert import graphs
from batchcap_export.importers import hook
from batchcap_export.importers.sources import open_source
from batchcap_export.model.check import check_model
from batchcap_export.model.recurrent import without_loops
from batchcap_export.options.importing import ImportOptions

EXAMPLES = ROOT / "examples"
WORDS = ["", "<start>", "<end>", "red", "green"]
PIXELS = Preprocess(8, 8, 8, 8)


@pytest.fixture(scope="module")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return captioners.write_images(tmp_path_factory.mktemp("hook") / "photos")


def test_a_captioner_of_one_s_own_on_the_command_line(tmp_path: Path, image_folder: Path) -> None:
    """The example with a part of its training; a hook may import the files beside it."""
    shutil.copy(EXAMPLES / "custom_captioner.py", tmp_path / "colour_example.py")
    reduced = tmp_path / "reduced.py"
    reduced.write_text(
        "import colour_example as full\n\n\ndef short():\n    full.STEPS = 150\n    return full.captioner()\n"
    )
    done = call("export", f"{reduced}:short", "-o", tmp_path / "colours", "--images", image_folder)
    assert done.exit_code == 0, done.stderr
    assert "64 of 64 captions identical" in done.stdout
    check_graphs(tmp_path / "colours")
    bundle = open_bundle(tmp_path / "colours")
    assert bundle.manifest.attention_grid == (2, 2)
    captions = captions_of(bundle.folder, image_folder, tmp_path / "captions.jsonl")
    colours = set(run_path(str(EXAMPLES / "custom_captioner.py"))["COLOURS"])
    for caption in captions:
        first, *between = caption.split(" ")[0::2], *caption.split(" ")[1::2]
        assert set(first) <= colours
        assert between == ["and", "over", "and"]
    assert str(tmp_path) not in sys.path


def test_the_pair_of_the_tensorflow_tutorial(
    tmp_path: Path, image_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint and a vocabulary as the tutorial leaves them, and a network of three layers for InceptionV3."""
    shutil.copy(EXAMPLES / "tf_tutorial.py", tmp_path / "tutorial_example.py")
    reduced = tmp_path / "reduced.py"
    reduced.write_text(_REDUCED_TUTORIAL)
    monkeypatch.syspath_prepend(tmp_path)
    small = run_path(str(reduced))
    tutorial = small["tutorial_example"]
    keras.utils.set_random_seed(2)
    encoder, decoder = tutorial.CNN_Encoder(16), tutorial.RNN_Decoder(16, 24, len(captioners.VOCABULARY))
    pixels = tf.stack(
        [tf.image.resize(keras.utils.load_img(file), (48, 48)) for file in sorted(image_folder.iterdir())]
    )
    regions = tf.reshape(small["network"]()(pixels / 127.5 - 1.0), (64, 36, 32))
    decoder(np.ones((64, 1), int), encoder(regions), np.zeros((64, 24), np.float32))
    kernel = encoder.fc.kernel / np.std(regions, axis=0).mean() * 10
    encoder.fc.kernel.assign(kernel)
    encoder.fc.bias.assign(-tf.tensordot(tf.reduce_mean(regions, axis=(0, 1)), kernel, 1))
    captioners.loud(decoder.embedding, decoder.fc2, decoder.attention.W2)
    tf.train.Checkpoint(encoder=encoder, decoder=decoder).save(tmp_path / "train" / "ckpt")
    captioners.write_vocabulary(tmp_path)
    done = call("export", reduced, "-o", tmp_path / "tutorial", "--images", image_folder, "--max-length", 10)
    assert done.exit_code == 0, done.stderr
    assert "64 of 64 captions identical" in done.stdout
    check_graphs(tmp_path / "tutorial")
    bundle = open_bundle(tmp_path / "tutorial")
    assert bundle.manifest.attention_grid == (6, 6)
    assert bundle.manifest.preprocess.pixels == "float32"
    captions = captions_of(bundle.folder, image_folder, tmp_path / "captions.jsonl")
    assert len(set(captions)) >= 32


_REDUCED_TUTORIAL = """
from pathlib import Path

import captioners
import keras
import tutorial_example

here = Path(__file__).parent


def network():
    keras.utils.set_random_seed(1)
    image = keras.Input((48, 48, 3))
    return keras.Model(image, captioners.small_network(image))


def captioner():
    tutorial_example.EMBEDDING, tutorial_example.UNITS = 16, 24
    tutorial_example.inception = network
    tutorial_example.CHECKPOINTS, tutorial_example.VOCABULARY = here / "train", here / "vocabulary.txt"
    return tutorial_example.captioner(48)
"""


def test_the_examples_point_at_nothing_that_is_not_there() -> None:
    """Without a checkpoint the tutorial's example has a vocabulary and a network all the same."""
    tutorial = run_path(str(EXAMPLES / "tf_tutorial.py"))
    assert tutorial["words"]()[:4] == ["", "[UNK]", "<start>", "<end>"]
    assert "examples/custom_captioner.py" in hook._FIX


class Tiny:
    """Encode and step of a captioner that is in order: two states, a memory of four regions, five words."""

    def encode(self, image: Any) -> Any:
        mean = tf.reduce_mean(tf.cast(image, tf.float32), axis=(1, 2)) / 255.0
        return {"h": mean, "n": tf.zeros_like(mean[:, 0], tf.int32)}, {"regions": mean[:, None] * tf.ones((1, 4, 1))}

    def step(self, token: Any, states: Any, memories: Any) -> Any:
        words = tf.one_hot(token, 5) + tf.pad(states["h"], [(0, 0), (1, 1)])
        attention = tf.nn.softmax(memories["regions"][..., 0])
        return words, {"h": states["h"] * 0.5, "n": states["n"] + 1}, attention

    def model(self, **more: Any) -> CaptionModel:
        return caption_model(self.encode, self.step, WORDS, PIXELS, **({"grid": (2, 2)} | more))


def test_a_model_in_order_is_taken() -> None:
    check_model(Tiny().model())


def _encode(change: Callable[..., Any]) -> Callable[[Tiny], CaptionModel]:
    return lambda tiny: caption_model(lambda image: change(*tiny.encode(image)), tiny.step, WORDS, PIXELS, grid=(2, 2))


def _step(change: Callable[..., Any], **more: Any) -> Callable[[Tiny], CaptionModel]:
    return lambda tiny: caption_model(
        tiny.encode, lambda *given: change(*tiny.step(*given)), WORDS, PIXELS, **({"grid": (2, 2)} | more)
    )


def _fails(*_: Any) -> Any:
    raise KeyError("gru")


WRONG: dict[str, tuple[Callable[[Tiny], CaptionModel], str]] = {
    "encode fails": (_encode(_fails), "encode: fails on 2 images: KeyError: 'gru'"),
    "no state": (_encode(lambda s, m: ({}, m)), "encode: returns no state. Return at least one"),
    "not a row for each image": (
        _encode(lambda s, m: ({**s, "h": s["h"][:1]}, m)),
        "encode: h has the shape [1, 3] for 2 images. Its first axis",
    ),
    "step fails": (_step(_fails), "step: fails on 2 images: KeyError: 'gru'"),
    "the whole sequence": (
        _step(lambda w, s, a: (tf.stack([w, w, w], axis=1), s, a)),
        "step: the logits have the shape [2, 1, 3, 5] for 2 images of one beam. They must be [2, 1, 5]",
    ),
    "other words": (
        _step(lambda w, s, a: (w[:, 1:], s, a)),
        "step: gives logits for 4 words, but the vocabulary has 5. Give the vocabulary that the model was trained with",
    ),
    "a state lost": (
        _step(lambda w, s, a: (w, {"hidden": s["h"], "n": s["n"]}, a)),
        "step: takes the states h, n and returns hidden, n. It must return every state under the name it came with",
    ),
    "a state of another type": (
        _step(lambda w, s, a: (w, {**s, "n": tf.cast(s["n"], tf.float32)}, a)),
        "step: state n goes in as [2, 1] int32 and comes out as [2, 1] float32",
    ),
    "attention of another size": (
        _step(lambda w, s, a: (w, s, a[:, :3])),
        "step: the attention has the shape (2, 1, 3), but the grid asks for (2, 1, 4)",
    ),
    "no attention": (_step(lambda w, s, a: (w, s)), "the attention has the shape None, but the grid asks for"),
    "no grid": (_step(lambda w, s, a: (w, s, a), grid=None), "(2, 1, 4), but the grid asks for None"),
    "no start": (lambda tiny: tiny.model(start="startseq"), "no start token 'startseq'. Name it: --start TOKEN"),
    "no end": (
        lambda tiny: tiny.model(end="</s>"),
        "no end token '</s>'. Name it: --end TOKEN.",
    ),
    "a word twice": (
        lambda tiny: caption_model(tiny.encode, tiny.step, [*WORDS[:4], "red"], PIXELS),
        "red",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_does_not_fit_is_named(wrong: str) -> None:
    make, told = WRONG[wrong]
    with pytest.raises((ExportError, ValueError)) as caught:
        check_model(make(Tiny()))
    assert told in f"{caught.value} {getattr(caught.value, 'fix', '')}"


HOOKS = {
    "no function": ("x = 1", "hook.py: has no function captioner()."),
    "no callable": ("captioner = 1", "hook.py: has no function captioner()."),
    "another value": ("def captioner():\n    return {}", "hook.py: captioner() returns dict, not a CaptionModel."),
    "a syntax error": ("def captioner(:", "hook.py: SyntaxError: "),
    "an error while it loads": ("1 / 0", "hook.py: ZeroDivisionError: division by zero"),
    "an error in the function": (
        "def captioner():\n    open('no/such/file')",
        "hook.py: FileNotFoundError: [Errno 2]",
    ),
    "an error that explains itself": (
        "from batchcap.errors import ExportError\ndef captioner():\n    raise ExportError('No weights.', 'Get some.')",
        "No weights.",
    ),
}


@pytest.mark.parametrize("wrong", HOOKS)
def test_a_file_that_makes_no_captioner_is_named(wrong: str, tmp_path: Path) -> None:
    text, told = HOOKS[wrong]
    (tmp_path / "hook.py").write_text(text)
    # So many that the file is run: too few are told before.
    for index in range(64):
        (tmp_path / f"{index}.png").touch()
    before = list(sys.path)
    done = call("export", tmp_path / "hook.py", "-o", tmp_path / "bundle", "--images", tmp_path)
    assert done.exit_code == 1
    assert told in " ".join(done.stderr.split())
    assert ("Get some." if "itself" in wrong else "See examples/custom_captioner.py.") in done.stderr
    assert "Traceback" not in done.stderr
    assert sys.path == before
    assert not (tmp_path / "bundle").exists()


def test_a_missing_file_and_missing_images_are_named(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"nowhere\.py: no such Python file"):
        open_source(str(tmp_path / "nowhere.py"), ImportOptions())
    with pytest.raises(ExportError, match="--vocabulary does not go with it"):
        open_source(str(tmp_path / "nowhere.py:make"), ImportOptions(vocabulary=tmp_path / "words.txt"))
    tiny = Tiny()
    with pytest.raises(ExportError, match="no image below this folder"):
        export_captioner(tiny.encode, tiny.step, WORDS, tmp_path / "b", tmp_path, preprocess=PIXELS, grid=(2, 2))


def test_a_hook_that_is_called_like_a_module_hides_none(tmp_path: Path) -> None:
    """json.py with a dataclass in it."""
    (tmp_path / "json.py").write_text(
        "from dataclasses import dataclass\n\n@dataclass\nclass Size:\n    side: int = 8\n\n"
        "def captioner():\n    raise RuntimeError(f'side {Size().side}')\n"
    )
    with pytest.raises(ExportError, match="RuntimeError: side 8"):
        hook.load(tmp_path / "json.py", "captioner")
    assert json.loads("[1]") == [1]


@pytest.mark.parametrize("kind", [layers.GRU, layers.LSTM, layers.SimpleRNN])
@pytest.mark.parametrize("settings", [{"return_sequences": True, "return_state": True}, {"return_state": True}, {}])
def test_a_layer_s_cell_says_what_the_layer_says(kind: Any, settings: dict[str, bool]) -> None:
    keras.utils.set_random_seed(5)
    layer = kind(6, **settings)
    random = np.random.default_rng(5)
    word = tf.constant(random.standard_normal((3, 1, 4)), tf.float32)
    states = [tf.constant(random.standard_normal((3, 6)), tf.float32)] * (2 if kind is layers.LSTM else 1)
    for arguments in ((word,), (word, states)):
        expected, got = layer(*arguments), without_loops(layer)(*arguments)
        assert isinstance(expected, tuple) == isinstance(got, tuple)
        for a, b in zip(keras.tree.flatten(expected), keras.tree.flatten(got), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    graph = tf.function(without_loops(layer)).get_concrete_function(tf.TensorSpec((None, 1, 4)), None)
    assert not {operation.type for operation in graph.graph.get_operations()} & {"While", "StatelessWhile"}
    assert "__call__" not in layers.RNN.__dict__


def test_nothing_remains_changed_after_an_error() -> None:
    with pytest.raises(KeyError):
        without_loops(_fails)()
    assert "__call__" not in layers.RNN.__dict__


def test_a_step_over_a_whole_sequence_is_refused() -> None:
    """Two words at once: the loop of the layer stays, and is named."""
    gru, tiny = layers.GRU(3), Tiny()

    def step(token: Any, states: Any, memories: Any) -> Any:
        words, following, attention = tiny.step(token, states, memories)
        return words, {**following, "h": gru(tf.stack([states["h"], states["h"]], axis=1))}, attention

    model = caption_model(tiny.encode, step, WORDS, PIXELS, grid=(2, 2))
    check_model(model)
    with pytest.raises(ExportError, match="Loop"):
        graphs.convert_decoder(model)
