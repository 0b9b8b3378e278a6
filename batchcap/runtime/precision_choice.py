"""Which of a bundle's graphs run."""

from __future__ import annotations

from batchcap.bundle.bundle import Bundle
from batchcap.options.precision import Precision, WantedPrecision, check_precision
from batchcap.runtime.device import Device


def in_precision(bundle: Bundle, wanted: WantedPrecision, device: Device) -> Bundle:
    """The bundle with the graphs that are to run.

    ``auto`` is fp16 on a GPU where the bundle has it; on a CPU it is int8 where the manifest says that this is
    equivalent; else fp32.

    Raises:
        OptionError: no such precision, or the bundle has no such graphs.
    """
    check_precision(wanted)
    if wanted != "auto":
        return bundle.at(wanted)
    variants = bundle.variants
    chosen: Precision = "fp32"
    if device.kind == "cuda" and "fp16" in variants:
        chosen = "fp16"
    elif device.kind == "cpu" and "int8" in variants and variants["int8"].equivalent:
        chosen = "int8"
    return bundle.at(chosen)
