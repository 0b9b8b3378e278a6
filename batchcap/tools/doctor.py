"""`batchcap doctor`: versions, the devices that really work, and how to get the GPU going."""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass
from importlib import metadata
from typing import Final

import numpy as np

from batchcap import __version__
from batchcap.errors import BatchcapError, DeviceError
from batchcap.runtime.captioner import Captioner
from batchcap.runtime.sessions import choose_device, gpus

_PARTS: Final = (
    "onnxruntime-gpu",
    "onnxruntime",
    "numpy",
    "pillow",
    "simplejpeg",
    "tensorflow",
    "tf2onnx",
)


@dataclass(frozen=True, slots=True)
class DeviceCheck:
    """One device, and what came of captioning a picture on it."""

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


def examine(model: str) -> Diagnosis:
    """Look at the installation and caption one picture with ``model`` on every device."""
    checks = [
        DeviceCheck(name, False, str(found))
        if isinstance(found, DeviceError)
        else _try(found.name, found.description, model)
        for name, found in gpus()
    ]
    cpu = choose_device("cpu")
    return Diagnosis(versions(), (*checks, _try(cpu.name, cpu.description, model)), _gpu())


def versions() -> tuple[tuple[str, str], ...]:
    """Name and version of batchcap, Python, the machine and every part that matters."""
    rows = [
        ("batchcap", __version__),
        ("python", platform.python_version()),
        ("system", f"{platform.system()} {platform.machine()}"),
    ]
    for part in _PARTS:
        try:
            rows.append((part, metadata.version(part)))
        except metadata.PackageNotFoundError:
            rows.append((part, "not installed"))
    return tuple(rows)


def _try(device: str, description: str, model: str) -> DeviceCheck:
    name = f"{device} ({description})"
    try:
        captioner = Captioner.load(model, device=device, batch_size=1)
        picture = np.full((64, 64, 3), 128, np.uint8)
        list(captioner.caption([picture]))
        started = time.perf_counter()
        list(captioner.caption([picture]))
        return DeviceCheck(name, True, f"works: {1000 * (time.perf_counter() - started):.0f} ms for one image")
    except BatchcapError as error:
        return DeviceCheck(name, False, str(error))


def _gpu() -> str:
    try:
        return f"A GPU can be used: {choose_device('cuda').description}. --device auto takes it."
    except DeviceError as error:
        return f"No GPU is used, and --device auto takes the CPU. {error}"
