"""Functional Keras models evaluated node by node, recurrent layers as their cells: a graph without loops."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import keras
import tensorflow as tf
from keras import layers, tree

from batchcap.errors import ExportError

Key: TypeAlias = tuple[int, ...]
"""Which call of a layer it is: the same number in every evaluation of one model."""
Call: TypeAlias = Callable[[Key, Any, tuple[Any, ...], dict[str, Any]], Any]
"""(key, layer or operation, arguments) -> what the call gives: one value, or a list of them."""

MASK = "_keras_mask"
"""Where Keras keeps the mask of a tensor."""


def evaluate(model: keras.Model, inputs: Sequence[Any], call: Call, path: Key = ()) -> list[Any]:
    """Run the graph of a functional model on values of any kind; models inside it are gone through as well.

    Args:
        inputs: one value for each of ``captioner.inputs``.
        call: makes the values of one layer's call from those before it.

    Returns:
        One value for each of ``captioner.outputs``.
    """
    numbers = itertools.count()

    def visit(operation: Any, *args: Any, **kwargs: Any) -> Any:
        key = (*path, next(numbers))
        inside = as_functional(operation)
        if inside is None:
            return call(key, operation, args, kwargs)
        return evaluate(inside, tree.flatten(args[0]), call, key)

    return tree.flatten(model._run_through_graph(list(inputs), call_fn=visit))  # noqa: SLF001 - no public way


def as_functional(operation: Any) -> keras.Model | None:
    """A model whose graph is known, functional or a built Sequential; None for anything else."""
    if isinstance(operation, keras.Sequential):
        return keras.Model(operation.inputs, operation.outputs) if operation.built else None
    return operation if isinstance(operation, keras.Model) and hasattr(operation, "operations") else None


def plainly(_: Key, operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The call as Keras makes it, but for recurrent layers, whose cells are called for each word."""
    if not isinstance(operation, layers.RNN):
        return operation(*args, **kwargs)
    sequence, states, mask = recurrent_arguments(args, kwargs)
    output, states = unroll(operation, sequence, states, mask)
    return [output, *states] if operation.return_state else output


def on_beams(key: Key, operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """As `plainly`, for several beams at once: sequences [B, K, E] and states [B, K, D] are K beams, not K words."""
    if not isinstance(operation, layers.RNN):
        return plainly(key, operation, args, kwargs)
    output, following = unroll_beams(operation, *recurrent_arguments(args, kwargs))
    return [output, *following] if operation.return_state else output


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


def unroll(
    layer: layers.RNN, sequence: Any, states: Sequence[Any] | None, mask: Any = None, first: bool = True
) -> tuple[Any, list[Any]]:
    """What a recurrent layer gives for a sequence of known length, without a loop.

    Args:
        sequence: [N, T, E]; T must be known.
        states: [N, D] each; None: the layer's own beginning.
        mask: bool [N, T]; at a False nothing changes.
        first: nothing came before; otherwise a masked place repeats the output before it, which is the first state.

    Returns:
        [N, T, D], or [N, D] if the layer gives its last output only; and the states.
    """
    check_recurrent(layer, words=sequence.shape[1] != 1)
    begin = layer.get_initial_state(batch_size=tf.shape(sequence)[0])
    current = tree.flatten(begin) if states is None else list(states)
    output, outputs = None if first or states is None else states[0], []
    steps = [sequence[:, place] for place in range(sequence.shape[1])]
    for place, words in enumerate(reversed(steps) if layer.go_backwards else steps):
        given = [tf.cast(state, layer.cell.compute_dtype) for state in current]
        made, following = layer.cell(words, tree.pack_sequence_as(begin, given))
        following = tree.flatten(following)
        if mask is not None:
            seen = mask[:, place, None]
            before = tf.zeros_like(made) if output is None or layer.zero_output_for_mask else output
            made = tf.where(seen, made, before)
            following = [tf.where(seen, new, old) for new, old in zip(following, given, strict=True)]
        output, current = made, following
        outputs.append(made)
    if not layer.return_sequences:
        return output, current
    whole = tf.stack(outputs, axis=1)
    if mask is not None:
        setattr(whole, MASK, mask)  # what looks at the outputs leaves the same places out
    return whole, current


def unroll_beams(
    layer: layers.RNN, sequence: Any, states: Sequence[Any] | None, mask: Any = None, first: bool = True
) -> tuple[Any, list[Any]]:
    """As `unroll`, one word of K beams at once: sequence [B, K, E], states [B, K, D], mask [B, K].

    Raises:
        ValueError: the layer has no place for beams.
    """
    if states is None or not layer.return_sequences or len(sequence.shape) != 3:
        raise ValueError(f"{layer.name}: has no place for beams")
    images, beams = tf.unstack(tf.shape(sequence)[:2])
    rows = [tf.reshape(state, (-1, state.shape[-1])) for state in states]
    row_mask = None if mask is None else tf.reshape(mask, (-1, 1))
    output, following = unroll(layer, tf.reshape(sequence, (-1, 1, sequence.shape[-1])), rows, row_mask, first)
    out, *after = (tf.reshape(made, (images, beams, made.shape[-1])) for made in (output, *following))
    if mask is not None:
        setattr(out, MASK, mask)
    return out, after
