"""What a training model's graph says: what depends on the image alone, what on the words, and how."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import tensorflow as tf
from keras import layers, tree

from batchcap.errors import ExportError
from batchcap_export.importers.keras import functional, probing
from batchcap_export.importers.keras.functional import Key
from batchcap_export.importers.keras.networks import Network, Port
from batchcap_export.model import recurrent

Source: TypeAlias = tuple[Key, int]
"""Which call made a tensor, and which of its outputs it is."""
IMAGE: Final[Source] = ((), 0)
"""The image itself."""
STEPS: Final = 3
"""Words of the probe, where the model reads any number."""
# Layers that give for each word what they would give for that word alone.
_WORD_BY_WORD = (
    *(layers.Embedding, layers.Dense, layers.Dropout, layers.SpatialDropout1D, layers.Activation, layers.ReLU),
    *(layers.LayerNormalization, layers.BatchNormalization, layers.RNN, layers.Attention, layers.AdditiveAttention),
    *(layers.Add, layers.Multiply, layers.Subtract, layers.Average, layers.Maximum, layers.Concatenate),
    *(layers.TimeDistributed, layers.Softmax, layers.LeakyReLU, layers.GaussianNoise, layers.Masking),
)


@dataclass(frozen=True, slots=True, eq=False)
class _Value:
    """A tensor of the probe."""

    tensor: Any
    source: Source
    words: bool
    """It depends on the words."""
    before: int | None = None
    """Axis 1 is the words of the caption, after so many steps of the image's own; None: it has no such axis."""


@dataclass(slots=True)
class Plan:
    """What the probe found."""

    kinds: dict[Key, str] = field(default_factory=dict)
    """``image``: depends on the image alone. ``words``: not so. Of these too: ``recurrent``, ``join`` (steps of the
    image put before the words), ``cut`` (first steps dropped), ``repeat`` (a vector of the image for each word)."""
    memories: dict[Source, str] = field(default_factory=dict)
    """Tensors of the image that the step looks at, and their names."""
    recurrent: dict[Key, list[str]] = field(default_factory=dict)
    """Calls of recurrent layers on words, and the names of their states."""
    dropped: dict[Key, int] = field(default_factory=dict)
    """Of a ``cut``: how many steps."""
    mixing: list[str] = field(default_factory=list)
    """Layers on words that are not known to give for each word what they would for it alone."""
    masks: bool = False
    """An Embedding masks the id 0."""
    before: int = 0
    """Steps of the image's own in the logits."""
    rows: bool = True
    """Logits for every word, not just for the one after the last."""


class _Nothing:
    """In place of words where there are none yet."""


NOTHING: Final = _Nothing()


def probe(network: Network, word: Port, logits: Port, pixels: Any) -> Plan:
    """Read the graph by running it on images [B, H, W, 3] and a few words.

    Raises:
        ExportError: a layer uses words in a way that cannot be a step.
    """
    assert network.model is not None
    probed = _Probe(network, word.shape[1])
    tokens = tf.ones((probing.IMAGES, word.shape[1] or STEPS), word.dtype)
    values = [
        _Value(tokens, IMAGE, words=True, before=0)
        if port == word
        else _Value(tf.cast(pixels, port.dtype), IMAGE, words=False)
        for port in network.inputs
    ]
    # Bundles hold it under this name.
    probed.names[IMAGE] = "image"
    end = functional.evaluate(network.model, values, probed.call)[network.outputs.index(logits)]
    if not end.words:
        raise ExportError(f"{network.file}: output {logits} does not depend on the words {word}.")
    plan = probed.plan
    plan.rows, plan.before = end.before is not None, end.before or 0
    return plan


