"""Recurrent Keras layers without a loop in the graph: Keras unrolls them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import keras
import tensorflow as tf
from keras import layers, tree

from batchcap.errors import ExportError

Result = TypeVar("Result")
MASK = "_keras_mask"
"""Where Keras keeps the mask of a tensor."""


def recurrent_arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, list[Any] | None, Any]:
    """Sequence, initial states if any, and mask of a recurrent layer's call."""
    sequence = args[0]
    initial = args[1] if len(args) > 1 else kwargs.get("initial_state")
    mask = args[2] if len(args) > 2 else kwargs.get("mask")
    states = None if initial is None else tree.flatten(initial)
    return sequence, states, mask if mask is not None else getattr(sequence, MASK, None)


def check_recurrent(layer: layers.RNN, words: bool = True) -> None:
    """Raise an ExportError for a recurrent layer whose single step is not what the whole sequence gives.

    Args:
        words: it reads several words one after the other, not just one.
    """
    if layer.stateful:
        raise ExportError(
            f"{layer.name}: is stateful, so that its state is not among the inputs and outputs.",
            "Save it with stateful=False and the state as input and output.",
        )
    if layer.go_backwards and words:
        raise ExportError(f"{layer.name}: go_backwards reads the last word first.", "It cannot make captions.")


@contextmanager
def unrolled(layer: layers.RNN, sequence: Any, *, states: bool = False) -> Iterator[None]:
    """Until the end, Keras calls a recurrent layer on ``sequence`` [N, T, E], whose T is known, without a loop.

    Args:
        states: the layer gives its states too, even if it was made not to.
    """
    check_recurrent(layer, words=sequence.shape[1] != 1)
    before = layer.unroll, layer.return_state
    layer.unroll, layer.return_state = True, layer.return_state or states
    try:
        yield
    finally:
        layer.unroll, layer.return_state = before


def advance(
    layer: layers.RNN, sequence: Any, states: Sequence[Any] | None, mask: Any = None, first: bool = True
) -> tuple[Any, list[Any]]:
    """What a recurrent layer gives for a sequence of known length, without a loop.

    Args:
        sequence: [N, T, E]; T must be known.
        states: [N, D] each; None: the layer's own beginning.
        mask: bool [N, T]; at a False nothing changes.
        first: nothing came before; otherwise T is 1, and a masked word repeats the output before it, which is the first
            state.

    Returns:
        [N, T, D], or [N, D] if the layer gives its last output only; and the states.
    """
    # StackedRNNCells have nested states.
    begin = None if states is None else tree.pack_sequence_as(layer.get_initial_state(batch_size=1), list(states))
    with unrolled(layer, sequence, states=True):
        output, *following = layer(sequence, initial_state=begin, mask=mask)
    if states is not None and mask is not None and not (first or layer.zero_output_for_mask):
        seen, before = (mask[..., None], states[0][:, None]) if layer.return_sequences else (mask, states[0])
        output = tf.where(seen, output, before)
        if layer.return_sequences:
            setattr(output, MASK, mask)  # what looks at the outputs leaves the same places out
    return output, tree.flatten(following)


def advance_beams(
    layer: layers.RNN, sequence: Any, states: Sequence[Any] | None, mask: Any = None, first: bool = True
) -> tuple[Any, list[Any]]:
    """As `advance`, one word of K beams at once: sequence [B, K, E], states [B, K, D], mask [B, K].

    Raises:
        ValueError: the layer has no place for beams.
    """
    if states is None or not layer.return_sequences or len(sequence.shape) != 3:
        raise ValueError(f"{layer.name}: has no place for beams")
    images, beams = tf.unstack(tf.shape(sequence)[:2])
    rows = [tf.reshape(state, (-1, state.shape[-1])) for state in states]
    row_mask = None if mask is None else tf.reshape(mask, (-1, 1))
    output, following = advance(layer, tf.reshape(sequence, (-1, 1, sequence.shape[-1])), rows, row_mask, first)
    out, *after = (tf.reshape(made, (images, beams, made.shape[-1])) for made in (output, *following))
    if mask is not None:
        setattr(out, MASK, mask)
    return out, after


def without_loops(step: Callable[..., Result]) -> Callable[..., Result]:
    """``step``, in which every recurrent Keras layer that is called on a sequence of one word is unrolled.

    The layer itself would become a loop in the graph.
    """

    def straight(*args: Any) -> Result:
        with _one_word_unrolled():
            return step(*args)

    return straight


@contextmanager
def _one_word_unrolled() -> Iterator[None]:
    """Until the end, `RNN` has a way of its own to be called; the classes below it inherit it.

    Nothing tells which layers somebody's code will call, so that ``unroll`` can be set only when it does.
    """

    def call(layer: layers.RNN, sequences: Any, *args: Any, **kwargs: Any) -> Any:
        if sequences.shape[1] != 1:
            return keras.Layer.__call__(layer, sequences, *args, **kwargs)
        with unrolled(layer, sequences):
            return keras.Layer.__call__(layer, sequences, *args, **kwargs)

    before = layers.RNN.__dict__.get("__call__")
    layers.RNN.__call__ = call
    try:
        yield
    finally:
        if before is None:
            del layers.RNN.__call__
        else:
            layers.RNN.__call__ = before
