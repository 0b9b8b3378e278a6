"""One onnxruntime session: its settings, its errors, and that it prints nothing."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import numpy as np
import pytest
from tiny_sessions import CPU, GPU, PIXELS

from batchcap.bundle.bundle import open_bundle
from batchcap.errors import BundleError, DeviceError
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


@pytest.mark.parametrize(
    ("device", "error", "message", "fix"),
    [
        (
            GPU,
            RuntimeError("BFCArena::AllocateRawInternal Failed to allocate memory"),
            "Card: too little",
            "--batch-size",
        ),
        (GPU, RuntimeError("CUDA failure 2: out of memory ; GPU=0"), "Card: too little memory", "--batch-size"),
        (GPU, RuntimeError("CUDNN_STATUS_ALLOC_FAILED"), "Card: too little memory", "--batch-size"),
        (CPU, MemoryError(), "CPU, .*: too little memory", "--batch-size"),
        (CPU, RuntimeError("std::bad_alloc"), "CPU, .*: too little memory", "--batch-size"),
        (GPU, RuntimeError("CUDA failure 700: illegal\nmemory access"), r"cuda:1 \(Card\) failed: CUDA", "run again"),
    ],
)
def test_what_a_device_can_raise(device: Device, error: Exception, message: str, fix: str) -> None:
    found = onnx_session._failure(error, device, Path("decoder.onnx"), "its graph failed")
    assert isinstance(found, DeviceError)
    assert re.match(message, found.message)
    assert "\n" not in found.message
    assert fix in found.fix


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
