"""What training optimizes is what a step computes; and what belongs to one architecture alone."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="the export extra is not installed")

import keras
import tensorflow as tf
from architectures import options_of

from batchcap.errors import ExportError, OptionError
from batchcap_export.architectures.show_and_tell import ShowAndTell
from batchcap_export.architectures.show_attend_tell import ShowAttendTell, attention_penalty
from batchcap_export.architectures.table import ARCHITECTURES
from batchcap_export.options.training import OWN_OPTIONS
from batchcap_export.training.losses import MaskedCrossEntropy

ALL = [
    ("attention-gru", {"tied": True, "learned_state": True}),
    ("attention-gru", {}),
    ("show-and-tell", {"image_as": "input"}),
    ("show-and-tell", {"image_as": "state"}),
    ("show-attend-tell", {}),
]


def _decoder(architecture: str, own: dict[str, Any]) -> Any:
    """D = 16, V = 50, F = 8; no weight is zero."""
    keras.utils.set_random_seed(4)
    decoder = ARCHITECTURES[architecture](50, 16, **own)
    decoder.build(((None, None, 8), (None, None)))
    random = np.random.default_rng(4)
    for weight in decoder.trainable_weights:
        weight.assign(weight + random.normal(0, 0.3, weight.shape))
    return decoder


@pytest.mark.parametrize(("architecture", "own"), ALL)
def test_steps_one_by_one_give_what_teacher_forcing_gives(architecture: str, own: dict[str, Any]) -> None:
    """And the same for beams that cross over: each row is its own history."""
    decoder = _decoder(architecture, own)
    random = np.random.default_rng(1)
    features = random.standard_normal((3, 6, 8)).astype(np.float32)
    tokens = random.integers(0, 50, (3, 2, 7))
    expected = [decoder((features, tokens[:, beam])).numpy() for beam in range(2)]
    states, memories = decoder.begin(tf.constant(features))
    states = {name: tf.stack([state, state], axis=1) for name, state in states.items()}
    for step in range(7):
        logits, states, attention = decoder.step(tf.constant(tokens[:, :, step]), states, memories)
        for beam in range(2):
            np.testing.assert_allclose(logits[:, beam], expected[beam][:, step], rtol=1e-4, atol=1e-5)
        assert (attention is not None) == decoder.attends
        if attention is not None:
            assert attention.shape == (3, 2, 6)
            np.testing.assert_allclose(np.sum(attention, axis=-1), 1, rtol=1e-5)
    # The rows do differ: the comparison could have failed.
    assert np.abs(expected[0] - expected[1]).max() > 0.1


@pytest.mark.parametrize(("architecture", "own"), ALL)
def test_a_word_changes_nothing_before_it(architecture: str, own: dict[str, Any]) -> None:
    decoder = _decoder(architecture, own)
    random = np.random.default_rng(2)
    features = random.standard_normal((2, 6, 8)).astype(np.float32)
    tokens = random.integers(0, 50, (2, 6))
    other = tokens.copy()
    other[:, 4] = (other[:, 4] + 1) % 50
    before, after = decoder((features, tokens)).numpy(), decoder((features, other)).numpy()
    np.testing.assert_array_equal(before[:, :4], after[:, :4])
    assert np.abs(before[:, 4:] - after[:, 4:]).max() > 1e-3


@pytest.mark.parametrize(("architecture", "own"), ALL)
def test_the_image_decides(architecture: str, own: dict[str, Any]) -> None:
    decoder = _decoder(architecture, own)
    random = np.random.default_rng(3)
    features = random.standard_normal((2, 6, 8)).astype(np.float32)
    logits = decoder((features, np.ones((2, 3), int))).numpy()
    assert np.abs(logits[0] - logits[1]).max() > 0.1


def test_show_attend_tell_is_the_papers_equations() -> None:
    """One step, written out with NumPy from the equations of Xu et al. 2015."""
    decoder = _decoder("show-attend-tell", {})
    random = np.random.default_rng(6)
    features, h, c = (random.standard_normal(shape) for shape in ((6, 8), (16,), (16,)))
    _, memories = decoder.begin(tf.constant(features[None], tf.float32))
    states = {"h": tf.constant(h[None, None], tf.float32), "c": tf.constant(c[None, None], tf.float32)}
    logits, following, attention = decoder.step(tf.constant([[7]], tf.int64), states, memories)
    weights = {"/".join(w.path.split("/")[-2:]): w.numpy().astype(np.float64) for w in decoder.weights}

    def dense(name: str, x: Any) -> Any:
        return x @ weights[f"{name}/kernel"] + weights.get(f"{name}/bias", 0)

    def sigmoid(x: Any) -> Any:
        return 1 / (1 + np.exp(-x))

    energy = dense("energy", np.tanh(dense("keys", features) + dense("query", h)))[:, 0]
    alpha = np.exp(energy) / np.exp(energy).sum()
    context = sigmoid(dense("gate", h)) * (alpha @ features)
    word = weights["embedding/embeddings"][7]
    given = np.concatenate([word, context]) @ weights["lstm/kernel"] + h @ weights["lstm/recurrent_kernel"]
    i, f, g, o = np.split(given + weights["lstm/bias"], 4)
    cell = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    output = sigmoid(o) * np.tanh(cell)
    deep = np.tanh(word + dense("from_output", output) + dense("from_context", context))
    np.testing.assert_allclose(attention[0, 0], alpha, rtol=1e-4)
    np.testing.assert_allclose(following["h"][0, 0], output, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(following["c"][0, 0], cell, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(logits[0, 0], dense("words", deep), rtol=1e-4, atol=1e-5)


def test_the_penalty_counts_real_words_alone() -> None:
    """Two captions: three words and an end after <start>; one word and an end. The rest is padding."""
    tokens = np.array([[1, 9, 8, 7, 2, 0], [1, 9, 2, 0, 0, 0]])
    attention = np.random.default_rng(0).dirichlet(np.ones(5), (2, 6)).astype(np.float32)
    expected = sum(np.square(1 - attention[b, :n].sum(0)).sum() for b, n in ((0, 4), (1, 2))) / 6
    assert float(attention_penalty(tf.constant(attention), tf.constant(tokens))) == pytest.approx(expected, rel=1e-5)
    even = np.full((2, 6, 4), 0.25, np.float32)
    assert float(attention_penalty(tf.constant(even[:1]), tf.constant(tokens[:1]))) == pytest.approx(0, abs=1e-6)


def test_the_penalty_is_added_while_training_alone() -> None:
    decoder = _decoder("show-attend-tell", {})
    features = np.random.default_rng(1).standard_normal((2, 6, 8)).astype(np.float32)
    tokens = np.array([[1, 9, 8, 2], [1, 9, 2, 0]])
    decoder((features, tokens), training=False)
    assert decoder.losses == []
    decoder((features, tokens), training=True)
    assert len(decoder.losses) == 1
    free = ShowAttendTell(50, 16, doubly_stochastic=0.0)
    free((features, tokens), training=True)
    assert free.losses == []


def test_training_with_the_penalty_spreads_the_attention() -> None:
    """As many words as regions: with it every region gets 1 over the caption; without it training does not care."""
    random = np.random.default_rng(2)
    features = random.standard_normal((16, 5, 8)).astype(np.float32)
    tokens = np.concatenate([np.ones((16, 1), int), random.integers(4, 20, (16, 4)), np.full((16, 1), 2)], axis=1)
    furthest = {}
    for weight in (0.0, 3.0):
        keras.utils.set_random_seed(1)
        decoder = ShowAttendTell(20, 16, dropout=(0.0, 0.0, 0.0), doubly_stochastic=weight)
        decoder.build(((None, None, 8), (None, None)))
        # From a start that looks at few regions.
        decoder.energy.kernel.assign(decoder.energy.kernel * 8)
        decoder.compile(optimizer=keras.optimizers.Adam(0.01), loss=MaskedCrossEntropy(), jit_compile=False)
        often = np.tile(features, (60, 1, 1)), np.tile(tokens, (60, 1))
        decoder.fit((often[0], often[1][:, :-1]), often[1][:, 1:], batch_size=16, shuffle=False, verbose=0)
        states, memories = decoder.begin(tf.constant(features))
        states, looked = {name: state[:, None] for name, state in states.items()}, 0.0
        for step in range(5):
            _, states, attention = decoder.step(tf.constant(tokens[:, step : step + 1]), states, memories)
            looked = looked + np.asarray(attention)[:, 0]
        furthest[weight] = float(np.abs(1 - looked).mean())
    assert furthest[3.0] < 0.1
    assert furthest[3.0] < furthest[0.0] / 3


@pytest.mark.parametrize(
    ("architecture", "own", "told"),
    [
        ("show-and-tell", {"tied": True}, "--tied: show-and-tell does not have this option"),
        ("show-attend-tell", {"learned_state": True}, "--learned-state: show-attend-tell does not have this option"),
        ("attention-gru", {"doubly_stochastic": 0.5}, "--doubly-stochastic: attention-gru does not have this option"),
        ("attention-gru", {"image_as": "state"}, "--image-as: attention-gru does not have this option"),
        ("show-attend-tell", {"doubly_stochastic": -1.0}, r"--doubly-stochastic -1\.0: must be at least 0"),
        ("show-and-sell", {}, "--architecture show-and-sell: not known"),
    ],
)
def test_options_of_another_architecture_are_refused(architecture: str, own: dict[str, Any], told: str) -> None:
    with pytest.raises(OptionError, match=told):
        options_of(architecture, **own)


def test_decoders_that_cannot_be_are_refused() -> None:
    for make in ARCHITECTURES.values():
        with pytest.raises(ExportError, match="1 words and 8 units cannot work"):
            make(1, 8)
    with pytest.raises(ExportError, match="--image-as both: not known"):
        ShowAndTell(50, 8, image_as="both")


def test_options_of_an_architecture_are_those_that_it_takes() -> None:
    assert OWN_OPTIONS.keys() == ARCHITECTURES.keys()
    own = {name for names in OWN_OPTIONS.values() for name in names}
    for name, kind in ARCHITECTURES.items():
        assert own & inspect.signature(kind).parameters.keys() == set(OWN_OPTIONS[name])
