"""The options of a run that goes on: what arrives is captioned, and systemd is told how it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from batchcap.options.field import WATCHING, Option, check_ranges, require, take_types
from batchcap.options.run import RunOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchOptions:
    """Whether a run ends when all is captioned, and whom it tells."""

    watch: Annotated[
        bool, Option("When all is captioned, wait for more: go on until Ctrl-C or SIGTERM.", panel=WATCHING)
    ] = False
    settle: Annotated[
        float,
        Option(
            "With --watch: seconds in which a file must not change before it is taken. Half-copied files wait.",
            low=0,
            high=86_400,
            metavar="SECONDS",
            panel=WATCHING,
        ),
    ] = 5.0
    rescan: Annotated[
        float,
        Option(
            "With --watch: seconds after which all folders are looked through again. For network folders, whose "
            "changes the system does not tell, choose less.",
            low=1,
            high=604_800,
            metavar="SECONDS",
            panel=WATCHING,
        ),
    ] = 3600.0
    notify_systemd: Annotated[
        bool,
        Option("Tell systemd when the run is ready, that it still works, and how far it is.", panel=WATCHING),
    ] = False

    def __post_init__(self) -> None:
        take_types(self)
        check_ranges(self)

    def check_beside(self, run: RunOptions) -> None:
        """Raise OptionError for options of the run that contradict ``watch``."""
        if not self.watch:
            return
        require(
            run.output is not None,
            "--watch needs an output file: its records say what is done.",
            "Name one with -o. `tail -F FILE` shows each record as it comes.",
        )
        require(run.limit is None, "--watch goes on, --limit ends the run.", "Leave one of them out.")
        require(
            not run.overwrite,
            "--watch goes on with the output, --overwrite replaces it when all is done.",
            "Run once with --overwrite, then with --watch.",
        )
