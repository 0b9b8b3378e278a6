"""The lines of a log: their formats, and the file that they are appended to."""

from __future__ import annotations

import io
import json
import logging
import os
from collections.abc import Callable
from datetime import datetime
from logging.handlers import WatchedFileHandler
from pathlib import Path
from typing import Any, Final

from batchcap.console.terminal import visible
from batchcap.journal.codec import replace_surrogates
from batchcap.options.reports import LogFormat
from batchcap.reports.summary_file import utc


class LogFile(WatchedFileHandler):
    """Appends each message in one write, so that several runs may share a file; a rotated file is opened anew.

    The file has no buffer: what a full disk refuses is lost and not written later in the middle of another line.
    """

    stream: Any

    def __init__(self, path: Path, failed: Callable[[OSError], object]) -> None:
        self._failed = failed
        self._torn = _lacks_end(path)
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


def _lacks_end(path: Path) -> bool:
    """Whether the last line of a file is torn, as a killed run or a full disk leaves it."""
    try:
        with path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) not in b"\n"
    except OSError:  # it is not there, is empty, or may only be appended to
        return False


class Text(logging.Formatter):
    """``2026-11-21T22:47:40+01:00 WARNING failed: a.jpg: ...``; each line of a message has its own time."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="seconds")
        lines = (record.getMessage(), *vars(record)["details"])
        return "\n".join(f"{time} {record.levelname} {visible(line)}" for line in lines)


class Json(logging.Formatter):
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


FORMATTERS: Final[dict[LogFormat, type[logging.Formatter]]] = {"text": Text, "json": Json}
