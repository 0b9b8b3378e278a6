"""Where reports may lie: checked before a run begins, so that none is lost and none replaces another file."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from batchcap.errors import OutputError
from batchcap.journal.formats import guess_format
from batchcap.journal.live_file import partial_of
from batchcap.options.reports import ReportOptions
from batchcap.reports.metrics_text import is_metrics
from batchcap.reports.summary_file import is_summary
from batchcap.system.replaced_file import check_replaceable

_LOOKED_AT: Final = 4096
_ANOTHER: Final = "Name another file, or remove this one."


def check_places(options: ReportOptions, output: Path | None) -> None:
    """Look at every file that reports are to be written to.

    Args:
        options: their names.
        output: the output of the run; None: standard output.

    Raises:
        OutputError: one cannot be written, is the output or another report, or holds something else.
    """
    _check_apart(options, output)
    if options.summary is not None:
        with explained("--summary", options.summary):
            _check_kind("--summary", options.summary, "summary", is_summary)
            check_replaceable(options.summary)
    if options.metrics is not None:
        with explained("--metrics", options.metrics):
            _check_kind("--metrics", options.metrics, "metrics", is_metrics)
            check_replaceable(options.metrics)
    if options.log_file is not None:
        with explained("--log-file", options.log_file):
            _check_log(options.log_file)


@contextmanager
def explained(flag: str, path: Path) -> Iterator[None]:
    """Turn the system's errors about a report into `OutputError`, with the option, the file and the fix."""
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        folder = path.parent
        if isinstance(error, FileNotFoundError) and not os.path.isdir(folder):  # noqa: PTH112 - never raises
            raise OutputError(f"{flag} {path}: there is no folder {folder}.", f"Make it: mkdir -p '{folder}'") from None
        raise OutputError(
            f"{flag} {path} cannot be written: {error.strerror or type(error).__name__}.",
            "Give yourself the right to write the file and its folder, free some space, or name another file.",
        ) from error


def _check_apart(options: ReportOptions, output: Path | None) -> None:
    """Raise OutputError where two names lead to one file."""
    names = {"the output": output, "--summary": options.summary, "--metrics": options.metrics}
    names["--log-file"] = options.log_file
    if output is not None:
        names["the new output of --overwrite"] = partial_of(output)
    seen: dict[object, str] = {}
    for what, path in names.items():
        if path is None:
            continue
        for place in _places(path):
            if seen.setdefault(place, what) != what:
                raise OutputError(f"{what} {path}: this file is {seen[place]} too.", "Give each a file of its own.")


def _places(path: Path) -> Iterator[object]:
    """What one file has in common with itself under other names."""
    yield os.path.realpath(path)
    try:
        info = path.stat()
    except (OSError, ValueError):
        return
    if stat.S_ISREG(info.st_mode):
        yield info.st_dev, info.st_ino


def _check_kind(flag: str, path: Path, kind: str, is_one: Callable[[bytes], bool]) -> None:
    """Raise OutputError where a file that is there holds something else than an older report."""
    if path.is_dir():
        raise OutputError(f"{flag} {path} is a folder.", "Name a file in it.")
    if not path.exists():
        return
    if not path.is_file():
        raise OutputError(f"{flag} {path} is not a regular file.", "Name another file.")
    with path.open("rb") as file:
        start = file.read(_LOOKED_AT)
    if start and not is_one(start):
        raise OutputError(f"{flag} {path} is there already, and holds no {kind} of batchcap.", _ANOTHER)


def _check_log(path: Path) -> None:
    """Raise OutputError or OSError where no line of a log can be appended."""
    if path.is_dir():
        raise OutputError(f"--log-file {path} is a folder.", f"Name a file in it, such as {path / 'batchcap.log'}.")
    if path.exists():
        if not (path.is_file() or stat.S_ISCHR(path.stat().st_mode)):
            raise OutputError(f"--log-file {path} is not a regular file.", "Name another file.")
        if path.is_file():
            with path.open("rb") as file:
                start = file.read(_LOOKED_AT)
            if b"\0" in start or guess_format(start) is not None:
                raise OutputError(f"--log-file {path} is there already, and holds no log.", _ANOTHER)
    path.open("ab").close()
