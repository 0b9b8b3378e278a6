"""The only file that knows onnxruntime: devices, and a bundle's encoder and decoder as sessions on one of them."""

from __future__ import annotations

import copy
import ctypes
import functools
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state

from batchcap.bundle.bundle import Bundle
from batchcap.bundle.graph_contract import verify_decoder, verify_encoder, verify_select
from batchcap.decoding.step_check import step_problem
from batchcap.decoding.types import Leaving, StepOutput, leave_at_once, leave_by_halves
from batchcap.errors import BatchcapError, BundleError, DeviceError, OptionError
from batchcap.images.resize import Pixels
from batchcap.options.run import check_threads
from batchcap.system import process
from batchcap.system.cores import usable_cores

__all__ = [
    "Decoder",
    "Device",
    "Encoder",
    "Features",
    "StepOutput",
    "Stepper",
    "choose_device",
    "gpus",
    "open_sessions",
    "usable_devices",
]

_CUDA: Final = "CUDAExecutionProvider"
_CPU: Final = "CPUExecutionProvider"
_DRIVER_FIX: Final = "If this machine has an NVIDIA GPU, install NVIDIA's driver for it; if not, use --device cpu."
_GPU_FIX: Final = 'Install the GPU libraries: pip install "batchcap[cuda]". Or use --device cpu.'
_NO_CUDA: Final = "onnxruntime cannot load its CUDA libraries (CUDA 13 and cuDNN 9)."
_CPUINFO: Final = Path("/proc/cpuinfo")
# onnxruntime's log severities. Whatever is fatal to us is raised as well, so its printed text is only noise.
_SILENT: Final = 4
# Its own errors share no base below Exception; pybind11 turns others into these builtins.
_ORT_ERRORS: Final[tuple[type[Exception], ...]] = (
    *(e for e in vars(onnxruntime_pybind11_state).values() if isinstance(e, type) and issubclass(e, Exception)),
    RuntimeError,
    ValueError,
    MemoryError,
)
# An ONNX model of one node, float32 x [1] -> Identity -> y [1]: what it takes to learn which providers really load.
_PROBE: Final = (
    b'\x08\x08:;\n\x10\n\x01x\x12\x01y"\x08Identity\x12\x05probeZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04'
    b"\n\x02\x08\x01b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\x11"
)

if os.environ.get("ORT_DISABLE_TELEMETRY") == "1":
    # For a host that had loaded onnxruntime before batchcap: files it has then, but from here on it sends nothing.
    ort.disable_telemetry_events()
if process.is_ours():
    ort.set_default_logger_severity(_SILENT)  # of the whole process: a host keeps its own


@dataclass(frozen=True, slots=True)
class Device:
    """What a model runs on."""

    kind: Literal["cpu", "cuda"]
    index: int
    description: str
    """The device's own name, for people."""
    note: str = ""
    """Why ``auto`` chose the CPU."""

    @property
    def name(self) -> str:
        """As ``--device`` takes it: ``cpu`` or ``cuda:N``."""
        return "cpu" if self.kind == "cpu" else f"cuda:{self.index}"


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


def usable_devices() -> list[Device]:
    """Everything `choose_device` would accept, GPUs first."""
    return [*(found for _, found in gpus() if isinstance(found, Device)), _cpu()]


def gpus() -> list[tuple[str, Device | DeviceError]]:
    """Every GPU of the driver as ``cuda:N (its name)``, and what came of trying it; none where there is no driver."""
    try:
        names = _driver_names()
    except DeviceError:
        return []
    return [(f"cuda:{index} ({name})", _tried(index, names)) for index, name in enumerate(names)]


