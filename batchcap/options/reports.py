"""The options of what a run leaves for other programs: a summary, metrics, a log."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from batchcap.options.field import REPORTS, Option, require, take_types

LogFormat = Literal["text", "json"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportOptions:
    """What a run leaves besides its output."""

    summary: Annotated[
        Path | None,
        Option("Write a summary of the run to this JSON file, however the run ends.", metavar="FILE", panel=REPORTS),
    ] = None
    metrics: Annotated[
        Path | None,
        Option(
            "Write metrics for Prometheus to this .prom file, every 15 s and at the end.", metavar="FILE", panel=REPORTS
        ),
    ] = None
    log_file: Annotated[
        Path | None,
        Option("Append the messages of the run to this file, every failed image too.", metavar="FILE", panel=REPORTS),
    ] = None
    log_format: Annotated[
        LogFormat,
        Option(
            "How the log is written. json without --log-file: JSON lines on standard error, in place of what the "
            "terminal shows.",
            panel=REPORTS,
        ),
    ] = "text"

    def __post_init__(self) -> None:
        take_types(self)
        for flag, path in (("--summary", self.summary), ("--log-file", self.log_file)):
            require(path != Path("-"), f"{flag} -: a report is a file, not standard output.", "Name a file.")
        require(
            self.metrics is None or self.metrics.suffix == ".prom",
            f"--metrics {self.metrics}: the name must end in .prom.",
            "The textfile collector of node_exporter reads no other file.",
        )

    @property
    def log_on_stderr(self) -> bool:
        """Whether JSON lines take the place of what the terminal shows."""
        return self.log_format == "json" and self.log_file is None
