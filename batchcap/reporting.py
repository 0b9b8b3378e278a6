"""Who hears of a long piece of work while it goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

Say: TypeAlias = Callable[[str], object]
"""Hears one line for a person."""


class Report(Protocol):
    """Hears how far a long job is."""

    def __call__(self, what: str, done: int, total: int, note: str = "", /) -> object:
        """``note``: what came of it, with the last report; empty where nothing but its end is worth a word."""


def unheard(*_: object) -> None:
    """A `Say` and a `Report` that nobody wants."""
