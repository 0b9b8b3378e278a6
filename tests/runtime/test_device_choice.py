"""Which device is chosen, and what is said where a GPU cannot be used."""

from __future__ import annotations

import ctypes

import onnx
import pytest
from tiny_sessions import CPU, has_gpu, usable_devices

from batchcap.errors import DeviceError, OptionError
from batchcap.runtime import device_choice
from batchcap.runtime.device_choice import choose_device


@pytest.mark.parametrize("name", ["gpu", "", "cuda:", "cuda:x", "cuda:-1", "CPU", "cuda0"])
def test_a_device_that_does_not_exist(name: str) -> None:
    with pytest.raises(OptionError, match="no such device"):
        choose_device(name)


def test_the_cpu_is_always_usable() -> None:
    assert CPU.kind == CPU.name == "cpu"
    assert usable_devices()[-1] == CPU


def test_what_auto_takes_is_usable() -> None:
    device = choose_device("auto")
    assert device.kind == usable_devices()[0].kind
    assert bool(device.note) == (device.kind == "cpu")


def test_without_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", missing)
    with pytest.raises(DeviceError, match="There is no NVIDIA driver") as error:
        choose_device("cuda")
    assert "--device cpu" in error.value.fix
    assert choose_device("auto").note == error.value.message
    assert usable_devices() == [CPU]


class Driver:
    """What the CUDA driver answers on a machine with ``names``."""

    def __init__(self, *names: str, status: int = 0) -> None:
        self.names, self.status = names, status

    def cuInit(self, flags: int) -> int:  # noqa: N802 - the driver's own name
        return self.status

    def cuDeviceGetCount(self, count: object) -> int:  # noqa: N802
        count._obj.value = len(self.names)
        return 0

    def cuDeviceGet(self, device: object, index: int) -> int:  # noqa: N802
        device._obj.value = index
        return 0

    def cuDeviceGetName(self, name: object, size: int, device: object) -> int:  # noqa: N802
        name.value = self.names[device.value].encode()
        return 0


def test_a_driver_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver(status=100))
    with pytest.raises(DeviceError, match=r"no usable GPU \(CUDA error 100\)"):
        choose_device("cuda:0")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver())
    with pytest.raises(DeviceError, match="no usable GPU"):
        choose_device("cuda")


def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver("One", "Two"))
    with pytest.raises(DeviceError, match="cuda:2: there is no such GPU") as error:
        choose_device("cuda:2")
    assert error.value.fix == "There are: cuda:0 (One), cuda:1 (Two)."


@pytest.mark.skipif(has_gpu(), reason="needs a machine where CUDA does not load")
def test_a_driver_that_onnxruntime_cannot_use(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(device_choice, "_driver_names", lambda: ["Pretended"])
    with pytest.raises(DeviceError, match=r"onnxruntime.* cannot") as error:
        choose_device("cuda")
    assert 'pip install "batchcap[cuda]"' in error.value.fix
    device = choose_device("auto")
    assert device.kind == "cpu"
    assert device.note == error.value.message
    assert capfd.readouterr() == ("", "")


def test_the_probe_is_the_model_it_says() -> None:
    model = onnx.load_from_string(device_choice._PROBE)
    onnx.checker.check_model(model, full_check=True)
    assert [(n.op_type, list(n.input), list(n.output)) for n in model.graph.node] == [("Identity", ["x"], ["y"])]
