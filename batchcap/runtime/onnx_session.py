"""One graph in an onnxruntime session: opened on a device, run with tensors where they are, its errors explained."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from batchcap.errors import BatchcapError, BundleError, DeviceError, OutOfMemoryError
from batchcap.runtime.device import Device
from batchcap.runtime.engine import onnxruntime_pybind11_state, ort
from batchcap.system import process
from batchcap.system.cores import usable_cores

CUDA: Final = "CUDAExecutionProvider"
_CPU: Final = "CPUExecutionProvider"
GPU_FIX: Final = 'Install the GPU libraries: pip install "batchcap[cuda]". Or use --device cpu.'
NO_CUDA: Final = "onnxruntime cannot load its CUDA libraries (CUDA 13 and cuDNN 9)."
_CPUINFO: Final = Path("/proc/cpuinfo")
# What onnxruntime's arena (with and without a limit), CUDA, cuBLAS, cuDNN 8 and 9, C++ and the system say. An arena's
# name alone will do: it does nothing but allocate.
_MEMORY: Final = re.compile(
    r"\w*out[ _]of[ _]memory|(failed|unable) to allocate|cannot allocate memory|available memory of|[\w:]*bad_alloc"
    r"|bad allocation|\w*ALLOC(ATION)?_FAILED|cudaErrorMemoryAllocation|BFCArena",
    re.IGNORECASE,
)
_LOST_FIX: Final = (
    "What was written is kept: run again. If it fails again, see what nvidia-smi says of the GPU; one that was lost "
    "comes back when the machine is restarted. --device cpu works without it."
)
# onnxruntime's log severities. Whatever is fatal to us is raised as well, so its printed text is only noise.
_SILENT: Final = 4
# Its own errors share no base below Exception; pybind11 turns others into these builtins.
_ORT_ERRORS: Final[tuple[type[Exception], ...]] = (
    *(e for e in vars(onnxruntime_pybind11_state).values() if isinstance(e, type) and issubclass(e, Exception)),
    RuntimeError,
    ValueError,
    MemoryError,
)

if os.environ.get("ORT_DISABLE_TELEMETRY") == "1":
    # Where onnxruntime was loaded before batchcap, it has its telemetry files already; from here on it sends nothing.
    ort.disable_telemetry_events()
if process.is_ours():
    ort.set_default_logger_severity(_SILENT)  # of the whole process: a host keeps its own


def open_session(model: Path | bytes, device: Device, threads: int, *, sparing: bool = False) -> Any:
    """A session that really runs on ``device``.

    Args:
        model: the file, or the model itself.
        device: where it runs.
        threads: on the CPU; 0 is one for each core that this process may use.
        sparing: take no more memory than is needed, and be slower. Else what is taken doubles each time, and is kept.

    Raises:
        BundleError: onnxruntime cannot load the model.
        OutOfMemoryError: the device has too little memory for it.
        DeviceError: it cannot use the device.
    """
    options = ort.SessionOptions()
    options.log_severity_level = _SILENT
    # A number of our own: onnxruntime's default pins its threads to cores, and complains where a container forbids it.
    options.intra_op_num_threads = threads or usable_cores()
    # Threads that spin while they wait starve the threads that decode images.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if _may_overflow(_CPUINFO):
        # Slower products of integers that cannot, so that int8 graphs caption here as where they were judged.
        options.add_session_config_entry("session.x64quantprecision", "1")
    # TF32 would round what the CPU does not. Algorithms by heuristic: trial runs choose differently from run to run.
    cuda = {"device_id": str(device.index), "use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}
    if sparing:
        options.enable_cpu_mem_arena = False
        cuda["arena_extend_strategy"] = "kSameAsRequested"
    providers: list[Any] = [_CPU] if device.kind == "cpu" else [(CUDA, cuda), _CPU]
    source = model if isinstance(model, bytes) else str(model)
    try:
        session = ort.InferenceSession(source, options, providers=providers, enable_fallback=0)
    except _ORT_ERRORS as error:
        raise _failure(error, device, model, "onnxruntime cannot load it") from error
    if device.kind == "cuda" and CUDA not in session.get_providers():
        raise DeviceError(NO_CUDA, GPU_FIX)
    return session


@dataclass(frozen=True, slots=True)
class OnnxGraph:
    """A graph of a bundle in a session."""

    path: Path
    device: Device
    session: Any

    @classmethod
    def load(cls, path: Path, device: Device, threads: int, *, sparing: bool = False) -> OnnxGraph:
        """Open a session; see `open_session`."""
        return cls(path, device, open_session(path, device, threads, sparing=sparing))

    def run(self, inputs: Mapping[str, Any], outputs: Mapping[str, bool]) -> dict[str, Any]:
        """Run with tensors where they are: on the host, or on the device.

        Args:
            inputs: NumPy arrays (contiguous) and tensors of an earlier run, by name.
            outputs: names, and whether each stays on the device.

        Raises:
            OutOfMemoryError: too little memory.
            DeviceError: the device was lost.
            BundleError: the graph failed.
        """
        device = self.device
        try:
            # A new binding for each run: a used one would hand its old output tensors to the graph to write over.
            binding = self.session.io_binding()
            for name, value in inputs.items():
                if isinstance(value, np.ndarray):
                    binding.bind_cpu_input(name, value)
                else:
                    binding.bind_ortvalue_input(name, value)
            for name, stays in outputs.items():
                binding.bind_output(name, *((device.kind, device.index) if stays else ("cpu", 0)))
            if device.kind == "cuda":
                binding.synchronize_inputs()
            self.session.run_with_iobinding(binding)
            if device.kind == "cuda":
                binding.synchronize_outputs()
            return dict(zip(outputs, binding.get_outputs(), strict=True))
        except _ORT_ERRORS as error:
            raise _failure(error, device, self.path, "its graph failed") from error


def _failure(error: Exception, device: Device, model: Path | bytes, what: str) -> BatchcapError:
    """What onnxruntime's error means to the user."""
    text = re.sub(r"\s+", " ", str(error)).strip() or type(error).__name__
    if isinstance(error, MemoryError) or _MEMORY.search(text):
        return out_of_memory(device, error)
    if device.kind == "cuda" and re.search(r"cuda|cudnn|cublas|gpu", text, re.IGNORECASE):
        return DeviceError(f"{device.name} ({device.description}) failed: {text[:300]}", _LOST_FIX)
    name = "<probe>" if isinstance(model, bytes) else str(model)
    return BundleError(f"{name}: {what}: {text[:300]}", "Export the model again.")


def out_of_memory(device: Device, error: BaseException) -> OutOfMemoryError:
    """What a failed allocation means to the user: by onnxruntime on the device, or by NumPy in the search."""
    text = re.sub(r"\s+", " ", str(error)).strip()
    places = [found.start() for found in _MEMORY.finditer(text)]
    # Before the words that say it, onnxruntime names a node and its own source; behind them, other parts of that.
    why = text[places[-1] if places else 0 :].partition(" ;")[0][:200].rstrip(" .")
    cpu = "" if device.kind == "cpu" else ", or use --device cpu"
    fix = f"End what else uses this memory{cpu}. A smaller model, or a smaller --beam-size, needs less."
    return OutOfMemoryError(f"{device.description}: too little memory{f' ({why})' if why else ''}.", fix)


@functools.cache
def _may_overflow(cpuinfo: Path) -> bool:
    """Whether this is an x86 without VNNI: its sums of uint8 times int8 saturate at 16 bits. Known on Linux only."""
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    flags = re.search(r"^flags\s*:(.*)$", text, re.MULTILINE)
    return flags is not None and "vnni" not in flags[1]