def _first_gpu() -> Device:
    """The first that works; where none does, the first says why."""
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
    if _CUDA not in ort.get_available_providers():
        raise DeviceError("The installed onnxruntime cannot use a GPU.", _GPU_FIX)
    if not _loads_cuda():
        raise DeviceError(_NO_CUDA, _GPU_FIX)
    device = Device("cuda", index, names[index])
    try:
        _session(_PROBE, device, 1)
    except BundleError as error:  # one node is in order: it is the device that is not
        what = f"{device.name} ({device.description}) does not work: {error.message}"
        raise DeviceError(what, "See what nvidia-smi says, or use --device cpu.") from error
    return device


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

    It tells by printing alone, and a session that lacks one would print too: so its own ``print`` is caught, for as
    long as this takes, and no one else's.
    """
    if not hasattr(ort, "preload_dlls"):
        return True
    said: list[str] = []
    ort.print = lambda *words, **_: said.append(" ".join(map(str, words)))
    try:
        ort.preload_dlls()
    finally:
        del ort.print
    return not any(line.startswith("Please follow") for line in said)


def _session(model: Path | bytes, device: Device, threads: int) -> Any:
    """A session that really runs on ``device``.

    Raises:
        BundleError: onnxruntime cannot load the model.
        DeviceError: it cannot use the device.
    """
    options = ort.SessionOptions()
    options.log_severity_level = _SILENT
    # A number of our own: onnxruntime's default pins its threads to cores, and complains where a container forbids it.
    options.intra_op_num_threads = threads or usable_cores()
    # Threads that spin while they wait starve the threads that decode pictures.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if _may_overflow(_CPUINFO):
        # Slower products of integers that cannot, so that int8 graphs caption here as where they were judged.
        options.add_session_config_entry("session.x64quantprecision", "1")
    # TF32 would round what the CPU does not. Algorithms by heuristic: trial runs choose differently from run to run.
    cuda = {"device_id": str(device.index), "use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}
    providers: list[Any] = [_CPU] if device.kind == "cpu" else [(_CUDA, cuda), _CPU]
    source = model if isinstance(model, bytes) else str(model)
    try:
        session = ort.InferenceSession(source, options, providers=providers, enable_fallback=0)
    except _ORT_ERRORS as error:
        raise _failure(error, device, model, "onnxruntime cannot load it") from error
    if device.kind == "cuda" and _CUDA not in session.get_providers():
        raise DeviceError(_NO_CUDA, _GPU_FIX)
    return session


@functools.cache
def _may_overflow(cpuinfo: Path) -> bool:
    """Whether this is an x86 without VNNI: its sums of uint8 times int8 are cut at 16 bits. Only Linux tells."""
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    flags = re.search(r"^flags\s*:(.*)$", text, re.MULTILINE)
    return flags is not None and "vnni" not in flags[1]


def _failure(error: Exception, device: Device, model: Path | bytes, what: str) -> BatchcapError:
    """What onnxruntime's error means to the user."""
    text = re.sub(r"\s+", " ", str(error)).strip() or type(error).__name__
    memory = r"out of memory|failed to allocate|bad_alloc|bad allocation|ALLOC_FAILED|BFCArena"
    if isinstance(error, MemoryError) or re.search(memory, text, re.IGNORECASE):
        return DeviceError(f"{device.description}: too little memory ({text[:200]}).", "Use a smaller --batch-size.")
    if device.kind == "cuda" and re.search(r"cuda|cudnn|cublas|gpu", text, re.IGNORECASE):
        fix = "What was written is kept: see what nvidia-smi says, and run again."
        return DeviceError(f"{device.name} ({device.description}) failed: {text[:300]}", fix)
    name = "<probe>" if isinstance(model, bytes) else str(model)
    return BundleError(f"{name}: {what}: {text[:300]}", "Export the model again.")


def open_sessions(bundle: Bundle, device: Device, threads: int = 0) -> tuple[Encoder, Decoder]:
    """Load a bundle's graphs and check that their tensors are those of the contract.

    Args:
        bundle: from `batchcap.bundle.bundle.open_bundle`.
        device: from `choose_device`.
        threads: threads of one session on the CPU; 0 is one for each core this process may use.

    Raises:
        OptionError: such a number of threads cannot work.
        BundleError: a graph cannot be loaded, or a tensor is missing, extra, or of a wrong type or shape.
        DeviceError: the device cannot be used.
    """
    threads = check_threads(threads)
    encoder = _session(bundle.encoder_path, device, threads)
    decoder = _session(bundle.decoder_path, device, threads)
    select = None if bundle.select_path is None else _session(bundle.select_path, device, threads)
    verify_encoder(bundle, encoder)
    verify_decoder(bundle, encoder, decoder)
    if select is not None:
        verify_select(bundle, encoder, select)
    words, end = len(bundle.vocabulary), bundle.manifest.tokens.end
    steps = Decoder(decoder, device, bundle.decoder_path, select, words=words, end=end)
    return Encoder(encoder, device, bundle.encoder_path), steps


@dataclass(frozen=True, slots=True)
class Features:
    """What an encoder saw in B images. The tensors stay on the device."""

    images: int
    """B."""
    tensors: dict[str, Any]
    """``state.*`` [B, 1, ...] and ``memory.*`` [B, ...]."""


def _run(
    session: Any, device: Device, path: Path, inputs: Mapping[str, Any], outputs: Mapping[str, bool]
) -> dict[str, Any]:
    """Run with tensors where they are.

    Args:
        inputs: NumPy arrays (contiguous) and tensors of an earlier run, by name.
        outputs: names, and whether each stays on the device.
    """
    try:
        # A new binding for each run: a used one would hand its old output tensors to the graph to write over.
        binding = session.io_binding()
        for name, value in inputs.items():
            if isinstance(value, np.ndarray):
                binding.bind_cpu_input(name, value)
            else:
                binding.bind_ortvalue_input(name, value)
        for name, stays in outputs.items():
            binding.bind_output(name, *((device.kind, device.index) if stays else ("cpu", 0)))
        if device.kind == "cuda":
            binding.synchronize_inputs()
        session.run_with_iobinding(binding)
        if device.kind == "cuda":
            binding.synchronize_outputs()
        return dict(zip(outputs, binding.get_outputs(), strict=True))
    except _ORT_ERRORS as error:
        raise _failure(error, device, path, "its graph failed") from error


