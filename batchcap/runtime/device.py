"""The value that names a device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


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
