"""How a long job tells a person what it does: lines of text, and progress."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

Say: TypeAlias = Callable[[str], object]
"""Gets one line for a person."""


class Report(Protocol):
    """Gets the progress of a long job."""

    def __call__(self, what: str, done: int, total: int, note: str = "", /) -> object:
        """``note``: what came of it, with the last report; empty where nothing but its end is worth a word."""


def unheard(*_: object) -> None:
    """A `Say` and a `Report` that do nothing."""
