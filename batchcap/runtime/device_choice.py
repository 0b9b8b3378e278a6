"""Which device to run on: what the driver has, and what onnxruntime can really use of it."""

from __future__ import annotations

import ctypes
import functools
import re
import sys
from collections.abc import Sequence
from typing import Final

from batchcap.errors import BundleError, DeviceError, OptionError
from batchcap.runtime.device import Device
from batchcap.runtime.engine import ONE_BUILD, engine, ort
from batchcap.runtime.onnx_session import CUDA, GPU_FIX, NO_CUDA, open_session
from batchcap.system.cores import usable_cores

_DRIVER_FIX: Final = "If this machine has an NVIDIA GPU, install NVIDIA's driver for it; if not, use --device cpu."
# An ONNX model of one node, float32 x [1] -> Identity -> y [1]: what it takes to learn which providers really load.
_PROBE: Final = (
    b'\x08\x08:;\n\x10\n\x01x\x12\x01y"\x08Identity\x12\x05probeZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04'
    b"\n\x02\x08\x01b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\x11"
)


def choose_device(name: str) -> Device:
    """The device to run on, proven to work.

    onnxruntime lists CUDA where there is none and then runs on the CPU in silence. So the driver is asked first, and
    then a session of one node shows which providers really load.

    Args:
        name: ``auto`` (a GPU if one is usable), ``cpu``, ``cuda`` (the first that is usable) or ``cuda:N``.

    Raises:
        OptionError: no such name.
        DeviceError: a demanded GPU cannot be used; the message says what is missing.
    """
    match = re.fullmatch(r"auto|cpu|cuda(?::(\d{1,4}))?", name)
    if match is None:
        raise OptionError(f"--device {name}: no such device.", "Use auto, cpu, cuda or cuda:N.")
    if name == "cpu":
        return _cpu()
    try:
        return _first_gpu() if match[1] is None else _cuda(int(match[1]), _driver_names())
    except DeviceError as error:
        if name != "auto":
            raise
        return _cpu(error.message)


def gpus() -> list[tuple[str, Device | DeviceError]]:
    """Every GPU of the driver as ``cuda:N (its name)``, with the device, or why it does not work.

    Empty where there is no driver.
    """
    try:
        names = _driver_names()
    except DeviceError:
        return []
    return [(f"cuda:{index} ({name})", _tried(index, names)) for index, name in enumerate(names)]


def _first_gpu() -> Device:
    """The first GPU that works; where none does, the error of the first is raised."""
    names = _driver_names()
    failed: list[DeviceError] = []
    for index in range(len(names)):
        found = _tried(index, names)
        if isinstance(found, Device):
            return found
        failed.append(found)
    raise failed[0]


def _tried(index: int, names: Sequence[str]) -> Device | DeviceError:
    try:
        return _cuda(index, names)
    except DeviceError as error:
        return error


def _cpu(note: str = "") -> Device:
    return Device("cpu", 0, f"CPU, {usable_cores()} cores", note)


def _cuda(index: int, names: Sequence[str]) -> Device:
    if index >= len(names):
        listed = ", ".join(f"cuda:{i} ({name})" for i, name in enumerate(names))
        raise DeviceError(f"--device cuda:{index}: there is no such GPU.", f"There are: {listed}.")
    if CUDA not in ort.get_available_providers():
        raise _built_without_cuda()
    if not _loads_cuda():
        raise DeviceError(NO_CUDA, GPU_FIX)
    device = Device("cuda", index, names[index])
    try:
        open_session(_PROBE, device, 1)
    except BundleError as error:  # one node is in order: it is the device that is not
        what = f"{device.name} ({device.description}) does not work: {error.message}"
        raise DeviceError(what, "See what nvidia-smi says, or use --device cpu.") from error
    return device


def _built_without_cuda() -> DeviceError:
    here = engine()
    what = f"The installed {here.distribution} {here.version} cannot use a GPU."
    if here.clash:
        return DeviceError(f"{what} {here.clash}", ONE_BUILD)
    return DeviceError(what, 'Take the other build: pip uninstall -y onnxruntime, then pip install "batchcap[cuda]".')


def _driver_names() -> list[str]:
    """The GPUs that the NVIDIA driver has, in CUDA's order.

    Raises:
        DeviceError: there is no driver, or no GPU.
    """
    library = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        driver = ctypes.CDLL(library)
    except OSError:
        raise DeviceError(f"There is no NVIDIA driver ({library}).", _DRIVER_FIX) from None
    count, device, name = ctypes.c_int(0), ctypes.c_int(0), ctypes.create_string_buffer(256)
    status = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if status or count.value == 0:
        why = f" (CUDA error {status})" if status else ""
        fix = "See what nvidia-smi says, or use --device cpu."
        raise DeviceError(f"The NVIDIA driver has no usable GPU{why}.", fix)
    names = []
    for index in range(count.value):
        status = driver.cuDeviceGet(ctypes.byref(device), index) or driver.cuDeviceGetName(name, len(name), device)
        names.append(name.value.decode("utf-8", "replace") if status == 0 else f"GPU {index}")
    return names


@functools.cache
def _loads_cuda() -> bool:
    """Load the libraries of CUDA and cuDNN that pip installs, and say whether all that onnxruntime needs are there.

    onnxruntime reports this only by printing, and a session that lacks a library would print too. So the ``print`` of
    onnxruntime's own module is caught while this runs, and no other.
    """
    if not hasattr(ort, "preload_dlls"):
        return True
    printed: list[str] = []
    ort.print = lambda *words, **_: printed.append(" ".join(map(str, words)))
    try:
        ort.preload_dlls()
    finally:
        del ort.print
    return not any(line.startswith("Please follow") for line in printed)
