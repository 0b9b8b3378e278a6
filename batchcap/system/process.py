"""What the command line changes in its process, and a library must not: standard streams, messages of libraries."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Any, Final, TextIO, cast


class _Process:
    """Whether the command line began this process."""

    ours = False


_process: Final = _Process()


def is_ours() -> bool:
    """Whether this is the process of the command line: then, and only then, libraries are silenced in all of it."""
    return _process.ours


def take_over() -> None:
    """Begin a program: `secure` its streams, and keep other libraries from writing to standard error.

    Pillow warns about broken metadata and large images. What matters of that becomes an `ImageError`. libtiff and
    onnxruntime print what they raise as well: `images.opening` and `runtime.onnx_session` silence them as they load.
    """
    secure()
    _process.ours = True
    warnings.filterwarnings("ignore", module=r"PIL\.")


def secure() -> None:
    """Make standard error a stream that takes everything, and let no file get the number of a closed stream.

    A run must not fail because nobody can read its messages. A file that is opened while a stream is closed gets the
    stream's number, and libraries in C that write to "standard error" would write into it.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            _occupy(number)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123 - as long as the process
    sys.stderr = cast("TextIO", _Tolerant(sys.stderr))


def forget_stdout() -> None:
    """Keep Python from trying again at exit, and complaining, where standard output could not be written."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _occupy(number: int) -> None:
    """Put nothing under a stream's number."""
    nothing = os.open(os.devnull, os.O_RDWR)
    if nothing != number:
        os.dup2(nothing, number)
        os.close(nothing)


class _Tolerant:
    """A text stream that drops what cannot be written."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write what can be written."""
        try:
            return self._stream.write(text)
        except (OSError, ValueError):
            return len(text)

    def flush(self) -> None:
        """Pass on what can be passed on."""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            return
