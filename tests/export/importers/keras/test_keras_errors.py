"""Saved Keras models that do not fit: each error names the thing, the cause and the fix."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tensorflow", reason="the export extra is not installed")

import captioners
import h5py
import keras
import tensorflow as tf
from captioners import UNITS, WORDS
from keras import layers

from batchcap.errors import ExportError
from batchcap_export.importers.sources import open_source
from batchcap_export.options.importing import ImportOptions


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the lab's encoder, decoder, training model and vocabulary."""
    folder = tmp_path_factory.mktemp("lab")
    for name, model in zip(("encoder", "decoder", "training"), captioners.lab(), strict=True):
        model.save(folder / f"{name}.keras")
    captioners.write_vocabulary(folder)
    return folder


def refused(lab: Path, source: Path | None = None, **options: Any) -> str:
    """What is said of a source; whatever is not given is the lab's own."""
    given = {"vocabulary": lab / "vocabulary.txt", "decoder": lab / "decoder.keras", "scale": "0..1", **options}
    with pytest.raises(ExportError) as caught:
        open_source(str(source or lab / "encoder.keras"), ImportOptions(**given))
    assert caught.value.fix
    return str(caught.value)


def decoder_of(*changes: str) -> keras.Model:
    """A small decoder, made wrong in one way."""
    word, state = keras.Input((1,), name="words"), keras.Input((UNITS,), name="before")
    memory = keras.Input((9 if "regions" in changes else 16, UNITS), name="encoder_output")
    words = layers.Embedding(WORDS, UNITS)(word)
    if "no-state" in changes:
        output = layers.GRU(UNITS, return_sequences=True)(words)
        return keras.Model([word, memory], layers.Dense(WORDS, name="out")(layers.Attention()([output, memory])))
    output, after = layers.GRU(UNITS, return_sequences=True, return_state=True, name="rnn")(words, initial_state=state)
    looked = layers.Attention()([output, memory])
    if "two-states" in changes:
        other = keras.Input((UNITS,), name="other")
        mixed = layers.Dense(UNITS, name="mixed")(layers.Concatenate()([after, other]))
        plain = layers.Dense(UNITS, name="plain")(layers.Concatenate()([state, other]))
        return keras.Model([word, state, other, memory], [layers.Dense(WORDS)(looked), mixed, plain])
    return keras.Model([word, state, memory], [layers.Dense(WORDS)(looked), after])


def test_wrong_tensor_shapes(lab: Path, tmp_path: Path) -> None:
    decoder_of("regions").save(tmp_path / "decoder.keras")
    told = refused(lab, decoder=tmp_path / "decoder.keras")
    assert "which output is the decoder's input encoder_output [?, 9, 24] float32" in told
    assert "there is regions [?, 16, 24] float32" in told
    assert "--map TENSOR=ROLE" in told


def test_a_decoder_with_the_whole_sequence_only(lab: Path, tmp_path: Path) -> None:
    decoder_of("no-state").save(tmp_path / "decoder.keras")
    told = refused(lab, decoder=tmp_path / "decoder.keras")
    assert "decoder.keras: has no state" in told
    assert "out [?, 1, 60] float32" in told
    assert "state in, state out" in told
    assert "export the training model" in told


def test_states_that_cannot_be_told_apart(lab: Path, tmp_path: Path) -> None:
    decoder_of("two-states").save(tmp_path / "decoder.keras")
    told = refused(lab, decoder=tmp_path / "decoder.keras")
    assert "which input is the state that output mixed [?, 24] float32 follows" in told
    assert "before [?, 24] float32; other [?, 24] float32" in told
    assert "--map TENSOR=ROLE" in told
    roles = ("before=state.a", "plain=state.a", "other=state.b", "mixed=state.b")
    options = ImportOptions(
        vocabulary=lab / "vocabulary.txt", decoder=tmp_path / "decoder.keras", scale="0..1", map=roles
    )
    model = open_source(str(lab / "encoder.keras"), options)
    states, _ = model.encode(tf.zeros((1, 32, 32, 3)))
    assert states.keys() == {"before", "other"}


@pytest.mark.parametrize(
    ("roles", "cause", "fix"),
    [
        (("nothing=word",), "--map nothing: no tensor has this name", "gru_state_input [?, 24]"),
        (("words",), "--map words: is not TENSOR=ROLE", "state.NAME"),
        (("words=verb",), "--map words=verb: is not TENSOR=ROLE", "memory.NAME"),
        (("gru_state_input=state.a",), "only an input of the decoder has the role state.a", "the same role"),
        (("regions=state.b",), "--map regions=state.b: the decoder has no such state", "state.gru_state_input"),
    ],
)
def test_a_wrong_map(lab: Path, roles: tuple[str, ...], cause: str, fix: str) -> None:
    told = refused(lab, map=roles)
    assert cause in told
    assert fix in told


