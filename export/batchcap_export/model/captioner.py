"""A captioner as the export stage sees it: two functions of TensorFlow, and what a bundle says of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import tensorflow as tf

from batchcap.bundle.bundle import Bundle
from batchcap.bundle.detokenizer import Text
from batchcap.bundle.manifest import Generation, Metric, Tokens
from batchcap.bundle.vocabulary import Vocabulary
from batchcap.errors import ExportError
from batchcap.images.preprocess import Preprocess

Tensors: TypeAlias = dict[str, Any]
"""Tensors by name; the names become ``state.NAME`` and ``memory.NAME`` in the bundle."""
Encode: TypeAlias = Callable[[Any], tuple[Tensors, Tensors]]
"""Pixels [B, H, W, 3] -> states before the first word [B, ...], memories [B, ...]."""
Step: TypeAlias = Callable[[Any, Tensors, Tensors], tuple[Any, Tensors, Any]]
"""Tokens int64 [B, K], states [B, K, ...], memories [B, ...] -> logits float32 [B, K, V], next states [B, K, ...],
attention [B, K, R] or None."""
RowStep: TypeAlias = Callable[[Any, Tensors, Tensors], tuple[Any, ...]]
"""Tokens int64 [N], states [N, ...], memories [N, ...] -> logits [N, V], next states [N, ...] and, if it has one,
attention [N, R]: a step that knows no beams."""
Say: TypeAlias = Callable[[str], None]
"""Hears what is going on."""
Proof: TypeAlias = Callable[[Bundle, Sequence[Path], Say], Sequence[Metric]]
"""Measures a finished bundle on the pictures of the comparison, or raises."""


class Runnable(Protocol):
    """What parity compares with: a captioner in the framework it comes from. B images, K beams, R regions, V words."""

    @property
    def encode(self) -> Encode:
        """Pixels to what the steps start from."""

    @property
    def step(self) -> Step:
        """One word on; the logits may be log-probabilities, and need not be normalized."""


@dataclass(frozen=True, slots=True)
class Original:
    """The functions of a captioner as its own framework runs them."""

    encode: Encode
    step: Step


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionModel:
    """A captioner ready to be converted."""

    encode: Encode
    step: Step
    vocabulary: Vocabulary
    tokens: Tokens
    preprocess: Preprocess
    architecture: str
    grid: tuple[int, int] | None = None
    """Rows and columns of the regions that ``step`` weighs; None where it returns no attention."""
    generation: Generation = field(default_factory=Generation)
    """How it captions best, unless the export is told otherwise."""
    text: Text = field(default_factory=Text)
    """How its words are written, unless the export is told otherwise."""
    parameters: int = 0
    """Weights, all together."""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    """How it came to be, for the manifest: plain values, no paths."""
    original: Runnable | None = None
    """What parity compares the bundle with; None: ``encode`` and ``step``, which are then the original themselves.
    States and memories of the same name are compared too."""
    repeats_memory: bool = False
    """``step`` copies the memory for every beam (see `beams_from_rows`): it works, and costs time."""
    rounded: Callable[[str], CaptionModel] | None = None
    """Gives the model with weights rounded to a `rounding.Storage`; None where it cannot be rounded."""
    prove: Proof | None = None
    """What must hold of the finished bundle besides parity."""


def gather_beams(state: Any, parent: Any) -> Any:
    """``out[b, k] = state[b, parent[b, k]]`` as one Gather on flattened rows: a batched gather converts to several."""
    beams = tf.shape(state, tf.int64)[1]
    rows = parent + beams * tf.range(tf.shape(parent, tf.int64)[0])[:, None]
    flat = tf.reshape(state, tf.concat([[-1], tf.shape(state)[2:]], 0))
    return tf.gather(flat, rows)


def beams_from_rows(step: RowStep) -> Step:
    """A step over beams from one that knows rows: [B, K] becomes N = B * K rows, each with a copy of its memory."""

    def on_beams(token: Any, states: Tensors, memories: Tensors) -> tuple[Any, Tensors, Any]:
        images, beams = tf.unstack(tf.shape(token, tf.int64))
        image = tf.range(images * beams) // beams
        out = step(
            tf.reshape(token, [-1]),
            {name: _merged(state) for name, state in states.items()},
            {name: tf.gather(memory, image) for name, memory in memories.items()},
        )
        logits, following, attention = (*out, None)[:3]
        return (
            _split(logits, images, beams),
            {name: _split(state, images, beams) for name, state in following.items()},
            None if attention is None else _split(attention, images, beams),
        )

    return on_beams


def _merged(tensor: Any) -> Any:
    """[B, K, ...] -> [B * K, ...]; sizes that are known stay known."""
    merged = tf.reshape(tensor, tf.concat([[-1], tf.shape(tensor)[2:]], 0))
    return tf.ensure_shape(merged, [None, *tensor.shape[2:]])


def _split(tensor: Any, images: Any, beams: Any) -> Any:
    """[B * K, ...] -> [B, K, ...]; sizes that are known stay known."""
    front = tf.cast(tf.stack([images, beams]), tf.int32)
    split = tf.reshape(tensor, tf.concat([front, tf.shape(tensor)[1:]], 0))
    return tf.ensure_shape(split, [None, None, *tensor.shape[1:]])


def next_words(
    step: Step, token: Any, parent: Any, candidates: Any, states: Tensors, memories: Tensors
) -> tuple[Any, Any, Tensors, Any]:
    """One step of the bundle's contract.

    Args:
        token: int64 [B, K], the last word of each beam.
        parent: int64 [B, K], which of the P beams in ``states`` each row continues.
        candidates: int, C.
        states: [B, P, ...]; memories: [B, ...].

    Returns:
        log_prob float32 [B, K, C] and next token int64 [B, K, C], best first; next states [B, K, ...]; attention
        [B, K, R] or None.
    """
    chosen = {name: gather_beams(state, parent) for name, state in states.items()}
    logits, following, attention = step(token, chosen, memories)
    log_prob, word = tf.math.top_k(tf.nn.log_softmax(logits), k=candidates, sorted=True)
    return log_prob, tf.cast(word, tf.int64), following, attention


def check_model(model: CaptionModel) -> None:
    """Run a model on two pictures and one step, before anything is converted.

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
    except Exception as error:  # somebody's own code, which may raise anything
        raise ExportError(f"{name}: fails on {_PROBED} images: {type(error).__name__}: {error}") from error


def _shape(tensor: Any) -> str:
    return f"[{', '.join(str(size) for size in tensor.shape)}]"


_PROBED = 2
