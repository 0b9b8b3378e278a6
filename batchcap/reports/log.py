"""The log of a run: lines of text or JSON, through Python's `logging`."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

from batchcap.journal.codec import replace_surrogates
from batchcap.options.reports import ReportOptions

_LOGGER: Final = "batchcap.run"

# fmt: off
Event = Literal[
    "started", "captioning", "progress", "waiting", "memory", "image_failed", "note", "report_failed", "ended", "error",
]
# fmt: on
"""What a line of the log tells; a contract: ``docs/operations.md`` names them all."""


class RunLog:
    """Where the messages of one run go; without a log nowhere."""

    def __init__(self, options: ReportOptions, failed: Callable[[OSError], object], *, quiet: bool) -> None:
        """Open the log.

        Args:
            options: with the name and the format of the log.
            failed: called where a line cannot be written; the run goes on.
            quiet: on standard error only errors.

        Raises:
            OSError: the file cannot be opened.
        """
        level = logging.ERROR if quiet and options.log_on_stderr else logging.INFO
        self._logger = logging.getLogger(_LOGGER)
        self._logger.setLevel(level)
        self._logger.propagate = False  # a host's own log has no part in it
        self._handler: logging.Handler | None = None
        if options.log_file is None and not options.log_on_stderr:
            return
        from batchcap.reports.log_lines import FORMATTERS, LogFile

        self._handler = LogFile(options.log_file, failed) if options.log_file else logging.StreamHandler(sys.stderr)
        self._handler.setFormatter(FORMATTERS[options.log_format]())
        self._logger.addHandler(self._handler)

    def info(self, event: Event, message: str, details: tuple[str, ...] = (), **fields: Any) -> None:
        """What happens as it should.

        Args:
            event: a short stable name.
            message: one line for a person.
            details: more such lines.
            fields: for programs, as JSON has them.
        """
        self._log(logging.INFO, event, message, details, fields)

    def warning(self, event: Event, message: str, **fields: Any) -> None:
        """What does not stop the run."""
        self._log(logging.WARNING, event, message, (), fields)

    def error(self, event: Event, message: str, details: tuple[str, ...] = (), **fields: Any) -> None:
        """What stops the run."""
        self._log(logging.ERROR, event, message, details, fields)

    def _log(self, level: int, event: Event, message: str, details: tuple[str, ...], fields: Mapping[str, Any]) -> None:
        if self._handler is not None:
            lines = tuple(map(replace_surrogates, details))
            extra = {"event": event, "details": lines, "fields": fields}
            self._logger.log(level, "%s", replace_surrogates(message), extra=extra)

    def close(self) -> None:
        """Close the file."""
        if self._handler is not None:
            self._logger.removeHandler(self._handler)
            self._handler.close()
