"""Vocabularies in the forms in which captioners come."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tensorflow", reason="the export extra is not installed")

import keras
import tensorflow as tf
from keras import layers

from batchcap.errors import ExportError
from batchcap_export.importers.keras.vocabulary import read_vocabulary, special_words
from batchcap_export.options.importing import ImportOptions

WORDS = ("<pad>", "[UNK]", "<start>", "<end>", "dog", "runs")
TOKENIZER = {
    "class_name": "Tokenizer",
    "config": {
        "num_words": 5,
        "oov_token": "<unk>",
        "word_index": json.dumps({"<unk>": 1, "<start>": 2, "<end>": 3, "dog": 4, "rare": 5}),
    },
}


@keras.saving.register_keras_serializable("vocabulary-test")
def lower(text: Any) -> Any:
    """A function of the user's, as the lab has one: reading the words must not need it."""
    return tf.strings.lower(text)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("v.txt", "\n[UNK]\n<start>\n<end>\ndog\nruns\n", WORDS),
        ("v.txt", "\ufeff<start>\r\n<end>\r\ndog", ("<start>", "<end>", "dog")),
        ("v.json", json.dumps(["", *WORDS[1:]]), WORDS),
        ("v", json.dumps({word: index for index, word in enumerate(WORDS)}), WORDS),
        ("v.json", json.dumps({"<start>": 1, "dog": 3, "<end>": 2}), ("<pad>", "<start>", "<end>", "dog")),
        ("v.json", json.dumps({"0": "<start>", "2": "dog", "1": "<end>"}), ("<start>", "<end>", "dog")),
        ("v.json", json.dumps(TOKENIZER), ("<pad>", "<unk>", "<start>", "<end>", "dog")),
        ("v.json", json.dumps(json.dumps(TOKENIZER)), ("<pad>", "<unk>", "<start>", "<end>", "dog")),
        ("v.txt", "[\n]\ndog\n", ("[", "]", "dog")),
    ],
)
def test_text_and_json(tmp_path: Path, name: str, text: str, words: tuple[str, ...]) -> None:
    (tmp_path / name).write_bytes(text.encode("utf-8"))
    assert read_vocabulary(tmp_path / name).words == words


def test_saved_layers(tmp_path: Path) -> None:
    adapted = layers.TextVectorization(max_tokens=20, standardize=lower)
    adapted.adapt(["<start> dog runs <end>", "<start> dog <end>"])
    given = layers.TextVectorization(vocabulary=["<start>", "<end>", "dog", "runs"], standardize=None)
    lookup = layers.StringLookup(vocabulary=["<start>", "<end>", "dog", "runs"], mask_token="", oov_token="<unk>")
    plain = layers.StringLookup(vocabulary=["<start>", "<end>", "dog", "runs"])
    for index, layer in enumerate((adapted, given, lookup, plain)):
        file = tmp_path / f"{index}.keras"
        keras.Sequential([keras.Input((), dtype="string"), layer]).save(file)
        words = [word or "<pad>" for word in layer.get_vocabulary()]
        assert list(read_vocabulary(file).words) == words
    assert words[0] == "[UNK]"


@pytest.mark.parametrize(
    ("name", "data", "cause", "fix"),
    [
        ("v.pkl", pickle.dumps(list(WORDS)), "is a pickle", "JSON"),
        ("v.txt", b"\xff\xfe", "is not UTF-8", "one word a line"),
        ("v.json", b"dog", "is not JSON", "JSON (a list"),
        ("v.json", b"[1, 2]", "is JSON, but no vocabulary", "JSON (a list"),
        ("v.json", b'{"dog": 0, "cat": 2}', "no word has the id 1", "Every id"),
        ("v.json", b'{"dog": 0, "cat": 0}', "'dog' and 'cat' have one id, 0", "Every id"),
        ("v.txt", b"dog\ncat\ndog\n", "stands twice, as id 0 and id 2", "a word of its own"),
        ("v.txt", b"dog\n\ncat\n", "the word of id 1 is ''", "a word of its own"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, name: str, data: bytes, cause: str, fix: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ExportError) as caught:
        read_vocabulary(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)
    assert cause.lower() in str(caught.value).lower()
    assert fix in caught.value.fix


def test_saved_layers_that_do_not_tell(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"none\.txt: cannot be read: No such file"):
        read_vocabulary(tmp_path / "none.txt")
    first, second = (layers.StringLookup(vocabulary=["a", "b"], name=name) for name in ("one", "two"))
    text = keras.Input((), dtype="string")
    keras.Model(text, [first(text), second(text)]).save(tmp_path / "two.keras")
    with pytest.raises(ExportError, match=r"holds 2 TextVectorization or StringLookup layers \(one, two\)"):
        read_vocabulary(tmp_path / "two.keras")


def test_usual_tokens(tmp_path: Path) -> None:
    (tmp_path / "v.txt").write_text("\n".join(WORDS), encoding="utf-8")
    words = read_vocabulary(tmp_path / "v.txt")
    assert special_words(words, ImportOptions()) == {
        "start": "<start>", "end": "<end>", "unknown": "[UNK]", "padding": "<pad>",
    }  # fmt: skip
    assert special_words(words, ImportOptions(start="dog", unknown="runs"))["unknown"] == "runs"
