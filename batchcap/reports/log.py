"""The log of a run: lines of text or JSON, through Python's `logging`."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from logging.handlers import WatchedFileHandler
from pathlib import Path
from typing import Any, Final

from batchcap.console.terminal import visible
from batchcap.journal.codec import replace_surrogates
from batchcap.options.reports import LogFormat, ReportOptions
from batchcap.reports.summary_file import utc

_LOGGER: Final = "batchcap.run"


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
        if options.log_file is not None:
            self._handler = _LogFile(options.log_file, failed)
        elif options.log_on_stderr:
            self._handler = logging.StreamHandler(sys.stderr)
        if self._handler is not None:
            self._handler.setFormatter(_FORMATTERS[options.log_format]())
            self._logger.addHandler(self._handler)

    def info(self, event: str, message: str, details: tuple[str, ...] = (), **fields: Any) -> None:
        """What happens as it should.

        Args:
            event: a short stable name.
            message: one line for a person.
            details: more such lines.
            fields: for programs, as JSON has them.
        """
        self._log(logging.INFO, event, message, details, fields)

    def warning(self, event: str, message: str, **fields: Any) -> None:
        """What does not stop the run."""
        self._log(logging.WARNING, event, message, (), fields)

    def error(self, event: str, message: str, details: tuple[str, ...] = (), **fields: Any) -> None:
        """What stops the run."""
        self._log(logging.ERROR, event, message, details, fields)

    def _log(self, level: int, event: str, message: str, details: tuple[str, ...], fields: Mapping[str, Any]) -> None:
        if self._handler is not None:
            lines = tuple(map(replace_surrogates, details))
            extra = {"event": event, "details": lines, "fields": fields}
            self._logger.log(level, "%s", replace_surrogates(message), extra=extra)

    def close(self) -> None:
        """Close the file."""
        if self._handler is not None:
            self._logger.removeHandler(self._handler)
            self._handler.close()


class _LogFile(WatchedFileHandler):
    """Appends each message in one write, so that several runs may share a file; a rotated file is opened anew.

    The file has no buffer: what a full disk refuses is lost and not written later in the middle of another line.
    """

    stream: Any

    def __init__(self, path: Path, failed: Callable[[OSError], object]) -> None:
        self._failed = failed
        self._torn = False
        super().__init__(path)

    def _open(self) -> Any:
        return io.FileIO(self.baseFilename, "ab")

    def emit(self, record: logging.LogRecord) -> None:
        """Write one message; `failed` hears of it where that cannot be."""
        data = f"{self.format(record)}\n".encode()
        try:
            self.reopenIfNeeded()
            if self.stream is None:  # it could not be opened anew the last time
                self.stream = self._open()
                self._statstream()
            written = self.stream.write(b"\n" + data if self._torn else data)
            self._torn = written != len(data) + self._torn
            if self._torn:
                raise OSError(None, "only part of a line was written")
        except OSError as error:
            self._failed(error)


class _Text(logging.Formatter):
    """``2026-11-21T22:47:40+01:00 WARNING failed: a.jpg: ...``; each line of a message has its own time."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="seconds")
        lines = (record.getMessage(), *vars(record)["details"])
        return "\n".join(f"{time} {record.levelname} {visible(line)}" for line in lines)


class _Json(logging.Formatter):
    """``{"time":"2026-11-21T21:47:40.123Z","level":"warning","event":"image_failed","message":...}``."""

    def format(self, record: logging.LogRecord) -> str:
        said = vars(record)
        line = {
            "time": utc(record.created),
            "level": record.levelname.lower(),
            "event": said["event"],
            "message": record.getMessage(),
            "pid": record.process,
            **({"details": said["details"]} if said["details"] else {}),
            **said["fields"],
        }
        return replace_surrogates(json.dumps(line, ensure_ascii=False, separators=(",", ":")))


_FORMATTERS: Final[dict[LogFormat, type[logging.Formatter]]] = {"text": _Text, "json": _Json}
