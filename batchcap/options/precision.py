"""The precisions of a bundle's graphs."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from batchcap.options.field import SPEED, Option
from batchcap.options.types import checked

Precision = Literal["fp32", "fp16", "int8"]
VariantName = Literal["fp16", "int8"]
WantedPrecision = Literal["auto", "fp32", "fp16", "int8"]

PrecisionOption: TypeAlias = Annotated[
    WantedPrecision,
    Option(
        "Which graphs of the model run. auto: fp16 on a GPU; fp32 on a CPU, or int8 where the model says that it is "
        "equivalent.",
        panel=SPEED,
    ),
]


def check_precision(precision: str) -> None:
    """Raise OptionError for a precision that no bundle has."""
    checked("precision", precision, WantedPrecision)
