"""Recurrent Keras layers without a loop: the cell, called once for each word."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from keras import layers, tree

from batchcap.errors import ExportError

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
