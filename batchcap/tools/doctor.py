"""`batchcap doctor`: versions, the devices that really work, and how to get the GPU going."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from batchcap.errors import BatchcapError, DeviceError
from batchcap.runtime.captioner import Captioner
from batchcap.runtime.device_choice import choose_device, gpus
from batchcap.runtime.engine import ONE_BUILD, engine
from batchcap.tools.machine import versions


@dataclass(frozen=True, slots=True)
class DeviceCheck:
    """One device, and what came of captioning an image on it."""

    device: str
    works: bool
    result: str


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What `examine` found."""

    versions: tuple[tuple[str, str], ...]
    devices: tuple[DeviceCheck, ...]
    gpu: str
    """Whether a GPU can be used; if not, what is missing and what to do."""
    clash: str = ""
    """Builds of onnxruntime that are installed over each other, and what to do; empty where there is one."""


def examine(model: str | Path) -> Diagnosis:
    """Look at the installation and caption one image with ``model`` on every device."""
    checks = [
        DeviceCheck(name, False, str(found))
        if isinstance(found, DeviceError)
        else _try(found.name, found.description, model)
        for name, found in gpus()
    ]
    cpu = choose_device("cpu")
    clash = f"{found} {ONE_BUILD}" if (found := engine().clash) else ""
    return Diagnosis(versions(), (*checks, _try(cpu.name, cpu.description, model)), _gpu(), clash)


def _try(device: str, description: str, model: str | Path) -> DeviceCheck:
    name = f"{device} ({description})"
    try:
        captioner = Captioner.load(model, device=device, batch_size=1)
        image = np.full((64, 64, 3), 128, np.uint8)
        list(captioner.caption([image]))
        started = time.perf_counter()
        list(captioner.caption([image]))
        return DeviceCheck(name, True, f"works: {1000 * (time.perf_counter() - started):.0f} ms for one image")
    except BatchcapError as error:
        return DeviceCheck(name, False, str(error))


def _gpu() -> str:
    try:
        return f"A GPU can be used: {choose_device('cuda').description}. --device auto takes it."
    except DeviceError as error:
        return f"No GPU is used, and --device auto takes the CPU. {error}"
