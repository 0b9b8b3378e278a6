"""The words of the Show and Tell code, and outputs that have none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="the export extra is not installed")

import tensorflow as tf
from tiny_im2txt import loaded, tiny

from batchcap.errors import ExportError
from batchcap_export.importers.im2txt import frozen, opening
from batchcap_export.importers.sources import open_source
from batchcap_export.options.importing import ImportOptions


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
