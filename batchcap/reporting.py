"""How a long job reports to a person: lines of text, and progress."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

Say: TypeAlias = Callable[[str], object]
"""Gets one line for a person."""


class Report(Protocol):
    """Gets the progress of a long job."""

    def __call__(self, what: str, done: int, total: int, note: str = "", /) -> object:
        """``note``: the result in words, given with the last report; empty where there is nothing to add."""


def no_report(*_: object) -> None:
    """A `Say` and a `Report` that do nothing."""
