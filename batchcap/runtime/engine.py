"""The one place that loads onnxruntime, and what it knows of the build that is here.

Several distributions (onnxruntime, onnxruntime-gpu, ...) install the same package. Where two are installed, one has
written over files of the other, and pip says nothing of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from typing import Final

from batchcap.errors import EngineError

_INSTALL: Final = "pip install 'batchcap[cpu]', or for an NVIDIA GPU pip install 'batchcap[cuda]'"
ONE_BUILD: Final = f"Keep one build: pip uninstall -y onnxruntime onnxruntime-gpu, and then {_INSTALL}."

try:
    import onnxruntime as ort
    from onnxruntime.capi import build_and_package_info, onnxruntime_pybind11_state
except ModuleNotFoundError as error:
    if error.name != "onnxruntime":
        raise EngineError(f"onnxruntime cannot be imported ({error}).", ONE_BUILD) from error
    raise EngineError("onnxruntime is not installed.", f"Install one build of it: {_INSTALL}.") from error
except ImportError as error:
    # Where one of two builds was uninstalled it took the files that both had.
    raise EngineError(f"onnxruntime cannot be imported ({error}).", ONE_BUILD) from error

__all__ = ["ONE_BUILD", "Engine", "engine", "onnxruntime_pybind11_state", "ort"]


@dataclass(frozen=True, slots=True)
class Engine:
    """The build of onnxruntime that is in use."""

    distribution: str
    """The distribution that its files are of."""
    version: str
    cuda: str
    """The version of CUDA that it is built for; empty for a build without CUDA."""
    providers: tuple[str, ...]
    """The execution providers that it was built with; whether they work is another question."""
    installed: tuple[str, ...]
    """Every distribution of the package ``onnxruntime`` that is installed here; one, in an environment in order."""

    @property
    def description(self) -> str:
        """``onnxruntime-gpu 1.31.1 for CUDA 13.0 (CUDAExecutionProvider, CPUExecutionProvider)``."""
        build = f" for CUDA {self.cuda}" if self.cuda else ""
        return f"{self.distribution} {self.version}{build} ({', '.join(self.providers)})"

    @property
    def clash(self) -> str:
        """What is wrong where more than one build is installed; else empty."""
        if len(self.installed) < 2:
            return ""
        return (
            f"{' and '.join(self.installed)} are both installed, one over the other; "
            f"the files in use are those of {self.distribution}."
        )


def engine() -> Engine:
    """Look at the build that was loaded, and at what is installed: some tenths of a second in a large environment."""
    return Engine(
        distribution=build_and_package_info.package_name,
        version=build_and_package_info.__version__,
        cuda=getattr(build_and_package_info, "cuda_version", ""),
        providers=tuple(ort.get_available_providers()),
        installed=tuple(sorted(set(metadata.packages_distributions().get("onnxruntime", [])))),
    )