def test_vocabulary_size_unlike_the_logits(lab: Path, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("<pad>\n<start>\n<end>\ndog\n", encoding="utf-8")
    for source, decoder in ((None, lab / "decoder.keras"), (lab / "training.keras", None)):
        told = refused(lab, source, vocabulary=tmp_path / "words.txt", decoder=decoder)
        assert "no output has a value for each of the 4 words" in told
        assert "60] float32" in told
        assert "--vocabulary" in told


@pytest.mark.parametrize("what", ["start", "end"])
def test_missing_special_token(lab: Path, tmp_path: Path, what: str) -> None:
    words = [word if word != f"<{what}>" else f"[{what.upper()}]" for word in captioners.VOCABULARY]
    (tmp_path / "words.json").write_text(json.dumps(words), encoding="utf-8")
    told = refused(lab, vocabulary=tmp_path / "words.json")
    assert f"no {what} token '<{what}>'" in told
    assert f"--{what} TOKEN" in told
    assert f"[{what.upper()}]" in told


@pytest.mark.parametrize("what", ["unknown", "padding"])
def test_a_named_token_that_is_no_word(lab: Path, what: str) -> None:
    assert f"no {what} token 'nil'" in refused(lab, **{what: "nil"})


def test_no_vocabulary(lab: Path) -> None:
    told = refused(lab, vocabulary=None)
    assert "encoder.keras: a saved network does not hold its words" in told
    assert "--vocabulary FILE" in told


def test_nothing_tells_the_scale(lab: Path) -> None:
    told = refused(lab, scale=None)
    assert "the values that its pixels must have are not known" in told
    assert "--scale 0..1" in told


def test_a_network_that_scales_its_pixels_needs_no_scale(lab: Path, tmp_path: Path) -> None:
    image = keras.Input((32, 32, 3))
    encoder = keras.Model(image, keras.models.load_model(lab / "encoder.keras")(layers.Rescaling(1 / 255)(image)))
    encoder.save(tmp_path / "encoder.keras")
    options = ImportOptions(vocabulary=lab / "vocabulary.txt", decoder=lab / "decoder.keras")
    model = open_source(str(tmp_path / "encoder.keras"), options)
    assert model.recipe["scale"] == "0..255"


def test_sizes(lab: Path, tmp_path: Path) -> None:
    assert "--size 48 is not the size of its input image [?, 32, 32, 3]" in refused(lab, size=48)
    image = keras.Input((None, None, 3), name="any")
    vector = layers.Dense(UNITS)(layers.GlobalAveragePooling2D()(captioners.small_network(image)))
    keras.Model(image, vector).save(tmp_path / "any.keras")
    captioners.with_state()[1].save(tmp_path / "decoder.keras")
    told = refused(lab, tmp_path / "any.keras", decoder=tmp_path / "decoder.keras")
    assert "any [?, ?, ?, 3] float32 takes images of any size" in told
    assert "--size N" in told
    options = ImportOptions(
        vocabulary=lab / "vocabulary.txt", decoder=tmp_path / "decoder.keras", scale="0..1", size=40
    )
    model = open_source(str(tmp_path / "any.keras"), options)
    assert (model.preprocess.height, model.preprocess.width) == (40, 40)


def test_layers_of_keras_2_that_nobody_knows(lab: Path, tmp_path: Path) -> None:
    """As TensorFlow 2.8 writes a model with a class of the user's own."""
    layer = {"class_name": "BahdanauAttention", "config": {"name": "attend", "trainable": True}, "inbound_nodes": []}
    config = {"class_name": "Functional", "config": {"name": "decoder", "layers": [layer]}}
    with h5py.File(tmp_path / "decoder.h5", "w") as file:
        file.attrs["model_config"], file.attrs["keras_version"] = json.dumps(config), "2.8.0"
    told = refused(lab, decoder=tmp_path / "decoder.h5")
    assert "decoder.h5: has layers that Keras 3" in told
    assert "attend (BahdanauAttention)" in told
    assert "Python file" in told


@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_a_lambda_layer(lab: Path, tmp_path: Path, ending: str) -> None:
    image = keras.Input((32, 32, 3))
    model = keras.Model(image, layers.Lambda(lambda x: x / 255.0, name="shrink")(image))
    captioners.save(model, tmp_path / f"encoder{ending}")
    told = refused(lab, tmp_path / f"encoder{ending}")
    assert "layer shrink is a Lambda" in told
    assert "code that would run" in told
    assert "Python file" in told


def test_a_stateful_layer(lab: Path, tmp_path: Path) -> None:
    word, state = keras.Input((1,), name="words", batch_size=4), keras.Input((UNITS,), name="before", batch_size=4)
    output, after = layers.GRU(UNITS, stateful=True, return_state=True)(
        layers.Embedding(WORDS, UNITS)(word), initial_state=state
    )
    keras.Model([word, state], [layers.Dense(WORDS)(output), after]).save(tmp_path / "decoder.keras")
    told = refused(lab, decoder=tmp_path / "decoder.keras")
    assert "made for a batch of 4" in told
    assert "any batch size" in told


@pytest.mark.parametrize(("name", "told"), [("weights.h5", "weights without a model"), ("x.keras", "is no model")])
def test_files_that_hold_no_model(lab: Path, tmp_path: Path, name: str, told: str) -> None:
    if name == "weights.h5":
        with h5py.File(tmp_path / name, "w") as file:
            file["kernel"] = [1.0]
    else:
        (tmp_path / name).write_bytes(b"words")
    with pytest.raises(ExportError, match=told):
        open_source(str(tmp_path / name), ImportOptions(vocabulary=lab / "vocabulary.txt"))
    assert "decoder.keras: no such file" in refused(lab, decoder=tmp_path / "decoder.keras")


def test_an_encoder_that_takes_words(lab: Path) -> None:
    told = refused(lab, lab / "training.keras")
    assert "training.keras: an encoder takes an image and nothing else" in told
    assert "without --decoder" in told


def test_a_folder_that_takes_many_words_at_once(lab: Path, tmp_path: Path) -> None:
    captioners.save(captioners.lab(words=20)[1], tmp_path / "decoder")
    told = refused(lab, decoder=tmp_path / "decoder")
    assert "takes 20 words at once (words [?, 20] float32)" in told
    assert "Save it as .keras" in told


def test_a_state_of_any_size(lab: Path, tmp_path: Path) -> None:
    word, state = keras.Input((1,), name="words"), keras.Input((None,), name="before")
    memory = keras.Input((16, UNITS), name="encoder_output")
    words = layers.Embedding(WORDS, UNITS)(word)
    output = layers.Dense(WORDS)(layers.Attention()([words, memory]))
    keras.Model([word, state, memory], [output, layers.Activation("tanh", name="after")(state)]).save(
        tmp_path / "decoder.keras"
    )
    told = refused(lab, decoder=tmp_path / "decoder.keras")
    assert "the state before [?, ?] float32 has no known size" in told
    assert "fixed size" in told


def test_a_folder_without_a_signature(lab: Path, tmp_path: Path) -> None:
    tf.saved_model.save(tf.Module(), str(tmp_path / "empty"))
    told = refused(lab, tmp_path / "empty")
    assert "empty: has no serving signature" in told
    assert "model.export(FOLDER)" in told


def test_a_training_model_as_a_folder(lab: Path, tmp_path: Path) -> None:
    captioners.save(captioners.lab()[2], tmp_path / "training")
    told = refused(lab, tmp_path / "training", decoder=None)
    assert "layers are not known" in told
    assert "model.save('model.keras')" in told


def test_a_loop_that_runs_more_than_once(lab: Path, tmp_path: Path) -> None:
    """An encoder that reads its regions one after the other, of which only the graph was saved."""
    image = keras.Input((32, 32, 3), name="image")
    regions = layers.Reshape((16, 32))(captioners.small_network(image))
    encoder = keras.Model(image, layers.GRU(UNITS, return_sequences=True)(regions))
    captioners.save(encoder, tmp_path / "encoder")
    told = refused(lab, tmp_path / "encoder")
    assert "encoder: has a loop that runs more than once" in told
    assert "Save it as .keras" in told


def test_options_of_others(lab: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("captioner = None\n", encoding="utf-8")
    with pytest.raises(ExportError, match="--vocabulary does not go with it"):
        open_source(str(tmp_path / "mine.py"), ImportOptions(vocabulary=lab / "vocabulary.txt"))


def test_an_archive_without_a_config(lab: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
        archive.writestr("readme", "nothing")
    assert "is no model that Keras has saved" in refused(lab, tmp_path / "model.keras")
