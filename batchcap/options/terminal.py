"""The options of what a run says on the terminal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from batchcap.options.field import TERMINAL, Option, require


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalOptions:
    """What a run says while it works, and after it."""

    progress: Annotated[
        bool | None,
        Option("A bar on a terminal, a line every 30 s elsewhere.", negative=True, panel=TERMINAL),
    ] = None
    quiet: Annotated[
        bool, Option("Print errors that stop the run only; the exit code tells of failed images.", short="-q")
    ] = False

    def __post_init__(self) -> None:
        require(
            not (self.progress and self.quiet), "--progress and --quiet exclude each other.", "Leave one of them out."
        )