class _Probe:
    """The plan in the making."""

    def __init__(self, network: Network, length: int | None) -> None:
        self.network, self.length = network, length
        self.plan = Plan()
        self.names: dict[Source, str] = {}

    def call(self, key: Key, operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[_Value]:
        """One call of a layer: run it, and note what kind it is."""
        given = [value for value in tree.flatten((args, kwargs)) if isinstance(value, _Value)]
        plain_args, plain_kwargs = tree.map_structure(
            lambda v: v.tensor if isinstance(v, _Value) else v, (args, kwargs)
        )
        on_words = [value for value in given if value.words]
        kind = self._kind(key, operation, args, on_words)
        self.plan.kinds[key] = kind
        if kind == "image":
            made = functional.plainly(key, operation, plain_args, plain_kwargs)
        else:
            made = operation(*plain_args, **plain_kwargs)
        tensors = tree.flatten(made)
        if kind == "recurrent":
            self._recurrent(key, operation, args, kwargs)
        elif kind in ("words", "repeat"):
            for value in given:
                if not value.words:
                    self.plan.memories.setdefault(value.source, self._unique(self.names[value.source]))
        if kind == "words" and not isinstance(operation, _WORD_BY_WORD):
            self.plan.mixing.append(f"{operation.name} ({type(operation).__name__})")
        self.plan.masks |= isinstance(operation, layers.Embedding) and operation.mask_zero
        before = self._before(key, operation, args, on_words)
        out = []
        for place, tensor in enumerate(tensors):
            self.names[key, place] = probing.plain(operation.name) + (f"_{place}" if place else "")
            timed = before if place == 0 and self._has_words_axis(tensor, before) else None
            out.append(_Value(tensor, (key, place), kind != "image", timed))
        return out

    def _kind(self, key: Key, operation: Any, args: tuple[Any, ...], on_words: list[_Value]) -> str:
        if not on_words:
            spread = isinstance(operation, layers.RepeatVector) and operation.n == self.length
            return "repeat" if spread else "image"
        if isinstance(operation, layers.Bidirectional):
            raise ExportError(
                f"{self.network.file}: {operation.name} is Bidirectional: it reads what comes after a word.",
                "Such a model cannot make captions word by word.",
            )
        if isinstance(operation, layers.RNN):
            return "recurrent"
        if type(operation).__name__ == "Concatenate" and on_words[0].before is not None:
            rank = len(on_words[0].tensor.shape)
            if rank >= 3 and operation.axis % rank == 1:
                if len(on_words) > 1 or not args[0][-1].words:
                    raise ExportError(
                        f"{self.network.file}: {operation.name} puts something after the words of a caption.",
                        "Only steps of the image before the first word can be cut off.",
                    )
                return "join"
        dropped = _dropped(operation, args) if on_words[0].before is not None else None
        if dropped is not None:
            self.plan.dropped[key] = dropped
            return "cut"
        return "words"

    def _recurrent(self, key: Key, layer: layers.RNN, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        recurrent.check_recurrent(layer)
        initial = recurrent.recurrent_arguments(args, kwargs)[1]
        if any(state.words for state in initial or ()):
            raise ExportError(
                f"{self.network.file}: {layer.name} starts from a state that depends on the words.",
                "Only a state that the image gives, or none, can be cut off.",
            )
        count = len(tree.flatten(layer.get_initial_state(batch_size=1)))
        name = self._unique(probing.plain(layer.name))
        self.plan.recurrent[key] = [name] if count == 1 else [f"{name}_{place}" for place in range(count)]

    def _before(self, key: Key, operation: Any, args: tuple[Any, ...], on_words: list[_Value]) -> int | None:
        """Steps before the first word on axis 1 of what a call gives; None: its axis 1 is something else."""
        kind = self.plan.kinds[key]
        befores = {value.before for value in on_words if value.before is not None}
        if kind == "repeat":
            return 0
        if len(befores) > 1:
            raise ExportError(
                f"{self.network.file}: {operation.name} joins words with and without steps before them.",
                "Drop the same first steps of both.",
            )
        if kind == "image" or not befores or (kind == "recurrent" and not operation.return_sequences):
            return None
        before = befores.pop()
        if kind == "join":
            return before + sum(int(value.tensor.shape[1]) for value in args[0] if not value.words)
        if kind == "cut":
            before -= self.plan.dropped[key]
            if before < 0:
                raise ExportError(
                    f"{self.network.file}: {operation.name} drops the first word.", "It cannot be cut into steps."
                )
        return before

    def _has_words_axis(self, tensor: Any, before: int | None) -> bool:
        return before is not None and len(tensor.shape) >= 2 and tensor.shape[1] == (self.length or STEPS) + before

    def _unique(self, name: str) -> str:
        taken = {*self.plan.memories.values(), *(names[0] for names in self.plan.recurrent.values())}
        number = 1
        while name in taken or f"{name}_0" in taken:
            number += 1
            name = f"{name.rsplit('_', 1)[0] if number > 2 else name}_{number}"
        return name


def _dropped(operation: Any, args: tuple[Any, ...]) -> int | None:
    """How many first steps ``x[:, n:]`` or Cropping1D((n, 0)) drops; None for anything else."""
    if isinstance(operation, layers.Cropping1D):
        first, last = operation.cropping
        return int(first) if last == 0 else None
    if type(operation).__name__ != "GetItem" or not isinstance(args[1], (tuple, list)) or len(args[1]) < 2:
        return None
    rows, places, *rest = args[1]
    whole = slice(None)
    ahead = isinstance(places, slice) and places.stop is None and places.step is None and (places.start or 0) >= 0
    return int(places.start or 0) if rows == whole and ahead and all(more in (whole, ...) for more in rest) else None
