"""A bundle's encoder on a device, and what it gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from batchcap.images.resize import Pixels
from batchcap.runtime.onnx_session import OnnxGraph


@dataclass(frozen=True, slots=True)
class Features:
    """What an encoder gives for B images. The tensors stay on the device."""

    images: int
    """B."""
    tensors: dict[str, Any]
    """``state.*`` [B, 1, ...] and ``memory.*`` [B, ...]."""


class Encoder:
    """The encoder of a bundle: pixels to what the decoder starts from."""

    def __init__(self, graph: OnnxGraph) -> None:
        self._graph = graph
        self._outputs = {tensor.name: True for tensor in graph.session.get_outputs()}

    def __call__(self, pixels: Pixels) -> Features:
        """Encode ``pixels`` [B, H, W, 3] of the bundle's pixel type.

        Raises:
            DeviceError: too little memory, or the device was lost.
        """
        image = np.ascontiguousarray(pixels)
        return Features(len(image), self._graph.run({"image": image}, self._outputs))
