"""What `export` and `verify --origin` are told of a saved model that the model does not say of itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from batchcap.images.resize import ResizeMethod

Scale = Literal["0..255", "0..1", "-1..1", "caffe", "torch"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions:
    """What a saved model does not say of itself; None: it was not given."""

    vocabulary: Path | None = None
    """The words in the order of their ids."""
    decoder: Path | None = None
    """The other half of a captioner that is saved as an encoder and a decoder."""
    map: tuple[str, ...] | None = None
    """``TENSOR=ROLE`` each: what a tensor of the saved model is, where its name and shape do not tell."""
    size: int | None = None
    """Rows and columns of the input."""
    scale: Scale | None = None
    """What the network wants of pixels: a range, or the arithmetic of a mode of keras.applications."""
    resize: ResizeMethod | None = None
    """How pictures were resized when the network learnt."""
    start: str | None = None
    """The token before the first word."""
    end: str | None = None
    """The token after the last word."""
    unknown: str | None = None
    """The token for words that the vocabulary lacks."""
    padding: str | None = None
    """The token that fills short captions while training."""
