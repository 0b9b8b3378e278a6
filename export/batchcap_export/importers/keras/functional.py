"""Functional Keras models evaluated node by node, recurrent layers unrolled: a graph without loops."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import keras
from keras import layers, tree

from batchcap_export.model.recurrent import advance_beams, recurrent_arguments, unrolled

Key: TypeAlias = tuple[int, ...]
"""Which call of a layer it is: the same number in every evaluation of one model."""
Call: TypeAlias = Callable[[Key, Any, tuple[Any, ...], dict[str, Any]], Any]
"""(key, layer or operation, arguments) -> what the call gives: one value, or a list of them."""


def evaluate(model: keras.Model, inputs: Sequence[Any], call: Call, path: Key = ()) -> list[Any]:
    """Run the graph of a functional model on values of any kind; models inside it are gone through as well.

    Args:
        inputs: one value for each of ``model.inputs``.
        call: makes the values of one layer's call from those before it.

    Returns:
        One value for each of ``model.outputs``.
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
    """The call as Keras makes it, but recurrent layers without their loop."""
    if not isinstance(operation, layers.RNN):
        return operation(*args, **kwargs)
    with unrolled(operation, args[0]):
        return operation(*args, **kwargs)


def on_beams(key: Key, operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """As `plainly`, for several beams at once: sequences [B, K, E] and states [B, K, D] are K beams, not K words."""
    if not isinstance(operation, layers.RNN):
        return plainly(key, operation, args, kwargs)
    output, following = advance_beams(operation, *recurrent_arguments(args, kwargs))
    return [output, *following] if operation.return_state else output
