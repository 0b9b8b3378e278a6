"""What a figure was measured on: the processor, and the versions of the libraries."""

from __future__ import annotations

import platform
from importlib import metadata
from pathlib import Path
from typing import Final

from batchcap import __version__
from batchcap.runtime.engine import engine
from batchcap.system.cores import usable_cores

_PARTS: Final = (
    "onnxruntime-gpu",
    "onnxruntime",
    "numpy",
    "pillow",
    "simplejpeg",
    "tensorflow",
    "tf2onnx",
)


def versions() -> tuple[tuple[str, str], ...]:
    """Name and version of batchcap, Python, the machine, every part that matters, and the build of onnxruntime."""
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
    rows.append(("engine", engine().description))
    return tuple(rows)


def machine() -> dict[str, str | int]:
    """The processor, the cores a process may use, and the versions of what computes."""
    return {"cpu": _cpu_model(), "cores": usable_cores(), **dict(versions())}


def _cpu_model() -> str:
    """The processor's name; Linux has it in a file of its own."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
