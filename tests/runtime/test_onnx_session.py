"""One onnxruntime session: its settings, its errors, and that it prints nothing."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
from tiny_sessions import CPU, GPU, PIXELS

from batchcap.bundle.bundle import open_bundle
from batchcap.errors import BundleError, DeviceError, OutOfMemoryError
from batchcap.runtime import onnx_session
from batchcap.runtime.device import Device
from batchcap.runtime.device_choice import choose_device
from batchcap.runtime.sessions import open_sessions


def test_the_cpu_prints_nothing(tiny_bundle: Path, capfd: pytest.CaptureFixture[str]) -> None:
    bundle = open_bundle(tiny_bundle)
    encoder, decoder = open_sessions(bundle, choose_device("cpu"))
    stepper = decoder.start(encoder(PIXELS))
    stepper.step(np.full((3, 1), 1), np.zeros((3, 1), np.int64), candidates=4)
    with pytest.raises(BundleError):
        stepper.step(np.full((3, 1), 10_000), np.zeros((3, 1), np.int64), candidates=4)
    assert capfd.readouterr() == ("", "")


ARENA = "bfc_arena.cc:376 void* onnxruntime::BFCArena::AllocateRawInternal(size_t, bool, onnxruntime::Stream*)"
CALL = "cuda_call.cc:121 std::conditional_t<THRW, void, onnxruntime::common::Status> onnxruntime::CudaCall(ERRTYPE)"


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (RuntimeError(f"{ARENA} Failed to allocate memory\nfor requested buffer of size 93"), "size 93"),
        (
            RuntimeError(f"{ARENA} Available memory of 10 is smaller than requested bytes of 20"),
            "Available memory of 10 is smaller than requested bytes of 20",
        ),
        (RuntimeError(f"{CALL} CUDA failure 2: out of memory ; GPU=0 ; hostname=x ; expr=cudaMalloc"), "out of memory"),
        (RuntimeError(f"{CALL} CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=0"), "CUBLAS_STATUS_ALLOC_FAILED"),
        (RuntimeError("CUDNN failure 4: CUDNN_STATUS_ALLOC_FAILED ; GPU=0"), "CUDNN_STATUS_ALLOC_FAILED"),
        (
            RuntimeError("CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
            "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
        ),
        (RuntimeError("CUDA_ERROR_OUT_OF_MEMORY"), "CUDA_ERROR_OUT_OF_MEMORY"),
        (RuntimeError("std::bad_alloc"), "std::bad_alloc"),
        (RuntimeError("bad allocation"), "bad allocation"),
        (MemoryError("std::bad_alloc"), "std::bad_alloc"),
        (MemoryError(), ""),
    ],
)
@pytest.mark.parametrize("device", [CPU, GPU])
def test_too_little_memory(device: Device, error: Exception, why: str) -> None:
    found = onnx_session._failure(error, device, Path("decoder.onnx"), "its graph failed")
    assert isinstance(found, OutOfMemoryError)
    assert isinstance(found, DeviceError)
    assert isinstance(found, MemoryError)
    assert found.message.startswith(f"{device.description}: too little memory")
    assert found.message.endswith(f"{why})." if why else "memory.")
    assert "\n" not in found.message
    assert ("--device cpu" in found.fix) == (device is GPU)


def test_a_graph_that_fails_has_not_run_out_of_memory() -> None:
    error = RuntimeError("Non-zero status code returned while running Gather node. indices element out of data bounds")
    assert isinstance(onnx_session._failure(error, CPU, Path("decoder.onnx"), "its graph failed"), BundleError)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("model name\t: X\nflags\t\t: fpu avx2 avx512f\n", True),
        ("flags\t\t: fpu avx512_vnni fma\n", False),
        ("flags\t\t: fpu avx2 avx_vnni\n", False),
        ("Features\t: fp asimd\n", False),
        (None, False),
    ],
)
def test_which_processors_need_slower_products(text: str | None, expected: bool, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "cpuinfo").write_text(text)
    assert onnx_session._may_overflow(tmp_path / "cpuinfo") is expected


def test_slower_products_are_asked_for_where_they_are_needed(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read back from a real session: onnxruntime takes any name of a setting, misspelt ones too."""
    for needed in (True, False):
        monkeypatch.setattr(onnx_session, "_may_overflow", lambda _, needed=needed: needed)
        options = onnx_session.open_session(tiny_bundle / "encoder.onnx", choose_device("cpu"), 1).get_session_options()
        found = []
        with contextlib.suppress(RuntimeError):
            found.append(options.get_session_config_entry("session.x64quantprecision"))
        assert found == (["1"] if needed else [])