class Encoder:
    """Pixels to what the decoder starts from."""

    def __init__(self, session: Any, device: Device, path: Path) -> None:
        self._session, self._device, self._path = session, device, path
        self._outputs = {tensor.name: True for tensor in session.get_outputs()}

    def __call__(self, pixels: Pixels) -> Features:
        """Encode ``pixels`` [B, H, W, 3] of the bundle's pixel type.

        Raises:
            DeviceError: too little memory, or the device was lost.
        """
        image = np.ascontiguousarray(pixels)
        return Features(len(image), _run(self._session, self._device, self._path, {"image": image}, self._outputs))


class Decoder:
    """The single-step decoder of a bundle.

    Attributes:
        has_attention: its steps can give attention weights.
        words: V, which its tokens stay below.
        end: the token that ends captions.
        select: the graph by which they leave; None takes their states over the host.
        leaving: when images that are done should leave the batch; None, on a GPU without that graph, is never: the way
            over the host costs more than it saves.
    """

    leaving: Leaving | None

    def __init__(self, session: Any, device: Device, path: Path, select: Any = None, *, words: int, end: int) -> None:
        self.session, self.device, self.path, self.words, self.end = session, device, path, words, end
        self.select, self.leaving = select, leave_by_halves if select is not None else None
        self._graph = select
        if device.kind == "cpu":
            # NumPy is faster there: the graph takes 1.2 times as long where 48 of 64 images stay, 1.9 times where 4 do
            # (medians; state [64, 3, 512], memory [64, 49, 512], float32, 2 cores).
            self.select, self.leaving = None, leave_at_once
        names = [tensor.name for tensor in session.get_outputs()]
        self.has_attention = "attention" in names
        self.states = [name for name in names if name.startswith("next_state.")]

    def leaving_by_graph(self) -> Decoder | None:
        """The same decoder as a GPU would use it: images leave by the graph for that; None where there is none."""
        if self._graph is None:
            return None
        other = copy.copy(self)
        other.select, other.leaving = self._graph, leave_by_halves
        return other

    def start(self, features: Features, candidates: int) -> Stepper:
        """Begin to caption the images of ``features``, with ``candidates`` next tokens shown a beam (1 <= C <= V)."""
        return Stepper(self, features, candidates)


class Stepper:
    """A decoder in the middle of captioning; see `batchcap.decoding.types.Step`."""

    def __init__(self, decoder: Decoder, features: Features, candidates: int) -> None:
        self._decoder = decoder
        self._tensors = dict(features.tensors)
        self._candidates = np.array([candidates], np.int64)

    @property
    def carried(self) -> dict[str, NDArray[Any]]:
        """The states and memories that the next step reads, by name: copies, whatever the device."""
        return {name: np.array(value.numpy()) for name, value in self._tensors.items()}

    def step(
        self,
        token: NDArray[np.int64],
        parent: NDArray[np.int64],
        *,
        attention: bool = False,
        candidates: int | None = None,
    ) -> StepOutput:
        """Give each beam its last token.

        Args:
            token: int64 [B, K].
            parent: int64 [B, K], the beam of the step before that each row continues.
            attention: also return the attention weights, where the model has them.
            candidates: next tokens shown a beam in this step; None is the number it was begun with.

        Raises:
            DeviceError: too little memory, or the device was lost.
            BundleError: what the graph gives are no log-probabilities of the model's tokens.
        """
        decoder = self._decoder
        outputs = {"log_prob": False, "next_token": False} | dict.fromkeys(decoder.states, True)
        if attention and decoder.has_attention:
            outputs["attention"] = False
        steered = {"token": np.ascontiguousarray(token), "parent": np.ascontiguousarray(parent)}
        shown = self._candidates if candidates is None else np.array([candidates], np.int64)
        inputs = {**steered, "candidates": shown, **self._tensors}
        out = _run(decoder.session, decoder.device, decoder.path, inputs, outputs)
        for name in decoder.states:
            self._tensors[name.removeprefix("next_")] = out[name]
        looked = out["attention"].numpy() if "attention" in out else None
        given = StepOutput(out["log_prob"].numpy(), out["next_token"].numpy(), looked)
        problem = step_problem(given, (*token.shape, int(shown[0])), decoder.words, decoder.end)
        if problem is not None:
            raise BundleError(f"{decoder.path}: {problem[0]}", problem[1])
        return given

    def select(self, rows: NDArray[np.intp]) -> None:
        """Go on with these images only. Without the graph for it a GPU's states go over the host."""
        device, graph = self._decoder.device, self._decoder.select
        if graph is not None:
            path = self._decoder.path.with_name(self._decoder.path.name.replace("decoder", "select", 1))
            inputs = {"rows": np.ascontiguousarray(rows, np.int64), **self._tensors}
            out = _run(graph, device, path, inputs, dict.fromkeys((f"selected.{n}" for n in self._tensors), True))
            self._tensors = {name: out[f"selected.{name}"] for name in self._tensors}
            return
        for name, value in self._tensors.items():
            kept = np.ascontiguousarray(value.numpy()[rows])
            self._tensors[name] = ort.OrtValue.ortvalue_from_numpy(kept, device.kind, device.index)
