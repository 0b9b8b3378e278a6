"""Whether the functions of a captioner give what the contract asks for, before anything is converted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from batchcap.errors import ExportError
from batchcap_export.model.caption_model import CaptionModel


def check_model(model: CaptionModel) -> None:
    """Run a model on two images and one step, before anything is converted.

    Raises:
        ExportError: a function fails, or what it returns has not the shapes that the contract asks for.
    """
    how, words = model.preprocess, len(model.vocabulary)
    image = tf.zeros((_PROBED, how.height, how.width, 3), how.pixels)
    states, memories = _tried("encode", lambda: model.encode(image))
    if not states:
        raise ExportError("encode: returns no state.", "Return at least one tensor that the step carries on.")
    for name, tensor in {**states, **memories}.items():
        if len(tensor.shape) < 1 or tensor.shape[0] != _PROBED:
            raise ExportError(
                f"encode: {name} has the shape {_shape(tensor)} for {_PROBED} images.",
                "Its first axis must be the images.",
            )
    token, states = tf.fill((_PROBED, 1), np.int64(model.tokens.start)), {n: s[:, None] for n, s in states.items()}
    logits, following, attention = _tried("step", lambda: model.step(token, states, memories))
    if len(logits.shape) != 3 or tuple(logits.shape[:2]) != (_PROBED, 1):
        raise ExportError(
            f"step: the logits have the shape {_shape(logits)} for {_PROBED} images of one beam.",
            f"They must be [{_PROBED}, 1, {words}]: one row for the next word, not one for every word so far.",
        )
    if logits.shape[2] != words:
        raise ExportError(
            f"step: gives logits for {logits.shape[2]} words, but the vocabulary has {words}.",
            "Give the vocabulary that the model was trained with, special tokens included, in its order.",
        )
    if following.keys() != states.keys():
        raise ExportError(
            f"step: takes the states {', '.join(sorted(states))} and returns {', '.join(sorted(following))}.",
            "It must return every state under the name it came with.",
        )
    for name, tensor in following.items():
        if tuple(tensor.shape[:2]) != (_PROBED, 1) or tensor.dtype != states[name].dtype:
            raise ExportError(
                f"step: state {name} goes in as {_shape(states[name])} {states[name].dtype.name} and comes out as "
                f"{_shape(tensor)} {tensor.dtype.name}.",
                "It must come out as it goes in.",
            )
    regions = None if attention is None else tuple(attention.shape)
    wanted = None if model.grid is None else (_PROBED, 1, model.grid[0] * model.grid[1])
    if regions != wanted:
        raise ExportError(
            f"step: the attention has the shape {regions}, but the grid asks for {wanted}.",
            "Name the rows and columns of the regions as grid, and return a weight for each; or do without both.",
        )


def _tried(name: str, call: Callable[[], Any]) -> Any:
    try:
        return call()
    except ExportError:
        raise
    except Exception as error:  # the user's code, which may raise anything
        raise ExportError(f"{name}: fails on {_PROBED} images: {type(error).__name__}: {error}") from error


def _shape(tensor: Any) -> str:
    return f"[{', '.join(str(size) for size in tensor.shape)}]"


_PROBED = 2
