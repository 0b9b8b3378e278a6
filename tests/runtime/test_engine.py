"""Which build of onnxruntime is here, and what is said where two were installed over each other, or none is there."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import onnxruntime
import pytest
from commands import invoke

from batchcap.errors import DeviceError
from batchcap.runtime import device_choice, engine
from batchcap.runtime.device_choice import choose_device


@pytest.fixture
def two_builds(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `pip install onnxruntime-gpu onnxruntime` leaves it: the files of the one that was written last."""
    monkeypatch.setattr(metadata, "packages_distributions", lambda: {"onnxruntime": ["onnxruntime-gpu", "onnxruntime"]})
    monkeypatch.setattr(engine.build_and_package_info, "package_name", "onnxruntime")
    monkeypatch.setattr(engine.build_and_package_info, "cuda_version", "", raising=False)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])


def test_the_build_that_is_in_use() -> None:
    here = engine.engine()
    assert here.installed == (here.distribution,)
    assert metadata.version(here.distribution) == here.version == onnxruntime.__version__
    assert here.providers[-1] == "CPUExecutionProvider"
    assert bool(here.cuda) == (here.distribution == "onnxruntime-gpu") == ("CUDAExecutionProvider" in here.providers)
    assert here.description.startswith(f"{here.distribution} {here.version}")
    assert here.clash == ""


def test_doctor_names_it(tiny_bundle: Path) -> None:
    told = " ".join(invoke("doctor", "--model", tiny_bundle).stdout.split())
    assert f"engine {engine.engine().description}" in told
    assert "one over the other" not in told


def test_two_builds_are_named_and_what_to_do(two_builds: None, tiny_bundle: Path) -> None:
    told = " ".join(invoke("doctor", "--model", tiny_bundle).stdout.split())
    assert f"engine onnxruntime {onnxruntime.__version__} (CPUExecutionProvider)" in told
    assert "onnxruntime and onnxruntime-gpu are both installed, one over the other" in told
    assert "the files in use are those of onnxruntime. Keep one build: pip uninstall -y" in told


def test_a_gpu_that_another_build_hides(two_builds: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_choice, "_driver_names", lambda: ["Pretended"])
    with pytest.raises(DeviceError, match=r"cannot use a GPU.*one over the other.* Keep one build"):
        choose_device("cuda")
    monkeypatch.setattr(metadata, "packages_distributions", lambda: {"onnxruntime": ["onnxruntime"]})
    with pytest.raises(DeviceError, match=r"The installed onnxruntime \S+ cannot use a GPU. Take the other build"):
        choose_device("cuda")
    assert "cannot use a GPU" in choose_device("auto").note


@pytest.mark.parametrize("left", [[], ["onnxruntime/capi/left_over.txt"]])
def test_without_a_build_the_command_says_so(left: list[str], tmp_path: Path, tiny_bundle: Path) -> None:
    """None is installed; or two were, and the one that was uninstalled took the files of both."""
    for name in left:
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    hidden = """if True:
        import sys
        class Hidden:
            def find_spec(self, name, path=None, target=None):
                if name == "onnxruntime" and not LEFT:
                    raise ModuleNotFoundError(f"No module named {name!r}", name=name)
                if name == "onnxruntime":
                    import importlib.machinery
                    spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
                    spec.submodule_search_locations = [FOLDER]
                    return spec
        sys.meta_path.insert(0, Hidden())
        from batchcap.__main__ import main
        main()
    """.replace("LEFT", repr(bool(left))).replace("FOLDER", repr(str(tmp_path / "onnxruntime")))
    command = [sys.executable, "-c", hidden, "doctor", "--model", str(tiny_bundle)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    told = " ".join(done.stderr.replace("│", " ").split())
    assert done.returncode == 1, done.stderr
    assert ("onnxruntime cannot be imported (" if left else "onnxruntime is not installed.") in told
    assert ("Keep one build: pip uninstall" if left else "Install one build of it: pip install 'batchcap[cpu]'") in told
    assert "Traceback" not in told
