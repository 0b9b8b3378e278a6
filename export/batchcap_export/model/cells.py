"""Steps of other people's code that call recurrent layers on sequences of one word: the same without the loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import keras
from keras import layers

from batchcap_export.model.recurrent import recurrent_arguments, unroll

Result = TypeVar("Result")


def by_cells(step: Callable[..., Result]) -> Callable[..., Result]:
    """``step``, in which every recurrent Keras layer that is called on a sequence of one word calls its cell.

    The layer itself would become a loop in the graph. Layers that have no weights yet are called as they are.
    """

    def straight(*args: Any) -> Result:
        with _cells_called():
            return step(*args)

    return straight


@contextmanager
def _cells_called() -> Iterator[None]:
    """Until the end, `RNN` has a way of its own to be called; the classes below it inherit it."""

    def call(layer: layers.RNN, *args: Any, **kwargs: Any) -> Any:
        if not layer.built or args[0].shape[1] != 1:
            return keras.Layer.__call__(layer, *args, **kwargs)
        output, states = unroll(layer, *recurrent_arguments(args, kwargs))
        return (output, *states) if layer.return_state else output

    before = layers.RNN.__dict__.get("__call__")
    layers.RNN.__call__ = call
    try:
        yield
    finally:
        if before is None:
            del layers.RNN.__call__
        else:
            layers.RNN.__call__ = before
