"""The options of what a run says on the terminal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, TypeAlias

from batchcap.options.field import TERMINAL, Option, require

Quiet: TypeAlias = Annotated[
    bool, Option("Print only errors that stop the command. The exit code tells the rest.", short="-q")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalOptions:
    """What a run says while it works, and after it."""

    progress: Annotated[
        bool | None,
        Option("Show progress: a bar on a terminal, elsewhere a line every 30 s.", negative=True, panel=TERMINAL),
    ] = None
    quiet: Quiet = False

    def __post_init__(self) -> None:
        require(
            not (self.progress and self.quiet), "--progress and --quiet exclude each other.", "Leave one of them out."
        )
