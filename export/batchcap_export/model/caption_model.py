"""A captioner in the export stage: two functions of TensorFlow, and what the bundle's manifest needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from batchcap.bundle.bundle import Bundle
from batchcap.bundle.detokenizer import Text
from batchcap.bundle.manifest import Generation, Metric, Tokens
from batchcap.bundle.vocabulary import Vocabulary
from batchcap.images.preprocess import Preprocess
from batchcap.reporting import Say

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
Proof: TypeAlias = Callable[[Bundle, Sequence[Path], Say], Sequence[Metric]]
"""Measures a finished bundle on the images of the comparison, or raises."""


class Runnable(Protocol):
    """What parity compares with: a captioner in the framework it comes from. B images, K beams, R regions, V words."""

    @property
    def encode(self) -> Encode:
        """Pixels to the states before the first word and the memories."""

    @property
    def step(self) -> Step:
        """One step; the logits may be log-probabilities, and need not be normalized."""


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
    """Its default decoding, unless the export names another."""
    text: Text = field(default_factory=Text)
    """How its words are written, unless the export names another way."""
    parameters: int = 0
    """How many weights it has."""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    """How it was made, for the manifest: plain values, no paths."""
    original: Runnable | None = None
    """What parity compares the bundle with; None: ``encode`` and ``step``, which are then the original themselves.
    States and memories of the same name are compared too."""
    repeats_memory: bool = False
    """``step`` copies the memory for every beam (see `beams_from_rows`): it costs time."""
    rounded: Callable[[str], CaptionModel] | None = None
    """Gives the model with weights rounded to a `bundles.Storage`; None where it cannot be rounded."""
    prove: Proof | None = None
    """A proof of the finished bundle besides parity."""
