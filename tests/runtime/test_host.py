"""What the library leaves alone in the process of its host, and what its options and devices may not do to it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from photos import write_photos
from PIL import Image
from tiny_sessions import usable_devices

from batchcap import Captioner
from batchcap.bundle.bundle import open_bundle
from batchcap.errors import BundleError, DeviceError, OptionError
from batchcap.runtime import device_choice
from batchcap.runtime.device import Device
from batchcap.runtime.device_choice import choose_device
from batchcap.runtime.onnx_session import CUDA
from batchcap.runtime.sessions import open_sessions
from batchcap.tools import doctor

LEAVES_ALONE = """if True:
    import ctypes, sys, warnings
    import msgspec, numpy, onnxruntime, simplejpeg
    from PIL import Image, _imaging
    onnxruntime.set_default_logger_severity = lambda level: print("severity", level)
    onnxruntime.set_default_logger_verbosity = lambda level: print("verbosity", level)
    set_handler = ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler
    set_handler.argtypes, set_handler.restype = [ctypes.c_void_p], ctypes.c_void_p
    before, handler = list(warnings.filters), set_handler(None)
    set_handler(handler)
    streams, excepthook = (sys.stdout, sys.stderr), sys.excepthook
    from batchcap import Captioner
    from batchcap.run import pipeline
    from batchcap.runtime import device_choice
    device_choice._driver_names = lambda: ["Pretended"]
    for image in Captioner.load(sys.argv[1]).caption(sys.argv[2:]):
        print(image.failure.kind if image.failure else "captioned")
    print(warnings.filters == before, handler is not None, set_handler(None) == handler)
    print(streams == (sys.stdout, sys.stderr), sys.excepthook is excepthook)
"""


def test_the_library_leaves_its_host_alone(tiny_bundle: Path, tmp_path: Path) -> None:
    write_photos(tmp_path, 1)
    done = subprocess.run(
        [sys.executable, "-c", LEAVES_ALONE, tiny_bundle, tmp_path / "0000.jpg"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["captioned", "True", "True", "True", "True", "True"]


def test_a_host_may_make_errors_of_warnings(tiny_bundle: Path, tmp_path: Path) -> None:
    """Pillow warns of Exif that is broken: such an image may fail then, and no other."""
    levels = np.zeros((20, 20, 3), np.uint8)
    Image.fromarray(levels).save(tmp_path / "odd.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f")
    Image.fromarray(levels).save(tmp_path / "odd.webp", exif=b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01\xff\xff")
    code = """if True:
        import sys, warnings
        from batchcap import Captioner
        captioner = Captioner.load(sys.argv[1])
        warnings.simplefilter("error")
        found = list(captioner.caption(sys.argv[2:]))
        print(*(image.failure.message[:20] if image.failure else len(image.captions) for image in found[:-1]))
        print(len(found[-1].captions))
    """
    Image.fromarray(levels).save(tmp_path / "last.png")
    files = [tmp_path / name for name in ("odd.jpg", "odd.webp", "last.png")]
    command = [sys.executable, "-c", code, tiny_bundle, *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"(1|bytes inside are wro) 1\n1\n", done.stdout)


def test_the_command_line_is_quiet(tiny_bundle: Path, tmp_path: Path) -> None:
    """Of libtiff and of Pillow, about an image each."""
    tiff = tmp_path / "photos" / "cut.tif"
    tiff.parent.mkdir()
    levels = np.random.default_rng(1).integers(0, 256, (60, 60, 3), np.uint8)
    Image.fromarray(levels).save(tiff, compression="tiff_lzw")
    data = bytearray(tiff.read_bytes())
    data[2000:4000] = b"\xff" * 2000
    tiff.write_bytes(data)
    Image.new("1", (10_000, 9_000)).save(tmp_path / "photos" / "large.png")  # over what Pillow begins to warn at
    command = [sys.executable, "-m", "batchcap", "run", tmp_path / "photos", "-o", "-", "-q", "--model", tiny_bundle]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (3, "")
    assert len(done.stdout.splitlines()) == 2


@pytest.mark.parametrize("threads", [-3, -1, 10**6, 2.5, True, "2"])
def test_a_number_of_threads_that_cannot_work(threads: object, tiny_bundle: Path) -> None:
    bundle = open_bundle(tiny_bundle)
    for use in (
        lambda: Captioner.load(tiny_bundle, "cpu", threads=threads),  # type: ignore[arg-type]
        lambda: open_sessions(bundle, choose_device("cpu"), threads),  # type: ignore[arg-type]
    ):
        with pytest.raises(OptionError, match=f"^threads={threads!r}: must be from 1 to 1024"):
            use()


def test_threads_that_can_work(tiny_bundle: Path) -> None:
    said = [
        list(Captioner.load(tiny_bundle, "cpu", threads=n).caption([np.zeros((9, 9, 3), np.uint8)])) for n in (0, 1, 3)
    ]
    assert said[0] == said[1] == said[2]


class Gpus:
    """GPUs of which the driver tells, and the probe of each: the second and the last work."""

    names = ("Broken", "Good", "Odd", "Better")

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(device_choice, "_driver_names", lambda: list(self.names))
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, "CPUExecutionProvider"])
        monkeypatch.setattr(device_choice, "_loads_cuda", lambda: True)
        monkeypatch.setattr(device_choice, "open_session", self.session)

    def session(self, model: object, device: Device, threads: int) -> None:
        if device.index == 0:
            raise DeviceError(
                f"{device.name} ({device.description}) failed: uncorrectable ECC error", "See nvidia-smi."
            )
        if device.index == 2:
            raise BundleError("<probe>: onnxruntime cannot load it: an error of another kind")


def test_one_bad_gpu_does_not_hide_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    Gpus(monkeypatch)
    assert [device.name for device in usable_devices()] == ["cuda:1", "cuda:3", "cpu"]
    assert choose_device("auto").name == choose_device("cuda").name == "cuda:1"
    assert choose_device("cuda:3").description == "Better"
    with pytest.raises(DeviceError, match="ECC"):
        choose_device("cuda:0")
    with pytest.raises(DeviceError, match=r"cuda:2 \(Odd\).*an error of another kind"):
        choose_device("cuda:2")


def test_where_no_gpu_works_the_first_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    Gpus(monkeypatch)
    monkeypatch.setattr(device_choice, "_driver_names", lambda: ["Broken"])
    with pytest.raises(DeviceError, match="ECC"):
        choose_device("cuda")
    assert "ECC" in choose_device("auto").note


def test_doctor_names_the_bad_ones_too(monkeypatch: pytest.MonkeyPatch, tiny_bundle: Path) -> None:
    """Here no GPU captions, whatever the probe says."""
    Gpus(monkeypatch)
    monkeypatch.setattr(
        doctor, "_try", lambda device, about, model: doctor.DeviceCheck(f"{device} ({about})", True, "")
    )
    checks = {check.device: check for check in doctor.examine(str(tiny_bundle)).devices}
    assert [check.works for check in checks.values()] == [False, True, False, True, True]
    assert "ECC" in checks["cuda:0 (Broken)"].result
    assert "another kind" in checks["cuda:2 (Odd)"].result
    assert checks["cuda:1 (Good)"].works
