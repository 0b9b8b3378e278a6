"""A saved network of Keras as functions with named tensors: as it is, and without loops."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import keras

Run: TypeAlias = Callable[[Sequence[Any]], list[Any]]
"""Tensors in the order of the inputs -> tensors in the order of the outputs."""
HOOK = "Or describe the captioner in a Python file: batchcap export FILE.py (examples/custom_captioner.py)."


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output of a saved network."""

    name: str
    shape: tuple[int | None, ...]
    """With the batch; None: any."""
    dtype: str

    def __str__(self) -> str:
        return f"{self.name} [{', '.join('?' if size is None else str(size) for size in self.shape)}] {self.dtype}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A saved network."""

    file: Path
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    run: Run
    """The network itself."""
    straight: Run
    """The same with its recurrent layers unrolled: one word at a time, no loop."""
    parameters: int
    beams: Run | None = None
    """The same on several beams at once: words [B, K] and states [B, K, ...], but memories [B, ...]. It holds where no
    layer mixes the words of a caption."""
    model: keras.Model | None = None
    """Where its layers are known."""
    words: frozenset[str] = frozenset()
    """Inputs that go into an Embedding."""
    follows: Mapping[str, str] = field(default_factory=dict)
    """Input with a recurrent layer's state -> output with its next state, where the layers show it."""

    def tensors(self) -> str:
        """All inputs and outputs, for an error."""
        return f"inputs {'; '.join(map(str, self.inputs))}; outputs {'; '.join(map(str, self.outputs))}"
