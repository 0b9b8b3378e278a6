"""Devices and images for tests of a tiny bundle's sessions."""

from __future__ import annotations

import numpy as np

from batchcap.bundle.bundle import Bundle
from batchcap.decoding.pruning import prune_by_halves
from batchcap.runtime.decoder import Decoder
from batchcap.runtime.device import Device
from batchcap.runtime.device_choice import choose_device, gpus
from batchcap.runtime.onnx_session import OnnxGraph

CPU = choose_device("cpu")
GPU = Device("cuda", 1, "Card")
LEVELS = np.array([[10, 200, 30], [250, 0, 90], [130, 130, 130]], np.uint8)
PIXELS = np.broadcast_to(LEVELS[:, None, None, :], (3, 8, 8, 3))


def usable_devices() -> list[Device]:
    """Everything `choose_device` would accept, GPUs first."""
    return [*(found for _, found in gpus() if isinstance(found, Device)), choose_device("cpu")]


def has_gpu() -> bool:
    return usable_devices()[0].kind == "cuda"


def with_select_graph(decoder: Decoder, bundle: Bundle) -> Decoder:
    """As on a GPU: images leave by the graph, by halves; here on the CPU."""
    assert bundle.select_path is not None
    decoder.select, decoder.pruning = OnnxGraph.load(bundle.select_path, CPU, 1), prune_by_halves
    return decoder
