"""Training models: the step is cut out, and says what the whole model says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tensorflow", reason="the export extra is not installed")

import captioners
import keras
from captioners import UNITS, WORDS
from keras import layers
from keras_proofs import exported
from proofs import shapes

from batchcap.errors import ExportError
from batchcap_export.importers.sources import open_source
from batchcap_export.options.importing import ImportOptions


@pytest.fixture(scope="module")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return captioners.write_images(tmp_path_factory.mktemp("images") / "photos")


def test_the_lab(tmp_path: Path, image_folder: Path) -> None:
    captioners.lab(words=20)[2].save(tmp_path / "training.keras")
    bundle, _ = exported(tmp_path, image_folder, tmp_path / "training.keras")
    found = shapes(bundle.folder / "decoder.onnx")
    assert found["state.decoder_gru"] == ["B", "P", UNITS]
    assert found["memory.regions"] == ["B", 16, UNITS]


@pytest.mark.parametrize(
    ("kind", "recurrent", "ending", "tensors"),
    [
        ("first", "lstm", ".h5", {"state.rnn_0", "state.rnn_1"}),
        ("first-uncut", "gru", ".keras", {"state.rnn"}),
        ("state", "lstm", ".keras", {"state.rnn_0", "state.rnn_1"}),
        ("each", "gru", ".keras", {"state.rnn", "memory.image_vector"}),
        ("merge", "lstm", ".keras", {"state.rnn_0", "state.rnn_1", "memory.image_vector"}),
    ],
)
def test_show_and_tell(
    tmp_path: Path, image_folder: Path, kind: str, recurrent: str, ending: str, tensors: set[str]
) -> None:
    captioners.save(captioners.show_and_tell(kind, recurrent), tmp_path / f"training{ending}")
    bundle, _ = exported(tmp_path, image_folder, tmp_path / f"training{ending}")
    assert {name for name in shapes(bundle.folder / "decoder.onnx") if name.startswith(("state", "memory"))} == tensors


def _words_and_vector() -> tuple[Any, Any, Any, Any]:
    image, word = keras.Input((32, 32, 3), name="image"), keras.Input((None,), name="words")
    vector = layers.Dense(UNITS)(layers.Flatten()(captioners.small_network(image)))
    return image, word, vector, layers.Embedding(WORDS, UNITS)(word)


def _bidirectional() -> keras.Model:
    image, word, vector, words = _words_and_vector()
    output = layers.Bidirectional(layers.GRU(UNITS, return_sequences=True), name="both", merge_mode="sum")(words)
    return keras.Model([image, word], layers.Dense(WORDS)(layers.Add()([output, layers.Reshape((1, UNITS))(vector)])))


def _convolution() -> keras.Model:
    image, word, vector, words = _words_and_vector()
    output = layers.GRU(UNITS, return_sequences=True)(layers.Conv1D(UNITS, 2, padding="causal", name="pairs")(words))
    return keras.Model([image, word], layers.Dense(WORDS)(layers.Add()([output, layers.Reshape((1, UNITS))(vector)])))


def _backwards() -> keras.Model:
    image, word, vector, words = _words_and_vector()
    output = layers.LSTM(UNITS, return_sequences=True, go_backwards=True, name="back")(
        words, initial_state=[vector, vector]
    )
    return keras.Model([image, word], layers.Dense(WORDS)(output))


def _chained() -> keras.Model:
    image, word, vector, words = _words_and_vector()
    first, state = layers.GRU(UNITS, return_sequences=True, return_state=True)(words, initial_state=vector)
    output = layers.GRU(UNITS, return_sequences=True, name="second")(first, initial_state=state)
    return keras.Model([image, word], layers.Dense(WORDS)(output))


def _vector_after_the_words() -> keras.Model:
    image, word, vector, words = _words_and_vector()
    joined = layers.Concatenate(axis=1, name="joined")([words, layers.Reshape((1, UNITS))(vector)])
    return keras.Model([image, word], layers.Dense(WORDS)(layers.GRU(UNITS, return_sequences=True)(joined)))


def _only_image() -> keras.Model:
    image = keras.Input((32, 32, 3), name="image")
    return keras.Model(image, layers.Dense(WORDS)(layers.Flatten()(captioners.small_network(image))))


@pytest.mark.parametrize(
    ("make", "cause", "fix"),
    [
        (_bidirectional, "both is Bidirectional", "cannot make captions"),
        (_convolution, "word 2 depends on the words before it", "look at pairs (Conv1D)"),
        (_backwards, "back: go_backwards", "cannot make captions"),
        (_chained, "second starts from a state that depends on the words", "image gives"),
        (_vector_after_the_words, "joined puts something after the words", "before the first word"),
        (_only_image, "takes an image and no words", "--decoder FILE"),
    ],
)
def test_what_cannot_be_cut_is_named(tmp_path: Path, make: Any, cause: str, fix: str) -> None:
    make().save(tmp_path / "training.keras")
    options = ImportOptions(vocabulary=captioners.write_vocabulary(tmp_path), scale="0..1")
    with pytest.raises(ExportError) as caught:
        open_source(str(tmp_path / "training.keras"), options)
    assert cause in str(caught.value)
    assert fix in str(caught.value)


def test_a_caption_longer_than_the_model_reads_is_an_error(tmp_path: Path, image_folder: Path) -> None:
    captioners.lab(words=5)[2].save(tmp_path / "training.keras")
    with pytest.raises(ExportError, match=r"reads 5 words.*--max-length 4"):
        exported(tmp_path, image_folder, tmp_path / "training.keras")
    assert not (tmp_path / "proof").exists()
